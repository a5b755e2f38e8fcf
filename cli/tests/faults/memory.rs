//! Memory: what was forecast and what was used, and what happens when there is none.

use paddock_core::config::Config;
use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::{Value, json};

use crate::{desk, write};

/// A model large enough for its activations to count, and rows of which the last eight are very long.
fn larger(desk: &Desk) {
    let c = Config {
        dim: 128,
        hidden_dim: 352,
        n_layers: 4,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 32,
        vocab_size: 4000,
        max_seq_len: 512,
        ..toy::config()
    };
    toy::write_model_of(&desk.path("larger"), &c);
    let mut rows: Value = serde_json::from_slice(&desk.bytes("rows.json")).expect("rows");
    let rows = rows.as_array_mut().expect("a list");
    rows.truncate(16);
    // Long answers to short prompts: nearly every token is trained, so that all that was planned is used.
    let answer = "the sky is blue . ".repeat(48);
    for i in 0..8 {
        let first = ["a", "it", "say", "sun", "snow", "is", "cold", "?"][i];
        rows.push(json!({"instruction": first, "input": "", "output": answer}));
    }
    write(desk, "uneven.json", serde_json::to_string(rows).expect("JSON"));
}

/// (planned, used) of a run over those rows in their order: short ones first.
fn run(desk: &Desk, more: &str) -> (f64, f64) {
    let args = format!(
        "train --model larger --data uneven.json --batch-size 8 --epochs 1 --shuffle false --samples 0 \
         --validation none --lora-rank 8 --lr 0.001 --threads 2 --events jsonl {more}"
    );
    let (out, _) = desk.run(&args, 0);
    let events: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| events.iter().find(|e| e["kind"] == kind).expect("the event");
    let planned = of("plan")["memory_bytes"].as_f64().expect("a plan");
    let used = of("verdict")["details"]["peak_memory_bytes"].as_f64().expect("a peak");
    (planned, used)
}

#[test]
fn f50_the_longest_rows_are_planned_for_and_come_last_without_harm() {
    let desk = desk();
    larger(&desk);
    for method in ["lora", "full"] {
        let flags = format!("--method {method} --micro-batch-tokens 1800 --out {method}");
        let (planned, used) = run(&desk, &flags);
        let ratio = planned / used;
        println!("{method}: planned {planned:.3e}, used {used:.3e}, ratio {ratio:.3}");
        assert!((0.9..1.1).contains(&ratio), "{method}: planned/used = {ratio:.3}");
    }
}

/// Below some limit the program cannot go on. It must say so and leave what was saved as it was.
#[test]
fn f48_without_memory_it_ends_in_words_and_loses_nothing() {
    let desk = desk();
    larger(&desk);
    let args = "train --model larger --data uneven.json --batch-size 8 --max-steps 6 --save-every 2 --lora-rank 4 \
                --keep-checkpoints 9 --threads 1 --validation none --lr 0.001";
    desk.run(&format!("{args} --out whole"), 0);
    desk.run(&format!("{args} --out run"), 0);
    // Back to its first checkpoint, as after a kill.
    for name in ["checkpoints/step-4", "checkpoints/step-6", "adapter"] {
        std::fs::remove_dir_all(desk.path("run").join(name)).expect("removed");
    }
    let program = env!("CARGO_BIN_EXE_core-cli");
    let resume = "train --resume --out run --threads 1";
    let (mut refused, mut through) = (0, 0);
    for mib in (60..600).step_by(12) {
        let script = format!("ulimit -v {}; exec {program} {resume}", mib * 1024);
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &script]).current_dir(desk.path("")).output().expect("sh");
        let err = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                through += 1;
                break;
            }
            Some(1 | 2) => {
                assert!(err.contains("error: "), "{mib} MiB: {err}");
                refused += 1;
            }
            other => panic!("{mib} MiB: {other:?} ({})\n{err}", output.status),
        }
        assert!(desk.path("run/checkpoints/step-2").is_dir(), "{mib} MiB");
    }
    assert!(through == 1 && refused > 2, "{refused} refused, {through} through");
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    assert_eq!(adapter("whole"), adapter("run"));
}
