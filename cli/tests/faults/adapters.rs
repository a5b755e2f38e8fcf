//! Adapters: exported when they are sound, and merged once.

use crate::{TRAIN, change_weights, desk, refuses, tensor};

#[test]
fn f68_what_is_not_finite_is_not_exported() {
    let desk = desk();
    // Finite in f32, beyond f16.
    change_weights(&desk, |tensors| {
        let norm = tensor(tensors, "model.norm.weight");
        norm.bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    });
    let export = "export --model model --merge --dtype f16 --out merged";
    let (out, err) = desk.run(export, 2);
    let words = ["`model.norm.weight`", "not a finite number in float16, at 0", "another --dtype"];
    assert!(words.iter().all(|word| err.contains(word)), "{err}");
    assert!(!out.contains("written") && !desk.path("merged").exists(), "{out}");
    desk.run(&export.replace("f16", "bf16"), 0);
}

#[test]
fn f68_an_adapter_that_changes_nothing_is_said_to_be_one() {
    let desk = desk();
    // The first step of a warm-up has a rate of 0.
    let (_, err) = desk.run(&format!("{TRAIN} --max-steps 1 --warmup-steps 1 --out run"), 0);
    assert!(err.contains("it changes no answer"), "{err}");
    let (_, err) = desk.run(&format!("{TRAIN} --max-steps 3 --warmup-steps 0 --out other"), 0);
    assert!(!err.contains("it changes no answer"), "{err}");
}

#[test]
fn f71_nothing_is_merged_twice_or_into_a_quantised_base() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 3 --out run"), 0);
    let merge = "export --adapter run/adapter --merge";
    let (done, _) = desk.run(&format!("{merge} --model model --out merged"), 0);
    assert!(done.contains("merged is written and checked"), "{done}");
    let before = desk.bytes("merged/model.safetensors");
    refuses(&desk, &format!("{merge} --model merged --out bad"), &["made for another model"]);
    // Never in place, never over something.
    let words = ["already exists", "nothing is overwritten"];
    refuses(&desk, &format!("{merge} --model model --out merged"), &words);
    assert_eq!(before, desk.bytes("merged/model.safetensors"));
    let config = String::from_utf8(desk.bytes("model/config.json")).expect("text");
    let quantised = config.replacen('{', "{\"quantization_config\":{\"bits\":4},", 1);
    crate::write(&desk, "model/config.json", quantised);
    refuses(&desk, &format!("{merge} --model model --out bad"), &["quantised", "original weights"]);
}
