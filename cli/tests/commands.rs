//! The command line as a person meets it, on a toy model: train, kill, resume, score, generate, export, and
//! what it says to bad input.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::Value;

/// A folder with a toy model and rows, for this program.
fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

const TRAIN: &str = "train --model model --data rows.json --batch-size 8 --lr 0.01 --epochs 40 \
                     --samples 2 --sample-tokens 8 --lora-rank 8 --lora-dropout 0.05";

#[test]
fn a_run_from_rows_to_an_adapter_that_knows_the_answers() {
    let desk = desk();
    let (out, err) = desk.run(&format!("{TRAIN} --out run"), 0);
    assert!(out.contains("The model learned"), "{out}");
    assert!(err.contains("held out to judge by") && err.contains("Memory"), "{err}");
    let lines = desk.json_lines("run/metrics.jsonl");
    let evals: Vec<&Value> = lines.iter().filter(|l| l["kind"] == "eval").collect();
    let loss = |v: &Value| v["eval_loss"].as_f64().expect("a loss");
    assert_eq!(evals[0]["step"], 0);
    assert!(loss(evals[evals.len() - 1]) < 0.3 * loss(evals[0]), "{evals:?}");
    let steps: Vec<&Value> = lines.iter().filter(|l| l["kind"] == "step").collect();
    for key in ["step", "epoch", "loss", "lr", "grad_norm", "rows", "tokens", "trained_tokens"] {
        assert!(steps.iter().all(|s| s[key].is_number()), "{key}");
    }
    for file in ["run.toml", "template.json", "samples.jsonl", "adapter/adapter_config.json"] {
        assert!(desk.path("run").join(file).is_file(), "{file}");
    }

    let report = String::from_utf8(desk.bytes("run/report.html")).expect("text");
    for words in ["The model learned", "best: ", "<polyline", "Memory planned", "lora_rank = 8"] {
        assert!(report.contains(words), "{words}");
    }

    // The tuned model answers, its scores agree with those of the merged model, and the base's are worse.
    let prompt = ["--prompt", "what is the colour of the sky", "--json", "--max-new-tokens", "8"];
    let mut command = desk.command("generate --model model --adapter run/adapter");
    let answer = command.args(prompt).output().expect("core-cli starts");
    let answer: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert_eq!(answer["text"].as_str().map(str::trim), Some("the sky is blue ."), "{answer}");
    assert_eq!(answer["stop"], "eos");
    let (done, _) = desk.run("export --model model --adapter run/adapter --merge --out merged", 0);
    assert!(done.contains("in all 48 places"), "{done}");
    let score = |args: &str| -> Vec<f64> {
        let (out, _) = desk.run(&format!("score --data rows.json --template alpaca {args}"), 0);
        out.lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("JSON")["nll"].as_f64().expect("nll"))
            .collect()
    };
    let (tuned, merged) = (score("--model model --adapter run/adapter"), score("--model merged"));
    let base = score("--model model");
    assert_eq!(tuned.len(), 120);
    for (a, b) in tuned.iter().zip(&merged) {
        assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} {b}");
    }
    assert!(tuned.iter().sum::<f64>() < 0.3 * base.iter().sum::<f64>());
    desk.run("export --model model --adapter run/adapter --merge --out merged", 2);
}

#[test]
fn full_fine_tuning_writes_a_model() {
    let desk = desk();
    let args = "train --model model --data rows.json --method full --lr 0.01 --epochs 25 --out run";
    desk.run(&format!("{args} --batch-size 8 --samples 1"), 0);
    let (out, _) = desk.run("score --model run/model --data rows.json --template alpaca", 0);
    let first: Value = serde_json::from_str(out.lines().next().expect("a row")).expect("JSON");
    let per_token =
        first["nll"].as_f64().expect("nll") / first["trained_tokens"].as_f64().expect("n");
    assert!(per_token < 0.7, "{first}");
}

#[test]
fn f57_killed_anywhere_and_resumed_it_ends_in_the_same_bits() {
    let desk = desk();
    let args = format!("{TRAIN} --eval-every 7 --save-every 5 --max-steps 120");
    desk.run(&format!("{args} --out whole"), 0);
    // A quick machine is through before it was killed often enough; then the waits are halved.
    let enough = [26, 13, 6, 3, 1].into_iter().any(|pause_ms| killed_often(&desk, &args, pause_ms));
    assert!(enough, "never killed more than three times before the end");
    let adapter = "adapter/adapter_model.safetensors";
    assert_eq!(desk.bytes(&format!("whole/{adapter}")), desk.bytes(&format!("cut/{adapter}")));
    let losses = |run: &str| -> Vec<Value> {
        desk.json_lines(&format!("{run}/metrics.jsonl")).iter().map(|l| l["loss"].clone()).collect()
    };
    assert_eq!(losses("whole"), losses("cut"));
}

/// A run `cut` from its beginning to its end, killed after ever longer waits and resumed each time;
/// whether it was killed more than three times.
fn killed_often(desk: &Desk, args: &str, pause_ms: u64) -> bool {
    let _ = std::fs::remove_dir_all(desk.path("cut"));
    let (mut kills, mut resume) = (0, false);
    for wait_ms in (0..40).map(|i| 25 + pause_ms * i) {
        let more = if resume { "--resume" } else { "" };
        let mut child = desk
            .command(&format!("{args} --out cut {more}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("core-cli starts");
        std::thread::sleep(Duration::from_millis(wait_ms));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().expect("kill -9");
        child.wait().expect("a child");
        kills += 1;
        resume = desk.path("cut/run.toml").is_file();
        if !resume {
            // Killed before the run had begun: a folder with nothing but a lock may be there.
            let _ = std::fs::remove_dir_all(desk.path("cut"));
        }
    }
    if !desk.path("cut/adapter").is_dir() {
        desk.run(&format!("{args} --out cut --resume"), 0);
    }
    kills > 3
}

#[cfg(unix)]
#[test]
fn f47_a_signal_saves_and_exits_with_130() {
    let desk = desk();
    let args = format!("{TRAIN} --max-steps 1000000 --out run");
    let mut child = desk
        .command(&args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("core-cli starts");
    let begun = Instant::now();
    while !desk.path("run/metrics.jsonl").is_file() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(130));
    let steps = std::fs::read_dir(desk.path("run/checkpoints")).expect("checkpoints").count();
    assert!(steps >= 1, "nothing was saved");
}

#[cfg(unix)]
#[test]
fn f16_a_file_cut_short_under_its_map_is_named() {
    let desk = desk();
    let args = format!("{TRAIN} --max-steps 1000000 --out run");
    let child = desk
        .command(&args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("core-cli starts");
    let begun = Instant::now();
    while !desk.path("run/metrics.jsonl").is_file() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let weights = std::fs::File::options().write(true).open(desk.path("model/model.safetensors"));
    weights.and_then(|file| file.set_len(0)).expect("the file is cut");
    let ended = child.wait_with_output().expect("a child");
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains("model.safetensors: the file became shorter"), "{words}");
}

#[test]
fn threads_change_no_bit() {
    let desk = desk();
    for threads in ["1", "2", "3"] {
        desk.run(&format!("{TRAIN} --max-steps 6 --threads {threads} --out t{threads}"), 0);
    }
    let adapter = |n: u32| desk.bytes(&format!("t{n}/adapter/adapter_model.safetensors"));
    assert_eq!(adapter(1), adapter(2));
    assert_eq!(adapter(1), adapter(3));
}

#[test]
fn events_are_a_versioned_stream() {
    let desk = desk();
    let (out, _) = desk.run(&format!("{TRAIN} --max-steps 4 --out run --events jsonl"), 0);
    let events: Vec<Value> =
        out.lines().map(|l| serde_json::from_str(l).expect("JSON on every line")).collect();
    assert!(events.iter().all(|e| e["v"] == 1));
    let kinds: Vec<&str> = events.iter().filter_map(|e| e["kind"].as_str()).collect();
    for kind in ["plan", "start", "step", "eval", "checkpoint", "sample", "verdict", "done"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    assert_eq!(kinds.last(), Some(&"done"));
}

/// Bad input: exit code 2, words that name the thing, and no run folder.
fn refused(desk: &Desk, args: &str, words: &[&str]) {
    let (_, err) = desk.run(args, 2);
    for word in words {
        assert!(err.contains(word), "core-cli {args}\nshould say {word:?}:\n{err}");
    }
    assert!(!desk.path("bad").exists(), "core-cli {args} left a folder");
}

#[test]
fn bad_input_is_refused_in_words() {
    let desk = desk();
    let write = |name: &str, text: &str| std::fs::write(desk.path(name), text).expect("a file");
    let train = "train --model model --data rows.json --lora-rank 4 --out bad";
    refused(&desk, &format!("{train} --learning-rte 3"), &["--learning-rte"]);
    write("RUN.toml", "model = \"model\"\nlearning_rte = 3\n");
    refused(&desk, "train RUN.toml --out bad", &["learning_rte", "lr"]);
    refused(&desk, &format!("{train} --lora-targets q_prj"), &["q_prj", "q_proj"]);
    refused(&desk, "train --model model --data rows.json --out bad --lora-rank 0", &["lora_rank"]);
    refused(
        &desk,
        "train --model model --data rows.json --out bad --lora-rank 9",
        &["lora_rank", "8"],
    );
    refused(&desk, &format!("{train} --max-seq-len 1000"), &["96"]);
    refused(
        &desk,
        "train --model nowhere --data rows.json --out bad",
        &["nowhere", "no such folder"],
    );
    refused(
        &desk,
        "train --model model --data nothing.json --lora-rank 4 --out bad",
        &["nothing.json"],
    );
    refused(&desk, "train --model model --lora-rank 4 --out bad", &["--data"]);
    write("empty.json", "[]");
    refused(
        &desk,
        "train --model model --data empty.json --lora-rank 4 --out bad",
        &["empty.json"],
    );
    write("broken.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\": 3,\n");
    refused(
        &desk,
        "train --model model --data broken.jsonl --lora-rank 4 --out bad",
        &["broken.jsonl", "2"],
    );
    write("table.csv", "question,reply\nwhat,it\n");
    refused(
        &desk,
        "train --model model --data table.csv --lora-rank 4 --out bad",
        &["question, reply"],
    );
    refused(&desk, &format!("{train} --columns prompt=nope"), &["nope", "instruction"]);
    refused(&desk, "train --resume --out bad", &["bad"]);
    refused(&desk, "generate --model model --prompt hello", &["--template", "--raw"]);
    refused(
        &desk,
        "train --model model --data rows.json --lora-rank 4 --out model/run",
        &["overlap"],
    );
}

#[test]
fn damaged_models_are_refused_in_words() {
    let desk = desk();
    let weights = desk.bytes("model/model.safetensors");
    let with = |bytes: &[u8], words: &[&str]| {
        std::fs::write(desk.path("model/model.safetensors"), bytes).expect("weights");
        refused(&desk, "train --model model --data rows.json --out bad", words);
    };
    with(&weights[..weights.len() - 7], &["cut short", "Download it again"]);
    with(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", &["git lfs pull"]);
    let mut nan = weights.clone();
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    with(&nan, &["not a finite number"]);
    std::fs::write(desk.path("model/model.safetensors"), &weights).expect("weights");
    let config = String::from_utf8(desk.bytes("model/config.json")).expect("text");
    let smaller = config.replace("\"vocab_size\":43", "\"vocab_size\":40");
    assert_ne!(config, smaller);
    std::fs::write(desk.path("model/config.json"), smaller).expect("config");
    refused(&desk, "train --model model --data rows.json --out bad", &["40"]);
}

#[test]
fn f58_f59_resume_names_what_changed() {
    let desk = desk();
    let args = format!("{TRAIN} --max-steps 8 --save-every 4");
    desk.run(&format!("{args} --out run"), 0);
    let (_, err) = desk.run("train --resume --out run --lora-rank 4", 2);
    assert!(err.contains("lora_rank was 8, is now 4"), "{err}");
    let (_, err) = desk.run("train --resume --out run --lr 0.5", 2);
    assert!(err.contains("--allow-changes"), "{err}");
    toy::write_rows(&desk.path("rows.json"), 119);
    let (_, err) = desk.run("train --resume --out run", 2);
    assert!(err.contains("rows.json"), "{err}");
}

#[test]
fn f70_an_adapter_knows_its_base() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 2 --out run"), 0);
    let mut weights = desk.bytes("model/model.safetensors");
    let at = weights.len() - 4;
    weights[at..].copy_from_slice(&0.5f32.to_le_bytes());
    std::fs::write(desk.path("model/model.safetensors"), weights).expect("weights");
    let (_, err) = desk.run("score --model model --adapter run/adapter --data rows.json", 2);
    assert!(err.contains("made for another model"), "{err}");
}

#[test]
fn early_stopping_and_the_best_checkpoint() {
    let desk = desk();
    // A rate far too high: the validation loss soon gets worse and patience ends the run.
    let args = "train --model model --data rows.json --batch-size 8 --lr 3 --lr-schedule constant \
                --epochs 30 --patience 2 --eval-every 2 --samples 1 --lora-rank 8 --out run";
    let (out, _) = desk.run(args, 0);
    assert!(out.contains("stopped early"), "{out}");
    let evals: Vec<Value> = desk
        .json_lines("run/metrics.jsonl")
        .into_iter()
        .filter(|l| l["kind"] == "eval" && l["step"] != 0)
        .collect();
    let best = evals.iter().min_by(|a, b| {
        let loss = |v: &Value| v["eval_loss"].as_f64().unwrap_or(f64::INFINITY);
        loss(a).total_cmp(&loss(b))
    });
    let step = best.expect("an evaluation")["step"].as_u64().expect("a step");
    assert!(desk.path(&format!("run/checkpoints/step-{step}")).is_dir(), "{evals:?}");
}

#[test]
fn real_model_and_rows_where_they_are_at_hand() {
    let Some(model) = paddock_tests::shared("data/models/stories260K-hf") else { return };
    let desk = desk();
    let answer = desk
        .command("generate --raw --max-new-tokens 8 --json --prompt")
        .arg("Once upon a time")
        .arg("--model")
        .arg(&model)
        .output()
        .expect("core-cli starts");
    let answer: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert_eq!(answer["tokens"][0], 432, "{answer}");
    let rows = Path::new("rows.json");
    let (out, _) =
        desk.run(&format!("score --model {} --data {}", model.display(), rows.display()), 0);
    assert_eq!(out.lines().count(), 120);
}
