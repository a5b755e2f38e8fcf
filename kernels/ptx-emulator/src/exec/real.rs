//! Float arithmetic on the lanes, in every format. Flushing and saturating of f32 happen around it.
//!
//! The approximate instructions (`ex2`, `lg2`, `rcp`, `rsqrt`, `sqrt`, `sin`, `cos`, `tanh`, and
//! `div` with `.approx` or `.full`) are computed in double and rounded once to f32: nearer to the
//! exact value than the hardware, whose error is documented as 1 to 2 units in the last place
//! (`tanh`: relative 2^-11). Kernels must not rely on the last bits of either.

use crate::decode::Modifiers;
use crate::exec::lanes::{narrow, wide};
use crate::float::{
    NAN_F32, Round, bf16_to_f32, f16_to_f32, f64_to_bf16, f64_to_f16, f64_to_f32, fused, sum_to_odd,
};
use crate::ir::Lanes::{self, Narrow, Wide};
use crate::ir::Ty;

/// Finds `op` for `ty`, with its number of sources. Takes the modifiers that it understands, except
/// `.ftz` and `.sat`, which the caller has taken.
pub(crate) fn find(op: &str, ty: Ty, modifiers: &mut Modifiers) -> Option<(Lanes, u8)> {
    let approximate = modifiers.take("approx") || modifiers.take("full");
    let round = modifiers.take_any(&["rn", "rz"]);
    let nan = modifiers.take("NaN");
    let (lanes, sources) = match ty {
        Ty::F32 if approximate => approximation(op)?,
        Ty::F32 if round == Some("rz") => toward_zero(op)?,
        Ty::F32 => exact32(op, nan)?,
        Ty::F64 if round != Some("rz") => return exact64(op),
        Ty::F16 => sixteen_bits(op, nan, [f16_one, f16_pair], false)?,
        Ty::F16x2 => sixteen_bits(op, nan, [f16_one, f16_pair], true)?,
        Ty::Bf16 => sixteen_bits(op, nan, [bf16_one, bf16_pair], false)?,
        Ty::Bf16x2 => sixteen_bits(op, nan, [bf16_one, bf16_pair], true)?,
        _ => return None,
    };
    Some((Narrow(lanes), sources))
}

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn d(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits))
}

fn g(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The smaller one; of a number and a NaN the number; minus zero is below plus zero.
fn minimum(a: f64, b: f64) -> f64 {
    let first = b.is_nan() || a < b || (a == b && a.is_sign_negative());
    if first { a } else { b }
}

fn maximum(a: f64, b: f64) -> f64 {
    -minimum(-a, -b)
}

/// As [`minimum`], but a NaN wins (`.NaN`).
fn minimum_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { minimum(a, b) }
}

fn maximum_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { maximum(a, b) }
}

/// A result as the hardware writes it: there is one NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { NAN_F32 } else { x.to_bits() }
}

fn near(x: f64) -> u32 {
    f64_to_f32(x, Round::Near)
}

fn zero(x: f64) -> u32 {
    f64_to_f32(x, Round::Zero)
}

type Found32 = (crate::ir::Fn32, u8);

fn exact32(op: &str, nan: bool) -> Option<Found32> {
    Some(match op {
        "add" => (narrow!(|a, b| bits(f(a) + f(b))), 2),
        "sub" => (narrow!(|a, b| bits(f(a) - f(b))), 2),
        "mul" => (narrow!(|a, b| bits(f(a) * f(b))), 2),
        "fma" | "mad" => (narrow!(|a, b, c| near(fused(d(a), d(b), d(c)))), 3),
        "div" => (narrow!(|a, b| bits(f(a) / f(b))), 2),
        "rcp" => (narrow!(|a| bits(1.0 / f(a))), 1),
        "sqrt" => (narrow!(|a| bits(f(a).sqrt())), 1),
        "neg" => (narrow!(|a| a ^ 0x8000_0000), 1),
        "abs" => (narrow!(|a| a & 0x7FFF_FFFF), 1),
        "copysign" => (narrow!(|a, b| a & 0x8000_0000 | b & 0x7FFF_FFFF), 2),
        "min" if nan => (narrow!(|a, b| near(minimum_nan(d(a), d(b)))), 2),
        "min" => (narrow!(|a, b| near(minimum(d(a), d(b)))), 2),
        "max" if nan => (narrow!(|a, b| near(maximum_nan(d(a), d(b)))), 2),
        "max" => (narrow!(|a, b| near(maximum(d(a), d(b)))), 2),
        _ => return None,
    })
}

fn toward_zero(op: &str) -> Option<Found32> {
    Some(match op {
        "add" => (narrow!(|a, b| zero(sum_to_odd(d(a), d(b)))), 2),
        "sub" => (narrow!(|a, b| zero(sum_to_odd(d(a), -d(b)))), 2),
        "mul" => (narrow!(|a, b| zero(d(a) * d(b))), 2),
        "fma" | "mad" => (narrow!(|a, b, c| zero(fused(d(a), d(b), d(c)))), 3),
        _ => return None,
    })
}

fn approximation(op: &str) -> Option<Found32> {
    Some(match op {
        "ex2" => (narrow!(|a| near(d(a).exp2())), 1),
        "lg2" => (narrow!(|a| near(d(a).log2())), 1),
        "rcp" => (narrow!(|a| near(1.0 / d(a))), 1),
        "rsqrt" => (narrow!(|a| near(1.0 / d(a).sqrt())), 1),
        "sqrt" => (narrow!(|a| near(d(a).sqrt())), 1),
        "sin" => (narrow!(|a| near(d(a).sin())), 1),
        "cos" => (narrow!(|a| near(d(a).cos())), 1),
        "tanh" => (narrow!(|a| near(d(a).tanh())), 1),
        "div" => (narrow!(|a, b| near(d(a) / d(b))), 2),
        _ => return None,
    })
}

fn exact64(op: &str) -> Option<(Lanes, u8)> {
    let (f, sources) = match op {
        "add" => (wide!(|a, b| (g(a) + g(b)).to_bits()), 2),
        "sub" => (wide!(|a, b| (g(a) - g(b)).to_bits()), 2),
        "mul" => (wide!(|a, b| (g(a) * g(b)).to_bits()), 2),
        "fma" => (wide!(|a, b, c| g(a).mul_add(g(b), g(c)).to_bits()), 3),
        "div" => (wide!(|a, b| (g(a) / g(b)).to_bits()), 2),
        "rcp" => (wide!(|a| (1.0 / g(a)).to_bits()), 1),
        "sqrt" => (wide!(|a| g(a).sqrt().to_bits()), 1),
        "neg" => (wide!(|a| (-g(a)).to_bits()), 1),
        "abs" => (wide!(|a| g(a).abs().to_bits()), 1),
        "min" => (wide!(|a, b| minimum(g(a), g(b)).to_bits()), 2),
        "max" => (wide!(|a, b| maximum(g(a), g(b)).to_bits()), 2),
        _ => return None,
    };
    Some((Wide(f), sources))
}

/// What the 16-bit formats can do, on doubles; each result is rounded once afterwards.
#[derive(Clone, Copy)]
enum Sixteen {
    Add,
    Sub,
    Mul,
    Fma,
    Min,
    Max,
    MinNan,
    MaxNan,
}

impl Sixteen {
    fn apply(self, a: f64, b: f64, c: f64) -> f64 {
        match self {
            Self::Add => sum_to_odd(a, b),
            Self::Sub => sum_to_odd(a, -b),
            Self::Mul => a * b,
            Self::Fma => fused(a, b, c),
            Self::Min => minimum(a, b),
            Self::Max => maximum(a, b),
            Self::MinNan => minimum_nan(a, b),
            Self::MaxNan => maximum_nan(a, b),
        }
    }
}

/// One or two values of 16 bits in a register, by the operation.
type Table16 = fn(Sixteen) -> crate::ir::Fn32;

fn sixteen_bits(op: &str, nan: bool, tables: [Table16; 2], pair: bool) -> Option<Found32> {
    let ones: u32 = if pair { 0x8000_8000 } else { 0x8000 };
    let (operation, sources) = match op {
        "neg" if ones == 0x8000 => return Some((narrow!(|a| (a ^ 0x8000) & 0xFFFF), 1)),
        "neg" => return Some((narrow!(|a| a ^ 0x8000_8000), 1)),
        "abs" if ones == 0x8000 => return Some((narrow!(|a| a & 0x7FFF), 1)),
        "abs" => return Some((narrow!(|a| a & 0x7FFF_7FFF), 1)),
        "add" => (Sixteen::Add, 2),
        "sub" => (Sixteen::Sub, 2),
        "mul" => (Sixteen::Mul, 2),
        "fma" => (Sixteen::Fma, 3),
        "min" if nan => (Sixteen::MinNan, 2),
        "min" => (Sixteen::Min, 2),
        "max" if nan => (Sixteen::MaxNan, 2),
        "max" => (Sixteen::Max, 2),
        _ => return None,
    };
    Some((tables[usize::from(pair)](operation), sources))
}

macro_rules! table16 {
    ($one:ident, $pair:ident, $load:ident, $store:ident) => {
        fn $one(operation: Sixteen) -> crate::ir::Fn32 {
            macro_rules! on {
                ($op:ident) => {
                    narrow!(|a, b, c| {
                        let x = |bits: u32| f64::from($load(bits as u16));
                        u32::from($store(Sixteen::$op.apply(x(a), x(b), x(c)), Round::Near))
                    })
                };
            }
            pick16!(operation, on)
        }

        fn $pair(operation: Sixteen) -> crate::ir::Fn32 {
            macro_rules! on {
                ($op:ident) => {
                    narrow!(|a, b, c| {
                        let half = |shift: u32| {
                            let x = |bits: u32| f64::from($load((bits >> shift) as u16));
                            let value = Sixteen::$op.apply(x(a), x(b), x(c));
                            u32::from($store(value, Round::Near)) << shift
                        };
                        half(0) | half(16)
                    })
                };
            }
            pick16!(operation, on)
        }
    };
}

/// A function pointer for each operation: the choice is made once, when the kernel is decoded.
macro_rules! pick16 {
    ($operation:expr, $on:ident) => {
        match $operation {
            Sixteen::Add => $on!(Add),
            Sixteen::Sub => $on!(Sub),
            Sixteen::Mul => $on!(Mul),
            Sixteen::Fma => $on!(Fma),
            Sixteen::Min => $on!(Min),
            Sixteen::Max => $on!(Max),
            Sixteen::MinNan => $on!(MinNan),
            Sixteen::MaxNan => $on!(MaxNan),
        }
    };
}
table16!(f16_one, f16_pair, f16_to_f32, f64_to_f16);
table16!(bf16_one, bf16_pair, bf16_to_f32, f64_to_bf16);
