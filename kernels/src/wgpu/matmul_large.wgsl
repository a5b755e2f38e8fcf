// out (M,N) = alpha · A (M,K) · B (K,N) [+ out], as matmul.wgsl, for shapes that fill a card.
//
// 256 threads compute 128 rows and 128 columns, each thread 8 x 8 of them in registers: two quads of
// rows and two of columns, 64 apart, so that neighbouring threads read neighbouring quads. While one
// slice of 8 along K is multiplied, the next is on its way from memory into registers. (The order of
// Boehm's ladder: tiles in workgroup memory, tiles in registers, vector reads, loads ahead.)

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

const GROUP: u32 = 256u;
const DEPTH: u32 = 8u;
const QUADS: u32 = 32u;
// Quads from one k to the next in workgroup memory: one more than there are, so that threads that write
// neighbouring k meet different banks. (Without it the forward product ran at half the speed on an H200.)
const STEP: u32 = 33u;
// Rows of tiles that are computed together, so that they share columns of B in the card's cache.
const BAND: u32 = 8u;

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

// Elements of four rows (columns) at k 0; those beyond the edge are the last ones, and never written.
fn starts(at: u32, first: u32, count: u32, stride: u32) -> vec4<u32> {
    let last = vec4<u32>(count - 1u);
    return at + stride * min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), last);
}

fn quad_a(start: vec4<u32>, k: u32) -> vec4<f32> {
    if (k >= p.k) {
        return vec4<f32>(0.0);
    }
    let i = start + k * p.a_col;
    return vec4<f32>(f32(a[i.x]), f32(a[i.y]), f32(a[i.z]), f32(a[i.w]));
}

fn quad_b(start: vec4<u32>, k: u32) -> vec4<f32> {
    if (k >= p.k) {
        return vec4<f32>(0.0);
    }
    let i = start + k * p.b_row;
    return vec4<f32>(weight_at(i.x), weight_at(i.y), weight_at(i.z), weight_at(i.w));
}

fn put(row: u32, col: u32, sum: f32) {
    if (row < p.m && col < p.n) {
        let at = p.out_at + row * p.out_row + col;
        var y = p.alpha * sum;
        if (p.add == 1u) {
            y = f32(out[at]) + y;
        }
        out[at] = as_out(y);
    }
}

fn put_quad(row: u32, col: u32, sums: vec4<f32>) {
    put(row, col, sums.x);
    put(row, col + 1u, sums.y);
    put(row, col + 2u, sums.z);
    put(row, col + 3u, sums.w);
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let first = corner(group_index(wid, groups));
    if (first.x >= p.m) {
        return;
    }
    // What this thread loads: one quad of A and one of B of each slice.
    let kk_a = select(t / QUADS, t % DEPTH, A_K_FAST);
    let quad_of_a = select(t % QUADS, t / DEPTH, A_K_FAST);
    let kk_b = select(t / QUADS, t % DEPTH, B_K_FAST);
    let quad_of_b = select(t % QUADS, t / DEPTH, B_K_FAST);
    let start_a = starts(p.a_at, first.x + 4u * quad_of_a, p.m, p.a_row);
    let start_b = starts(p.b_at, first.y + 4u * quad_of_b, p.n, p.b_col);
    let ly = t / 16u;
    let lx = t % 16u;
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
    var next_a = quad_a(start_a, kk_a);
    var next_b = quad_b(start_b, kk_b);
    for (var k = 0u; k < p.k; k = k + DEPTH) {
        tile_a[kk_a * STEP + quad_of_a] = next_a;
        tile_b[kk_b * STEP + quad_of_b] = next_b;
        workgroupBarrier();
        next_a = quad_a(start_a, k + DEPTH + kk_a);
        next_b = quad_b(start_b, k + DEPTH + kk_b);
        //: repeat 8
        {
            let x0 = tile_a[REPEAT * STEP + ly];
            let x1 = tile_a[REPEAT * STEP + 16u + ly];
            let y0 = tile_b[REPEAT * STEP + lx];
            let y1 = tile_b[REPEAT * STEP + 16u + lx];
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
    put_quad(row, col, s00);
    put_quad(row, col + 64u, s01);
    put_quad(row + 1u, col, s10);
    put_quad(row + 1u, col + 64u, s11);
    put_quad(row + 2u, col, s20);
    put_quad(row + 2u, col + 64u, s21);
    put_quad(row + 3u, col, s30);
    put_quad(row + 3u, col + 64u, s31);
    put_quad(row + 64u, col, s40);
    put_quad(row + 64u, col + 64u, s41);
    put_quad(row + 65u, col, s50);
    put_quad(row + 65u, col + 64u, s51);
    put_quad(row + 66u, col, s60);
    put_quad(row + 66u, col + 64u, s61);
    put_quad(row + 67u, col, s70);
    put_quad(row + 67u, col + 64u, s71);
}
