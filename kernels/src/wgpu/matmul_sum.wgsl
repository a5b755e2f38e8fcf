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
    // Four loads at a time are under way.
    for (var slice = 0u; slice < p.slices; slice = slice + 4u) {
        //: repeat 4
        let x_REPEAT = a[p.a_at + min(slice + REPEAT, p.slices - 1u) * p.m * p.n + i];
        //: end
        //: repeat 4
        y = y + select(0.0, x_REPEAT, slice + REPEAT < p.slices);
        //: end
    }
    y = p.alpha * y;
    let at = p.out_at + i / p.n * p.out_row + i % p.n;
    if (p.add == 1u) {
        y = f32(out[at]) + y;
    }
    out[at] = as_out(y);
}
