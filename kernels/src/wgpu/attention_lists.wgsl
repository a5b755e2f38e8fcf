// What the attention kernels that work on tiles share: their parameters, rows of operands, and who sees whom as
// tiles of 128 rows (attention_tiles.rs), of which a workgroup takes one half, against blocks of 64 columns.

struct P {
    first_group: u32,
    q_at: u32,
    k_at: u32,
    v_at: u32,
    out_at: u32,
    lse_at: u32,
    dout_at: u32,
    dq_at: u32,
    dk_at: u32,
    dv_at: u32,
    heads: u32,
    kv_heads: u32,
    dim: u32,
    // Queries, or keys for backward_keys.
    rows: u32,
    scale: f32,
    // Where the lists of tiles, of their blocks and of masks begin, and how many halves of tiles there are.
    tiles: u32,
    blocks: u32,
    masks: u32,
    halves: u32,
}

const GROUP: u32 = 256u;
const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;
const DOUT: u32 = 3u;

fn operand(which: u32, i: u32) -> vec4<f32> {
    if (which == Q) {
        return vec4<f32>(q[i]);
    }
    if (which == K) {
        return vec4<f32>(k[i]);
    }
    if (which == V) {
        return vec4<f32>(v[i]);
    }
    return vec4<f32>(dout[i]);
}

// δ of a query and head, whose row of dq begins with this quad (attention.wgsl's backward_delta).
fn delta_at(i: u32) -> f32 {
    let x = vec4<f32>(dq[i]);
    return x.x + x.y;
}

// Rows of an operand, in quads: the first, and from one to the next.
struct Lines {
    which: u32,
    at: u32,
    step: u32,
}

// Rows of queries (of q or dout), or of keys (of k or v), from `first` on.
fn by_query(which: u32, first: u32, head: u32) -> Lines {
    let at = select(p.q_at, p.dout_at, which == DOUT);
    return Lines(which, (at + (first * p.heads + head) * p.dim) / 4u, p.heads * p.dim / 4u);
}

fn by_key(which: u32, first: u32, head: u32) -> Lines {
    let at = select(p.k_at, p.v_at, which == V);
    return Lines(which, (at + (first * p.kv_heads + head) * p.dim) / 4u, p.kv_heads * p.dim / 4u);
}

fn has(bits: vec2<u32>, i: u32) -> bool {
    return ((select(bits.x, bits.y, i >= 32u) >> (i % 32u)) & 1u) == 1u;
}

// A workgroup's rows: the first, how many, and the tile's blocks: the first and how many.
struct Own {
    first: u32,
    rows: u32,
    block: u32,
    blocks: u32,
    half: u32,
}

// Groups are halves of tiles and heads; the tiles with most work come first.
fn own_of(g: u32, heads: u32) -> Own {
    let tile = p.tiles + 4u * (g / (2u * heads));
    let half = g % 2u;
    let first = batch[tile] + 64u * half;
    let end = min(batch[tile] + batch[tile + 1u], p.rows);
    let rows = min(end - min(first, end), 64u);
    return Own(first, rows, batch[tile + 2u], batch[tile + 3u], half);
}

// A block: its first column, its mask's number, and the columns that some row sees.
fn block_of(own: Own, i: u32) -> vec4<u32> {
    let at = p.blocks + 4u * (own.block + i);
    return vec4<u32>(batch[at], batch[at + 1u], batch[at + 2u], batch[at + 3u]);
}
