//! What a run asks itself now and then: whether its model's files are what they were, whether the device computes
//! the same twice, whether updates still move the numbers, and, when a number is not finite, where that began.

use anyhow::bail;
use paddock_core::batch::Batch;
use paddock_core::model::{Method, init};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::StepSettings;
use paddock_core::train::trace::{fingerprint, gradient_not_finite, where_not_finite};

use super::session::Session;
use crate::run::config::Parameters;

/// Steps between two looks at whether updates move the numbers.
const LOOK_EVERY: u64 = 100;
/// Numbers of each trained tensor that are looked at.
const LOOKED_AT: u64 = 256;

impl Session<'_> {
    /// Frozen weights are read in place, so that the files must stay as they were.
    ///
    /// # Errors
    /// Names the file that another program wrote into.
    pub(super) fn model_is_unchanged(&self) -> anyhow::Result<()> {
        if self.setup.method == Method::Full {
            // Everything was copied at the start.
            return Ok(());
        }
        self.model_is_as_recorded()
    }

    /// The weights that were read are those whose hashes the run's record holds.
    ///
    /// # Errors
    /// Names the file that another program wrote into since it was opened.
    pub(super) fn model_is_as_recorded(&self) -> anyhow::Result<()> {
        let mut files = self.setup.opened.folder.files.iter().zip(&self.made_from);
        files.try_for_each(|(file, sha256)| file.check_unchanged(sha256))
    }

    /// Computes one part of a step twice and compares every bit of the losses and gradients.
    ///
    /// # Errors
    /// If they differ: the device made a mistake, and nothing of this step was used.
    pub(super) fn check_device(
        &mut self,
        batches: &[Batch],
        settings: &StepSettings,
    ) -> anyhow::Result<()> {
        let trained = |batch: &&Batch| batch.weights.iter().any(|&w| w > 0.0);
        let Some(batch) = batches.iter().find(trained) else { return Ok(()) };
        let mut print = || fingerprint(&mut *self.b, &self.model, &self.plan, batch, settings);
        let (first, second) = (print()?, print()?);
        same(first, second, settings.step, self.b.name())
    }

    /// Where a loss (of this micro-batch) or gradient that is not finite began, in words.
    pub(super) fn bad_place(
        &mut self,
        batch: Option<&Batch>,
        settings: &StepSettings,
    ) -> anyhow::Result<Option<String>> {
        let Some(batch) = batch else {
            let name = gradient_not_finite(&mut *self.b, &self.model)?;
            return Ok(name.map(|name| format!("first in that of `{name}`")));
        };
        let place = where_not_finite(&mut *self.b, &self.model, &self.plan, batch, settings)?;
        Ok(Some(format!("first in {place}")))
    }

    /// Some numbers of every trained tensor, before a step after which they are looked at again.
    pub(super) fn sample_if_due(&mut self) -> anyhow::Result<Option<Vec<f32>>> {
        let due = is_looked_at(self.run.step + 1, self.setup.config.parameters);
        due.then(|| self.sample(Region::Params)).transpose()
    }

    fn sample(&mut self, region: Region) -> anyhow::Result<Vec<f32>> {
        let part = |slot: Slot| slot.in_region(region).first(LOOKED_AT);
        let slots: Vec<Slot> = self.model.params.items.iter().map(|p| part(p.slot)).collect();
        let mut values = Vec::new();
        for slot in slots {
            values.extend(init::read(&mut *self.b, slot)?);
        }
        Ok(values)
    }

    /// Share of the numbers with a gradient that the update left as they were.
    pub(super) fn unmoved(&mut self, before: &[f32]) -> anyhow::Result<Option<f64>> {
        let now = self.sample(Region::Params)?;
        // What never had a gradient (the embedding of a word that no row holds) has no reason to move.
        let moments = self.sample(Region::Moments)?;
        Ok(share_unmoved(before, &now, &moments))
    }
}

/// Whether it is looked at after this step what the update moved. Numbers that are rounded at random mostly stay, and
/// yet move on average, so they are not asked.
fn is_looked_at(step: u64, parameters: Parameters) -> bool {
    parameters == Parameters::F32 && step.is_multiple_of(LOOK_EVERY)
}

fn share_unmoved(before: &[f32], now: &[f32], moments: &[f32]) -> Option<f64> {
    let pulled = before.iter().zip(now).zip(moments).filter(|(_, m)| **m != 0.0);
    let (mut all, mut same) = (0u64, 0u64);
    for ((before, now), _) in pulled {
        all += 1;
        same += u64::from(before.to_bits() == now.to_bits());
    }
    (all > 0).then(|| same as f64 / all as f64)
}

fn same(first: u64, second: u64, step: u64, device: &str) -> anyhow::Result<()> {
    if first == second {
        return Ok(());
    }
    bail!(
        "step {step}: {device} computed the same rows twice and got other numbers, so the device makes mistakes \
         and its results cannot be trusted. Nothing of this step was used and earlier checkpoints are kept; \
         check cooling, power and memory of the device (core-cli verify tests every op), then go on with --resume"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f54_a_device_that_makes_mistakes_is_told_from_one_that_does_not() {
        assert!(same(7, 7, 3, "cpu").is_ok());
        let error = same(7, 8, 3, "cpu avx2").unwrap_err().to_string();
        for words in ["step 3: cpu avx2 computed", "other numbers", "core-cli verify", "--resume"] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn f66_numbers_that_are_rounded_at_random_are_not_asked_whether_they_moved() {
        assert!(is_looked_at(LOOK_EVERY, Parameters::F32));
        assert!(!is_looked_at(LOOK_EVERY + 1, Parameters::F32));
        assert!(!is_looked_at(LOOK_EVERY, Parameters::Bf16));
    }

    #[test]
    fn f66_only_numbers_with_a_gradient_count_as_unmoved() {
        let before = [1.0, 2.0, 3.0, 4.0];
        let now = [1.0, 2.5, 3.0, 4.5];
        assert_eq!(share_unmoved(&before, &now, &[0.1; 4]), Some(0.5));
        assert_eq!(share_unmoved(&before, &now, &[0.0, 0.1, 0.1, 0.1]), Some(1.0 / 3.0));
        assert_eq!(share_unmoved(&before, &now, &[0.0; 4]), None);
    }
}
