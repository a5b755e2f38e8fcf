//! What surrounds a run: whoever reads its output, names of files, secrets in the environment.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::{TRAIN, desk, files_below};

#[test]
fn f78_a_reader_that_goes_away_ends_no_run() {
    let desk = desk();
    for (out, more) in [("events", "--events jsonl"), ("words", "")] {
        let mut child = desk
            .command(&format!("{TRAIN} --max-steps 60 --out {out} {more}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("core-cli starts");
        // The window closes after its first line.
        let mut line = String::new();
        if more.is_empty() {
            let mut err = BufReader::new(child.stderr.take().expect("stderr"));
            err.read_line(&mut line).expect("a line");
        } else {
            let mut out = BufReader::new(child.stdout.take().expect("stdout"));
            out.read_line(&mut line).expect("a line");
        }
        assert!(!line.is_empty());
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = child.wait().expect("a child");
        assert!(status.success(), "{out}: {status}");
        assert!(desk.path(out).join("adapter/adapter_model.safetensors").is_file(), "{out}");
    }
}

#[test]
fn f44_names_are_good_on_every_file_system() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 4 --save-every 2 --out run"), 0);
    desk.run(&format!("{TRAIN} --method full --max-steps 2 --out full"), 0);
    let mut files = files_below(&desk, "run");
    files.extend(files_below(&desk, "full"));
    assert!(files.len() > 15, "{files:?}");
    let mut seen = BTreeSet::new();
    for file in &files {
        assert!(file.len() < 100, "{file} is long");
        assert!(seen.insert(file.to_lowercase()), "{file} is another file where case is ignored");
        for part in file.split('/') {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            let stem = part.split('.').next().unwrap_or_default().to_lowercase();
            let device = ["con", "prn", "aux", "nul"].contains(&stem.as_str())
                || (stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")));
            let good = part.chars().all(plain) && !part.ends_with('.') && !device;
            assert!(good, "{file}: {part:?} is no name on Windows");
        }
    }
}

#[test]
fn f79_no_secret_is_written_down_or_said() {
    let desk = desk();
    let secret = "hf_1234567890secret";
    let names = ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"];
    let output = desk
        .command(&format!("{TRAIN} --max-steps 3 --tensorboard true --out run --events jsonl"))
        .envs(names.map(|name| (name, secret)))
        .output()
        .expect("core-cli starts");
    assert!(output.status.success());
    let mut texts = vec![output.stdout, output.stderr];
    texts.extend(files_below(&desk, "run").iter().map(|file| desk.bytes(file)));
    assert!(texts.len() > 10);
    for text in texts {
        let found = text.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{}", String::from_utf8_lossy(&text));
    }
}
