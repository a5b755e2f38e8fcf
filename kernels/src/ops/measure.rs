//! How fast each op of the table is on a device.

use std::time::Instant;

use paddock_core::backend::Backend;
use paddock_core::error::Result;

use super::draw::Size;
use super::{Case, Draw, Op, table};
use crate::Device;

/// Seconds that one measurement should take at least, where one call is shorter.
const ENOUGH: f64 = 0.05;

/// Seconds of work before what counts: devices that were idle run at a fraction of their clock at first.
const WARM: f64 = 0.4;

/// Calls recorded between two waits at most.
const MOST_CALLS: f64 = 200.0;

/// Measurements of which the median counts.
const ROUNDS: usize = 3;

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
}

/// Measures the ops whose name contains `only` on shapes like a small real model's.
pub fn measure(device: &Device, only: &str, report: &mut dyn FnMut(Speed)) -> Result<()> {
    for op in table().iter().filter(|op| op.name.contains(only)) {
        let case = (op.draw)(&mut Draw::new(1, Size::Real));
        let mut backend = device.backend(case.weights())?;
        report(speed(op, &case, &mut *backend)?);
    }
    Ok(())
}

fn speed(op: &Op, case: &Case, backend: &mut dyn Backend) -> Result<Speed> {
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
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        *round = time(calls)?;
    }
    rounds.sort_by(f64::total_cmp);
    let (shape, seconds) = (case.shape.clone(), rounds[ROUNDS / 2]);
    Ok(Speed { op: op.name, shape, seconds, flops: case.flops, bytes: case.bytes })
}
