//! What the command line says about devices that are not there.

use paddock_kernels::cuda::{available, why_not};
use paddock_tests::desk::Desk;

/// A folder with a toy model and rows, for this program.
fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

const TRAIN: &str = "train --model model --data rows.json --lora-rank 4 --max-steps 2 --samples 0";

#[test]
fn f53_without_a_cuda_device_training_says_why_in_one_line_and_what_it_does_instead() {
    let Some(why) = why_not() else {
        println!("SKIPPED: this machine has a CUDA device");
        return;
    };
    let desk = desk();
    let (_, err) = desk.run(&format!("{TRAIN} --backend cuda --out run"), 0);
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("CUDA")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].contains("--backend cuda: ") && lines[0].contains(&why), "{err}");
    assert!(lines[0].contains("trained on the processor instead"), "{err}");
    let [said, read] = ["processor instead", "rows.json"].map(|text| err.find(text).unwrap());
    assert!(said < read, "it is said before rows are read: {err}");
    let recorded = String::from_utf8(desk.bytes("run/run.toml")).unwrap();
    assert!(recorded.contains("backend = \"cpu\"") && !recorded.contains("\"cuda\""), "{recorded}");
    // The same words again go on with the same run.
    desk.run(&format!("{TRAIN} --backend cuda --out run --resume"), 0);
    // One that was begun on a card does not change over by itself.
    let begun = recorded.replace("backend = \"cpu\"", "backend = \"cuda\"");
    std::fs::write(desk.path("run/run.toml"), begun).unwrap();
    let (_, err) = desk.run("train --resume --out run", 2);
    assert!(err.contains(&why) && err.contains("--backend cpu --allow-changes"), "{err}");
}

#[test]
fn f53_other_commands_say_why_there_is_no_cuda() {
    let Err(why) = available() else {
        println!("SKIPPED: this machine has a CUDA device");
        return;
    };
    assert!(why.contains("--backend cpu"), "{why}");
    let desk = desk();
    let (out, _) = desk.run("doctor", 0);
    assert!(out.lines().any(|line| line.starts_with("CUDA ") && line.contains(&why)), "{out}");
    let (_, err) = desk.run("verify --backend cuda", 2);
    assert!(err.contains(&why), "{err}");
}
