//! What the command line says about devices that are not there.

use paddock_kernels::cuda::available;
use paddock_tests::desk::Desk;

/// A folder with a toy model and rows, for this program.
fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

#[test]
fn f53_without_a_cuda_device_training_says_why_in_one_line() {
    let Err(why) = available() else {
        println!("SKIPPED: this machine has a CUDA device");
        return;
    };
    let desk = desk();
    let (out, err) = desk.run("train --model model --data rows.json --backend cuda --out run", 2);
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("CUDA")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].contains("--backend cuda: ") && lines[0].contains(&why), "{err}");
    assert!(why.contains("--backend cpu"), "{why}");
    assert!(out.is_empty() && !desk.path("run").exists(), "{out}");
    let (out, _) = desk.run("doctor", 0);
    assert!(out.lines().any(|line| line.starts_with("CUDA ") && line.contains(&why)), "{out}");
    let (_, err) = desk.run("verify --backend cuda", 2);
    assert!(err.contains(&why), "{err}");
}
