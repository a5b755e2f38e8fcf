//! Rows that a run answers before and after: what becomes of their judgement when the run goes on with others.

use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::Value;

/// Rows to judge by that are not trained on.
fn desk() -> Desk {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    toy::write_rows(&desk.path("test.json"), 24);
    let text = String::from_utf8(desk.bytes("test.json")).expect("text");
    std::fs::write(desk.path("test.json"), text.replace("what is", "say what is")).expect("a file");
    desk
}

const TRAIN: &str = "train --model model --data rows.json --test test.json --batch-size 8 --max-steps 2 \
                     --samples 0 --validation none --out run --events jsonl";
const RESUME: &str = "train --resume --out run --allow-changes --events jsonl";

/// How many rows were judged, with the loss before training.
fn judged(out: &str) -> Option<(u64, f64)> {
    let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let found = events.into_iter().find(|event| event["kind"] == "judged")?;
    Some((found["rows"].as_u64()?, found["base_loss"].as_f64()?))
}

fn warnings(out: &str) -> String {
    out.lines().filter(|line| line.contains("\"kind\":\"warning\"")).collect()
}

#[test]
fn a_run_goes_on_with_another_number_of_test_rows() {
    let desk = desk();
    let (out, _) = desk.run(&format!("{TRAIN} --lora-rank 4 --test-rows 12"), 0);
    assert_eq!(judged(&out).map(|(rows, _)| rows), Some(12), "{out}");
    // None at all: the file is still what the run was made from.
    let (out, _) = desk.run(&format!("{RESUME} --max-steps 3 --test-rows 0"), 0);
    assert_eq!(judged(&out), None, "{out}");
    // Below an adapter the model is what it was, so it is asked anew: as if it had been asked at the start.
    let (out, _) = desk.run(&format!("{RESUME} --max-steps 4 --test-rows 6"), 0);
    let later = judged(&out).expect("a judgement");
    assert!(later.0 == 6 && !warnings(&out).contains("not judged"), "{out}");
    let start = TRAIN.replace("--out run", "--out other");
    let (out, _) = desk.run(&format!("{start} --lora-rank 4 --test-rows 6"), 0);
    assert_eq!(judged(&out), Some(later), "{out}");
    // The file itself must stay.
    let text = String::from_utf8(desk.bytes("test.json")).expect("text");
    std::fs::write(desk.path("test.json"), text.replace("blue", "cold")).expect("a file");
    let (_, err) = desk.run(&format!("{RESUME} --max-steps 5 --test-rows 0"), 2);
    assert!(err.contains("test.json") && err.contains("the run cannot go on"), "{err}");
}

#[test]
fn a_run_that_was_begun_without_test_rows_takes_some_later() {
    let desk = desk();
    let (out, _) = desk.run(&format!("{TRAIN} --lora-rank 4 --test-rows 0"), 0);
    assert_eq!(judged(&out), None, "{out}");
    let (out, _) = desk.run(&format!("{RESUME} --max-steps 4 --test-rows 6"), 0);
    assert_eq!(judged(&out).map(|(rows, _)| rows), Some(6), "{out}");
}

#[test]
fn after_full_training_other_test_rows_cannot_be_compared_and_that_is_said() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --method full --test-rows 12"), 0);
    let (out, _) = desk.run(&format!("{RESUME} --max-steps 4 --test-rows 6"), 0);
    assert_eq!(judged(&out), None, "{out}");
    let said = warnings(&out);
    for words in
        ["12 test rows were asked before", "6 would be now", "--test-rows that it was begun"]
    {
        assert!(said.contains(words), "{words}: {out}");
    }
    // With the same number as before, it is judged.
    let (out, _) = desk.run(&format!("{RESUME} --max-steps 6 --test-rows 12"), 0);
    assert_eq!(judged(&out).map(|(rows, _)| rows), Some(12), "{out}");
}
