//! The model judged on the test rows, before and after training: loss, wishes fulfilled, exact answers.

use std::path::PathBuf;

use paddock_core::model::{Method, Model};
use paddock_core::philox::{Philox, Stream};
use paddock_core::train::evaluate;
use paddock_datasets::encode::Example;
use paddock_datasets::stories::check;
use serde::{Deserialize, Serialize};

use super::report::Listener;
use super::session::{Session, batches};
use crate::group::Group;
use crate::run::events::{Event, Judged, Share, Warning};
use crate::run::folder::RunFolder;
use crate::storage::Storage;
use crate::storage::whole::{read_file, replace_file};

/// Resamplings of a bootstrap interval.
const RESAMPLINGS: u32 = 2_000;

/// What came of the test rows, for one state of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Mean loss of a trained token.
    pub loss: f64,
    /// For each row: wishes fulfilled, wishes in all (an exact answer counts as one where none are stated).
    pub counts: Vec<(u32, u32)>,
    /// The answers.
    pub answers: Vec<String>,
}

impl Judgement {
    /// The share of wishes fulfilled, with the 95% interval of a bootstrap over rows.
    pub fn share(&self, seed: u64) -> Share {
        let ratio = |counts: &mut dyn Iterator<Item = &(u32, u32)>| {
            let (done, all) = counts.fold((0, 0), |(d, a), c| (d + c.0, a + c.1));
            f64::from(done) / f64::from(all.max(1))
        };
        let rows = self.counts.len() as u64;
        let random = Philox::new(seed, Stream::GENERATE);
        let mut draws: Vec<f64> = (0..RESAMPLINGS)
            .map(|r| {
                let pick = |i| self.counts.get(random.below(r, i, rows) as usize);
                ratio(&mut (0..rows).filter_map(pick))
            })
            .collect();
        draws.sort_by(f64::total_cmp);
        let at = |q: f64| draws.get((q * f64::from(RESAMPLINGS)) as usize).copied();
        Share {
            value: ratio(&mut self.counts.iter()),
            low: at(0.025).unwrap_or(0.0),
            high: at(0.975).unwrap_or(0.0),
        }
    }
}

/// Whether the test rows state wishes; otherwise answers are compared with the data's.
pub fn has_wishes(session: &Session<'_>) -> bool {
    session.setup.test.iter().any(|row| !row.wishes.is_empty())
}

/// Judges the model as it is, or without its adapter. `None` if `go_on`, asked between batches and tokens, said no.
pub fn judge(
    session: &mut Session<'_>,
    base: bool,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> anyhow::Result<Option<Judgement>> {
    let setup = session.setup;
    let plain = session.model.base();
    let model: &Model = if base { &plain } else { &session.model };
    let examples: Vec<&Example> = setup.test.iter().map(|row| &row.example).collect();
    let (mut nll, mut tokens) = (0.0, 0);
    for (_, batch) in batches(&examples, &session.limits(), &model.config)? {
        if !go_on(0) {
            return Ok(None);
        }
        let found = evaluate(&mut *session.b, model, &session.plan, &batch)?;
        nll += found.nll.iter().map(|&x| f64::from(x)).sum::<f64>();
        tokens += found.nll.len();
    }
    let prompts: Vec<&[u32]> = setup.test.iter().map(|row| &row.prompt[..]).collect();
    let mut group = Group {
        b: &mut *session.b,
        model,
        plan: &session.plan,
        tokenizer: &setup.opened.tokenizer,
        max_new_tokens: longest_answer(session.setup),
        temperature: 0.0,
        seed: 0,
    };
    let Some(answers) = group.answers(&prompts, go_on)? else { return Ok(None) };
    let counts = setup.test.iter().zip(&answers).map(|(row, answer)| {
        if row.wishes.is_empty() {
            return (u32::from(answer.text.trim() == row.wanted.trim()), 1);
        }
        let fulfilled = check(&answer.text, &row.wishes);
        (fulfilled.iter().filter(|f| **f).count() as u32, fulfilled.len() as u32)
    });
    let counts = counts.collect();
    let answers = answers.into_iter().map(|a| a.text).collect();
    Ok(Some(Judgement { loss: nll / tokens.max(1) as f64, counts, answers }))
}

/// Most tokens of an answer: a quarter more than the longest one in the data, so that an answer that does not
/// end is seen as such.
pub fn longest_answer(setup: &super::Setup) -> u64 {
    let longest = setup.test.iter().map(|row| row.example.trained_tokens() as u64).max();
    longest.map_or(0, |n| n + n / 4 + 1)
}

/// The judgement of the model before training: made once and kept beside the run, since full training changes
/// the model. A run that goes on with another number of test rows makes it anew, or says why it cannot.
pub fn before(
    session: &mut Session<'_>,
    folder: &RunFolder,
    storage: &dyn Storage,
    listener: &mut dyn Listener,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> anyhow::Result<Option<Judgement>> {
    if session.setup.test.is_empty() {
        return Ok(None);
    }
    let path = kept(folder);
    let bytes = read_file(storage, &path, 64 << 20).ok();
    let made = bytes.and_then(|bytes| serde_json::from_slice::<Judgement>(&bytes).ok());
    let rows = session.setup.test.len();
    let then = match made {
        Some(found) if found.counts.len() == rows => return Ok(Some(found)),
        found => found.map_or(0, |found| found.counts.len()),
    };
    // Below an adapter the model is still what it was.
    if session.run.step > 0 && session.setup.method == Method::Full {
        let message = not_comparable(then, rows);
        listener.event(&Event::Warning(Warning { message }))?;
        return Ok(None);
    }
    let Some(found) = judge(session, true, go_on)? else { return Ok(None) };
    replace_file(storage, &path, &serde_json::to_vec(&found)?)?;
    Ok(Some(found))
}

/// Why a run whose model has changed is not judged.
fn not_comparable(then: usize, rows: usize) -> String {
    let before = match then {
        0 => "no test rows were asked before training".to_string(),
        _ => format!("{then} test rows were asked before training and {rows} would be now"),
    };
    let way_out = match then {
        0 => "a new run is judged from its start",
        _ => "--resume with the --test-rows that it was begun with has it judged",
    };
    format!(
        "{before}, and full fine-tuning has changed the model since: before and after cannot be compared, so this \
         run is not judged; {way_out}"
    )
}

fn kept(folder: &RunFolder) -> PathBuf {
    folder.path().join("judged_before.json")
}

/// Both judgements as an event.
pub fn compared(session: &Session<'_>, base: &Judgement, tuned: &Judgement) -> Judged {
    let seed = session.setup.config.seed;
    Judged {
        rows: tuned.counts.len() as u64,
        measure: if has_wishes(session) { "wishes fulfilled" } else { "exact answers" }.into(),
        base_loss: base.loss,
        tuned_loss: tuned.loss,
        base: base.share(seed),
        tuned: tuned.share(seed),
    }
}
