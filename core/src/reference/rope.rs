//! Rotary positions: halves (x₀, x₁) of each head become (x₀·cos - x₁·sin, x₁·cos + x₀·sin).

use super::Real;

/// Rotates x (n,heads,D) by table (P,D) = [cos | sin]; `direction` -1 turns it back.
pub(super) fn rotate<T: Real>(
    x: &mut [T],
    table: &[T],
    head_dim: usize,
    positions: &[u32],
    direction: T,
) {
    if positions.is_empty() {
        return;
    }
    let (half, width) = (head_dim / 2, x.len() / positions.len());
    for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
        let (cos, sin) = table[position as usize * head_dim..][..head_dim].split_at(half);
        for head in row.chunks_exact_mut(head_dim) {
            let (lower, upper) = head.split_at_mut(half);
            for j in 0..half {
                let (x0, x1, sin) = (lower[j], upper[j], direction * sin[j]);
                lower[j] = x0 * cos[j] - x1 * sin;
                upper[j] = x1 * cos[j] + x0 * sin;
            }
        }
    }
}
