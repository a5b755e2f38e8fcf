//! `wgmma`: the product in every layout of the PTX ISA, placed by hand, and what is found when it
//! is used wrongly.

mod common;
#[path = "common/products.rs"]
mod products;

use common::{Arg, Gpu, hopper_kernel, one_cta};
use half::bf16;
use paddock_ptx_emulator::{Fault, FaultKind, LaunchError, Report};
use products::{B_AT, LAYOUTS, Layout, N_MAX, body, list, position, shared_operands};

fn a(m: usize, k: usize) -> f32 {
    ((m * 7 + k * 5) % 13) as f32 - 6.0
}

fn b(k: usize, n: usize) -> f32 {
    ((k * 11 + n * 3) % 17) as f32 - 8.0
}

fn c(m: usize, n: usize) -> f32 {
    (m * 256 + n) as f32 / 4.0
}

fn image(left: Layout, right: Layout, n: usize, first_k: usize) -> Vec<u16> {
    products::image(left, right, n, first_k, [&a, &b])
}

fn launch(image: &[u16], n: usize, body: &str) -> (Result<Report, LaunchError>, Vec<f32>) {
    let mut gpu = Gpu::hopper();
    let mut input: Vec<u32> =
        image.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect();
    for thread in 0..128 {
        for i in 0..n / 2 {
            let (row, column) = position(thread, i);
            input.push(c(row, column).to_bits());
        }
    }
    let (input, out) = (gpu.u32s(&input), gpu.room(4 * 64 * N_MAX));
    let none = Arg::Map([0; 128]);
    let source = hopper_kernel(".maxntid 128", body);
    let args = [Arg::U64(out), Arg::U64(input), none, none];
    let report = gpu.try_launch(&source, "k", one_cta(128), &args);
    (report, gpu.read_f32(out, 64 * n))
}

fn check(image: &[u16], n: usize, body: &str, sign: f32, adds: bool, what: &str) -> Report {
    let (report, found) = launch(image, n, body);
    let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
    for thread in 0..128 {
        for i in 0..n / 2 {
            let (m, column) = position(thread, i);
            let product: f32 = (0..16).map(|k| a(m, k) * b(k, column)).sum();
            let expected = sign * product + if adds { c(m, column) } else { 0.0 };
            let got = found[thread * n / 2 + i];
            assert_eq!(got, expected, "{what}: row {m} column {column}");
        }
    }
    report
}

#[test]
fn every_layout_gives_the_product() {
    for (at, left) in LAYOUTS.into_iter().enumerate() {
        for right in [left, LAYOUTS[(at + 4) % 8]] {
            for n in [64, 128] {
                let operands = shared_operands(left, right, 0);
                let image = image(left, right, n, 0);
                let report = check(
                    &image,
                    n,
                    &body(n, &operands),
                    1.0,
                    true,
                    &format!("{left:?} {right:?}"),
                );
                assert_eq!(report.counters.mma_flops, 2 * 64 * n as u64 * 16);
            }
        }
    }
}

#[test]
fn shapes_from_8_to_256_columns() {
    for n in [8, 16, 24, 96, 176, 256] {
        let operands = shared_operands(Layout::K128, Layout::K128, 0);
        let image = image(Layout::K128, Layout::K128, n, 0);
        check(&image, n, &body(n, &operands), 1.0, true, &format!("n = {n}"));
    }
    let operands = shared_operands(Layout::Mn128, Layout::Mn128, 0);
    let image = image(Layout::Mn128, Layout::Mn128, 256, 0);
    check(&image, 256, &body(256, &operands), 1.0, true, "MN-major, n = 256");
}

#[test]
fn later_parts_of_k_begin_inside_a_pattern() {
    for (layout, ks) in
        [(Layout::K128, &[16, 32, 48][..]), (Layout::K64, &[16]), (Layout::Mn128, &[16])]
    {
        for &k in ks {
            let operands = shared_operands(layout, layout, k as u64);
            let image = image(layout, layout, 64, k);
            check(&image, 64, &body(64, &operands), 1.0, true, &format!("{layout:?} from {k}"));
        }
    }
}

#[test]
fn signs_and_no_addition() {
    let operands = shared_operands(Layout::K128, Layout::Mn128, 0);
    let image = image(Layout::K128, Layout::Mn128, 64, 0);
    let negative = operands.replace("%s, 1, 1", "%s, -1, 1");
    check(&image, 64, &body(64, &negative), -1.0, true, "-A");
    let both = operands.replace("%s, 1, 1", "%s, -1, -1");
    check(&image, 64, &body(64, &both), 1.0, true, "-A -B");
    let fresh = body(64, &operands).replace("setp.ne.u32 %s", "setp.eq.u32 %s");
    check(&image, 64, &fresh, 1.0, false, "scale-d 0");
    // Without addition the accumulators need no value before.
    let start = fresh.find("ld.global.f32 %acc0").unwrap();
    let end = fresh.find("setp.eq.u32 %s").unwrap();
    check(&image, 64, &format!("{}{}", &fresh[..start], &fresh[end..]), 1.0, false, "unset");
}

#[test]
fn a_may_come_from_registers() {
    // Figure of the A fragment: a0 (g, 2t), a1 (g + 8, 2t), a2 (g, 2t + 8), a3 (g + 8, 2t + 8).
    let mut image = image(Layout::K128, Layout::K128, 64, 0);
    for thread in 0..128 {
        for register in 0..4 {
            for half in 0..2 {
                let m = 16 * (thread / 32) + thread % 32 / 4 + 8 * (register % 2);
                let k = 2 * (thread % 4) + half + 8 * (register / 2);
                image[thread * 8 + register * 2 + half] = bf16::from_f32(a(m, k)).to_bits();
            }
        }
    }
    let right = Layout::K128.descriptor(B_AT as u64);
    let text = body(64, &format!("{}, {right}, %s, 1, 1, 0", list("x", 4))).replace(
        "setp.ne.u32 %s",
        "mad.wide.u32 %w3, %lane, 16, %in; ld.global.v4.u32 {%x0, %x1, %x2, %x3}, [%w3];
         setp.ne.u32 %s",
    );
    check(&image, 64, &text, 1.0, true, "A in registers");
    let early = text.replace(
        "wgmma.wait_group.sync.aligned 0;",
        "mov.u32 %x2, 0; wgmma.wait_group.sync.aligned 0;",
    );
    let Err(LaunchError::Fault(fault)) = launch(&image, 64, &early).0 else { panic!() };
    assert!(
        matches!(&fault.kind, FaultKind::RegisterInFlight { name } if name == "%x2"),
        "{fault}"
    );
}

fn fault(change: impl Fn(String) -> String) -> Fault {
    let operands = shared_operands(Layout::K128, Layout::K128, 0);
    let image = image(Layout::K128, Layout::K128, 64, 0);
    match launch(&image, 64, &change(body(64, &operands))).0 {
        Err(LaunchError::Fault(fault)) => *fault,
        Err(other) => panic!("refused: {other}"),
        Ok(_) => panic!("no fault was found"),
    }
}

#[test]
fn wrong_orders_are_found() {
    let found = fault(|text| text.replace("fence.proxy.async.shared::cta;", ""));
    assert!(matches!(found.kind, FaultKind::NotFenced { now: "wgmma read", .. }), "{found}");
    let found = fault(|text| text.replace("bar.sync 0;", ""));
    assert!(matches!(found.kind, FaultKind::UninitialisedMemory { .. } | FaultKind::Race { .. }));
    let found = fault(|text| text.replace("wgmma.fence.sync.aligned;", ""));
    assert!(matches!(found.kind, FaultKind::RegisterNotFenced { .. }), "{found}");
    let found = fault(|text| text.replace("wgmma.wait_group.sync.aligned 0;", ""));
    assert!(matches!(found.kind, FaultKind::RegisterInFlight { .. }), "{found}");
    let found =
        fault(|text| text.replace("wait_group.sync.aligned 0", "wait_group.sync.aligned 1"));
    assert!(matches!(found.kind, FaultKind::RegisterInFlight { .. }), "{found}");
    let found = fault(|text| text.replace("wgmma.commit_group.sync.aligned;", ""));
    assert!(matches!(found.kind, FaultKind::RegisterInFlight { .. }), "{found}");
    let write = "st.shared.u32 [tile], %lane;";
    let found = fault(|text| {
        text.replace(
            "wgmma.wait_group",
            &format!("setp.eq.u32 %q, %lane, 0; @%q {write} wgmma.wait_group"),
        )
    });
    assert!(matches!(found.kind, FaultKind::Race { before: "wgmma read", .. }), "{found}");
    // Behind the wait but not behind a barrier the other warps may still read.
    let found = fault(|text| {
        text.replace(
            "mul.wide.u32 %w1",
            "setp.eq.u32 %q, %lane, 0; @%q st.shared.u32 [tile+16384], %lane; mul.wide.u32 %w1",
        )
    });
    assert!(matches!(found.kind, FaultKind::Race { .. }), "{found}");
    let found = fault(|text| text.replace("wgmma.mma", "mov.f32 %acc3, 0f00000000; wgmma.mma"));
    assert!(matches!(&found.kind, FaultKind::RegisterNotFenced { name } if name == "%acc3"));
}

#[test]
fn a_stage_handed_back_too_early_is_found() {
    // The warpgroup tells a fifth warp that the tile is free, before its products are waited for.
    let operands = shared_operands(Layout::K128, Layout::K128, 0);
    let image = image(Layout::K128, Layout::K128, 64, 0);
    let text = body(64, &operands)
        .replace("mov.u32 %t1, 0;", "mov.u32 %t1, 0; setp.ge.u32 %q, %lane, 128; @%q bra MEET;")
        .replace(
            "fence.proxy.async.shared::cta;",
            "setp.eq.u32 %q, %lane, 0; @%q mbarrier.init.shared.b64 [first], 128;
             fence.proxy.async.shared::cta;
             MEET: setp.ge.u32 %q, %lane, 128;",
        )
        .replace("bar.sync 0;", "bar.sync 0; @%q bra FIFTH;")
        + "ret;
        FIFTH:
            mbarrier.try_wait.parity.shared.b64 %q, [first], 0;
            @!%q bra FIFTH;
            setp.eq.u32 %q, %lane, 128;
            @%q st.shared.u32 [tile], %lane;";
    let run = |text: &str| {
        let mut gpu = Gpu::hopper();
        let words = image.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16);
        let input: Vec<u32> = words.chain([0; 160 * 32]).collect();
        let (input, out) = (gpu.u32s(&input), gpu.room(65536));
        let none = Arg::Map([0; 128]);
        let args = [Arg::U64(out), Arg::U64(input), none, none];
        gpu.try_launch(&hopper_kernel("", text), "k", one_cta(160), &args)
    };
    let arrive = "mbarrier.arrive.shared.b64 _, [first];";
    let wait = "wgmma.wait_group.sync.aligned 0;";
    let good = text.replace(wait, &format!("{wait} {arrive}"));
    run(&good).unwrap_or_else(|error| panic!("{error}"));
    let Err(LaunchError::Fault(early)) = run(&text.replace(wait, &format!("{arrive} {wait}")))
    else {
        panic!("unnoticed")
    };
    assert!(
        matches!(early.kind, FaultKind::Race { now: "write", before: "wgmma read", .. }),
        "{early}"
    );
}

#[test]
fn bad_operands_are_found() {
    let text = |found: Fault| found.to_string();
    let good = Layout::K128.descriptor(0).to_string();
    let with = |descriptor: u64| {
        let good = good.clone();
        move |text: String| text.replacen(&format!("}}, {good},"), &format!("}}, {descriptor},"), 1)
    };
    let found = text(fault(with(Layout::K128.descriptor(128))));
    assert!(found.contains("not in the first row"), "{found}");
    let found = text(fault(with(Layout::K128.descriptor(112))));
    assert!(found.contains("does not fit its rows"), "{found}");
    let found = fault(with(Layout::K128.descriptor(65536)));
    assert!(
        matches!(
            found.kind,
            FaultKind::OutOfBounds { .. }
                | FaultKind::Mbarrier { .. }
                | FaultKind::UninitialisedMemory { .. }
        ),
        "{found}"
    );
    let found =
        text(fault(|text| text.replace("setp.ne.u32 %s, %lane, 9999", "setp.ne.u32 %s, %lane, 7")));
    assert!(found.contains("scale-d differs"), "{found}");
    let part = fault(|text| text.replace("wgmma.mma", "setp.lt.u32 %q, %lane, 96; @%q wgmma.mma"));
    assert!(text(part).contains("part of the warpgroup"));
    let half = fault(|text| text.replace("wgmma.mma", "setp.lt.u32 %q, %lane, 16; @%q wgmma.mma"));
    assert!(matches!(half.kind, FaultKind::MemberMask { .. }));
}
