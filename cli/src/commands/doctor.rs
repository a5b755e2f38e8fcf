//! `core-cli doctor`: what this machine can do, in words.

use serde_json::json;

use crate::machine::memory;
use crate::train::report::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let machine = paddock_kernels::describe_machine();
    let (all, free) = memory();
    if args.json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
            "memory_bytes": all,
            "memory_free_bytes": free,
            "backends": ["cpu", "reference"],
        });
        println!("{report}");
        return Ok(());
    }
    println!("Paddock     {}", env!("CARGO_PKG_VERSION"));
    println!("Processor   {machine}");
    println!("Memory      {}, of which {} are free", bytes(all), bytes(free));
    println!("Computes on cpu (the fastest here), reference (slow, for comparison)");
    println!("Graphics    not used by this version: training runs on the processor");
    Ok(())
}
