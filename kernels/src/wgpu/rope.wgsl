// Halves (x₀, x₁) of each head become (x₀·cos - x₁·sin, x₁·cos + x₀·sin), sin times `direction`.

struct P {
    first_group: u32,
    x_at: u32,
    table_at: u32,
    positions: u32,
    // Pairs in all, pairs of a row, and half a head.
    len: u32,
    row_pairs: u32,
    half: u32,
    direction: f32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn rotate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let j = i % p.half;
        let angles = p.table_at + batch[p.positions + i / p.row_pairs] * 2u * p.half + j;
        let cosine = angle[angles];
        let sine = p.direction * angle[angles + p.half];
        let at = p.x_at + (i / p.half) * 2u * p.half + j;
        let x0 = f32(x[at]);
        let x1 = f32(x[at + p.half]);
        x[at] = as_x(x0 * cosine - x1 * sine);
        x[at + p.half] = as_x(x1 * cosine + x0 * sine);
    }
}
