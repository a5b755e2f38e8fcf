//! Number formats and roundings as the hardware defines them, on bits.

/// How a result that does not fit is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// To nearest, ties to even.
    Near,
    /// To nearest, ties away from zero (`.rna`, tf32 only).
    NearAway,
    /// Toward zero.
    Zero,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
}

/// NaN as the hardware writes it.
pub(crate) const NAN_F32: u32 = 0x7FFF_FFFF;
const NAN_16: u16 = 0x7FFF;

/// bf16 bits to f32: exact.
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f16 bits to f32: exact.
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 31;
    let fraction = u32::from(bits) & 0x3FF;
    let magnitude = match exponent {
        // Subnormal: the fraction counts units of 2^-24.
        0 => ((fraction as f32) * f32::from_bits(0x3380_0000)).to_bits(),
        31 => 0x7F80_0000 | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// A double to a format with `mantissa` stored bits and exponents `min_exp..=max_exp` (of normal
/// numbers), as (sign, biased exponent, fraction): one rounding, subnormals included.
fn encode(x: f64, mantissa: u32, bias: i32, round: Round) -> u32 {
    let bits = x.to_bits();
    let negative = bits >> 63 == 1;
    let exponent_bits = match (mantissa, bias) {
        (10, 15) => 5,
        _ => 8,
    };
    let sign = u32::from(negative) << (mantissa + exponent_bits);
    let infinity = ((1 << exponent_bits) - 1) << mantissa;
    if x.is_nan() {
        return (1 << (mantissa + exponent_bits)) - 1;
    }
    if x.is_infinite() {
        return sign | infinity;
    }
    if x == 0.0 {
        return sign;
    }
    let raw = ((bits >> 52) & 0x7FF) as i32;
    // A subnormal double is far below every target format: any exponent there will do.
    let exponent = if raw == 0 { -1022 } else { raw - 1023 };
    let significand = (bits & ((1 << 52) - 1)) | if raw == 0 { 0 } else { 1 << 52 };
    // Bits to drop: 52 - mantissa for normal results, more for subnormal ones.
    let below_normal = (1 - bias - exponent).max(0) as u32;
    let drop = (52 - mantissa + below_normal).min(60);
    let kept = significand >> drop;
    let rest = significand & ((1 << drop) - 1);
    let half = 1_u64 << (drop - 1);
    let up = match round {
        Round::Near => rest > half || (rest == half && kept & 1 == 1),
        Round::NearAway => rest >= half,
        Round::Zero => false,
        Round::Down => negative && rest != 0,
        Round::Up => !negative && rest != 0,
    };
    let kept = (kept + u64::from(up)) as u32;
    // Adding the exponent field lets a carry out of the fraction raise the exponent by itself.
    let biased = if below_normal > 0 { 0 } else { (exponent + bias - 1) as u32 };
    let magnitude = (u64::from(biased) << mantissa) + u64::from(kept);
    if magnitude >= u64::from(infinity) {
        let toward_zero = match round {
            Round::Near | Round::NearAway => false,
            Round::Zero => true,
            Round::Down => !negative,
            Round::Up => negative,
        };
        return sign | if toward_zero { infinity - 1 } else { infinity };
    }
    sign | magnitude as u32
}

/// A double to bf16 bits, one rounding.
pub(crate) fn f64_to_bf16(x: f64, round: Round) -> u16 {
    if x.is_nan() { NAN_16 } else { encode(x, 7, 127, round) as u16 }
}

/// A double to f16 bits, one rounding.
pub(crate) fn f64_to_f16(x: f64, round: Round) -> u16 {
    if x.is_nan() { NAN_16 } else { encode(x, 10, 15, round) as u16 }
}

/// A double to f32 bits, one rounding.
pub(crate) fn f64_to_f32(x: f64, round: Round) -> u32 {
    if x.is_nan() {
        NAN_F32
    } else if round == Round::Near {
        (x as f32).to_bits()
    } else {
        encode(x, 23, 127, round)
    }
}

/// f32 to bf16 bits, to nearest even: the fast way for the common case.
pub(crate) fn f32_to_bf16(x: f32) -> u16 {
    if x.is_nan() {
        return NAN_16;
    }
    let bits = x.to_bits();
    ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
}

/// f32 to tf32 (10 fraction bits in an f32), as `cvt.rna.tf32.f32` does it.
pub(crate) fn f32_to_tf32(x: f32) -> u32 {
    if x.is_nan() {
        return NAN_F32;
    }
    let bits = x.to_bits();
    if x.is_infinite() { bits } else { (bits + 0x1000) & !0x1FFF }
}

/// Subnormal f32 to zero of the same sign.
pub(crate) fn flush(bits: u32) -> u32 {
    if bits & 0x7F80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

/// f32 to [0, 1]; NaN becomes +0.
pub(crate) fn saturate(bits: u32) -> u32 {
    let x = f32::from_bits(bits);
    if x > 0.0 { x.min(1.0).to_bits() } else { 0 }
}

/// `a + b` in doubles, with the last bit telling that something was lost ("round to odd"). Rounding
/// that to f32 or a narrower format is then the same as rounding the exact sum once.
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() || sum == 0.0 {
        return sum;
    }
    let part = sum - a;
    let lost = (a - (sum - part)) + (b - part);
    if lost == 0.0 {
        return sum;
    }
    let bits = sum.to_bits();
    let too_far = (lost > 0.0) != (sum > 0.0);
    f64::from_bits((if too_far { bits - 1 } else { bits }) | 1)
}

/// `a · b + c` of values whose product is exact in a double, ready for one rounding.
pub(crate) fn fused(a: f64, b: f64, c: f64) -> f64 {
    sum_to_odd(a * b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> impl Iterator<Item = f32> {
        let mut state = 0x9E37_79B9_u32;
        let edges =
            [0.0, -0.0, 1.0, -1.0, 65504.0, 65519.9, 65520.0, 1e-8, 5.96e-8, 2.98e-8, 3.4e38]
                .into_iter()
                .chain([f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45]);
        edges.chain((0..200_000).map(move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(state)
        }))
    }

    #[test]
    fn sixteen_bit_roundings_are_those_of_the_half_crate() {
        for x in samples().filter(|x| !x.is_nan()) {
            let bf16 = half::bf16::from_f32(x).to_bits();
            assert_eq!(f32_to_bf16(x), bf16, "{x:e}");
            assert_eq!(f64_to_bf16(f64::from(x), Round::Near), bf16, "{x:e}");
            let f16 = half::f16::from_f32(x).to_bits();
            assert_eq!(f64_to_f16(f64::from(x), Round::Near), f16, "{x:e}");
        }
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn nan_is_the_hardware_nan() {
        assert_eq!(f32_to_bf16(f32::NAN), 0x7FFF);
        assert_eq!(f64_to_f16(f64::NAN, Round::Near), 0x7FFF);
        assert_eq!(f64_to_f32(f64::NAN, Round::Zero), 0x7FFF_FFFF);
    }

    #[test]
    fn directed_roundings_bracket_the_value() {
        for x in samples().filter(|x| x.is_finite()) {
            let value = f64::from(x);
            let down = f64::from(bf16_to_f32(f64_to_bf16(value, Round::Down)));
            let up = f64::from(bf16_to_f32(f64_to_bf16(value, Round::Up)));
            let zero = f64::from(bf16_to_f32(f64_to_bf16(value, Round::Zero)));
            assert!(down <= value && value <= up, "{x:e}");
            assert_eq!(zero, if value < 0.0 { up } else { down }, "{x:e}");
        }
    }

    #[test]
    fn truncation_to_bf16_keeps_the_upper_half() {
        for x in samples().filter(|x| x.is_finite()) {
            assert_eq!(f64_to_bf16(f64::from(x), Round::Zero), (x.to_bits() >> 16) as u16, "{x:e}");
        }
    }

    #[test]
    fn f32_roundings_agree_with_rust() {
        for x in samples().filter(|x| x.is_finite()) {
            let wide = f64::from(x) * 1.000_000_03;
            assert_eq!(encode(wide, 23, 127, Round::Near), (wide as f32).to_bits(), "{wide:e}");
        }
    }

    #[test]
    fn a_sum_is_rounded_once() {
        // 1 + 2^-24 is a tie in f32; the 2^-70 beyond it must decide, though a double loses it.
        let (one, tie, tiny) = (1.0, 2.0_f64.powi(-24), 2.0_f64.powi(-70));
        assert_eq!((one + tie + tiny) as f32, 1.0, "a plain double sum loses it");
        let exact = sum_to_odd(one + tie, tiny);
        assert_eq!(f32::from_bits(f64_to_f32(exact, Round::Near)), 1.0 + f32::EPSILON);
        let below = sum_to_odd(one + tie, -tiny);
        assert_eq!(f32::from_bits(f64_to_f32(below, Round::Near)), 1.0);
    }

    #[test]
    fn tf32_rounds_ties_away_from_zero() {
        let tie = 1.0 + 2.0_f32.powi(-11);
        assert_eq!(f32::from_bits(f32_to_tf32(tie)), 1.0 + 2.0_f32.powi(-10));
        assert_eq!(f32::from_bits(f32_to_tf32(-tie)), -1.0 - 2.0_f32.powi(-10));
        assert_eq!(f32::from_bits(f32_to_tf32(1.0 + 2.0_f32.powi(-12))), 1.0);
    }
}
