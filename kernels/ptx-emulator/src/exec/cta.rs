//! A CTA: its warps take turns, each runs to its next barrier.

use crate::error::{FaultKind, LaneFault};
use crate::exec::registers::Place;
use crate::exec::warp::{Pause, Warp, World};
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
    /// The join of the clocks of all who came.
    clocks: Vec<u32>,
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

/// A fault and the place where it happened: warp and instruction.
pub(crate) struct Located {
    pub(crate) warp: u32,
    pub(crate) at: usize,
    pub(crate) fault: LaneFault,
}

impl Cta {
    pub(crate) fn new(code: &Code, warps: u32) -> Self {
        Self {
            warps: (0..warps).map(|id| Warp::new(id, code)).collect(),
            status: vec![Status::Ready; warps as usize],
            barriers: vec![Barrier::default(); 16],
        }
    }

    /// Runs one CTA from its first instruction to its last.
    pub(crate) fn run(&mut self, place: &Place, world: &mut World) -> Result<(), Located> {
        let threads = place.block.iter().product::<u32>();
        world.shared.reset();
        for (id, warp) in self.warps.iter_mut().enumerate() {
            let id = id as u32;
            let lanes = (threads - 32 * id).min(32);
            let mask = if lanes == 32 { !0 } else { (1 << lanes) - 1 };
            warp.reset(world.code, &Place { warp: id, ..*place }, mask);
        }
        self.status.fill(Status::Ready);
        self.barriers.fill(Barrier::default());
        while self.status.iter().any(|status| *status != Status::Done) {
            let mut moved = false;
            for index in 0..self.warps.len() {
                if self.status[index] == Status::Ready {
                    moved = true;
                    self.turn(index, world)?;
                }
            }
            if !moved {
                return Err(self.deadlock());
            }
        }
        world.counters.ctas += 1;
        Ok(())
    }

    fn turn(&mut self, index: usize, world: &mut World) -> Result<(), Located> {
        let warp = &mut self.warps[index];
        let pause = warp.run(world).map_err(|fault| Located {
            warp: index as u32,
            at: warp.at(),
            fault,
        })?;
        match pause {
            Pause::Done => {
                self.status[index] = Status::Done;
                // Threads that have ended no longer count for a barrier of the whole CTA.
                (0..16).for_each(|id| self.release(id));
                Ok(())
            }
            Pause::Barrier { id, threads, wait, line } => {
                self.arrive(index, id, threads).map_err(|kind| Located {
                    warp: index as u32,
                    at: self.warps[index].at().saturating_sub(1),
                    fault: (None, kind),
                })?;
                if wait {
                    self.barriers[id as usize].waiting.push(index);
                    self.status[index] = Status::Waiting { id, line };
                }
                self.release(id as usize);
                Ok(())
            }
        }
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
        barrier.clocks.resize(warp.clocks.len(), 0);
        for (joined, clock) in barrier.clocks.iter_mut().zip(&warp.clocks) {
            *joined = (*joined).max(*clock);
        }
        warp.clocks[index] += 1;
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
            let clocks = &mut self.warps[index].clocks;
            for (clock, joined) in clocks.iter_mut().zip(&barrier.clocks) {
                *clock = (*clock).max(*joined);
            }
            self.status[index] = Status::Ready;
        }
        barrier.threads = 0;
        barrier.wanted = None;
        barrier.clocks.clear();
    }

    fn deadlock(&self) -> Located {
        let mut stuck = 0;
        let places: Vec<String> = self
            .status
            .iter()
            .enumerate()
            .map(|(warp, status)| match status {
                Status::Waiting { id, line } => {
                    stuck = warp;
                    let come = self.barriers[*id as usize].threads;
                    format!("warp {warp} waits at barrier {id} (line {line}, {come} threads came)")
                }
                Status::Done => format!("warp {warp} has ended"),
                Status::Ready => format!("warp {warp} could run"),
            })
            .collect();
        Located {
            warp: stuck as u32,
            at: self.warps[stuck].at().saturating_sub(1),
            fault: (None, FaultKind::Deadlock(places.join("; "))),
        }
    }
}
