//! Learning-rate schedules with transformers' numbers: the first update uses step 0.

/// The shape after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Straight down to zero at the last step.
    Linear,
    /// Half a cosine down to zero at the last step.
    Cosine,
}

/// A learning rate for each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// The highest rate.
    pub lr: f64,
    /// Steps that rise linearly from zero.
    pub warmup_steps: u64,
    /// All steps of the run.
    pub total_steps: u64,
}

impl Schedule {
    /// The rate of update number `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps.max(1) as f64;
        }
        let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = (step - self.warmup_steps) as f64 / rest;
        match self.kind {
            ScheduleKind::Constant => self.lr,
            // Not 1 - done: with no step left after warm-up the rate is zero at once.
            ScheduleKind::Linear => self.lr * self.total_steps.saturating_sub(step) as f64 / rest,
            ScheduleKind::Cosine => {
                self.lr * (0.5 * (1.0 + libm::cos(core::f64::consts::PI * done.min(1.0)))).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// get_linear_schedule_with_warmup(warmup 2, total 6) of transformers, base 1.
    #[test]
    fn linear_with_warmup() {
        let s = Schedule { kind: ScheduleKind::Linear, lr: 1.0, warmup_steps: 2, total_steps: 6 };
        let rates: [f64; 7] = core::array::from_fn(|i| s.at(i as u64));
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn cosine_ends_at_zero() {
        let s = Schedule { kind: ScheduleKind::Cosine, lr: 2.0, warmup_steps: 0, total_steps: 4 };
        assert!((s.at(0) - 2.0).abs() < 1e-12);
        assert!((s.at(2) - 1.0).abs() < 1e-12);
        assert!(s.at(4).abs() < 1e-12);
    }
}
