//! Which instructions the kernels use: chosen by what the adapter offers, or forced.

use std::fmt;
use std::str::FromStr;

use paddock_core::error::{Error, Result};

/// A set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// f32 everywhere, nothing beyond WebGPU's guarantees.
    Plain,
    /// Sums and maxima over a workgroup by subgroup instructions.
    Subgroups,
}

impl Tier {
    /// All, the plainest first.
    pub const ALL: [Tier; 2] = [Tier::Plain, Tier::Subgroups];

    /// What the device must be asked for.
    pub fn features(self) -> wgpu::Features {
        match self {
            Tier::Plain => wgpu::Features::empty(),
            Tier::Subgroups => wgpu::Features::SUBGROUP,
        }
    }

    /// What an adapter with these features and subgroup sizes can run. Subgroups of at least four: the sums of
    /// a workgroup's subgroups must fit the array that the plain kernels reduce in.
    pub fn offered(features: wgpu::Features, smallest_subgroup: u32) -> Vec<Tier> {
        let can = |tier: &Tier| {
            features.contains(tier.features()) && (*tier == Tier::Plain || smallest_subgroup >= 4)
        };
        Tier::ALL.into_iter().filter(can).collect()
    }

    /// The one asked for (or named by the environment variable PADDOCK_WGPU_TIER), else the best offered,
    /// and why.
    pub fn choose(offered: &[Tier], wanted: Option<&str>) -> Result<(Tier, &'static str)> {
        let best = offered.iter().max().copied().unwrap_or(Tier::Plain);
        let Some(wanted) = wanted else { return Ok((best, "the best that the adapter offers")) };
        let tier: Tier = wanted.parse()?;
        if !offered.contains(&tier) {
            let names: Vec<String> = offered.iter().map(ToString::to_string).collect();
            return Err(Error::Device(format!(
                "PADDOCK_WGPU_TIER is {tier}, which the adapter does not offer; it offers {}",
                names.join(", ")
            )));
        }
        Ok((tier, "named by PADDOCK_WGPU_TIER"))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Plain => "plain",
            Tier::Subgroups => "subgroups",
        })
    }
}

impl FromStr for Tier {
    type Err = Error;

    fn from_str(name: &str) -> Result<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Tier::ALL.iter().map(ToString::to_string).collect();
            let names = names.join(" or ");
            Error::Device(format!("PADDOCK_WGPU_TIER is \"{name}\"; expected {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_offered_tier_is_chosen_unless_one_is_named() {
        let plain = Tier::offered(wgpu::Features::empty(), 32);
        assert_eq!(plain, [Tier::Plain]);
        assert_eq!(Tier::offered(wgpu::Features::SUBGROUP, 2), [Tier::Plain]);
        let all = Tier::offered(wgpu::Features::SUBGROUP, 8);
        assert_eq!(Tier::choose(&all, None).map(|c| c.0), Ok(Tier::Subgroups));
        assert_eq!(Tier::choose(&all, Some("plain")).map(|c| c.0), Ok(Tier::Plain));
        assert!(Tier::choose(&plain, Some("subgroups")).is_err());
        assert!(Tier::choose(&all, Some("fast")).is_err());
    }
}
