//! `cvt`: one value from one format to another.

use crate::float::{
    NAN_F32, Round, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_tf32, f64_to_bf16, f64_to_f16,
    f64_to_f32, flush, saturate,
};
use crate::ir::{Cvt, L32, Ty};

/// One lane.
pub(crate) fn convert(c: &Cvt, bits: u64) -> u64 {
    match (is_float(c.from), is_float(c.to)) {
        (false, false) => integer_to_integer(c, integer(c.from, bits)),
        (false, true) => integer_to_float(c, integer(c.from, bits)),
        (true, false) => float_to_integer(c, float(c, bits)),
        (true, true) => float_to_float(c, bits),
    }
}

/// The packed form: `a` goes to the upper half, `b` to the lower.
pub(crate) fn convert_pair(c: &Cvt, a: &L32, b: &L32) -> L32 {
    let mut out = [0; 32];
    let fast = c.to == Ty::Bf16x2 && c.round == Round::Near && !c.relu && !c.sat;
    let single = Cvt { to: if c.to == Ty::Bf16x2 { Ty::Bf16 } else { Ty::F16 }, ..*c };
    for lane in 0..32 {
        let one = |bits: u32| {
            if fast {
                u32::from(f32_to_bf16(f32::from_bits(bits)))
            } else {
                float_to_float(&single, u64::from(bits)) as u32
            }
        };
        out[lane] = one(a[lane]) << 16 | one(b[lane]);
    }
    out
}

fn is_float(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::Bf16 | Ty::F32 | Ty::F64 | Ty::Tf32)
}

fn integer(ty: Ty, bits: u64) -> i128 {
    match ty {
        Ty::S8 => i128::from(bits as i8),
        Ty::S16 => i128::from(bits as i16),
        Ty::S32 => i128::from(bits as i32),
        Ty::S64 => i128::from(bits as i64),
        Ty::U8 | Ty::B8 => i128::from(bits as u8),
        Ty::U16 | Ty::B16 => i128::from(bits as u16),
        Ty::U32 | Ty::B32 => i128::from(bits as u32),
        _ => i128::from(bits),
    }
}

fn range(ty: Ty) -> (i128, i128) {
    let width = ty.bytes() * 8;
    if ty.is_signed() {
        (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    } else {
        (0, (1 << width) - 1)
    }
}

/// The low bits of the type's width. A narrow signed value fills a 32-bit register with its sign.
fn fit(ty: Ty, value: i128) -> u64 {
    match ty {
        Ty::S8 => value as i8 as i32 as u32 as u64,
        Ty::S16 => value as i16 as u16 as u64,
        Ty::U8 | Ty::B8 => value as u8 as u64,
        Ty::U16 | Ty::B16 => value as u16 as u64,
        Ty::S32 | Ty::U32 | Ty::B32 => value as u32 as u64,
        _ => value as u64,
    }
}

fn integer_to_integer(c: &Cvt, value: i128) -> u64 {
    let (least, most) = range(c.to);
    fit(c.to, if c.sat { value.clamp(least, most) } else { value })
}

fn integer_to_float(c: &Cvt, value: i128) -> u64 {
    match (c.to, c.round) {
        (Ty::F32, Round::Near) => u64::from((value as f32).to_bits()),
        (Ty::F64, _) => (value as f64).to_bits(),
        // Up to 53 bits are exact in a double; larger values are outside what is rounded here.
        (Ty::F32, round) => u64::from(f64_to_f32(value as f64, round)),
        (Ty::Bf16, round) => u64::from(f64_to_bf16(value as f64, round)),
        (_, round) => u64::from(f64_to_f16(value as f64, round)),
    }
}

/// The source as a double: exact for every format.
fn float(c: &Cvt, bits: u64) -> f64 {
    match c.from {
        Ty::F16 => f64::from(f16_to_f32(bits as u16)),
        Ty::Bf16 => f64::from(bf16_to_f32(bits as u16)),
        Ty::F64 => f64::from_bits(bits),
        _ if c.ftz => f64::from(f32::from_bits(flush(bits as u32))),
        _ => f64::from(f32::from_bits(bits as u32)),
    }
}

fn whole(round: Round, x: f64) -> f64 {
    match round {
        Round::Near => x.round_ties_even(),
        Round::NearAway => x.round(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
    }
}

/// Out-of-range values clamp; NaN becomes 0 (for 64-bit targets the top bit, as the ISA says).
fn float_to_integer(c: &Cvt, x: f64) -> u64 {
    if x.is_nan() {
        return if c.to.is_wide() { 1 << 63 } else { 0 };
    }
    let (least, most) = range(c.to);
    let value = whole(c.round, x);
    let clamped = if value >= most as f64 {
        most
    } else if value <= least as f64 {
        least
    } else {
        value as i128
    };
    fit(c.to, clamped)
}

fn float_to_float(c: &Cvt, bits: u64) -> u64 {
    let mut x = float(c, bits);
    if c.integral {
        x = whole(c.round, x);
    }
    if c.relu {
        x = if x > 0.0 || x.is_nan() { x } else { 0.0 };
    }
    if c.sat {
        x = if x > 0.0 { x.min(1.0) } else { 0.0 };
    }
    match c.to {
        Ty::F64 => x.to_bits(),
        Ty::F16 => u64::from(f64_to_f16(x, c.round)),
        Ty::Bf16 => u64::from(f64_to_bf16(x, c.round)),
        Ty::Tf32 => u64::from(f32_to_tf32(x as f32)),
        _ => {
            let out = if x.is_nan() { NAN_F32 } else { f64_to_f32(x, c.round) };
            u64::from(if c.ftz { flush(out) } else { out })
        }
    }
}

/// Flush-to-zero on every lane.
pub(crate) fn flush_lanes(lanes: &L32) -> L32 {
    lanes.map(flush)
}

/// Saturation on every lane.
pub(crate) fn saturate_lanes(lanes: &L32) -> L32 {
    lanes.map(saturate)
}
