//! mbarriers, named barriers, clusters: who waits, who goes on, and what is found.

mod common;
use common::{Arg, Gpu, hopper_fault, hopper_kernel, one_cta, run_hopper};
use paddock_ptx_emulator::{FaultKind, Shape};

/// A producer warp fills a box of 32 words three times, a consumer warp reads it.
const TURNS: &str = "
    .reg .b32 %own, %turn, %parity, %phase, %slot;
    and.b32 %own, %lane, 31; mov.u32 %slot, tile; mad.lo.u32 %slot, %own, 4, %slot;
    setp.ne.u32 %p, %lane, 0;
    @!%p mbarrier.init.shared::cta.b64 [first], 32;
    @!%p mbarrier.init.shared::cta.b64 [second], 32;
    bar.sync 0;
    mov.u32 %turn, 0; mov.u32 %r, 0;
    setp.ge.u32 %p, %lane, 32;
    @%p bra CONSUME;
PRODUCE:
    and.b32 %parity, %turn, 1; xor.b32 %parity, %parity, 1;
EMPTY:
    mbarrier.try_wait.parity.shared::cta.b64 %q, [second], %parity;
    @!%q bra EMPTY;
    mad.lo.u32 %t0, %turn, 100, %own;
    st.shared.u32 [%slot], %t0;
    mbarrier.arrive.release.cta.shared::cta.b64 _, [first];
    add.u32 %turn, %turn, 1; setp.lt.u32 %q, %turn, 3;
    @%q bra PRODUCE;
    bra END;
CONSUME:
    and.b32 %parity, %turn, 1;
FULL:
    mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %q, [first], %parity, 1000;
    @!%q bra FULL;
    xor.b32 %t1, %slot, 4; ld.shared.u32 %t0, [%t1]; add.u32 %r, %r, %t0;
    mbarrier.arrive.shared::cta.b64 _, [second];
    add.u32 %turn, %turn, 1; setp.lt.u32 %q, %turn, 3;
    @%q bra CONSUME;
    mad.wide.u32 %w0, %own, 4, %out; st.global.u32 [%w0], %r;
END:";

#[test]
fn a_producer_and_a_consumer_take_turns() {
    let mut gpu = Gpu::hopper();
    let out = gpu.room(128);
    let report = run_hopper(&mut gpu, TURNS, one_cta(64), out).unwrap();
    let expected: Vec<u32> = (0..32).map(|lane: u32| 300 + 3 * (lane ^ 1)).collect();
    assert_eq!(gpu.read_u32(out, 32), expected);
    assert_eq!(report.unreached(), [0_u32; 0], "the ways round the waits are taken too");
}

#[test]
fn a_missing_wait_is_a_race() {
    let early = TURNS.replace("@!%q bra FULL;", "");
    assert!(matches!(
        hopper_fault(&early, 64).kind,
        FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }
    ));
    let overwritten = TURNS.replace("@!%q bra EMPTY;", "");
    assert!(matches!(hopper_fault(&overwritten, 64).kind, FaultKind::Race { .. }));
    // Arriving before the read is done hands the place back too early.
    let hasty = TURNS
        .replace("mbarrier.arrive.shared::cta.b64 _, [second];", "")
        .replace("xor.b32 %t1", "mbarrier.arrive.shared::cta.b64 _, [second]; xor.b32 %t1");
    assert!(matches!(hopper_fault(&hasty, 64).kind, FaultKind::Race { .. }));
}

#[test]
fn states_tell_phases_apart() {
    let body = "
        setp.eq.u32 %p, %lane, 0;
        @%p mbarrier.init.shared.b64 [first], 34;
        bar.sync 0;
        mbarrier.arrive.shared.b64 %wa, [first];
        mbarrier.test_wait.shared.b64 %q, [first], %wa;
        selp.u32 %r, 1, 0, %q;
        @%p mbarrier.arrive.shared.b64 %wb, [first], 2;
        mbarrier.test_wait.shared.b64 %q, [first], %wa;
        selp.u32 %t0, 2, 0, %q; add.u32 %r, %r, %t0;
        mbarrier.arrive.shared.b64 %wa, [first];
        mbarrier.test_wait.shared.b64 %q, [first], %wa;
        selp.u32 %t0, 4, 0, %q; add.u32 %r, %r, %t0;
        mad.wide.u32 %w0, %lane, 4, %out; st.global.u32 [%w0], %r;
        bar.warp.sync -1;
        @%p mbarrier.inval.shared.b64 [first];";
    let mut gpu = Gpu::hopper();
    let out = gpu.room(128);
    run_hopper(&mut gpu, body, one_cta(32), out).unwrap();
    assert_eq!(gpu.read_u32(out, 32), [2; 32]);
}

#[test]
fn a_deadlock_names_who_waits_where() {
    let body = TURNS.replace("setp.lt.u32 %q, %turn, 3;\n    @%q bra PRODUCE", "bra END");
    let fault = hopper_fault(&body, 64);
    let text = fault.to_string();
    assert!(matches!(fault.kind, FaultKind::Deadlock(_)), "{text}");
    assert!(text.contains("warp 0 has ended; warp 1 waits at the mbarrier at 0x10000"), "{text}");
    assert!(text.contains("phase 1 (parity 1) needs 32 of 32 arrivals and 0 bytes"), "{text}");
    // Asking for ever without waiting is found too.
    let asking = "
        mbarrier.init.shared.b64 [first], 64;
    LOOP:
        mbarrier.test_wait.parity.shared.b64 %q, [first], 0;
        @!%q bra LOOP;";
    let text = hopper_fault(asking, 1).to_string();
    assert!(text.contains("warp 0 asks in vain"), "{text}");
    let named = "setp.lt.u32 %p, %lane, 32; @%p bra END; bar.sync 2, 96; END:";
    let text = hopper_fault(named, 96).to_string();
    assert!(text.contains("warp 1 waits at barrier 2"), "{text}");
}

fn mbarrier_problem(body: &str) -> String {
    match hopper_fault(body, 32).kind {
        FaultKind::Mbarrier { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn wrong_uses_of_mbarriers_are_found() {
    let init = "setp.eq.u32 %p, %lane, 0; @%p mbarrier.init.shared.b64 [first], 1;";
    let arrive = "mbarrier.arrive.shared.b64 _, [first];";
    let synced = format!("{init} bar.sync 0;");
    assert!(mbarrier_problem(arrive).contains("not been initialised"));
    let problem = mbarrier_problem(&format!("{init} {arrive}"));
    assert!(problem.contains("no barrier between"), "{problem}");
    let problem = mbarrier_problem(&format!("{synced} mbarrier.arrive.shared.b64 _, [first], 2;"));
    assert!(problem.contains("2 arrivals, but phase 0"), "{problem}");
    let problem = mbarrier_problem(&format!("{synced} @%p mbarrier.init.shared.b64 [first], 1;"));
    assert!(problem.contains("a second time"), "{problem}");
    let problem = mbarrier_problem(&format!("{synced} ld.shared.u32 %r, [first];"));
    assert!(problem.contains("only mbarrier instructions"), "{problem}");
    let expect = "@%p mbarrier.arrive.expect_tx.shared.b64 _, [first], 64;";
    let problem = mbarrier_problem(&format!("{synced} {expect}"));
    assert!(problem.contains("needs 0 of 1 arrivals and 64 bytes"), "{problem}");
    let huge = "@%p mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [first], 1048576;";
    let problem = mbarrier_problem(&format!("{synced} {huge}"));
    assert!(problem.contains("1048576 bytes outstanding"), "{problem}");
    let misaligned = hopper_fault("mbarrier.init.shared.b64 [first+4], 1;", 1).kind;
    assert!(matches!(misaligned, FaultKind::Misaligned { .. }));
}

#[test]
fn a_cluster_meets_and_signals_across() {
    // Each CTA waits for one arrival of every thread of the other, then for all.
    let body = "
        .reg .b32 %rank, %other, %far;
        mov.u32 %rank, %cluster_ctarank; xor.b32 %other, %rank, 1;
        setp.eq.u32 %p, %lane, 0;
        @%p mbarrier.init.shared::cta.b64 [first], 64;
        fence.mbarrier_init.release.cluster;
        barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
        mov.u32 %far, first; mapa.shared::cluster.u32 %far, %far, %other;
        mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%far];
    WAIT:
        mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q, [first], 0;
        @!%q bra WAIT;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        setp.ne.u32 %p, %lane, 5;
        @%p ret;
        mov.u32 %t0, %ctaid.x; mov.u32 %t1, %clusterid.x; mov.u32 %t2, %nclusterid.x;
        mov.u32 %t3, %cluster_nctarank; mov.u32 %t4, %cluster_nctaid.x;
        mad.lo.u32 %r, %t1, 10, %rank; mad.lo.u32 %r, %t2, 100, %r; mad.lo.u32 %r, %t3, 1000, %r;
        mad.lo.u32 %r, %t4, 10000, %r;
        mad.wide.u32 %w0, %t0, 4, %out; st.global.u32 [%w0], %r;";
    let mut gpu = Gpu::hopper();
    let out = gpu.room(64);
    let source = hopper_kernel(".explicitcluster .reqnctapercluster 2, 1, 1 .maxntid 64", body);
    let shape = Shape { grid: [6, 1, 1], block: [64, 1, 1], shared: 0 };
    let none = Arg::Map([0; 128]);
    gpu.launch(&source, "k", shape, &[Arg::U64(out), Arg::U64(out), none, none]);
    assert_eq!(gpu.read_u32(out, 6), [22300, 22301, 22310, 22311, 22320, 22321]);
    let odd = Shape { grid: [5, 1, 1], ..shape };
    let refused = gpu.try_launch(&source, "k", odd, &[Arg::U64(out), Arg::U64(out), none, none]);
    assert!(refused.unwrap_err().to_string().contains("no multiple of the cluster"));
}

#[test]
fn one_lane_may_wait_for_the_others_of_its_warp() {
    let body = "
        setp.eq.u32 %p, %lane, 0;
        @%p mbarrier.init.shared.b64 [first], 31;
        bar.warp.sync -1;
        @!%p bra OTHERS;
    WAIT:
        mbarrier.try_wait.parity.shared.b64 %q, [first], 0;
        @!%q bra WAIT;
        bra END;
    OTHERS:
        mbarrier.arrive.shared.b64 _, [first];
    END:
        bar.warp.sync -1;
        mad.wide.u32 %w0, %lane, 4, %out; st.global.u32 [%w0], %lane;";
    let mut gpu = Gpu::hopper();
    let out = gpu.room(128);
    run_hopper(&mut gpu, body, one_cta(32), out).unwrap();
    assert_eq!(gpu.read_u32(out, 32), (0..32).collect::<Vec<u32>>());
}

#[test]
fn registers_that_nobody_gives_back_are_waited_for_in_vain() {
    // 384 threads begin with 168 each: 128 of them must give back 2 x 64 for 232.
    let body = |given: u32, taken: u32| {
        format!(
            "setp.lt.u32 %p, %lane, 128; @%p bra GIVE;
             setmaxnreg.inc.sync.aligned.u32 {taken}; bra END;
             GIVE: setmaxnreg.dec.sync.aligned.u32 {given}; END:"
        )
    };
    let mut gpu = Gpu::hopper();
    let out = gpu.room(16);
    run_hopper(&mut gpu, &body(40, 232), one_cta(384), out).unwrap();
    let text = hopper_fault(&body(48, 232), 384).to_string();
    assert!(text.contains("waits for registers"), "{text}");
    let text = hopper_fault(&body(176, 232), 384).to_string();
    assert!(text.contains("from 168 to 176"), "{text}");
}

#[test]
fn one_lane_is_elected_and_registers_are_handed_over() {
    let body = "
        setmaxnreg.dec.sync.aligned.u32 40;
        mov.u32 %r, 0;
        elect.sync %t0|%p, 0xffffffff;
        @%p mov.u32 %r, 7;
        setmaxnreg.inc.sync.aligned.u32 232;
        griddepcontrol.wait;
        mad.wide.u32 %w0, %lane, 4, %out; st.global.u32 [%w0], %r;";
    let mut gpu = Gpu::hopper();
    let out = gpu.room(128);
    run_hopper(&mut gpu, body, one_cta(32), out).unwrap();
    assert_eq!(gpu.read_u32(out, 32).iter().sum::<u32>(), 7);
    let source = hopper_kernel("", "setmaxnreg.inc.sync.aligned.u32 100;");
    assert!(gpu.machine.load(&source).unwrap_err().message.contains("multiple of 8"));
    let portable = source.replace("sm_90a", "sm_90");
    assert!(gpu.machine.load(&portable).unwrap_err().message.contains("sm_90a"));
}
