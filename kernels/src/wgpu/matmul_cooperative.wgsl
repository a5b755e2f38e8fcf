// out (M,N) = alpha · A (M,K) · B (K,N) [+ out], as matmul_quads.wgsl, by matrix instructions: square tiles that a
// subgroup multiplies together. Operands are rounded to f16 on their way into workgroup memory, sums are f32.
// f16 holds little below 2^-14 and nothing above 2^16, so each operand is first multiplied by the power of
// two that brings its largest number (matmul_range.wgsl) between 2^14 and 2^15, and the result is divided by
// both. What already is f16 passes as it is.
//
// TILE, the edge of the device's tiles, is 16 or 8, LANES the threads of its subgroups. Sixteen subgroups of 4 x 2
// tiles compute ROWS rows and COLUMNS columns from slices of two tiles along K. While one slice is multiplied, the
// next is on its way from memory into registers; it is rounded as late as can be, since that waits for it. (Tiles may
// only be touched where all threads pass: so no thread leaves early. They are loaded here and not in a function: a
// third of the speed is lost where they are passed on. Of some sixty such kernels on an H200 this was the fastest.)

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
    // A's; 256: the largest of the first half.
    exponent_a: u32,
}

const LANES: u32 = WY;
const GROUP: u32 = 16u * LANES;
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
// A tile of sums for each subgroup.
var<workgroup> sums: array<vec4<f32>, 16u * TILE_QUADS>;

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
    var most = 0.0;
    for (var i = t; i < 256u; i = i + GROUP) {
        most = max(most, ranges[start + i]);
    }
    return u32(max_all(most, t));
}

// 2^14 / 2^e, the power of two for numbers up to 2^(e + 1); 1 where not all are numbers. Then its inverse.
fn scale_for(exponent: u32) -> vec2<f32> {
    let biased = select(min(268u - exponent, 253u), 127u, exponent >= 255u);
    return bitcast<vec2<f32>>(vec2<u32>(biased << 23u, (254u - biased) << 23u));
}

// A quad of A on its way into a tile.
fn for_tile(scale: f32, x: a_t) -> vec4<f16> {
    if (A_IS_F16) {
        return vec4<f16>(x);
    }
    return vec4<f16>(scale * vec4<f32>(x));
}

// Where in workgroup memory a tile begins.
fn place_a(row: u32, k: u32) -> u32 {
    return select(k * STEP_A + row / 4u, row * STEP_A + k / 4u, A_K_FAST);
}

fn place_b(col: u32, k: u32) -> u32 {
    return select(k * STEP_B + col / 4u, col * STEP_B + k / 4u, B_K_FAST);
}

//: where out is f32
// What a tile of sums is added to.
fn before(at: u32, pitch: u32) -> TileC {
    if (p.add == 1u) {
        return coopLoadT<TileC>(&out[at], pitch);
    }
    return TileC();
}
//: everywhere

// What of a subgroup's tile in `sums` lies within out, where a workgroup's tiles reach beyond its edge or have to be
// rounded.
fn put(own: u32, lane: u32, row: u32, col: u32, by: vec2<f32>) {
    for (var i = lane; i < TILE_QUADS; i = i + LANES) {
        let r = row + i / ROW_QUADS;
        let c = col + 4u * (i % ROW_QUADS);
        if (r < p.m && c < p.n) {
            let at = (p.out_at + r * p.out_row + c) / 4u;
            var y = by.x * sums[own * TILE_QUADS + i] * by.y;
            if (p.add == 1u) {
                y = vec4<f32>(out[at]) + y;
            }
            out[at] = as_out(y);
        }
    }
}

@compute @workgroup_size(GROUP)
fn product(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(subgroup_id) own: u32, @builtin(subgroup_invocation_id) lane: u32,
           @builtin(local_invocation_index) t: u32) {
    let first = corner(group_index(wid, groups));
    let scale_a = scale_for(select(p.exponent_a, largest_of(0u, t), p.exponent_a == 256u));
    let scale_b = scale_for(select(p.exponent, largest_of(256u, t), p.exponent == 256u));
    let own_row = 4u * TILE * (own / 8u);
    let own_col = 2u * TILE * (own % 8u);
    let step_a = p.a_col * DEPTH / 4u;
    let step_b = p.b_row * DEPTH / 4u;
    //: repeat 4
    let quad_a_REPEAT = quad(t + REPEAT * GROUP, A_K_FAST, ROWS, STEP_A);
    var at_a_REPEAT = place(quad_a_REPEAT, A_K_FAST, p.a_at, first.x, p.m, p.a_row, p.a_col);
    var next_a_REPEAT = a_t();
    //: end
    //: repeat 2
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
            tile_a[quad_a_REPEAT.slot] = for_tile(scale_a.x, next_a_REPEAT);
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
            next_a_REPEAT = a_t();
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
            let at_a0 = place_a(own_row + 0u * TILE, kk);
            let a0 = coopLoadA<TileA>(&tile_a[at_a0], STEP_A);
            let at_a1 = place_a(own_row + 1u * TILE, kk);
            let a1 = coopLoadA<TileA>(&tile_a[at_a1], STEP_A);
            let at_a2 = place_a(own_row + 2u * TILE, kk);
            let a2 = coopLoadA<TileA>(&tile_a[at_a2], STEP_A);
            let at_a3 = place_a(own_row + 3u * TILE, kk);
            let a3 = coopLoadA<TileA>(&tile_a[at_a3], STEP_A);
            let at_b0 = place_b(own_col + 0u * TILE, kk);
            let b0 = coopLoadB<TileB>(&tile_b[at_b0], STEP_B);
            c0_0u = coopMultiplyAdd(a0, b0, c0_0u);
            c1_0u = coopMultiplyAdd(a1, b0, c1_0u);
            c2_0u = coopMultiplyAdd(a2, b0, c2_0u);
            c3_0u = coopMultiplyAdd(a3, b0, c3_0u);
            let at_b1 = place_b(own_col + 1u * TILE, kk);
            let b1 = coopLoadB<TileB>(&tile_b[at_b1], STEP_B);
            c0_1u = coopMultiplyAdd(a0, b1, c0_1u);
            c1_1u = coopMultiplyAdd(a1, b1, c1_1u);
            c2_1u = coopMultiplyAdd(a2, b1, c2_1u);
            c3_1u = coopMultiplyAdd(a3, b1, c3_1u);
        }
        //: end
        workgroupBarrier();
    }
    let by = vec2<f32>(p.alpha * scale_a.y, scale_b.y);
    let row = first.x + own_row;
    let col = first.y + own_col;
    let pitch = p.out_row / 4u;
    //: where out is f32
    if (first.x + ROWS <= p.m && first.y + COLUMNS <= p.n) {
        // All of it lies within out: straight to memory.
        //: repeat 2
        {
            let at = (p.out_at + row * p.out_row + col + REPEAT * TILE) / 4u;
            let down = TILE * pitch;
            let to1 = at + down;
            let to2 = at + 2u * down;
            let to3 = at + 3u * down;
            let y0 = before(at, pitch) + by.y * (by.x * c0_REPEAT);
            let y1 = before(to1, pitch) + by.y * (by.x * c1_REPEAT);
            let y2 = before(to2, pitch) + by.y * (by.x * c2_REPEAT);
            let y3 = before(to3, pitch) + by.y * (by.x * c3_REPEAT);
            coopStoreT(y0, &out[at], pitch);
            coopStoreT(y1, &out[to1], pitch);
            coopStoreT(y2, &out[to2], pitch);
            coopStoreT(y3, &out[to3], pitch);
        }
        //: end
    } else
    //: everywhere
    {
        let to = own * TILE_QUADS;
        //: repeat 2
        coopStoreT(c0_REPEAT, &sums[to], ROW_QUADS);
        workgroupBarrier();
        put(own, lane, row, col + REPEAT * TILE, by);
        workgroupBarrier();
        coopStoreT(c1_REPEAT, &sums[to], ROW_QUADS);
        workgroupBarrier();
        put(own, lane, row + TILE, col + REPEAT * TILE, by);
        workgroupBarrier();
        coopStoreT(c2_REPEAT, &sums[to], ROW_QUADS);
        workgroupBarrier();
        put(own, lane, row + 2u * TILE, col + REPEAT * TILE, by);
        workgroupBarrier();
        coopStoreT(c3_REPEAT, &sums[to], ROW_QUADS);
        workgroupBarrier();
        put(own, lane, row + 3u * TILE, col + REPEAT * TILE, by);
        workgroupBarrier();
        //: end
    }
}
