//! What source files may not contain, and what they must.

use std::collections::BTreeSet;

use crate::source::{code, files, root, words};

/// The only places where the compiler's checks may be set aside; each says why in a SAFETY comment,
/// which clippy demands.
const UNSAFE: [&str; 19] = [
    // A mapped file, and the signal that comes when it is cut short.
    "cli/src/model/mmap.rs",
    "cli/src/model/cut_short.rs",
    // The allocator that limits templates.
    "cli/src/guard.rs",
    // SIMD.
    "kernels/src/cpu/simd.rs",
    "kernels/src/cpu/simd/",
    "kernels/src/cpu/tiles.rs",
    // Launches and raw memory of the CUDA driver, calls that cust does not declare, and a bench of
    // kernels on the device.
    "kernels/src/cuda/driver.rs",
    "kernels/src/cuda/tensor_map.rs",
    "kernels/examples/bench_cuda_matmul/",
    // Compiled kernels handed back to the graphics driver that made them.
    "kernels/src/wgpu/cache.rs",
    // Leave for the graphics interface's experimental features: matrix instructions.
    "kernels/src/wgpu/trusted.rs",
    // The CUDA driver's symbols, and the emulator's driver behind them.
    "kernels/cuda-shim/src/",
    "kernels/cuda-shim/tests/",
    "kernels/ptx-emulator/src/driver/",
    "kernels/ptx-emulator/tests/driver.rs",
    // The same programs on a GPU and on the emulator.
    "kernels/ptx-emulator/tests/device.rs",
    // Measurements on an NVIDIA GPU.
    "kernels/examples/bench_cuda_attention/",
    // The program without an operating system.
    "tests/freestanding/src/",
    // Allocators that count what parsers hold, and that refuse.
    "tests/src/parsers/memory.rs",
];

#[test]
fn unsafe_code_stands_where_it_may() {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for source in files(&["rs"]) {
        let code = code(&source.text);
        let stands = words(&code).any(|(_, word)| word == "unsafe");
        match UNSAFE.iter().find(|allowed| source.path.starts_with(**allowed)) {
            _ if !stands => {}
            Some(allowed) => _ = used.insert(*allowed),
            None => complaints.push(source.path),
        }
    }
    assert!(complaints.is_empty(), "unsafe code outside the listed places: {complaints:?}");
    assert_eq!(used.len(), UNSAFE.len(), "needed no longer: all but {used:?}");
    for package in ["core", "datasets"] {
        let lib = std::fs::read_to_string(root().join(package).join("src/lib.rs")).expect("lib.rs");
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{package}/src/lib.rs");
    }
}

/// Text that would stand for work not done, or for one person's machine.
#[test]
fn nothing_unfinished_and_nobodys_machine() {
    // Put together here, so that this file does not contain them.
    let unfinished = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["to", "do!("], ["dbg", "!("]];
    let more =
        [["unimple", "mented!("], ["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]];
    let forbidden: Vec<String> = unfinished.iter().chain(&more).map(|p| p.concat()).collect();
    let kinds =
        ["rs", "toml", "md", "py", "sh", "yml", "yaml", "wgsl", "ptx", "run", "test", "txt"];
    let mut complaints = Vec::new();
    for source in files(&kinds) {
        for (number, line) in source.text.lines().enumerate() {
            for word in forbidden.iter().filter(|w| line.contains(w.as_str())) {
                complaints.push(format!("{}:{}: `{word}`", source.path, number + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Every module that others see begins by saying what it is.
#[test]
fn public_modules_say_what_they_are() {
    let all = files(&["rs"]);
    let mut seen = 0;
    for source in all.iter().filter(|s| s.path.contains("/src/")) {
        let (folder, file) = source.path.rsplit_once('/').expect("a folder");
        let stem = file.trim_end_matches(".rs");
        let below = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            _ => format!("{folder}/{stem}"),
        };
        let lines = source.text.lines().map(str::trim);
        for name in lines.filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')) {
            let paths = [format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")];
            let module = all.iter().find(|s| paths.contains(&s.path));
            let module = module.unwrap_or_else(|| panic!("{}: where is `{name}`?", source.path));
            assert!(module.text.starts_with("//!"), "{}: begins without `//!`", module.path);
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} public modules found");
}
