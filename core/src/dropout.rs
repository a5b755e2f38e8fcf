//! The dropout mask as a pure function, shared by every back-end.

use crate::backend::Dropout;
use crate::philox::philox4x32_10;

/// The random words of channels 4·`quad`..4·`quad`+4 of a row whose prefix hashes to `hash`:
/// Philox with the counter (hash, step, quad) and the key (seed, its upper half mixed with the
/// stream).
pub fn keep_words(d: &Dropout, hash: u64, quad: u32) -> [u32; 4] {
    let counter = [hash as u32, (hash >> 32) as u32, d.step, quad];
    philox4x32_10(counter, [d.seed as u32, (d.seed >> 32) as u32 ^ d.stream.0])
}

/// A channel is kept if its word is at least this.
pub fn threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

/// What a kept value is multiplied by.
pub fn keep_scale(p: f32) -> f32 {
    1.0 / (1.0 - p)
}
