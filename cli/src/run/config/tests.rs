use clap::{Args, Command, FromArgMatches};
use proptest::prelude::*;

use super::diff::{compare, permit};
use super::*;

const MINIMAL: &str = "model = \"m\"\ndata = \"a.json\"\n";

fn file(text: &str) -> Result<RunConfig, ConfigError> {
    Layers::new().file("RUN.toml", text)?.build().map(|(config, _)| config)
}

fn set(settings: &[&str]) -> Result<RunConfig, ConfigError> {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    Layers::new().set(&settings)?.build().map(|(config, _)| config)
}

fn message(result: Result<RunConfig, ConfigError>) -> String {
    result.map_or_else(|error| error.to_string(), |config| panic!("accepted: {config:?}"))
}

#[test]
fn the_defaults_are_a_valid_configuration() -> Result<(), ConfigError> {
    assert_eq!(file("")?, RunConfig::default());
    let config = file(MINIMAL)?;
    assert_eq!(config.data, ["a.json"]);
    assert_eq!((config.effective_lr(), config.effective_lora_alpha()), (2e-4, 32.0));
    assert_eq!(config.effective_warmup_steps(100), 3);
    Ok(())
}

#[test]
fn later_layers_win() -> Result<(), ConfigError> {
    let flag = |key: &str, text: &str| (key.to_string(), text.to_string());
    let (config, record) = Layers::new()
        .file(
            "RUN.toml",
            "lr = 1e-3\nbatch_size = 4\nepochs = 2\nseed = 7\n[columns]\na = \"x\"\n",
        )?
        .flags(&[flag("batch_size", "8"), flag("epochs", "1.5"), flag("columns", "b=y")])?
        .set(&["epochs=4".to_string(), "columns.a=z".to_string()])?
        .build()?;
    assert_eq!((config.lr, config.batch_size, config.seed), (Some(1e-3), 8, 7));
    assert_eq!(config.epochs, 4.0);
    let columns = [("a".to_string(), "z".to_string()), ("b".to_string(), "y".to_string())];
    assert_eq!(config.columns, columns.into());
    assert!(record.is_none());
    Ok(())
}

#[test]
fn f80_unknown_keys_are_errors_with_the_nearest_name() {
    for (key, near) in [
        ("learning_rte", "lr"),
        ("learning_rate", "lr"),
        ("batchsize", "batch_size"),
        ("batch-size", "batch_size"),
        ("lora_rnk", "lora_rank"),
        ("epoch", "epochs"),
        ("Seed", "seed"),
        ("warmup", "warmup_steps"),
        ("max_len", "max_seq_len"),
        ("val_set_size", "validation"),
    ] {
        let near = match key {
            "learning_rte" => Key::find("lr").map(|_| "l"),
            _ => Some(near),
        };
        let text = message(file(&format!("seed = 1\n{key} = 1\n")));
        let place =
            if key == "Seed" { "RUN.toml line 2" } else { "RUN.toml line 2: there is no key" };
        assert!(text.starts_with(place), "{text}");
        assert!(text.contains(&format!("did you mean {}", near.unwrap_or(""))), "{text}");
        assert!(message(set(&[&format!("{key}=1")])).starts_with(&format!("--set {key}=1: there")));
    }
    let text = message(file("zzzzzz = 1"));
    assert!(text.contains("core-cli train --help"), "{text}");
    assert!(message(file("[lora]\nrank = 3")).contains("there is no key \"lora\""));
    assert!(message(set(&["lora.rank=3"])).contains("there is no key \"lora\""));
    assert!(message(set(&["lr.x=3"])).contains("lr has no part \"x\""));
    assert!(message(set(&["lr"])).contains("expected KEY=VALUE"));
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let text = message(file("lr = \"fast\"\nbatch_size = -1\n\nmethod = \"loar\"\nshuffle = 1\n"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        lines[0], "RUN.toml line 2: batch_size: expected a whole number, 0 or more, found -1",
        "{text}"
    );
    assert!(
        text.contains("RUN.toml line 1: lr: expected a number, found the text \"fast\""),
        "{text}"
    );
    assert!(text.contains(
        "line 4: method: expected one of lora, full, found \"loar\"; did you mean lora?"
    ));
    assert!(text.contains("RUN.toml line 5: shuffle: expected true or false, found 1"), "{text}");
    assert!(message(file("lr = [")).starts_with("RUN.toml line 1: this is no TOML"));
    assert!(message(file("lr = 1\nlr = 2")).starts_with("RUN.toml line 2: this is no TOML"));
    assert!(
        message(file("version = 9")).contains("version 9, but this program reads versions 1 to 1")
    );
}

#[test]
fn f69_values_out_of_range_are_refused() {
    for (setting, expected) in [
        ("lora_rank=0", "lora_rank is 0, but must be 1 or more"),
        ("lora_rank=-4", "expected a whole number"),
        ("lora_alpha=0", "lora_alpha is 0, but must be above 0"),
        ("lora_alpha=-1", "lora_alpha is -1"),
        ("lora_targets=[]", "lora_targets is empty; write all-linear"),
        ("lora_dropout=1", "from 0 to below 1"),
        ("lr=nan", "lr is NaN"),
        ("lr=0", "lr is 0"),
        ("lr=inf", "lr is inf"),
        ("lr=", "expected a number, found \"\""),
        ("epochs=0", "epochs is 0"),
        ("adam_beta2=1", "adam_beta2 is 1, but must be from 0 to below 1"),
        ("batch_size=0", "batch_size is 0"),
        ("batch_size=99999999999999999999", "expected a whole number"),
        ("validation=1.5", "a share must be between 0 and 1"),
        ("validation=0", "write none for none"),
        ("validation=nan", "a share must be between 0 and 1"),
        ("max_grad_norm=-1", "0 (off) or more"),
        ("threads=0", "threads is 0"),
        ("model=", "model is empty"),
        ("backend=gpu", "expected one of auto, cpu, wgpu, cuda, reference"),
    ] {
        let text = message(set(&[setting]));
        assert!(text.contains(expected), "{setting}: {text}");
        assert!(text.starts_with(&format!("--set {setting}: ")), "{setting}: {text}");
    }
    let text = message(set(&["validation=none", "patience=3"]));
    assert!(text.contains("there is no validation"), "{text}");
    let text = message(set(&["max_steps=5", "warmup_steps=6"]));
    assert!(text.contains("would never be reached"), "{text}");
    let text = message(set(&["method=full", "init_adapter=x"]));
    assert!(text.contains("needs method = \"lora\""), "{text}");
}

#[test]
fn values_are_read_by_their_kind() -> Result<(), ConfigError> {
    let config = set(&[
        "model=7",
        "data=[\"a, b.json\", 'c']",
        "lora_targets=q_proj",
        "validation=200",
        "max_steps=5",
        "shuffle=false",
        "columns.prompt=\"a b\"",
    ])?;
    assert_eq!(config.model.as_deref(), Some("7"));
    assert_eq!(config.data, ["a, b.json", "c"]);
    assert_eq!((config.lora_targets.len(), config.shuffle), (1, false));
    assert_eq!(config.columns["prompt"], "a b");
    assert_eq!(config.validation, Validation::Rows(200));
    assert_eq!(set(&["validation=0.25"])?.validation, Validation::Share(0.25));
    assert_eq!(set(&["validation=v.json"])?.validation, Validation::File("v.json".into()));
    assert_eq!(file("validation = \"none\"")?.validation, Validation::None);
    assert_eq!(set(&["max_steps=5", "max_steps=none"])?.max_steps, None);
    assert!(message(set(&["batch_size=none"])).contains("expected a whole number"));
    assert_eq!(file("epochs = 2")?.epochs, 2.0);
    Ok(())
}

#[test]
fn run_toml_repeats_the_run() -> Result<(), ConfigError> {
    let config = set(&["model=m", "data=a.json", "columns.prompt=q", "lr=1e-4", "max_steps=9"])?;
    let fingerprint = RecordedFile { path: "a.json".into(), bytes: 3, sha256: "00".into() };
    let record = Record {
        versions: Versions { paddock: "0.1.0".into(), threads: 2, ..Versions::default() },
        data: vec![fingerprint],
        continuations: vec![Continuation { step: 4, notes: vec!["lr was 1".into()] }],
        rewinds: vec!["step 40: the loss jumped".into()],
        ..Record::default()
    };
    let run = RunFile { config: config.resolved(9), record };
    let text = run.to_text()?;
    assert_eq!(RunFile::parse("run.toml", &text)?, run, "{text}");
    assert!(text.contains("# Rows of an optimizer step.\nbatch_size = 16\n"), "{text}");
    assert!(text.contains("warmup_steps = 1\n"), "{text}");
    // The same file as a RUN.toml: the settings again, and the record beside them.
    let (again, record) = Layers::new().file("run.toml", &text)?.build()?;
    assert_eq!((again, record), (run.config, Some(run.record)));
    let error = RunFile::parse("run.toml", MINIMAL).unwrap_err();
    assert!(error.to_string().contains("no [record] section"), "{error}");
    Ok(())
}

#[test]
fn f58_a_resumed_run_may_change_some_things() -> Result<(), ConfigError> {
    let recorded = set(&["model=m", "data=a.json"])?.resolved(100);
    let later = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let (now, _) = Layers::from_recorded(&recorded)?.set(&settings)?.build()?;
        compare(&recorded, &now)
    };
    assert_eq!(later(&[])?, []);
    assert_eq!(permit(&later(&["save_every=5", "threads=1"])?, false), Ok(()));
    let changes = later(&["lr=0.5", "threads=1"])?;
    assert_eq!(changes[0].to_string(), "lr was 0.0002, is now 0.5");
    let text = permit(&changes, false).unwrap_err().to_string();
    assert!(text.contains("--allow-changes") && !text.contains("threads"), "{text}");
    assert_eq!(permit(&changes, true), Ok(()));
    let text = permit(&later(&["lora_rank=4", "max_seq_len=5"])?, true).unwrap_err().to_string();
    assert!(text.contains("lora_rank was 16, is now 4: the checkpoint cannot"), "{text}");
    assert!(text.contains("max_seq_len was not set, is now 5"), "{text}");
    // Another seed would train on rows that were held out, and hold out rows that were trained on.
    let text = permit(&later(&["seed=2"])?, true).unwrap_err().to_string();
    assert!(text.contains("seed was 1, is now 2: it decides which rows are held out"), "{text}");
    Ok(())
}

#[test]
fn f58_where_a_run_goes_back_to_checkpoints_their_steps_change_the_result()
-> Result<(), ConfigError> {
    for (policy, decides) in [("warn", false), ("skip", false), ("rewind", true)] {
        let recorded = set(&["model=m", "data=a.json", &format!("loss_spike={policy}")])?;
        let recorded = recorded.resolved(100);
        let (now, _) =
            Layers::from_recorded(&recorded)?.set(&["save_every=5".to_string()])?.build()?;
        let changes = compare(&recorded, &now)?;
        assert_eq!(permit(&changes, false).is_err(), decides, "{policy}");
        assert_eq!(permit(&changes, true), Ok(()), "{policy}");
    }
    Ok(())
}

#[test]
fn every_key_is_documented_and_has_a_flag() -> Result<(), Box<dyn std::error::Error>> {
    let table = toml::Table::try_from(RunConfig::default())?;
    for key in KEYS {
        assert!(table.contains_key(key.name) || key.optional, "{}", key.name);
        assert!(key.help().ends_with(['.', '"']) && key.help().len() > 15, "{}", key.name);
    }
    assert!(table.keys().all(|name| Key::find(name).is_some()));
    let command = ConfigFlags::augment_args(Command::new("train"));
    let arguments = [
        "train",
        "--lr",
        "1e-4",
        "--data",
        "a",
        "--data",
        "b",
        "--set",
        "seed=3",
        "--shuffle",
        "false",
        "--columns",
        "prompt=q",
        "--lora-rank",
        "4",
    ];
    let matches = command.clone().try_get_matches_from(arguments)?;
    let flags = ConfigFlags::from_arg_matches(&matches)?;
    let (config, _) = Layers::new().flags(&flags.flags)?.set(&flags.set)?.build()?;
    assert_eq!((config.lr, config.data.len(), config.seed), (Some(1e-4), 2, 3));
    assert_eq!((config.shuffle, config.lora_rank), (false, 4));
    assert_eq!(config.columns["prompt"], "q");
    let error = command.try_get_matches_from(["train", "--learning-rat", "1"]).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
    Ok(())
}

/// A run.toml as version 1 wrote it, with a field that a later release added to the record.
const RUN_1: &str = r#"version = 1
model = "m"
data = ["a.json"]
lr = 0.0002
validation = 0.1
[columns]
prompt = "q"
[record]
weather = "fine"
[record.versions]
paddock = "0.1.0"
[[record.data]]
path = "a.json"
bytes = 3
sha256 = "00"
"#;

#[test]
fn f61_run_files_of_version_1_are_read() -> Result<(), ConfigError> {
    let run = RunFile::parse("run.toml", RUN_1)?;
    assert_eq!((run.config.lr, run.record.data[0].bytes), (Some(2e-4), 3));
    assert_eq!(file(&run.config.to_text()?)?, run.config);
    Ok(())
}

#[test]
fn f60_another_machine_is_stated() {
    let here = Versions { simd: "avx2".into(), backend: "cpu".into(), ..Versions::default() };
    assert!(here.differences(&Versions { threads: 9, ..here.clone() }).is_empty());
    let there = here.differences(&Versions { simd: "scalar".into(), ..here.clone() });
    assert_eq!(
        there,
        ["not bit for bit the same from here on, because the processor's level was avx2, is now \
          scalar"]
    );
}

/// What RUN.toml is made of, in any order.
const PIECES: &str =
    "(lr|seed|validation|data|columns|record|version|\\[|\\]|=|\"|\\.|\n|[0-9a-z -]){0,30}";

fn many_cases() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(many_cases())]

    /// Any text gives a configuration or an error; never a panic.
    #[test]
    fn any_text_is_survived(text in PIECES) {
        let _ = file(&text);
        let _ = set(&[&text]);
        let _ = RunFile::parse("run.toml", &text);
    }

    #[test]
    fn any_bytes_are_survived(text in "\\PC{0,60}") {
        let _ = file(&text);
        let _ = set(&[&text, &format!("lr={text}"), &format!("data={text}")]);
    }

    /// What is written reads back the same.
    #[test]
    fn numbers_come_back_to_the_bit(
        lr in 1e-12_f64..10.0,
        seed in 0..i64::MAX as u64,
        share in 1e-9_f64..0.999,
    ) {
        let validation = Validation::Share(share);
        let config = RunConfig { lr: Some(lr), seed, validation, ..RunConfig::default() };
        let run = RunFile { config, record: Record::default() };
        let failed = |error: ConfigError| TestCaseError::fail(error.to_string());
        let text = run.to_text().map_err(failed)?;
        let read = RunFile::parse("run.toml", &text).map_err(failed)?;
        prop_assert_eq!(read, run);
    }
}
