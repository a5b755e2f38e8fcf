//! Times every op of the table on the CPU and on the graphics adapter:
//! `cargo run --release -p paddock-kernels --example bench_wgpu [seed…]`

use std::time::Instant;

use paddock_core::backend::Backend;
use paddock_core::error::Result;
use paddock_kernels::cpu::Cpu;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Case, Draw, table};
use paddock_kernels::wgpu::{Gpu, Wgpu};

/// Milliseconds of one call: the best of five, after one that compiles and warms up.
fn time(backend: &mut dyn Backend, case: &Case) -> Result<f64> {
    case.load(backend)?;
    let mut best = f64::INFINITY;
    for i in 0..6 {
        backend.sync()?;
        let start = Instant::now();
        (case.call)(backend)?;
        backend.sync()?;
        if i > 0 {
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(best)
}

fn main() -> Result<()> {
    let gpu = Gpu::open()?;
    let mut seeds: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    if seeds.is_empty() {
        seeds = vec![1, 4];
    }
    println!("{} beside the CPU, milliseconds a call", gpu.name());
    for op in table() {
        for &seed in &seeds {
            let case = (op.draw)(&mut Draw::new(seed, Size::Large));
            let cpu = time(&mut Cpu::new(case.weights(), 0, None)?, &case)?;
            let wgpu = time(&mut Wgpu::on(gpu.clone(), case.weights())?, &case)?;
            println!("{:32} cpu {cpu:9.3}  wgpu {wgpu:9.3}  {}", op.name, case.shape);
        }
    }
    Ok(())
}
