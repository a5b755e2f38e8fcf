//! Studies, sweeps, and what tuning gained and lost, as a person runs them.

use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::Value;

const COLD: [&str; 4] = ["snow", "night", "sky", "black"];
const WARM: [&str; 4] = ["sun", "grass", "yellow", "green"];

/// A desk with 96 texts about warm and cold things, divided by a column.
fn desk() -> Desk {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    let mut rows = String::from("text,feeling,part\n");
    let fillers = ["is it", "say it", "in one word", "what is it", "one", "task"];
    for (i, filler) in fillers.iter().enumerate() {
        for j in 0..8 {
            let (things, feeling) = if j % 2 == 0 { (COLD, "c") } else { (WARM, "w") };
            let (a, b) = (things[j / 2], things[(j / 2 + i + 1) % 4]);
            let part = ["train", "train", "train", "validation", "test", "test"][i];
            rows.push_str(&format!("the {a} {filler} {b},{feeling},{part}\n"));
            rows.push_str(&format!("a {b} {filler} {a} .,{feeling},{part}\n"));
        }
    }
    std::fs::write(desk.path("things.csv"), rows).expect("rows");
    desk
}

const HEAD: &str = "model = \"model\"\ndata = [\"things.csv\"]\nsplit = { column = \"part\" }\n\
    template = \"jinja:{{ input }} ||| {{ output }}\"\nseeds = [1, 2]\nout = \"found\"\n\
    [task]\ninstruction = \"warm or cold ?\"\ninput = \"text\"\nlabel = \"feeling\"\n\
    answers = { c = \"cold\", w = \"warm\" }\n";

const METHODS: &str = "[[method]]\nkind = \"majority\"\n[[method]]\nkind = \"svm\"\nrows = [4, \"all\"]\n\
    [[method]]\nkind = \"prompt\"\nshots = [0, 4]\n\
    [[method]]\nkind = \"lora\"\nrows = [4]\nsettings = { max_steps = 2, lora_rank = 2 }\n\
    [[method]]\nkind = \"lora\"\nrows = [\"all\"]\npick = \"best\"\n\
    settings = { max_steps = 40, lora_rank = 8, lr = 0.03 }\n\
    [[method]]\nkind = \"full\"\nsettings = { max_steps = 40, lr = 0.01 }\n";

fn write(desk: &Desk, name: &str, text: &str) {
    std::fs::write(desk.path(name), text).expect("a file");
}

fn json(desk: &Desk, name: &str) -> Value {
    serde_json::from_slice(&desk.bytes(name)).expect("JSON")
}

fn variant<'v>(found: &'v Value, name: &str) -> &'v Value {
    let all = found["variants"].as_array().expect("variants");
    all.iter().find(|v| v["name"] == name).unwrap_or_else(|| panic!("{name} in {all:?}"))
}

#[test]
fn a_study_compares_goes_on_and_keeps_its_split() {
    let desk = desk();
    write(&desk, "study.toml", &format!("{HEAD}{METHODS}"));
    let (out, err) = desk.run("compare study.toml", 0);
    // Majority and zero-shot, SVM on all: one cell each; all others two.
    assert!(err.contains("[1/13]") && err.contains("[13/13]"), "{err}");
    assert!(out.contains("LoRA fine-tuning on 4 rows") && out.contains("report.html"), "{out}");
    let found = json(&desk, "found/results.json");
    let accuracy = |name: &str| variant(&found, name)["accuracy"]["mean"].as_f64().expect("it");
    assert_eq!(accuracy("majority label"), 0.5);
    // Things name their warmth, so words alone tell, and the toy can learn it.
    assert_eq!(accuracy("linear SVM on TF-IDF on all rows"), 1.0);
    assert!(accuracy("full fine-tuning on all rows") > 0.9, "{out}");
    let tuned = variant(&found, "LoRA fine-tuning on all rows");
    assert!(tuned["accuracy"]["mean"].as_f64() > Some(0.9), "{out}");
    assert!(tuned["learn_tokens"].as_u64() > Some(0) && tuned["memory_bytes"].as_u64() > Some(0));
    assert_eq!((&tuned["runs"], &tuned["used"]), (&Value::from(2), &Value::from(48)));
    let verdict = found["verdict"].as_str().expect("a verdict");
    assert!(verdict.contains("fine-tuning") && out.contains(verdict), "{verdict}");
    let page = String::from_utf8(desk.bytes("found/report.html")).expect("text");
    assert!(page.matches("<svg").count() == 2 && page.contains("Each way against each"));
    assert!(!page.contains("<script") && !page.contains("http"));
    let left = std::fs::read_dir(desk.path("found/cells")).expect("cells");
    assert!(left.flatten().all(|f| f.path().extension().is_some_and(|e| e == "json")));

    // Again: nothing is done twice, and nothing differs.
    let (again, err) = desk.run("compare study.toml", 0);
    assert!(err.contains("13 of 13 cells are done already") && !err.contains("[1/13]"), "{err}");
    assert_eq!(again, out);
    // A cell that is missing is done, alone, and comes out the same.
    let cells = std::fs::read_dir(desk.path("found/cells")).expect("cells");
    let lost = cells.flatten().map(|f| f.path());
    let lost = lost.filter(|p| p.display().to_string().contains("prompt-4-seed1")).last();
    let lost = lost.expect("the cell");
    let was: Value = serde_json::from_slice(&std::fs::read(&lost).expect("it")).expect("JSON");
    std::fs::remove_file(&lost).expect("it is gone");
    let (_, err) = desk.run("compare study.toml", 0);
    assert!(err.matches("[6/13]").count() == 1 && !err.contains("[7/13]"), "{err}");
    let now: Value = serde_json::from_slice(&std::fs::read(&lost).expect("it")).expect("JSON");
    assert_eq!(was["outcome"]["test"], now["outcome"]["test"]);

    // The split stays what it was.
    let split = desk.path("found/split/test.jsonl");
    let text = std::fs::read_to_string(&split).expect("test rows");
    std::fs::write(&split, text.replacen("cold", "warm", 1)).expect("a change");
    let (_, err) = desk.run("compare study.toml", 2);
    assert!(err.contains("its hash is another"), "{err}");
    std::fs::write(&split, text).expect("as it was");
    let more = std::fs::read_to_string(desk.path("things.csv")).expect("rows") + "a,c,train\n";
    write(&desk, "things.csv", &more);
    let (_, err) = desk.run("compare study.toml", 2);
    assert!(err.contains("made from other rows"), "{err}");
}

#[test]
fn a_study_without_a_model_and_by_shares() {
    let desk = desk();
    let head = HEAD.replace("{ column = \"part\" }", "{ validation = 0.2, test = 0.3 }");
    write(&desk, "study.toml", &format!("{head}[[method]]\nkind = \"svm\"\n"));
    let (out, _) = desk.run("compare study.toml --json", 0);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    let rows: Vec<u64> = found["split"]["sides"]
        .as_array()
        .expect("sides")
        .iter()
        .map(|side| side["rows"].as_u64().expect("rows"))
        .collect();
    assert_eq!(rows.iter().sum::<u64>(), 96);
    assert!((25..=33).contains(&rows[2]) && (15..=23).contains(&rows[1]), "{rows:?}");
    assert_eq!(found["model"], "none");
}

#[test]
fn bad_studies_are_refused_with_a_reason() {
    let desk = desk();
    let refused = |text: &str, reason: &str| {
        write(&desk, "bad.toml", text);
        let (_, err) = desk.run("compare bad.toml", 2);
        assert!(err.contains(reason), "{reason}: {err}");
        let _ = std::fs::remove_dir_all(desk.path("found"));
    };
    let svm = "[[method]]\nkind = \"svm\"\n";
    refused(&format!("modle = \"m\"\n{HEAD}{svm}"), "did you mean model?");
    refused(&format!("{HEAD}[[method]]\nkind = \"prompting\"\n"), "did you mean prompt?");
    refused(&format!("{HEAD}{svm}shots = [2]\n"), "has no shots");
    refused(&format!("{HEAD}{svm}{svm}"), "stands there twice");
    refused(&format!("{HEAD}{svm}rows = [1]\n"), "cannot show all 2 labels");
    refused(&format!("{HEAD}{svm}rows = [500]\n"), "there are 48 training rows");
    let tune = "[[method]]\nkind = \"lora\"\nsettings = ";
    refused(&format!("{HEAD}{tune}{{ seed = 2 }}\n"), "decided by the study");
    refused(&format!("{HEAD}{tune}{{ learning_rate = 2 }}\n"), "did you mean lr?");
    let no_label = HEAD.replace("\"feeling\"", "\"feelings\"");
    refused(&format!("{no_label}{svm}"), "there is no column `feelings`");
    refused(&format!("{}{svm}", HEAD.replace("w = \"warm\"", "w = \"cold\"")), "every row has the");
    let by_label = HEAD.replace("column = \"part\"", "column = \"feeling\"");
    refused(&format!("{by_label}{svm}"), "expected train, validation or test");
    refused(&format!("{}{svm}", HEAD.replace("split = { column = \"part\" }\n", "")), "[split]");
    refused(&format!("{}{svm}", HEAD.replace("[1, 2]", "[1, 1]")), "twice");

    let rows = std::fs::read_to_string(desk.path("things.csv")).expect("rows");
    let without: Vec<&str> = rows.lines().filter(|l| !l.ends_with(",w,test")).collect();
    write(&desk, "things.csv", &without.join("\n"));
    refused(&format!("{HEAD}{svm}"), "no test row has the label `warm`");
}

#[test]
fn answers_that_begin_with_each_other_are_told_apart() {
    let desk = desk();
    let head = HEAD.replace("w = \"warm\"", "w = \"cold snow\"");
    let tune = "[[method]]\nkind = \"full\"\nsettings = { max_steps = 40, lr = 0.01 }\n";
    write(&desk, "study.toml", &format!("{head}{tune}"));
    desk.run("compare study.toml", 0);
    let found = json(&desk, "found/results.json");
    let tuned = variant(&found, "full fine-tuning on all rows");
    assert!(tuned["accuracy"]["mean"].as_f64() > Some(0.9), "{tuned}");
}

#[test]
fn replayed_rows_keep_what_was_not_asked() {
    let desk = desk();
    toy::write_rows(&desk.path("others.json"), 40);
    let rows: String = (0..40)
        .map(|i| {
            let (thing, word) = [("sky", "snow"), ("sun", "one"), ("grass", "in")][i % 3];
            let end = ["", "say it", "in one word", "."][i % 4];
            format!("{{\"instruction\": \"what is {thing} {end}\", \"output\": \"{word}\"}}\n")
        })
        .collect();
    write(&desk, "task.jsonl", &rows);
    let train = "train --model model --data task.jsonl --method full --lr 0.01 --max-steps 40 --samples 0 \
                 --validation none --template alpaca";
    desk.run(&format!("{train} --out alone"), 0);
    let (_, err) =
        desk.run(&format!("{train} --out mixed --replay others.json --replay-share 0.5"), 0);
    assert!(err.contains("80 to learn from"), "{err}");
    let record = String::from_utf8(desk.bytes("mixed/run.toml")).expect("text");
    assert!(record.contains("others.json"), "{record}");
    let loss = |run: &str| {
        let args = format!("score --model {run}/model --data others.json --template alpaca");
        let (out, _) = desk.run(&args, 0);
        let nll = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            row["nll"].as_f64().expect("a number")
        };
        out.lines().map(nll).sum::<f64>()
    };
    assert!(loss("mixed") < 0.5 * loss("alone"));
    let (_, err) = desk.run(&format!("{train} --replay others.json --replay-share 1"), 2);
    assert!(err.contains("below 1"), "{err}");

    // The same, seen by the suite: rows of others.json lose, with intervals.
    let args = "eval --before mixed/model --after alone --suite others.json --template alpaca \
                --metric perplexity --json change.json --html change.html";
    let (out, _) = desk.run(args, 0);
    assert!(out.contains("Lost: others (loss +"), "{out}");
    let found = json(&desk, "change.json");
    assert_eq!(found["kinds"][0]["rows"], 40);
    assert!(found["kinds"][0]["p"].as_f64() < Some(0.01), "{found}");
    assert!(desk.bytes("change.html").starts_with(b"<!doctype html>"));

    // What gives single rows no score, and what cannot stand in one table, is refused.
    let (_, err) = desk.run(&args.replace("perplexity", "bleu").replace("change", "bleu"), 2);
    assert!(err.contains("row by row"), "{err}");
    let both = args.replace("--suite others.json", "--suite probes --suite others.json");
    let (_, err) = desk.run(&both.replace("change", "both"), 2);
    assert!(err.contains("one at a time"), "{err}");
    let none = "eval --model model --data others.json --template alpaca --max-new-tokens 0";
    let (_, err) = desk.run(none, 2);
    assert!(err.contains("at least 1"), "{err}");
}

#[test]
fn the_built_in_probes_are_asked_before_and_after() {
    let desk = desk();
    let train =
        "train --model model --data rows.json --max-steps 4 --samples 0 --lora-rank 4 --out run";
    desk.run(train, 0);
    let (out, _) = desk.run("eval --before model --after run --json change.json", 0);
    for kind in ["naming_entities", "copying", "arithmetic", "code_reading", "other_language"] {
        assert!(out.contains(kind), "{out}");
    }
    let found = json(&desk, "change.json");
    assert_eq!((&found["all"]["rows"], &found["suites"][0]), (&440.into(), &"probes".into()));
    assert_eq!(found["kinds"].as_array().map(Vec::len), Some(11));
    let (_, err) = desk.run("eval --before model --after nothing", 2);
    assert!(err.contains("nothing"), "{err}");
    let (_, err) = desk.run("eval --before model", 2);
    assert!(err.contains("--after"), "{err}");
}

#[test]
fn a_sweep_chooses_by_validation_tests_once_and_goes_on() {
    let desk = desk();
    toy::write_rows(&desk.path("held.json"), 20);
    let text = "out = \"found\"\ntest = \"held.json\"\n[run]\nmodel = \"model\"\ndata = [\"rows.json\"]\n\
                template = \"alpaca\"\nlora_rank = 8\nmax_steps = 12\n[vary]\nlr = [1e-6, 0.03]\n\
                rows = [16, \"all\"]\n";
    write(&desk, "sweep.toml", text);
    let (out, err) = desk.run("sweep sweep.toml", 0);
    assert!(err.contains("[4/4]"), "{err}");
    let found = json(&desk, "found/results.json");
    let best = found["best"].as_u64().expect("a place") as usize;
    let name = found["settings"][best]["setting"].as_str().expect("words");
    assert!(name.starts_with("lr = 0.03"), "{out}");
    assert!(out.contains("lr = 0.03 is the largest that was tried"), "{out}");
    assert_eq!((&found["test"]["looks"], &found["test"]["rows"]), (&1.into(), &20.into()));
    let measures = found["test"]["measures"].as_array().expect("measures");
    assert!(measures.iter().any(|m| m["name"] == "perplexity"), "{measures:?}");
    let runs = std::fs::read_dir(desk.path("found/cells")).expect("cells");
    assert_eq!(runs.flatten().filter(|f| f.path().is_dir()).count(), 1, "the best run stays");
    let (again, err) = desk.run("sweep sweep.toml", 0);
    assert!(!err.contains("[1/4]") && again == out, "{err}");

    // It grows: only what is new is run.
    write(&desk, "sweep.toml", &text.replace("0.03]", "0.03, 0.01]"));
    let (_, err) = desk.run("sweep sweep.toml", 0);
    assert_eq!(err.matches("/6] ").count(), 2, "{err}");
    write(&desk, "sweep.toml", &text.replace("lr = [", "lora_rnk = ["));
    let (_, err) = desk.run("sweep sweep.toml", 2);
    assert!(err.contains("did you mean lora_rank?"), "{err}");
}

#[test]
fn a_sweep_uses_nothing_again_that_was_found_otherwise() {
    let desk = desk();
    toy::write_rows(&desk.path("held.json"), 20);
    let text = "out = \"found\"\ntest = \"held.json\"\n[run]\nmodel = \"model\"\ndata = [\"rows.json\"]\n\
                template = \"alpaca\"\nlora_rank = 4\nmax_steps = 4\n[vary]\nlr = [1e-6, 0.03]\n";
    write(&desk, "sweep.toml", text);
    desk.run("sweep sweep.toml", 0);
    let looks = || json(&desk, "found/results.json")["test"]["looks"].as_u64();
    assert_eq!(looks(), Some(1));

    // Other test rows: they are looked at, and nothing is trained.
    toy::write_rows(&desk.path("held.json"), 24);
    let (_, err) = desk.run("sweep sweep.toml", 0);
    assert!(!err.contains("/2] ") && looks() == Some(2), "{err}");

    // A run that was taken away, and is to be tested again, is made again.
    let cells = std::fs::read_dir(desk.path("found/cells")).expect("cells");
    let runs = cells.flatten().map(|f| f.path()).filter(|p| p.is_dir());
    runs.for_each(|dir| std::fs::remove_dir_all(dir).expect("it is gone"));
    std::fs::remove_file(desk.path("found/test.json")).expect("it is gone");
    let (_, err) = desk.run("sweep sweep.toml", 0);
    assert!(err.contains("made again") && !err.contains("/2] "), "{err}");

    // What came of the runs is forgotten. The one that is still there has no checkpoints to go on from.
    let cells = std::fs::read_dir(desk.path("found/cells")).expect("cells");
    let files = cells.flatten().map(|f| f.path()).filter(|p| p.is_file());
    files.for_each(|file| std::fs::remove_file(file).expect("it is gone"));
    let (_, err) = desk.run("sweep sweep.toml", 0);
    assert!(err.contains("[1/2]") && err.contains("[2/2]"), "{err}");

    // Another measure: no score of the old one is used.
    write(&desk, "sweep.toml", &format!("choose_by = \"token_accuracy\"\n{text}"));
    let (_, err) = desk.run("sweep sweep.toml", 0);
    assert!(err.contains("[1/2]") && err.contains("[2/2]"), "{err}");
    let found = json(&desk, "found/results.json");
    let score = |i: usize| found["settings"][i]["mean"].as_f64().expect("a share");
    assert!((0.0..=1.0).contains(&score(0)) && (0.0..=1.0).contains(&score(1)), "{found}");
}

#[test]
fn final_answers_after_reasoning_may_be_voted_for() {
    let desk = desk();
    desk.run(
        "train --model model --data rows.json --method full --lr 0.02 --max-steps 200 --samples 0 --out run",
        0,
    );
    // Answers are such as `the sky is blue .`: what follows `is` is the final one.
    let args = "eval --model run/model --data rows.json --template alpaca --limit 20 \
                --metric final-answer --answer-after is";
    let right = |args: &str, file: &str| {
        desk.run(&format!("{args} --json {file}"), 0);
        let found = json(&desk, file);
        let measures = found["templates"][0]["measures"].as_array().expect("measures");
        let measure = measures.iter().find(|m| m["name"] == "final answer right");
        measure.expect("it")["value"].as_f64().expect("a share")
    };
    assert!(right(args, "one.json") > 0.9);
    assert!(right(&format!("{args} --votes 3 --temperature 0.3"), "three.json") > 0.9);
    let never = args.replace("--answer-after is", "--answer-after request");
    assert_eq!(right(&never, "none.json"), 0.0);
    // Templates of a file of pairs, as studies/reasoning has them.
    let pairs = "pairs:\n  - name: short\n    input: \"{instruction}\"\n    target: \"{output}\"\n";
    write(&desk, "asks.yaml", pairs);
    let (out, _) = desk.run(&args.replace("alpaca", "asks.yaml"), 0);
    assert!(out.contains("final answer right") && out.contains("short"), "{out}");
}

#[test]
fn a_held_out_cluster_is_asked_after_tuning_on_others() {
    let desk = desk();
    let pool = "text,feeling\nsnow is it,c\nsun is it,w\nnight say it,c\ngrass say it,w\n";
    write(&desk, "pool.csv", pool);
    toy::write_rows(&desk.path("more.json"), 60);
    let ask = "templates = [\"jinja:{{ instruction }} ||| {{ output }}\"]\n";
    let text = format!(
        "kind = \"transfer\"\nmodel = \"model\"\nheld_out = \"feelings\"\nnumbers = [1, 2]\n\
         shots = [0, 2]\nseeds = [1, 2]\nout = \"found\"\n\
         settings = {{ method = \"full\", lr = 0.01, max_steps = 3 }}\n\
         [cluster.feelings]\ndata = [\"pool.csv\"]\ntest_data = [\"things.csv\"]\n\
         templates = [\"jinja:{{{{ text }}}} ||| {{{{ feeling }}}}\", \
                      \"jinja:the {{{{ text }}}} ||| {{{{ feeling }}}}\"]\n\
         [cluster.one]\ndata = [\"rows.json\"]\n{ask}[cluster.two]\ndata = [\"more.json\"]\n{ask}"
    );
    write(&desk, "study.toml", &text);
    let (out, err) = desk.run("compare study.toml", 0);
    // The untuned model once; two numbers of clusters with two seeds each.
    assert!(err.contains("[1/5] the model as it is") && err.contains("[5/5]"), "{err}");
    assert!(out.contains("2 clusters, all templates each"), "{out}");
    let found = json(&desk, "found/results.json");
    let points = found["points"].as_array().expect("points");
    assert_eq!(points.len(), 6, "three numbers of clusters, two of worked examples");
    assert!(points[0]["against_base"].is_null() && points[1]["against_base"]["p"].is_number());
    let rows = |i: usize| found["runs"][i]["rows"].as_u64().expect("rows");
    assert_eq!((rows(0), rows(3)), (0, 180));
    assert!(rows(1) == 120 || rows(1) == 60, "one cluster: {}", rows(1));
    assert!(String::from_utf8(desk.bytes("found/report.html")).expect("text").contains("<svg"));
    let (again, err) = desk.run("compare study.toml", 0);
    assert!(again == out && !err.contains("[1/5]"), "{err}");

    let refused = |from: &str, to: &str, reason: &str| {
        write(&desk, "bad.toml", &text.replacen(from, to, 1));
        let (_, err) = desk.run("compare bad.toml", 2);
        assert!(err.contains(reason), "{reason}: {err}");
    };
    refused("rows.json", "things.csv", "and of the held-out cluster.feelings");
    refused("[1, 2]", "[1, 3]", "there are 2 other clusters");
    refused("held_out = \"feelings\"", "held_out = \"feeling\"", "which is no cluster here");
    refused("lr = 0.01", "seed = 3", "decided by the study");
}
