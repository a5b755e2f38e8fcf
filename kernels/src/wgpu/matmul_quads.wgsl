// out (M,N) = alpha · A (M,K) · B (K,N) [+ out], as matmul_large.wgsl, for operands whose rows are whole
// quads: every load from memory is four numbers.
//
// 256 threads compute 128 rows and 128 columns from slices of 8 along K. There are two slices in
// workgroup memory: while one is multiplied, the next is on its way from memory, and one barrier a
// slice is enough. A warp of 32 threads is 4 x 8 of them, and a thread has 8 x 8 numbers in two quads
// of rows, 16 apart, and two of columns, 32 apart: so a warp reads 4 quads of A and 8 of B at a time,
// each once.

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

const DEPTH: u32 = 8u;
// Quads from one k to the next: one more than there are, so that threads that write neighbouring k meet
// different banks.
const STEP: u32 = 33u;
const SLICE: u32 = DEPTH * STEP;
// Rows of tiles that are computed together, so that they share columns of B in the card's cache.
const BAND: u32 = 8u;
const GROUP: u32 = 256u;

// Four rows of A (columns of B) at one k each; two slices.
var<workgroup> tile_a: array<vec4<f32>, 2u * SLICE>;
var<workgroup> tile_b: array<vec4<f32>, 2u * SLICE>;

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

// Where a thread's quad of a slice begins: its row (column) and k, then both as the quad's number in
// memory. Beyond the edge it is the last row's, whose products are never written.
struct Load {
    line: u32,
    k: u32,
    quad: u32,
}

fn place(t: u32, k_fast: bool, at: u32, first: u32, count: u32, line_step: u32, k_step: u32) -> Load {
    let line = select(4u * (t % 32u), t / 2u, k_fast);
    let k = select(t / 32u, 4u * (t % 2u), k_fast);
    let last = select(count - 4u, count - 1u, k_fast);
    return Load(line, k, (at + min(first + line, last) * line_step + k * k_step) / 4u);
}

// Puts a quad into its slice: along k it goes to four places.
fn put_a(to: u32, source: Load, x: vec4<f32>) {
    if (A_K_FAST) {
        let i = to + source.k * STEP + source.line / 4u;
        let c = source.line % 4u;
        tile_a[i][c] = x.x;
        tile_a[i + STEP][c] = x.y;
        tile_a[i + 2u * STEP][c] = x.z;
        tile_a[i + 3u * STEP][c] = x.w;
    } else {
        tile_a[to + source.k * STEP + source.line / 4u] = x;
    }
}

fn put_b(to: u32, source: Load, x: vec4<f32>) {
    if (B_K_FAST) {
        let i = to + source.k * STEP + source.line / 4u;
        let c = source.line % 4u;
        tile_b[i][c] = x.x;
        tile_b[i + STEP][c] = x.y;
        tile_b[i + 2u * STEP][c] = x.z;
        tile_b[i + 3u * STEP][c] = x.w;
    } else {
        tile_b[to + source.k * STEP + source.line / 4u] = x;
    }
}

// Four columns of out; all of them are there or none, since N is whole quads.
fn put(row: u32, col: u32, sums: vec4<f32>) {
    if (row < p.m && col < p.n) {
        let at = (p.out_at + row * p.out_row + col) / 4u;
        var y = p.alpha * sums;
        if (p.add == 1u) {
            y = out[at] + y;
        }
        out[at] = y;
    }
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let first = corner(group_index(wid, groups));
    if (first.x >= p.m) {
        return;
    }
    let from_a = place(t, A_K_FAST, p.a_at, first.x, p.m, p.a_row, p.a_col);
    let from_b = place(t, B_K_FAST, p.b_at, first.y, p.n, p.b_col, p.b_row);
    let step_a = select(p.a_col * DEPTH / 4u, DEPTH / 4u, A_K_FAST);
    let step_b = select(p.b_row * DEPTH / 4u, DEPTH / 4u, B_K_FAST);
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
    var quad_a = from_a.quad;
    var quad_b = from_b.quad;
    var next_a = vec4<f32>(0.0);
    var next_b = vec4<f32>(0.0);
    if (from_a.k < p.k) {
        next_a = a[quad_a];
    }
    if (from_b.k < p.k) {
        next_b = weight_quad(quad_b);
    }
    put_a(0u, from_a, next_a);
    put_b(0u, from_b, next_b);
    workgroupBarrier();
    var slice = 0u;
    for (var k = DEPTH; k < p.k + DEPTH; k = k + DEPTH) {
        quad_a = quad_a + step_a;
        quad_b = quad_b + step_b;
        next_a = vec4<f32>(0.0);
        next_b = vec4<f32>(0.0);
        if (k + from_a.k < p.k) {
            next_a = a[quad_a];
        }
        if (k + from_b.k < p.k) {
            next_b = weight_quad(quad_b);
        }
        let at_a = slice + ly;
        let at_b = slice + lx;
        //: repeat 8
        {
            let x0 = tile_a[at_a + REPEAT * STEP];
            let x1 = tile_a[at_a + (REPEAT * STEP + 4u)];
            let y0 = tile_b[at_b + REPEAT * STEP];
            let y1 = tile_b[at_b + (REPEAT * STEP + 8u)];
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
        slice = SLICE - slice;
        put_a(slice, from_a, next_a);
        put_b(slice, from_b, next_b);
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
