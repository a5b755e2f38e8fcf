//! What a run or an answer is made from: an adapter's base, files that change while they are read, and what a run
//! compares, says and records when it goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use paddock_cli::run::config::{RecordedFile, RunConfig, RunFile};
use paddock_cli::train::Setup;
use paddock_datasets::prepare::Progress;
use paddock_datasets::template::{Body, Pair, Template};
use paddock_tests::desk::Desk;

use crate::{TRAIN, WEIGHTS, desk, refuses, write};

/// Runs the program with a cache folder of the desk's own.
fn run(desk: &Desk, args: &str, code: i32) -> String {
    let output = desk.command(args).env("PADDOCK_CACHE", desk.path("cache")).output();
    let output = output.expect("core-cli starts");
    let err = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(code), "core-cli {args}\n{err}");
    err
}

/// Sets when a file was last changed, so many seconds ago.
fn set_age(desk: &Desk, name: &str, seconds: u64) {
    let file = std::fs::File::options().append(true).open(desk.path(name)).expect("a file");
    let ago = SystemTime::now() - Duration::from_secs(seconds);
    file.set_modified(ago).expect("a time");
}

const SCORE: &str = "score --model model --adapter run/adapter --data rows.json";
const HASHES: &str = "cache/hashes";

/// The one entry of the cache of hashes.
fn entry(desk: &Desk) -> PathBuf {
    let entries = std::fs::read_dir(desk.path(HASHES)).expect("hashes are kept").flatten();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths[0].clone()
}

/// A desk with an adapter, and other weights of the same length.
fn with_adapter() -> (Desk, Vec<u8>, Vec<u8>) {
    let desk = desk();
    set_age(&desk, WEIGHTS, 3600);
    run(&desk, &format!("{TRAIN} --max-steps 2 --out run"), 0);
    let good = desk.bytes(WEIGHTS);
    let mut other = good.clone();
    let at = other.len() - 4;
    other[at..].copy_from_slice(&0.5f32.to_le_bytes());
    (desk, good, other)
}

#[test]
fn f70_another_base_is_refused_whether_its_hash_is_kept_or_not() {
    let (desk, _, other) = with_adapter();
    // The run has read the weights, so that their hash is kept.
    entry(&desk);
    run(&desk, SCORE, 0);
    std::fs::remove_dir_all(desk.path(HASHES)).expect("hashes");
    run(&desk, SCORE, 0);
    entry(&desk);
    run(&desk, SCORE, 0);
    std::fs::remove_dir_all(desk.path(HASHES)).expect("hashes");
    write(&desk, WEIGHTS, other);
    set_age(&desk, WEIGHTS, 3600);
    for kept in [false, true] {
        assert_eq!(desk.path(HASHES).exists(), kept);
        let err = run(&desk, SCORE, 2);
        assert!(err.contains("made for another model"), "{kept}: {err}");
    }
    entry(&desk);
}

#[test]
fn f70_a_base_that_was_changed_in_place_is_noticed() {
    let (desk, good, other) = with_adapter();
    let changed = |bytes: &[u8], seconds| {
        let mut file = std::fs::File::options().write(true).open(desk.path(WEIGHTS));
        let file = file.as_mut().expect("weights");
        file.write_all(bytes).expect("written in place");
        set_age(&desk, WEIGHTS, seconds);
    };
    run(&desk, SCORE, 0);
    changed(&other, 1800);
    run(&desk, SCORE, 2);
    changed(&good, 900);
    run(&desk, SCORE, 0);
    // Just now: such a hash is not kept, and the old one does not count.
    changed(&other, 0);
    run(&desk, SCORE, 2);
    run(&desk, SCORE, 2);
}

/// A time that is set back is not believed either: the system keeps another, which nobody can set.
#[cfg(unix)]
#[test]
fn f70_a_base_that_was_changed_and_its_time_set_back_is_noticed() {
    let (desk, _, other) = with_adapter();
    run(&desk, SCORE, 0);
    let time = std::fs::metadata(desk.path(WEIGHTS)).and_then(|meta| meta.modified());
    let mut file = std::fs::File::options().write(true).open(desk.path(WEIGHTS)).expect("weights");
    file.write_all(&other).expect("written in place");
    file.set_modified(time.expect("a time")).expect("set back");
    run(&desk, SCORE, 2);
}

#[test]
fn f70_kept_hashes_that_are_damaged_or_cannot_be_kept_are_no_error() {
    let (desk, _, _) = with_adapter();
    let place = entry(&desk);
    let good = std::fs::read(&place).expect("an entry");
    let text = String::from_utf8(good.clone()).expect("text");
    // Another hash in it, by one digit.
    let hash = text.lines().rev().nth(1).expect("a hash");
    let digit = if hash.starts_with('0') { "1" } else { "0" };
    let flipped = text.replace(hash, &format!("{digit}{}", &hash[1..]));
    for bad in [&b""[..], b"\xff\x00garbage\n\n", &good[..good.len() - 9], flipped.as_bytes()] {
        std::fs::write(&place, bad).expect("an entry");
        run(&desk, SCORE, 0);
        assert_eq!(std::fs::read(&place).expect("an entry"), good, "it is made anew");
    }
    // Something else stands in its place, then in that of the folder.
    std::fs::remove_file(&place).expect("an entry");
    std::fs::create_dir(&place).expect("a folder");
    run(&desk, SCORE, 0);
    std::fs::remove_dir_all(desk.path(HASHES)).expect("hashes");
    write(&desk, HASHES, "a file");
    run(&desk, SCORE, 0);
}

/// Adds a row to the file that is being read.
struct Adds {
    done: bool,
}

const ROW: &str = r#"{"prompt":"what is the colour of the sky","completion":"blue"}"#;

impl Progress for Adds {
    fn rows(&mut self, path: &Path, rows: u64) -> bool {
        if !std::mem::replace(&mut self.done, true) {
            assert!(rows < 5000, "only some of the rows are read");
            let file = std::fs::File::options().append(true).open(path);
            file.and_then(|mut file| writeln!(file, "{ROW}")).expect("a row more");
        }
        true
    }
}

#[test]
fn f34_a_file_that_grows_while_its_rows_are_read_is_named() {
    let desk = desk();
    let path = |name: &str| desk.path(name).display().to_string();
    for token_cache in [false, true] {
        write(&desk, "grows.jsonl", format!("{ROW}\n").repeat(5000));
        let config = RunConfig {
            model: Some(path("model")),
            data: vec![path("grows.jsonl")],
            lora_rank: 4,
            token_cache,
            ..RunConfig::default()
        };
        let mut adds = Adds { done: false };
        let error = Setup::prepare(config, &mut adds).err().expect("the file grew").to_string();
        let words = ["grows.jsonl changed while it was being read", "wait until it is written"];
        assert!(adds.done && words.iter().all(|word| error.contains(word)), "{error}");
    }
}

fn record(desk: &Desk) -> RunFile {
    let text = String::from_utf8(desk.bytes("run/run.toml")).expect("text");
    RunFile::parse("run.toml", &text).expect("a run.toml")
}

fn write_record(desk: &Desk, file: &RunFile) {
    write(desk, "run/run.toml", file.to_text().expect("a text"));
}

/// The notes of the last time that the run went on.
fn notes(desk: &Desk) -> Vec<String> {
    let last = record(desk).record.continuations.pop();
    last.expect("the run went on").notes
}

const RESUME: &str = "train --resume --out run";

#[test]
fn f58_changes_that_are_allowed_are_recorded() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --out run"), 0);
    assert!(record(&desk).record.continuations.is_empty());
    desk.run(&format!("{RESUME} --lr 0.5 --allow-changes"), 0);
    let now = record(&desk);
    assert_eq!(now.config.lr, Some(0.5));
    assert_eq!(now.record.continuations[0].step, 4);
    assert_eq!(now.record.continuations[0].notes, ["lr was 0.01, is now 0.5"]);
    // What is recorded stays when the run goes on once more.
    desk.run(RESUME, 0);
    assert_eq!(notes(&desk), [""; 0]);
    let all = record(&desk).record.continuations;
    assert_eq!((all.len(), all[0].notes.len()), (2, 1), "{all:?}");
}

fn template(name: &str, between: &str) -> String {
    let body = Body::Prompt(Pair { between: between.to_string(), ..Pair::default() });
    let columns = Template::prompt().with_columns(Some("instruction"), None, Some("output"));
    Template { name: name.to_string(), body, ..columns }.to_json()
}

#[test]
fn f58_a_template_that_was_edited_is_noticed_when_a_run_goes_on() {
    let desk = desk();
    write(&desk, "own.json", template("own", " : "));
    desk.run(&format!("{TRAIN} --template own.json --max-steps 2 --out run"), 0);
    let before = desk.bytes("run/run.toml");
    write(&desk, "own.json", template("own", " ? "));
    refuses(
        &desk,
        RESUME,
        &["cannot go on", "the template: another one", "Put the old files back"],
    );
    assert_eq!(desk.bytes("run/run.toml"), before, "nothing was touched");
    // Another name and other spaces are the same template.
    let renamed = template("renamed", " : ").replace('\n', "\n  ");
    write(&desk, "own.json", renamed);
    desk.run(RESUME, 0);
}

#[test]
fn f58_small_files_of_the_model_are_compared_when_a_run_goes_on() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 2 --out run"), 0);
    let names = |desk: &Desk| -> Vec<String> {
        record(desk).record.model_settings.iter().map(|file| file.path.clone()).collect()
    };
    assert_eq!(names(&desk), ["config.json", "tokenizer.json"]);
    // Adapters know their base by its weight files alone.
    assert_eq!(record(&desk).record.model.len(), 1);
    for (name, from, to) in [
        ("config.json", "\"rope_theta\":10000.0", "\"rope_theta\":50000.0"),
        ("tokenizer.json", "\"snow\"", "\"hail\""),
    ] {
        let file = format!("model/{name}");
        let good = String::from_utf8(desk.bytes(&file)).expect("text");
        let changed = good.replace(from, to);
        assert_ne!(good, changed, "{name}");
        write(&desk, &file, changed);
        let words = [&format!("{name}: the same"), "with other contents", "Put the old files back"];
        refuses(&desk, RESUME, &words);
        write(&desk, &file, good);
    }
    write(&desk, "model/generation_config.json", r#"{"eos_token_id":[2,0]}"#);
    refuses(&desk, RESUME, &["generation_config.json: is read now, was not there then"]);
    std::fs::remove_file(desk.path("model/generation_config.json")).expect("removed");
    desk.run(RESUME, 0);
}

#[test]
fn f58_a_record_without_small_files_or_template_is_still_gone_on_with() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 2 --out run"), 0);
    let mut old = record(&desk);
    old.record.model_settings.clear();
    old.record.template_sha256 = None;
    write_record(&desk, &old);
    let text = String::from_utf8(desk.bytes("run/run.toml")).expect("text");
    assert!(!text.contains("model_settings") && !text.contains("template_sha256"), "{text}");
    write(&desk, "model/generation_config.json", r#"{"eos_token_id":2}"#);
    desk.run(RESUME, 0);
    // From now on they are known.
    assert_eq!(record(&desk).record.model_settings.len(), 3);
    std::fs::remove_file(desk.path("model/generation_config.json")).expect("removed");
    refuses(&desk, RESUME, &["generation_config.json: was read then, is not there now"]);
}

#[test]
fn f58_settings_of_the_adapter_at_the_start_are_compared_when_a_run_goes_on() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 2 --out first"), 0);
    desk.run(&format!("{TRAIN} --init-adapter first/adapter --max-steps 2 --out run"), 0);
    let name = "first/adapter/adapter_config.json";
    let recorded = record(&desk).record.model_settings;
    let paths: Vec<PathBuf> = recorded.iter().map(|file| PathBuf::from(&file.path)).collect();
    assert!(paths.contains(&PathBuf::from(name)), "{paths:?}");
    let good = String::from_utf8(desk.bytes(name)).expect("text");
    let changed = good.replace("\"lora_alpha\": 8", "\"lora_alpha\": 9");
    assert_ne!(good, changed);
    write(&desk, name, changed);
    refuses(&desk, RESUME, &["adapter_config.json: the same", "with other contents"]);
    write(&desk, name, good);
    desk.run(RESUME, 0);
}

#[test]
fn f60_another_machine_is_said_and_recorded_when_a_run_goes_on() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 2 --out run"), 0);
    let (_, err) = desk.run(RESUME, 0);
    assert!(!err.contains("not bit for bit"), "{err}");
    assert_eq!(notes(&desk), [""; 0]);
    let mut other = record(&desk);
    let here = other.record.versions.clone();
    other.record.versions.paddock = "0.0.1".to_string();
    other.record.versions.platform = "plan9 sparc".to_string();
    other.record.versions.threads = 9;
    write_record(&desk, &other);
    let (_, err) = desk.run(RESUME, 0);
    let expected =
        [("Paddock", "0.0.1", &here.paddock), ("the platform", "plan9 sparc", &here.platform)].map(
            |(what, was, is)| {
                format!(
                    "not bit for bit the same from here on, because {what} was {was}, is now {is}"
                )
            },
        );
    for note in &expected {
        assert!(err.contains(&format!("warning: {note}")), "{note}: {err}");
    }
    assert_eq!(notes(&desk), expected);
    // Said once: the record is that of this machine now.
    assert_eq!(record(&desk).record.versions, here);
    let (_, err) = desk.run(RESUME, 0);
    assert!(!err.contains("not bit for bit"), "{err}");
    // Programs that read events hear of it too; what was never recorded is not compared.
    other.record.versions.paddock = String::new();
    write_record(&desk, &other);
    let (events, _) = desk.run(&format!("{RESUME} --events jsonl"), 0);
    let warnings: Vec<&str> =
        events.lines().filter(|line| line.contains("not bit for bit")).collect();
    assert_eq!(warnings.len(), 1, "{events}");
    let platform = |w: &str| w.contains("\"kind\":\"warning\"") && w.contains("the platform was");
    assert!(platform(warnings[0]), "{warnings:?}");
}

/// The fingerprint of a model is that of its weights and of nothing else: adapters hold it.
#[test]
fn f70_small_files_are_no_part_of_what_an_adapter_knows_its_base_by() {
    let (desk, _, _) = with_adapter();
    let weights: Vec<RecordedFile> = record(&desk).record.model;
    let note: serde_json::Value =
        serde_json::from_slice(&desk.bytes("run/adapter/paddock.json")).expect("JSON");
    assert_eq!(note["base_fingerprint"], weights[0].sha256.as_str());
    let config = String::from_utf8(desk.bytes("model/config.json")).expect("text");
    write(&desk, "model/config.json", format!("{config}\n"));
    run(&desk, SCORE, 0);
}
