//! The core needs no operating system: a program without std and without a C library fine-tunes a
//! tiny LLaMA (`tests/freestanding`). If anything in the core named std, it would not link.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod elf;

use std::path::PathBuf;
use std::process::Command;

use elf::Elf;

/// The repository's root.
fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds the program and returns its path.
fn build() -> PathBuf {
    let target = root().join("target/freestanding");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--offline", "--locked"])
        .current_dir(root().join("tests/freestanding"))
        .env("CARGO_TARGET_DIR", &target)
        // These would replace the program's own flags.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "tests/freestanding does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("x86_64-unknown-linux-gnu/release/freestanding")
}

/// The number after `word` in `line`.
fn number(line: &str, word: &str) -> u64 {
    let mut words = line.split_whitespace().skip_while(|w| *w != word);
    let found = words.nth(1).and_then(|w| w.parse().ok());
    found.unwrap_or_else(|| panic!("no number after `{word}` in `{line}`"))
}

#[test]
fn a_step_is_trained_without_std_and_libc() {
    let program = build();
    let elf = Elf::parse(&std::fs::read(&program).expect("the program"));
    assert!(!elf.dynamic, "the program asks for a dynamic loader");
    assert_eq!(elf.undefined, Vec::<String>::new(), "somebody else must define these");
    assert_eq!(elf.of_std(), Vec::<&str>::new(), "symbols of the standard library");
    assert!(elf.defined.iter().any(|name| name == "_start"));

    // No environment, no arguments: nothing but the file itself.
    let output = Command::new(&program).env_clear().output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", output.status);
    println!("freestanding program: {} bytes of code and constants", elf.loaded_bytes);
    print!("{text}");
    // A small model's step in the memory of a small machine: weights, regions and batch together.
    let lora = text.lines().find(|l| l.starts_with("lora")).expect("a line about LoRA");
    assert!(number(lora, "heap") < 256 << 10, "{lora}");
    assert!(number(lora, "planned") + number(lora, "weights") <= number(lora, "heap"), "{lora}");
    let stack = text.lines().find(|l| l.starts_with("stack")).expect("a line about the stack");
    assert!(number(stack, "stack") < 64 << 10, "{stack}");
}

/// The check above can fail: this test program itself is full of std.
#[test]
fn std_is_recognised() {
    let here = std::env::current_exe().expect("a path");
    let elf = Elf::parse(&std::fs::read(here).expect("this program"));
    assert!(elf.dynamic);
    assert!(elf.undefined.iter().any(|name| name.starts_with("malloc") || name.contains("libc")));
    assert!(!elf.of_std().is_empty());
}

/// Whoever can build Paddock offline can build this program: its packages are the workspace's.
#[test]
fn its_packages_are_the_workspaces() {
    let packages = |path: &str| -> Vec<(String, String)> {
        let text = std::fs::read_to_string(root().join(path)).expect(path);
        let field = |block: &str, key: &str| {
            let line = block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|v| v.trim_matches('"').to_owned())
        };
        let blocks = text.split("[[package]]").skip(1);
        blocks.filter_map(|b| Some((field(b, "name")?, field(b, "version")?))).collect()
    };
    let ours = packages("Cargo.lock");
    let missing: Vec<_> = packages("tests/freestanding/Cargo.lock")
        .into_iter()
        .filter(|p| p.0 != "paddock-freestanding" && !ours.contains(p))
        .collect();
    assert!(missing.is_empty(), "not in Cargo.lock, or in another version: {missing:?}");
}
