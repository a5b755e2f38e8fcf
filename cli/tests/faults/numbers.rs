//! Numbers that go wrong: not finite, not moving, not repeated.

use serde_json::Value;

use crate::{TRAIN, change_weights, desk, tensor};

#[test]
fn f62_what_is_not_finite_is_named_by_row_and_layer_and_changes_nothing() {
    let desk = desk();
    // Finite weights whose products are not.
    change_weights(&desk, |tensors| {
        let up = tensor(tensors, "model.layers.1.mlp.up_proj.weight");
        up.bytes = vec![3e38f32; 24 * 16].iter().flat_map(|x| x.to_le_bytes()).collect();
    });
    let args = format!("{TRAIN} --max-steps 9 --validation none --out run");
    let (_, err) = desk.run(&args, 1);
    for word in
        ["step 1: the loss is not a finite number, first in row", "first in layer 1", "3 such"]
    {
        assert!(err.contains(word), "expected {word:?} in\n{err}");
    }
    assert!(err.contains("nothing was changed by it"), "{err}");
    assert!(!desk.path("run/adapter").exists(), "a failed run has no result");
    let steps = desk.json_lines("run/metrics.jsonl");
    assert!(steps.iter().all(|line| line["kind"] != "step"), "no such step counts as made");
}

#[test]
fn f66_updates_too_small_to_move_anything_are_said() {
    let desk = desk();
    let args = "train --model model --data rows.json --method full --batch-size 8 --max-steps 102 \
                --validation none --lr-schedule constant --samples 1 --sample-tokens 4";
    let (_, err) = desk.run(&format!("{args} --lr 1e-10 --out still"), 0);
    assert!(err.contains("of the trained numbers did not change"), "{err}");
    let (_, err) = desk.run(&format!("{args} --lr 0.001 --out moving"), 0);
    assert!(!err.contains("did not change"), "{err}");
    let share = |run: &str| -> Vec<f64> {
        let lines = desk.json_lines(&format!("{run}/metrics.jsonl"));
        lines.iter().filter_map(|line: &Value| line["unchanged"].as_f64()).collect()
    };
    let (still, moving) = (share("still"), share("moving"));
    assert!(still.len() == 1 && still[0] > 0.9, "{still:?}");
    assert!(moving.len() == 1 && moving[0] < 0.1, "{moving:?}");
}

#[test]
fn f54_checking_the_device_changes_no_bit() {
    let desk = desk();
    for backend in ["cpu", "reference"] {
        let args = format!("{TRAIN} --max-steps 4 --lora-dropout 0.1 --backend {backend}");
        desk.run(&format!("{args} --out plain-{backend}"), 0);
        desk.run(&format!("{args} --self-check 1 --out checked-{backend}"), 0);
        let adapter =
            |run: &str| desk.bytes(&format!("{run}-{backend}/adapter/adapter_model.safetensors"));
        assert_eq!(adapter("plain"), adapter("checked"));
    }
}

#[test]
fn f67_the_same_run_twice_gives_the_same_bits() {
    let desk = desk();
    for method in ["lora", "full"] {
        let args = "train --model model --data rows.json --batch-size 8 --lr 0.01 --samples 1 \
                    --sample-tokens 4 --max-steps 12 --save-every 12 --lora-rank 4";
        for run in ["a", "b"] {
            desk.run(&format!("{args} --method {method} --out {run}-{method}"), 0);
        }
        let state = |run: &str, file: &str| {
            desk.bytes(&format!("{run}-{method}/checkpoints/step-12/{file}.safetensors"))
        };
        for file in ["weights", "optimizer"] {
            assert_eq!(state("a", file), state("b", file), "{method} {file}");
        }
    }
}
