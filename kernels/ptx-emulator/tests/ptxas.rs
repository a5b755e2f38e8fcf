//! NVIDIA's own assembler takes every .ptx file of the repository, without spills, and the
//! registers and shared memory it reports are those of `ptxas.txt` (PADDOCK_UPDATE=1 rewrites that
//! file).
//!
//! ptxas is looked for in PADDOCK_PTXAS and at target/tools/ptxas (`.ci/fetch-ptxas` puts it
//! there).

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../src/cuda/spelling.rs"]
mod spelling;

/// What a file for this target is assembled for: a plain target runs on all that follow it.
fn architectures(target: &str) -> &'static [&'static str] {
    match target {
        "sm_75" => &["sm_75", "sm_80"],
        "sm_80" => &["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"],
        "sm_90" => &["sm_90", "sm_120"],
        "sm_90a" => &["sm_90a"],
        other => panic!("{other}: say in tests/ptxas.rs what to assemble it for"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn find_ptxas() -> Option<PathBuf> {
    match std::env::var_os("PADDOCK_PTXAS") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "PADDOCK_PTXAS names {}, which is no file", path.display());
            Some(path)
        }
        None => Some(root().join("target/tools/ptxas")).filter(|path| path.is_file()),
    }
}

/// All .ptx files below `folder`, build folders left out.
fn ptx_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "runs" && !name.starts_with('.') {
            ptx_files(&path, out);
        } else if name.ends_with(".ptx") {
            out.push(path);
        }
    }
}

/// The number before `unit` in a line of ptxas's report.
fn number(line: &str, unit: &str) -> u32 {
    let before = line.split(unit).next().unwrap_or("");
    let word = before.rsplit([' ', ',']).find(|word| !word.is_empty()).unwrap_or("");
    if line.contains(unit) { word.parse().unwrap_or(0) } else { 0 }
}

/// The architecture that a text is for at least.
fn target(source: &str) -> &str {
    let target = source.lines().find_map(|line| line.trim().strip_prefix(".target "));
    target.expect("a .target").trim()
}

/// Assembles a file; its kernels' lines go to the table, with `kind` behind their names.
fn assemble(ptxas: &Path, file: &Path, architectures: &[&str], kind: &str, table: &mut String) {
    for architecture in architectures {
        let output = Command::new(ptxas)
            .args(["-v", "--warning-as-error", "-arch", architecture, "-o", "/dev/null"])
            .arg(file)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", ptxas.display()));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} for {architecture}: {text}", file.display());
        // C7510 and its kin: products run one after another, or registers are not given up.
        assert!(!text.contains("(C75"), "{} for {architecture}: {text}", file.display());
        report(&text, architecture, kind, table);
    }
}

/// One line a kernel: name, architecture, registers, static shared memory. Panics on spills.
fn report(text: &str, architecture: &str, kind: &str, table: &mut String) {
    let mut kernel = "";
    for line in text.lines() {
        if let Some(rest) = line.split("entry function '").nth(1) {
            kernel = rest.split('\'').next().unwrap_or("");
        }
        let spills = number(line, " bytes spill stores") + number(line, " bytes spill loads");
        assert_eq!(spills, 0, "{kernel} spills on {architecture}: {line}");
        if line.contains("Used ") {
            let (registers, shared) = (number(line, " registers"), number(line, " bytes smem"));
            let name = format!("{kernel}{kind}");
            writeln!(table, "{name:<32} {architecture:<8} {registers:>4} {shared:>6}")
                .expect("a string");
        }
    }
}

#[test]
fn every_file_assembles_without_spills() {
    let Some(ptxas) = find_ptxas() else {
        let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "ptxas"), "PADDOCK_REQUIRE asks for ptxas");
        println!("SKIPPED: no ptxas. Run .ci/fetch-ptxas, or set PADDOCK_PTXAS");
        return;
    };
    let mut files = Vec::new();
    ptx_files(&root(), &mut files);
    assert!(!files.is_empty(), "no .ptx file was found");
    let mut table =
        String::from("# kernel, architecture, registers, bytes of static shared memory\n");
    for file in &files {
        let source = std::fs::read_to_string(file).expect("text");
        assemble(&ptxas, file, architectures(target(&source)), "", &mut table);
        // Those that serve bf16 alone, and Hopper's, are not spelled otherwise.
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own =
            ["adamw_narrow", "bf16_to_f16", "matmul_any", "matmul_f16"].contains(&stem.as_str());
        if file.parent().is_some_and(|folder| folder.ends_with("src/cuda")) && !own {
            let other = spelling::in_f16(&source);
            assert!(!other.contains(".bf16"), "{stem}: bf16 is left in the text for f16");
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{stem}_f16.ptx"));
            std::fs::write(&path, &other).expect("a file");
            assemble(&ptxas, &path, &[target(&other)], " f16", &mut table);
        }
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptxas.txt");
    if std::env::var_os("PADDOCK_UPDATE").is_some() {
        std::fs::write(&kept, &table).expect("the table can be written");
    }
    let known = std::fs::read_to_string(&kept).unwrap_or_default();
    assert_eq!(known, table, "registers or shared memory changed; PADDOCK_UPDATE=1 accepts it");
    println!("{} files assembled", files.len());
}
