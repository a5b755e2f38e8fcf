//! `core-cli doctor`: what this machine can do, in words.

use paddock_kernels::cpu::simd::amx::Amx;
use paddock_kernels::cuda::{available, describe_devices};
use paddock_kernels::wgpu::{AdapterReport, Tier, describe_adapters};
use paddock_kernels::{Kind, automatic, describe_machine};
use serde_json::json;

use crate::devices::devices;
use crate::machine::memory;
use crate::train::report::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// The tier that `--backend wgpu` would use on an adapter, and why.
fn tier(adapter: &AdapterReport) -> String {
    let wanted = std::env::var("PADDOCK_WGPU_TIER").ok();
    match adapter.tier(wanted.as_deref()) {
        Ok((tier, why)) => format!("{tier} ({why})"),
        Err(why) => why.to_string(),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Auto => "auto",
        Kind::Cpu => "cpu",
        Kind::Wgpu => "wgpu",
        Kind::Cuda => "cuda",
        Kind::Reference | Kind::Reference64 => "reference",
    }
}

fn print_adapter(a: &AdapterReport) {
    println!("  {}  {} ({}, {})", a.number, a.name, a.kind, a.api);
    println!("     driver   {}", a.driver);
    println!(
        "     limits   {} a region, {} an operand, {} buffers a kernel, workgroups of {} threads and {}",
        bytes(a.max_buffer_bytes),
        bytes(a.max_binding_bytes),
        a.max_storage_buffers,
        a.max_workgroup_threads,
        bytes(u64::from(a.max_workgroup_bytes))
    );
    let tiers: Vec<String> = a.tiers.iter().map(ToString::to_string).collect();
    println!("     kernels  {} offered; {} is used", tiers.join(", "), tier(a));
    let matrix = match (a.cooperative_matrix, a.tiers.contains(&Tier::Cooperative)) {
        (true, true) => "offered, for the cooperative kernels",
        (true, false) => "offered, of a kind that no kernel here is made for",
        (false, _) => "not offered",
    };
    println!("     matrix instructions  {matrix}");
    let halves = match a.half_activations {
        true => "f32, or f16 by --precision f16 (half their memory)",
        false => "f32; f16 is not offered",
    };
    println!("     activations are kept in {halves}");
    let kept = if a.keeps_compiled { "kept on disk" } else { "compiled at every start" };
    println!("     compiled kernels are {kept}");
    if let Some(why) = &a.unusable {
        println!("     CANNOT BE USED: {why}");
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (machine, adapters, cuda) = (describe_machine(), describe_adapters(), describe_devices());
    let ((all, free), (auto, why)) = (memory(), automatic());
    if args.json {
        let mut backends = vec!["cpu", "wgpu", "reference"];
        if available().is_ok() {
            backends.push("cuda");
        }
        let adapter = |a: &AdapterReport| {
            json!({
                "number": a.number, "name": a.name, "kind": a.kind, "api": a.api, "driver": a.driver,
                "max_binding_bytes": a.max_binding_bytes, "max_buffer_bytes": a.max_buffer_bytes,
                "max_workgroup_threads": a.max_workgroup_threads,
                "tiers": a.tiers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "tier": tier(a), "cooperative_matrix": a.cooperative_matrix,
                "f16_activations": a.half_activations, "unusable": a.unusable,
            })
        };
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine,
            "bf16_products": Amx::detect().is_some(),
            "memory_bytes": all,
            "memory_free_bytes": free,
            "backends": backends,
            "auto": kind(auto),
            "auto_why": why,
            "adapters": adapters.iter().map(adapter).collect::<Vec<_>>(),
            "cuda": cuda.join("; "),
            "devices": devices(),
        });
        println!("{report}");
        return Ok(());
    }
    println!("Paddock     {}", env!("CARGO_PKG_VERSION"));
    println!("Processor   {machine}");
    if Amx::detect().is_some() {
        println!(
            "            multiplies in bf16 on request (--backend cpu --precision bf16): faster and coarser"
        );
    }
    println!("Memory      {}, of which {} are free", bytes(all), bytes(free));
    println!("auto        takes {}: {why}", kind(auto));
    for (i, line) in cuda.iter().enumerate() {
        println!("{}{line}", if i == 0 { "CUDA        " } else { "            " });
    }
    if adapters.is_empty() {
        println!("Graphics    no adapter with a Vulkan, Metal or Direct3D 12 driver was found");
        return Ok(());
    }
    println!(
        "Graphics    --backend wgpu; choose with --device, try with `core-cli verify --backend wgpu`"
    );
    adapters.iter().for_each(print_adapter);
    Ok(())
}
