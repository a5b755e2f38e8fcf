//! From what the model chose, said and found likely to measures with intervals.

use std::collections::BTreeMap;

use super::answers::Marks;
use super::calibration;
use super::confusion::Confusion;
use super::engine::Likelihood;
use super::outcome::{KindOutcome, Measure};
use super::rows::Item;
use super::statistics::{Interval, bootstrap};
use paddock_datasets::metrics::bleu::Bleu;

/// How a measure is shown.
pub(super) struct Shown {
    name: &'static str,
    share: bool,
    more_is_better: bool,
}

const fn share(name: &'static str) -> Shown {
    Shown { name, share: true, more_is_better: true }
}

const fn less(name: &'static str, share: bool) -> Shown {
    Shown { name, share, more_is_better: false }
}

fn measures(shown: &[Shown], found: Vec<Interval>) -> Vec<Measure> {
    let measure = |(s, interval): (&Shown, Interval)| Measure {
        name: s.name.to_string(),
        interval,
        share: s.share,
        more_is_better: s.more_is_better,
    };
    shown.iter().zip(found).map(measure).collect()
}

/// A label that was expected, the one that was given, and its probability where there is one.
pub type Labelled = (usize, Option<usize>, Option<f64>);

/// Accuracy, balanced accuracy, macro F1 and, with probabilities, calibration. Without common labels (the
/// choices differ from row to row) only accuracy and calibration have a meaning.
pub fn labels(labels: Option<&[String]>, found: &[Labelled], seed: u64) -> Vec<Measure> {
    let right = |i: usize| found[i].1 == Some(found[i].0);
    let sure: Option<Vec<(f64, bool)>> =
        found.iter().enumerate().map(|(i, f)| Some((f.2?, right(i)))).collect();
    let mut shown = vec![share("accuracy")];
    if labels.is_some() {
        shown.extend([share("balanced accuracy"), share("F1 (macro)")]);
    }
    if sure.is_some() {
        shown.push(less("calibration error", true));
    }
    let found = bootstrap(found.len(), seed, &mut |picks| {
        let hits = picks.iter().filter(|&&i| right(i)).count();
        let mut values = vec![hits as f64 / picks.len().max(1) as f64];
        if let Some(labels) = labels {
            let pairs = picks.iter().map(|&i| (found[i].0, found[i].1));
            let confusion = Confusion::of(labels, pairs);
            values.extend([confusion.balanced_accuracy(), confusion.macro_f1()]);
        }
        if let Some(sure) = &sure {
            let picked: Vec<(f64, bool)> = picks.iter().map(|&i| sure[i]).collect();
            values.push(calibration::error(&picked));
        }
        values
    });
    measures(&shown, found)
}

/// Which measures of answers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerMeasures {
    /// Wishes fulfilled.
    pub wishes: bool,
    /// Exact match.
    pub exact: bool,
    /// ROUGE.
    pub rouge: bool,
    /// BLEU.
    pub bleu: bool,
}

/// Measures of generated answers; how they end and repeat always comes along.
pub fn answers(wanted: AnswerMeasures, marks: &[Marks], seed: u64) -> Vec<Measure> {
    let mut shown = Vec::new();
    if wanted.wishes {
        shown.push(share("wishes fulfilled"));
    }
    if wanted.exact {
        shown.push(share("exact match"));
    }
    if wanted.rouge {
        shown.extend([share("ROUGE-1"), share("ROUGE-2"), share("ROUGE-L")]);
    }
    if wanted.bleu {
        shown.push(Shown { name: "BLEU", share: false, more_is_better: true });
    }
    shown.extend([share("stopped by itself"), less("repetition", true), less("empty", true)]);
    let found = bootstrap(marks.len(), seed, &mut |picks| {
        let n = picks.len().max(1) as f64;
        let mean = |f: &dyn Fn(&Marks) -> f64| picks.iter().map(|&i| f(&marks[i])).sum::<f64>() / n;
        let rate = |f: &dyn Fn(&Marks) -> bool| mean(&|m| f64::from(u8::from(f(m))));
        let mut values = Vec::new();
        if wanted.wishes {
            values.push(ratio(picks.iter().map(|&i| marks[i].wishes)));
        }
        if wanted.exact {
            values.push(rate(&|m| m.exact));
        }
        if wanted.rouge {
            values.extend((0..3).map(|r| mean(&|m| m.rouge[r])));
        }
        if wanted.bleu {
            let mut all = Bleu::default();
            picks.iter().for_each(|&i| all.add(&marks[i].bleu));
            values.push(all.score());
        }
        values.extend([rate(&|m| m.ended), mean(&|m| m.repetition), rate(&|m| m.empty)]);
        values
    });
    measures(&shown, found)
}

/// The final answer that a model gave, and the wanted one.
pub type Finals = (Option<String>, Option<String>);

/// Final answers: right ones, and those that could be read.
pub fn finals(found: &[Finals], seed: u64) -> Vec<Measure> {
    let shown = [share("final answer right"), share("final answer found")];
    let intervals = bootstrap(found.len(), seed, &mut |picks| {
        let rate = |test: &dyn Fn(&Finals) -> bool| {
            picks.iter().filter(|&&i| test(&found[i])).count() as f64 / picks.len().max(1) as f64
        };
        vec![rate(&|(own, wanted)| own.is_some() && own == wanted), rate(&|(own, _)| own.is_some())]
    });
    measures(&shown, intervals)
}

fn ratio(counts: impl Iterator<Item = (u32, u32)>) -> f64 {
    let (done, all) = counts.fold((0, 0), |(d, a), c| (d + c.0, a + c.1));
    f64::from(done) / f64::from(all)
}

/// Perplexity of the taught answers: exp of the mean token loss.
pub fn perplexity(found: &[Likelihood], seed: u64) -> Vec<Measure> {
    let intervals = bootstrap(found.len(), seed, &mut |picks| {
        let nll: f64 = picks.iter().map(|&i| found[i].nll).sum();
        let tokens: usize = picks.iter().map(|&i| found[i].tokens).sum();
        vec![(nll / tokens as f64).exp()]
    });
    measures(&[less("perplexity", false)], intervals)
}

/// The main measure for each kind of task. `parts`: for each item what it has and could have; the measure is
/// the ratio of the sums.
pub fn kinds(items: &[Item], parts: &[(u32, u32)], seed: u64) -> Vec<KindOutcome> {
    let mut groups: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
    for (item, part) in items.iter().zip(parts) {
        if let Some(kind) = &item.kind {
            groups.entry(kind).or_default().push(*part);
        }
    }
    let outcome = |(kind, parts): (&str, Vec<(u32, u32)>)| {
        let found =
            bootstrap(parts.len(), seed, &mut |picks| vec![ratio(picks.iter().map(|&i| parts[i]))]);
        let interval = found.into_iter().next().unwrap_or_default();
        KindOutcome { kind: kind.to_string(), rows: parts.len(), interval }
    };
    groups.into_iter().map(outcome).collect()
}
