//! The training run as a state machine without I/O: where it is, what was best, when to stop. Its
//! state is a few integers, so that a resumed run goes on exactly.

use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::train::scale::LossScale;

/// What early stopping watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOn {
    /// The validation loss.
    Validation,
    /// The training loss.
    Train,
}

/// What to do after an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The best so far: keep it.
    Best,
    /// Not better; go on.
    Worse,
    /// Not better for as many evaluations as patience allows: stop.
    Stop,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Updates made.
    pub step: u64,
    /// Rows used so far, over all epochs: the data position.
    pub rows_seen: u64,
    /// Tokens of those rows.
    pub tokens_seen: u64,
    /// Updates skipped because something was not finite.
    pub skipped: u64,
    /// The best score so far (a loss: lower is better); infinite at first.
    pub best_score: f64,
    /// The step that reached it.
    pub best_step: u64,
    /// Evaluations since without improvement.
    pub worse: u64,
    /// Sum and count of training losses since the last evaluation.
    pub recent_loss: (f64, u64),
    /// The loss's factor, where the back-end needs one.
    pub loss_scale: LossScale,
    /// The last step that was saved because it was due, not because the run was interrupted; 0 for none. To
    /// this one it goes back after a loss spike.
    pub due_step: u64,
    /// How often it went back.
    pub rewinds: u64,
    /// The last step after which an evaluation was due and made. One that a signal cut short is made when the run
    /// goes on.
    pub evaluated: u64,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            step: 0,
            rows_seen: 0,
            tokens_seen: 0,
            skipped: 0,
            best_score: f64::INFINITY,
            best_step: 0,
            worse: 0,
            recent_loss: (0.0, 0),
            loss_scale: LossScale::default(),
            due_step: 0,
            rewinds: 0,
            evaluated: 0,
        }
    }
}

/// Version of the state's bytes. Version 1 had no loss scale, version 2 no step to go back to, version 3 did not say
/// which evaluations were made.
const VERSION: u64 = 4;

impl Run {
    /// Notes a finished step.
    pub fn stepped(&mut self, loss: f64, rows: u64, tokens: u64) {
        self.step += 1;
        self.rows_seen += rows;
        self.tokens_seen += tokens;
        self.recent_loss.0 += loss;
        self.recent_loss.1 += 1;
    }

    /// Mean training loss since the last evaluation; none if every step since was passed over.
    pub fn mean_recent_loss(&self) -> Option<f64> {
        let (sum, count) = self.recent_loss;
        (count > 0).then(|| sum / count as f64)
    }

    /// Whether patience has run out: so many evaluations without improvement. 0 never does.
    pub fn is_out_of_patience(&self, patience: u64) -> bool {
        patience > 0 && self.worse >= patience
    }

    /// Judges a score (lower is better). `patience` 0 never stops.
    pub fn judge(&mut self, score: f64, patience: u64) -> Decision {
        self.recent_loss = (0.0, 0);
        if score < self.best_score {
            self.best_score = score;
            self.best_step = self.step;
            self.worse = 0;
            return Decision::Best;
        }
        self.worse += 1;
        if self.is_out_of_patience(patience) { Decision::Stop } else { Decision::Worse }
    }

    /// After `saved` was restored: the rows since then are passed over, those of the last step included.
    pub fn go_back(&mut self, saved: Run) {
        *self = Run {
            rows_seen: self.rows_seen,
            tokens_seen: self.tokens_seen,
            rewinds: self.rewinds + 1,
            due_step: saved.step,
            ..saved
        };
    }

    /// The state as bytes: a version, then fourteen little-endian words.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = [
            VERSION,
            self.step,
            self.rows_seen,
            self.tokens_seen,
            self.skipped,
            self.best_score.to_bits(),
            self.best_step,
            self.worse,
            self.recent_loss.0.to_bits(),
            self.recent_loss.1,
            self.loss_scale.factor.to_bits(),
            self.loss_scale.good,
            self.due_step,
            self.rewinds,
            self.evaluated,
        ];
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// Reads back what `to_bytes` of this version or an earlier one wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Run> {
        let word = |i: usize| -> Result<u64> {
            let bytes = bytes.get(8 * i..8 * i + 8).ok_or(Error::State { what: "too short" })?;
            let bytes = bytes.try_into().map_err(|_| Error::State { what: "too short" })?;
            Ok(u64::from_le_bytes(bytes))
        };
        let loss_scale = match (word(0)?, bytes.len()) {
            (1, 80) => LossScale::default(),
            (2, 96) | (3, 112) | (VERSION, 120) => {
                LossScale { factor: f64::from_bits(word(10)?), good: word(11)? }
            }
            (1..=VERSION, _) => return Err(Error::State { what: "wrong length" }),
            (0, _) => return Err(Error::State { what: "it names no version" }),
            (found, _) => return Err(Error::StateVersion { found, newest: VERSION }),
        };
        let (step, recent_loss) = (word(1)?, (f64::from_bits(word(8)?), word(9)?));
        // An earlier version's: an evaluation leaves no recent losses.
        let evaluated = word(14).unwrap_or(if recent_loss.1 == 0 { step } else { 0 });
        Ok(Run {
            step,
            rows_seen: word(2)?,
            tokens_seen: word(3)?,
            skipped: word(4)?,
            best_score: f64::from_bits(word(5)?),
            best_step: word(6)?,
            worse: word(7)?,
            recent_loss,
            loss_scale,
            due_step: word(12).unwrap_or(0),
            rewinds: word(13).unwrap_or(0),
            evaluated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_evaluations() {
        let mut run = Run::default();
        assert_eq!(run.judge(2.0, 2), Decision::Best);
        assert_eq!(run.judge(2.5, 2), Decision::Worse);
        assert_eq!(run.judge(1.5, 2), Decision::Best);
        assert_eq!(run.judge(1.5, 2), Decision::Worse);
        assert_eq!(run.judge(1.6, 2), Decision::Stop);
        assert_eq!(Run::default().judge(f64::NAN, 1), Decision::Stop);
    }

    #[test]
    fn a_mean_of_no_losses_is_none() {
        let mut run = Run::default();
        assert_eq!(run.mean_recent_loss(), None);
        run.stepped(1.0, 8, 100);
        run.stepped(2.0, 8, 100);
        assert_eq!(run.mean_recent_loss(), Some(1.5));
        run.judge(1.5, 0);
        assert_eq!(run.mean_recent_loss(), None);
    }

    #[test]
    fn going_back_passes_over_the_rows_in_between() {
        let mut run = Run::default();
        run.stepped(2.0, 8, 100);
        let saved = run;
        (0..3).for_each(|_| run.stepped(2.0, 8, 100));
        run.go_back(saved);
        assert_eq!((run.step, run.due_step, run.rewinds), (1, 1, 1));
        assert_eq!((run.rows_seen, run.tokens_seen), (32, 400));
        assert_eq!(run.recent_loss, saved.recent_loss);
    }

    #[test]
    fn state_survives() {
        let mut run = Run::default();
        run.stepped(1.25, 8, 300);
        run.judge(0.5, 3);
        assert_eq!(Run::from_bytes(&run.to_bytes()), Ok(run));
        run.loss_scale.overflowed();
        assert_eq!(Run::from_bytes(&run.to_bytes()), Ok(run));
        (run.due_step, run.rewinds, run.evaluated) = (1, 2, 1);
        assert_eq!(Run::from_bytes(&run.to_bytes()), Ok(run));
        assert!(Run::from_bytes(&run.to_bytes()[..119]).is_err());
        assert!(Run::from_bytes(&run.to_bytes()[..96]).is_err());
        // Checkpoints of earlier versions of the program. They were evaluated if no loss is waiting to be.
        let mut old = run.to_bytes()[..112].to_vec();
        old[0] = 3;
        assert_eq!(Run::from_bytes(&old), Ok(run));
        let waiting = Run { recent_loss: (1.25, 1), evaluated: 0, ..run };
        let mut old = waiting.to_bytes()[..112].to_vec();
        old[0] = 3;
        assert_eq!(Run::from_bytes(&old), Ok(waiting));
        let mut old = run.to_bytes()[..96].to_vec();
        old[0] = 2;
        (run.due_step, run.rewinds) = (0, 0);
        assert_eq!(Run::from_bytes(&old), Ok(run));
        let mut old = run.to_bytes()[..80].to_vec();
        old[0] = 1;
        assert_eq!(Run::from_bytes(&old), Ok(Run { loss_scale: LossScale::default(), ..run }));
        assert!(Run::from_bytes(&[]).is_err());
    }

    /// States as the four versions wrote them, a word of eight little-endian bytes each: version, steps, rows, tokens,
    /// skipped, best score 1.5, its step, worse, recent losses 2.25 and their number; from version 2 on factor 32768
    /// and good steps of the loss's scale; from 3 on the step that was due and the times that the run went back; in 4
    /// the step that was evaluated. No two words of one are the same.
    const WRITTEN: [&str; 4] = [
        "0100000000000000 0700000000000000 3800000000000000 d204000000000000 0200000000000000 \
         000000000000f83f 0600000000000000 0500000000000000 0000000000000240 0300000000000000",
        "0200000000000000 0700000000000000 3800000000000000 d204000000000000 0100000000000000 \
         000000000000f83f 0600000000000000 0500000000000000 0000000000000240 0300000000000000 \
         000000000000e040 0900000000000000",
        "0300000000000000 0700000000000000 3800000000000000 d204000000000000 0200000000000000 \
         000000000000f83f 0600000000000000 0500000000000000 0000000000000240 0100000000000000 \
         000000000000e040 0900000000000000 0400000000000000 0800000000000000",
        "0400000000000000 0700000000000000 3800000000000000 d204000000000000 0200000000000000 \
         000000000000f83f 0600000000000000 0500000000000000 0000000000000240 0100000000000000 \
         000000000000e040 0900000000000000 0300000000000000 0800000000000000 0a00000000000000",
    ];

    /// The bytes that hexadecimal digits stand for.
    fn bytes(digits: &str) -> Vec<u8> {
        let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (16 * pair[0] + pair[1]) as u8).collect()
    }

    #[test]
    fn f61_states_of_versions_1_to_4_are_read_word_by_word() {
        let first = Run {
            step: 7,
            rows_seen: 56,
            tokens_seen: 1234,
            skipped: 2,
            best_score: 1.5,
            best_step: 6,
            worse: 5,
            recent_loss: (2.25, 3),
            ..Run::default()
        };
        let loss_scale = LossScale { factor: 32_768.0, good: 9 };
        let second = Run { skipped: 1, loss_scale, ..first };
        let recent_loss = (2.25, 1);
        let third = Run { skipped: 2, recent_loss, loss_scale, due_step: 4, rewinds: 8, ..first };
        let fourth = Run { due_step: 3, evaluated: 10, ..third };
        for (digits, run) in WRITTEN.into_iter().zip([first, second, third, fourth]) {
            assert_eq!(Run::from_bytes(&bytes(digits)), Ok(run));
        }
        assert_eq!(fourth.to_bytes(), bytes(WRITTEN[3]), "this version writes other bytes");
    }

    #[test]
    fn f61_the_state_of_a_later_version_is_refused_with_both_versions() {
        let mut later = Run::default().to_bytes();
        later[0] = 5;
        later.extend([0; 8]);
        let error = Run::from_bytes(&later).expect_err("it is of a later version");
        let text = alloc::format!("{error}");
        for words in ["version 5", "versions 1 to 4", "use the newer Paddock"] {
            assert!(text.contains(words), "{text}");
        }
        later[0] = 0;
        assert!(matches!(Run::from_bytes(&later), Err(Error::State { .. })));
    }
}
