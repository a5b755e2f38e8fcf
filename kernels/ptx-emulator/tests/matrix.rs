//! `mma`, `ldmatrix` and `cp.async`, and a matrix product made of them.

mod common;
use common::{Arg, Gpu, kernel, one_cta};
use half::{bf16, f16};

/// Small numbers whose sums are exact in f32, so that the order of a sum does not matter.
fn value(row: usize, column: usize) -> f32 {
    ((row * 7 + column * 5) % 13) as f32 - 6.0
}

/// The product of a (16, k) and b (k, 8) plus c (16, 8), all row by row.
fn plain(a: &[f32], b: &[f32], c: &[f32], k: usize) -> Vec<f32> {
    let mut out = c.to_vec();
    for row in 0..16 {
        for column in 0..8 {
            for depth in 0..k {
                out[row * 8 + column] += a[row * k + depth] * b[depth * 8 + column];
            }
        }
    }
    out
}

/// Runs one mma whose operands are loaded straight from memory, element by element, as the tables
/// of the PTX ISA place them. `place_a` and `place_b` give (row, column) of element `i` of a lane.
fn run_mma(
    instruction: &str,
    k: usize,
    narrow: bool,
    place_a: fn(usize, usize) -> (usize, usize),
    place_b: fn(usize, usize) -> (usize, usize),
    bits: fn(f32) -> u32,
) {
    let a: Vec<f32> = (0..16 * k).map(|i| value(i / k, i % k)).collect();
    let b: Vec<f32> = (0..k * 8).map(|i| value(i % 8 + 3, i / 8)).collect();
    let c: Vec<f32> = (0..128).map(|i| i as f32 * 0.5).collect();
    let per_register = if narrow { 2 } else { 1 };
    let counts = [16 * k / 32 / per_register, k * 8 / 32 / per_register];
    let mut registers = Vec::new();
    for lane in 0..32 {
        let mut operand =
            |count: usize, place: fn(usize, usize) -> (usize, usize), data: &[f32], width| {
                for register in 0..count {
                    let element = |i: usize| {
                        let (row, column) = place(lane, register * per_register + i);
                        bits(data[row * width + column])
                    };
                    registers.push(if narrow { element(0) | element(1) << 16 } else { element(0) });
                }
            };
        operand(counts[0], place_a, &a, k);
        operand(counts[1], place_b, &b, 8);
        for i in 0..4 {
            registers.push(c[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2].to_bits());
        }
    }
    let per_lane = counts[0] + counts[1] + 4;
    let list = |stem: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("%{stem}{i}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let mut body = format!(
        ".reg .b32 %ma<4>, %mb<2>; .reg .f32 %mc<4>, %md<4>;
         mad.wide.u32 %w0, %lane, {}, %in;\n",
        4 * per_lane
    );
    let names = (0..counts[0]).map(|i| format!("%ma{i}"));
    let names = names.chain((0..counts[1]).map(|i| format!("%mb{i}")));
    for (at, name) in names.chain((0..4).map(|i| format!("%mc{i}"))).enumerate() {
        body += &format!("ld.global.b32 {name}, [%w0+{}];\n", 4 * at);
    }
    body += &format!(
        "{instruction} {}, {}, {}, {};
         mad.wide.u32 %w1, %lane, 16, %out;
         st.global.v4.f32 [%w1], {};",
        list("md", 4),
        list("ma", counts[0]),
        list("mb", counts[1]),
        list("mc", 4),
        list("md", 4)
    );
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&registers), gpu.room(512));
    let report = gpu.launch(&kernel(&body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    let held = gpu.read_f32(output, 128);
    let expected = plain(&a, &b, &c, k);
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            assert_eq!(held[4 * lane + i], expected[8 * row + column], "row {row} column {column}");
        }
    }
    assert_eq!(report.counters.mma_flops, 2 * 16 * 8 * k as u64);
}

fn bf16_bits(x: f32) -> u32 {
    u32::from(bf16::from_f32(x).to_bits())
}

fn f16_bits(x: f32) -> u32 {
    u32::from(f16::from_f32(x).to_bits())
}

#[test]
fn m16n8k16_is_the_product() {
    // PTX ISA: row = g for i in {0,1,4,5}, else g + 8; column = 2t + (i & 1), + 8 for i >= 4.
    let a = |lane, i| (lane / 4 + 8 * (i / 2 % 2), 2 * (lane % 4) + i % 2 + 8 * (i / 4));
    // PTX ISA: row = 2t + (i & 1), + 8 for i >= 2; column = g.
    let b = |lane, i| (2 * (lane % 4) + i % 2 + 8 * (i / 2), lane / 4);
    run_mma("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 16, true, a, b, bf16_bits);
    run_mma("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 16, true, a, b, f16_bits);
}

#[test]
fn m16n8k8_is_the_product() {
    let a = |lane, i| (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
    let b = |lane, i| (2 * (lane % 4) + i, lane / 4);
    run_mma("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32", 8, true, a, b, bf16_bits);
    run_mma("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 8, true, a, b, f16_bits);
}

#[test]
fn tf32_is_the_product() {
    let a = |lane, i| (lane / 4 + 8 * (i % 2), lane % 4 + 4 * (i / 2));
    let b = |lane, i| (lane % 4 + 4 * i, lane / 4);
    run_mma("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 8, false, a, b, f32::to_bits);
    let a = |lane, i| (lane / 4 + 8 * i, lane % 4);
    run_mma("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32", 4, false, a, b, f32::to_bits);
}

/// Element (row, column) of 8x8 matrix `matrix` is 100 matrix + 10 row + column.
fn ldmatrix(count: usize, trans: &str) -> Vec<u32> {
    let list = ["%r0", "%r1", "%r2", "%r3"][..count].join(", ");
    let stores: String =
        (0..count).map(|i| format!("st.global.u32 [%w1+{}], %r{i};\n", 4 * i)).collect();
    let body = format!(
        ".shared .align 128 .b8 tile[512];
         .reg .b32 %r<4>, %base;
         mov.u32 %base, tile;
         mad.wide.u32 %w0, %lane, 16, %in;
         ld.global.v4.u32 {{%a, %b, %c, %d}}, [%w0];
         mad.lo.u32 %t0, %lane, 16, %base;
         st.shared.v4.u32 [%t0], {{%a, %b, %c, %d}};
         bar.sync 0;
         ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{list}}}, [%t0];
         mad.wide.u32 %w1, %lane, 16, %out;\n{stores}"
    );
    let values: Vec<u16> =
        (0..256).map(|i| (i / 64 * 100 + i / 8 % 8 * 10 + i % 8) as u16).collect();
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u16s(&values), gpu.room(512));
    let report = gpu.launch(&kernel(&body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(report.counters.bank_conflicts, 0);
    gpu.read_u32(output, 128)
}

#[test]
fn ldmatrix_hands_out_rows() {
    for count in [1, 2, 4] {
        let held = ldmatrix(count, "");
        for lane in 0..32 {
            for matrix in 0..count {
                let low = 100 * matrix + 10 * (lane / 4) + 2 * (lane % 4);
                let expected = (low | (low + 1) << 16) as u32;
                assert_eq!(
                    held[4 * lane + matrix],
                    expected,
                    "x{count} lane {lane} matrix {matrix}"
                );
            }
        }
    }
}

#[test]
fn ldmatrix_transposes() {
    let held = ldmatrix(4, ".trans");
    for lane in 0..32 {
        for matrix in 0..4 {
            let low = 100 * matrix + 10 * (2 * (lane % 4)) + lane / 4;
            assert_eq!(held[4 * lane + matrix], (low | (low + 10) << 16) as u32, "lane {lane}");
        }
    }
}

#[test]
fn async_copies_arrive_group_by_group() {
    let body = "
        .shared .align 16 .b8 tile[1024];
        .reg .b32 %base, %first, %second;
        mov.u32 %base, tile;
        mad.lo.u32 %first, %lane, 16, %base;
        add.u32 %second, %first, 512;
        mad.wide.u32 %w0, %lane, 16, %in;
        cp.async.cg.shared.global.L2::128B [%first], [%w0], 16;
        cp.async.commit_group;
        and.b32 %t0, %lane, 7;
        cp.async.ca.shared.global [%second], [%w0], 8, %t0;
        cp.async.commit_group;
        cp.async.wait_group 1;
        ld.shared.v4.u32 {%a, %b, %c, %d}, [%first];
        add.u32 %r, %a, %d;
        cp.async.wait_all;
        ld.shared.v2.u32 {%a, %b}, [%second];
        mad.wide.u32 %w1, %lane, 12, %out;
        st.global.u32 [%w1], %r;
        st.global.u32 [%w1+4], %a;
        st.global.u32 [%w1+8], %b;";
    let values: Vec<u32> = (0..128).map(|i| 0x0101_0101 * (i + 1)).collect();
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&values), gpu.room(384));
    gpu.launch(&kernel(body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    let found = gpu.read_u32(output, 96);
    for lane in 0..32_u32 {
        let own = |i: u32| values[(4 * lane + i) as usize];
        // The bytes beyond the given count are zeros.
        let cut = |i: u32, bytes: u32| match bytes {
            0 => 0,
            4.. => own(i),
            _ => own(i) & ((1 << (8 * bytes)) - 1),
        };
        let bytes = lane % 8;
        let expected =
            [own(0).wrapping_add(own(3)), cut(0, bytes), cut(1, bytes.saturating_sub(4))];
        assert_eq!(found[3 * lane as usize..][..3], expected, "lane {lane}");
    }
}
