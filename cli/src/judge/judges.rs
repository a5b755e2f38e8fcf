//! Whoever judges.

use std::io::{BufRead, Write};
use std::time::Duration;

use paddock_datasets::template::{Rendered, Template};

use super::http::Endpoint;
use super::read::grade;
use super::rubric::Rubric;
use crate::error::bad_input;
use crate::eval::engine::{Device, Engine};
use crate::eval::progress::{Interrupted, Progress};
use crate::eval::rank::{LengthNorm, rank, ranking};
use crate::eval::rows::Item;
use crate::open::Opened;
use crate::run::signals::Signals;

/// Tries of an endpoint for one question.
const TRIES: u32 = 4;

/// What a judge said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A grade, and its words.
    Grade(usize, String),
    /// The person wants to pass this one over.
    Skip,
}

/// A judge.
pub trait Judge {
    /// Judges what the prompt asks.
    fn judge(&mut self, rubric: &Rubric, prompt: &str) -> anyhow::Result<Said>;
}

/// A model on this machine: the likeliest of the grades.
pub struct ModelJudge<'a> {
    /// The model.
    pub opened: &'a Opened,
    /// How the question is put to it; as it is without one.
    pub template: Option<Template>,
    /// What computes.
    pub device: Device,
    /// Whether to stop.
    pub signals: &'a Signals,
}

impl Judge for ModelJudge<'_> {
    fn judge(&mut self, rubric: &Rubric, prompt: &str) -> anyhow::Result<Said> {
        let (prompt, lead) = match &self.template {
            Some(template) => (template.compile()?.render_question(prompt, "")?, "Grade: "),
            None => {
                let mut raw = Rendered::default();
                raw.data(prompt.trim_end());
                (raw, "\nGrade: ")
            }
        };
        let choices: Vec<String> = rubric.names().iter().map(|n| format!("{lead}{n}")).collect();
        let item = Item {
            row: 0,
            prompt,
            references: vec![choices[0].clone()],
            choices,
            gold: Some(0),
            wishes: Vec::new(),
            kind: None,
        };
        let items = [item];
        let limit = self.opened.folder.config.max_seq_len as usize;
        let ranking = ranking(&self.opened.tokenizer, &items, limit)?;
        let longest = ranking.examples.iter().map(|e| e.tokens.len()).max().unwrap_or(2);
        let mut engine = Engine::new(self.opened, &self.device, longest as u64, 0)?;
        let found = engine.likelihoods(&ranking.examples, &mut Progress::quiet(self.signals))?;
        let best = rank(&items, &found, LengthNorm::Token)[0].best;
        Ok(Said::Grade(best, String::new()))
    }
}

impl Judge for Endpoint {
    fn judge(&mut self, rubric: &Rubric, prompt: &str) -> anyhow::Result<Said> {
        let names = rubric.names();
        let mut last = String::new();
        for number in 0..TRIES {
            if number > 0 {
                std::thread::sleep(Duration::from_millis(100 << number));
            }
            match self.ask(prompt) {
                Ok(reply) => match grade(&reply, &names) {
                    Some(found) => return Ok(Said::Grade(found, reply)),
                    None => {
                        let said: String = reply.trim().chars().take(120).collect();
                        last = format!(
                            "its reply names none of the grades {}, or more than one: {said:?}",
                            names.join(", ")
                        );
                    }
                },
                Err(error) => last = error.to_string(),
            }
        }
        anyhow::bail!("the endpoint was asked {TRIES} times; the last time {last}")
    }
}

/// A person at the terminal, who does not see where an answer comes from.
pub struct Person<'a> {
    /// What the person types.
    pub from: &'a mut dyn BufRead,
    /// What the person reads.
    pub to: &'a mut dyn Write,
}

impl Judge for Person<'_> {
    fn judge(&mut self, rubric: &Rubric, prompt: &str) -> anyhow::Result<Said> {
        let names = rubric.names();
        let line = "-".repeat(72);
        writeln!(self.to, "{line}\n{}\n{line}", prompt.trim())?;
        loop {
            write!(self.to, "{}? (s: skip, q: stop) ", names.join(" / "))?;
            self.to.flush()?;
            let mut typed = String::new();
            if self.from.read_line(&mut typed)? == 0 {
                return Err(Interrupted.into());
            }
            let typed = typed.trim().to_lowercase();
            match names.iter().position(|n| n.to_lowercase() == typed) {
                Some(found) => return Ok(Said::Grade(found, String::new())),
                None if typed == "s" => return Ok(Said::Skip),
                None if typed == "q" => return Err(Interrupted.into()),
                None => writeln!(self.to, "Please type one of {}.", names.join(", "))?,
            }
        }
    }
}

/// Refuses a pair of answers for a rubric that grades one, and the other way round.
pub fn fits(rubric: &Rubric, pairs: bool) -> anyhow::Result<()> {
    match (rubric.pairs, pairs) {
        (true, false) => Err(bad_input(format!(
            "rubric {} compares two answers: give the others with --against",
            rubric.name
        ))),
        (false, true) => Err(bad_input(format!(
            "rubric {} grades one answer; leave --against out, or take --rubric pairwise",
            rubric.name
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_until_the_answer_is_a_grade() {
        let rubric = Rubric::named("likert").expect("it");
        let mut typed = "9\n\n5\ns\n".as_bytes();
        let mut shown = Vec::new();
        let mut person = Person { from: &mut typed, to: &mut shown };
        let said = person.judge(&rubric, "Q").expect("a grade");
        assert_eq!(said, Said::Grade(4, String::new()));
        assert_eq!(person.judge(&rubric, "Q").expect("skipped"), Said::Skip);
        assert!(person.judge(&rubric, "Q").expect_err("the end").is::<Interrupted>());
        let shown = String::from_utf8(shown).expect("text");
        assert_eq!(shown.matches("Please type one of").count(), 2, "{shown}");
    }
}
