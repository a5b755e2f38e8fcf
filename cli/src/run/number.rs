//! Floating-point numbers in JSON, which has no NaN: a number that is none is written as `null` and
//! read back as NaN, never as 0.

use serde::{Deserialize, Deserializer, Serializer};

/// For `#[serde(with = "number")]`.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_none() }
}

/// For `#[serde(with = "number")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
