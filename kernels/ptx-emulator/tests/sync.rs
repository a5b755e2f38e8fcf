//! Divergence, barriers, and values that travel between lanes.

mod common;
use common::{Arg, Gpu, kernel, lanes, one_cta};
use paddock_ptx_emulator::{Class, Shape};

fn each() -> Vec<[u32; 4]> {
    (0..32).map(|lane| [lane, 100 + lane, 0, 0]).collect()
}

#[test]
fn lanes_part_and_meet_again() {
    let body = "
        mov.u32 %r, 0;
        and.b32 %t0, %a, 1;
        setp.eq.u32 %p, %t0, 0;
        @%p bra EVEN;
        add.u32 %r, %r, 1000;
        bra.uni JOIN;
    EVEN:
        add.u32 %r, %r, 2000;
    JOIN:
        shfl.sync.bfly.b32 %t1, %r, 1, 31, -1;
        add.u32 %r, %r, %t1;";
    assert_eq!(lanes(body, &each()), [3000; 32], "the shuffle needs all lanes back together");
}

#[test]
fn loops_run_as_often_as_each_lane_wants() {
    let body = "
        mov.u32 %r, 0; mov.u32 %t0, 0;
    LOOP:
        setp.ge.u32 %p, %t0, %a;
        @%p bra DONE;
        add.u32 %t0, %t0, 1;
        add.u32 %r, %r, %t0;
        bra LOOP;
    DONE:
        activemask.b32 %t1;
        setp.ne.b32 %q, %t1, -1;
        @%q mov.u32 %r, 77777;";
    let expected: Vec<u32> = (0..32).map(|n| n * (n + 1) / 2).collect();
    assert_eq!(lanes(body, &each()), expected);
}

#[test]
fn scopes_have_their_own_names_and_labels() {
    let body = "
        mov.u32 %r, 1;
        { .reg .b32 %x; mov.u32 %x, 5; setp.eq.u32 %p, %x, 5; @%p bra L; trap;
          L: add.u32 %r, %r, %x; }
        { .reg .b32 %x; mov.u32 %x, 7; setp.eq.u32 %p, %x, 7; @%p bra L; trap;
          L: add.u32 %r, %r, %x; }";
    assert_eq!(lanes(body, &each())[0], 13);
}

#[test]
fn shuffles() {
    let shuffle = |text: &str| {
        lanes(&format!("{text} selp.u32 %t1, 0, 1000, %p; add.u32 %r, %r, %t1;"), &each())
    };
    let up = shuffle("shfl.sync.up.b32 %r|%p, %b, 2, 0, -1;");
    assert_eq!(up[..4], [1100, 1101, 100, 101], "the first two keep their own");
    let down = shuffle("shfl.sync.down.b32 %r|%p, %b, 2, 31, -1;");
    assert_eq!(down[28..], [130, 131, 1130, 1131]);
    let butterfly = shuffle("shfl.sync.bfly.b32 %r|%p, %b, 4, 31, -1;");
    assert_eq!(butterfly[..8], [104, 105, 106, 107, 100, 101, 102, 103]);
    let index = shuffle("shfl.sync.idx.b32 %r|%p, %b, 5, 31, -1;");
    assert_eq!(index, [105; 32]);
    // Segments of 8: the mask 0x18 sits in bits 8..13 of c.
    let segment = shuffle("shfl.sync.idx.b32 %r|%p, %b, 1, 0x181f, -1;");
    assert_eq!([segment[0], segment[7], segment[8], segment[31]], [101, 101, 109, 125]);
    let within = shuffle("shfl.sync.down.b32 %r|%p, %b, 1, 0x1807, -1;");
    assert_eq!(within[6..9], [107, 1107, 109]);
}

#[test]
fn votes_and_reductions() {
    let body = |text: &str| format!("setp.lt.u32 %p, %a, 3; {text}");
    assert_eq!(lanes(&body("vote.sync.ballot.b32 %r, %p, -1;"), &each()), [7; 32]);
    let truth = |mode: &str| {
        lanes(&body(&format!("vote.sync.{mode}.pred %q, %p, -1; selp.u32 %r, 1, 0, %q;")), &each())
            [9]
    };
    assert_eq!([truth("any"), truth("all"), truth("uni")], [1, 0, 0]);
    assert_eq!(lanes("redux.sync.add.s32 %r, %a, -1;", &each()), [496; 32]);
    assert_eq!(lanes("redux.sync.max.u32 %r, %b, -1;", &each()), [131; 32]);
    assert_eq!(lanes("redux.sync.xor.b32 %r, %a, -1;", &each()), [0; 32]);
    let some = "mov.u32 %r, 0; setp.lt.u32 %p, %a, 4; @%p redux.sync.min.u32 %r, %b, 0xf;";
    assert_eq!(lanes(some, &each())[..5], [100, 100, 100, 100, 0]);
}

#[test]
fn warps_meet_at_barriers() {
    // Each thread writes its slot, then reads the one of the thread half a CTA away; twice.
    let body = "
        .shared .b32 slots[128];
        .reg .b32 %mine, %theirs, %base;
        mov.u32 %base, slots;
        mad.lo.u32 %mine, %lane, 4, %base;
        xor.b32 %t0, %lane, 64;
        mad.lo.u32 %theirs, %t0, 4, %base;
        st.shared.u32 [%mine], %lane;
        bar.sync 0;
        ld.shared.u32 %a, [%theirs];
        barrier.cta.sync.aligned 0;
        st.shared.u32 [%mine], %a;
        barrier.sync 3, 128;
        ld.shared.u32 %r, [%theirs];
        mad.wide.u32 %w0, %lane, 4, %out;
        st.global.u32 [%w0], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(512));
    let report = gpu.launch(&kernel(body), "k", one_cta(128), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 128), (0..128).collect::<Vec<u32>>());
    assert_eq!(report.counters.of(Class::Barrier), 12);
    assert!(report.unreached().is_empty());
}

#[test]
fn producers_arrive_and_consumers_wait() {
    let body = "
        .shared .b32 box[32];
        .reg .b32 %slot, %own;
        and.b32 %own, %lane, 31;
        mov.u32 %slot, box;
        mad.lo.u32 %slot, %own, 4, %slot;
        setp.ge.u32 %p, %lane, 32;
        @%p bra CONSUMER;
        st.shared.u32 [%slot], %own;
        bar.arrive 1, 64;
        bra END;
    CONSUMER:
        bar.sync 1, 64;
        ld.shared.u32 %r, [%slot];
        mad.wide.u32 %w0, %own, 4, %out;
        st.global.u32 [%w0], %r;
    END:";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(128));
    gpu.launch(&kernel(body), "k", one_cta(64), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 32), (0..32).collect::<Vec<u32>>());
}

#[test]
fn ended_threads_do_not_hold_up_a_barrier() {
    let body = "
        setp.ge.u32 %p, %lane, 40;
        @%p ret;
        bar.sync 0;
        mad.wide.u32 %w0, %lane, 4, %out;
        st.global.u32 [%w0], %lane;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(160));
    gpu.launch(&kernel(body), "k", one_cta(96), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 40), (0..40).collect::<Vec<u32>>());
}

#[test]
fn a_warp_barrier_orders_the_lanes_of_a_warp() {
    let body = "
        .shared .b32 slots[32];
        mov.u32 %t0, slots;
        mad.lo.u32 %t1, %lane, 4, %t0;
        st.shared.u32 [%t1], %lane;
        bar.warp.sync -1;
        xor.b32 %t2, %lane, 1;
        mad.lo.u32 %t1, %t2, 4, %t0;
        ld.shared.u32 %r, [%t1];
        mad.wide.u32 %w0, %lane, 4, %out;
        st.global.u32 [%w0], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(128));
    gpu.launch(&kernel(body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 2), [1, 0]);
}

#[test]
fn grids_and_blocks_have_three_axes() {
    let body = "
        .reg .b32 %x, %y, %z, %n;
        mov.u32 %x, %ctaid.x; mov.u32 %y, %ctaid.y; mov.u32 %z, %ctaid.z;
        mad.lo.u32 %r, %z, 3, %y; mad.lo.u32 %r, %r, 2, %x;
        mov.u32 %x, %tid.x; mov.u32 %y, %tid.y; mov.u32 %z, %tid.z;
        mad.lo.u32 %n, %z, 3, %y; mad.lo.u32 %n, %n, 7, %x;
        mad.lo.u32 %r, %r, 42, %n;
        mad.wide.u32 %w0, %r, 4, %out;
        st.global.u32 [%w0], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(4 * 12 * 42));
    let shape = Shape { grid: [2, 3, 2], block: [7, 3, 2], shared: 0 };
    let report = gpu.launch(&kernel(body), "k", shape, &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 12 * 42), (0..12 * 42).collect::<Vec<u32>>());
    assert_eq!(report.counters.ctas, 12);
}
