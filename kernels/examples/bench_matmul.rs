//! GFLOP/s of the matrix products beside the peak of fused multiply-adds, in one run.
//!
//! `cargo run --release -p paddock-kernels --example bench_matmul [threads] [filter] [bf16]`: with
//! "bf16" operands are rounded to it, by matrix instructions.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use paddock_kernels::cpu::Ctx;
use paddock_kernels::cpu::matmul::{self, Elems, Product};
use paddock_kernels::cpu::pack::View;
use paddock_kernels::cpu::pool::Pool;
use paddock_kernels::cpu::simd::amx::Amx;
use paddock_kernels::cpu::simd::{Kernel, Level, Simd};

/// Seconds. With one thread on Linux, those that this thread really ran: neighbours on a shared
/// machine then disturb less.
fn clock() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let wall = START.get_or_init(Instant::now).elapsed().as_secs_f64();
    if ONE_THREAD.load(Ordering::Relaxed)
        && let Ok(text) = std::fs::read_to_string("/proc/thread-self/schedstat")
        && let Some(Ok(ns)) = text.split(' ').next().map(str::parse::<f64>)
    {
        return ns / 1e9;
    }
    wall
}

static ONE_THREAD: AtomicBool = AtomicBool::new(false);

/// Twelve independent chains of multiply-adds: the most that the level can do.
struct Peak(usize);

impl Kernel for Peak {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut sums = [s.splat(1.0); 12];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, y);
            }
        }
        sums.into_iter().fold(0.0, |total, v| total + s.sum(v))
    }
}

fn peak(pool: &Pool, level: Level) -> f64 {
    let lanes = match level {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Scalar => 4,
    };
    let rounds = 2_000_000;
    let threads = pool.threads();
    let start = clock();
    pool.run(threads, usize::MAX, |_, _| {
        black_box(level.run(Peak(rounds)));
    });
    (2 * 12 * lanes * rounds * threads) as f64 / (clock() - start) / 1e9
}

fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as f32 / 2_147_483_648.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Tokens, outputs, inputs.
const SHAPES: [(usize, usize, usize); 15] = [
    (2048, 288, 288),
    (2048, 768, 288),
    (2048, 288, 768),
    (2048, 768, 768),
    (2048, 2048, 768),
    (2048, 768, 2048),
    (512, 2048, 2048),
    (512, 5632, 2048),
    (512, 2048, 5632),
    (512, 256, 2048),
    (512, 4000, 768),
    (2048, 16, 768),
    (2048, 768, 16),
    (256, 256, 256),
    (64, 64, 64),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(2);
    let filter = arguments.get(1).cloned().unwrap_or_default();
    ONE_THREAD.store(threads == 1, Ordering::Relaxed);
    let pool = Pool::new(threads).expect("threads");
    let level = Level::choose(None).expect("level");
    let amx = arguments.get(2).is_some_and(|word| word == "bf16");
    let amx = amx.then(|| Amx::detect().expect("matrix instructions"));
    let ctx = Ctx { pool: &pool, level, amx };
    println!("level {level}, {threads} threads; best of several; % of the peak beside it");
    for (n, o, i) in SHAPES {
        let (inp, dout, w) = (values(n * i, 1), values(n * o, 2), values(o * i, 3));
        let half: Vec<half::bf16> = w.iter().map(|&x| half::bf16::from_f32(x)).collect();
        let f32s = Elems::F32(View { data: &w, stride: i });
        let bf16 = Elems::Bf16(View { data: &half, stride: i });
        let (mut out, mut dinp, mut dw) = (vec![0.0; n * o], vec![0.0; n * i], vec![0.0; o * i]);
        let flops = 2.0 * (n * o * i) as f64;
        let line = |name: &str, run: &mut dyn FnMut()| {
            let label = format!("{name} n {n} o {o} i {i}");
            if !label.contains(&filter) {
                return;
            }
            let rounds = ((3e9 / flops) as usize).clamp(3, 200);
            let (mut best, mut top) = (f64::MAX, 0.0f64);
            for _ in 0..3 {
                top = top.max(peak(&pool, level));
                for _ in 0..rounds {
                    let start = clock();
                    run();
                    best = best.min(clock() - start);
                }
            }
            let rate = flops / best / 1e9;
            println!(
                "{label:42} {rate:7.1} GFLOP/s  peak {top:6.1}  {:5.1} %  {:8.3} ms",
                100.0 * rate / top,
                best * 1e3
            );
        };
        line("forward f32 ", &mut || {
            let parts = [matmul::forward(&inp, f32s, i)];
            let p = Product { m: n, n: o, parts: &parts, alpha: 1.0, add: false };
            matmul::product(ctx, p, &mut out);
        });
        line("forward bf16", &mut || {
            let parts = [matmul::forward(&inp, bf16, i)];
            let p = Product { m: n, n: o, parts: &parts, alpha: 1.0, add: false };
            matmul::product(ctx, p, &mut out);
        });
        line("dinput f32  ", &mut || {
            let parts = [matmul::backward_input(&dout, f32s, o)];
            let p = Product { m: n, n: i, parts: &parts, alpha: 1.0, add: true };
            matmul::product(ctx, p, &mut dinp);
        });
        line("dinput bf16 ", &mut || {
            let parts = [matmul::backward_input(&dout, bf16, o)];
            let p = Product { m: n, n: i, parts: &parts, alpha: 1.0, add: true };
            matmul::product(ctx, p, &mut dinp);
        });
        line("dweight     ", &mut || {
            let parts = [matmul::backward_weight(&dout, &inp, o, i)];
            let p = Product { m: o, n: i, parts: &parts, alpha: 1.0, add: true };
            matmul::product(ctx, p, &mut dw);
        });
    }
}
