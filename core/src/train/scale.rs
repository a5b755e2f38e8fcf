//! The factor by which the loss is multiplied where gradients are kept in a type of narrow range.

/// Where it begins.
const FIRST: f64 = 65_536.0;
/// It grows no further: a gradient of 1 must stay representable by far.
const MOST: f64 = 16_777_216.0;
/// Good steps after which it doubles.
const PATIENCE: u64 = 2_000;

/// A power of two that follows what the gradients bear (Micikevicius et al. 2018): halved when they overflow,
/// doubled after many steps in which they did not. Part of a run's state, so that a resumed run computes the
/// same numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// The factor.
    pub factor: f64,
    /// Steps in a row without an overflow.
    pub good: u64,
}

impl Default for LossScale {
    fn default() -> LossScale {
        LossScale { factor: FIRST, good: 0 }
    }
}

impl LossScale {
    /// A gradient overflowed. False if nothing smaller is left to try.
    pub fn overflowed(&mut self) -> bool {
        self.good = 0;
        let smaller = self.factor > 1.0;
        if smaller {
            self.factor /= 2.0;
        }
        smaller
    }

    /// A step went well.
    pub fn passed(&mut self) {
        self.good += 1;
        if self.good >= PATIENCE {
            self.good = 0;
            self.factor = (2.0 * self.factor).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_once_and_doubles_with_patience() {
        let mut scale = LossScale::default();
        assert!(scale.overflowed());
        assert_eq!(scale, LossScale { factor: 32_768.0, good: 0 });
        (0..1_999).for_each(|_| scale.passed());
        assert_eq!(scale, LossScale { factor: 32_768.0, good: 1_999 });
        scale.passed();
        assert_eq!(scale, LossScale { factor: 65_536.0, good: 0 });
        (0..40_000).for_each(|_| scale.passed());
        assert_eq!(scale.factor, 16_777_216.0);
        while scale.overflowed() {}
        assert_eq!(scale.factor, 1.0);
    }
}
