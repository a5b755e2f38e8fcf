//! Faults of data files: each ends in a message that says what to do, and exit code 2, before any training; or is
//! counted, where that is the policy.

use paddock_tests::desk::Desk;
use paddock_tests::toy;
use serde_json::{Value, json};

fn desk() -> Desk {
    Desk::new(env!("CARGO_BIN_EXE_core-cli"))
}

fn write(desk: &Desk, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(desk.path(name), text).expect("a file");
}

fn plan(data: &str) -> String {
    format!("plan --no-probe --lora-rank 4 --model model --data {data}")
}

/// The message must hold all of the words.
fn refuses(desk: &Desk, command: &str, words: &[&str]) {
    let (_, err) = desk.run(command, 2);
    for word in words {
        assert!(err.contains(word), "{command}: expected {word:?} in\n{err}");
    }
}

fn row(question: &str, answer: &str) -> String {
    format!("{}\n", json!({"instruction": question, "output": answer}))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn f26_other_encodings_are_named_and_bad_bytes_have_a_place() {
    let desk = desk();
    let good = row("what is it", "it is");
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(&desk, "wide.jsonl", [&[0xff, 0xfe][..], &utf16].concat());
    refuses(&desk, &plan("wide.jsonl"), &["wide.jsonl: is encoded as UTF-16", "save it as UTF-8"]);
    let bad = [good.as_bytes(), b"{\"instruction\": \"\xff\"}\n", b"{\"a\": \"\0\"}\n"].concat();
    write(&desk, "bad.jsonl", &bad);
    let words =
        ["row 1 (line 2, byte 46): not valid UTF-8 (byte 0xff at byte 17", "holds a NUL byte"];
    refuses(&desk, &plan("bad.jsonl"), &words);
    // A byte-order mark changes no column's name, and skipping counts.
    write(&desk, "mark.jsonl", [b"\xef\xbb\xbf", good.repeat(40).as_bytes(), &bad[46..]].concat());
    let (out, err) = desk.run(&format!("{} --skip-bad true", plan("mark.jsonl")), 0);
    assert!(err.contains("a UTF-8 byte-order mark at the start was ignored"), "{err}");
    assert!(out.contains("2 rows left out: unreadable"), "{out}");
}

#[test]
fn f27_broken_lines_are_all_told_the_first_twenty_in_full() {
    let desk = desk();
    let mut text = row("what is it", "it is");
    (0..30).for_each(|n| text.push_str(if n % 2 == 0 { "{\"instruction\": \n" } else { "[1]\n" }));
    write(&desk, "broken.jsonl", &text);
    let words = [
        "30 rows cannot be used (rows count from 0, lines from 1):",
        "row 1 (line 2, byte 46): broken JSON",
        "line 1 column 16",
        "found a list where one object a row was expected",
        "row 20 (line 21",
        "… and 10 more",
        "--skip-bad",
    ];
    refuses(&desk, &plan("broken.jsonl"), &words);
    let (out, _) = desk.run("data inspect broken.jsonl", 0);
    assert!(out.contains("1 good, 30 bad") && out.contains("… and 10 more"), "{out}");
}

#[test]
fn f28_tables_follow_rfc_4180_and_name_their_columns() {
    let desk = desk();
    let table = "instruction,output\r\n\"what, \"\"is\"\"\r\nit\",\"it is\"\r\n".to_string();
    write(&desk, "good.csv", table.clone() + &"a,b\r\n".repeat(40));
    let (out, _) = desk.run("data template render --data good.csv --rows 1 --json", 0);
    let first: Value = serde_json::from_str(&out).expect("JSON");
    assert!(first["input"].as_str().is_some_and(|t| t.contains("what, \"is\"\r\nit")), "{first}");
    write(&desk, "ragged.csv", table + "a,b,c\r\nd\r\n");
    let words = ["2 rows cannot be used", "has 3 fields, the header has 2", "(line 4"];
    refuses(&desk, &plan("ragged.csv"), &words);
    let open = "instruction,output\n\"5\"\" disk\",\"a \"\"good\"\" one\"\n".to_string();
    write(&desk, "open.csv", open.clone() + "the 5\" disk,good\nwhat,\"is\nit,it\n");
    let words = ["row 2 (line 4", "has a quote that is never closed"];
    refuses(&desk, &plan("open.csv"), &words);
    write(&desk, "shut.csv", open.replace("good\"\"", "good\"\"\"\"") + "what,\"is \"\"it\"\"\"");
    desk.run(&plan("shut.csv"), 0);
    write(&desk, "head.csv", "instruction,\"output\nwhat,it\n");
    refuses(&desk, &plan("head.csv"), &["has a header with a quote that is never closed"]);
    write(&desk, "semicolons.csv", "frage;antwort\nwas;das\n");
    let words =
        ["fields are separated by ';'", "--columns prompt=NAME", "columns here: frage, antwort"];
    refuses(&desk, &plan("semicolons.csv"), &words);
    let mapped =
        format!("{} --columns prompt=question --columns answer=antwort", plan("semicolons.csv"));
    refuses(&desk, &mapped, &["has no column `question`; it has frage, antwort"]);
}

#[test]
fn f29_empty_data_are_refused_and_small_ones_train() {
    let desk = desk();
    write(&desk, "none.jsonl", "");
    refuses(&desk, &plan("none.jsonl"), &["none.jsonl: is empty"]);
    write(&desk, "header.csv", "instruction,output\n");
    refuses(&desk, &plan("header.csv"), &["0 usable rows of 0: there are none"]);
    let long = "what ".repeat(200);
    write(&desk, "useless.jsonl", row("what", "") + &row(&long, "it") + &row("is", " "));
    let words = ["0 usable rows of 3: 2 with an empty answer (rows 0, 2); 1 too long (rows 1)"];
    refuses(&desk, &plan("useless.jsonl"), &words);
    write(&desk, "small.jsonl", row("what is the sky", "blue") + &row("what is snow", "cold"));
    let train = "train --lora-rank 4 --model model --data small.jsonl --batch-size 16 --max-steps 2 --out run";
    desk.run(train, 0);
    assert!(desk.path("run/adapter/adapter_model.safetensors").is_file());
}

#[test]
fn f30_rows_without_an_answer_are_counted_and_left_out() {
    let desk = desk();
    let mut text = row("what is the sky", "blue").repeat(40);
    text.push_str("{\"instruction\": \"is it\", \"output\": null}\n");
    text.push_str(&row("is it", ""));
    write(&desk, "gaps.jsonl", &text);
    let (out, _) = desk.run(&plan("gaps.jsonl"), 0);
    assert!(out.contains("2 rows left out: with an empty answer"), "{out}");
    let (out, _) = desk.run("data inspect gaps.jsonl", 0);
    assert!(out.contains("2 rows with an empty answer: rows 40, 41"), "{out}");
    write(&desk, "missing.jsonl", text + "{\"instruction\": \"is it\"}\n");
    refuses(&desk, &plan("missing.jsonl"), &["row 42", "there is no column \"output\""]);
}

#[test]
fn f31_equal_rows_are_counted_and_never_on_both_sides() {
    let desk = desk();
    let rows: String = (0..60).map(|n| row(&format!("what is {}", n % 20), "it")).collect();
    write(&desk, "equal.jsonl", rows);
    let (_, err) = desk.run(&plan("equal.jsonl"), 0);
    assert!(err.contains("rows are equal to others; they are used"), "{err}");
    let (out, _) = desk.run("data inspect equal.jsonl", 0);
    assert!(out.contains("40 rows equal to an earlier row"), "{out}");
    desk.run("data split equal.jsonl --out sides --validation 0.3", 0);
    let side = |name: &str| desk.json_lines(&format!("sides/{name}.jsonl"));
    let (train, held) = (side("train"), side("validation"));
    assert!(!held.is_empty() && held.iter().all(|row| !train.contains(row)));
    let (out, _) = desk.run("data dedupe equal.jsonl --out once.jsonl", 0);
    assert!(out.contains("40 of 60 rows would go") && desk.json_lines("once.jsonl").len() == 20);
}

/// So many rows like those of rows.json, in words that it does not have.
fn unseen(desk: &Desk, count: usize) -> Vec<Value> {
    toy::write_rows(&desk.path("unseen.json"), count);
    let text = String::from_utf8(desk.bytes("unseen.json")).expect("text");
    let text = text.replace("what is", "say what is");
    serde_json::from_str(&text).expect("rows")
}

#[test]
fn f27_broken_rows_of_a_validation_file_are_refused_or_counted() {
    let desk = desk();
    let rows: Vec<String> = unseen(&desk, 25).iter().map(Value::to_string).collect();
    let text = format!(
        "{}\n{{\"instruction\": \nnot JSON\n{{\"instruction\": \"a\", \"output\": \"\"}}\n",
        rows.join("\n")
    );
    write(&desk, "held.jsonl", text);
    let with = format!("{} --validation held.jsonl", plan("rows.json"));
    refuses(&desk, &with, &["held.jsonl", "row 25"]);
    let (out, err) = desk.run(&format!("{with} --skip-bad true"), 0);
    let words = "held.jsonl: rows that are not judged by: 1 with an empty answer, 2 unreadable";
    assert!(out.contains("120 to learn from, 25 held out") && err.contains(words), "{out}{err}");
}

#[test]
fn f31_rows_of_a_validation_file_that_are_trained_on_are_left_out() {
    let desk = desk();
    let seen: Vec<Value> = serde_json::from_slice(&desk.bytes("rows.json")).expect("rows");
    let unseen = unseen(&desk, 25);
    let both = [&seen[..30], &unseen].concat();
    write(&desk, "both.json", json!(both).to_string());
    write(&desk, "unseen.json", json!(unseen).to_string());
    let words = "30 held-out rows have a text that is trained on too; they were left out";
    // Read, from the token cache, and without one.
    for cache in ["true", "true", "false"] {
        let (out, err) = desk
            .run(&format!("{} --validation both.json --token-cache {cache}", plan("rows.json")), 0);
        assert!(
            err.contains(words) && out.contains("120 to learn from, 25 held out"),
            "{out}{err}"
        );
    }
    let (out, err) = desk.run(&format!("{} --validation unseen.json", plan("rows.json")), 0);
    assert!(!err.contains("left out") && out.contains("25 held out"), "{out}{err}");
    let all = format!("{} --validation rows.json", plan("rows.json"));
    refuses(&desk, &all, &["rows.json: the text of every row is trained on too (120 rows)", "0.1"]);

    // Rows that come back by replay count, and whoever judges later asks the very rows that are left.
    let train = "train --lora-rank 4 --model model --max-steps 2 --samples 0 --data unseen.json \
                 --replay rows.json --replay-share 0.9 --validation both.json --out run";
    refuses(&desk, train, &["both.json: the text of every row"]);
    let train = "train --lora-rank 4 --model model --max-steps 2 --samples 0 --data rows.json \
                 --validation both.json --out run";
    desk.run(train, 0);
    let held: Value = serde_json::from_slice(&desk.bytes("run/held_out.json")).expect("JSON");
    let rows: Vec<u64> = (30..55).collect();
    assert_eq!((&held["data"], &held["rows"]), (&json!(["both.json"]), &json!(rows)));
    let eval = "eval --model model --adapter run/adapter --metric exact-match --held-out-by run \
                --json found.json";
    desk.run(eval, 0);
    let found: Value = serde_json::from_slice(&desk.bytes("found.json")).expect("JSON");
    assert_eq!(found["templates"][0]["rows"].as_array().map(Vec::len), Some(25));
}

#[test]
fn f31_test_rows_that_are_trained_on_are_left_out() {
    let desk = desk();
    let seen: Vec<Value> = serde_json::from_slice(&desk.bytes("rows.json")).expect("rows");
    write(&desk, "both.json", json!([&seen[..10], &unseen(&desk, 10)].concat()).to_string());
    let with = |test: &str| format!("{} --validation none --test {test}", plan("rows.json"));
    let (_, err) = desk.run(&with("both.json"), 0);
    let words = "10 test rows have a text that is trained on too; they were left out";
    assert!(err.contains(words), "{err}");
    refuses(&desk, &with("rows.json"), &["every test row is trained on", "--test-rows 0"]);
    let (_, err) = desk.run(&with("rows.json --test-rows 0"), 0);
    assert!(!err.contains("test row"), "{err}");
}

#[test]
fn f27_broken_test_rows_are_told_or_left_out_and_counted() {
    let desk = desk();
    let good: String = (0..4).map(|n| row(&format!("say what day {n} is"), "it")).collect();
    let long = row("say what day it is", &"what ".repeat(200));
    write(&desk, "test.jsonl", format!("{good}{{\"instruction\": \n{long}"));
    let with = |test: &str| format!("{} --validation none --test {test}", plan("rows.json"));
    let words = ["1 row cannot be used", "row 4 (line 5", "broken JSON", "--skip-bad"];
    refuses(&desk, &with("test.jsonl"), &words);
    let (_, err) = desk.run(&with("test.jsonl --skip-bad true"), 0);
    let words = "test.jsonl: rows that are not asked: 1 unreadable; 1 too long (rows 5)";
    assert!(err.contains(words), "{err}");
    // What ends the file early is never passed over.
    let many: String = (0..3000).map(|n| row(&format!("say what day {n} is"), "it")).collect();
    let packed = gzip(many.as_bytes());
    write(&desk, "test.jsonl.gz", &packed[..packed.len() - 100]);
    let words = ["test.jsonl.gz", "reading stopped"];
    refuses(&desk, &with("test.jsonl.gz --skip-bad true"), &words);
}

#[test]
fn f31_a_mixture_is_told_from_its_validation_file_by_text() {
    let desk = desk();
    // Rows that are trained on in other words than those they would be judged by.
    let long = |n: usize| format!("what is the colour of the sky on day {n} in one word ?");
    let rows =
        |from: usize| -> String { (from..from + 40).map(|n| row(&long(n), "blue")).collect() };
    write(&desk, "set.jsonl", rows(0));
    write(&desk, "held.jsonl", rows(10));
    let toml = "model = \"model\"\nlora_rank = 4\nvalidation = \"held.jsonl\"\n\
                template = \"alpaca\"\n[[mixture]]\ndata = \"set.jsonl\"\n\
                template = \"mine.yaml\"\n";
    let yaml = "templates:\n  a:\n    name: a\n    jinja: '{{ instruction }} ||| {{ output }}'\n";
    write(&desk, "mine.yaml", yaml);
    write(&desk, "RUN.toml", toml);
    let (out, err) = desk.run("plan --no-probe RUN.toml", 0);
    assert!(err.contains("30 held-out rows have a text that is trained on too"), "{err}");
    assert!(out.contains("10 held out"), "{out}");
    // A long text that all rows share, as a system prompt is, makes no two of them equal.
    let shared = |line: String| {
        let system =
            "you answer in one word as briefly as ever you can and never say more than that";
        line.replacen('{', &format!("{{\"system\": \"{system}\", "), 1)
    };
    let rows = |from: usize| -> String {
        (from..from + 40).map(|n| shared(row(&format!("colour on day {n} ?"), "blue"))).collect()
    };
    write(&desk, "set.jsonl", rows(0));
    write(&desk, "held.jsonl", rows(100));
    let (out, err) = desk.run("plan --no-probe RUN.toml", 0);
    assert!(out.contains("40 held out"), "{out}");
    assert!(!err.contains("trained on too"), "{err}");
}

#[test]
fn f32_long_rows_follow_the_stated_policy() {
    let desk = desk();
    let long = "what ".repeat(120);
    let text = row("what is it", "it is").repeat(40) + &row(&long, "it") + &row("what", &long);
    write(&desk, "long.jsonl", text);
    let with = |policy: &str| format!("{} --over-length {policy}", plan("long.jsonl"));
    let (out, err) = desk.run(&with("drop"), 0);
    assert!(out.contains("2 rows left out: too long"), "{out}");
    let words = "2 rows are left out, because they are longer than 96 tokens; this model takes";
    assert!(err.contains(words), "{err}");
    let (out, err) = desk.run(&with("cut_prompt"), 0);
    assert!(out.contains("1 rows left out: whose answer alone is too long"), "{out}");
    let words = "1 rows are left out and the prompts of 1 are cut at their beginning";
    assert!(err.contains(words), "{err}");
    // The limit is named with the setting that it comes from.
    for flag in ["--max-seq-len", "--micro-batch-tokens"] {
        let (_, err) = desk.run(&format!("{} {flag} 80", with("drop")), 0);
        let words = format!("longer than 80 tokens; a larger {flag} would keep them whole");
        assert!(err.contains(&words), "{err}");
    }
    refuses(&desk, &with("refuse"), &["row 40 has", "more than the limit of 96", "--over-length"]);
}

#[test]
fn f33_archives_are_refused_and_bombs_stop() {
    let desk = desk();
    write(&desk, "a.zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00");
    refuses(&desk, &plan("a.zip"), &["a.zip: is a zip archive", "packed by gzip or zstd"]);
    let mut tar = vec![0; 1024];
    tar[..16].copy_from_slice(b"../../etc/passwd");
    tar[257..262].copy_from_slice(b"ustar");
    for (name, bytes) in [("a.tar", tar.clone()), ("a.tar.gz", gzip(&tar))] {
        write(&desk, name, bytes);
        refuses(&desk, &plan(name), &[name, "is a tar archive", "unpack it"]);
    }
    write(&desk, "model.pkl", b"\x80\x04\x95");
    refuses(&desk, &plan("model.pkl"), &["is a Python pickle, which could run code"]);
    // 200 MB of blanks in 200 kB.
    let mut bomb = row("what", "it").into_bytes();
    bomb.resize(200 << 20, b' ');
    write(&desk, "bomb.jsonl.gz", gzip(&bomb));
    refuses(&desk, &plan("bomb.jsonl.gz"), &["no ordinary data file", "Unpack it by hand"]);
}

#[test]
fn f34_data_that_changed_are_noticed_when_a_run_goes_on() {
    let desk = desk();
    let train =
        "train --lora-rank 4 --model model --data rows.json --max-steps 2 --samples 0 --out run";
    desk.run(train, 0);
    let text = String::from_utf8(desk.bytes("rows.json")).expect("text");
    write(&desk, "rows.json", text.replace("blue", "cold"));
    let resume = "train --resume --out run --max-steps 4 --allow-changes";
    let words = ["the run cannot go on", "rows.json", "other contents", "Put the old files back"];
    refuses(&desk, resume, &words);
    write(&desk, "rows.json", text);
    desk.run(resume, 0);
}

#[test]
fn f35_a_huge_row_is_refused_and_the_rest_is_read() {
    let desk = desk();
    let huge = "x".repeat(65 << 20);
    let text = row("what is it", "it is").repeat(40);
    write(&desk, "huge.jsonl", format!("{text}{}{text}", row(&huge, "it")));
    let words =
        ["1 row cannot be used", "row 40 (line 41", "longer than the row limit of 67108864 bytes"];
    refuses(&desk, &plan("huge.jsonl"), &words);
    let (out, _) = desk.run("data stats huge.jsonl --json", 0);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&found["rows"], &found["bad"]), (&json!(80), &json!(1)));
}
