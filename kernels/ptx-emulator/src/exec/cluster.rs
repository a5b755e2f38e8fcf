//! A cluster: its CTAs and their warps take turns, each runs to its next barrier or wait. Bytes of
//! bulk copies reach their mbarriers after everybody has had a turn: late, as on a device.

use crate::clock::{Clocks, Layout};
use crate::error::{FaultKind, LaneFault};
use crate::exec::cta::Cta;
use crate::exec::mbarrier::Wait;
use crate::exec::registers::Place;
use crate::exec::world::World;
use crate::ir::Code;

/// Rounds in which warps only ask and nothing happens, before that counts as a deadlock.
const PATIENCE: u32 = 1000;

/// The barrier of all threads of the cluster.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) gathering: Clocks,
    pub(crate) released: Clocks,
}

/// A fault and the place where it happened: CTA of the cluster, warp and instruction.
pub(crate) struct Located {
    pub(crate) rank: usize,
    pub(crate) warp: u32,
    pub(crate) at: usize,
    pub(crate) fault: LaneFault,
}

/// What came of a turn, or of a round of turns.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turn {
    /// Something was done that others may wait for.
    pub(crate) moved: bool,
    /// A warp asked for something in vain and will ask again.
    pub(crate) polled: bool,
}

/// The CTAs of a cluster; reused from cluster to cluster.
pub(crate) struct Cluster {
    ctas: Vec<Cta>,
    layout: Layout,
}

impl Cluster {
    pub(crate) fn new(code: &Code, layout: Layout) -> Self {
        let cta = |_| Cta::new(code, layout.warps as u32);
        Self { ctas: (0..layout.ctas).map(cta).collect(), layout }
    }

    /// Runs a cluster from its first instruction to its last; `places` are those of its CTAs.
    pub(crate) fn run(&mut self, places: &[Place], world: &mut World) -> Result<(), Located> {
        world.gate.gathering.reset(&self.layout);
        world.gate.released.reset(&self.layout);
        world.arriving.clear();
        world.issues.iter_mut().for_each(Vec::clear);
        for (rank, (cta, place)) in self.ctas.iter_mut().zip(places).enumerate() {
            world.ctas[rank].reset();
            cta.reset(place, world.code, &self.layout);
        }
        let mut idle = 0;
        while self.ctas.iter().any(|cta| !cta.is_done()) {
            let mut round = Turn::default();
            for (rank, cta) in self.ctas.iter_mut().enumerate().filter(|(_, cta)| !cta.is_done()) {
                world.rank = rank;
                let turn = cta.round(world)?;
                round.moved |= turn.moved;
                round.polled |= turn.polled;
                if cta.is_done() {
                    finish(rank, cta, world)?;
                }
            }
            let came = deliver(world)? | self.open(world);
            idle = if round.moved || came { 0 } else { idle + 1 };
            if idle > if round.polled { PATIENCE } else { 0 } {
                return Err(self.deadlock(world));
            }
        }
        world.counters.ctas += self.ctas.len() as u64;
        Ok(())
    }

    /// Opens the cluster's barrier if all running threads stand before it.
    fn open(&mut self, world: &mut World) -> bool {
        let warps = || self.ctas.iter().flat_map(|cta| cta.warps());
        let all = warps().all(|warp| warp.running & !warp.arrived == 0);
        if !all || !warps().any(|warp| warp.arrived != 0) {
            return false;
        }
        let gate = &mut *world.gate;
        gate.released.join(&gate.gathering);
        self.ctas.iter_mut().for_each(Cta::pass_gate);
        true
    }

    fn deadlock(&self, world: &World) -> Located {
        let mut places = Vec::new();
        let mut stuck = None;
        for (rank, cta) in self.ctas.iter().enumerate() {
            for (index, warp) in cta.warps().enumerate() {
                let name = match self.ctas.len() {
                    1 => format!("warp {index}"),
                    _ => format!("CTA {rank} warp {index}"),
                };
                let before = places.len();
                places.extend(cta.at_barrier(index).map(|text| format!("{name} {text}")));
                for wait in &warp.waits {
                    places.push(format!("{name} {}", describe(wait, world)));
                }
                if cta.has_ended(index) {
                    places.push(format!("{name} has ended"));
                } else {
                    if places.len() == before {
                        places.push(format!("{name} asks in vain"));
                    }
                    stuck.get_or_insert((rank, index, warp.at()));
                }
            }
        }
        let (rank, warp, at) = stuck.unwrap_or_default();
        let at = match self.ctas[rank].at_barrier(warp) {
            Some(_) => at.saturating_sub(1),
            None => at,
        };
        let fault = (None, FaultKind::Deadlock(places.join("; ")));
        Located { rank, warp: warp as u32, at, fault }
    }
}

fn describe(wait: &Wait, world: &World) -> String {
    match *wait {
        Wait::Cluster { line } => format!("waits at the cluster's barrier (line {line})"),
        Wait::Lanes { line } => format!("waits for its other lanes (line {line})"),
        Wait::Registers { free, line } => {
            format!("waits for registers (line {line}, {free} were given back)")
        }
        Wait::Mbarrier { rank, slot, line } => {
            let mbarriers = &world.ctas[rank].mbarriers;
            let state = mbarriers.get(slot).map_or(String::new(), |mbarrier| mbarrier.describe());
            let address = mbarriers.address(slot);
            format!("waits at the mbarrier at {address:#x} (line {line}: its {state})")
        }
    }
}

/// A CTA has ended: nothing may be on its way to it.
fn finish(rank: usize, cta: &Cta, world: &mut World) -> Result<(), Located> {
    let last = world.code.body.len() - 1;
    let located = |kind| Located { rank, warp: 0, at: last, fault: (None, kind) };
    world.ctas[rank].ended = true;
    if let Some(arriving) = world.arriving.iter().find(|arriving| arriving.to == rank) {
        let text = "the CTA ends while a bulk copy into it is under way".to_string();
        let (rank, warp, at) = (arriving.from, arriving.warp, arriving.at);
        return Err(Located { rank, warp, at, fault: (None, FaultKind::BadOperand(text)) });
    }
    world.ctas[rank].mbarriers.check_end().map_err(located)?;
    let groups = cta.warps().count().div_ceil(4);
    for (index, warp) in cta.warps().enumerate() {
        if warp.products.issued() != world.issues[rank * groups + index / 4].len() {
            let text = "a wgmma was executed by a part of the warpgroup only".to_string();
            return Err(Located { warp: index as u32, ..located(FaultKind::BadOperand(text)) });
        }
    }
    Ok(())
}

/// Lets mbarriers count the bytes that have come. True if there were any.
fn deliver(world: &mut World) -> Result<bool, Located> {
    let arriving = std::mem::take(world.arriving);
    for bytes in &arriving {
        let Some(mbarrier) = world.ctas[bytes.to].mbarriers.get_mut(bytes.slot) else { continue };
        let counted = if mbarrier.phase == bytes.phase {
            mbarrier.complete(bytes.count).map(drop)
        } else {
            let problem = format!(
                "{} bytes of a copy that belongs to phase {} come in phase {}: fewer bytes were \
                 expected than copied",
                bytes.count, bytes.phase, mbarrier.phase
            );
            Err(FaultKind::Mbarrier { address: mbarrier.address, problem })
        };
        counted.map_err(|kind| Located {
            rank: bytes.from,
            warp: bytes.warp,
            at: bytes.at,
            fault: (None, kind),
        })?;
    }
    Ok(!arriving.is_empty())
}
