//! Every kind of fault is found, and named with its place.

mod common;
use common::{Arg, Gpu, fault_of, kernel, kind_of, one_cta};
use paddock_ptx_emulator::{FaultKind, LaunchError, Shape};

#[test]
fn a_fault_names_its_place() {
    let body = "
        setp.eq.u32 %p, %lane, 37;
        @%p st.global.u32 [%out+4096], %lane;";
    let fault = fault_of(body, 64);
    assert_eq!(
        (fault.kernel.as_str(), fault.cta, fault.warp, fault.lane),
        ("k", [0, 0, 0], 1, Some(5))
    );
    assert!(fault.text.contains("st.global.u32 [%out+4096]"), "{}", fault.text);
    let text = fault.to_string();
    for part in
        ["kernel k", "line 14", "CTA (0,0,0)", "warp 1, lane 5", "4096 bytes; this is byte 4096"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn out_of_bounds() {
    let is = |body: &str, wanted: &str| {
        let FaultKind::OutOfBounds { space, .. } = kind_of(body, 32) else { panic!("{body}") };
        assert_eq!(space, wanted);
    };
    is("ld.global.u32 %a, [%in+256];", "global");
    is("ld.global.u32 %a, [%in+-4];", "global");
    is("mov.u64 %w0, 0; st.global.u32 [%w0], %lane;", "global");
    is("atom.global.add.u32 %a, [%out+4096], 1;", "global");
    is(".shared .b32 x[4]; st.shared.u32 [x+16], %lane;", "shared");
    is(".local .b32 x[4]; st.local.u32 [x+16], %lane;", "local");
    is("ld.param.u32 %a, [p_in+8];", "parameter");
    is(
        ".shared .align 16 .b8 x[16]; mov.u32 %a, x;
         cp.async.cg.shared.global [%a], [%in+256], 16;",
        "global",
    );
    is(
        ".shared .align 16 .b8 x[16]; mov.u32 %a, x; cp.async.cg.shared.global [%a+16], [%in], 16;",
        "shared",
    );
    is(
        ".shared .align 16 .b8 x[16]; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%a}, [x+16];",
        "shared",
    );
}

#[test]
fn misaligned() {
    let is =
        |body: &str| assert!(matches!(kind_of(body, 1), FaultKind::Misaligned { .. }), "{body}");
    is("ld.global.u32 %a, [%in+2];");
    is("ld.global.v4.u32 {%a, %b, %c, %d}, [%in+8];");
    is("st.global.u16 [%out+1], %lane;");
    is(".shared .align 16 .b8 x[64]; st.shared.v2.u32 [x+4], {%lane, %lane};");
    is("atom.global.add.u32 %a, [%out+2], 1;");
    is(".shared .align 16 .b8 x[64]; mov.u32 %a, x; cp.async.cg.shared.global [%a], [%in+4], 16;");
}

#[test]
fn registers_read_before_they_are_written() {
    let FaultKind::UninitialisedRegister { name } = kind_of("add.u32 %r, %lane, %t5;", 32) else {
        panic!("another fault")
    };
    assert_eq!(name, "%t5");
    let fault = fault_of("setp.lt.u32 %p, %lane, 9; @%p mov.u32 %r, 1; add.u32 %r, %r, 1;", 32);
    assert_eq!(fault.lane, Some(9), "only where it was not written");
    assert!(matches!(
        kind_of("selp.u32 %r, 1, 0, %q;", 32),
        FaultKind::UninitialisedRegister { .. }
    ));
    assert!(matches!(
        kind_of("st.global.u64 [%out], %wa;", 1),
        FaultKind::UninitialisedRegister { .. }
    ));
    assert!(matches!(
        kind_of("ld.global.u32 %a, [%wa];", 1),
        FaultKind::UninitialisedRegister { .. }
    ));
}

#[test]
fn memory_read_before_it_is_written() {
    let is = |body: &str, wanted: &str| {
        let FaultKind::UninitialisedMemory { space, .. } = kind_of(body, 1) else {
            panic!("{body}")
        };
        assert_eq!(space, wanted);
    };
    is(".shared .b32 x; ld.shared.u32 %a, [x];", "shared");
    is(".shared .b32 x; atom.shared.add.u32 %a, [x], 1;", "shared");
    is(".local .b32 x; ld.local.u32 %a, [x];", "local");
}

/// A body in which thread 0 does `first` and thread `other` does `second`, with `between` in
/// between.
fn pair(first: &str, between: &str, second: &str, other: u32) -> String {
    format!(
        ".shared .align 16 .b8 x[64]; .reg .b32 %at; mov.u32 %at, x;
         setp.eq.u32 %p, %lane, 0; setp.eq.u32 %q, %lane, {other};
         @%p st.shared.u32 [%at], 1; bar.sync 0;
         @%p {first}; {between} @%q {second};"
    )
}

fn clean(body: &str, threads: u32) {
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[7; 64]), gpu.room(4096));
    let args = [Arg::U64(output), Arg::U64(input)];
    if let Err(error) = gpu.try_launch(&kernel(body), "k", one_cta(threads), &args) {
        panic!("{error}\n{body}");
    }
}

#[test]
fn races_in_shared_memory() {
    let (write, read) = ("st.shared.u32 [%at], %lane", "ld.shared.u32 %a, [%at]");
    let atomic = "atom.shared.add.u32 %a, [%at], 1";
    for other in [1, 32] {
        for (first, second) in
            [(write, read), (read, write), (write, write), (write, atomic), (atomic, read)]
        {
            let FaultKind::Race { warp: 0, lane: 0, .. } =
                kind_of(&pair(first, "", second, other), 64)
            else {
                panic!("{first}; {second} by thread {other}")
            };
            clean(&pair(first, "bar.sync 0;", second, other), 64);
        }
        clean(&pair(read, "", read, other), 64);
        clean(&pair(atomic, "", atomic, other), 64);
    }
    // A warp's own barrier orders its lanes, but not another warp.
    clean(&pair(write, "bar.warp.sync -1;", read, 1), 64);
    assert!(matches!(
        kind_of(&pair(write, "bar.warp.sync -1;", read, 32), 64),
        FaultKind::Race { .. }
    ));
    // Two lanes of one instruction.
    let body = ".shared .b32 x; st.shared.u32 [x], %lane;";
    assert!(matches!(kind_of(body, 32), FaultKind::Race { lane: 0, .. }));
    // Several readers, then one of them writes.
    let body = pair(read, "setp.eq.u32 %s, %lane, 1; @%s ld.shared.u32 %b, [%at];", write, 1);
    assert!(matches!(kind_of(&body, 64), FaultKind::Race { now: "write", before: "read", .. }));
}

#[test]
fn a_byte_is_judged_by_itself() {
    let body = |offset: u32| {
        format!(
            ".shared .align 4 .b8 x[64]; .reg .b32 %at; mov.u32 %at, x; add.u32 %at, %at, %lane;
             cvt.u16.u32 %h0, %lane; st.shared.u8 [%at], %h0; ld.shared.u8 %h1, [%at+{offset}];"
        )
    };
    clean(&body(0), 32);
    assert!(matches!(
        kind_of(&body(1), 31),
        FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }
    ));
}

#[test]
fn barriers_that_part_of_a_warp_misses() {
    let fault = fault_of("setp.lt.u32 %p, %lane, 8; @%p bar.sync 0;", 32);
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { id: 0, here: 0xFF, running: !0 });
    let body = "setp.lt.u32 %p, %lane, 32; @%p bra A; bar.sync 1; ret; A: bar.sync 0;";
    let FaultKind::Deadlock(text) = kind_of(body, 64) else { panic!("no deadlock") };
    assert!(
        text.contains("warp 0 waits at barrier 0") && text.contains("warp 1 waits at barrier 1"),
        "{text}"
    );
    let body = "bar.sync 0, 96;";
    assert!(matches!(kind_of(body, 64), FaultKind::Deadlock(_)));
    assert!(matches!(kind_of("bar.sync 0, 33;", 64), FaultKind::BadOperand(_)));
    assert!(matches!(kind_of("bar.sync 16;", 64), FaultKind::BadOperand(_)));
}

#[test]
fn async_data_before_the_wait() {
    let begin = "
        .shared .align 16 .b8 x[1024]; .reg .b32 %at; mov.u32 %at, x;
        mad.lo.u32 %at, %lane, 16, %at;
        cp.async.cg.shared.global [%at], [%in], 16; cp.async.commit_group;";
    for touch in [
        "ld.shared.u32 %a, [%at]",
        "st.shared.u32 [%at], %lane",
        "cp.async.cg.shared.global [%at], [%in], 16",
    ] {
        let body = format!("{begin} {touch};");
        assert!(matches!(kind_of(&body, 32), FaultKind::AsyncPending { .. }), "{touch}");
    }
    // Waiting for all but the youngest group leaves this one under way.
    let body = format!("{begin} cp.async.wait_group 1; ld.shared.u32 %a, [%at];");
    assert!(matches!(kind_of(&body, 32), FaultKind::AsyncPending { .. }));
    clean(&format!("{begin} cp.async.wait_group 0; ld.shared.u32 %a, [%at];"), 32);
    // The wait is the thread's own: others need a barrier as well.
    let other = "xor.b32 %t0, %lane, 32; mov.u32 %t1, x; mad.lo.u32 %t1, %t0, 16, %t1;";
    let body = format!("{begin} {other} cp.async.wait_all; ld.shared.u32 %a, [%t1];");
    let early = |kind| {
        use FaultKind::{AsyncPending, Race, UninitialisedMemory};
        matches!(kind, Race { .. } | AsyncPending { .. } | UninitialisedMemory { .. })
    };
    assert!(early(kind_of(&body, 64)));
    clean(&format!("{begin} {other} cp.async.wait_all; bar.sync 0; ld.shared.u32 %a, [%t1];"), 64);
    // Overwriting what others may still read.
    let body = "
        .shared .align 16 .b8 x[1024]; .reg .b32 %at; mov.u32 %at, x;
        mad.lo.u32 %at, %lane, 16, %at;
        st.shared.u32 [%at], 1; bar.sync 0;
        xor.b32 %t0, %lane, 1; mov.u32 %t1, x; mad.lo.u32 %t1, %t0, 16, %t1;
        ld.shared.u32 %a, [%t1];
        cp.async.cg.shared.global [%at], [%in], 16;";
    assert!(matches!(kind_of(body, 32), FaultKind::Race { now: "cp.async", before: "read", .. }));
    let body = ".shared .align 16 .b8 x[16]; mov.u32 %a, x; mov.u32 %b, 17;
        cp.async.cg.shared.global [%a], [%in], 16, %b;";
    assert!(matches!(kind_of(body, 1), FaultKind::BadOperand(_)));
}

#[test]
fn member_masks() {
    let body = "setp.lt.u32 %p, %lane, 8; @%p shfl.sync.bfly.b32 %r, %lane, 1, 31, -1;";
    assert!(matches!(kind_of(body, 32), FaultKind::MemberMask { mask: u32::MAX, here: 0xFF, .. }));
    let body = "shfl.sync.bfly.b32 %r, %lane, 1, 31, 0xff;";
    assert!(matches!(kind_of(body, 32), FaultKind::MemberMask { mask: 0xFF, here: u32::MAX, .. }));
    let body = "shfl.sync.idx.b32 %r, %lane, %lane, 31, %lane;";
    assert!(matches!(kind_of(body, 32), FaultKind::BadOperand(_)));
    let body = "setp.lt.u32 %p, %lane, 8; @%p shfl.sync.idx.b32 %r, %lane, 20, 31, 0xff;";
    assert!(matches!(kind_of(body, 32), FaultKind::BadOperand(_)));
}

#[test]
fn traps_and_endless_loops() {
    assert_eq!(fault_of("setp.eq.u32 %p, %lane, 3; @%p trap;", 32).lane, Some(3));
    let mut gpu = Gpu::new();
    let config = paddock_ptx_emulator::DeviceConfig { step_limit: 1000, ..Default::default() };
    gpu.machine = paddock_ptx_emulator::Machine::new(config);
    let args = [Arg::U64(0), Arg::U64(0)];
    let Err(LaunchError::Fault(fault)) =
        gpu.try_launch(&kernel("L: bra L;"), "k", one_cta(32), &args)
    else {
        panic!("it ended")
    };
    assert_eq!(fault.kind, FaultKind::Endless(1000));
}

#[test]
fn launches_that_no_device_takes() {
    let mut gpu = Gpu::new();
    let mut refused =
        |shape: Shape, args: &[Arg]| match gpu.try_launch(&kernel(""), "k", shape, args) {
            Err(LaunchError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
    let args = [Arg::U64(0), Arg::U64(0)];
    assert!(refused(one_cta(1025), &args).contains("at most 1024"));
    assert!(refused(one_cta(0), &args).contains("0x1x1 threads"));
    assert!(refused(Shape { grid: [0, 1, 1], ..one_cta(32) }, &args).contains("grid"));
    assert!(refused(Shape { shared: 1 << 20, ..one_cta(32) }, &args).contains("shared memory"));
    assert!(refused(one_cta(32), &args[..1]).contains("takes 16"));
}

#[test]
fn text_with_errors_names_its_line() {
    let message = |body: &str| {
        let mut gpu = Gpu::new();
        gpu.machine.load(&kernel(body)).expect_err(body).to_string()
    };
    assert!(
        message("add.u32 %r, %lane, %nothing;")
            .contains("line 12: add.u32: %nothing is not declared")
    );
    assert!(message("add.u64 %r, %wa, %wb;").contains("%r is .B32, not .U64"));
    assert!(message("frobnicate.u32 %r, %lane;").contains("not supported"));
    assert!(message("add.cc.u32 %r, %lane, %lane;").contains("modifier .cc is not supported"));
    assert!(message("bra NOWHERE;").contains("label NOWHERE is not here"));
    assert!(message("cvt.bf16.f32 %h0, %f0;").contains("needs a rounding"));
    assert!(message("add.u32 %r, %lane").contains("expected `;`"));
    assert!(message("L: L:").contains("stands twice"));
    assert!(message("ld.shared.u32 %r, [p_in];").contains("another state space"));
    assert!(message("ld.global.u32 %r, [%lane];").contains("no device address"));
    let mut gpu = Gpu::new();
    let newer = gpu.machine.load(".version 8.0\n.target sm_90a\n").unwrap_err().to_string();
    assert!(newer.contains("sm_90a"), "{newer}");
}
