//! What a warp may touch besides its own registers.

use crate::exec::bulk::Arriving;
use crate::exec::cluster::Gate;
use crate::exec::wgmma::Issue;
use crate::ir::Code;
use crate::memory::DeviceMemory;
use crate::shared::Shared;

/// What a warp may touch besides its own registers.
pub(crate) struct World<'a> {
    pub(crate) code: &'a Code,
    pub(crate) parameters: &'a [u8],
    pub(crate) constants: &'a [u8],
    pub(crate) memory: &'a mut DeviceMemory,
    /// The shared memory of each CTA of the cluster.
    pub(crate) ctas: &'a mut [Shared],
    /// Which of them runs.
    pub(crate) rank: usize,
    /// The cluster's barrier.
    pub(crate) gate: &'a mut Gate,
    /// Bytes of bulk copies that mbarriers have not counted yet.
    pub(crate) arriving: &'a mut Vec<Arriving>,
    /// What each warpgroup of the cluster has issued.
    pub(crate) issues: &'a mut [Vec<Issue>],
    pub(crate) counters: &'a mut crate::counters::Counters,
    /// How often each instruction ran in some lane.
    pub(crate) executed: &'a mut [u64],
    pub(crate) limit: u64,
}

impl World<'_> {
    /// The shared memory of the CTA that runs.
    pub(crate) fn shared(&mut self) -> &mut Shared {
        &mut self.ctas[self.rank]
    }
}
