// Attention as attention_tiles.wgsl, its products by matrix instructions: square tiles that a subgroup multiplies
// together. Behind attention_lists.wgsl.
//
// Operands are scaled and rounded to f16 on their way into workgroup memory, as in matmul_cooperative.wgsl, and so
// are the weights between two products; what is f16 in memory is not scaled. Sums are f32. A subgroup cannot know which numbers of a tile of sums its
// threads hold, so scores go through workgroup memory to the softmax, and results are never rescaled: the forward
// kernel finds each row's logarithm of the sum first, and computes the scores a second time.
//
// TILE, the edge of the device's tiles, is 16 or 8; SUBGROUPS of them share a workgroup, DIM channels are whole
// tiles of each. A subgroup has one row of tiles (with SHARE - 1 others): it keeps that of its rows' operand, and
// computes OWN_COLUMNS tiles of scores and OWN_CHANNELS tiles of a result.

const DIM: u32 = WX;
const SUBGROUPS: u32 = WY;
const ROW_TILES: u32 = 64u / TILE;
const DIM_TILES: u32 = DIM / TILE;
const SHARE: u32 = SUBGROUPS / ROW_TILES;
const OWN_COLUMNS: u32 = ROW_TILES / SHARE;
const OWN_CHANNELS: u32 = DIM_TILES / SHARE;
const TILE_QUADS: u32 = TILE / 4u;
// Quads from one row to the next in workgroup memory, against bank conflicts a little more than there are where
// there is room.
const STEP: u32 = DIM / 4u + select(0u, 2u, TILE == 16u);
const WEIGHTS_STEP: u32 = 16u + select(0u, 2u, TILE == 16u);
const SCORES_STEP: u32 = 16u + select(0u, 1u, TILE == 16u);

alias TileA = coop_mat16x16<f16, A>;
alias TileB = coop_mat16x16<f16, B>;
alias TileC = coop_mat16x16<f32, C>;

// 64 rows of an operand.
var<workgroup> staged: array<vec4<f16>, 64u * STEP>;
// 64 x 64 weights or their gradients.
var<workgroup> weights: array<vec4<f16>, 64u * WEIGHTS_STEP>;
// 64 x 64 sums: scores, or columns of a result.
var<workgroup> scores: array<vec4<f32>, 64u * SCORES_STEP>;

// What own_of says of group g of `count`; no rows and no blocks beyond. (Tiles may only be touched where all threads
// pass, so no group leaves early.)
fn own_or_none(g: u32, count: u32, heads: u32) -> Own {
    let own = own_of(min(g, count - 1u), heads);
    let none = g >= count || own.rows == 0u;
    return Own(own.first, select(own.rows, 0u, none), own.block, select(own.blocks, 0u, none), own.half);
}

// Powers of two that operands are multiplied by, and their inverses; the last is for gradients of weights.
struct Scales {
    of_q: vec2<f32>,
    of_k: vec2<f32>,
    of_v: vec2<f32>,
    of_dout: vec2<f32>,
    of_ds: vec2<f32>,
}

fn power(biased: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2<u32>(biased << 23u, (254u - biased) << 23u));
}

// 2^14 / 2^e, the power of two for numbers up to 2^(e + 1); 1 where not all are numbers.
fn scale_for(exponent: f32) -> vec2<f32> {
    let e = u32(exponent);
    return power(select(min(268u - e, 253u), 127u, e >= 255u));
}

// The same for an operand that may be f16 in memory: 1.
fn scale_unless(is_f16: bool, exponent: f32) -> vec2<f32> {
    return select(scale_for(exponent), vec2<f32>(1.0), is_f16);
}

// From the largest exponents of q, k, v and dout (matmul_range.wgsl). A gradient of a weight is at most
// 2 · 128 · 2^(e(dout) + 1) · 2^(e(v) + 1), which is brought to 2^15.
fn scales(t: u32) -> Scales {
    scores[t] = vec4<f32>(ranges[t], ranges[256u + t], ranges[512u + t], ranges[768u + t]);
    workgroupBarrier();
    var most = vec4<f32>(0.0);
    for (var i = 0u; i < 256u; i = i + 1u) {
        most = max(most, scores[i]);
    }
    workgroupBarrier();
    let ds = u32(clamp(386.0 - most.z - most.w, 1.0, 253.0));
    let finite = max(most.z, most.w) < 255.0;
    return Scales(scale_unless(Q_IS_F16, most.x), scale_unless(K_IS_F16, most.y),
                  scale_unless(V_IS_F16, most.z), scale_unless(DOUT_IS_F16, most.w),
                  power(select(127u, ds, finite)));
}

// The first n of 64 bits.
fn first_bits(n: u32) -> vec2<u32> {
    let low = select((1u << (n % 32u)) - 1u, 0xffffffffu, n >= 32u);
    let high = select((1u << (n % 32u)) - 1u, 0xffffffffu, n >= 64u);
    return vec2<u32>(low, select(0u, high, n > 32u));
}

// A thread's quads of 64 rows, on their way from memory; what is not among `some` is 0 and not read.
fn fetch(y: ptr<function, array<vec4<f32>, 8>>, x: Lines, some: vec2<u32>, t: u32) {
    //: repeat 8
    if (REPEAT < DIM / 16u) {
        let row = (t + REPEAT * GROUP) / (DIM / 4u);
        (*y)[REPEAT] = vec4<f32>();
        if (has(some, row)) {
            (*y)[REPEAT] = operand(x.which, x.at + row * x.step + (t + REPEAT * GROUP) % (DIM / 4u));
        }
    }
    //: end
}

// The same, rounded, into workgroup memory, which all threads may read afterwards.
fn stage(y: ptr<function, array<vec4<f32>, 8>>, scale: f32, t: u32) {
    //: repeat 8
    if (REPEAT < DIM / 16u) {
        let i = t + REPEAT * GROUP;
        staged[i / (DIM / 4u) * STEP + i % (DIM / 4u)] = vec4<f16>(scale * (*y)[REPEAT]);
    }
    //: end
    workgroupBarrier();
}

// Where a tile begins in workgroup memory (tiles are loaded where they are used: those that a function returns cost a
// third of the speed): tile c of the staged rows, across the channels, from `row` on; tile n of the weights' columns.
fn staged_at(row: u32, c: u32) -> u32 {
    return row * STEP + c * TILE_QUADS;
}

fn weights_at(row: u32, n: u32) -> u32 {
    return row * WEIGHTS_STEP + n * TILE_QUADS;
}

// A thread's row of the 64 x 64 numbers, and its quad i of that row's 16.
fn row_of(t: u32) -> u32 {
    return t / 4u;
}

fn quad_of(t: u32, i: u32) -> u32 {
    return t % 4u + 4u * i;
}

fn score(t: u32, i: u32) -> vec4<f32> {
    return scores[row_of(t) * SCORES_STEP + quad_of(t, i)];
}

fn put_weight(t: u32, i: u32, x: vec4<f32>) {
    weights[row_of(t) * WEIGHTS_STEP + quad_of(t, i)] = vec4<f16>(x);
}

// Which columns of its row a thread's row sees.
fn seen_by(own: Own, mask: u32, t: u32) -> vec2<u32> {
    if (mask == 0xffffffffu) {
        return vec2<u32>(0xffffffffu);
    }
    let at = p.masks + 2u * (128u * mask + 64u * own.half + row_of(t));
    return vec2<u32>(batch[at], batch[at + 1u]);
}

fn sees(bits: vec2<u32>, t: u32, i: u32) -> vec4<bool> {
    let column = 4u * quad_of(t, i);
    let word = select(bits.x, bits.y, column >= 32u) >> (column % 32u);
    return (vec4<u32>(word, word >> 1u, word >> 2u, word >> 3u) & vec4<u32>(1u)) == vec4<u32>(1u);
}

// The tiles of a result that all subgroups have just stored, their j-th ones, into its rows.
fn put_rows(which: u32, at: u32, step: u32, own: Own, j: u32, by: f32, t: u32) {
    workgroupBarrier();
    for (var i = t; i < 64u * SHARE * TILE_QUADS; i = i + GROUP) {
        let row = i / (SHARE * TILE_QUADS);
        let c = i % (SHARE * TILE_QUADS);
        let to = at + row * step + (c / TILE_QUADS * OWN_CHANNELS + j) * TILE_QUADS + c % TILE_QUADS;
        if (row < own.rows) {
            let y = by * scores[row * SCORES_STEP + c];
            if (which == Q) {
                dq[to] = as_dq(y);
            } else if (which == K) {
                dk[to] = as_dk(y);
            } else if (which == V) {
                dv[to] = as_dv(y);
            } else {
                out[to] = as_out(y);
            }
        }
    }
    workgroupBarrier();
}
