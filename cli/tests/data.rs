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
fn a_side_without_a_row_is_refused() {
    let desk = desk();
    let system = (0..40).map(|w| format!("rule{w}")).collect::<Vec<_>>().join(" ");
    let rows = |count: usize| -> String {
        let row = |n: usize| json!({"system": system, "text": format!("question {n}"), "day": "1"});
        (0..count).map(|n| format!("{}\n", row(n))).collect()
    };
    std::fs::write(desk.path("few.jsonl"), rows(80)).expect("a file");
    let refused = |flags: &str, words: &[&str]| {
        let (_, err) = desk.run(&format!("data split few.jsonl --out a {flags}"), 2);
        for word in words.iter().chain(&["validation.jsonl would get no row"]) {
            assert!(err.contains(word), "{flags}: {word}: {err}");
        }
        let left = std::fs::read_dir(desk.path("a")).expect("the folder").count();
        assert_eq!(left, 0, "{flags}: nothing is written");
    };
    let words = ["the 80 rows count as 1 group of near twins", "--leak-threshold"];
    refused("--keep-twins-together", &words);
    refused("--by group --column system", &["1 group by column \"system\""]);
    refused("--by order --column day", &["rows with equal values stay together"]);
    let held = |name: &str| desk.json_lines(&format!("{name}/validation.jsonl")).len();
    desk.run("data split few.jsonl --out b --keep-twins-together --leak-threshold 0.99", 0);
    desk.run("data split few.jsonl --out c", 0);
    assert_eq!((held("b"), held("c")), (8, 8));
    // What so many rows share makes no twins of them.
    std::fs::write(desk.path("few.jsonl"), rows(120)).expect("a file");
    desk.run("data split few.jsonl --out d --keep-twins-together", 0);
    assert_eq!(held("d"), 12);

    std::fs::write(desk.path("mixed.jsonl"), "{\"day\":9}\n{\"day\":10}\n{\"day\":\"?\"}\n")
        .expect("a file");
    let (_, err) = desk.run("data split mixed.jsonl --out e --by order --column day", 2);
    assert!(err.contains("mixed.jsonl: row 2: column \"day\" is \"?\", no number"), "{err}");
}

#[test]
fn a_split_leaves_nothing_of_an_earlier_one() {
    let desk = desk();
    let sides =
        |name: &str| json_file(&desk, &format!("{name}/split.manifest.json"))["outputs"].clone();
    desk.run("data split reviews.jsonl --out a --test 0.2", 0);
    let before = sides("a");
    // One that ends early leaves the old one whole.
    desk.run("data split reviews.jsonl --out a --force --by group --column gone", 2);
    assert_eq!((sides("a"), desk.json_lines("a/test.jsonl").len()), (before, 12));
    desk.run("data split reviews.jsonl --out a --force", 0);
    assert_eq!(sides("a").as_array().map(Vec::len), Some(2));
    assert!(!desk.path("a/test.jsonl").exists());
    // A file that no split wrote stays, and one that is read.
    std::fs::write(desk.path("a/test.jsonl"), "{\"own\":1}\n").expect("a file");
    desk.run("data split reviews.jsonl --out a --force", 0);
    assert_eq!(desk.json_lines("a/test.jsonl"), [json!({"own": 1})]);
    desk.run("data split reviews.jsonl --out b --test 0.2", 0);
    let (_, err) = desk.run("data split b/test.jsonl --out b --force", 2);
    assert!(err.contains("test.jsonl is one of the files that are read"), "{err}");
    assert_eq!(desk.json_lines("b/test.jsonl").len(), 12);
}

#[test]
fn names_that_no_column_has_are_refused() {
    let desk = desk();
    let (_, err) = desk.run("data filter reviews.jsonl --min-words 3 --on txt --out x.jsonl", 2);
    assert!(err.contains("row 0: there is no column \"txt\"; there are "), "{err}");
    for flag in ["--drop txt", "--replace txt:a=b", "--number txt", "--rename text=a --number text"]
    {
        let (_, err) = desk.run(&format!("data convert reviews.jsonl {flag} --out x.jsonl"), 2);
        let words = ": no row has a column of that name; the first row has ";
        assert!(err.contains(words), "{flag}: {err}");
    }
    assert!(!desk.path("x.jsonl").exists());
    // A column that only some rows have is none of these.
    std::fs::write(desk.path("some.jsonl"), "{\"a\":1}\n{\"a\":2,\"b\":3}\n").expect("a file");
    desk.run("data convert some.jsonl --drop b --out x.jsonl", 0);
    assert_eq!(desk.json_lines("x.jsonl"), [json!({"a": 1}), json!({"a": 2})]);
}

#[test]
fn worked_examples_are_rows_as_they_are_written() {
    let desk = desk();
    desk.run("data convert reviews.jsonl --rename text=review --out other.jsonl", 0);
    let convert = "data convert other.jsonl --template cluster:sentiment/terse --shots 2";
    desk.run(&format!("{convert} --rename review=text --out shots.jsonl"), 0);
    let rows = desk.json_lines("shots.jsonl");
    assert_eq!(rows.len(), 60);
    for row in &rows {
        let prompt = row["prompt"].as_str().expect("text");
        assert_eq!(prompt.matches("Sentiment:").count(), 3, "{prompt}");
    }
    let (_, err) = desk.run(&format!("{convert} --out none.jsonl"), 2);
    for words in ["--shots 2: of 60 rows about a quarter", "cannot be rendered", "`text`"] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(!desk.path("none.jsonl").exists());
}

#[test]
fn many_sources_take_turns_by_seed() {
    let desk = desk();
    let row = |n: usize| {
        let text = format!("only{n} this{n} says{n} so{n}");
        format!("{}\n", json!({"who": format!("w{n}"), "text": text}))
    };
    std::fs::write(desk.path("many.jsonl"), (0..9000).map(row).collect::<String>())
        .expect("a file");
    let drawn = |seed: usize| -> Vec<String> {
        let sample = "data sample many.jsonl --rows 6 --source who --out few.jsonl --force --seed";
        desk.run(&format!("{sample} {seed}"), 0);
        desk.json_lines("few.jsonl").iter().map(|row| row["who"].to_string()).collect()
    };
    let first = drawn(1);
    assert_eq!(first.len(), 6);
    assert_eq!(first, drawn(1));
    assert_ne!(first, drawn(2), "the same sources whatever the seed");
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
