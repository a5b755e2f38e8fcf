//! The CPU back-end: rayon outside, SIMD inside.
//!
//! `simd.rs` and `tiles.rs` hold the machinery and all `unsafe`; every other file is one op, its
//! formula first. Results depend on the SIMD level and on shapes, never on the number of threads.

use paddock_core::batch::Batch;
use paddock_core::error::{Error, Result};
use paddock_core::weights::Weights;

pub mod adamw;
pub mod attention;
mod backend;
pub mod dropout;
pub mod elem;
pub mod elementwise;
pub mod embed;
mod fused;
pub mod linear_cross_entropy;
pub mod lora;
pub mod matmul;
pub mod matvec;
pub mod memory;
pub mod pack;
pub mod peak;
pub mod pool;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod swiglu;
pub mod tiles;
pub mod vmath;

use memory::Memory;
use pool::Pool;
use simd::Level;

/// Where an op runs: the threads and the SIMD level.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The worker threads.
    pub pool: &'a Pool,
    /// The instruction set.
    pub level: Level,
}

/// The CPU back-end over borrowed checkpoint bytes.
pub struct Cpu<'w> {
    name: String,
    level: Level,
    pool: Pool,
    weights: Weights<'w>,
    memory: Memory,
    batch: Batch,
    all: attention::layout::Layout,
    kept: attention::layout::Layout,
}

impl<'w> Cpu<'w> {
    /// A back-end that reads frozen weights from `weights` in place, with `threads` workers (0: one
    /// for each core) at `level` (none: PADDOCK_SIMD, else the processor's best).
    pub fn new(weights: Weights<'w>, threads: usize, level: Option<Level>) -> Result<Cpu<'w>> {
        let level = Level::choose(level).map_err(|e| Error::Device(e.to_string()))?;
        let pool = Pool::new(threads).map_err(|e| Error::Device(e.to_string()))?;
        Ok(Cpu {
            name: format!("cpu {level}"),
            level,
            pool,
            weights,
            memory: Memory::default(),
            batch: Batch::default(),
            all: Default::default(),
            kept: Default::default(),
        })
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The SIMD level in use.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// Splits a back-end into the context, the memory and the weights, which an op borrows apart.
macro_rules! parts {
    ($self:ident) => {
        (Ctx { pool: &$self.pool, level: $self.level }, &mut $self.memory, &$self.weights)
    };
}
pub(crate) use parts;
