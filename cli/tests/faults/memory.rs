//! Memory: what was forecast and what was used, and what happens when there is none.

use std::path::Path;
use std::process::{Command, Output};

use paddock_cli::error::exit_code;
use paddock_cli::run::checkpoint::{Keep, latest_good};
use paddock_cli::run::config::{BackendChoice, Method, RunConfig, Validation};
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::RealStorage;
use paddock_cli::train::fits::{Room, preflight_in};
use paddock_cli::train::forecast::forecast;
use paddock_cli::train::report::Terminal;
use paddock_cli::train::saved::checkpoint_bytes;
use paddock_cli::train::{Launch, Session, Setup, train};
use paddock_core::config::Config;
use paddock_datasets::prepare::Quiet;
use paddock_tests::desk::Desk;
use paddock_tests::parsers::memory::refuse_after;
use paddock_tests::toy;
use serde_json::{Value, json};

use crate::{desk, write};

#[test]
fn f48_a_run_is_compared_with_the_memory_that_there_is_before_it_starts() {
    let desk = desk();
    let path = |name: &str| desk.path(name).display().to_string();
    for method in [Method::Lora, Method::Full] {
        let config = RunConfig {
            model: Some(path("model")),
            data: vec![path("rows.json")],
            backend: BackendChoice::Cpu,
            lora_rank: 4,
            token_cache: false,
            method,
            ..RunConfig::default()
        };
        let setup = Setup::prepare(config, &mut Quiet).expect("a good set-up");
        let session = Session::plan(&setup).expect("a plan");
        let plan = forecast(&session);
        let needed = plan.memory_bytes;
        let said =
            |free: u64, most: u64| preflight_in(Room { free, most, in_files: 0 }, &session, &plan);
        assert_eq!(said(needed, needed).expect("it fits"), None);
        assert_eq!(said(0, 0).expect("a system that does not say"), None);
        let warning = said(needed - 1, needed).expect("it may start").expect("a warning");
        assert!(warning.contains("are free now"), "{warning}");
        let error = said(needed - 1, needed - 1).expect_err("there is less");
        assert_eq!(exit_code(&error), 2);
        assert!(error.to_string().contains("so it was not started"), "{error}");
    }
}

/// A model large enough for its activations to count.
fn larger_model(desk: &Desk, dim: u32) {
    let c = Config {
        dim,
        hidden_dim: dim * 11 / 4,
        n_layers: 4,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: dim / 4,
        vocab_size: 4000,
        max_seq_len: 512,
        ..toy::config()
    };
    toy::write_model_of(&desk.path("larger"), &c);
}

/// That model, and rows of which the last eight are very long.
fn larger(desk: &Desk, dim: u32) {
    larger_model(desk, dim);
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

/// Width of the model whose memory is forecast: the code of a program that runs for the first time, and the stacks of
/// its threads, are some 8 MB, which a smaller one would be lost in.
const FORECAST: u32 = 256;

/// (planned, used) of a run over the rows.
fn run(desk: &Desk, more: &str) -> (f64, f64) {
    let args = format!(
        "train --model larger --data uneven.json --epochs 1 --samples 0 --validation none --lora-rank 8 --lr 0.001 \
         --threads 2 --events jsonl {more}"
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
    larger(&desk, FORECAST);
    for method in ["lora", "full"] {
        let flags = format!(
            "--method {method} --batch-size 8 --micro-batch-tokens 1800 --shuffle false \
             --out {method}"
        );
        let (planned, used) = run(&desk, &flags);
        let ratio = planned / used;
        println!("{method}: planned {planned:.3e}, used {used:.3e}, ratio {ratio:.3}");
        assert!((0.9..1.1).contains(&ratio), "{method}: planned/used = {ratio:.3}");
    }
}

/// Rows of 4 to 400 tokens, one as likely as the other on a scale of ratios, in each other's company: a step holds
/// several micro-batches, hardly two of which are alike.
#[test]
fn f49_uneven_batches_are_forecast_within_a_tenth() {
    let desk = desk();
    larger_model(&desk, FORECAST);
    let row = |i: usize| {
        let words = (100f64.powf((i * 37 % 96) as f64 / 95.0) * 0.9) as usize;
        let first = ["a", "it", "say", "sun", "snow", "is", "cold", "?"][i % 8];
        let answer = "the sky is blue . ".repeat(1 + words);
        json!({"instruction": first, "input": i.to_string(), "output": answer})
    };
    let rows: Vec<Value> = (0..96).map(row).collect();
    write(&desk, "uneven.json", serde_json::to_string(&rows).expect("JSON"));
    for (number, (method, recompute)) in
        [("lora", "cheap"), ("lora", "off"), ("full", "cheap"), ("full", "layers")]
            .into_iter()
            .enumerate()
    {
        let (planned, used) = run(
            &desk,
            &format!(
                "--method {method} --recompute {recompute} --batch-size 16 --micro-batch-tokens 1800 \
                 --out run{number}"
            ),
        );
        let ratio = planned / used;
        println!("{method}, recompute {recompute}: planned/used {ratio:.3}");
        assert!((0.9..1.1).contains(&ratio), "{method}, recompute {recompute}: {ratio:.3}");
    }
}

/// The run of the test below, as a program of its own: after so many large pieces of memory there is none.
#[test]
#[ignore = "started by the test below"]
fn starved() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let Some(pieces) = number("PADDOCK_PIECES") else { return };
    let flags = [("out", "run"), ("threads", "1")];
    let flags = flags.map(|(key, text)| (key.to_string(), text.to_string())).to_vec();
    let launch = Launch { flags, resume: true, ..Launch::default() };
    refuse_after(pieces);
    let ended = train(&launch, &mut Terminal::default(), &Signals::default());
    let code = ended.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            i32::from(exit_code(&error))
        },
        |_| 0,
    );
    std::process::exit(code);
}

/// Each large piece of memory that a run asks for is refused in turn.
#[test]
fn f48_each_large_piece_of_memory_is_refused_in_turn() {
    let desk = desk();
    larger(&desk, 128);
    let args = "train --model larger --data uneven.json --batch-size 8 --max-steps 4 --save-every 2 --lora-rank 64 \
                --keep-checkpoints 9 --threads 1 --validation none --lr 0.001 --token-cache false";
    desk.run(&format!("{args} --out whole"), 0);
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    let program = std::env::current_exe().expect("this program");
    let dir = desk.path("run/checkpoints");
    let mut refused = 0;
    loop {
        if refused == 0 {
            desk.run(&format!("{args} --out run"), 0);
            for name in ["checkpoints/step-4", "adapter"] {
                std::fs::remove_dir_all(desk.path("run").join(name)).expect("removed");
            }
        }
        let mut child = Command::new(&program);
        child.args(["--exact", "memory::starved", "--ignored", "--nocapture"]);
        child.env("PADDOCK_PIECES", refused.to_string()).current_dir(desk.path(""));
        let Output { status, stderr, .. } = child.output().expect("this program starts");
        let err = String::from_utf8_lossy(&stderr);
        if status.code() == Some(0) {
            break;
        }
        assert_eq!(status.code(), Some(1), "{refused}: {status}\n{err}");
        for word in ["no memory left", "What was saved is safe", "core-cli plan", "--resume"] {
            assert!(err.contains(word), "piece {refused}: expected {word:?} in\n{err}");
        }
        let search = latest_good(&RealStorage, &dir).expect("a folder");
        assert!(search.bad.is_empty(), "piece {refused}: {:?}", search.bad);
        assert!(search.found.is_some_and(|found| found.step >= 2), "piece {refused}");
        refused += 1;
        assert!(refused < 500, "it never goes through");
    }
    println!("{refused} large pieces of memory refused, one in each of as many runs");
    assert!(refused > 5, "{refused}");
    assert_eq!(adapter("whole"), adapter("run"));
}

/// A checkpoint's way back into memory, in a program of its own that gets no large piece of memory for it.
#[test]
#[ignore = "started by the test below"]
fn restored() {
    if std::env::var_os("PADDOCK_RESTORED").is_none() {
        return;
    }
    let config = RunConfig {
        model: Some("larger".into()),
        data: vec!["uneven.json".into()],
        method: Method::Full,
        backend: BackendChoice::Cpu,
        validation: Validation::None,
        threads: Some(1),
        token_cache: false,
        ..RunConfig::default()
    };
    let setup = Setup::prepare(config, &mut Quiet).expect("a good set-up");
    let mut session = Session::plan(&setup).expect("a plan");
    session.begin().expect("memory");
    let dir = Path::new("kept");
    session.save(&RealStorage, dir, &Keep::default(), 1.0).expect("a checkpoint");
    let found = latest_good(&RealStorage, dir).expect("a folder").found.expect("a checkpoint");
    refuse_after(0);
    session.restore(&RealStorage, &found).expect("the state back");
    session.restore_weights(&RealStorage, &found).expect("the weights back");
    println!("\nrestored {} bytes", checkpoint_bytes(&session.model));
}

/// A checkpoint of full training is three times as large as what is trained. It must not be in memory beside that, or
/// a run that fits would not fit when it goes on.
#[test]
fn f49_going_on_takes_no_room_for_its_checkpoint() {
    let desk = desk();
    larger(&desk, 128);
    std::fs::create_dir(desk.path("kept")).expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "memory::restored", "--ignored", "--nocapture"]);
    child.env("PADDOCK_RESTORED", "1").current_dir(desk.path(""));
    let Output { status, stdout, stderr } = child.output().expect("this program starts");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{out}\n{err}");
    let bytes = out.lines().find_map(|line| line.strip_prefix("restored ")?.split(' ').next());
    let bytes: u64 = bytes.and_then(|text| text.parse().ok()).expect("how much was restored");
    println!("a checkpoint of {bytes} bytes is back, and nothing took 256 KiB at once");
    assert!(bytes > 10 << 20, "{bytes} bytes would hardly show");
}

/// Below some limit the program cannot go on. It must say so and leave what was saved as it was.
#[test]
fn f48_without_memory_it_ends_in_words_and_loses_nothing() {
    let desk = desk();
    larger(&desk, 128);
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
        let mut shell = Command::new("sh");
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
