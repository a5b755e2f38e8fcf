//! What is built into the program: a model and data, under names that begin with `bundled:`. Each is written
//! once into the user's cache folder, so that everything else sees ordinary files.

use std::path::{Path, PathBuf};

use anyhow::Context;
use paddock_datasets::stories::bundled as stories;
use sha2::{Digest, Sha256};

use crate::error::bad_input;

/// The prefix of built-in names.
pub const PREFIX: &str = "bundled:";

/// Files of one name.
type Files = &'static [(&'static str, &'static [u8])];

const TINY: Files = &[
    ("config.json", include_bytes!("../../models/tiny/config.json")),
    ("model.safetensors", include_bytes!("../../models/tiny/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../models/tiny/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../models/tiny/tokenizer_config.json")),
];
const STORIES: Files = &[
    ("train.jsonl", stories::TRAIN.as_bytes()),
    ("validation.jsonl", stories::VALIDATION.as_bytes()),
    ("test.jsonl", stories::TEST.as_bytes()),
];
const REVIEWS: Files =
    &[("reviews.csv", include_bytes!("../../datasets/bundled/reviews/reviews.csv"))];
const SEEDS: Files = &[("seeds.jsonl", include_bytes!("../../datasets/bundled/seeds/seeds.jsonl"))];
const SENSITIVE: Files =
    &[("sensitive.jsonl", include_bytes!("../../datasets/bundled/sensitive/sensitive.jsonl"))];
const CHATS: Files = &[("chats.jsonl", include_bytes!("../../datasets/bundled/chats/chats.jsonl"))];
const PROBES: Files = &[("probes.jsonl", ALL_PROBES.as_bytes())];
const ALL_PROBES: &str = concat!(
    include_str!("../../datasets/bundled/probes/arithmetic.jsonl"),
    include_str!("../../datasets/bundled/probes/closed_book_facts.jsonl"),
    include_str!("../../datasets/bundled/probes/code_reading.jsonl"),
    include_str!("../../datasets/bundled/probes/common_sense.jsonl"),
    include_str!("../../datasets/bundled/probes/copying.jsonl"),
    include_str!("../../datasets/bundled/probes/grammar.jsonl"),
    include_str!("../../datasets/bundled/probes/naming_entities.jsonl"),
    include_str!("../../datasets/bundled/probes/ordering.jsonl"),
    include_str!("../../datasets/bundled/probes/other_language.jsonl"),
    include_str!("../../datasets/bundled/probes/sentiment.jsonl"),
    include_str!("../../datasets/bundled/probes/story_continuation.jsonl"),
);

/// Names of built-in models, with what they are.
pub const MODELS: [(&str, &str); 1] =
    [("tiny", "a LLaMA of 2.8 million parameters that goes on telling a children's story")];
/// Names of built-in data, with what they are.
pub const DATA: [(&str, &str); 6] = [
    ("stories", "3,200 instructions about little stories, 200 to watch, 400 to judge by"),
    ("reviews", "956 product reviews, positive or negative"),
    ("seeds", "175 seed tasks of many kinds"),
    ("probes", "440 short questions of eleven kinds, to see what tuning costs"),
    ("sensitive", "48 sensitive questions for judge: to be helped with or to be declined"),
    ("chats", "20 conversations for judge, whose last question is to be answered"),
];

/// Built-in rows by their role.
pub struct Data {
    /// Rows to learn from.
    pub train: PathBuf,
    /// Rows to watch, where there is a fixed set.
    pub validation: Option<PathBuf>,
    /// Rows to judge by, where there is a fixed set.
    pub test: Option<PathBuf>,
}

/// The folder of a built-in model.
pub fn model(name: &str) -> anyhow::Result<PathBuf> {
    match name {
        "tiny" => unpacked("tiny", TINY),
        _ => Err(unknown("model", name, &MODELS)),
    }
}

/// The files of built-in data.
pub fn data(name: &str) -> anyhow::Result<Data> {
    match name {
        "stories" => {
            let dir = unpacked("stories", STORIES)?;
            let file = |name: &str| dir.join(name);
            let (validation, test) = (Some(file("validation.jsonl")), Some(file("test.jsonl")));
            Ok(Data { train: file("train.jsonl"), validation, test })
        }
        "reviews" => one_file(name, REVIEWS),
        "seeds" => one_file(name, SEEDS),
        "probes" => one_file(name, PROBES),
        "sensitive" => one_file(name, SENSITIVE),
        "chats" => one_file(name, CHATS),
        _ => Err(unknown("data set", name, &DATA)),
    }
}

/// Data of one file without fixed sides.
fn one_file(name: &str, files: Files) -> anyhow::Result<Data> {
    Ok(Data { train: unpacked(name, files)?.join(files[0].0), validation: None, test: None })
}

/// A file's path as it is, or the training rows of built-in data.
pub fn data_path(name: &str) -> anyhow::Result<PathBuf> {
    match name.strip_prefix(PREFIX) {
        Some(name) => Ok(data(name)?.train),
        None => Ok(PathBuf::from(name)),
    }
}

fn unknown(what: &str, name: &str, known: &[(&str, &str)]) -> anyhow::Error {
    let list: Vec<String> =
        known.iter().map(|(name, about)| format!("{PREFIX}{name} ({about})")).collect();
    bad_input(format!("there is no built-in {what} called `{name}`. There is {}.", list.join(", ")))
}

/// The folder with these files, written if it is not there yet. Its name carries the content's hash, so that
/// another version of the program never reads an older one's files.
fn unpacked(name: &str, files: Files) -> anyhow::Result<PathBuf> {
    let mut hash = Sha256::new();
    files.iter().for_each(|(_, bytes)| hash.update(bytes));
    let digest: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    let dir = cache_folder().join(format!("{name}-{digest}"));
    if files.iter().all(|(file, bytes)| is_whole(&dir.join(file), bytes)) {
        return Ok(dir);
    }
    std::fs::create_dir_all(&dir).with_context(|| {
        format!(
            "cannot create {}; name another folder for built-in files in PADDOCK_CACHE",
            dir.display()
        )
    })?;
    for (file, bytes) in files {
        // Beside and renamed: another process may be doing the same.
        let partial = dir.join(format!("{file}.{}.partial", std::process::id()));
        let write = std::fs::write(&partial, bytes)
            .and_then(|()| std::fs::rename(&partial, dir.join(file)));
        write.with_context(|| format!("cannot write {}", dir.join(file).display()))?;
    }
    Ok(dir)
}

fn is_whole(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|found| found == bytes)
}

/// Where built-in files and tokens are written: PADDOCK_CACHE, or the system's folder for such things.
pub fn cache_folder() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let system = || {
        if cfg!(windows) {
            return var("LOCALAPPDATA");
        }
        if cfg!(target_os = "macos") {
            return var("HOME").map(|home| home.join("Library/Caches"));
        }
        var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")))
    };
    var("PADDOCK_CACHE")
        .unwrap_or_else(|| system().unwrap_or_else(std::env::temp_dir).join("paddock"))
}
