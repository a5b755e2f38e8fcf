//! How fast each op of the table is on a device.

use std::time::Instant;

use paddock_core::backend::Backend;
use paddock_core::error::{Error, Result};
use paddock_core::weights::Dtype;

use super::draw::Size;
use super::{Case, Draw, Op, table};
use crate::Device;
use crate::cpu::peak;
use crate::cpu::pool::Pool;
use crate::cpu::simd::Level;

/// Seconds that one measurement should take at least, where one call is shorter.
const ENOUGH: f64 = 0.05;

/// Seconds of work before what counts: devices that were idle run at a fraction of their clock at first.
const WARM: f64 = 0.4;

/// Calls recorded between two waits at most.
const MOST_CALLS: f64 = 200.0;

/// Measurements of which the median counts.
const ROUNDS: usize = 5;

/// Numbers that are read to measure memory: more than caches hold, mostly.
const MEMORY: usize = 64 << 20;

/// How fast an op was.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// The op.
    pub op: &'static str,
    /// The case's shape.
    pub shape: String,
    /// Seconds of a call.
    pub seconds: f64,
    /// Arithmetic operations of a call.
    pub flops: f64,
    /// Bytes that a call reads and writes at least.
    pub bytes: f64,
    /// Its arithmetic as a share of the multiply-adds that the processor reached just before and after, the
    /// median of all rounds. Of the processor alone.
    pub share: Option<f64>,
}

/// Measures the ops whose name contains `only` on shapes like a small real model's; on the processor also its
/// roofs, as "peak multiply-add" and "peak read".
pub fn measure(device: &Device, only: &str, report: &mut dyn FnMut(Speed)) -> Result<()> {
    let roof = Roof::of(device)?;
    if let Some(roof) = &roof {
        roof.speeds().into_iter().filter(|speed| speed.op.contains(only)).for_each(&mut *report);
    }
    for op in table().iter().filter(|op| op.name.contains(only)) {
        for (element, name) in [(Dtype::F32, "f32"), (Dtype::Bf16, "bf16")] {
            let mut draw = Draw::new(1, Size::Real);
            draw.element = Some(element);
            let case = (op.draw)(&mut draw);
            let mut backend = device.backend(case.weights())?;
            if case.tensors.is_empty() {
                // No frozen weights, so no second case.
                report(speed(op, &case, &mut *backend, &roof)?);
                break;
            }
            let mut found = speed(op, &case, &mut *backend, &roof)?;
            found.shape += &format!(", {name} weights");
            report(found);
        }
    }
    Ok(())
}

/// The processor itself, as far as it is measured.
struct Roof {
    pool: Pool,
    level: Level,
}

impl Roof {
    fn of(device: &Device) -> Result<Option<Roof>> {
        let Device::Cpu { threads, level, .. } = device else { return Ok(None) };
        let failed = |e: String| Error::Device(e);
        let pool = Pool::new(*threads).map_err(|e| failed(e.to_string()))?;
        let level = Level::choose(*level).map_err(|e| failed(e.to_string()))?;
        Ok(Some(Roof { pool, level }))
    }

    fn flops_a_second(&self) -> f64 {
        1e9 * peak::multiply_adds(&self.pool, self.level)
    }

    /// The best of some measurements of each.
    fn speeds(&self) -> [Speed; 2] {
        let best = |measure: &dyn Fn() -> f64| (0..8).map(|_| measure()).fold(0.0, f64::max);
        let flops = best(&|| self.flops_a_second());
        let data = vec![1.0; MEMORY];
        let bytes = best(&|| 1e9 * peak::read(&self.pool, self.level, &data));
        let speed = |op, shape: &str, flops, bytes| {
            let shape = format!("{shape}, {} threads", self.pool.threads());
            Speed { op, shape, seconds: 1.0, flops, bytes, share: None }
        };
        [
            speed("peak multiply-add", "registers alone", flops, 0.0),
            speed("peak read", "256 MiB", 0.0, bytes),
        ]
    }
}

fn speed(op: &Op, case: &Case, backend: &mut dyn Backend, roof: &Option<Roof>) -> Result<Speed> {
    case.load(backend)?;
    let mut time = |calls: usize| -> Result<f64> {
        backend.sync()?;
        let start = Instant::now();
        for _ in 0..calls {
            (case.call)(backend)?;
        }
        backend.sync()?;
        Ok(start.elapsed().as_secs_f64() / calls as f64)
    };
    // The first call compiles, the second finds the pace of a device that has to be paced.
    time(1)?;
    let once = time(1)?;
    let calls = (ENOUGH / once.max(1e-9)).ceil().clamp(1.0, MOST_CALLS) as usize;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < WARM {
        time(calls)?;
    }
    let peak = || roof.as_ref().map(Roof::flops_a_second);
    let (mut rounds, mut shares) = ([0.0; ROUNDS], Vec::new());
    for round in &mut rounds {
        let before = peak();
        *round = time(calls)?;
        shares.extend(before.zip(peak()).map(|(a, b)| case.flops / *round / (0.5 * (a + b))));
    }
    rounds.sort_by(f64::total_cmp);
    shares.sort_by(f64::total_cmp);
    let (shape, seconds) = (case.shape.clone(), rounds[ROUNDS / 2]);
    let share = shares.get(ROUNDS / 2).copied();
    Ok(Speed { op: op.name, shape, seconds, flops: case.flops, bytes: case.bytes, share })
}
