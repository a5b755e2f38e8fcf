//! Integer and bit arithmetic: from an operation's name to what it does to the lanes.

use crate::decode::Modifiers;
use crate::exec::lanes::{narrow, wide};
use crate::ir::Lanes::{self, Narrow, Wide};
use crate::ir::Ty;

/// Finds `op` for `ty`, with its number of sources. Takes the modifiers that it understands.
pub(crate) fn find(op: &str, ty: Ty, modifiers: &mut Modifiers) -> Option<(Lanes, u8)> {
    if matches!(op, "mul" | "mad") {
        return match modifiers.take_any(&["lo", "hi", "wide"])? {
            "lo" => low_product(op, ty),
            "hi" => high_product(op, ty),
            _ => wide_product(op, ty),
        };
    }
    match ty {
        Ty::U32 | Ty::S32 | Ty::B32 => bits32(op, ty).or_else(|| sum32(op, ty)),
        Ty::U16 | Ty::S16 | Ty::B16 => all16(op, ty),
        Ty::U64 | Ty::S64 | Ty::B64 => all64(op, ty),
        _ => None,
    }
}

fn i(x: u32) -> i32 {
    x as i32
}

fn j(x: u64) -> i64 {
    x as i64
}

/// Sign extension of the low half.
fn h(x: u32) -> i32 {
    i32::from(x as u16 as i16)
}

fn sum32(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let signed = ty.is_signed();
    let (f, sources) = match op {
        "add" => (narrow!(|a, b| a.wrapping_add(b)), 2),
        "sub" => (narrow!(|a, b| a.wrapping_sub(b)), 2),
        "neg" => (narrow!(|a| a.wrapping_neg()), 1),
        "abs" => (narrow!(|a| i(a).wrapping_abs() as u32), 1),
        "min" if signed => (narrow!(|a, b| i(a).min(i(b)) as u32), 2),
        "min" => (narrow!(|a, b| a.min(b)), 2),
        "max" if signed => (narrow!(|a, b| i(a).max(i(b)) as u32), 2),
        "max" => (narrow!(|a, b| a.max(b)), 2),
        // Division by zero has no defined result; all ones is what is seen.
        "div" if signed => {
            (narrow!(|a, b| if b == 0 { !0 } else { i(a).wrapping_div(i(b)) as u32 }), 2)
        }
        "div" => (narrow!(|a, b| a.checked_div(b).unwrap_or(!0)), 2),
        "rem" if signed => {
            (narrow!(|a, b| if b == 0 { a } else { i(a).wrapping_rem(i(b)) as u32 }), 2)
        }
        "rem" => (narrow!(|a, b| a.checked_rem(b).unwrap_or(a)), 2),
        "sad" if signed => (narrow!(|a, b, c| i(a).abs_diff(i(b)).wrapping_add(c)), 3),
        "sad" => (narrow!(|a, b, c| a.abs_diff(b).wrapping_add(c)), 3),
        _ => return None,
    };
    Some((Narrow(f), sources))
}

fn bits32(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let (f, sources) = match op {
        "and" => (narrow!(|a, b| a & b), 2),
        "or" => (narrow!(|a, b| a | b), 2),
        "xor" => (narrow!(|a, b| a ^ b), 2),
        "not" => (narrow!(|a| !a), 1),
        "cnot" => (narrow!(|a| u32::from(a == 0)), 1),
        "shl" => (narrow!(|a, b| if b > 31 { 0 } else { a << b }), 2),
        "shr" if ty == Ty::S32 => (narrow!(|a, b| (i(a) >> b.min(31)) as u32), 2),
        "shr" => (narrow!(|a, b| if b > 31 { 0 } else { a >> b }), 2),
        "popc" => (narrow!(|a| a.count_ones()), 1),
        "clz" => (narrow!(|a| a.leading_zeros()), 1),
        "brev" => (narrow!(|a| a.reverse_bits()), 1),
        "bfe" if ty == Ty::S32 => (narrow!(|a, b, c| extract_signed(a, b, c)), 3),
        "bfe" => (narrow!(|a, b, c| extract(a, b, c)), 3),
        "bfi" => (narrow!(|a, b, c, d| insert(a, b, c, d)), 4),
        "prmt" => (narrow!(|a, b, c| permute(a, b, c)), 3),
        _ => return None,
    };
    Some((Narrow(f), sources))
}

/// `lop3`: bit 4a + 2b + c of `table` is the result for the bits a, b, c.
pub(crate) fn lop3() -> Lanes {
    Narrow(narrow!(|a, b, c, table| {
        let mut out = 0;
        for row in 0..8 {
            let pick = |value: u32, bit: u32| if row & bit == 0 { !value } else { value };
            if table >> row & 1 == 1 {
                out |= pick(a, 4) & pick(b, 2) & pick(c, 1);
            }
        }
        out
    }))
}

/// `shf`: the 64 bits b:a shifted, and the half that comes out.
pub(crate) fn funnel(left: bool, wrap: bool) -> Lanes {
    Narrow(match (left, wrap) {
        (true, true) => narrow!(|a, b, c| (joined(a, b) << (c & 31) >> 32) as u32),
        (true, false) => narrow!(|a, b, c| (joined(a, b) << c.min(32) >> 32) as u32),
        (false, true) => narrow!(|a, b, c| (joined(a, b) >> (c & 31)) as u32),
        (false, false) => narrow!(|a, b, c| (joined(a, b) >> c.min(32)) as u32),
    })
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn extract(a: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 255, length & 255);
    let shifted = u64::from(a) >> position.min(63);
    (shifted & ((1 << length.min(32)) - 1)) as u32
}

fn extract_signed(a: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let sign_at = (position + length - 1).min(31);
    let field = extract(a, position, length);
    let sign = a >> sign_at & 1;
    if sign == 1 && length < 32 { field | (!0 << length.min(32 - position.min(31))) } else { field }
}

fn insert(field: u32, base: u32, position: u32, length: u32) -> u32 {
    let (position, length) = ((position & 255).min(32), (length & 255).min(32));
    let mask = ((((1_u64 << length) - 1) << position) & 0xFFFF_FFFF) as u32;
    let moved = (u64::from(field) << position) as u32;
    (base & !mask) | (moved & mask)
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = joined(a, b).to_le_bytes();
    let mut out = [0_u8; 4];
    for (place, byte) in out.iter_mut().enumerate() {
        let select = selector >> (4 * place) & 15;
        let chosen = bytes[(select & 7) as usize];
        // The upper bit of a selector asks for the byte's sign instead of the byte.
        *byte = if select & 8 == 0 { chosen } else { ((chosen as i8) >> 7) as u8 };
    }
    u32::from_le_bytes(out)
}

fn all16(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let signed = ty == Ty::S16;
    let (f, sources) = match op {
        "add" => (narrow!(|a, b| a.wrapping_add(b) & 0xFFFF), 2),
        "sub" => (narrow!(|a, b| a.wrapping_sub(b) & 0xFFFF), 2),
        "neg" => (narrow!(|a| a.wrapping_neg() & 0xFFFF), 1),
        "min" if signed => (narrow!(|a, b| h(a).min(h(b)) as u32 & 0xFFFF), 2),
        "min" => (narrow!(|a, b| (a & 0xFFFF).min(b & 0xFFFF)), 2),
        "max" if signed => (narrow!(|a, b| h(a).max(h(b)) as u32 & 0xFFFF), 2),
        "max" => (narrow!(|a, b| (a & 0xFFFF).max(b & 0xFFFF)), 2),
        "and" => (narrow!(|a, b| a & b & 0xFFFF), 2),
        "or" => (narrow!(|a, b| (a | b) & 0xFFFF), 2),
        "xor" => (narrow!(|a, b| (a ^ b) & 0xFFFF), 2),
        "not" => (narrow!(|a| !a & 0xFFFF), 1),
        "shl" => (narrow!(|a, b| if b > 15 { 0 } else { a << b & 0xFFFF }), 2),
        "shr" if signed => (narrow!(|a, b| (h(a) >> b.min(15)) as u32 & 0xFFFF), 2),
        "shr" => (narrow!(|a, b| if b > 15 { 0 } else { (a & 0xFFFF) >> b }), 2),
        _ => return None,
    };
    Some((Narrow(f), sources))
}

fn all64(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let signed = ty.is_signed();
    let (f, sources) = match op {
        "add" => (wide!(|a, b| a.wrapping_add(b)), 2),
        "sub" => (wide!(|a, b| a.wrapping_sub(b)), 2),
        "neg" => (wide!(|a| a.wrapping_neg()), 1),
        "abs" => (wide!(|a| j(a).wrapping_abs() as u64), 1),
        "min" if signed => (wide!(|a, b| j(a).min(j(b)) as u64), 2),
        "min" => (wide!(|a, b| a.min(b)), 2),
        "max" if signed => (wide!(|a, b| j(a).max(j(b)) as u64), 2),
        "max" => (wide!(|a, b| a.max(b)), 2),
        "div" if signed => {
            (wide!(|a, b| if b == 0 { !0 } else { j(a).wrapping_div(j(b)) as u64 }), 2)
        }
        "div" => (wide!(|a, b| a.checked_div(b).unwrap_or(!0)), 2),
        "rem" if signed => {
            (wide!(|a, b| if b == 0 { a } else { j(a).wrapping_rem(j(b)) as u64 }), 2)
        }
        "rem" => (wide!(|a, b| a.checked_rem(b).unwrap_or(a)), 2),
        "and" => (wide!(|a, b| a & b), 2),
        "or" => (wide!(|a, b| a | b), 2),
        "xor" => (wide!(|a, b| a ^ b), 2),
        "not" => (wide!(|a| !a), 1),
        "shl" => (wide!(|a, b| if b > 63 { 0 } else { a << b }), 2),
        "shr" if signed => (wide!(|a, b| (j(a) >> b.min(63)) as u64), 2),
        "shr" => (wide!(|a, b| if b > 63 { 0 } else { a >> b }), 2),
        "popc" => (wide!(|a| u64::from(a.count_ones())), 1),
        "clz" => (wide!(|a| u64::from(a.leading_zeros())), 1),
        "brev" => (wide!(|a| a.reverse_bits()), 1),
        _ => return None,
    };
    Some((Wide(f), sources))
}

fn low_product(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let plain = op == "mul";
    let lanes = match ty {
        Ty::U32 | Ty::S32 if plain => Narrow(narrow!(|a, b| a.wrapping_mul(b))),
        Ty::U32 | Ty::S32 => Narrow(narrow!(|a, b, c| a.wrapping_mul(b).wrapping_add(c))),
        Ty::U16 | Ty::S16 if plain => Narrow(narrow!(|a, b| a.wrapping_mul(b) & 0xFFFF)),
        Ty::U16 | Ty::S16 => Narrow(narrow!(|a, b, c| a.wrapping_mul(b).wrapping_add(c) & 0xFFFF)),
        Ty::U64 | Ty::S64 if plain => Wide(wide!(|a, b| a.wrapping_mul(b))),
        Ty::U64 | Ty::S64 => Wide(wide!(|a, b, c| a.wrapping_mul(b).wrapping_add(c))),
        _ => return None,
    };
    Some((lanes, if plain { 2 } else { 3 }))
}

fn high_unsigned(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

fn high_signed(a: u32, b: u32) -> u32 {
    ((i64::from(i(a)) * i64::from(i(b))) >> 32) as u32
}

fn high_product(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let plain = op == "mul";
    let lanes = match ty {
        Ty::U32 if plain => Narrow(narrow!(|a, b| high_unsigned(a, b))),
        Ty::U32 => Narrow(narrow!(|a, b, c| high_unsigned(a, b).wrapping_add(c))),
        Ty::S32 if plain => Narrow(narrow!(|a, b| high_signed(a, b))),
        Ty::S32 => Narrow(narrow!(|a, b, c| high_signed(a, b).wrapping_add(c))),
        Ty::U64 if plain => Wide(wide!(|a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64)),
        Ty::S64 if plain => {
            Wide(wide!(|a, b| ((i128::from(j(a)) * i128::from(j(b))) >> 64) as u64))
        }
        _ => return None,
    };
    Some((lanes, if plain { 2 } else { 3 }))
}

fn signed_product(a: u64, b: u64) -> u64 {
    (i64::from(a as u32 as i32) * i64::from(b as u32 as i32)) as u64
}

fn unsigned_product(a: u64, b: u64) -> u64 {
    u64::from(a as u32) * u64::from(b as u32)
}

fn wide_product(op: &str, ty: Ty) -> Option<(Lanes, u8)> {
    let plain = op == "mul";
    let lanes = match ty {
        Ty::U32 if plain => Wide(wide!(|a, b| unsigned_product(a, b))),
        Ty::U32 => Wide(wide!(|a, b, c| unsigned_product(a, b).wrapping_add(c))),
        Ty::S32 if plain => Wide(wide!(|a, b| signed_product(a, b))),
        Ty::S32 => Wide(wide!(|a, b, c| signed_product(a, b).wrapping_add(c))),
        Ty::U16 if plain => Narrow(narrow!(|a, b| (a & 0xFFFF) * (b & 0xFFFF))),
        Ty::S16 if plain => Narrow(narrow!(|a, b| (h(a) * h(b)) as u32)),
        _ => return None,
    };
    Some((lanes, if plain { 2 } else { 3 }))
}
