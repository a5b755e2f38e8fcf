//! Back to a checkpoint after a loss spike, and on without the rows since then. The checkpoint is the last one that
//! was due: one that an interruption left does not count, so that an interrupted run goes back to the same place as
//! one that was not, and ends in the same bits.

use paddock_core::train::StepReport;

use super::go::Loop;
use super::outcome;
use super::session::Stepped;
use super::spike::Losses;
use crate::run::checkpoint::{find_step, set_aside_newer};
use crate::run::events::Event;
use crate::run::metrics::{Line, MetricsWriter, Rewind};

/// A run goes back so many times; then the rows are not to blame.
const MOST_REWINDS: u64 = 8;

impl Loop<'_, '_, '_> {
    /// Goes back to the last checkpoint that was due; whether there is one. The data position stays behind the step
    /// that was declined.
    pub(super) fn rewind(
        &mut self,
        report: &StepReport,
        stepped: &Stepped,
        limit: f64,
    ) -> anyhow::Result<bool> {
        let (storage, folder) = (self.out.storage, self.out.folder);
        let before = self.session.run;
        anyhow::ensure!(
            before.rewinds < MOST_REWINDS,
            "step {}: the loss jumped to {:.3} (usual: below {limit:.3}), after the run had gone back {MOST_REWINDS} \
             times for that reason, so it stops; its checkpoints are kept. Its first rows are {:?}. Try a lower --lr, \
             or --loss-spike skip, with --resume --allow-changes.",
            before.step,
            report.loss,
            stepped.first_rows
        );
        if before.due_step == 0 {
            return Ok(false);
        }
        let found = match find_step(storage, &folder.checkpoints(), before.due_step) {
            Ok(found) => found,
            Err(error) => {
                self.warn(format!("the run cannot go back to step {}: {error}", before.due_step))?;
                return Ok(false);
            }
        };
        self.session.model_is_unchanged()?;
        self.session.restore(storage, &found)?;
        let saved = self.session.run;
        self.session.run = before;
        self.session.run.go_back(saved);
        let rewind = Rewind {
            number: self.session.run.rewinds,
            step: saved.step,
            from: before.step,
            loss: report.loss,
            limit,
            rows: before.rows_seen - saved.rows_seen,
            first_rows: stepped.first_rows.clone(),
        };
        // A kill between any two of these lines loses nothing: the older state meets the same spike again.
        set_aside_newer(storage, &folder.checkpoints(), saved.step)?;
        let kept = rewind.number - 1;
        self.out.metrics = MetricsWriter::go_back(storage, &folder.metrics(), saved.step, kept)?.0;
        self.note(Line::Rewind(rewind.clone()))?;
        self.losses = Losses::of(outcome::step_losses(storage, folder)?.into_iter());
        self.watched.forget_after(saved.step)?;
        self.out.listener.event(&Event::Rewind(rewind))?;
        Ok(true)
    }
}
