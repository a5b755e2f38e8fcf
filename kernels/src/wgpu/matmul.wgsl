// out (M,N) = alpha · A (M,K) · B (K,N) [+ out]. A and B are read by strides, so this one kernel is
// the forward (A = inp, B = wᵀ), the input's gradient (A = dout, B = w) and the weight's
// (A = doutᵀ, B = inp).
//
// A workgroup of WX x WY threads computes 4·WY rows and 4·WX columns from tiles in workgroup memory,
// each thread a 4x4 block in registers. The host chooses WX and WY by the shape, and A_K_FAST and
// B_K_FAST by which index is contiguous, so that neighbouring threads load neighbouring numbers. Where
// tiles are few and K is long, several workgroups share a tile, and `sum` adds what they found.

struct P {
    first_group: u32,
    a_at: u32,
    b_at: u32,
    out_at: u32,
    m: u32,
    n: u32,
    k: u32,
    // Elements from one row (or column) to the next.
    a_row: u32,
    a_col: u32,
    b_row: u32,
    b_col: u32,
    out_row: u32,
    alpha: f32,
    // 1: added to out.
    add: u32,
    // Workgroups that share a tile, each with so much of K; each writes sums of its own, one (M,N) after
    // the other.
    slices: u32,
    slice: u32,
}

const GROUP: u32 = WX * WY;
const DEPTH: u32 = 16u;

// Quads from one k to the next: one more than there are, so that threads that write neighbouring k meet
// different banks.
const STEP_A: u32 = WY + 1u;
const STEP_B: u32 = WX + 1u;

// Four rows of A (columns of B) at one k each.
var<workgroup> tile_a: array<vec4<f32>, DEPTH * STEP_A>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * STEP_B>;

fn a_at(row: u32, k: u32, end: u32) -> f32 {
    if (row < p.m && k < end) {
        return f32(a[p.a_at + row * p.a_row + k * p.a_col]);
    }
    return 0.0;
}

fn b_at(k: u32, col: u32, end: u32) -> f32 {
    if (col < p.n && k < end) {
        return weight_at(p.b_at + k * p.b_row + col * p.b_col);
    }
    return 0.0;
}

fn load_a(t: u32, row: u32, k: u32, end: u32) {
    for (var i = t; i < DEPTH * WY; i = i + GROUP) {
        let kk = select(i / WY, i % DEPTH, A_K_FAST);
        let quad = select(i % WY, i / DEPTH, A_K_FAST);
        let r = row + 4u * quad;
        tile_a[kk * STEP_A + quad] = vec4<f32>(
            a_at(r, k + kk, end), a_at(r + 1u, k + kk, end), a_at(r + 2u, k + kk, end),
            a_at(r + 3u, k + kk, end),
        );
    }
}

fn load_b(t: u32, k: u32, col: u32, end: u32) {
    for (var i = t; i < DEPTH * WX; i = i + GROUP) {
        let kk = select(i / WX, i % DEPTH, B_K_FAST);
        let quad = select(i % WX, i / DEPTH, B_K_FAST);
        let c = col + 4u * quad;
        tile_b[kk * STEP_B + quad] = vec4<f32>(
            b_at(k + kk, c, end), b_at(k + kk, c + 1u, end), b_at(k + kk, c + 2u, end),
            b_at(k + kk, c + 3u, end),
        );
    }
}

fn put(slice: u32, row: u32, col: u32, sum: f32) {
    if (row < p.m && col < p.n) {
        let at = p.out_at + (slice * p.m + row) * p.out_row + col;
        var y = p.alpha * sum;
        if (p.add == 1u) {
            y = f32(out[at]) + y;
        }
        out[at] = as_out(y);
    }
}

fn put_row(slice: u32, row: u32, col: u32, sums: vec4<f32>) {
    put(slice, row, col, sums.x);
    put(slice, row, col + 1u, sums.y);
    put(slice, row, col + 2u, sums.z);
    put(slice, row, col + 3u, sums.w);
}

@compute @workgroup_size(GROUP)
fn product(@builtin(workgroup_id) wid: vec3<u32>,
           @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let all = group_index(wid, groups);
    let slice = all % p.slices;
    let g = all / p.slices;
    let across = (p.n + 4u * WX - 1u) / (4u * WX);
    let row = g / across * 4u * WY;
    let col = g % across * 4u * WX;
    if (row >= p.m) {
        return;
    }
    let lx = t % WX;
    let ly = t / WX;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    let end = min(p.k, (slice + 1u) * p.slice);
    for (var k = slice * p.slice; k < end; k = k + DEPTH) {
        load_a(t, row, k, end);
        load_b(t, k, col, end);
        workgroupBarrier();
        for (var kk = 0u; kk < DEPTH; kk = kk + 1u) {
            let x = tile_a[kk * STEP_A + ly];
            let y = tile_b[kk * STEP_B + lx];
            sum0 = fma(vec4<f32>(x.x), y, sum0);
            sum1 = fma(vec4<f32>(x.y), y, sum1);
            sum2 = fma(vec4<f32>(x.z), y, sum2);
            sum3 = fma(vec4<f32>(x.w), y, sum3);
        }
        workgroupBarrier();
    }
    let r = row + 4u * ly;
    let c = col + 4u * lx;
    put_row(slice, r, c, sum0);
    put_row(slice, r + 1u, c, sum1);
    put_row(slice, r + 2u, c, sum2);
    put_row(slice, r + 3u, c, sum3);
}
