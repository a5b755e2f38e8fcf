//! Who knows of what: vector clocks.
//!
//! Every warp of a cluster has a clock that moves when it lets others know of what it did (a
//! barrier, an arrival at an mbarrier). A component of [`Clocks::known`] is the time up to which
//! somebody's accesses surely lie in the past. Kernels that use Hopper's asynchronous instructions
//! have more components: one a warp for its `wgmma` groups, whose reads end only when the warp
//! waits for them, and one for each mbarrier, whose time is the number of phases that have ended:
//! what a bulk copy wrote is known to those who saw the phase end that counted its bytes.

/// mbarriers that a CTA may have.
pub(crate) const MBARRIERS: usize = 64;

/// What a warp, or a barrier that warps meet at, knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clocks {
    /// Time up to which each component's accesses lie in the past.
    pub(crate) known: Vec<u32>,
    /// The same for ordinary writes that a proxy fence has made visible to asynchronous reads.
    pub(crate) fenced: Vec<u32>,
}

impl Clocks {
    /// Knows nothing.
    pub(crate) fn reset(&mut self, layout: &Layout) {
        self.known.clear();
        self.known.resize(layout.total(), 0);
        self.fenced.clear();
        self.fenced.resize(if layout.asynchronous { layout.all_warps() } else { 0 }, 0);
    }

    /// Knows all that `other` knows too.
    pub(crate) fn join(&mut self, other: &Self) {
        join(&mut self.known, &other.known);
        join(&mut self.fenced, &other.fenced);
    }

    /// All that is known so far is visible to asynchronous reads.
    pub(crate) fn fence(&mut self) {
        join(&mut self.fenced, &self.known);
    }
}

/// The shorter of the two decides how far `known` is joined, but an empty one is filled.
fn join(known: &mut Vec<u32>, other: &[u32]) {
    if known.is_empty() {
        known.extend_from_slice(other);
    }
    for (mine, theirs) in known.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}

/// Where each component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Warps of a CTA.
    pub(crate) warps: usize,
    /// CTAs of a cluster.
    pub(crate) ctas: usize,
    /// Whether the kernel uses mbarriers or `wgmma`.
    pub(crate) asynchronous: bool,
}

/// Whose component one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A warp's own accesses.
    Warp { warp: u32 },
    /// A warp's `wgmma` groups.
    Group { warp: u32 },
    /// The mbarrier in this slot of its CTA.
    Mbarrier { slot: usize },
}

impl Layout {
    fn all_warps(&self) -> usize {
        self.ctas * self.warps
    }

    fn total(&self) -> usize {
        let more = self.all_warps() + self.ctas * MBARRIERS;
        self.all_warps() + if self.asynchronous { more } else { 0 }
    }

    /// The component of a warp of CTA `rank`.
    pub(crate) fn warp(&self, rank: usize, warp: usize) -> usize {
        rank * self.warps + warp
    }

    /// The component of a warp's `wgmma` groups.
    pub(crate) fn group(&self, rank: usize, warp: usize) -> usize {
        self.all_warps() + self.warp(rank, warp)
    }

    /// The component of an mbarrier.
    pub(crate) fn mbarrier(&self, rank: usize, slot: usize) -> usize {
        2 * self.all_warps() + rank * MBARRIERS + slot
    }

    /// Whose a component is; warps are numbered inside their CTA.
    pub(crate) fn owner(&self, component: usize) -> Owner {
        let all = self.all_warps();
        let warp = (component % self.warps) as u32;
        match component {
            _ if component < all => Owner::Warp { warp },
            _ if component < 2 * all => Owner::Group { warp },
            _ => Owner::Mbarrier { slot: (component - 2 * all) % MBARRIERS },
        }
    }
}

/// Kinds of access, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    Atomic,
    Async,
    BulkCopy,
    BulkStore,
    Wgmma,
}

impl Touch {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
            Self::Async => "cp.async",
            Self::BulkCopy => "bulk copy",
            Self::BulkStore => "bulk store's read",
            Self::Wgmma => "wgmma read",
        }
    }
}

/// Who touches: the component of the warp, the lane, and what the warp knows.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) warp: usize,
    pub(crate) lane: u32,
    pub(crate) clocks: &'a Clocks,
    /// The warp's own clock when its lanes last met: accesses before it are ordered among lanes.
    pub(crate) met: u32,
}

impl Who<'_> {
    pub(crate) fn now(&self) -> u32 {
        self.clocks.known[self.warp]
    }

    /// Whether an access by (`component`, `lane`) at that component's time `then` surely lies
    /// before.
    pub(crate) fn is_after(&self, component: usize, lane: u32, then: u32) -> bool {
        if component == self.warp {
            lane == self.lane || self.met > then
        } else {
            self.clocks.known[component] >= then
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_apart() {
        let layout = Layout { warps: 3, ctas: 2, asynchronous: true };
        let mut seen = vec![0; layout.total()];
        for rank in 0..2 {
            for warp in 0..3 {
                seen[layout.warp(rank, warp)] += 1;
                seen[layout.group(rank, warp)] += 1;
                let group = layout.owner(layout.group(rank, warp));
                assert_eq!(group, Owner::Group { warp: warp as u32 });
            }
            for slot in 0..MBARRIERS {
                seen[layout.mbarrier(rank, slot)] += 1;
                assert_eq!(layout.owner(layout.mbarrier(rank, slot)), Owner::Mbarrier { slot });
            }
        }
        assert!(seen.iter().all(|&count| count == 1));
    }

    #[test]
    fn a_fence_covers_what_is_known_then() {
        let layout = Layout { warps: 2, ctas: 1, asynchronous: true };
        let mut clocks = Clocks::default();
        clocks.reset(&layout);
        clocks.known[0] = 3;
        clocks.fence();
        clocks.known[0] = 4;
        assert_eq!((clocks.fenced[0], clocks.fenced[1]), (3, 0));
    }
}
