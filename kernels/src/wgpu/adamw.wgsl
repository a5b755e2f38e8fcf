// AdamW (Loshchilov & Hutter 2019), in PyTorch's order of operations.

struct P {
    first_group: u32,
    param_at: u32,
    grad_at: u32,
    m_at: u32,
    v_at: u32,
    len: u32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    rate: f32,
    eps: f32,
    root: f32,
    scale: f32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn step(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let g = grad[p.grad_at + i] * p.scale;
        let first = p.beta1 * moment1[p.m_at + i] + p.rest1 * g;
        let second = p.beta2 * moment2[p.v_at + i] + p.rest2 * g * g;
        moment1[p.m_at + i] = first;
        moment2[p.v_at + i] = second;
        let x = param[p.param_at + i] * p.keep;
        param[p.param_at + i] = x - p.rate * first / (sqrt(second) / p.root + p.eps);
    }
}
