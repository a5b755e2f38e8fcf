// out (M,N) = alpha · Σ of matmul.wgsl's slices, in their order [+ out]. One thread a number.

struct P {
    first_group: u32,
    a_at: u32,
    out_at: u32,
    m: u32,
    n: u32,
    out_row: u32,
    alpha: f32,
    // 1: added to out.
    add: u32,
    slices: u32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn sum(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i >= p.m * p.n) {
        return;
    }
    var y = 0.0;
    for (var slice = 0u; slice < p.slices; slice = slice + 1u) {
        y = y + a[p.a_at + slice * p.m * p.n + i];
    }
    y = p.alpha * y;
    let at = p.out_at + i / p.n * p.out_row + i % p.n;
    if (p.add == 1u) {
        y = out[at] + y;
    }
    out[at] = y;
}
