//! Templates that come with the program: a file for each cluster of tasks. `sentiment/terse` is
//! the template `terse` of the cluster `sentiment`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::Record;
use crate::template::{Body, Template};

const FILES: [(&str, &str); 14] = [
    ("closed_book_questions", include_str!("../../bundled/templates/closed_book_questions.yaml")),
    ("code", include_str!("../../bundled/templates/code.yaml")),
    ("common_sense", include_str!("../../bundled/templates/common_sense.yaml")),
    ("coreference", include_str!("../../bundled/templates/coreference.yaml")),
    ("inference", include_str!("../../bundled/templates/inference.yaml")),
    ("miscellaneous", include_str!("../../bundled/templates/miscellaneous.yaml")),
    ("naming_entities", include_str!("../../bundled/templates/naming_entities.yaml")),
    ("paraphrase", include_str!("../../bundled/templates/paraphrase.yaml")),
    ("reading_comprehension", include_str!("../../bundled/templates/reading_comprehension.yaml")),
    ("sentiment", include_str!("../../bundled/templates/sentiment.yaml")),
    ("structure_to_text", include_str!("../../bundled/templates/structure_to_text.yaml")),
    ("summarisation", include_str!("../../bundled/templates/summarisation.yaml")),
    ("topic", include_str!("../../bundled/templates/topic.yaml")),
    ("translation", include_str!("../../bundled/templates/translation.yaml")),
];

/// A cluster of tasks with its templates.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What is asked in it.
    pub about: String,
    /// Columns that rows must have, with their meaning.
    pub columns: BTreeMap<String, String>,
    /// Columns that rows may have.
    pub optional_columns: BTreeMap<String, String>,
    /// Rows to try templates on.
    pub examples: Vec<Record>,
    /// The templates.
    pub templates: Vec<ClusterTemplate>,
}

/// One template of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterTemplate {
    /// The template; its name is CLUSTER/NAME.
    pub template: Template,
    /// It asks for the input, given the answer.
    pub inverted: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    cluster: String,
    about: String,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    optional_columns: BTreeMap<String, String>,
    answer_choices: Option<String>,
    #[serde(default)]
    examples: Vec<Map<String, Value>>,
    templates: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    jinja: String,
    #[serde(default)]
    inverted: bool,
    answer_choices: Option<String>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    original_task: bool,
}

/// The clusters' names.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// A cluster that comes with the program.
pub fn bundled(name: &str) -> Option<Result<Cluster>> {
    let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(parse(name, text))
}

/// Parses a cluster's file; `file` is for messages.
///
/// # Errors
/// [`Error::Template`] names the place of what is wrong.
pub fn parse(file: &str, text: &str) -> Result<Cluster> {
    let parsed: ClusterFile = serde_yaml_ng::from_str(text)
        .map_err(|e| Error::Template { name: file.to_string(), message: e.to_string() })?;
    let ClusterFile { cluster, answer_choices, templates, examples, .. } = parsed;
    let template = |entry: Entry| {
        let choices = entry.answer_choices.or_else(|| answer_choices.clone());
        let name = format!("{cluster}/{}", entry.name);
        let mut template = Template::jinja(&name, &entry.jinja, choices.as_deref());
        if let Body::Jinja(body) = &mut template.body {
            body.original_task = entry.original_task;
            body.metrics = entry.metrics;
        }
        ClusterTemplate { template, inverted: entry.inverted }
    };
    let templates = templates.into_iter().map(template).collect();
    let record = |(row, columns)| Record { row: row as u64, byte: None, line: None, columns };
    let examples = examples.into_iter().enumerate().map(record).collect();
    Ok(Cluster {
        name: cluster,
        about: parsed.about,
        columns: parsed.columns,
        optional_columns: parsed.optional_columns,
        examples,
        templates,
    })
}
