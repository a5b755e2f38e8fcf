//! Vectors of f32 at three levels: AVX-512, AVX2 with FMA, and portable Rust.
//!
//! Kernels are written once, generic over [`Simd`], and started by [`Level::run`], which compiles
//! them for each level and picks the one asked for. A value of [`Avx512`] or [`Avx2`] exists only
//! on a machine that has those instructions; that is what makes the calls below sound.
//! This file (with `simd/x86.rs` and `simd/amx.rs`) and `tiles.rs` are the only ones of the CPU part with `unsafe`.

#![allow(
    clippy::needless_range_loop,
    reason = "several small arrays are walked side by side, by constant bounds"
)]

use std::fmt;

/// An instruction set that kernels can be run with, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Portable Rust, four lanes, no fused multiply-add.
    Scalar,
    /// Eight lanes, fused multiply-add, F16C.
    Avx2,
    /// Sixteen lanes (F, BW, DQ, VL).
    Avx512,
}

/// Why a level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// The name is none of ours.
    #[error("unknown SIMD level \"{0}\"; expected avx512, avx2 or scalar")]
    Unknown(String),
    /// The processor lacks it.
    #[error(
        "this processor has no {wanted}; the best it has is {best} (leave the level out to use it)"
    )]
    Missing {
        /// What was asked for.
        wanted: Level,
        /// What there is.
        best: Level,
    },
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        })
    }
}

impl std::str::FromStr for Level {
    type Err = LevelError;

    fn from_str(name: &str) -> Result<Level, LevelError> {
        match name {
            "scalar" => Ok(Level::Scalar),
            "avx2" => Ok(Level::Avx2),
            "avx512" => Ok(Level::Avx512),
            _ => Err(LevelError::Unknown(name.into())),
        }
    }
}

impl Level {
    /// The best level of this processor.
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            if Avx512::detect().is_some() {
                return Level::Avx512;
            }
            if Avx2::detect().is_some() {
                return Level::Avx2;
            }
        }
        Level::Scalar
    }

    /// Every level that this processor has, lowest first.
    pub fn available() -> Vec<Level> {
        let all = [Level::Scalar, Level::Avx2, Level::Avx512];
        all.into_iter().filter(|&level| level <= Level::best()).collect()
    }

    /// `wanted` if given, else the environment variable PADDOCK_SIMD if set, else the best.
    pub fn choose(wanted: Option<Level>) -> Result<Level, LevelError> {
        let best = Level::best();
        let wanted = match (wanted, std::env::var("PADDOCK_SIMD")) {
            (Some(level), _) => level,
            (None, Ok(name)) => name.parse()?,
            (None, Err(_)) => best,
        };
        if wanted <= best { Ok(wanted) } else { Err(LevelError::Missing { wanted, best }) }
    }

    /// Runs `kernel` compiled for this level. (A level above the machine's best, which `choose`
    /// never returns, falls to the best.)
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Level::Avx512
                && let Some(simd) = Avx512::detect()
            {
                // SAFETY: `simd` proves that the processor has the features of `run_avx512`.
                return unsafe { x86::run_avx512(simd, kernel) };
            }
            if self >= Level::Avx2
                && let Some(simd) = Avx2::detect()
            {
                // SAFETY: `simd` proves that the processor has the features of `run_avx2`.
                return unsafe { x86::run_avx2(simd, kernel) };
            }
        }
        kernel.run(Scalar)
    }
}

/// Size of a core's level-2 cache; 0 where it is not known.
pub fn level_2_bytes() -> usize {
    // Miri has no processor to ask.
    #[cfg(target_arch = "x86_64")]
    return if cfg!(miri) { 0 } else { x86::level_2_bytes() };
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// A piece of work written for any level. `run` and all it calls must be `#[inline(always)]`, so
/// that they are compiled with the level's instructions.
pub trait Kernel {
    /// What it returns.
    type Out;
    /// The work.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

/// The most lanes of any level.
pub const MAX_LANES: usize = 16;

/// Vectors of `LANES` f32. Comparisons and `max`/`min` return the *second* operand if one is NaN.
#[allow(missing_docs)] // The names say it; what is less plain is documented.
pub trait Simd: Copy + Send + Sync + 'static {
    type V: Copy + Send + Sync;
    const LANES: usize;
    fn splat(self, x: f32) -> Self::V;
    /// The first LANES elements; panics if there are fewer.
    fn load(self, src: &[f32]) -> Self::V;
    fn store(self, dst: &mut [f32], v: Self::V);
    /// At most LANES elements, the rest zero.
    fn load_part(self, src: &[f32]) -> Self::V;
    /// As many lanes as `dst` has elements, at most LANES.
    fn store_part(self, dst: &mut [f32], v: Self::V);
    /// Loads LANES bf16 bit patterns, widened.
    fn load_bf16(self, src: &[u16]) -> Self::V;
    /// Loads LANES f16 bit patterns, widened.
    fn load_f16(self, src: &[u16]) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once where the level can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer, ties to even (for |a| < 2^22).
    fn round(self, a: Self::V) -> Self::V;
    /// a * 2^n for integral n in -252..=254, rounded once unless it is subnormal.
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V;
    /// Per lane: `if a < b { x } else { y }`.
    fn if_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Sum of the lanes: halves are added until one lane is left (the same order at every call).
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane.
    fn max_lane(self, a: Self::V) -> f32;
    /// Runs `kernel` at this level as a function of its own, not inlined into the caller: for large
    /// bodies that many kernels share.
    fn call<K: Kernel>(self, kernel: K) -> K::Out;
    /// Asks for the cache line at `address`, which may be any (nothing is read).
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        let _ = address;
    }
    /// The same for the level-2 cache.
    #[inline(always)]
    fn prefetch_far(self, address: *const f32) {
        let _ = address;
    }
    /// Transposes the LANES x LANES block in the first LANES vectors.
    fn transpose(self, block: &mut [Self::V; MAX_LANES]);
}

/// The portable level.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Scalar {
    type V = [f32; 4];
    const LANES: usize = 4;

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Out {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> Self::V {
        [src[0], src[1], src[2], src[3]]
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32], v: Self::V) {
        dst[..4].copy_from_slice(&v);
    }
    #[inline(always)]
    fn load_part(self, src: &[f32]) -> Self::V {
        lanes(|i| if i < src.len() { src[i] } else { 0.0 })
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: Self::V) {
        dst.iter_mut().zip(v).for_each(|(d, x)| *d = x);
    }
    #[inline(always)]
    fn load_bf16(self, src: &[u16]) -> Self::V {
        lanes(|i| f32::from_bits(u32::from(src[i]) << 16))
    }
    #[inline(always)]
    fn load_f16(self, src: &[u16]) -> Self::V {
        lanes(|i| half::f16::from_bits(src[i]).to_f32())
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 leaves no room for a fraction; the addition itself rounds to even.
        const BIG: f32 = 12_582_912.0;
        lanes(|i| (a[i] + BIG) - BIG)
    }
    #[inline(always)]
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V {
        // In two steps: 2^128 has no bit pattern of its own.
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        lanes(|i| {
            let half = n[i] as i32 >> 1;
            a[i] * power(half) * power(n[i] as i32 - half)
        })
    }
    #[inline(always)]
    fn if_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn max_lane(self, a: Self::V) -> f32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }
    #[inline(always)]
    fn transpose(self, block: &mut [Self::V; MAX_LANES]) {
        for i in 0..4 {
            for j in 0..i {
                (block[i][j], block[j][i]) = (block[j][i], block[i][j]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(not(target_arch = "x86_64"))]
#[path = "simd/amx_absent.rs"]
pub mod amx;
