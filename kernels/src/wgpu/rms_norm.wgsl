// out (n,C) = inp · rstd · weight; rstd (n) = 1 / sqrt(mean(inp²) + eps). One workgroup a row.

struct P {
    first_group: u32,
    out_at: u32,
    rstd_at: u32,
    inp_at: u32,
    w_at: u32,
    dinp_at: u32,
    dweight_at: u32,
    dout_at: u32,
    dim: u32,
    rows: u32,
    eps: f32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let row = group_index(wid, groups);
    if (row >= p.rows) {
        return;
    }
    let start = row * p.dim;
    var square = 0.0;
    for (var j = t; j < p.dim; j = j + GROUP) {
        let x = f32(inp[p.inp_at + start + j]);
        square = square + x * x;
    }
    let r = 1.0 / sqrt(sum_all(square, t) / f32(p.dim) + p.eps);
    if (t == 0u) {
        rstd[p.rstd_at + row] = r;
    }
    for (var j = t; j < p.dim; j = j + GROUP) {
        let x = f32(inp[p.inp_at + start + j]);
        out[p.out_at + start + j] = as_out(x * r * weight_at(p.w_at + j));
    }
}

// dinp (n,C) += rstd · (g - x̂ · mean(g · x̂)), g = dout · weight, x̂ = inp · rstd
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let row = group_index(wid, groups);
    if (row >= p.rows) {
        return;
    }
    let start = row * p.dim;
    let r = rstd[p.rstd_at + row];
    var part = 0.0;
    for (var j = t; j < p.dim; j = j + GROUP) {
        let g = f32(dout[p.dout_at + start + j]) * weight_at(p.w_at + j);
        part = part + g * f32(inp[p.inp_at + start + j]) * r;
    }
    let mean = sum_all(part, t) / f32(p.dim);
    for (var j = t; j < p.dim; j = j + GROUP) {
        let g = f32(dout[p.dout_at + start + j]) * weight_at(p.w_at + j);
        let normed = f32(inp[p.inp_at + start + j]) * r;
        let to = p.dinp_at + start + j;
        dinp[to] = as_dinp(f32(dinp[to]) + r * (g - normed * mean));
    }
}

// dweight (C) += Σ_rows dout · x̂: 16 channels a workgroup, each by 16 threads, which take every 16th row
// and then are summed in their order
@compute @workgroup_size(256)
fn backward_weight(@builtin(workgroup_id) wid: vec3<u32>,
                   @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) t: u32) {
    let c = group_index(wid, groups) * 16u + t % 16u;
    var sum = 0.0;
    if (c < p.dim) {
        for (var row = t / 16u; row < p.rows; row = row + 16u) {
            let at = row * p.dim + c;
            sum = sum + f32(dout[p.dout_at + at]) * (f32(inp[p.inp_at + at]) * rstd[p.rstd_at + row]);
        }
    }
    reduced[t] = sum;
    workgroupBarrier();
    if (t < 16u && c < p.dim) {
        for (var other = t + 16u; other < GROUP; other = other + 16u) {
            sum = sum + reduced[other];
        }
        dweight[p.dweight_at + c] = as_dweight(f32(dweight[p.dweight_at + c]) + sum);
    }
}
