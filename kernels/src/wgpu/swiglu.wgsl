// out = silu(gate) · up, silu(x) = x / (1 + exp(-x))

struct P {
    first_group: u32,
    out_at: u32,
    dgate_at: u32,
    dout_at: u32,
    gate_at: u32,
    up_at: u32,
    len: u32,
}

const GROUP: u32 = 256u;

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp_(-x));
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let x = f32(gate[p.gate_at + i]);
        out[p.out_at + i] = as_out(x * sigmoid(x) * f32(up[p.up_at + i]));
    }
}

// dgate = dout · up · silu'(gate); out (dup, may be dout itself) = dout · silu(gate)
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let x = f32(gate[p.gate_at + i]);
        let s = sigmoid(x);
        let d = f32(dout[p.dout_at + i]);
        dgate[p.dgate_at + i] = as_dgate(d * f32(up[p.up_at + i]) * s * (1.0 + x * (1.0 - s)));
        out[p.out_at + i] = as_out(d * x * s);
    }
}
