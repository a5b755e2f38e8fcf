//! `.ci/package` on the program that is being tested: what it packs, and that it starts.

use std::path::Path;
use std::process::Command;

/// What a command prints; it must succeed.
fn output(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).to_string();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}\n{text}\n{errors}");
    text
}

#[test]
fn archives_packages_licences_and_checksums() {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let tools = ["bash", "tar", "gzip", "strip", "ar", "sha256sum", "md5sum"];
    let missing: Vec<&str> = tools.into_iter().filter(|tool| !has(tool)).collect();
    if !cfg!(target_os = "linux") || !missing.is_empty() {
        println!("SKIPPED: packing is tested on Linux with {tools:?} (missing: {missing:?})");
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = tempfile::tempdir().expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_core-cli"), programs.path().join("core-cli"))
        .expect("a copy");
    let mut pack = Command::new("bash");
    pack.arg(root.join(".ci/package")).arg("--programs").arg(programs.path());
    let said = output(pack.arg("--out").arg(out.path()));
    assert!(said.contains("Paddock     ") && said.contains("Processor"), "it starts: {said}");

    let names: Vec<String> = std::fs::read_dir(out.path())
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().to_string())
        .collect();
    let find = |end: &str| {
        let name = names.iter().find(|name| name.ends_with(end));
        out.path().join(name.unwrap_or_else(|| panic!("{end}: {names:?}")))
    };
    let inside = output(Command::new("tar").arg("-tzf").arg(find(".tar.gz")));
    for file in [
        "/core-cli",
        "/README.md",
        "/LICENSE-MIT",
        "/LICENCES-OF-DEPENDENCIES.txt",
        "/docs/data.md",
    ] {
        assert!(inside.lines().any(|line| line.ends_with(file)), "{file}: {inside}");
    }
    let licences = output(
        Command::new("tar")
            .arg("-xzOf")
            .arg(find(".tar.gz"))
            .args(["--wildcards", "*/LICENCES-OF-DEPENDENCIES.txt"]),
    );
    for word in ["serde_json v", "minijinja v", "MIT OR Apache-2.0", "Permission is hereby granted"]
    {
        assert!(licences.contains(word), "{word}");
    }
    assert!(!licences.contains("paddock-core"), "only packages of others");
    let parts = output(Command::new("ar").arg("t").arg(find(".deb")));
    assert_eq!(
        parts.split_whitespace().collect::<Vec<_>>(),
        ["debian-binary", "control.tar.gz", "data.tar.gz"]
    );
    if has("dpkg-deb") {
        let about = output(Command::new("dpkg-deb").arg("--info").arg(find(".deb")));
        assert!(about.contains("Package: paddock") && about.contains("libc6 (>= 2."), "{about}");
        let files = output(Command::new("dpkg-deb").arg("--contents").arg(find(".deb")));
        for file in
            ["./usr/bin/core-cli", "apps/paddock.png", "apps/paddock.svg", "doc/paddock/copyright"]
        {
            assert!(files.contains(file), "{file}: {files}");
        }
    }
    output(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(out.path()));
}
