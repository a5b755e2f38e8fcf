// out (N,C) = table (V,C) at tokens (N); dtable (V,C) += dout (N,C) at tokens (N)

struct P {
    first_group: u32,
    out_at: u32,
    w_at: u32,
    dout_at: u32,
    dim: u32,
    len: u32,
    // Where the batch's tables begin.
    tokens: u32,
    firsts: u32,
    order: u32,
    // The table's rows in this buffer (a large table is cut over several).
    first_row: u32,
    part_rows: u32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let token = batch[p.tokens + i / p.dim];
        if (token >= p.first_row && token - p.first_row < p.part_rows) {
            let at = (token - p.first_row) * p.dim + i % p.dim;
            out[p.out_at + i] = as_out(weight_at(p.w_at + at));
        }
    }
}

// One thread for a distinct token and a channel: it adds the token's rows in their order.
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let distinct = i / p.dim;
        let c = i % p.dim;
        let first = batch[p.firsts + distinct];
        let last = batch[p.firsts + distinct + 1u];
        let to = p.out_at + batch[p.tokens + batch[p.order + first]] * p.dim + c;
        var sum = f32(out[to]);
        for (var o = first; o < last; o = o + 1u) {
            sum = sum + f32(dout[p.dout_at + batch[p.order + o] * p.dim + c]);
        }
        out[to] = as_out(sum);
    }
}
