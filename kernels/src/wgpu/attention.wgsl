// out (n,H,D) = softmax(q·kᵀ / sqrt(D)) · v over the visible keys, with the running maximum of
// Milakov & Gimelshein 2018; the backward works from lse as FlashAttention does (Dao et al. 2022).
//
// One workgroup a query and head (or a key and key head): its threads are 64 keys (queries) while
// scores are computed, then the channels of the head. No two workgroups write the same number, so
// sums have one order. A result is summed in workgroup memory, each channel by one thread, and rounded once where
// its operand is f16. WX is the head's width, in whole workgroups.

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
    // Tables: (first range, ranges, first own key, own key) of a query; (start, length) of a range;
    // (first query, query after the last) of a key.
    queries: u32,
    ranges: u32,
    blocks: u32,
}

const GROUP: u32 = 64u;

var<workgroup> tile_p: array<f32, GROUP>;
var<workgroup> tile_ds: array<f32, GROUP>;

// The result's row, and dv's beside dk's.
var<workgroup> sums: array<f32, WX>;
var<workgroup> sums_v: array<f32, WX>;

// Rows that the threads take an inner product with, CHUNK channels at a time: read together by neighbouring
// threads, then each thread its own row (a pitch of 17 lets them meet different banks).
const CHUNK: u32 = 16u;
const PITCH: u32 = 17u;

var<workgroup> staged: array<f32, GROUP * PITCH>;

fn stage_q(base: u32, stride: u32, rows: u32, first: u32, t: u32) {
    for (var i = t; i < rows * CHUNK; i = i + GROUP) {
        let d = first + i % CHUNK;
        if (d < p.dim) {
            staged[i / CHUNK * PITCH + i % CHUNK] = f32(q[base + i / CHUNK * stride + d]);
        }
    }
    workgroupBarrier();
}

fn stage_k(base: u32, stride: u32, rows: u32, first: u32, t: u32) {
    for (var i = t; i < rows * CHUNK; i = i + GROUP) {
        let d = first + i % CHUNK;
        if (d < p.dim) {
            staged[i / CHUNK * PITCH + i % CHUNK] = f32(k[base + i / CHUNK * stride + d]);
        }
    }
    workgroupBarrier();
}

fn stage_v(base: u32, stride: u32, rows: u32, first: u32, t: u32) {
    for (var i = t; i < rows * CHUNK; i = i + GROUP) {
        let d = first + i % CHUNK;
        if (d < p.dim) {
            staged[i / CHUNK * PITCH + i % CHUNK] = f32(v[base + i / CHUNK * stride + d]);
        }
    }
    workgroupBarrier();
}

fn stage_dout(base: u32, stride: u32, rows: u32, first: u32, t: u32) {
    for (var i = t; i < rows * CHUNK; i = i + GROUP) {
        let d = first + i % CHUNK;
        if (d < p.dim) {
            staged[i / CHUNK * PITCH + i % CHUNK] = f32(dout[base + i / CHUNK * stride + d]);
        }
    }
    workgroupBarrier();
}

// q at `one` · row t of k, rows from `base` on
fn query_by_keys(one: u32, base: u32, stride: u32, rows: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var first = 0u; first < p.dim; first = first + CHUNK) {
        stage_k(base, stride, rows, first, t);
        let end = select(0u, min(CHUNK, p.dim - first), t < rows);
        for (var d = 0u; d < end; d = d + 1u) {
            sum = sum + f32(q[one + first + d]) * staged[t * PITCH + d];
        }
        workgroupBarrier();
    }
    return sum;
}

// dout at `one` · row t of v
fn dout_by_values(one: u32, base: u32, stride: u32, rows: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var first = 0u; first < p.dim; first = first + CHUNK) {
        stage_v(base, stride, rows, first, t);
        let end = select(0u, min(CHUNK, p.dim - first), t < rows);
        for (var d = 0u; d < end; d = d + 1u) {
            sum = sum + f32(dout[one + first + d]) * staged[t * PITCH + d];
        }
        workgroupBarrier();
    }
    return sum;
}

// k at `one` · row t of q
fn key_by_queries(one: u32, base: u32, stride: u32, rows: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var first = 0u; first < p.dim; first = first + CHUNK) {
        stage_q(base, stride, rows, first, t);
        let end = select(0u, min(CHUNK, p.dim - first), t < rows);
        for (var d = 0u; d < end; d = d + 1u) {
            sum = sum + f32(k[one + first + d]) * staged[t * PITCH + d];
        }
        workgroupBarrier();
    }
    return sum;
}

// v at `one` · row t of dout
fn value_by_douts(one: u32, base: u32, stride: u32, rows: u32, t: u32) -> f32 {
    var sum = 0.0;
    for (var first = 0u; first < p.dim; first = first + CHUNK) {
        stage_dout(base, stride, rows, first, t);
        let end = select(0u, min(CHUNK, p.dim - first), t < rows);
        for (var d = 0u; d < end; d = d + 1u) {
            sum = sum + f32(v[one + first + d]) * staged[t * PITCH + d];
        }
        workgroupBarrier();
    }
    return sum;
}

// The first element of a head's key row.
fn key_row(key: u32, kv_head: u32) -> u32 {
    return (key * p.kv_heads + kv_head) * p.dim;
}

// First and end of the r-th range that a query sees; the last one is its own segment.
fn range_of(query: u32, r: u32) -> vec2<u32> {
    let row = p.queries + 4u * query;
    if (r == batch[row + 1u]) {
        return vec2<u32>(batch[row + 2u], batch[row + 3u] + 1u);
    }
    let range = p.ranges + 2u * (batch[row] + r);
    return vec2<u32>(batch[range], batch[range] + batch[range + 1u]);
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.rows * p.heads) {
        return;
    }
    let query = g / p.heads;
    let kv_head = (g % p.heads) / (p.heads / p.kv_heads);
    let own = g * p.dim;
    for (var d = t; d < p.dim; d = d + GROUP) {
        sums[d] = 0.0;
    }
    var most = LOWEST;
    var total = 0.0;
    let ranges = batch[p.queries + 4u * query + 1u];
    for (var r = 0u; r <= ranges; r = r + 1u) {
        let range = range_of(query, r);
        for (var first = range.x; first < range.y; first = first + GROUP) {
            let key = first + t;
            let keys = min(GROUP, range.y - first);
            let rows = p.k_at + key_row(first, kv_head);
            let qk = query_by_keys(p.q_at + own, rows, p.kv_heads * p.dim, keys, t);
            let score = select(LOWEST, p.scale * qk, key < range.y);
            let larger = max(most, max_all(score, t));
            let e = select(0.0, exp_(score - larger), key < range.y);
            tile_p[t] = e;
            let sum = sum_all(e, t);
            let shrink = exp_(most - larger);
            total = total * shrink + sum;
            most = larger;
            for (var d = t; d < p.dim; d = d + GROUP) {
                var y = sums[d] * shrink;
                for (var j = 0u; j < keys; j = j + 1u) {
                    y = y + tile_p[j] * f32(v[p.v_at + key_row(first + j, kv_head) + d]);
                }
                sums[d] = y;
            }
            workgroupBarrier();
        }
    }
    for (var d = t; d < p.dim; d = d + GROUP) {
        out[p.out_at + own + d] = as_out(sums[d] / total);
    }
    if (t == 0u) {
        lse[p.lse_at + g] = most + ln_(total);
    }
}

// δ = dout · out of each query and head, kept in the first two numbers of its row of dq (where those are f16, the second
// has what rounding took from the first; else 0), which backward_queries overwrites last.
@compute @workgroup_size(64)
fn backward_delta(@builtin(workgroup_id) wid: vec3<u32>,
                  @builtin(num_workgroups) groups: vec3<u32>,
                  @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.rows * p.heads) {
        return;
    }
    var part = 0.0;
    for (var d = t; d < p.dim; d = d + GROUP) {
        part = part + f32(dout[p.dout_at + g * p.dim + d]) * f32(out[p.out_at + g * p.dim + d]);
    }
    let delta = sum_all(part, t);
    if (t == 0u) {
        let first = as_dq(delta);
        dq[p.dq_at + g * p.dim] = first;
        dq[p.dq_at + g * p.dim + 1u] = as_dq(delta - f32(first));
    }
}

// δ of a query and head, whose row of dq begins here.
fn delta_at(row: u32) -> f32 {
    return f32(dq[row]) + f32(dq[row + 1u]);
}

// dv += p · dout; dk += ds · q; ds = p · (dout · v - δ) · scale
@compute @workgroup_size(64)
fn backward_keys(@builtin(workgroup_id) wid: vec3<u32>,
                 @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.rows * p.kv_heads) {
        return;
    }
    let key = g / p.kv_heads;
    let own = g * p.dim;
    let group = p.heads / p.kv_heads;
    for (var d = t; d < p.dim; d = d + GROUP) {
        sums[d] = 0.0;
        sums_v[d] = 0.0;
    }
    let start = batch[p.blocks + 2u * key];
    let end = batch[p.blocks + 2u * key + 1u];
    for (var h = 0u; h < group; h = h + 1u) {
        let head = (g % p.kv_heads) * group + h;
        for (var first = start; first < end; first = first + GROUP) {
            let query = first + t;
            let queries = min(GROUP, end - first);
            let rows = (first * p.heads + head) * p.dim;
            let stride = p.heads * p.dim;
            let qk = key_by_queries(p.k_at + own, p.q_at + rows, stride, queries, t);
            let dp = value_by_douts(p.v_at + own, p.dout_at + rows, stride, queries, t);
            var weight = 0.0;
            var ds = 0.0;
            if (query < end && batch[p.queries + 4u * query + 3u] >= key) {
                let row = query * p.heads + head;
                weight = exp_(p.scale * qk - lse[p.lse_at + row]);
                ds = weight * (dp - delta_at(p.dq_at + row * p.dim)) * p.scale;
            }
            tile_p[t] = weight;
            tile_ds[t] = ds;
            workgroupBarrier();
            for (var d = t; d < p.dim; d = d + GROUP) {
                var sum_k = sums[d];
                var sum_v = sums_v[d];
                for (var j = 0u; j < queries; j = j + 1u) {
                    let row = ((first + j) * p.heads + head) * p.dim + d;
                    sum_k = sum_k + tile_ds[j] * f32(q[p.q_at + row]);
                    sum_v = sum_v + tile_p[j] * f32(dout[p.dout_at + row]);
                }
                sums[d] = sum_k;
                sums_v[d] = sum_v;
            }
            workgroupBarrier();
        }
    }
    for (var d = t; d < p.dim; d = d + GROUP) {
        dk[p.dk_at + own + d] = as_dk(sums[d]);
        dv[p.dv_at + own + d] = as_dv(sums_v[d]);
    }
}

// dq += ds · k
@compute @workgroup_size(64)
fn backward_queries(@builtin(workgroup_id) wid: vec3<u32>,
                    @builtin(num_workgroups) groups: vec3<u32>,
                    @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.rows * p.heads) {
        return;
    }
    let query = g / p.heads;
    let kv_head = (g % p.heads) / (p.heads / p.kv_heads);
    let own = g * p.dim;
    let delta = delta_at(p.dq_at + own);
    let sum_exp = lse[p.lse_at + g];
    storageBarrier();
    for (var d = t; d < p.dim; d = d + GROUP) {
        sums[d] = 0.0;
    }
    let ranges = batch[p.queries + 4u * query + 1u];
    for (var r = 0u; r <= ranges; r = r + 1u) {
        let range = range_of(query, r);
        for (var first = range.x; first < range.y; first = first + GROUP) {
            let key = first + t;
            let keys = min(GROUP, range.y - first);
            let rows = key_row(first, kv_head);
            let stride = p.kv_heads * p.dim;
            let qk = query_by_keys(p.q_at + own, p.k_at + rows, stride, keys, t);
            let dp = dout_by_values(p.dout_at + own, p.v_at + rows, stride, keys, t);
            var ds = 0.0;
            if (key < range.y) {
                ds = exp_(p.scale * qk - sum_exp) * (dp - delta) * p.scale;
            }
            tile_ds[t] = ds;
            workgroupBarrier();
            for (var d = t; d < p.dim; d = d + GROUP) {
                var sum = sums[d];
                for (var j = 0u; j < keys; j = j + 1u) {
                    sum = sum + tile_ds[j] * f32(k[p.k_at + key_row(first + j, kv_head) + d]);
                }
                sums[d] = sum;
            }
            workgroupBarrier();
        }
    }
    for (var d = t; d < p.dim; d = d + GROUP) {
        dq[p.dq_at + own + d] = as_dq(sums[d]);
    }
}
