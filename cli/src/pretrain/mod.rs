//! `core-cli pretrain`: raw text in, a model that can go on with such text out. A new model gets a vocabulary
//! of its own and random weights; an existing one learns the texts in addition. The training itself is the
//! ordinary run of `core-cli train` over plain text, with its checkpoints, so it goes on after any stop.
//!
//! | file | what it holds |
//! |---|---|
//! | `recipe.rs` | RECIPE.toml: shape, vocabulary, texts, settings |
//! | `corpus.rs` | all texts in one file of rows |
//! | `start.rs` | the model before the first step |

pub mod corpus;
pub mod recipe;
pub mod start;

use std::path::{Path, PathBuf};

use crate::error::bad_input;
use crate::train::Launch;
use recipe::Recipe;

/// Where the parts of a pretraining lie.
pub struct Places {
    /// The texts, one JSON object a line.
    pub corpus: PathBuf,
    /// The model before the first step.
    pub start: PathBuf,
    /// The run, with the trained model in `model/`.
    pub run: PathBuf,
    /// The recipe as it was read; its presence says that corpus and start are whole.
    pub recipe: PathBuf,
}

impl Places {
    /// In this folder.
    pub fn of(out: &Path) -> Places {
        Places {
            corpus: out.join("corpus.jsonl"),
            start: out.join("start"),
            run: out.join("run"),
            recipe: out.join("recipe.toml"),
        }
    }
}

/// Makes corpus and starting model in `out`, unless that is done, and gives the run to launch. `said` hears
/// how it goes.
pub fn prepare(
    text: &str,
    recipe: &Recipe,
    out: &Path,
    resume: bool,
    said: &mut dyn FnMut(&str),
) -> anyhow::Result<Launch> {
    let places = Places::of(out);
    let done = std::fs::read_to_string(&places.recipe).ok();
    match (&done, resume) {
        (Some(_), false) => {
            return Err(bad_input(format!(
                "{}: a pretraining is there already. Say --resume to go on with it, or choose a new folder.",
                out.display()
            )));
        }
        (Some(old), true) if old != text => {
            return Err(bad_input(format!(
                "{}: the recipe there is another one than the one given. Give the old recipe, or choose a \
                 new folder.",
                out.display()
            )));
        }
        (None, true) if !out.exists() => {
            return Err(bad_input(format!("{}: there is nothing to go on with", out.display())));
        }
        (None, false) if out.exists() && std::fs::read_dir(out)?.next().is_some() => {
            return Err(bad_input(format!(
                "{}: is not empty; choose a new folder, nothing is overwritten",
                out.display()
            )));
        }
        _ => {}
    }
    if done.is_none() {
        std::fs::create_dir_all(out)?;
        corpus::write(&recipe.text, recipe.seed, &places.corpus, said)?;
        if let Some(shape) = &recipe.new_model()? {
            start::write(shape, &recipe.vocabulary, recipe.seed, &places, said)?;
        }
        // Last: from now on a resumed run finds everything in place.
        std::fs::write(&places.recipe, text)?;
    }
    let started = places.run.join("run.toml").is_file();
    launch(recipe, &places, resume && started)
}

/// The run: full training on plain text, with the recipe's own settings on top.
fn launch(recipe: &Recipe, places: &Places, resume: bool) -> anyhow::Result<Launch> {
    let model = match &recipe.model.from {
        Some(folder) => folder.clone(),
        None => places.start.display().to_string(),
    };
    let mut table = toml::Table::new();
    let corpus = places.corpus.display().to_string();
    let fixed: [(&str, toml::Value); 8] = [
        ("model", model.into()),
        ("data", toml::Value::Array(vec![corpus.into()])),
        ("template", "text".into()),
        ("over_length", "pieces".into()),
        ("method", "full".into()),
        ("out", places.run.display().to_string().into()),
        ("seed", toml::Value::Integer(i64::try_from(recipe.seed).unwrap_or(i64::MAX))),
        ("epochs", 1.0.into()),
    ];
    table.extend(fixed.map(|(key, value)| (key.to_string(), value)));
    for (key, value) in &recipe.training {
        if ["model", "data", "template", "out", "seed", "method", "over_length"]
            .contains(&key.as_str())
        {
            return Err(bad_input(format!(
                "[training] {key}: this is settled by the other parts of the recipe"
            )));
        }
        table.insert(key.clone(), value.clone());
    }
    let file = Some(("recipe [training]".to_string(), table.to_string()));
    Ok(Launch { file, resume, ..Launch::default() })
}
