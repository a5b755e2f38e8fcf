//! Row after row is judged, and each judgement is on the disk before the next is asked for.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use paddock_core::philox::{Philox, Stream};
use serde::{Deserialize, Serialize};

use super::judges::{Judge, Said};
use super::rows::Asked;
use super::rubric::Rubric;
use crate::error::bad_input;
use crate::eval::progress::Progress;
use crate::storage::whole::sha256_hex;

/// Version of a line.
pub const VERSION: u32 = 1;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Version of this layout.
    pub version: u32,
    /// The row.
    pub row: u64,
    /// Who judged.
    pub judge: String,
    /// The rubric's name.
    pub rubric: String,
    /// Two answers were compared.
    pub pairs: bool,
    /// The grades given: of a pair one for each order in which the answers were shown.
    pub grades: Vec<String>,
    /// The grade's number; of a pair 1 where the first answer is better, 0 where the second is, ½ for a tie
    /// or where the judge changed its mind with the order.
    pub value: f64,
    /// The judge's words, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// Hash of everything that was judged, by whom and how.
    pub key: String,
}

/// How rows are gone through.
pub struct Course<'a> {
    /// The rubric.
    pub rubric: &'a Rubric,
    /// The judge's name.
    pub judge: String,
    /// Hash of the template that the judge is asked through, if there is one.
    pub template: Option<String>,
    /// A person judges: rows are shuffled, each pair is shown once, in an order by chance.
    pub blind: bool,
    /// Seed of shuffling.
    pub seed: u64,
    /// The file.
    pub out: &'a Path,
}

impl Course<'_> {
    fn key(&self, asked: &Asked) -> String {
        let parts = (&self.rubric.hash(), &self.judge, &asked.question, &asked.answers, asked.row);
        let text = match &self.template {
            None => serde_json::to_string(&parts),
            Some(template) => serde_json::to_string(&(parts, template)),
        };
        sha256_hex(text.unwrap_or_default().as_bytes())
    }

    /// The judgements of these very rows by this judge, and how many others the file holds.
    pub fn own(&self, rows: &[Asked]) -> anyhow::Result<(Vec<Judgement>, usize)> {
        let keys: BTreeSet<String> = rows.iter().map(|asked| self.key(asked)).collect();
        let all = load(self.out)?;
        let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|j| keys.contains(&j.key));
        Ok((own, others.len()))
    }

    /// Judges what is not judged yet. Returns how many had been before.
    pub fn run(
        &self,
        rows: &[Asked],
        judge: &mut dyn Judge,
        progress: &mut Progress,
    ) -> anyhow::Result<usize> {
        let known: BTreeSet<String> = load(self.out)?.into_iter().map(|j| j.key).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let random = Philox::new(self.seed, Stream::MIX);
        if self.blind {
            random.shuffle(0, &mut order);
        }
        let compiled = self.rubric.compiled()?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.out)?;
        let mut before = 0;
        for i in order {
            let asked = &rows[i];
            let key = self.key(asked);
            if known.contains(&key) {
                before += 1;
                progress.step(1)?;
                continue;
            }
            let answers: Vec<&str> = asked.answers.iter().map(String::as_str).collect();
            let swapped: Vec<&str> = answers.iter().rev().copied().collect();
            let orders: Vec<(&[&str], bool)> = match (self.rubric.pairs, self.blind) {
                (false, _) => vec![(&answers, false)],
                (true, false) => vec![(&answers, false), (&swapped, true)],
                (true, true) if random.below(1, asked.row, 2) == 0 => vec![(&answers, false)],
                (true, true) => vec![(&swapped, true)],
            };
            let (mut grades, mut values, mut said) = (Vec::new(), Vec::new(), Vec::new());
            for (shown, swapped) in orders {
                let prompt = self.rubric.ask(&compiled, &asked.question, shown)?;
                let found = judge
                    .judge(self.rubric, &prompt)
                    .map_err(|e| e.context(format!("row {} could not be judged", asked.row)))?;
                let Said::Grade(grade, words) = found else { break };
                let grade = &self.rubric.grade[grade];
                grades.push(grade.name.clone());
                values.push(if swapped { 1.0 - grade.value } else { grade.value });
                said.extend(Some(words).filter(|w| !w.is_empty()));
            }
            let Some(&first) = values.first() else { continue };
            let agreed = values.iter().all(|v| *v == first);
            let line = Judgement {
                version: VERSION,
                row: asked.row,
                judge: self.judge.clone(),
                rubric: self.rubric.name.clone(),
                pairs: self.rubric.pairs,
                grades,
                value: if agreed { first } else { 0.5 },
                said,
                key,
            };
            file.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
            file.sync_data()?;
            progress.step(1)?;
        }
        Ok(before)
    }
}

/// The judgements of a file; none if there is no such file. A last line that breaks off is taken away, and one
/// that only lacks its line break is given it.
///
/// # Errors
/// If there is something else in it: it stays as it is.
pub fn load(path: &Path) -> anyhow::Result<Vec<Judgement>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path)?;
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let (whole, tail) = bytes.split_at(end);
    let other = |line: usize, error: serde_json::Error| {
        bad_input(format!(
            "{}: line {line} is no judgement ({error}); name another file with --out",
            path.display()
        ))
    };
    let mut found = Vec::new();
    for (i, line) in whole.split_inclusive(|b| *b == b'\n').enumerate() {
        found.push(serde_json::from_slice(line).map_err(|error| other(i + 1, error))?);
    }
    if tail.is_empty() {
        return Ok(found);
    }
    match serde_json::from_slice(tail) {
        Ok(judgement) => {
            found.push(judgement);
            std::fs::OpenOptions::new().append(true).open(path)?.write_all(b"\n")?;
        }
        // Only what was begun here may be taken away: a file of one line may be anything.
        Err(error) if found.is_empty() && !begun_here(tail) => return Err(other(1, error)),
        Err(_) => std::fs::OpenOptions::new().write(true).open(path)?.set_len(end as u64)?,
    }
    Ok(found)
}

/// Whether a line that breaks off began as a judgement does.
fn begun_here(tail: &[u8]) -> bool {
    let beginning = format!("{{\"version\":{VERSION},\"row\":").into_bytes();
    beginning.starts_with(tail) || tail.starts_with(&beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_breaks_off_inside_a_letter_is_taken_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("found.jsonl");
        let line = "{\"version\":1,\"row\":0,\"judge\":\"é\",\"rubric\":\"likert\",\"pairs\":false,\
                    \"grades\":[\"5\"],\"value\":5.0,\"key\":\"k\"}";
        let mut bytes = format!("{line}\n{line}\n").into_bytes();
        let whole = bytes.len();
        let cut = line.find('é').expect("it") + 1;
        bytes.extend(&line.as_bytes()[..cut]);
        std::fs::write(&path, &bytes).expect("a file");
        assert_eq!(load(&path).expect("judgements").len(), 2);
        assert_eq!(std::fs::read(&path).expect("a file").len(), whole);
        // A whole last line stays, and the next one begins anew.
        std::fs::write(&path, line).expect("a file");
        assert_eq!(load(&path).expect("judgements").len(), 1);
        assert_eq!(std::fs::read(&path).expect("a file"), format!("{line}\n").into_bytes());
        // The very first line may break off, too.
        for cut in [1, 12, cut] {
            std::fs::write(&path, &line.as_bytes()[..cut]).expect("a file");
            assert!(load(&path).expect("none").is_empty(), "{cut}");
            assert_eq!(std::fs::read(&path).expect("a file"), b"");
        }
    }

    #[test]
    fn f15_a_file_without_a_line_break_that_holds_no_judgement_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("rows.json");
        for text in ["[{\"question\":\"why ?\"}]", "{\"version\":1,\"rows\":3}", "words"] {
            std::fs::write(&path, text).expect("a file");
            let error = load(&path).expect_err(text);
            assert_eq!(crate::error::exit_code(&error), 2);
            let error = error.to_string();
            for words in ["rows.json: line 1 is no judgement", "name another file with --out"] {
                assert!(error.contains(words), "{error}");
            }
            assert_eq!(std::fs::read(&path).expect("a file"), text.as_bytes());
        }
    }
}
