//! Rotary tables: the cosine and sine of every position and frequency, made on the host.
//!
//! Convention: a head's D numbers are two halves, as Hugging Face stores them: number j is rotated
//! with number j + D/2 by the angle position · frequency(j). Formulas: Su et al. 2021 (RoFormer);
//! scaling as in transformers' `modeling_rope_utils`. Frequencies and angles are rounded to f32, as
//! transformers does even in float64 models, so that long positions agree.

use alloc::vec::Vec;
use core::f64::consts::PI;

use crate::config::{Config, RopeScaling};

/// Frequencies (D/2) for sequences of `len` positions.
pub fn frequencies(config: &Config, len: u32) -> Vec<f32> {
    let d = f64::from(config.head_dim);
    let theta = match config.rope.scaling {
        RopeScaling::Dynamic { factor, original_max } if len > original_max => {
            let stretch = factor * f64::from(len) / f64::from(original_max) - (factor - 1.0);
            config.rope.theta * libm::pow(stretch, d / (d - 2.0))
        }
        _ => config.rope.theta,
    };
    let base = |j: u32| (1.0 / libm::pow(theta, f64::from(2 * j) / d)) as f32;
    (0..config.head_dim / 2).map(|j| scale(config.rope.scaling, base(j))).collect()
}

fn scale(scaling: RopeScaling, freq: f32) -> f32 {
    match scaling {
        RopeScaling::Default | RopeScaling::Dynamic { .. } => freq,
        RopeScaling::Linear { factor } => freq / factor as f32,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max } => {
            let original = f64::from(original_max);
            let wavelength = 2.0 * PI / f64::from(freq);
            if wavelength < original / high_freq_factor {
                return freq;
            }
            if wavelength > original / low_freq_factor {
                return freq / factor as f32;
            }
            let ramp =
                (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let freq = f64::from(freq);
            ((1.0 - ramp) * freq / factor + ramp * freq) as f32
        }
    }
}

/// Whether the table depends on the longest sequence of a batch (dynamic scaling, long batch).
pub fn depends_on_length(config: &Config, len: u32) -> bool {
    matches!(config.rope.scaling, RopeScaling::Dynamic { original_max, .. } if len > original_max)
}

/// table (P, D): row p holds D/2 cosines, then D/2 sines, for P = `positions` and the frequencies
/// that sequences of `len` positions use.
pub fn table(config: &Config, positions: u32, len: u32) -> Vec<f32> {
    let frequencies = frequencies(config, len);
    let mut table = Vec::with_capacity(positions as usize * config.head_dim as usize);
    for p in 0..positions {
        let angles = frequencies.iter().map(|&f| f64::from(p as f32 * f));
        table.extend(angles.clone().map(|a| libm::cos(a) as f32));
        table.extend(angles.map(|a| libm::sin(a) as f32));
    }
    table
}
