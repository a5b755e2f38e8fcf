//! Threads, and the working space of each.
//!
//! Work is cut into numbered tasks by its shape; threads take tasks in any order, and no task reads
//! what another writes. So the number of threads changes the time, never the result.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::simd;

/// Why threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("could not start {threads} worker threads: {reason}; try fewer with --threads")]
pub struct PoolError {
    threads: usize,
    reason: rayon::ThreadPoolBuildError,
}

/// The panels and rows that a task works with; sized once, reused by every call.
pub struct Scratch {
    /// Columns of the right operand of a product (see `matmul.rs`), or what an op needs.
    pub b: Vec<f32>,
    /// Rows of the left operand.
    pub a: Vec<f32>,
    /// Small per-task tables of other ops.
    pub c: Vec<f32>,
    /// Counts (attention: visible keys of each row).
    pub counts: Vec<u32>,
}

/// Numbers in a cache line.
const LINE: usize = 16;

impl Scratch {
    /// Makes `buffer` at least `len` long (it grows the first time only).
    pub fn grow(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
        if buffer.len() < len + LINE {
            buffer.resize(len + LINE, 0.0);
        }
        let first = buffer.as_ptr().align_offset(4 * LINE).min(LINE);
        &mut buffer[first..first + len]
    }

    /// The same for counts.
    pub fn grow_counts(buffer: &mut Vec<u32>, len: usize) -> &mut [u32] {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        &mut buffer[..len]
    }
}

/// Worker threads with one [`Scratch`] each.
pub struct Pool {
    workers: Option<rayon::ThreadPool>,
    level_2_bytes: usize,
    scratch: Vec<Mutex<Scratch>>,
}

impl Pool {
    /// `threads` workers; 0 means one for each core that the process may use.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let build = |reason| PoolError { threads, reason };
        let workers = match threads {
            1 => None,
            n => {
                let named = |i| format!("paddock-cpu-{i}");
                let builder = rayon::ThreadPoolBuilder::new().num_threads(n).thread_name(named);
                Some(builder.build().map_err(build)?)
            }
        };
        let scratch = (0..threads)
            .map(|_| Mutex::new(Scratch { a: vec![], b: vec![], c: vec![], counts: vec![] }))
            .collect();
        Ok(Pool { workers, level_2_bytes: simd::level_2_bytes(), scratch })
    }

    /// Size of a core's level-2 cache; 0 where it is not known.
    pub fn level_2_bytes(&self) -> usize {
        self.level_2_bytes
    }

    /// How many workers there are.
    pub fn threads(&self) -> usize {
        self.scratch.len()
    }

    /// Runs `task(0)` to `task(n - 1)`. `work` is the number of arithmetic operations of all
    /// together, about: little work is done by the caller, for waking the workers takes longer.
    pub fn run(&self, n: usize, work: usize, task: impl Fn(usize, &mut Scratch) + Sync) {
        const WORTH_WAKING: usize = 200_000;
        match &self.workers {
            Some(workers) if n > 1 && work >= WORTH_WAKING => workers.install(|| {
                (0..n).into_par_iter().with_max_len(1).for_each(|i| {
                    let worker = rayon::current_thread_index().unwrap_or(0);
                    task(i, &mut self.scratch(worker));
                });
            }),
            _ => {
                let mut scratch = self.scratch(0);
                (0..n).for_each(|i| task(i, &mut scratch));
            }
        }
    }

    fn scratch(&self, worker: usize) -> MutexGuard<'_, Scratch> {
        // A poisoned lock only means that a task panicked; the buffers hold no state.
        self.scratch[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
