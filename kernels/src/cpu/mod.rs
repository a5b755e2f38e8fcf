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
#[cfg(target_arch = "x86_64")]
mod matmul_bf16;
#[cfg(not(target_arch = "x86_64"))]
#[path = "matmul_bf16_absent.rs"]
mod matmul_bf16;
pub mod matvec;
pub mod memory;
pub mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_bf16;
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
use simd::amx::Amx;

/// Where an op runs: the threads and the SIMD level.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The worker threads.
    pub pool: &'a Pool,
    /// The instruction set.
    pub level: Level,
    /// Matrix instructions, if products are to round their operands to bf16.
    pub amx: Option<Amx>,
}

/// The CPU back-end over borrowed checkpoint bytes.
pub struct Cpu<'w> {
    name: String,
    level: Level,
    amx: Option<Amx>,
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
            amx: None,
            pool,
            weights,
            memory: Memory::default(),
            batch: Batch::default(),
            all: Default::default(),
            kept: Default::default(),
        })
    }

    /// The same with matrix products in bf16: they round their operands to it and add in f32, at several times the
    /// speed. Everything else stays f32, and so does decoding, which reads weights at the speed of memory.
    ///
    /// # Errors
    /// Where the processor (or the system) lacks the matrix instructions.
    pub fn with_products_in_bf16(mut self) -> Result<Cpu<'w>> {
        let missing = "this processor has no matrix instructions for bf16 (Intel's AMX, under Linux); leave \
                       --precision out for f32";
        let found = (self.level == Level::Avx512).then(Amx::detect).flatten();
        self.amx = Some(found.ok_or_else(|| Error::Device(missing.into()))?);
        self.name += ", products in bf16";
        Ok(self)
    }

    /// Whether matrix products round their operands to bf16.
    pub fn has_products_in_bf16(&self) -> bool {
        self.amx.is_some()
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
        (
            Ctx { pool: &$self.pool, level: $self.level, amx: $self.amx },
            &mut $self.memory,
            &$self.weights,
        )
    };
}
pub(crate) use parts;
