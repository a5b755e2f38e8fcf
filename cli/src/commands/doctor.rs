//! `core-cli doctor`: what this machine can do, in words.

use serde_json::json;

use crate::train::report::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Memory of the machine: (all, free now), in bytes.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("MemTotal:"), field("MemAvailable:"))
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
