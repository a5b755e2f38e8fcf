//! Comparisons: from a name to a function that gives one bit a lane.

use crate::float::{bf16_to_f32, f16_to_f32};
use crate::ir::{FnSet32, FnSet64, L32, L64, Ty};
use std::cmp::Ordering;

macro_rules! compare {
    ($file:ty, |$a:ident, $b:ident| $body:expr) => {
        |left: &$file, right: &$file| -> u32 {
            let mut out = 0;
            for lane in 0..32 {
                let ($a, $b) = (left[lane], right[lane]);
                out |= u32::from($body) << lane;
            }
            out
        }
    };
}

/// The ordered comparisons on a type, after a conversion of the bits.
macro_rules! by_name {
    ($file:ty, $op:expr, $convert:expr) => {
        match $op {
            "eq" => compare!($file, |a, b| $convert(a) == $convert(b)),
            "ne" => compare!($file, |a, b| $convert(a) != $convert(b)),
            "lt" | "lo" => compare!($file, |a, b| $convert(a) < $convert(b)),
            "le" | "ls" => compare!($file, |a, b| $convert(a) <= $convert(b)),
            "gt" | "hi" => compare!($file, |a, b| $convert(a) > $convert(b)),
            "ge" | "hs" => compare!($file, |a, b| $convert(a) >= $convert(b)),
            _ => return None,
        }
    };
}

/// Floats: `eq … ge` are false where a NaN takes part, `equ … geu` are true.
macro_rules! float_by_name {
    ($file:ty, $op:expr, $convert:expr) => {
        match $op {
            "eq" => compare!($file, |a, b| $convert(a) == $convert(b)),
            "ne" => compare!($file, |a, b| {
                let (a, b) = ($convert(a), $convert(b));
                a.partial_cmp(&b).is_some_and(Ordering::is_ne)
            }),
            "lt" => compare!($file, |a, b| $convert(a) < $convert(b)),
            "le" => compare!($file, |a, b| $convert(a) <= $convert(b)),
            "gt" => compare!($file, |a, b| $convert(a) > $convert(b)),
            "ge" => compare!($file, |a, b| $convert(a) >= $convert(b)),
            "equ" => compare!($file, |a, b| {
                let (a, b) = ($convert(a), $convert(b));
                a.partial_cmp(&b).is_none_or(Ordering::is_eq)
            }),
            "neu" => compare!($file, |a, b| $convert(a) != $convert(b)),
            "ltu" => compare!($file, |a, b| !($convert(a) >= $convert(b))),
            "leu" => compare!($file, |a, b| !($convert(a) > $convert(b))),
            "gtu" => compare!($file, |a, b| !($convert(a) <= $convert(b))),
            "geu" => compare!($file, |a, b| !($convert(a) < $convert(b))),
            "num" => compare!($file, |a, b| !$convert(a).is_nan() && !$convert(b).is_nan()),
            "nan" => compare!($file, |a, b| $convert(a).is_nan() || $convert(b).is_nan()),
            _ => return None,
        }
    };
}

/// Comparison `op` of a type that lives in the 32-bit file.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(crate) fn narrow(op: &str, ty: Ty) -> Option<FnSet32> {
    Some(match ty {
        Ty::U32 | Ty::B32 => by_name!(L32, op, |x: u32| x),
        Ty::S32 => by_name!(L32, op, |x: u32| x as i32),
        Ty::U16 | Ty::B16 => by_name!(L32, op, |x: u32| x as u16),
        Ty::S16 => by_name!(L32, op, |x: u32| x as i16),
        Ty::F32 => float_by_name!(L32, op, |x: u32| f32::from_bits(x)),
        Ty::F16 => float_by_name!(L32, op, |x: u32| f16_to_f32(x as u16)),
        Ty::Bf16 => float_by_name!(L32, op, |x: u32| bf16_to_f32(x as u16)),
        _ => return None,
    })
}

/// Comparison `op` of a 64-bit type.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
pub(crate) fn wide(op: &str, ty: Ty) -> Option<FnSet64> {
    Some(match ty {
        Ty::U64 | Ty::B64 => by_name!(L64, op, |x: u64| x),
        Ty::S64 => by_name!(L64, op, |x: u64| x as i64),
        Ty::F64 => float_by_name!(L64, op, |x: u64| f64::from_bits(x)),
        _ => return None,
    })
}
