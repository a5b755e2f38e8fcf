//! Paddock's core without an operating system's help: no std, no C library, memory from one static
//! array. A tiny LLaMA is fine-tuned, with LoRA and in full, and the process ends with 0 only if the
//! loss fell both times. Only `start.rs` knows which machine this is.
#![no_std]
#![no_main]
// Keeps the compiler from turning memory.rs's loops into calls of themselves.
#![no_builtins]

extern crate alloc;

mod arena;
mod memory;
mod start;
mod tiny;

use core::fmt::Write;
use core::panic::PanicInfo;

use paddock_core::model::{LoraConfig, Method};

/// Exit status of a loss that did not fall.
const NOT_LEARNED: i32 = 3;
/// Exit status of a refused call.
const REFUSED: i32 = 4;
/// Exit status of a panic.
const PANICKED: i32 = 5;

/// Called by `start.rs` on an empty stack.
fn main() -> i32 {
    let lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        rank_stabilised: false,
        dropout: 0.0,
        targets: [true; 7],
    };
    let runs = [("lora", Method::Lora(lora), 6, 2e-2), ("full", Method::Full, 1, 2e-3)];
    for (name, method, steps, lr) in runs {
        let status = report(name, method, steps, lr);
        if status != 0 {
            return status;
        }
    }
    let _ = writeln!(start::Out, "stack {} bytes", start::stack_used());
    0
}

/// Trains, tells what it took, and returns the exit status.
fn report(name: &str, method: Method, steps: u64, lr: f64) -> i32 {
    arena::restart();
    let run = match tiny::train(method, steps, lr) {
        Ok(run) => run,
        Err(error) => {
            let _ = writeln!(start::Out, "{name}: {error}");
            return REFUSED;
        }
    };
    // A comparison that NaN fails.
    let fell = run.after < run.before;
    let _ = writeln!(
        start::Out,
        "{name} steps {steps} loss {:.4} -> {:.4} trained {} planned {} bytes weights {} bytes \
         heap {} bytes",
        run.before,
        run.after,
        run.trained,
        run.planned_bytes,
        run.weight_bytes,
        arena::peak_bytes(),
    );
    if fell { 0 } else { NOT_LEARNED }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(start::Out, "{info}");
    start::exit(PANICKED)
}
