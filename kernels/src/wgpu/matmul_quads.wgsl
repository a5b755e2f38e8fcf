// out (M,N) = alpha · A (M,K) · B (K,N) [+ out], as matmul_large.wgsl, for operands whose rows are whole
// quads: every load from memory is four numbers.
//
// 256 threads compute 128 rows and 128 columns from slices of 16 along K: while one is multiplied, the next is
// on its way from memory into registers. A warp of 32 threads is 4 x 8 of them, and a thread has 8 x 8
// numbers in two quads of rows, 16 apart, and two of columns, 32 apart: so a warp reads 4 quads of A and
// 8 of B at a time, each once. (Of seven such kernels on an H200 this was the fastest: slices of 8 twice
// in memory, and 16 x 8 numbers a thread, were slower.)

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
}

const DEPTH: u32 = 16u;
// Quads from one k to the next: one more than there are, so that threads that write neighbouring k meet
// different banks.
const STEP: u32 = 33u;
// Rows of tiles that are computed together, so that they share columns of B in the card's cache.
const BAND: u32 = 8u;
const GROUP: u32 = 256u;

// Four rows of A (columns of B) at one k each.
var<workgroup> tile_a: array<vec4<f32>, DEPTH * STEP>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * STEP>;

// The first row and column of a workgroup's tile: bands of BAND rows, columns within a band.
fn corner(g: u32) -> vec2<u32> {
    let across = (p.n + 127u) / 128u;
    let down = (p.m + 127u) / 128u;
    let band = g / (BAND * across);
    let rows = min(BAND, down - min(down, band * BAND));
    if (rows == 0u) {
        return vec2<u32>(p.m, 0u);
    }
    let within = g - band * BAND * across;
    return 128u * vec2<u32>(band * BAND + within % rows, within / rows);
}

// Where quad i of a slice begins: its row (column) and k, then both as the quad's number in memory. Beyond
// the edge it is the last row's, whose products are never written.
struct Load {
    line: u32,
    k: u32,
    quad: u32,
}

fn place(i: u32, k_fast: bool, at: u32, first: u32, count: u32, line_step: u32, k_step: u32) -> Load {
    let line = select(4u * (i % 32u), i / 4u, k_fast);
    let k = select(i / 32u, 4u * (i % 4u), k_fast);
    let last = select(count - 4u, count - 1u, k_fast);
    return Load(line, k, (at + min(first + line, last) * line_step + k * k_step) / 4u);
}

// Puts a quad into its slice: along k it goes to four places.
fn put_a(source: Load, x: vec4<f32>) {
    if (A_K_FAST) {
        let i = source.k * STEP + source.line / 4u;
        let c = source.line % 4u;
        tile_a[i][c] = x.x;
        tile_a[i + STEP][c] = x.y;
        tile_a[i + 2u * STEP][c] = x.z;
        tile_a[i + 3u * STEP][c] = x.w;
    } else {
        tile_a[source.k * STEP + source.line / 4u] = x;
    }
}

fn put_b(source: Load, x: vec4<f32>) {
    if (B_K_FAST) {
        let i = source.k * STEP + source.line / 4u;
        let c = source.line % 4u;
        tile_b[i][c] = x.x;
        tile_b[i + STEP][c] = x.y;
        tile_b[i + 2u * STEP][c] = x.z;
        tile_b[i + 3u * STEP][c] = x.w;
    } else {
        tile_b[source.k * STEP + source.line / 4u] = x;
    }
}

// Four columns of out; all of them are there or none, since N is whole quads.
fn put(row: u32, col: u32, sums: vec4<f32>) {
    if (row < p.m && col < p.n) {
        let at = (p.out_at + row * p.out_row + col) / 4u;
        var y = p.alpha * sums;
        if (p.add == 1u) {
            y = vec4<f32>(out[at]) + y;
        }
        out[at] = as_out(y);
    }
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let first = corner(group_index(wid, groups));
    if (first.x >= p.m) {
        return;
    }
    let a0 = place(t, A_K_FAST, p.a_at, first.x, p.m, p.a_row, p.a_col);
    let a1 = place(t + GROUP, A_K_FAST, p.a_at, first.x, p.m, p.a_row, p.a_col);
    let b0 = place(t, B_K_FAST, p.b_at, first.y, p.n, p.b_col, p.b_row);
    let b1 = place(t + GROUP, B_K_FAST, p.b_at, first.y, p.n, p.b_col, p.b_row);
    let step_a = p.a_col * DEPTH / 4u;
    let step_b = p.b_row * DEPTH / 4u;
    // Warps are 4 x 2; within one, threads 4 x 8.
    let ly = 8u * (t / 64u) + t / 8u % 4u;
    let lx = 16u * (t / 32u % 2u) + t % 8u;
    var s00 = vec4<f32>(0.0);
    var s01 = vec4<f32>(0.0);
    var s10 = vec4<f32>(0.0);
    var s11 = vec4<f32>(0.0);
    var s20 = vec4<f32>(0.0);
    var s21 = vec4<f32>(0.0);
    var s30 = vec4<f32>(0.0);
    var s31 = vec4<f32>(0.0);
    var s40 = vec4<f32>(0.0);
    var s41 = vec4<f32>(0.0);
    var s50 = vec4<f32>(0.0);
    var s51 = vec4<f32>(0.0);
    var s60 = vec4<f32>(0.0);
    var s61 = vec4<f32>(0.0);
    var s70 = vec4<f32>(0.0);
    var s71 = vec4<f32>(0.0);
    var next_a0 = vec4<f32>(0.0);
    var next_a1 = vec4<f32>(0.0);
    var next_b0 = vec4<f32>(0.0);
    var next_b1 = vec4<f32>(0.0);
    var moved_a = 0u;
    var moved_b = 0u;
    // The first turn multiplies zeros, while the first slice is on its way.
    for (var k = 0u; k < p.k + DEPTH; k = k + DEPTH) {
        put_a(a0, next_a0);
        put_a(a1, next_a1);
        put_b(b0, next_b0);
        put_b(b1, next_b1);
        workgroupBarrier();
        next_a0 = vec4<f32>(0.0);
        next_a1 = vec4<f32>(0.0);
        next_b0 = vec4<f32>(0.0);
        next_b1 = vec4<f32>(0.0);
        if (k + a0.k < p.k) {
            next_a0 = vec4<f32>(a[a0.quad + moved_a]);
        }
        if (k + a1.k < p.k) {
            next_a1 = vec4<f32>(a[a1.quad + moved_a]);
        }
        if (k + b0.k < p.k) {
            next_b0 = weight_quad(b0.quad + moved_b);
        }
        if (k + b1.k < p.k) {
            next_b1 = weight_quad(b1.quad + moved_b);
        }
        moved_a = moved_a + step_a;
        moved_b = moved_b + step_b;
        //: repeat 16
        {
            let x0 = tile_a[REPEAT * STEP + ly];
            let x1 = tile_a[REPEAT * STEP + 4u + ly];
            let y0 = tile_b[REPEAT * STEP + lx];
            let y1 = tile_b[REPEAT * STEP + 8u + lx];
            s00 = fma(vec4<f32>(x0.x), y0, s00);
            s01 = fma(vec4<f32>(x0.x), y1, s01);
            s10 = fma(vec4<f32>(x0.y), y0, s10);
            s11 = fma(vec4<f32>(x0.y), y1, s11);
            s20 = fma(vec4<f32>(x0.z), y0, s20);
            s21 = fma(vec4<f32>(x0.z), y1, s21);
            s30 = fma(vec4<f32>(x0.w), y0, s30);
            s31 = fma(vec4<f32>(x0.w), y1, s31);
            s40 = fma(vec4<f32>(x1.x), y0, s40);
            s41 = fma(vec4<f32>(x1.x), y1, s41);
            s50 = fma(vec4<f32>(x1.y), y0, s50);
            s51 = fma(vec4<f32>(x1.y), y1, s51);
            s60 = fma(vec4<f32>(x1.z), y0, s60);
            s61 = fma(vec4<f32>(x1.z), y1, s61);
            s70 = fma(vec4<f32>(x1.w), y0, s70);
            s71 = fma(vec4<f32>(x1.w), y1, s71);
        }
        //: end
        workgroupBarrier();
    }
    let row = first.x + 4u * ly;
    let col = first.y + 4u * lx;
    put(row, col, s00);
    put(row, col + 32u, s01);
    put(row + 1u, col, s10);
    put(row + 1u, col + 32u, s11);
    put(row + 2u, col, s20);
    put(row + 2u, col + 32u, s21);
    put(row + 3u, col, s30);
    put(row + 3u, col + 32u, s31);
    put(row + 16u, col, s40);
    put(row + 16u, col + 32u, s41);
    put(row + 17u, col, s50);
    put(row + 17u, col + 32u, s51);
    put(row + 18u, col, s60);
    put(row + 18u, col + 32u, s61);
    put(row + 19u, col, s70);
    put(row + 19u, col + 32u, s71);
}
