//! Which instructions the kernels use: chosen by what the adapter offers, or forced.

use std::fmt;
use std::str::FromStr;

use paddock_core::error::{Error, Result};

/// A set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Arithmetic in f32, nothing beyond WebGPU's guarantees (but f16 in memory, where that is asked for).
    Plain,
    /// Sums and maxima over a workgroup by subgroup instructions. On the one card where both were measured
    /// (an H200) it is slower than the plain tier, so it is taken on request only.
    Subgroups,
    /// Large matrix products, and attention over many rows, by the card's matrix instructions: operands are scaled
    /// and rounded to f16, sums are f32. The rest is the plain tier's.
    Cooperative,
}

/// What an adapter has that tiers ask for.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Its features.
    pub features: wgpu::Features,
    /// The smallest and the largest subgroup.
    pub subgroups: [u32; 2],
    /// Edge of the tiles of f16 that its matrix instructions multiply and add in f32: 16, 8, or 0 for none.
    pub tile_edge: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
}

/// Workgroup memory of the cooperative tier's matrix product, with large tiles and with small ones.
const COOPERATIVE_BYTES: [u32; 2] = [48 << 10, 20 << 10];

impl Tier {
    /// All, the plainest first.
    pub const ALL: [Tier; 3] = [Tier::Plain, Tier::Subgroups, Tier::Cooperative];

    /// What the device must be asked for.
    pub fn features(self) -> wgpu::Features {
        match self {
            Tier::Plain => wgpu::Features::empty(),
            Tier::Subgroups => wgpu::Features::SUBGROUP,
            Tier::Cooperative => {
                wgpu::Features::SUBGROUP
                    | wgpu::Features::SHADER_F16
                    | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
            }
        }
    }

    /// What an adapter can run. Subgroups of at least four: the sums of a workgroup's subgroups must fit the
    /// array that the plain kernels reduce in. Of one size, 8 or 16 (16 or 32 for the larger tiles), where they
    /// cooperate: sixteen of them are a workgroup, which loads its tiles in whole turns.
    pub fn offered(offer: Offer) -> Vec<Tier> {
        let [smallest, largest] = offer.subgroups;
        let can = |tier: &Tier| {
            let fits = match tier {
                Tier::Plain => true,
                Tier::Subgroups => smallest >= 4,
                Tier::Cooperative => {
                    let [large, small] = COOPERATIVE_BYTES;
                    let (bytes, least) = match offer.tile_edge {
                        16 => (large, 16),
                        _ => (small, 8),
                    };
                    offer.tile_edge > 0
                        && offer.workgroup_bytes >= bytes
                        && offer.workgroup_threads >= 16 * largest
                        && smallest == largest
                        && (least..=2 * least).contains(&largest)
                        && largest.is_power_of_two()
                }
            };
            fits && offer.features.contains(tier.features())
        };
        Tier::ALL.into_iter().filter(can).collect()
    }

    /// The one named by the environment variable PADDOCK_WGPU_TIER, else matrix instructions where a card has
    /// them, else the plain one; and why.
    pub fn choose(
        offered: &[Tier],
        software: bool,
        wanted: Option<&str>,
    ) -> Result<(Tier, &'static str)> {
        let Some(wanted) = wanted else {
            let cooperates = offered.contains(&Tier::Cooperative) && !software;
            let tier = if cooperates { Tier::Cooperative } else { Tier::Plain };
            return Ok((tier, "the fastest where measured"));
        };
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
            Tier::Cooperative => "cooperative",
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
    fn the_fastest_tier_is_chosen_unless_another_is_named() {
        let offer = Offer {
            features: wgpu::Features::empty(),
            subgroups: [32, 32],
            tile_edge: 0,
            workgroup_bytes: 48 << 10,
            workgroup_threads: 1024,
        };
        let plain = Tier::offered(offer);
        assert_eq!(plain, [Tier::Plain]);
        let offer = Offer { features: Tier::Subgroups.features(), ..offer };
        assert_eq!(Tier::offered(Offer { subgroups: [2, 2], ..offer }), [Tier::Plain]);
        let two = Tier::offered(offer);
        assert_eq!(two, [Tier::Plain, Tier::Subgroups]);
        let offer = Offer { features: Tier::Cooperative.features(), tile_edge: 16, ..offer };
        assert_eq!(Tier::offered(offer), Tier::ALL);
        assert_eq!(Tier::offered(Offer { subgroups: [32, 64], ..offer }), two);
        assert_eq!(Tier::offered(Offer { workgroup_bytes: 16384, ..offer }), two);
        assert_eq!(Tier::offered(Offer { tile_edge: 0, ..offer }), two);
        assert_eq!(Tier::offered(Offer { tile_edge: 8, ..offer }), two);
        let narrow = Offer { tile_edge: 8, subgroups: [16, 16], ..offer };
        assert_eq!(Tier::offered(narrow), Tier::ALL);
        assert_eq!(Tier::offered(Offer { workgroup_threads: 256, ..offer }), two);
        let chosen = |offered: &[Tier], software, wanted| {
            Tier::choose(offered, software, wanted).map(|c| c.0)
        };
        assert_eq!(chosen(&Tier::ALL, false, None), Ok(Tier::Cooperative));
        assert_eq!(chosen(&Tier::ALL, true, None), Ok(Tier::Plain));
        assert_eq!(chosen(&two, false, None), Ok(Tier::Plain));
        assert_eq!(chosen(&two, true, Some("subgroups")), Ok(Tier::Subgroups));
        assert!(Tier::choose(&plain, false, Some("subgroups")).is_err());
        assert!(Tier::choose(&two, false, Some("fast")).is_err());
    }
}
