// rms_norm.wgsl for rows of whole quads, WX of them a thread at most: each number is read once.

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
    let start = row * p.dim / 4u + t;
    var square = 0.0;
    //: repeat 8
    var x_REPEAT = vec4<f32>();
    if (REPEAT < WX && t + REPEAT * GROUP < p.dim / 4u) {
        x_REPEAT = vec4<f32>(inp[p.inp_at / 4u + start + REPEAT * GROUP]);
    }
    square = square + dot(x_REPEAT, x_REPEAT);
    //: end
    let r = 1.0 / sqrt(sum_all(square, t) / f32(p.dim) + p.eps);
    if (t == 0u) {
        rstd[p.rstd_at + row] = r;
    }
    //: repeat 8
    if (REPEAT < WX && t + REPEAT * GROUP < p.dim / 4u) {
        let w = weight_quad(p.w_at / 4u + t + REPEAT * GROUP);
        out[p.out_at / 4u + start + REPEAT * GROUP] = as_out(x_REPEAT * r * w);
    }
    //: end
}

// dinp (n,C) += rstd · (g - x̂ · mean(g · x̂)), g = dout · weight, x̂ = inp · rstd
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let row = group_index(wid, groups);
    if (row >= p.rows) {
        return;
    }
    let start = row * p.dim / 4u + t;
    let r = rstd[p.rstd_at + row];
    var part = 0.0;
    //: repeat 8
    var g_REPEAT = vec4<f32>();
    var n_REPEAT = vec4<f32>();
    if (REPEAT < WX && t + REPEAT * GROUP < p.dim / 4u) {
        let w = weight_quad(p.w_at / 4u + t + REPEAT * GROUP);
        g_REPEAT = vec4<f32>(dout[p.dout_at / 4u + start + REPEAT * GROUP]) * w;
        n_REPEAT = vec4<f32>(inp[p.inp_at / 4u + start + REPEAT * GROUP]) * r;
    }
    part = part + dot(g_REPEAT, n_REPEAT);
    //: end
    let mean = sum_all(part, t) / f32(p.dim);
    //: repeat 8
    if (REPEAT < WX && t + REPEAT * GROUP < p.dim / 4u) {
        let to = p.dinp_at / 4u + start + REPEAT * GROUP;
        dinp[to] = as_dinp(vec4<f32>(dinp[to]) + r * (g_REPEAT - n_REPEAT * mean));
    }
    //: end
}
