//! Settings of a run seen from outside: where rows come from, what a run starts from, what stops it.

use paddock_cli::run::config::RunConfig;
use paddock_cli::run::signals::Signals;
use paddock_cli::train::time::{by_counting, reckoned};
use paddock_cli::train::{Session, Setup};
use paddock_datasets::prepare::Quiet;
use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::Value;

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

const TRAIN: &str = "train --model model --batch-size 8 --lr 0.02 --epochs 4 --samples 1 \
                     --sample-tokens 4 --lora-rank 8";

fn evals(desk: &Desk, run: &str) -> Vec<Value> {
    let lines = desk.json_lines(&format!("{run}/metrics.jsonl"));
    lines.into_iter().filter(|l| l["kind"] == "eval").collect()
}

#[test]
fn validation_rows_may_have_a_file_of_their_own() {
    let desk = desk();
    toy::write_rows(&desk.path("held_out.json"), 25);
    // In other words than those that are trained on.
    let text = String::from_utf8(desk.bytes("held_out.json")).expect("text");
    std::fs::write(desk.path("held_out.json"), text.replace("what is", "say what is"))
        .expect("a file");
    let toml = "model = \"model\"\ndata = [\"rows.json\"]\nvalidation = \"held_out.json\"\nlora_rank = 8\n\
                max_steps = 4\nsamples = 1\nsample_tokens = 4\nout = \"run\"\n";
    std::fs::write(desk.path("RUN.toml"), toml).expect("a file");
    let (_, err) = desk.run("train RUN.toml", 0);
    assert!(err.contains("120 to learn from, 25 held out"), "{err}");
    assert_eq!(evals(&desk, "run")[0]["rows"], 25);
    // Both files are part of the record.
    let record = String::from_utf8(desk.bytes("run/run.toml")).expect("text");
    assert!(record.contains("held_out.json") && record.contains("rows.json"), "{record}");
}

#[test]
fn a_run_can_start_from_an_adapter() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --data rows.json --out first"), 0);
    let last = evals(&desk, "first").pop().expect("an evaluation");
    let next = format!("{TRAIN} --data rows.json --init-adapter first/adapter --out second");
    desk.run(&next, 0);
    let first = &evals(&desk, "second")[0];
    assert_eq!(first["step"], 0);
    let loss = |v: &Value| v["eval_loss"].as_f64().expect("a loss");
    // The second begins where the first ended.
    assert!((loss(first) - loss(&last)).abs() < 1e-5, "{first} after {last}");
    let full = next.replace("--out second", "--method full --out third");
    let (_, err) = desk.run(&full, 2);
    assert!(err.contains("init_adapter"), "{err}");
}

#[test]
fn the_time_is_told_before_the_first_step_and_finding_it_out_changes_no_bit() {
    let desk = desk();
    for method in ["lora --lora-dropout 0.1", "full"] {
        let args = format!("{TRAIN} --data rows.json --max-steps 9 --method {method}");
        let args = if method == "full" { args.replace(" --lora-rank 8", "") } else { args };
        let (_, err) = desk.run(&format!("{args} --out told"), 0);
        let (plan, course) = err.split_once("step 0:").expect("a look before the first step");
        assert!(plan.contains("\nTime       about ") && !course.contains("Time"), "{err}");
        // Programs that read events are told when the steps are there.
        let (events, _) = desk.run(&format!("{args} --out untold --events jsonl"), 0);
        let plan = events.lines().find(|line| line.contains("\"kind\":\"plan\"")).expect("a plan");
        assert!(!plan.contains("\"seconds\""), "{plan}");
        assert_eq!(desk.losses("told"), desk.losses("untold"));
        let file = match method {
            "full" => "model/model.safetensors",
            _ => "adapter/adapter_model.safetensors",
        };
        let bytes = |run: &str| desk.bytes(&format!("{run}/{file}"));
        assert_eq!(bytes("told"), bytes("untold"), "{method}");
        for run in ["told", "untold"] {
            std::fs::remove_dir_all(desk.path(run)).expect("a run");
        }
    }
}

#[test]
fn a_run_that_goes_on_tells_the_time_of_what_is_left() {
    let desk = desk();
    let args = format!("{TRAIN} --data rows.json --max-steps 4 --out run");
    desk.run(&args, 0);
    let (_, err) = desk.run(&format!("{args} --resume"), 0);
    assert!(err.contains("told after the first steps") && !err.contains("an estimate"), "{err}");
}

#[test]
fn time_is_counted_where_steps_would_take_long_and_the_session_begins_as_new() {
    let desk = desk();
    let path = |name: &str| Some(desk.path(name).display().to_string());
    let data = path("rows.json").into_iter().collect();
    let config = RunConfig { model: path("model"), data, lora_rank: 4, ..RunConfig::default() };
    let setup = Setup::prepare(config, &mut Quiet).expect("a good set-up");
    let mut session = Session::plan(&setup).expect("a plan");
    let (step_s, counted) = by_counting(&mut session).expect("operations are counted");
    assert!(step_s > 0.0 && counted.low > 0.0 && counted.low < counted.high, "{counted:?}");
    let signals = Signals::default();
    let tried = reckoned(&mut session, 1, &signals).expect("steps").expect("a time");
    assert!(tried.low > 0.0 && tried.low < tried.high, "{tried:?}");
    assert_eq!((session.run.step, session.run.rows_seen), (0, 0));
    // What does not fit is not tried.
    assert!(reckoned(&mut session, u64::MAX, &signals).expect("no steps").is_none());
}

#[test]
fn patience_may_watch_the_training_loss() {
    let desk = desk();
    let args = "train --model model --data rows.json --batch-size 8 --lr 3 --lr-schedule constant \
                --epochs 30 --validation none --patience 2 --early-stop-on train --eval-every 2 \
                --lora-rank 8 --out run";
    let (out, _) = desk.run(args, 0);
    assert!(out.contains("stopped early"), "{out}");
    assert!(desk.losses("run").len() < 450, "30 passes would be 450 steps");
    let (_, err) =
        desk.run(&args.replace("--early-stop-on train", "--early-stop-on validation"), 2);
    assert!(err.contains("patience"), "{err}");
}

#[test]
fn few_rows_give_up_a_fifth_at_most() {
    let desk = desk();
    toy::write_rows(&desk.path("few.json"), 60);
    let (_, err) = desk.run(&format!("{TRAIN} --data few.json --max-steps 1 --out run"), 0);
    let held_out = evals(&desk, "run")[0]["rows"].as_u64().expect("a number");
    assert!((6..=12).contains(&held_out), "{held_out} of 60");
    assert!(err.contains("rough guide"), "{err}");
}

#[test]
fn adam_and_adamw_differ_only_by_the_decay() {
    let desk = desk();
    let run = |name: &str, more: &str| {
        let args = "train --model model --data rows.json --method full --lr 0.01 --epochs 1 \
                    --validation none --shuffle false";
        desk.run(&format!("{args} {more} --out {name}"), 0);
        desk.losses(name)
    };
    let plain = run("a", "--optimizer adam");
    assert_eq!(plain, run("b", "--optimizer adamw"), "without decay they are one rule");
    let (decoupled, coupled) = (
        run("c", "--optimizer adamw --weight-decay 0.3"),
        run("d", "--optimizer adam --weight-decay 0.3"),
    );
    assert_eq!(plain[0], coupled[0]);
    assert!(plain != decoupled && plain != coupled && coupled != decoupled);
}

#[test]
fn f63_a_loss_spike_is_named_and_may_be_passed_over() {
    let desk = desk();
    // The last step of the pass holds rows unlike all others.
    toy::write_rows(&desk.path("good.json"), 696);
    let text = String::from_utf8(desk.bytes("good.json")).expect("text");
    let mut rows: Vec<Value> = serde_json::from_str(&text).expect("rows");
    let odd = |i: usize| {
        let words = ["task", "Below", "###", "an", "request"];
        let answer: Vec<&str> = (0..6).map(|j| words[(i + j) % 5]).collect();
        serde_json::json!({"instruction": "what", "input": "", "output": answer.join(" ")})
    };
    rows.extend((0..8).map(odd));
    std::fs::write(desk.path("rows.json"), serde_json::to_string(&rows).expect("rows"))
        .expect("a file");
    let args = "train --model model --data rows.json --batch-size 8 --lr 0.01 --epochs 1 --lora-rank 8 \
                --shuffle false --validation none --lr-schedule constant";
    let (_, warned) = desk.run(&format!("{args} --out warned"), 0);
    assert!(warned.contains("the loss jumped") && warned.contains("[696, 697"), "{warned}");
    let (out, skipped) = desk.run(&format!("{args} --loss-spike skip --out skipped"), 0);
    assert!(skipped.contains("nothing was changed by it"), "{skipped}");
    assert!(out.contains("passed over"), "{out}");
    let (_, off) = desk.run(&format!("{args} --loss-spike off --out off"), 0);
    assert!(!off.contains("jumped"), "{off}");
    assert_eq!(
        desk.bytes("warned/adapter/adapter_model.safetensors"),
        desk.bytes("off/adapter/adapter_model.safetensors")
    );
    assert_ne!(
        desk.bytes("warned/adapter/adapter_model.safetensors"),
        desk.bytes("skipped/adapter/adapter_model.safetensors")
    );
}

#[test]
fn f80_an_unknown_key_of_a_study_is_refused_before_anything_is_done() {
    let desk = desk();
    let compared = "model = \"model\"\ndata = [\"rows.json\"]\nsplit = { test = 0.2 }\nout = \"found\"\n\
                    [task]\ninstruction = \"say it\"\ninput = \"instruction\"\nlabel = \"output\"\n\
                    [[method]]\nkind = \"majority\"\n\
                    [[method]]\nkind = \"lora\"\nsettings = { lora_rnk = 2 }\n";
    let transferred = "kind = \"transfer\"\nmodel = \"model\"\nheld_out = \"a\"\nnumbers = [1]\nout = \"found\"\n\
                       settings = { batchsize = 2 }\n\
                       [cluster.a]\ntest_data = [\"a.json\"]\ntemplates = [\"alpaca\"]\n\
                       [cluster.b]\ndata = [\"b.json\"]\ntemplates = [\"alpaca\"]\n";
    let cases = [
        (compared, "method 2: settings: there is no key \"lora_rnk\"; did you mean lora_rank?"),
        (transferred, "settings: there is no key \"batchsize\"; did you mean batch_size?"),
    ];
    for (text, words) in cases {
        std::fs::write(desk.path("study.toml"), text).expect("a study");
        let (_, err) = desk.run("compare study.toml", 2);
        assert!(err.contains(words), "{err}");
        assert!(!desk.path("found").exists(), "nothing was begun");
    }
    // A value of another kind is found as early.
    let text = compared.replace("lora_rnk = 2", "lora_rank = \"two\"");
    std::fs::write(desk.path("study.toml"), text).expect("a study");
    let (_, err) = desk.run("compare study.toml", 2);
    assert!(err.contains("method 2: settings: lora_rank"), "{err}");
    assert!(!desk.path("found").exists(), "nothing was begun");
}
