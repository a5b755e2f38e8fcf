//! What activations, their gradients and the cache are kept in: f32, or f16 where a card reads and writes it.

use std::fmt;

use paddock_core::error::{Error, Result};
use paddock_core::slot::Region;

use super::memory::Place;
use crate::Precision;

/// The element type of activations, of their gradients and of the cache. Whatever else there is is f32, and so is
/// arithmetic: f16 is widened as it is read, and results are rounded as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Four bytes a number.
    F32,
    /// Two bytes a number, eleven bits of precision, and a narrow range: gradients need the loss scaled.
    F16,
}

impl Activations {
    /// What the options ask for, of an adapter that offers f16 to kernels or not.
    pub fn choose(precision: Precision, offers_f16: bool, adapter: &str) -> Result<Activations> {
        let why = match (precision, offers_f16) {
            (Precision::Auto, _) => return Ok(Activations::F32),
            (Precision::F16, true) => return Ok(Activations::F16),
            (Precision::F16, false) => format!(
                "{adapter} does not let kernels use f16, so activations cannot be kept in it; leave \
                 --precision out, and they are kept in f32"
            ),
            (Precision::Bf16, _) => String::from(
                "bf16 is for NVIDIA cards (--backend cuda); use --precision f16, or leave it out for f32",
            ),
        };
        Err(Error::Device(why))
    }

    /// What the device must be asked for.
    pub fn features(self) -> wgpu::Features {
        match self {
            Activations::F32 => wgpu::Features::empty(),
            Activations::F16 => wgpu::Features::SHADER_F16,
        }
    }

    /// Bytes of a region's element.
    pub fn bytes(self, region: Region) -> u64 {
        let narrow = matches!(region, Region::Acts | Region::ActGrads | Region::Kv);
        if narrow && self == Activations::F16 { 2 } else { 4 }
    }

    /// Whether numbers in this place are f16.
    pub fn narrows(self, place: Place) -> bool {
        matches!(place, Place::Region(region, _) if self.bytes(region) == 2)
    }
}

/// As part of a device's name.
impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activations::F32 => Ok(()),
            Activations::F16 => f.write_str(", activations in f16"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_numbers_are_taken_on_request_where_they_are_offered() {
        let choose = |precision, offered| Activations::choose(precision, offered, "a card");
        assert_eq!(choose(Precision::Auto, true), Ok(Activations::F32));
        assert_eq!(choose(Precision::F16, true), Ok(Activations::F16));
        for (precision, offered) in [(Precision::F16, false), (Precision::Bf16, true)] {
            let Err(Error::Device(why)) = choose(precision, offered) else { panic!("not refused") };
            assert!(why.contains("--precision") && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn activations_alone_are_narrow() {
        let narrow = |region: &Region| Activations::F16.bytes(*region) == 2;
        let found: Vec<Region> = Region::ALL.into_iter().filter(narrow).collect();
        assert_eq!(found, [Region::Acts, Region::ActGrads, Region::Kv]);
        assert!(Region::ALL.iter().all(|&region| Activations::F32.bytes(region) == 4));
        assert!(!Activations::F16.narrows(Place::Sums));
    }
}
