//! What is asked of a judge, as a template that people may write themselves.

use paddock_datasets::record::Record;
use paddock_datasets::template::{Compiled, Template};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;

use crate::error::bad_input;
use crate::storage::whole::sha256_hex;

/// A rubric: grades to choose from, and the question to the judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// What it is called.
    pub name: String,
    /// Jinja; knows question, answer (or answer_a and answer_b) and grades.
    pub text: String,
    /// Grades to choose from, the worst first; for pairs the first answer, the second, and perhaps a tie.
    pub grade: Vec<Grade>,
    /// Two answers are compared.
    #[serde(default)]
    pub pairs: bool,
}

/// A grade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grade {
    /// What the judge is to say.
    pub name: String,
    /// Its number, for means.
    pub value: f64,
    /// What it means.
    pub means: String,
}

/// Names of the rubrics that are built in.
pub const BUILT_IN: [&str; 4] = ["likert", "absolute", "safety", "pairwise"];

const LIKERT: &str = include_str!("rubrics/likert.toml");
const ABSOLUTE: &str = include_str!("rubrics/absolute.toml");
const SAFETY: &str = include_str!("rubrics/safety.toml");
const PAIRWISE: &str = include_str!("rubrics/pairwise.toml");

impl Rubric {
    /// A built-in rubric or a TOML file.
    pub fn named(name: &str) -> anyhow::Result<Rubric> {
        let built_in = [LIKERT, ABSOLUTE, SAFETY, PAIRWISE];
        let rubric: Rubric = match BUILT_IN.iter().position(|known| *known == name) {
            Some(i) => crate::study::toml::parse(name, built_in[i])?,
            None if Path::new(name).is_file() => crate::study::toml::load(Path::new(name))?,
            None => {
                return Err(bad_input(format!(
                    "there is no rubric {name:?}: built in are {}; or give a TOML file",
                    BUILT_IN.join(", ")
                )));
            }
        };
        let least = if rubric.pairs { 2..=3 } else { 2..=100 };
        if !least.contains(&rubric.grade.len()) {
            return Err(bad_input(format!(
                "{name}: it has {} grades; a rubric needs two at least, one for pairs has the first \
                 answer, the second, and perhaps a tie",
                rubric.grade.len()
            )));
        }
        rubric.compiled()?;
        Ok(rubric)
    }

    /// Names of the grades.
    pub fn names(&self) -> Vec<String> {
        self.grade.iter().map(|g| g.name.clone()).collect()
    }

    /// Hash of everything.
    pub fn hash(&self) -> String {
        sha256_hex(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Ready to ask.
    pub fn compiled(&self) -> anyhow::Result<Compiled> {
        Ok(Template::jinja(&self.name, &self.text, None).compile()?)
    }

    /// The question to the judge.
    pub fn ask(
        &self,
        compiled: &Compiled,
        question: &str,
        answers: &[&str],
    ) -> anyhow::Result<String> {
        let lines: Vec<String> =
            self.grade.iter().map(|g| format!("{}: {}", g.name, g.means)).collect();
        let get = |i: usize| json!(answers.get(i).copied().unwrap_or_default());
        let record = Record::from_pairs([
            ("question", json!(question)),
            ("answer", get(0)),
            ("answer_a", get(0)),
            ("answer_b", get(1)),
            ("grades", json!(lines.join("\n"))),
        ]);
        Ok(compiled.render_prompt(&record)?.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_rubrics_ask_with_all_grades() {
        for name in BUILT_IN {
            let rubric = Rubric::named(name).expect(name);
            let compiled = rubric.compiled().expect(name);
            let text = rubric.ask(&compiled, "Why {{ x }}?", &["Because.", "So."]).expect(name);
            assert!(text.contains("Why {{ x }}?") && text.contains("Because."), "{text}");
            assert_eq!(text.contains("So."), rubric.pairs, "{text}");
            assert!(rubric.grade.iter().all(|g| text.contains(&g.means)), "{text}");
        }
        assert_eq!(Rubric::named("likert").expect("it").grade.len(), 6);
        let error = Rubric::named("likart").expect_err("none").to_string();
        assert!(error.contains("likert, absolute"), "{error}");
    }
}
