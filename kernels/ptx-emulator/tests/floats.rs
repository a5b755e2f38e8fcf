//! Float arithmetic, roundings and conversions against values worked out by hand.

mod common;
use common::{lanes, wide_lanes};

fn float(snippet: &str, a: f32, b: f32, c: f32) -> f32 {
    f32::from_bits(bits(snippet, a.to_bits(), b.to_bits(), c.to_bits()))
}

fn bits(snippet: &str, a: u32, b: u32, c: u32) -> u32 {
    lanes(snippet, &[[a, b, c, 0]])[0]
}

/// Half a unit in the last place of 1.
const HALF: f32 = f32::EPSILON / 2.0;

#[test]
fn f32_sums_round_as_written() {
    assert_eq!(float("add.f32 %r, %a, %b;", 1.0, HALF, 0.0), 1.0, "a tie goes to even");
    assert_eq!(float("add.rn.f32 %r, %a, %b;", 1.0, HALF * 1.5, 0.0), 1.0 + f32::EPSILON);
    assert_eq!(float("add.rz.f32 %r, %a, %b;", 1.0, HALF * 1.5, 0.0), 1.0);
    assert_eq!(float("add.rz.f32 %r, %a, %b;", 1.0, -1e-10, 0.0), 1.0 - HALF);
    assert_eq!(float("sub.f32 %r, %a, %b;", 1.0, 3.0, 0.0), -2.0);
    assert_eq!(
        float("mul.rz.f32 %r, %a, %b;", 1.0 + f32::EPSILON, 1.0 + f32::EPSILON, 0.0),
        1.0 + 2.0 * f32::EPSILON
    );
}

#[test]
fn fma_rounds_once() {
    let a = 1.0 + f32::EPSILON;
    // a * a = 1 + 2 eps + eps^2; only one rounding keeps the eps^2.
    assert_eq!(
        float("fma.rn.f32 %r, %a, %a, %b;", a, -(1.0 + 2.0 * f32::EPSILON), 0.0),
        f32::EPSILON * f32::EPSILON
    );
    assert_eq!(
        float("mul.f32 %r, %a, %a; add.f32 %r, %r, %b;", a, -(1.0 + 2.0 * f32::EPSILON), 0.0),
        0.0
    );
    assert_eq!(float("fma.rz.f32 %r, %a, %b, %c;", 1.0, HALF * 1.5, 1.0), 1.0);
    for (a, b, c) in [(1.5e-30, 2.5e-20, 1e-38), (3.3, 7.7, -25.41), (1e20, 1e20, -1e38)] {
        assert_eq!(float("fma.rn.f32 %r, %a, %b, %c;", a, b, c), a.mul_add(b, c));
    }
}

#[test]
fn subnormals_are_flushed_only_where_written() {
    let tiny = f32::from_bits(1);
    assert_eq!(float("add.f32 %r, %a, %b;", tiny, tiny, 0.0).to_bits(), 2);
    assert_eq!(float("add.ftz.f32 %r, %a, %b;", tiny, tiny, 0.0), 0.0);
    assert_eq!(float("mul.ftz.f32 %r, %a, %b;", f32::MIN_POSITIVE, 0.5, 0.0), 0.0);
    assert_eq!(float("mul.ftz.f32 %r, %a, %b;", -f32::MIN_POSITIVE, 0.5, 0.0).to_bits(), 1 << 31);
    assert_eq!(float("add.sat.f32 %r, %a, %b;", 1.0, 1.0, 0.0), 1.0);
    assert_eq!(float("add.sat.f32 %r, %a, %b;", -1.0, 0.5, 0.0), 0.0);
}

#[test]
fn least_and_greatest() {
    assert_eq!(float("min.f32 %r, %a, %b;", f32::NAN, 2.0, 0.0), 2.0);
    assert_eq!(float("max.f32 %r, %a, %b;", 2.0, f32::NAN, 0.0), 2.0);
    assert!(float("max.NaN.f32 %r, %a, %b;", 2.0, f32::NAN, 0.0).is_nan());
    assert_eq!(bits("min.f32 %r, %a, %b;", 0, 1 << 31, 0), 1 << 31, "-0 is below +0");
    assert_eq!(bits("max.f32 %r, %a, %b;", 0, 1 << 31, 0), 0);
    assert_eq!(float("abs.f32 %r, %a;", -2.0, 0.0, 0.0), 2.0);
    assert_eq!(float("neg.f32 %r, %a;", 2.0, 0.0, 0.0), -2.0);
    assert_eq!(float("copysign.f32 %r, %a, %b;", -1.0, 2.0, 0.0), -2.0);
}

#[test]
fn the_special_function_unit() {
    assert_eq!(float("ex2.approx.f32 %r, %a;", 3.0, 0.0, 0.0), 8.0);
    assert_eq!(float("ex2.approx.ftz.f32 %r, %a;", -200.0, 0.0, 0.0), 0.0);
    assert_eq!(float("ex2.approx.ftz.f32 %r, %a;", f32::NEG_INFINITY, 0.0, 0.0), 0.0);
    assert_eq!(float("lg2.approx.f32 %r, %a;", 8.0, 0.0, 0.0), 3.0);
    assert_eq!(float("lg2.approx.f32 %r, %a;", 0.0, 0.0, 0.0), f32::NEG_INFINITY);
    assert_eq!(float("rcp.approx.f32 %r, %a;", 4.0, 0.0, 0.0), 0.25);
    assert_eq!(float("rcp.rn.f32 %r, %a;", 3.0, 0.0, 0.0), 1.0 / 3.0);
    assert_eq!(float("rsqrt.approx.f32 %r, %a;", 16.0, 0.0, 0.0), 0.25);
    assert_eq!(float("sqrt.rn.f32 %r, %a;", 2.0, 0.0, 0.0), 2.0_f32.sqrt());
    assert_eq!(float("div.rn.f32 %r, %a, %b;", 1.0, 3.0, 0.0), 1.0 / 3.0);
    assert_eq!(float("div.full.f32 %r, %a, %b;", 1.0, 4.0, 0.0), 0.25);
    assert_eq!(float("tanh.approx.f32 %r, %a;", 0.0, 0.0, 0.0), 0.0);
    assert_eq!(float("cos.approx.f32 %r, %a;", 0.0, 0.0, 0.0), 1.0);
}

#[test]
fn sixteen_bit_floats() {
    let bf16 = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    let f16 = |x: f32| u32::from(half::f16::from_f32(x).to_bits());
    let pair = |high: u32, low: u32| high << 16 | low;
    let fma = "fma.rn.bf16x2 %r, %a, %b, %c;";
    let (two, three, one) =
        (pair(bf16(2.0), bf16(-2.0)), pair(bf16(3.0), bf16(3.0)), pair(bf16(1.0), bf16(1.0)));
    assert_eq!(bits(fma, two, three, one), pair(bf16(7.0), bf16(-5.0)));
    // 1 + 2^-7 squared is 1 + 2^-6 + 2^-14: minus (1 + 2^-6) only a single rounding leaves 2^-14.
    let a = bf16(1.0 + 2.0_f32.powi(-7));
    let c = bf16(-(1.0 + 2.0_f32.powi(-6)));
    assert_eq!(
        bits(fma, pair(a, a), pair(a, a), pair(c, c)),
        pair(bf16(2.0_f32.powi(-14)), bf16(2.0_f32.powi(-14)))
    );
    assert_eq!(
        bits("add.f16x2 %r, %a, %b;", pair(f16(1.0), f16(2048.0)), pair(f16(2.0), f16(1.0)), 0),
        pair(f16(3.0), f16(2048.0))
    );
    assert_eq!(bits("max.bf16x2 %r, %a, %b;", two, one, 0), pair(bf16(2.0), bf16(1.0)));
    assert_eq!(bits("neg.bf16x2 %r, %a;", two, 0, 0), pair(bf16(-2.0), bf16(2.0)));
    assert_eq!(
        bits("abs.f16x2 %r, %a;", pair(f16(-1.0), f16(1.0)), 0, 0),
        pair(f16(1.0), f16(1.0))
    );
    let single = "mov.b32 {%h0, %h1}, %a; mul.f16 %h2, %h0, %h1; cvt.u32.u16 %r, %h2;";
    assert_eq!(bits(single, pair(f16(3.0), f16(1.5)), 0, 0), f16(4.5));
}

#[test]
fn conversions_between_floats() {
    let halves = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    for x in [1.0, -1.0 / 3.0, 1e38, 1e-40, 65520.0, f32::INFINITY] {
        let to = "cvt.rn.bf16.f32 %h0, %a; cvt.u32.u16 %r, %h0;";
        assert_eq!(bits(to, x.to_bits(), 0, 0), halves(x), "{x}");
        let to = "cvt.rn.f16.f32 %h0, %a; cvt.u32.u16 %r, %h0;";
        assert_eq!(bits(to, x.to_bits(), 0, 0), u32::from(half::f16::from_f32(x).to_bits()), "{x}");
        let pair = "cvt.rn.bf16x2.f32 %r, %a, %b;";
        assert_eq!(bits(pair, x.to_bits(), 2.0_f32.to_bits(), 0), halves(x) << 16 | halves(2.0));
        let pair = "cvt.rz.bf16x2.f32 %r, %a, %b;";
        assert_eq!(bits(pair, x.to_bits(), 0, 0), x.to_bits() >> 16 << 16, "{x} cut off");
    }
    let back = "cvt.u16.u32 %h0, %a; cvt.f32.f16 %r, %h0;";
    assert_eq!(f32::from_bits(bits(back, 0x3C01, 0, 0)), 1.0 + 2.0_f32.powi(-10));
    let tf32 = "cvt.rna.tf32.f32 %r, %a;";
    assert_eq!(float(tf32, 1.0 + 2.0_f32.powi(-11), 0.0, 0.0), 1.0 + 2.0_f32.powi(-10));
    assert_eq!(float("cvt.rni.f32.f32 %r, %a;", 2.5, 0.0, 0.0), 2.0);
    assert_eq!(float("cvt.rpi.f32.f32 %r, %a;", 2.1, 0.0, 0.0), 3.0);
    assert_eq!(float("cvt.sat.f32.f32 %r, %a;", 2.5, 0.0, 0.0), 1.0);
    assert_eq!(float("cvt.ftz.f32.f32 %r, %a;", 1e-40, 0.0, 0.0), 0.0);
}

#[test]
fn conversions_with_integers() {
    let from = |op: &str, x: f32| bits(&format!("cvt.{op}.f32 %r, %a;"), x.to_bits(), 0, 0);
    assert_eq!(from("rzi.s32", -2.9), -2_i32 as u32);
    assert_eq!(from("rni.s32", 2.5), 2);
    assert_eq!(from("rmi.s32", -2.1), -3_i32 as u32);
    assert_eq!(from("rpi.s32", 2.1), 3);
    assert_eq!(from("rzi.u32", -5.0), 0, "clamped");
    assert_eq!(from("rzi.s32", 1e20), i32::MAX as u32, "clamped");
    assert_eq!(from("rzi.s32", f32::NAN), 0);
    assert_eq!(f32::from_bits(bits("cvt.rn.f32.s32 %r, %a;", -7_i32 as u32, 0, 0)), -7.0);
    assert_eq!(f32::from_bits(bits("cvt.rn.f32.u32 %r, %a;", 0xFFFF_FFFF, 0, 0)), 4294967296.0);
    assert_eq!(f32::from_bits(bits("cvt.rz.f32.u32 %r, %a;", 0xFFFF_FFFF, 0, 0)), 4294967040.0);
    assert_eq!(bits("cvt.s32.s8 %r, %a;", 0x80, 0, 0), -128_i32 as u32);
    assert_eq!(bits("cvt.sat.u8.s32 %r, %a;", 300, 0, 0), 255);
    assert_eq!(
        wide_lanes("cvt.u32.u64 %a, %wa; cvt.s64.s32 %wr, %a;", &[[0xFFFF_FFFF, 0, 0]])[0],
        u64::MAX
    );
    assert_eq!(
        wide_lanes("cvt.u32.u64 %a, %wa; cvt.u64.u32 %wr, %a;", &[[0xF_FFFF_FFFF, 0, 0]])[0],
        0xFFFF_FFFF
    );
}

#[test]
fn doubles() {
    let run = |snippet: &str, a: f64, b: f64, c: f64| {
        f64::from_bits(wide_lanes(snippet, &[[a.to_bits(), b.to_bits(), c.to_bits()]])[0])
    };
    assert_eq!(run("add.f64 %wr, %wa, %wb;", 0.1, 0.2, 0.0), 0.1 + 0.2);
    assert_eq!(run("fma.rn.f64 %wr, %wa, %wb, %wc;", 0.1, 0.2, 0.3), 0.1_f64.mul_add(0.2, 0.3));
    assert_eq!(run("div.rn.f64 %wr, %wa, %wb;", 1.0, 3.0, 0.0), 1.0 / 3.0);
    assert_eq!(
        run("cvt.rn.f32.f64 %a, %wa; cvt.f64.f32 %wr, %a;", 0.1, 0.0, 0.0),
        f64::from(0.1_f32)
    );
    assert_eq!(run("setp.lt.f64 %p, %wa, %wb; selp.f64 %wr, %wa, %wc, %p;", 1.0, 2.0, 9.0), 1.0);
}
