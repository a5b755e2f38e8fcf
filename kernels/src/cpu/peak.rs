//! What the processor reaches without any memory in the way, and what its memory gives: the roofs that speeds
//! are told as a share of. Machines drift with their neighbours, so measure them beside what they are for.

use std::time::Instant;

use super::pool::Pool;
use super::simd::{Kernel, Level, Simd};

/// Sums that are kept at once: more than the latency of a multiply-add times the units that do it.
const SUMS: usize = 24;
/// Multiply-adds of each sum, some milliseconds of them.
const TURNS: usize = 200_000;

struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (x, y) = (s.splat(0.9999), s.splat(1e-3));
        let mut sums = [s.splat(1.0); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, y);
            }
        }
        sums.iter().map(|&sum| s.sum(sum)).sum()
    }
}

/// Multiply-adds on all threads at once, in GFLOP/s.
pub fn multiply_adds(pool: &Pool, level: Level) -> f64 {
    let lanes = match level {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Scalar => 4,
    };
    let begun = Instant::now();
    pool.run(pool.threads(), usize::MAX, |_, _| {
        std::hint::black_box(level.run(MultiplyAdds));
    });
    let flops = 2 * SUMS * TURNS * lanes * pool.threads();
    flops as f64 / begun.elapsed().as_secs_f64() / 1e9
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); 8];
        for part in self.0.chunks_exact(8 * S::LANES) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = s.add(*sum, s.load(&part[i * S::LANES..]));
            }
        }
        sums.iter().map(|&sum| s.sum(sum)).sum()
    }
}

/// Reading `data` once on all threads, in GB/s; larger than the caches, it tells of memory.
pub fn read(pool: &Pool, level: Level, data: &[f32]) -> f64 {
    let part = data.len().div_ceil(pool.threads()).max(1);
    let begun = Instant::now();
    pool.run(pool.threads(), usize::MAX, |i, _| {
        let from = (i * part).min(data.len());
        let to = (from + part).min(data.len());
        std::hint::black_box(level.run(Sum(&data[from..to])));
    });
    4.0 * data.len() as f64 / begun.elapsed().as_secs_f64() / 1e9
}
