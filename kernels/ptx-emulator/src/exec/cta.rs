//! A CTA: its warps take turns, each runs to its next barrier or wait.

use crate::clock::{Clocks, Layout};
use crate::error::FaultKind;
use crate::exec::cluster::{Located, Turn};
use crate::exec::registers::Place;
use crate::exec::warp::{Pause, Warp};
use crate::exec::world::World;
use crate::ir::Code;

/// Who has come to a barrier.
#[derive(Clone, Default)]
struct Barrier {
    /// Warps that wait at it.
    waiting: Vec<usize>,
    /// Threads that have come, those that only arrived included.
    threads: u32,
    /// Threads that it needs, where a count was given.
    wanted: Option<u32>,
    /// What all who came know.
    clocks: Clocks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    Waiting { id: u32, line: u32 },
    Done,
}

/// A CTA's warps; reused from CTA to CTA.
pub(crate) struct Cta {
    warps: Vec<Warp>,
    status: Vec<Status>,
    barriers: Vec<Barrier>,
}

impl Cta {
    pub(crate) fn new(code: &Code, warps: u32) -> Self {
        Self {
            warps: (0..warps).map(|id| Warp::new(id, code)).collect(),
            status: vec![Status::Ready; warps as usize],
            barriers: vec![Barrier::default(); 16],
        }
    }

    /// Back to the first instruction.
    pub(crate) fn reset(&mut self, place: &Place, code: &Code, layout: &Layout) {
        let threads = place.block.iter().product::<u32>();
        for (id, warp) in self.warps.iter_mut().enumerate() {
            let id = id as u32;
            let lanes = (threads - 32 * id).min(32);
            let mask = if lanes == 32 { !0 } else { (1 << lanes) - 1 };
            warp.reset(code, &Place { warp: id, ..*place }, layout, mask);
        }
        self.status.fill(Status::Ready);
        self.barriers.fill(Barrier::default());
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status.iter().all(|status| *status == Status::Done)
    }

    pub(crate) fn has_ended(&self, warp: usize) -> bool {
        self.status[warp] == Status::Done
    }

    pub(crate) fn warps(&self) -> impl Iterator<Item = &Warp> + Clone {
        self.warps.iter()
    }

    /// The cluster's barrier is open.
    pub(crate) fn pass_gate(&mut self) {
        self.warps.iter_mut().for_each(|warp| warp.arrived = 0);
    }

    /// Words for a warp that waits at a barrier of the CTA.
    pub(crate) fn at_barrier(&self, warp: usize) -> Option<String> {
        let Status::Waiting { id, line } = self.status[warp] else { return None };
        let come = self.barriers[id as usize].threads;
        Some(format!("waits at barrier {id} (line {line}, {come} threads came)"))
    }

    /// Each warp that can run has a turn.
    pub(crate) fn round(&mut self, world: &mut World) -> Result<Turn, Located> {
        let mut round = Turn::default();
        for index in 0..self.warps.len() {
            if self.status[index] == Status::Ready {
                let turn = self.turn(index, world)?;
                round.moved |= turn.moved;
                round.polled |= turn.polled;
            }
        }
        Ok(round)
    }

    fn turn(&mut self, index: usize, world: &mut World) -> Result<Turn, Located> {
        let warp = &mut self.warps[index];
        let rank = world.rank;
        let before = warp.steps;
        let pause = warp.run(world).map_err(|fault| Located {
            rank,
            warp: index as u32,
            at: warp.at(),
            fault,
        })?;
        match pause {
            Pause::Done => {
                self.status[index] = Status::Done;
                // Threads that have ended no longer count for a barrier of the whole CTA.
                (0..16).for_each(|id| self.release(id));
            }
            Pause::Poll => return Ok(Turn { moved: false, polled: true }),
            Pause::Parked => {
                return Ok(Turn { moved: self.warps[index].steps > before, polled: false });
            }
            Pause::Barrier { id, threads, wait, line } => {
                self.arrive(index, id, threads).map_err(|kind| Located {
                    rank,
                    warp: index as u32,
                    at: self.warps[index].at().saturating_sub(1),
                    fault: (None, kind),
                })?;
                if wait {
                    self.barriers[id as usize].waiting.push(index);
                    self.status[index] = Status::Waiting { id, line };
                }
                self.release(id as usize);
            }
        }
        Ok(Turn { moved: true, polled: false })
    }

    fn arrive(&mut self, index: usize, id: u32, threads: Option<u32>) -> Result<(), FaultKind> {
        let barrier = &mut self.barriers[id as usize];
        if barrier.threads > 0 && barrier.wanted != threads {
            let text = format!(
                "barrier {id} is used with two thread counts at once: {:?} and {threads:?}",
                barrier.wanted
            );
            return Err(FaultKind::BadOperand(text));
        }
        barrier.wanted = threads;
        // With a count every warp counts in full, whether or not some of its lanes have ended.
        let running = self.warps[index].running.count_ones();
        barrier.threads += if threads.is_some() { 32 } else { running };
        let warp = &mut self.warps[index];
        barrier.clocks.join(&warp.clocks);
        warp.meet();
        Ok(())
    }

    /// Opens the barrier if all have come.
    fn release(&mut self, id: usize) {
        let running: u32 = self.warps.iter().map(|warp| warp.running.count_ones()).sum();
        let barrier = &mut self.barriers[id];
        if barrier.threads == 0 || barrier.threads < barrier.wanted.unwrap_or(running) {
            return;
        }
        for index in std::mem::take(&mut barrier.waiting) {
            self.warps[index].clocks.join(&barrier.clocks);
            self.status[index] = Status::Ready;
        }
        barrier.threads = 0;
        barrier.wanted = None;
        barrier.clocks = Clocks::default();
    }
}
