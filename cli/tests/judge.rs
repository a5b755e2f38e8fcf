//! Judging as a person runs it: by a model, an endpoint, a person; and published judgements reproduced.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use paddock_tests::desk::Desk;
use paddock_tests::shared;
use serde_json::Value;

fn desk() -> Desk {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    let rows = |word: &str| -> String {
        let row = |i: usize| {
            format!("{{\"instruction\": \"what is the sky {i} ?\", \"output\": \"{word} {i}\"}}\n")
        };
        (0..4).map(row).collect()
    };
    std::fs::write(desk.path("blue.jsonl"), rows("blue")).expect("rows");
    std::fs::write(desk.path("green.jsonl"), rows("green")).expect("rows");
    desk
}

/// A server that answers with the replies in turn (the last one again and again): status and words. Returns
/// its address and what it was asked.
fn server(replies: Vec<(u16, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for (stream, number) in listener.incoming().flatten().zip(0usize..) {
            let mut from = BufReader::new(&stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                if from.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body).expect("a body");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let prompt = body["messages"][0]["content"].as_str().expect("a prompt").to_string();
            let (status, words) = &replies[number.min(replies.len() - 1)];
            // `?first`: the answer A if it is blue, B otherwise; for judges that look at the answers.
            let a = prompt.split("Answer A:").nth(1).unwrap_or_default().trim_start();
            let words = match words.as_str() {
                "?blue" if a.starts_with("blue") => "Blue is right.\nGrade: A",
                "?blue" => "Blue is right.\nGrade: B",
                other => other,
            };
            seen.lock().expect("no panic").push(prompt);
            let text =
                serde_json::json!({"choices": [{"message": {"content": words}}]}).to_string();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", text.len());
            let _ = (&stream).write_all(format!("{head}{text}").as_bytes());
        }
    });
    (address, asked)
}

fn said(status: u16, words: &str) -> (u16, String) {
    (status, words.to_string())
}

#[test]
fn an_endpoint_is_asked_again_after_nonsense_and_errors() {
    let desk = desk();
    let replies = vec![said(200, "I like it"), said(500, "no"), said(200, "Fine.\nGrade: 5")];
    let (address, asked) = server(replies);
    let args = format!("judge rate --answers blue.jsonl --judge {address} --out found.jsonl");
    let (out, _) = desk.run(&args, 0);
    assert!(out.contains("mean grade 5.00") && out.contains("5: 4 rows"), "{out}");
    assert_eq!(asked.lock().expect("no panic").len(), 6);
    let lines = desk.json_lines("found.jsonl");
    assert_eq!(
        (&lines[0]["grades"][0], &lines[0]["said"][0]),
        (&"5".into(), &"Fine.\nGrade: 5".into())
    );
    // Nothing is asked twice.
    let (again, err) = desk.run(&args, 0);
    assert!(again == out && err.contains("4 of 4 rows were judged already"), "{err}");
    assert_eq!(asked.lock().expect("no panic").len(), 6);
    // Judgements of other answers in the same file are passed over.
    let (out, err) = desk.run(&args.replace("blue", "green"), 0);
    assert!(out.contains("5: 4 rows"), "{out}");
    assert!(err.contains("4 other judgements") && err.contains("passed over"), "{err}");
}

#[test]
fn an_endpoint_that_fails_for_good_leaves_what_was_judged() {
    let desk = desk();
    let (address, _) = server(vec![said(200, "Grade: 2"), said(200, "Grade: 3"), said(200, "hm")]);
    let args = format!("judge rate --answers blue.jsonl --judge {address} --out found.jsonl");
    let (_, err) = desk.run(&args, 1);
    assert!(err.contains("row 2 could not be judged") && err.contains("names none"), "{err}");
    assert!(err.contains("the same command goes on"), "{err}");
    assert_eq!(desk.json_lines("found.jsonl").len(), 2);
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let down = format!(
        "judge rate --answers blue.jsonl --judge http://127.0.0.1:{port}/v1 --out none.jsonl --timeout 1"
    );
    let (_, err) = desk.run(&down, 1);
    assert!(err.contains("asked 4 times"), "{err}");
    let (_, err) = desk.run(&down.replace("http:", "https:"), 2);
    assert!(err.contains("plain http://"), "{err}");
}

#[test]
fn f15_judgements_are_not_written_over_what_is_read_or_into_another_file() {
    let desk = desk();
    let rate = "judge rate --answers blue.jsonl --against green.jsonl --judge person --out";
    for name in ["blue.jsonl", "green.jsonl"] {
        let before = desk.bytes(name);
        // Under whatever name, and before a line of it is taken for a judgement.
        let (_, err) = desk.run(&format!("{rate} ./{name}"), 2);
        assert!(err.contains("is one of the files that are read; name another file"), "{err}");
        assert_eq!(desk.bytes(name), before);
    }
    let before = desk.bytes("rows.json");
    let (_, err) = desk.run(&format!("{rate} rows.json"), 2);
    assert!(err.contains("rows.json: line 1 is no judgement"), "{err}");
    assert_eq!(desk.bytes("rows.json"), before);
}

#[test]
fn a_judge_who_goes_by_the_order_only_sees_ties() {
    let desk = desk();
    let pair = "judge rate --answers blue.jsonl --against green.jsonl";
    let (address, asked) = server(vec![said(200, "Grade: A")]);
    let (out, _) = desk.run(&format!("{pair} --judge {address} --out first.jsonl"), 0);
    assert!(out.contains("0 won, 4 equal, 0 lost"), "{out}");
    assert_eq!(asked.lock().expect("no panic").len(), 8, "both orders are shown");
    let (address, _) = server(vec![said(200, "?blue")]);
    let (out, _) = desk.run(&format!("{pair} --judge {address} --out blue-judge.jsonl"), 0);
    assert!(out.contains("wins 0.0%") && out.contains("0 won, 0 equal, 4 lost"), "{out}");
    let (out, _) = desk.run("judge agree first.jsonl blue-judge.jsonl", 0);
    assert!(out.contains("both judged 4 rows") && out.contains("agreement 50.0%"), "{out}");
    let (_, err) = desk.run(&format!("{pair} --rubric likert --judge person --out x.jsonl"), 2);
    assert!(err.contains("take --rubric pairwise"), "{err}");
}

#[test]
fn a_model_judges_and_a_person_does_blind() {
    let desk = desk();
    let rate = "judge rate --answers blue.jsonl --rubric absolute";
    let text = "name = \"colour\"\ntext = \"{{ question }} {{ answer }} {{ grades }}\"\n\
                [[grade]]\nname = \"cold\"\nvalue = 0\nmeans = \"it\"\n\
                [[grade]]\nname = \"warm\"\nvalue = 1\nmeans = \"it\"\n";
    std::fs::write(desk.path("colour.toml"), text).expect("a rubric");
    let own = rate.replace("absolute", "colour.toml");
    let (out, _) = desk.run(&format!("{own} --judge model --out model.jsonl"), 0);
    assert!(out.contains("judged    4 rows"), "{out}");

    let person = |typed: &str, code: i32| {
        let mut command = desk.command(&format!("{rate} --judge person --out person.jsonl"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("core-cli starts");
        child.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("typed");
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8_lossy(&output.stderr).to_string()
    };
    let shown = person("pass\nwhat\nq\n", 130);
    assert!(shown.contains("excellent") && shown.contains("Please type one of"), "{shown}");
    assert!(!shown.contains("blue.jsonl: row"), "blind: {shown}");
    assert_eq!(desk.json_lines("person.jsonl").len(), 1);
    person("fail\npass\nexcellent\n", 0);
    let lines = desk.json_lines("person.jsonl");
    assert_eq!(lines.len(), 4);
    let order: Vec<u64> = lines.iter().map(|l| l["row"].as_u64().expect("a row")).collect();
    assert_ne!(order, [0, 1, 2, 3], "rows are shuffled");
}

#[test]
fn published_win_rates_are_reproduced() {
    let Some(folder) = shared("data/eval") else { return };
    let desk = desk();
    let show = |file: String| {
        let output = desk.command("judge show --json").arg(folder.join(file)).output();
        let output = output.expect("core-cli starts");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    // AlpacaEval's leaderboard (annotator alpaca_eval_gpt4).
    for (name, rate) in
        [("alpaca-7b", 26.46), ("llama-2-7b-chat-hf", 71.37), ("text_davinci_001", 15.17)]
    {
        let found = show(format!("alpaca_eval/annotations/{name}.alpaca_eval_gpt4.json.gz"));
        let value = 100.0 * found["value"]["value"].as_f64().expect("a rate");
        assert!((value - rate).abs() < 0.005, "{name}: {value}");
    }
    // Sums of scores in the announcement of Vicuna.
    for (name, sums) in [
        ("llama-13b", [513.0, 694.0]),
        ("alpaca-13b", [583.0, 704.0]),
        ("bard", [664.0, 655.5]),
        ("gpt35", [693.0, 638.0]),
    ] {
        let found = show(format!(
            "vicuna_eval_2023/review/vicuna-13b_20230322-clean-lang/review_{name}_vicuna-13b.jsonl.gz"
        ));
        assert_eq!(found["scores"], serde_json::json!(sums), "{name}");
    }
}
