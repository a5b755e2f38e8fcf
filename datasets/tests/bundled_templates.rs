//! Every bundled template renders on the two example rows of its file and keeps the promises of
//! `bundled/templates/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Deserialize;
use serde_json::Value;

type Row = serde_json::Map<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    cluster: String,
    about: String,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    optional_columns: BTreeMap<String, String>,
    answer_choices: Option<String>,
    examples: Vec<Row>,
    templates: Vec<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    name: String,
    jinja: String,
    inverted: bool,
    answer_choices: Option<String>,
    metrics: Vec<String>,
    original_task: bool,
}

impl Cluster {
    /// The choices of one template for one row: a Jinja text of its own, cut at `|||`.
    fn choices(&self, template: &Template, row: &Row) -> Option<Vec<String>> {
        let source = template.answer_choices.as_ref().or(self.answer_choices.as_ref())?;
        let place = format!("{}#{}: answer_choices", self.cluster, template.name);
        let text =
            strict().render_str(source, Serde(row)).unwrap_or_else(|e| panic!("{place}: {e}"));
        let choices: Vec<String> = text.split("|||").map(|c| c.trim().to_owned()).collect();
        assert!(choices.iter().all(|c| !c.is_empty()), "{place}: an empty choice");
        let distinct: BTreeSet<_> = choices.iter().collect();
        assert_eq!(distinct.len(), choices.len(), "{place}: a choice occurs twice");
        Some(choices)
    }

    /// Input and target of one template for one row.
    fn render(&self, template: &Template, row: &Row) -> (String, String) {
        let place = format!("{}#{}", self.cluster, template.name);
        let mut context = row.clone();
        if let Some(choices) = self.choices(template, row) {
            if let Some(label) = row.get("label") {
                let label = label.as_u64().unwrap_or_else(|| panic!("{place}: label {label}"));
                assert!((label as usize) < choices.len(), "{place}: label {label} has no choice");
            }
            context.insert("answer_choices".to_owned(), choices.into());
        }
        let source = &template.jinja;
        let text =
            strict().render_str(source, Serde(&context)).unwrap_or_else(|e| panic!("{place}: {e}"));
        let halves: Vec<&str> = text.split("|||").collect();
        assert_eq!(halves.len(), 2, "{place}: needs exactly one |||, gave {text:?}");
        (halves[0].trim().to_owned(), halves[1].trim().to_owned())
    }
}

fn strict() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

fn clusters() -> Vec<Cluster> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bundled/templates");
    let entries = std::fs::read_dir(&folder).expect("the folder of templates can be read");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("a folder entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a template file can be read");
        let cluster: Cluster =
            serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(path.file_stem().and_then(|s| s.to_str()), Some(cluster.cluster.as_str()));
        cluster
    };
    files.iter().map(read).collect()
}

#[test]
fn all_clusters_are_there_with_enough_templates() {
    let clusters = clusters();
    let found: Vec<&str> = clusters.iter().map(|c| c.cluster.as_str()).collect();
    let expected = [
        "closed_book_questions",
        "code",
        "common_sense",
        "coreference",
        "inference",
        "miscellaneous",
        "naming_entities",
        "paraphrase",
        "reading_comprehension",
        "sentiment",
        "structure_to_text",
        "summarisation",
        "topic",
        "translation",
    ];
    assert_eq!(found, expected);
    for cluster in &clusters {
        let inverted = cluster.templates.iter().filter(|t| t.inverted).count();
        assert!(cluster.templates.len() >= 10, "{}: too few templates", cluster.cluster);
        assert!(inverted >= 3, "{}: {inverted} inversions", cluster.cluster);
        assert!(!cluster.about.is_empty());
        let names: BTreeSet<_> = cluster.templates.iter().map(|t| &t.name).collect();
        assert_eq!(names.len(), cluster.templates.len(), "{}: a name twice", cluster.cluster);
        let wordings: BTreeSet<_> = cluster.templates.iter().map(|t| &t.jinja).collect();
        assert_eq!(wordings.len(), cluster.templates.len(), "{}: a wording twice", cluster.cluster);
    }
}

#[test]
fn every_template_renders_an_input_and_a_target() {
    for cluster in clusters() {
        assert_eq!(cluster.examples.len(), 2, "{}", cluster.cluster);
        for template in &cluster.templates {
            let mut seen = BTreeSet::new();
            for row in &cluster.examples {
                let (input, target) = cluster.render(template, row);
                let place = format!("{}#{}", cluster.cluster, template.name);
                assert!(!input.is_empty(), "{place}: empty input");
                assert!(!target.is_empty(), "{place}: empty target");
                assert!(!input.contains("{{") && !target.contains("{{"), "{place}");
                assert!(seen.insert((input, target)), "{place}: does not depend on the row");
            }
        }
    }
}

/// Rendering both example rows tries every optional column both ways.
#[test]
fn examples_have_the_columns_and_try_the_optional_ones_both_ways() {
    for cluster in clusters() {
        for row in &cluster.examples {
            for column in cluster.columns.keys() {
                assert!(row.contains_key(column), "{}: no {column}", cluster.cluster);
            }
            for column in row.keys() {
                let known = cluster.columns.contains_key(column)
                    || cluster.optional_columns.contains_key(column);
                assert!(known, "{}: {column} is not described", cluster.cluster);
            }
        }
        for column in cluster.optional_columns.keys() {
            let with = cluster.examples.iter().filter(|row| row.contains_key(column)).count();
            assert_eq!(with, 1, "{}: {column} must be in one of the two", cluster.cluster);
        }
    }
}

#[test]
fn templates_use_known_columns_and_originals_use_all_required_ones() {
    let environment = strict();
    for cluster in clusters() {
        for template in &cluster.templates {
            let place = format!("{}#{}", cluster.cluster, template.name);
            let parsed = environment.template_from_str(&template.jinja);
            let used =
                parsed.unwrap_or_else(|e| panic!("{place}: {e}")).undeclared_variables(false);
            for name in &used {
                let known = cluster.columns.contains_key(name)
                    || cluster.optional_columns.contains_key(name)
                    || name == "answer_choices";
                assert!(known, "{place}: {name} is no column");
            }
            for column in cluster.columns.keys() {
                let ignored = !used.contains(column);
                let may_ignore = template.inverted || !template.original_task;
                assert!(may_ignore || !ignored, "{place}: {column} is not used");
            }
            assert!(!(template.inverted && template.original_task), "{place}");
            if template.answer_choices.is_some() {
                assert!(used.contains("answer_choices"), "{place}: choices are not used");
            }
        }
    }
}

#[test]
fn metrics_are_known_and_choices_agree_in_number() {
    let known = ["Accuracy", "BLEU", "ROUGE", "Squad", "Trivia QA", "Other"];
    for cluster in clusters() {
        let row = &cluster.examples[0];
        let counts: BTreeSet<_> = cluster
            .templates
            .iter()
            .map(|template| cluster.choices(template, row).map(|choices| choices.len()))
            .collect();
        assert_eq!(counts.len(), 1, "{}: {counts:?} answer choices", cluster.cluster);
        for template in &cluster.templates {
            assert!(!template.metrics.is_empty(), "{}#{}", cluster.cluster, template.name);
            for metric in &template.metrics {
                assert!(known.contains(&metric.as_str()), "{}: {metric}", cluster.cluster);
            }
        }
    }
}
