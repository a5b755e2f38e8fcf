//! Bulk tensor copies: boxes, swizzles, edges, multicast, and what is found when an order is wrong.

mod common;
use common::{Arg, Gpu, hopper_kernel, one_cta};
use paddock_ptx_emulator::{Element, Fault, FaultKind, LaunchError, Shape, TensorMap};

/// A (rows, 100) tensor of 16-bit numbers, rows 208 bytes apart; element (r, c) is 1000 r + c.
fn tensor(gpu: &mut Gpu, rows: u64) -> (u64, TensorMap) {
    let values: Vec<u16> = (0..rows * 104).map(|i| (i / 104 * 1000 + i % 104) as u16).collect();
    let address = gpu.u16s(&values);
    let map = TensorMap::new(Element::Bf16, address, &[100, rows], &[208], &[64, 8], 128).unwrap();
    (address, map)
}

const LOAD: &str = "
    setp.eq.u32 %p, %lane, 0;
    @%p mbarrier.init.shared::cta.b64 [first], 1;
    fence.mbarrier_init.release.cluster;
    bar.sync 0;
    mov.b64 %wa, map_a; cvta.param.u64 %wa, %wa;
    @%p prefetch.tensormap [%wa];
    @%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [first], 1024;
    @%p cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
        [tile], [%wa, {X, Y}], [first];
WAIT:
    mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %q, [first], 0;
    @!%q bra WAIT;
    mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0;
    ld.shared.v4.u32 {%a, %b, %c, %d}, [%t0];
    mad.wide.u32 %w0, %lane, 16, %out; st.global.v4.u32 [%w0], {%a, %b, %c, %d};";

fn at(source: &str, x: i32, y: i32) -> String {
    source.replace('X', &x.to_string()).replace('Y', &y.to_string())
}

#[test]
fn a_box_is_loaded_swizzled_with_zeros_outside() {
    for (x, y) in [(0, 0), (32, 3), (64, 10), (-8, -2), (200, 0)] {
        let mut gpu = Gpu::hopper();
        let (_, map) = tensor(&mut gpu, 16);
        let out = gpu.room(1024);
        let args = [Arg::U64(out), Arg::U64(0), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
        let source = hopper_kernel("", &at(LOAD, x, y));
        let report = gpu.launch(&source, "k", one_cta(64), &args);
        assert_eq!(report.unreached(), [0_u32; 0]);
        let found = gpu.read_u16(out, 512);
        for row in 0..8_i32 {
            for column in 0..64_i32 {
                let (r, c) = (y + row, x + column);
                let inside = (0..16).contains(&r) && (0..100).contains(&c);
                let expected = if inside { (r * 1000 + c) as u16 } else { 0 };
                // The 16-byte chunk c of row r lies where chunk c ^ r would.
                let place = row * 64 + ((column / 8) ^ row) * 8 + column % 8;
                assert_eq!(found[place as usize], expected, "({x},{y}) row {row} column {column}");
            }
        }
        let rows = (y..y + 8).filter(|row| (0..16).contains(row)).count();
        let columns = (x..x + 64).filter(|column| (0..100).contains(column)).count();
        assert_eq!(report.counters.global_read, (rows * columns * 2) as u64);
    }
}

/// Warp 0 writes 64 x 8 numbers (2 lane, 2 lane + 1, …) in rows, swizzled, and stores them.
const STORE: &str = "
    mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0;
    shr.u32 %t1, %lane, 3; and.b32 %t1, %t1, 7; shl.b32 %t1, %t1, 4; xor.b32 %t0, %t0, %t1;
    mad.wide.u32 %w0, %lane, 16, %in; ld.global.v4.u32 {%a, %b, %c, %d}, [%w0];
    st.shared.v4.u32 [%t0], {%a, %b, %c, %d};
    fence.proxy.async.shared::cta;
    bar.sync 0;
    setp.eq.u32 %p, %lane, 0;
    mov.b64 %wa, map_a; cvta.param.u64 %wa, %wa;
    @%p OP [%wa, {X, Y}], [tile];
    @%p cp.async.bulk.commit_group;
    @%p cp.async.bulk.wait_group.read 0;
    bar.sync 0;
    st.shared.v4.u32 [%t0], {%d, %d, %d, %d};
    @%p cp.async.bulk.wait_group 0;";
const PLAIN: &str = "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group";
const ADD: &str = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group";

#[test]
fn a_box_is_stored_and_cut_at_the_edge() {
    let mut gpu = Gpu::hopper();
    let (address, mut map) = tensor(&mut gpu, 16);
    map.sizes[0] = 96;
    let values: Vec<u16> = (0..512).map(|i| 30_000 + i as u16).collect();
    let input = gpu.u16s(&values);
    let args = [Arg::U64(0), Arg::U64(input), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    let source = hopper_kernel("", &at(&STORE.replace("OP", PLAIN), 48, 12));
    gpu.launch(&source, "k", one_cta(64), &args);
    for (place, found) in gpu.read_u16(address, 16 * 104).into_iter().enumerate() {
        let (r, c) = (place / 104, place % 104);
        let inside = r >= 12 && (48..96).contains(&c);
        let expected = if inside { 30_000 + (r - 12) * 64 + c - 48 } else { r * 1000 + c };
        assert_eq!(found, expected as u16, "row {r} column {c}");
    }
}

#[test]
fn a_box_is_added() {
    let mut gpu = Gpu::hopper();
    let old: Vec<f32> = (0..8 * 32).map(|i| i as f32 * 0.5).collect();
    let new: Vec<f32> = (0..8 * 32).map(|i| 1000.0 - i as f32).collect();
    let (address, input) = (gpu.f32s(&old), gpu.f32s(&new));
    let map = TensorMap::new(Element::F32, address, &[32, 8], &[128], &[32, 8], 128).unwrap();
    let args = [Arg::U64(0), Arg::U64(input), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    let source = hopper_kernel("", &at(&STORE.replace("OP", ADD), 0, 0));
    gpu.launch(&source, "k", one_cta(64), &args);
    let expected: Vec<f32> = old.iter().zip(&new).map(|(old, new)| old + new).collect();
    assert_eq!(gpu.read_f32(address, 256), expected);

    let bits = |x: f32| half::bf16::from_f32(x).to_bits();
    let ones: Vec<u16> = (0..512).map(|_| bits(1.0)).collect();
    let small: Vec<u16> = (0..512).map(|i| bits(i as f32 / 65536.0)).collect();
    let (address, input) = (gpu.u16s(&ones), gpu.u16s(&small));
    let map = TensorMap::new(Element::Bf16, address, &[64, 8], &[128], &[64, 8], 128).unwrap();
    let args = [Arg::U64(0), Arg::U64(input), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    gpu.launch(&source, "k", one_cta(64), &args);
    for (i, found) in gpu.read_u16(address, 512).into_iter().enumerate() {
        let exact = 1.0 + half::bf16::from_bits(small[i]).to_f32();
        assert_eq!(found, bits(exact), "1 + {i}/65536, to nearest");
    }
}

fn fault(body: &str) -> Fault {
    let mut gpu = Gpu::hopper();
    let (_, map) = tensor(&mut gpu, 16);
    let (out, input) = (gpu.room(1024), gpu.u32s(&[5; 256]));
    let args = [Arg::U64(out), Arg::U64(input), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    let source = hopper_kernel("", &at(body, 0, 0));
    match gpu.try_launch(&source, "k", one_cta(64), &args) {
        Err(LaunchError::Fault(fault)) => *fault,
        Err(other) => panic!("refused: {other}"),
        Ok(_) => panic!("no fault was found in:\n{body}"),
    }
}

#[test]
fn loads_that_are_not_waited_for_are_found() {
    let hasty = fault(&LOAD.replace("@!%q bra WAIT;", ""));
    assert!(matches!(hasty.kind, FaultKind::BulkPending { phase: 0, .. }), "{hasty}");
    assert!(hasty.to_string().contains("read of shared memory at 0x0 while a bulk copy"));
    // Warp 1 does not wait itself; only a barrier could tell it.
    let lazy = LOAD.replace("WAIT:", "setp.ge.u32 %s, %lane, 32; @%s bra READ; WAIT:");
    let lazy = lazy.replace("mov.u32 %t0, tile;", "READ: mov.u32 %t0, tile;");
    assert!(matches!(fault(&lazy).kind, FaultKind::BulkPending { .. }));
    let nobody = &LOAD[..LOAD.find("WAIT:").unwrap()];
    let text = fault(nobody).to_string();
    assert!(text.contains("ends while a bulk copy") || text.contains("nobody waited"), "{text}");
}

#[test]
fn wrong_counts_of_bytes_are_found() {
    let few = fault(&LOAD.replace("1024;", "512;"));
    let FaultKind::Deadlock(text) = &few.kind else { panic!("{few}") };
    assert!(text.contains("needs 0 of 1 arrivals and -512 bytes"), "{text}");
    let many = fault(&LOAD.replace("1024;", "2048;"));
    let FaultKind::Deadlock(text) = &many.kind else { panic!("{many}") };
    assert!(text.contains("needs 0 of 1 arrivals and 1024 bytes"), "{text}");
    let expect = "@%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [first], 1024;";
    let arrive = "@%p mbarrier.arrive.shared::cta.b64 _, [first];";
    let none = fault(&LOAD.replace(expect, arrive));
    assert!(matches!(none.kind, FaultKind::BulkPending { phase: 1, .. }), "{none}");
    let late = LOAD.replace(expect, "").replace("WAIT:", &format!("{arrive} WAIT:"));
    // The bytes come when everybody has had a turn.
    let late = fault(&late.replace("mov.u32 %t0, tile;", "bar.sync 0; mov.u32 %t0, tile;"));
    let FaultKind::Mbarrier { problem, .. } = &late.kind else { panic!("{late}") };
    assert!(problem.contains("fewer bytes were expected"), "{problem}");
}

#[test]
fn loads_over_what_is_in_use_are_found() {
    // Warp 1 has read the place and told nobody.
    let used = LOAD.replace(
        "mov.b64 %wa",
        "mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0; st.shared.u32 [%t0], %lane; \
         ld.shared.u32 %t1, [%t0]; mov.b64 %wa",
    );
    let race = fault(&used);
    assert!(matches!(race.kind, FaultKind::Race { now: "bulk copy", .. }), "{race}");
    let unfenced = fault(&LOAD.replace("fence.mbarrier_init.release.cluster;", ""));
    assert!(unfenced.to_string().contains("no fence.mbarrier_init"), "{unfenced}");
    let aside = fault(&LOAD.replace("[tile], [%wa", "[tile+64], [%wa"));
    assert!(matches!(aside.kind, FaultKind::Misaligned { bytes: 128, .. }), "{aside}");
    let beyond = fault(&LOAD.replace("[tile], [%wa", "[tile+65408], [%wa"));
    assert!(
        matches!(beyond.kind, FaultKind::OutOfBounds { .. } | FaultKind::Mbarrier { .. }),
        "{beyond}"
    );
    let other = fault(&LOAD.replace("mov.b64 %wa, map_a", "mov.b64 %wa, map_b"));
    assert!(other.to_string().contains("no tensor map"), "{other}");
    let between = fault(&LOAD.replace("{X, Y}", "{4, 0}"));
    assert!(between.to_string().contains("element 4 of its rows"), "{between}");
    let three = LOAD.replace("2d", "3d").replace("{X, Y}", "{X, Y, 0}");
    assert!(fault(&three).to_string().contains("another number of axes"));
}

#[test]
fn stores_in_a_wrong_order_are_found() {
    let store = STORE.replace("OP", PLAIN);
    let unfenced = fault(&store.replace("fence.proxy.async.shared::cta;", ""));
    assert!(matches!(unfenced.kind, FaultKind::NotFenced { .. }), "{unfenced}");
    // A fence by the one thread that stores, before the barrier, covers its own warp only.
    let alone = store.replace(
        "fence.proxy.async.shared::cta;",
        "setp.lt.u32 %q, %lane, 32; \
        @%q fence.proxy.async.shared::cta;",
    );
    assert!(matches!(fault(&alone).kind, FaultKind::NotFenced { warp: 1, .. }));
    let unordered = store.replacen("bar.sync 0;", "", 1);
    let unordered = fault(&unordered);
    assert!(
        matches!(unordered.kind, FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }),
        "{unordered}"
    );
    let early = fault(&store.replace("@%p cp.async.bulk.wait_group.read 0;", ""));
    assert!(matches!(early.kind, FaultKind::Race { before: "bulk store's read", .. }), "{early}");
    let open = fault(&store.replace("@%p cp.async.bulk.commit_group;", ""));
    assert!(matches!(open.kind, FaultKind::Race { before: "bulk store's read", .. }), "{open}");
    let (head, tail) = store.split_at(store.rfind("bar.sync 0;").unwrap());
    let loose = fault(&format!("{head}{}", &tail["bar.sync 0;".len()..]));
    assert!(matches!(loose.kind, FaultKind::Race { before: "read", .. }), "{loose}");
    let ended = format!("{}ret;", &store[..store.find("@%p cp.async.bulk.wait_group").unwrap()]);
    assert!(fault(&ended).to_string().contains("wait_group is missing"));
}

#[test]
fn stores_that_a_device_refuses_or_does_otherwise_are_found() {
    let store = STORE.replace("OP", PLAIN);
    let before = fault(&store.replace("{X, Y}", "{-8, 0}"));
    assert!(before.to_string().contains("begins before the tensor"), "{before}");
    // Rows of 100 elements end in the middle of 16 bytes.
    let cut = fault(&store.replace("{X, Y}", "{48, 0}"));
    assert!(cut.to_string().contains("no multiple of 16 bytes"), "{cut}");
}

#[test]
fn a_tensor_larger_than_its_memory_is_found() {
    let mut gpu = Gpu::hopper();
    let address = gpu.u16s(&[0; 104 * 4]);
    let map = TensorMap::new(Element::Bf16, address, &[100, 16], &[208], &[64, 8], 128).unwrap();
    let out = gpu.room(1024);
    let args = [Arg::U64(out), Arg::U64(0), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    let source = hopper_kernel("", &at(LOAD, 0, 0));
    match gpu.try_launch(&source, "k", one_cta(64), &args) {
        Err(LaunchError::Fault(fault)) => {
            assert!(matches!(fault.kind, FaultKind::OutOfBounds { access: "bulk copy", .. }));
        }
        _ => panic!("four rows are there, eight were read"),
    }
}

#[test]
fn each_cta_of_a_cluster_loads_half_for_both() {
    // A (2, 8, 64) tensor: CTA r loads plane r into the r-th KiB of both.
    let body = "
        .reg .b32 %rank, %to, %bar;
        mov.u32 %rank, %cluster_ctarank;
        setp.eq.u32 %p, %lane, 0;
        @%p mbarrier.init.shared::cta.b64 [first], 1;
        fence.mbarrier_init.release.cluster;
        barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
        @%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [first], 2048;
        mov.u32 %to, tile; mad.lo.u32 %to, %rank, 1024, %to; mov.u32 %bar, first;
        mov.b64 %wa, map_a; cvta.param.u64 %wa, %wa; mov.u16 %h0, 3;
        @%p cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes\
.multicast::cluster [%to], [%wa, {0, 0, %rank}], [%bar], %h0;
    WAIT:
        mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %q, [first], 0;
        @!%q bra WAIT;
        mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0;
        ld.shared.v4.u32 {%a, %b, %c, %d}, [%t0];
        mad.lo.u32 %t1, %rank, 128, %lane;
        mad.wide.u32 %w0, %t1, 16, %out; st.global.v4.u32 [%w0], {%a, %b, %c, %d};
        barrier.cluster.arrive.release; barrier.cluster.wait.acquire;";
    let mut gpu = Gpu::hopper();
    let values: Vec<u16> = (0..1024).collect();
    let input = gpu.u16s(&values);
    let sizes = [64, 8, 2];
    let map = TensorMap::new(Element::Bf16, input, &sizes, &[128, 1024], &[64, 8, 1], 0).unwrap();
    let out = gpu.room(4096);
    let args = [Arg::U64(out), Arg::U64(0), Arg::Map(map.to_bytes()), Arg::Map([0; 128])];
    let shape = Shape { grid: [2, 1, 1], block: [128, 1, 1], shared: 0 };
    let source = hopper_kernel(".reqnctapercluster 2, 1, 1", body);
    let report = gpu.launch(&source, "k", shape, &args);
    let found = gpu.read_u16(out, 2048);
    assert_eq!(found[..1024], values[..]);
    assert_eq!(found[1024..], values[..]);
    assert_eq!(report.counters.global_read, 2048, "each plane is fetched once");
    // Without the cluster's barrier the other CTA's mbarrier may not be there yet.
    let early = source.replacen(
        "barrier.cluster.arrive.release; barrier.cluster.wait.acquire;",
        "bar.sync 0;",
        1,
    );
    match gpu.try_launch(&early, "k", shape, &args) {
        Err(LaunchError::Fault(fault)) => {
            assert!(matches!(fault.kind, FaultKind::Mbarrier { .. }), "{fault}");
        }
        _ => panic!("a missing barrier went unnoticed"),
    }
}
