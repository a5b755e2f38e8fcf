//! `core-cli verify`: are the kernels right on this machine's device?

use paddock_kernels::Device;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::whole::verify_steps;
use paddock_kernels::ops::{Verdict, verify};
use serde_json::json;

use crate::open::{Machine, device, parse_parameters};
use crate::run::config;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first random case; the same number draws the same cases again.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random cases of each op.
    #[arg(long, default_value_t = 6)]
    cases: u64,
    /// Large shapes too: slower, on more threads or workgroups at once.
    #[arg(long)]
    large: bool,
    /// What an NVIDIA card keeps trained parameters in: f32, or bf16 rounded at random.
    #[arg(long, default_value = "f32", value_parser = parse_parameters)]
    parameters: config::Parameters,
    /// Print one JSON object for each line of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// Enough that one of them is a product of many tiles.
const LARGE_CASES: u64 = 4;

/// The worst of an op's outputs over all cases.
struct Worst {
    verdict: Verdict,
    cases: u64,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let machine = Machine { parameters: args.parameters, ..args.machine.clone() };
    let device = device(&machine)?;
    eprintln!("verifying {} against the reference in f64", device.name());
    let worst = judge(&args, &device)?;
    print(&args, &worst);
    let failed: Vec<&Worst> = worst.iter().filter(|w| !w.verdict.passes()).collect();
    let Some(first) = failed.first() else {
        eprintln!("all {} outputs are within their bounds on {}", worst.len(), device.name());
        return Ok(());
    };
    anyhow::bail!(
        "{} of {} outputs are beyond their bounds on {}, such as {} of {} ({}). Do not train on it: update \
         the driver, or use --backend cpu.",
        failed.len(),
        worst.len(),
        device.name(),
        first.verdict.output,
        first.verdict.op,
        first.verdict.shape
    )
}

fn judge(args: &Args, device: &Device) -> anyhow::Result<Vec<Worst>> {
    let mut all: Vec<Worst> = Vec::new();
    let mut keep = |verdict: Verdict| {
        let same =
            |w: &&mut Worst| w.verdict.op == verdict.op && w.verdict.output == verdict.output;
        match all.iter_mut().find(same) {
            Some(worst) => {
                worst.cases += 1;
                if ratio(&verdict) > ratio(&worst.verdict) {
                    worst.verdict = verdict;
                }
            }
            None => all.push(Worst { verdict, cases: 1 }),
        }
    };
    let seeds = args.seed..args.seed.saturating_add(args.cases.max(1));
    verify(device, seeds, Size::Small, &mut keep)?;
    if args.large {
        verify(device, args.seed..args.seed.saturating_add(LARGE_CASES), Size::Large, &mut keep)?;
    }
    verify_steps(device, args.seed, &mut keep)?;
    Ok(all)
}

/// How near an error is to its bound; beyond 1 it fails.
fn ratio(v: &Verdict) -> f64 {
    if v.error == 0.0 { 0.0 } else { v.error / v.allowed }
}

fn print(args: &Args, all: &[Worst]) {
    if !args.json {
        println!(
            "{:30} {:10} {:>5} {:>9} {:>9} {:>9}      worst case",
            "op", "output", "cases", "error", "plain f32", "allowed"
        );
    }
    for Worst { verdict: v, cases } in all {
        let word = if v.passes() { "ok" } else { "FAIL" };
        if args.json {
            let line = json!({
                "op": v.op, "output": v.output, "cases": cases, "error": v.error, "plain": v.plain,
                "allowed": v.allowed, "largest": v.largest, "shape": v.shape, "passes": v.passes(),
            });
            println!("{line}");
        } else {
            println!(
                "{:30} {:10} {cases:5} {:9.1e} {:9.1e} {:9.1e} {word:4} {}",
                v.op, v.output, v.error, v.plain, v.allowed, v.shape
            );
        }
    }
}
