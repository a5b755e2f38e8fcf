//! Graphics cards as a person meets them: doctor, verify, a run, a kill, answers; on any adapter, a software
//! one will do.

use std::process::Output;

use paddock_tests::desk::Desk;
use serde_json::Value;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

/// Runs with a cache folder of its own, so that every kernel is compiled at its first use.
fn run(desk: &Desk, args: &str, code: i32) -> (String, String) {
    let mut command = desk.command(args);
    command.env("PADDOCK_CACHE", desk.path("cache"));
    let Output { status, stdout, stderr } = command.output().expect("core-cli starts");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "core-cli {args}\n{out}\n{err}");
    (out.into_owned(), err.into_owned())
}

/// What doctor says of the first adapter that can compute; none where there is none, said loudly.
fn adapter(desk: &Desk) -> Option<Value> {
    let (out, _) = run(desk, "doctor --json", 0);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let adapters = report["adapters"].as_array().expect("a list");
    let found = adapters.iter().find(|a| a["unusable"].is_null()).cloned();
    if found.is_none() {
        let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
        assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but there is no adapter");
        eprintln!(
            "SKIPPED: --backend wgpu is not tested: no graphics adapter, not even in software"
        );
    }
    found
}

const TRAIN: &str = "train --model model --data rows.json --batch-size 8 --lr 0.01 --max-steps 12 \
                     --samples 1 --sample-tokens 4 --lora-rank 4 --lora-dropout 0.05 --save-every 4 \
                     --keep-checkpoints 9";

#[test]
fn a_run_has_the_processors_losses_and_goes_on_to_the_same_bits() {
    let desk = desk();
    if adapter(&desk).is_none() {
        return;
    }
    run(&desk, &format!("{TRAIN} --backend cpu --out cpu"), 0);
    let (_, err) = run(&desk, &format!("{TRAIN} --backend wgpu --out whole"), 0);
    assert!(err.contains("wgpu"), "the plan names what computes: {err}");
    let (cpu, wgpu) = (desk.losses("cpu"), desk.losses("whole"));
    assert_eq!((cpu.len(), wgpu.len()), (12, 12));
    for (i, (c, w)) in cpu.iter().zip(&wgpu).enumerate() {
        assert!((c - w).abs() / c < 1e-3, "step {}: {w} instead of {c}", i + 1);
    }
    let record = String::from_utf8(desk.bytes("whole/run.toml")).expect("text");
    assert!(
        record.contains("backend = \"wgpu\"") && record.contains("backend = \"wgpu "),
        "{record}"
    );

    // Cut back to its first checkpoint, it ends in the same bits; on another back-end it asks first.
    run(&desk, &format!("{TRAIN} --backend wgpu --out parts"), 0);
    for step in ["step-8", "step-12"] {
        std::fs::remove_dir_all(desk.path("parts/checkpoints").join(step)).expect("a checkpoint");
    }
    let (_, err) = run(&desk, "train --resume --out parts --backend cpu", 2);
    assert!(err.contains("backend") && err.contains("--allow-changes"), "{err}");
    run(&desk, "train --resume --out parts", 0);
    let weights = "adapter/adapter_model.safetensors";
    assert_eq!(desk.bytes(&format!("whole/{weights}")), desk.bytes(&format!("parts/{weights}")));
    assert_eq!(desk.losses("parts"), wgpu);

    // The same answers, token for token.
    let answer = |backend: &str| {
        let args = "generate --model model --adapter whole/adapter --json --max-new-tokens 8 --prompt what";
        run(&desk, &format!("{args} --backend {backend}"), 0).0
    };
    assert_eq!(answer("cpu"), answer("wgpu"));
}

/// With activations in f16: half their memory in the plan, recorded as such, and the processor's losses nearly.
#[test]
fn a_run_in_f16_is_planned_recorded_and_goes_on_to_the_same_bits() {
    let desk = desk();
    let Some(adapter) = adapter(&desk) else { return };
    if adapter["f16_activations"] != true {
        eprintln!("SKIPPED: --precision f16 is not tested: the adapter does not offer it");
        return;
    }
    let f16 = format!("{TRAIN} --backend wgpu --precision f16");
    run(&desk, &format!("{TRAIN} --backend cpu --out cpu"), 0);
    run(&desk, &format!("{f16} --out whole"), 0);
    let (cpu, wgpu) = (desk.losses("cpu"), desk.losses("whole"));
    assert_eq!((cpu.len(), wgpu.len()), (12, 12));
    let off = cpu.iter().zip(&wgpu).map(|(c, w)| (c - w).abs() / c).fold(0.0, f64::max);
    assert!(off > 0.0 && off < 1e-3, "off by {off:e}");
    let record = String::from_utf8(desk.bytes("whole/run.toml")).expect("text");
    for words in ["precision = \"f16\"", "activations in f16"] {
        assert!(record.contains(words), "{words}: {record}");
    }
    run(&desk, &format!("{f16} --out parts"), 0);
    for step in ["step-8", "step-12"] {
        std::fs::remove_dir_all(desk.path("parts/checkpoints").join(step)).expect("a checkpoint");
    }
    run(&desk, "train --resume --out parts", 0);
    let weights = "adapter/adapter_model.safetensors";
    assert_eq!(desk.bytes(&format!("whole/{weights}")), desk.bytes(&format!("parts/{weights}")));
}

#[test]
fn precisions_that_are_not_there_are_refused_in_words() {
    let desk = desk();
    let found = adapter(&desk).is_some();
    let train = "train --model model --data rows.json --lora-rank 4 --out bad";
    for args in [train, "verify", "bench ops"] {
        let (_, err) = run(&desk, &format!("{args} --backend wgpu --precision bf16"), 2);
        // Without an adapter all but train say that instead.
        let words = ["bf16", "NVIDIA", "leave it out"];
        let says = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(err.lines().any(says) || args != train && !found, "{args}: {err}");
        let (_, err) = run(&desk, &format!("{args} --backend cpu --precision f16"), 2);
        assert!(err.contains("precision") && err.contains("graphics card"), "{args}: {err}");
    }
    assert!(!desk.path("bad").exists());
}

#[test]
fn doctor_and_verify_know_the_adapter() {
    let desk = desk();
    let Some(adapter) = adapter(&desk) else { return };
    let name = adapter["name"].as_str().expect("a name");
    let (out, _) = run(&desk, "doctor", 0);
    for words in [name, "driver", "kernels", "is used", "activations", "auto", "CUDA"] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let device = &adapter["number"];
    let (out, err) = run(&desk, &format!("verify --backend wgpu --device {device} --cases 1"), 0);
    assert!(out.contains("matmul_forward") && out.contains("whole step, LoRA"), "{out}");
    assert!(!out.contains("FAIL") && err.contains("within their bounds"), "{out}{err}");
    assert!(desk.path("cache/kernels").read_dir().is_ok_and(|mut files| files.next().is_some()));
}

#[test]
fn devices_that_are_not_there_are_refused_in_words() {
    let desk = desk();
    let train = "train --model model --data rows.json --lora-rank 4 --out bad";
    for args in [train, "generate --model model --raw --prompt hello", "verify", "bench ops"] {
        let (_, err) = run(&desk, &format!("{args} --backend wgpu --device nonsense-card"), 2);
        assert!(err.contains("wgpu") && err.contains("adapter"), "{args}: {err}");
        let (_, err) = run(&desk, &format!("{args} --backend cpu --device 0"), 2);
        assert!(err.contains("device"), "{args}: {err}");
    }
    assert!(!desk.path("bad").exists());
}
