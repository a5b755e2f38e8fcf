//! `core-cli bench`: the speed of this machine on a model of any shape, with random weights, and of its ops.

use clap::Subcommand;
use paddock_kernels::ops::{self, Speed};
use serde_json::json;

use crate::open::{Machine, device};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Optimizer steps on a dense batch (nothing shared, every token trained), or on your rows.
    Train(super::bench_train::Args),
    /// Reading a prompt and writing an answer, one stream.
    Generate(super::bench_generate::Args),
    /// Every op of a training step, on shapes like a small model's.
    Ops(OpsArgs),
    /// Rows read, rendered and tokenised.
    Data(super::bench_data::Args),
}

#[derive(Debug, clap::Args)]
struct OpsArgs {
    /// Only ops whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Each op as soon as it is measured.
fn bench_ops(args: &OpsArgs) -> anyhow::Result<()> {
    let device = device(&args.machine)?;
    if !args.json {
        println!("{}", device.name());
        println!("{:30} {:>10} {:>9} {:>8} {:>7}  shape", "op", "ms", "GFLOP/s", "GB/s", "of peak");
    }
    let backend = device.name();
    let mut tell = |s: Speed| {
        let (gflops, gbytes) = (s.flops / s.seconds / 1e9, s.bytes / s.seconds / 1e9);
        if args.json {
            let line = json!({
                "op": s.op, "backend": backend, "seconds": s.seconds, "gflops": gflops,
                "gbytes": gbytes, "share_of_peak": s.share, "shape": s.shape,
            });
            println!("{line}");
        } else {
            let ms = 1e3 * s.seconds;
            let share = s.share.map_or(String::new(), |share| format!("{:.0}%", 100.0 * share));
            println!("{:30} {ms:10.3} {gflops:9.1} {gbytes:8.1} {share:>7}  {}", s.op, s.shape);
        }
    };
    Ok(ops::measure(&device, &args.only, &mut tell)?)
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Train(args) => println!("{}", super::bench_train::run(&args)?),
        What::Generate(args) => println!("{}", super::bench_generate::run(&args)?),
        What::Ops(args) => bench_ops(&args)?,
        What::Data(args) => super::bench_data::run(&args)?,
    }
    Ok(())
}
