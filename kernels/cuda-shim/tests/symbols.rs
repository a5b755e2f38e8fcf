//! The symbol list and the result codes are those of the cust_raw that this workspace builds with.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// This machine's target triple, as rustc names it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line").to_string()
}

/// The workspace's packages. Offline first: whatever was built has been downloaded.
fn metadata() -> Vec<u8> {
    let host = host();
    let mut reason = String::new();
    for network in [&["--offline"][..], &[]] {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--filter-platform", &host])
            .args(network)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo metadata starts");
        if output.status.success() {
            return output.stdout;
        }
        reason = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    panic!("cargo metadata failed: {reason}");
}

/// The source of cust_raw's bindings, found through cargo.
fn bindings() -> String {
    let output = metadata();
    let metadata: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
    let manifest = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .find(|package| package["name"] == "cust_raw")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("cust_raw is in the dependency tree");
    let path = PathBuf::from(manifest).with_file_name("src").join("cuda.rs");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn names_are_those_of_cust_raw() {
    let source = bindings();
    let declared: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub fn "))
        .filter_map(|rest| rest.split('(').next())
        .filter(|name| name.starts_with("cu"))
        .collect();
    let defined: BTreeSet<&str> = paddock_cuda_shim::NAMES.iter().copied().collect();
    assert!(declared.len() > 300, "the bindings were not understood");
    assert_eq!(
        declared, defined,
        "kernels/cuda-shim/src/names.rs must list what cust_raw declares"
    );
}

#[test]
fn names_are_sorted_because_they_are_searched() {
    assert!(paddock_cuda_shim::NAMES.is_sorted_by(|a, b| a < b));
}

#[test]
fn codes_are_those_of_cust_raw() {
    let source = bindings();
    let start = source.find("pub enum cudaError_enum").expect("the enum of result codes");
    let body = &source[start..];
    let body = &body[..body.find('}').expect("its end")];
    let declared: BTreeSet<u32> = body
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split("= ").nth(1))
        .map(|code| code.parse().expect("a number"))
        .collect();
    let known: BTreeSet<u32> = paddock_cuda_shim::KNOWN_CODES.iter().copied().collect();
    assert_eq!(declared, known);
    assert!(paddock_cuda_shim::KNOWN_CODES.is_sorted());
}
