//! `core-cli bench`: what it prints, what it keeps for other programs, and how well it foresees its memory.

use paddock_tests::desk::Desk;
use serde_json::Value;

/// A folder with a toy model and rows, for this program.
fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

/// The last line of a command, as JSON.
fn report(desk: &Desk, args: &str) -> Value {
    let (out, _) = desk.run(args, 0);
    serde_json::from_str(out.lines().last().expect("a line")).expect("JSON")
}

#[test]
fn bench_prints_the_promised_fields() {
    let desk = desk();
    let (out, _) = desk.run("bench train --shape 32,2,4,2,48,64 --batch 2 --seq 16 --steps 1", 0);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    for key in [
        "tokens_per_s",
        "gflops",
        "peak_rss_bytes",
        "planned_bytes",
        "forward_s",
        "backward_s",
        "optimizer_s",
    ] {
        assert!(report[key].as_f64().is_some_and(|x| x >= 0.0), "{key}: {report}");
    }
}

/// The plan's memory against what the process then really used.
#[cfg(target_os = "linux")]
#[test]
fn f49_memory_is_forecast_within_a_tenth() {
    let desk = desk();
    let args = "bench train --shape 256,4,4,4,704,8000 --batch 4 --seq 256 --steps 1 --method";
    for method in ["lora", "full"] {
        let (out, _) = desk.run(&format!("{args} {method}"), 0);
        let report: Value = serde_json::from_str(&out).expect("JSON");
        let number = |key: &str| report[key].as_f64().expect("a number");
        let ratio = number("planned_bytes") / number("peak_rss_bytes");
        assert!((0.9..1.1).contains(&ratio), "{method}: planned/used = {ratio:.3}");
    }
}

#[test]
fn a_kept_model_gives_the_same_loss_and_is_never_written_over() {
    let desk = desk();
    let args = "bench train --shape 32,2,4,2,48,64 --batch 2 --seq 16 --steps 1";
    let loss = |args: &str| report(&desk, args)["first_loss"].as_f64().expect("a loss");
    let first = loss(&format!("{args} --keep kept"));
    let again = loss(args);
    assert_eq!(first, again);
    let rows: Vec<Vec<u32>> = serde_json::from_slice(&desk.bytes("kept/rows.json")).expect("rows");
    assert!(rows.len() == 2 && rows.iter().all(|row| row.len() == 16), "{rows:?}");
    let bytes = desk.bytes("kept/model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    for (name, shape) in [
        ("model.embed_tokens.weight", vec![64, 32]),
        ("model.layers.1.self_attn.k_proj.weight", vec![16, 32]),
        ("model.layers.1.mlp.down_proj.weight", vec![32, 48]),
        ("model.norm.weight", vec![32]),
        ("lm_head.weight", vec![64, 32]),
    ] {
        assert_eq!(tensors.tensor(name).expect(name).shape(), shape, "{name}");
    }
    let config: Value = serde_json::from_slice(&desk.bytes("kept/config.json")).expect("JSON");
    assert_eq!(config["num_key_value_heads"], 2, "{config}");
    let (_, err) = desk.run(&format!("{args} --keep kept"), 2);
    assert!(err.contains("name a folder that is not there"), "{err}");
}

#[test]
fn reading_and_writing_are_measured() {
    let desk = desk();
    let args =
        "bench generate --shape 32,2,4,2,48,64 --prompt 24 --tokens 5 --times 1 --weights bf16";
    let report = report(&desk, args);
    for key in ["prompt_tokens_per_s", "tokens_per_s", "peak_rss_bytes"] {
        assert!(report[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {report}");
    }
}

#[test]
fn ops_are_told_as_a_share_of_what_the_processor_does() {
    let desk = desk();
    let (out, _) = desk.run("bench ops --backend cpu --only matmul_forward --json", 0);
    let lines: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let shapes: Vec<&str> = lines.iter().map(|l| l["shape"].as_str().expect("a shape")).collect();
    assert!(shapes.iter().any(|s| s.ends_with("f32 weights")), "{shapes:?}");
    assert!(shapes.iter().any(|s| s.ends_with("bf16 weights")), "{shapes:?}");
    assert!(lines.iter().all(|l| l["share_of_peak"].as_f64().is_some_and(|x| x > 0.0)), "{out}");
    let (out, _) = desk.run("bench ops --backend cpu --only peak", 0);
    assert!(out.contains("peak multiply-add") && out.contains("peak read"), "{out}");
}
