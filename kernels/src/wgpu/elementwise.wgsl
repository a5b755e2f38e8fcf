// dst = value | a | a + b | dst + scale · a; rows moved by the batch's tables; Σ x².

struct P {
    first_group: u32,
    dst_at: u32,
    a_at: u32,
    b_at: u32,
    len: u32,
    scale: f32,
    dim: u32,
    table: u32,
    stride: u32,
}

const GROUP: u32 = 256u;

@compute @workgroup_size(256)
fn fill(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        dst[p.dst_at + i] = as_dst(p.scale);
    }
}

@compute @workgroup_size(256)
fn copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        dst[p.dst_at + i] = as_dst(f32(a[p.a_at + i]));
    }
}

@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        dst[p.dst_at + i] = as_dst(f32(a[p.a_at + i]) + f32(b[p.b_at + i]));
    }
}

@compute @workgroup_size(256)
fn accumulate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        dst[p.dst_at + i] = as_dst(f32(dst[p.dst_at + i]) + p.scale * f32(a[p.a_at + i]));
    }
}

// dst (M,dim) = a (N,dim) at the rows of the table
@compute @workgroup_size(256)
fn gather_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let row = batch[p.table + (i / p.dim) * p.stride];
        dst[p.dst_at + i] = as_dst(f32(a[p.a_at + row * p.dim + i % p.dim]));
    }
}

// dst (N,dim) += a (M,dim) at the rows of the table, which are distinct
@compute @workgroup_size(256)
fn scatter_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let row = batch[p.table + (i / p.dim) * p.stride];
        let to = p.dst_at + row * p.dim + i % p.dim;
        dst[to] = as_dst(f32(dst[to]) + f32(a[p.a_at + i]));
    }
}

// dst (Nc,dim) = a (N,dim) at the rows of the table, which are distinct
@compute @workgroup_size(256)
fn put_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let row = batch[p.table + (i / p.dim) * p.stride];
        dst[p.dst_at + row * p.dim + i % p.dim] = as_dst(f32(a[p.a_at + i]));
    }
}

// dst (dim) = Σ a² over every dim-th piece of 256: a partition that the length alone decides
@compute @workgroup_size(256)
fn squares(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let piece = group_index(wid, groups);
    if (piece >= p.dim) {
        return;
    }
    var sum = 0.0;
    for (var i = piece * GROUP + t; i < p.len; i = i + p.dim * GROUP) {
        let x = f32(a[p.a_at + i]);
        sum = sum + x * x;
    }
    let total = sum_all(sum, t);
    if (t == 0u) {
        dst[p.dst_at + piece] = as_dst(total);
    }
}

// dst (1) = Σ a (len), len at most 256, [+ dst if dim is 1]
@compute @workgroup_size(256)
fn total(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) t: u32) {
    var x = 0.0;
    if (t < p.len) {
        x = f32(a[p.a_at + t]);
    }
    let sum = sum_all(x, t);
    if (t == 0u) {
        var y = sum;
        if (p.dim == 1u) {
            y = f32(dst[p.dst_at]) + y;
        }
        dst[p.dst_at] = as_dst(y);
    }
}
