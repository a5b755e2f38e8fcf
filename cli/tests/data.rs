//! `core-cli data …` on small made-up files: what it shows, writes and refuses.

use std::fmt::Write as _;

use paddock_tests::desk::Desk;
use serde_json::{Value, json};

/// 60 reviews with labels, a group column, and near twins.
fn desk() -> Desk {
    let desk = Desk::new(env!("CARGO_BIN_EXE_core-cli"));
    let mut lines = String::new();
    for n in 0..60 {
        let word = if n % 3 == 0 { "dull" } else { "fine" };
        let text =
            format!("item {} of shop {n} was {word} on day {} said buyer {}", n * 7, n + 3, n * n);
        let row = json!({"text": text, "label": u8::from(n % 3 != 0), "shop": n / 6, "day": n});
        let _ = writeln!(lines, "{row}");
    }
    std::fs::write(desk.path("reviews.jsonl"), lines).expect("a file");
    desk
}

fn json_file(desk: &Desk, name: &str) -> Value {
    serde_json::from_slice(&desk.bytes(name)).expect("JSON")
}

#[test]
fn a_file_is_inspected() {
    let desk = desk();
    std::fs::write(desk.path("odd.jsonl"), "{\"a\":1}\n{\"a\":}\n{\"a\":1}\n").expect("a file");
    let (out, err) = desk.run("data inspect reviews.jsonl --model model", 0);
    assert!(err.contains("jsonl (table)"), "{err}");
    assert!(out.contains("likely labels: column label with 0 (20 rows), 1 (40 rows)"), "{out}");
    assert!(out.contains("lengths in tokens") && out.contains('█'), "{out}");
    let (out, _) = desk.run("data inspect odd.jsonl", 0);
    assert!(out.contains("2 good, 1 bad") && out.contains("line 2"), "{out}");
    assert!(out.contains("1 rows equal to an earlier row: rows 2"), "{out}");
    let (out, _) = desk.run("data inspect rows.json --json", 0);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["layout"], "alpaca");
    assert_eq!(found["found"]["rows"], 120);
}

#[test]
fn templates_are_listed_shown_checked_and_rendered() {
    let desk = desk();
    let (out, _) = desk.run("data template list", 0);
    assert_eq!(out.matches("cluster:").count(), 15, "{out}");
    let (out, _) = desk.run("data template show cluster:sentiment/terse", 0);
    assert!(out.contains("reads     label, text") && out.contains("Sentiment: |||"), "{out}");
    let render = "data template render --template cluster:sentiment/terse --data reviews.jsonl";
    let (out, _) = desk.run(&format!("{render} --json"), 0);
    let first: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((out.lines().count(), &first["target"]), (60, &json!("negative")));
    assert_eq!(first["template"], "sentiment/terse");
    let (out, _) = desk.run(&format!("{render} --model model --rows 1"), 0);
    assert!(out.contains("‹") && out.contains('⟦') && !out.contains('\x1b'), "{out}");

    let (_, err) = desk.run("data template show cluster:sentimnet", 2);
    assert!(err.contains("did you mean sentiment?"), "{err}");
    let yaml = "templates:\n  a:\n    name: a\n    jinja: |-\n      Hm\n      {{ txet }} ||| {{ label }}\n  \
                b:\n    name: b\n    jinja: '{{ text }} ||| {{ \"\" }}'\n  c:\n    name: c\n    jinja: '{{ text '\n";
    std::fs::write(desk.path("mine.yaml"), yaml).expect("a file");
    let (out, _) = desk.run("data template check mine.yaml --data reviews.jsonl", 2);
    assert!(out.contains("template a, line 2, column 4: there is no column \"txet\""), "{out}");
    assert!(out.contains("did you mean \"text\"") && out.contains("\n     ^"), "{out}");
    assert!(out.contains("60 of 60 rows have an empty answer"), "{out}");
    assert!(
        out.contains("template c, line 1") && out.contains("0 of 3 templates are good"),
        "{out}"
    );
    desk.run("data template check cluster:sentiment --data reviews.jsonl", 0);

    // A chat template is the model's own, and may tell the day.
    let settings = std::fs::read_to_string(desk.path("model/tokenizer_config.json")).ok();
    let mut settings: Value =
        settings.map_or(json!({}), |text| serde_json::from_str(&text).expect("JSON"));
    settings["chat_template"] = json!(
        "{{ strftime_now('%Y') }}{% for m in messages %} {{ m.role }} {{ m.content }}{% endfor %}"
    );
    std::fs::write(desk.path("model/tokenizer_config.json"), settings.to_string()).expect("a file");
    let chat =
        "data template render --template chat --model model --data rows.json --rows 1 --json";
    let (out, _) = desk.run(&format!("{chat} --today 1999-01-31"), 0);
    assert!(out.contains("1999 user"), "{out}");
    let (out, _) = desk.run(chat, 0);
    assert!(out.contains("\"20"), "{out}");
    let (_, err) = desk.run("data template render --template chat --data rows.json", 2);
    assert!(err.contains("give --model"), "{err}");

    desk.run("data template new own.yaml --data reviews.jsonl", 0);
    desk.run("data template check own.yaml#first --data reviews.jsonl", 0);
    let (_, err) = desk.run("data template new own.yaml --data reviews.jsonl", 2);
    assert!(err.contains("--force"), "{err}");
}

#[test]
fn sides_of_a_split_are_apart() {
    let desk = desk();
    let (out, _) =
        desk.run("data split reviews.jsonl --out a --by stratified --column label --test 0.2", 0);
    assert!(out.contains("near twin on another side"), "{out}");
    let side = |name: &str| desk.json_lines(&format!("a/{name}.jsonl"));
    let (train, held, test) = (side("train"), side("validation"), side("test"));
    assert_eq!((train.len(), held.len(), test.len()), (42, 6, 12));
    assert_eq!(test.iter().filter(|row| row["label"] == 0).count(), 4);
    let manifest = json_file(&desk, "a/split.manifest.json");
    assert_eq!(manifest["inputs"][0]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(manifest["outputs"].as_array().map(Vec::len), Some(3));

    let (_, err) = desk.run("data split reviews.jsonl --out a", 2);
    assert!(err.contains("--force"), "{err}");
    desk.run("data split reviews.jsonl --out b --by group --column shop --validation 0.3", 0);
    let shops = |name: &str| -> Vec<i64> {
        desk.json_lines(name).iter().filter_map(|row| row["shop"].as_i64()).collect()
    };
    let (train, held) = (shops("b/train.jsonl"), shops("b/validation.jsonl"));
    assert!(!held.is_empty() && held.iter().all(|shop| !train.contains(shop)), "{held:?}");
    desk.run("data split reviews.jsonl --out c --by order --column day", 0);
    let late: Vec<Value> = desk.json_lines("c/validation.jsonl");
    assert!(late.iter().all(|row| row["day"].as_i64() >= Some(54)), "{late:?}");

    // Twins that differ in one word of many: reported, or kept together.
    let text = |n: usize, end: &str| {
        (0..30).map(|w| format!("w{}", n * 100 + w)).collect::<Vec<_>>().join(" ") + end
    };
    let rows: Vec<String> = (0..80)
        .map(|n| json!({"text": text(n / 2, if n % 2 == 0 { " one" } else { " two" })}).to_string())
        .collect();
    std::fs::write(desk.path("twins.jsonl"), rows.join("\n")).expect("a file");
    let (out, _) = desk.run("data split twins.jsonl --out d --validation 0.4", 0);
    assert!(
        !out.contains("\n0 rows have a near twin") && out.contains("--keep-twins-together"),
        "{out}"
    );
    let (out, _) =
        desk.run("data split twins.jsonl --out e --validation 0.4 --keep-twins-together", 0);
    assert!(out.contains("0 rows have a near twin on another side"), "{out}");
}

#[test]
fn nothing_goes_before_it_is_shown() {
    let desk = desk();
    let (out, _) = desk.run("data dedupe reviews.jsonl reviews.jsonl", 0);
    assert!(
        out.contains("60 of 120 rows would go") && out.contains("nothing was written"),
        "{out}"
    );
    for by in ["exact", "minhash", "rouge --threshold 0.99"] {
        desk.run(
            &format!("data dedupe reviews.jsonl reviews.jsonl --by {by} --out one.jsonl --force"),
            0,
        );
        assert_eq!(desk.json_lines("one.jsonl").len(), 60, "{by}");
    }
    let (_, err) = desk.run("data dedupe reviews.jsonl --out reviews.jsonl --force", 2);
    assert!(err.contains("is one of the files that are read"), "{err}");
    assert_eq!(desk.json_lines("reviews.jsonl").len(), 60);

    let mixed = "{\"t\":\"The weather in the town was fine and it is what you want to have.\"}\n\
                 {\"t\":\"Das Wetter in der Stadt ist nicht so, wie ich es mir mit dem Rad wünsche.\"}\n\
                 {\"t\":\"no no no no no no no no no no no no\"}\n{\"t\":\"short\"}\n";
    std::fs::write(desk.path("mixed.jsonl"), mixed).expect("a file");
    let filter =
        "data filter mixed.jsonl --min-words 2 --max-repetition 0.5 --language en --out en.jsonl";
    let (out, _) = desk.run(filter, 0);
    for reason in ["in language de", "repeats itself (90%)", "too few words (1)", "3 of 4 rows"] {
        assert!(out.contains(reason), "{reason}: {out}");
    }
    assert_eq!(desk.json_lines("en.jsonl").len(), 1);
    let (_, err) = desk.run("data filter mixed.jsonl", 2);
    assert!(err.contains("no filter is given"), "{err}");
}

#[test]
fn rows_are_converted_mixed_sampled_and_counted() {
    let desk = desk();
    desk.run("data convert reviews.jsonl --rename text=review --drop day --out table.csv.gz", 0);
    desk.run(
        "data convert table.csv.gz --number label,shop --rename review=text --out back.jsonl",
        0,
    );
    let (rows, before) = (desk.json_lines("back.jsonl"), desk.json_lines("reviews.jsonl"));
    assert!(
        rows.iter().zip(&before).all(|(a, b)| a["text"] == b["text"] && a["label"] == b["label"])
    );
    desk.run("data convert reviews.jsonl --template cluster:sentiment/terse --out pairs.jsonl", 0);
    let pair = &desk.json_lines("pairs.jsonl")[0];
    assert_eq!(
        (&pair["completion"], &pair["template"]),
        (&json!("negative"), &json!("sentiment/terse"))
    );
    assert!(pair["prompt"].as_str().is_some_and(|p| p.ends_with("Sentiment:\n")), "{pair}");
    desk.run("data convert reviews.jsonl --replace label:x=y --add mood=1 --replace mood:1=z --out z.csv", 0);
    desk.run("data convert z.csv --replace label:1=positive --out words.csv --drop mood", 0);
    // Tables hold text: a number or the choice itself tells the place in the choices.
    desk.run("data convert words.csv --template cluster:sentiment/terse --out words.jsonl", 0);
    assert_eq!(desk.json_lines("words.jsonl")[1]["completion"], "positive");
    assert_eq!(desk.json_lines("words.jsonl")[0]["completion"], "negative");
    let (_, err) = desk.run("data convert reviews.jsonl --rename txt=a --out x.jsonl", 2);
    assert!(err.contains("there is no column \"txt\""), "{err}");
    desk.run("data convert reviews.jsonl --out x.parquet", 2);

    desk.run("data mix rows.json=1 pairs.jsonl=3 --rows 400 --out mix.jsonl", 0);
    let again = desk.bytes("mix.jsonl");
    desk.run("data mix rows.json=1 pairs.jsonl=3 --rows 400 --out mix.jsonl --force", 0);
    assert_eq!(again, desk.bytes("mix.jsonl"));
    let of_pairs =
        desk.json_lines("mix.jsonl").iter().filter(|r| r["template"].is_string()).count();
    assert!((260..340).contains(&of_pairs), "{of_pairs} of 400");
    let (_, err) = desk.run("data mix rows.json pairs.jsonl --hold-out sentiment --out y.jsonl", 2);
    assert!(err.contains("pairs.jsonl: row 0 is of the cluster sentiment"), "{err}");
    assert!(!desk.path("y.jsonl").exists());

    let (out, _) = desk.run("data sample rows.json reviews.jsonl --rows 20 --out few.jsonl", 0);
    assert!(out.contains("10 of reviews.jsonl") && out.contains("10 of rows.json"), "{out}");
    let (out, _) = desk.run("data stats few.jsonl --json", 0);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["rows"], 20);
    let left: Vec<_> = std::fs::read_dir(desk.path(""))
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_reader_that_goes_away_ends_nothing_with_a_panic() {
    let desk = desk();
    for args in ["data template show cluster:sentiment", "data inspect rows.json", "doctor"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = desk.command(args);
        let ended = command.stdout(writer).output().expect("it starts");
        let err = String::from_utf8_lossy(&ended.stderr).to_string();
        assert!(ended.status.code() == Some(0) && !err.contains("panicked"), "{args}: {err}");
    }
}
