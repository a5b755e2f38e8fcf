// Sums and maxima over a workgroup, in memory: the plain tier.

// The sum of every thread's x, the same for all; a tree whose shape is fixed.
fn sum_all(x: f32, t: u32) -> f32 {
    reduced[t] = x;
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half = half / 2u) {
        if (t < half) {
            reduced[t] = reduced[t] + reduced[t + half];
        }
        workgroupBarrier();
    }
    let sum = reduced[0];
    workgroupBarrier();
    return sum;
}

// The largest of every thread's x.
fn max_all(x: f32, t: u32) -> f32 {
    reduced[t] = x;
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half = half / 2u) {
        if (t < half) {
            reduced[t] = max(reduced[t], reduced[t + half]);
        }
        workgroupBarrier();
    }
    let most = reduced[0];
    workgroupBarrier();
    return most;
}
