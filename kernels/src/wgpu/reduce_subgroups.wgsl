// Sums and maxima over a workgroup by subgroups. Every entry point sets these first.

var<private> lane: u32;
var<private> subgroup: u32;
var<private> subgroups: u32;

// The sum of every thread's x, the same for all: subgroups in their order, each in the device's own.
fn sum_all(x: f32, t: u32) -> f32 {
    let part = subgroupAdd(x);
    if (lane == 0u) {
        reduced[subgroup] = part;
    }
    workgroupBarrier();
    var sum = reduced[0];
    for (var s = 1u; s < subgroups; s = s + 1u) {
        sum = sum + reduced[s];
    }
    workgroupBarrier();
    return sum;
}

// The largest of every thread's x.
fn max_all(x: f32, t: u32) -> f32 {
    let part = subgroupMax(x);
    if (lane == 0u) {
        reduced[subgroup] = part;
    }
    workgroupBarrier();
    var most = reduced[0];
    for (var s = 1u; s < subgroups; s = s + 1u) {
        most = max(most, reduced[s]);
    }
    workgroupBarrier();
    return most;
}
