// out (M,N) = alpha · A (M,K) · B (K,N) [+ out], as matmul_quads.wgsl, by matrix instructions: square tiles that a
// subgroup multiplies together. Operands are rounded to f16 on their way into workgroup memory, sums are f32.
// f16 holds little below 2^-14 and nothing above 2^16, so each operand is first multiplied by the power of
// two that brings its largest number (matmul_range.wgsl) between 2^14 and 2^15, and the result is divided by
// both.
//
// TILE, the edge of the device's tiles, is 16 or 8. Eight subgroups of 4 x 4 tiles compute ROWS rows and COLUMNS
// columns from slices of two tiles along K; where 256 threads are more than eight subgroups, the others do the
// same and write nothing. While one slice is multiplied, the next is on its way from memory into registers; it
// is rounded as late as can be, since that waits for it. (Tiles may only be touched where all threads pass:
// so no thread leaves early. Of some twenty such kernels on an H200 this was the fastest.)

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
    // B's largest exponent; 256: the largest of the second half of the ranges.
    exponent: u32,
}

const GROUP: u32 = 256u;
const ROWS: u32 = 8u * TILE;
const COLUMNS: u32 = 16u * TILE;
const DEPTH: u32 = 2u * TILE;
// Quads of a tile, and of a tile's row.
const TILE_QUADS: u32 = TILE * TILE / 4u;
const ROW_QUADS: u32 = TILE / 4u;
// Quads that a thread loads of A and of B.
const LOADS_A: u32 = ROWS * DEPTH / 4u / GROUP;
const LOADS_B: u32 = COLUMNS * DEPTH / 4u / GROUP;
// Rows of tiles that are computed together, so that they share columns of B in the card's cache.
const BAND: u32 = 8u;
// A slice has a line of quads along K for each row of A (column of B), or one along those for each k, as it is
// stored. Two quads more from one to the next, so that a subgroup's reads meet different banks.
const STEP_A: u32 = select(ROWS, DEPTH, A_K_FAST) / 4u + 2u;
const STEP_B: u32 = select(COLUMNS, DEPTH, B_K_FAST) / 4u + 2u;

alias TileA = coop_mat16x16<f16, A>;
alias TileB = coop_mat16x16<f16, B>;
alias TileC = coop_mat16x16<f32, C>;

var<workgroup> tile_a: array<vec4<f16>, select(DEPTH, ROWS, A_K_FAST) * STEP_A>;
var<workgroup> tile_b: array<vec4<f16>, select(DEPTH, COLUMNS, B_K_FAST) * STEP_B>;
// A tile of sums for each subgroup: those have 32 threads where tiles are large, at least 8 where they are small.
var<workgroup> sums: array<vec4<f32>, select(32u, 8u, TILE == 16u) * TILE_QUADS>;

// The first row and column of a workgroup's tile: bands of BAND rows, columns within a band.
fn corner(g: u32) -> vec2<u32> {
    let across = (p.n + COLUMNS - 1u) / COLUMNS;
    let down = (p.m + ROWS - 1u) / ROWS;
    let band = g / (BAND * across);
    let rows = min(BAND, down - min(down, band * BAND));
    let within = g - band * BAND * across;
    let tile = vec2<u32>(band * BAND + within % max(rows, 1u), within / max(rows, 1u));
    return tile * vec2<u32>(ROWS, COLUMNS);
}

// Quad i of a slice: its first line and k, and where it stands in workgroup memory.
struct Quad {
    line: u32,
    k: u32,
    slot: u32,
}

fn quad(i: u32, k_fast: bool, lines: u32, step: u32) -> Quad {
    let row = select(lines, DEPTH, k_fast) / 4u;
    let slot = i / row * step + i % row;
    if (k_fast) {
        return Quad(i / row, 4u * (i % row), slot);
    }
    return Quad(4u * (i % row), i / row, slot);
}

// The same in memory. Beyond the edge it is the last line, whose products are never written.
fn place(x: Quad, k_fast: bool, at: u32, first: u32, count: u32, line_step: u32, k_step: u32) -> u32 {
    let last = select(count - 4u, count - 1u, k_fast);
    return (at + min(first + x.line, last) * line_step + x.k * k_step) / 4u;
}

// The largest of 256 exponents.
fn largest_of(start: u32, t: u32) -> u32 {
    return u32(max_all(ranges[start + t], t));
}

// 2^14 / 2^e, the power of two for numbers up to 2^(e + 1); 1 where not all are numbers. Then its inverse.
fn scale_for(exponent: u32) -> vec2<f32> {
    let biased = select(min(268u - exponent, 253u), 127u, exponent >= 255u);
    return bitcast<vec2<f32>>(vec2<u32>(biased << 23u, (254u - biased) << 23u));
}

fn load_a(row: u32, k: u32) -> TileA {
    if (A_K_FAST) {
        return coopLoadT<TileA>(&tile_a[row * STEP_A + k / 4u], STEP_A);
    }
    return coopLoad<TileA>(&tile_a[k * STEP_A + row / 4u], STEP_A);
}

fn load_b(col: u32, k: u32) -> TileB {
    if (B_K_FAST) {
        return coopLoad<TileB>(&tile_b[col * STEP_B + k / 4u], STEP_B);
    }
    return coopLoadT<TileB>(&tile_b[k * STEP_B + col / 4u], STEP_B);
}

// What of a subgroup's tile in `sums` lies within out.
fn put(own: u32, lane: u32, lanes: u32, row: u32, col: u32, by: vec2<f32>) {
    for (var i = lane; own < 8u && i < TILE_QUADS; i = i + lanes) {
        let r = row + i / ROW_QUADS;
        let c = col + 4u * (i % ROW_QUADS);
        if (r < p.m && c < p.n) {
            let at = (p.out_at + r * p.out_row + c) / 4u;
            var y = by.x * sums[own * TILE_QUADS + i] * by.y;
            if (p.add == 1u) {
                y = out[at] + y;
            }
            out[at] = y;
        }
    }
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(subgroup_id) own: u32, @builtin(subgroup_invocation_id) lane: u32,
           @builtin(subgroup_size) lanes: u32, @builtin(local_invocation_index) t: u32) {
    let first = corner(group_index(wid, groups));
    let scale_a = scale_for(largest_of(0u, t));
    let scale_b = scale_for(select(p.exponent, largest_of(256u, t), p.exponent == 256u));
    let own_row = 4u * TILE * (own / 4u % 2u);
    let own_col = 4u * TILE * (own % 4u);
    let step_a = p.a_col * DEPTH / 4u;
    let step_b = p.b_row * DEPTH / 4u;
    //: repeat 4
    let quad_a_REPEAT = quad(t + REPEAT * GROUP, A_K_FAST, ROWS, STEP_A);
    var at_a_REPEAT = place(quad_a_REPEAT, A_K_FAST, p.a_at, first.x, p.m, p.a_row, p.a_col);
    var next_a_REPEAT = vec4<f32>();
    var c0_REPEAT = TileC();
    var c1_REPEAT = TileC();
    var c2_REPEAT = TileC();
    var c3_REPEAT = TileC();
    //: end
    //: repeat 8
    let quad_b_REPEAT = quad(t + REPEAT * GROUP, B_K_FAST, COLUMNS, STEP_B);
    var at_b_REPEAT = place(quad_b_REPEAT, B_K_FAST, p.b_at, first.y, p.n, p.b_col, p.b_row);
    var next_b_REPEAT = vec4<f32>();
    //: end
    // The first turn multiplies zeros, while the first slice is on its way.
    for (var k = 0u; k < p.k + DEPTH; k = k + DEPTH) {
        //: repeat 4
        if (REPEAT < LOADS_A) {
            tile_a[quad_a_REPEAT.slot] = vec4<f16>(scale_a.x * next_a_REPEAT);
        }
        //: end
        //: repeat 8
        if (REPEAT < LOADS_B) {
            tile_b[quad_b_REPEAT.slot] = vec4<f16>(scale_b.x * next_b_REPEAT);
        }
        //: end
        workgroupBarrier();
        //: repeat 4
        if (REPEAT < LOADS_A) {
            next_a_REPEAT = vec4<f32>();
            if (k + quad_a_REPEAT.k < p.k) {
                next_a_REPEAT = a[at_a_REPEAT];
            }
            at_a_REPEAT = at_a_REPEAT + step_a;
        }
        //: end
        //: repeat 8
        if (REPEAT < LOADS_B) {
            next_b_REPEAT = vec4<f32>();
            if (k + quad_b_REPEAT.k < p.k) {
                next_b_REPEAT = weight_quad(at_b_REPEAT);
            }
            at_b_REPEAT = at_b_REPEAT + step_b;
        }
        //: end
        //: repeat 2
        {
            let kk = TILE * REPEAT;
            let a0 = load_a(own_row, kk);
            let a1 = load_a(own_row + TILE, kk);
            let a2 = load_a(own_row + 2u * TILE, kk);
            let a3 = load_a(own_row + 3u * TILE, kk);
            let b0 = load_b(own_col, kk);
            c0_0u = coopMultiplyAdd(a0, b0, c0_0u);
            c1_0u = coopMultiplyAdd(a1, b0, c1_0u);
            c2_0u = coopMultiplyAdd(a2, b0, c2_0u);
            c3_0u = coopMultiplyAdd(a3, b0, c3_0u);
            let b1 = load_b(own_col + TILE, kk);
            c0_1u = coopMultiplyAdd(a0, b1, c0_1u);
            c1_1u = coopMultiplyAdd(a1, b1, c1_1u);
            c2_1u = coopMultiplyAdd(a2, b1, c2_1u);
            c3_1u = coopMultiplyAdd(a3, b1, c3_1u);
            let b2 = load_b(own_col + 2u * TILE, kk);
            c0_2u = coopMultiplyAdd(a0, b2, c0_2u);
            c1_2u = coopMultiplyAdd(a1, b2, c1_2u);
            c2_2u = coopMultiplyAdd(a2, b2, c2_2u);
            c3_2u = coopMultiplyAdd(a3, b2, c3_2u);
            let b3 = load_b(own_col + 3u * TILE, kk);
            c0_3u = coopMultiplyAdd(a0, b3, c0_3u);
            c1_3u = coopMultiplyAdd(a1, b3, c1_3u);
            c2_3u = coopMultiplyAdd(a2, b3, c2_3u);
            c3_3u = coopMultiplyAdd(a3, b3, c3_3u);
        }
        //: end
        workgroupBarrier();
    }
    let by = vec2<f32>(p.alpha * scale_a.y, scale_b.y);
    let row = first.x + own_row;
    let col = first.y + own_col;
    //: repeat 4
    coopStoreT(c0_REPEAT, &sums[own * TILE_QUADS], ROW_QUADS);
    workgroupBarrier();
    put(own, lane, lanes, row, col + REPEAT * TILE, by);
    workgroupBarrier();
    coopStoreT(c1_REPEAT, &sums[own * TILE_QUADS], ROW_QUADS);
    workgroupBarrier();
    put(own, lane, lanes, row + TILE, col + REPEAT * TILE, by);
    workgroupBarrier();
    coopStoreT(c2_REPEAT, &sums[own * TILE_QUADS], ROW_QUADS);
    workgroupBarrier();
    put(own, lane, lanes, row + 2u * TILE, col + REPEAT * TILE, by);
    workgroupBarrier();
    coopStoreT(c3_REPEAT, &sums[own * TILE_QUADS], ROW_QUADS);
    workgroupBarrier();
    put(own, lane, lanes, row + 3u * TILE, col + REPEAT * TILE, by);
    workgroupBarrier();
    //: end
}
