//! Model files that are damaged, of another kind, or changed under a run.

#[cfg(unix)]
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use paddock_cli::model::ModelFolder;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    PLAN, TRAIN, Tensor, WEIGHTS, change_weights, desk, read_tensors, refuses, tensor, write,
    write_tensors,
};

#[test]
fn f5_other_element_types_are_named_and_mixed_ones_read() {
    let desk = desk();
    let good = read_tensors(&desk, WEIGHTS);
    let other = |dtype: Dtype, bytes: usize| {
        let mut tensors = good.clone();
        let norm = tensor(&mut tensors, "model.norm.weight");
        norm.dtype = dtype;
        norm.bytes = vec![0; 16 * bytes];
        write_tensors(&desk, WEIGHTS, &tensors);
    };
    for (dtype, name, bytes) in
        [(Dtype::F64, "F64", 8), (Dtype::I8, "I8", 1), (Dtype::F8_E4M3, "F8_E4M3", 1)]
    {
        other(dtype, bytes);
        let words = ["`model.norm.weight` is stored as", name, "Paddock reads F32, BF16 and F16"];
        refuses(&desk, PLAN, &words);
    }
    // Matrices in bf16 beside norms in f32 are what many models have.
    let mut tensors = good.clone();
    for t in tensors.iter_mut().filter(|t| t.shape.len() == 2) {
        t.dtype = Dtype::BF16;
        t.bytes = t.bytes.chunks_exact(4).flat_map(|x| [x[2], x[3]]).collect();
    }
    write_tensors(&desk, WEIGHTS, &tensors);
    desk.run(&format!("{TRAIN} --max-steps 1 --out run"), 0);
}

#[test]
fn f6_missing_tensors_are_all_named_and_never_made_up() {
    let desk = desk();
    let gone = "model.layers.1.mlp.up_proj.weight";
    change_weights(&desk, |tensors| {
        tensors.retain(|t| t.name != "model.norm.weight");
        tensor(tensors, gone).name = "model.layers.1.mlp.up_prj.weight".into();
    });
    let words = ["2 of ", "tensors are missing", gone, "model.norm.weight", "up_prj", "nearest"];
    refuses(&desk, &format!("{TRAIN} --out bad"), &words);
}

#[test]
fn f7_extra_tensors_are_counted_or_refused() {
    let desk = desk();
    let extra = |name: &str| Tensor {
        name: name.into(),
        dtype: Dtype::F32,
        shape: vec![16],
        bytes: vec![0; 64],
    };
    let good = read_tensors(&desk, WEIGHTS);
    let with = |names: &[&str]| {
        let mut tensors = good.clone();
        tensors.extend(names.iter().map(|name| extra(name)));
        write_tensors(&desk, WEIGHTS, &tensors);
    };
    with(&["model.layers.0.self_attn.rotary_emb.inv_freq", "optimizer.note"]);
    let (_, err) = desk.run(&format!("{TRAIN} --max-steps 1 --out run"), 0);
    assert!(err.contains("2 tensors of the model's files are not used"), "{err}");
    for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.2.input_layernorm.weight"] {
        with(&[name]);
        refuses(&desk, &format!("{TRAIN} --out bad"), &[name, "another architecture"]);
    }
}

#[test]
fn f8_shapes_are_compared_with_the_fields_of_config_json() {
    let desk = desk();
    let good: Value = serde_json::from_slice(&desk.bytes("model/config.json")).expect("JSON");
    let with = |key: &str, value: Value| {
        let mut config = good.clone();
        config[key] = value;
        write(&desk, "model/config.json", config.to_string());
    };
    with("num_key_value_heads", json!(4));
    refuses(&desk, PLAN, &["k_proj", "[8, 16]", "[16, 16]", "`num_key_value_heads`"]);
    with("intermediate_size", json!(25));
    refuses(&desk, PLAN, &["mlp.", "`intermediate_size`", "[25, 16]"]);
    with("tie_word_embeddings", json!(false));
    refuses(&desk, PLAN, &["1 of ", "missing", "lm_head.weight"]);
}

#[test]
fn f9_a_weight_that_is_not_finite_is_named_with_its_place() {
    let desk = desk();
    for (value, index) in [(f32::NAN, 7), (f32::INFINITY, 0), (f32::NEG_INFINITY, 255)] {
        let mut tensors = read_tensors(&desk, WEIGHTS);
        let good = tensors.clone();
        let q = tensor(&mut tensors, "model.layers.1.self_attn.q_proj.weight");
        q.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
        write_tensors(&desk, WEIGHTS, &tensors);
        let place = format!("at {index}.");
        let words =
            ["`model.layers.1.self_attn.q_proj.weight`", "not a finite number", &place, "again"];
        refuses(&desk, &format!("{TRAIN} --out bad"), &words);
        write_tensors(&desk, WEIGHTS, &good);
    }
}

#[test]
fn f10_the_index_and_its_shards_are_checked() {
    let desk = desk();
    let tensors = read_tensors(&desk, WEIGHTS);
    std::fs::remove_file(desk.path(WEIGHTS)).expect("removed");
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let total: usize = tensors.iter().map(|t| t.bytes.len()).sum();
    let names = ["model-1.safetensors", "model-2.safetensors"];
    write_tensors(&desk, &format!("model/{}", names[0]), first);
    write_tensors(&desk, &format!("model/{}", names[1]), second);
    let index = |second_name: &str, total: usize| {
        let entry = |t: &Tensor, name: &str| (t.name.clone(), json!(name));
        let map: serde_json::Map<String, Value> = first
            .iter()
            .map(|t| entry(t, names[0]))
            .chain(second.iter().map(|t| entry(t, second_name)))
            .collect();
        let text = json!({"metadata": {"total_size": total}, "weight_map": map}).to_string();
        write(&desk, "model/model.safetensors.index.json", text);
    };
    let train = format!("{TRAIN} --max-steps 1");
    index(names[1], total);
    let (_, err) = desk.run(&format!("{train} --out good"), 0);
    assert!(!err.contains("promises"), "{err}");
    index("model-3.safetensors", total);
    refuses(&desk, &format!("{train} --out bad"), &["`model-3.safetensors`", "missing"]);
    for outside in ["../model-2.safetensors", "/etc/passwd", "a/../../b", "..\\b"] {
        index(outside, total);
        refuses(&desk, &format!("{train} --out bad"), &["does not lie in the model's folder"]);
    }
    // Shards of different versions: the tensors lie in other files than the index says.
    index(names[0], total);
    refuses(&desk, &format!("{train} --out bad"), &["should be in model-1", "different versions"]);
    index(names[1], total + 4);
    let (_, err) = desk.run(&format!("{train} --out said"), 0);
    assert!(err.contains(&format!("promises {} bytes", total + 4)), "{err}");
}

#[test]
fn f12_gguf_files_are_named_and_not_read() {
    let desk = desk();
    let gguf = [b"GGUF".as_slice(), &[0xff; 4096]].concat();
    write(&desk, "model.gguf", &gguf);
    let named = PLAN.replace("--model model", "--model model.gguf");
    refuses(&desk, &named, &["model.gguf: this is a GGUF file", "named by its folder"]);
    write(&desk, WEIGHTS, &gguf);
    refuses(&desk, PLAN, &["model.safetensors: this is a GGUF file"]);
    std::fs::rename(desk.path(WEIGHTS), desk.path("model/m-q4.gguf")).expect("renamed");
    refuses(&desk, PLAN, &["only a GGUF file (m-q4.gguf)", "safetensors folder"]);
}

/// A pickle that makes a file when it is loaded as Python would.
const PICKLE: &[u8] = b"cposix\nsystem\n(S'touch executed'\ntR.";

#[test]
fn f13_pickles_are_refused_and_nothing_in_them_is_executed() {
    let desk = desk();
    let zip = [b"PK\x03\x04".as_slice(), &[0; 64], PICKLE].concat();
    let new = [b"\x80\x02".as_slice(), PICKLE].concat();
    write(&desk, "rows.pkl", &new);
    refuses(&desk, &PLAN.replace("rows.json", "rows.pkl"), &["rows.pkl", "a Python pickle"]);
    for pickle in [&zip, &new] {
        write(&desk, "model.bin", pickle);
        let named = PLAN.replace("--model model", "--model model.bin");
        refuses(&desk, &named, &["pickle", "can run programs"]);
        write(&desk, WEIGHTS, pickle);
        refuses(&desk, PLAN, &["model.safetensors: this is a pickle", "Save the model as safeten"]);
    }
    std::fs::remove_file(desk.path(WEIGHTS)).expect("removed");
    for name in ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "weights.pkl"] {
        write(&desk, &format!("model/{name}"), PICKLE);
        refuses(&desk, PLAN, &[name, "can run programs", "safetensors"]);
        std::fs::remove_file(desk.path(&format!("model/{name}"))).expect("removed");
    }
    assert!(!desk.path("executed").exists(), "something in a pickle was executed");
}

#[test]
fn f14_a_flipped_bit_is_found_when_a_run_goes_on() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --save-every 2 --out run"), 0);
    let record = String::from_utf8(desk.bytes("run/run.toml")).expect("text");
    assert!(record.contains("sha256") && record.contains("model.safetensors"), "{record}");
    let good = desk.bytes(WEIGHTS);
    let mut flipped = good.clone();
    let at = flipped.len() - 3;
    flipped[at] ^= 1;
    write(&desk, WEIGHTS, &flipped);
    let (_, err) = desk.run("train --resume --out run", 2);
    for words in ["model.safetensors", "the same", "with other contents", "Put the old files back"]
    {
        assert!(err.contains(words), "{err}");
    }
    write(&desk, WEIGHTS, &good);
    desk.run("train --resume --out run", 0);
}

/// A run without end, waited for until it trains.
fn endless(desk: &paddock_tests::desk::Desk) -> std::process::Child {
    let child = desk
        .command(&format!("{TRAIN} --max-steps 1000000 --save-every 5 --out run"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("core-cli starts");
    let saved = || {
        let entries = std::fs::read_dir(desk.path("run/checkpoints")).into_iter().flatten();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
    };
    let begun = Instant::now();
    while !saved() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[cfg(unix)]
#[test]
fn f16_a_file_changed_under_its_map_is_named_and_nothing_of_it_is_saved() {
    let desk = desk();
    let good = desk.bytes(WEIGHTS);
    let child = endless(&desk);
    let file = std::fs::File::options().write(true).open(desk.path(WEIGHTS)).expect("weights");
    file.write_at(&0.25f32.to_le_bytes(), good.len() as u64 - 4).expect("written in place");
    let ended = child.wait_with_output().expect("a child");
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    for word in ["model.safetensors was changed by another program", "not saved", "--resume"] {
        assert!(words.contains(word), "{words}");
    }
    // With the old file back the run goes on from its last checkpoint.
    write(&desk, WEIGHTS, &good);
    let (_, err) =
        desk.run("train --resume --out run --max-steps 12 --warmup-steps 3 --allow-changes", 0);
    assert!(err.contains("Going on from step"), "{err}");
}

#[test]
fn f16_a_model_that_is_written_into_after_it_was_opened_is_named() {
    let desk = desk();
    let folder = ModelFolder::open(&desk.path("model")).expect("a model");
    folder.check_untouched().expect("as it was");
    // The same bytes again: whether others were there meanwhile, nobody knows.
    let file = std::fs::File::options().append(true).open(desk.path(WEIGHTS)).expect("weights");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(9)).expect("written");
    let error = folder.check_untouched().expect_err("a change").to_string();
    for word in ["model.safetensors was changed by another program", "not kept", "start again"] {
        assert!(error.contains(word), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn f16_a_file_that_was_merely_touched_or_replaced_stops_nothing() {
    let desk = desk();
    let mut child = endless(&desk);
    let later = std::time::SystemTime::now() + Duration::from_secs(9);
    let touched = std::fs::File::options().append(true).open(desk.path(WEIGHTS));
    touched.and_then(|file| file.set_modified(later)).expect("touched");
    // Another file of the same name: the run still has the old one.
    std::fs::rename(desk.path(WEIGHTS), desk.path("aside")).expect("renamed");
    write(&desk, WEIGHTS, b"something else");
    let steps = || {
        let text = String::from_utf8(desk.bytes("run/metrics.jsonl")).expect("text");
        text.lines().filter(|line| line.contains("\"kind\":\"step\"")).count()
    };
    let (first, begun) = (steps(), Instant::now());
    while steps() < first + 20 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.try_wait().expect("a child").is_none(), "the run ended");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
    let ended = child.wait_with_output().expect("a child");
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
}
