// out (n,H,D) = softmax(q·kᵀ / sqrt(D)) · v over the visible keys, with the running maximum of
// Milakov & Gimelshein 2018; the backward works from lse as FlashAttention does (Dao et al. 2022).
//
// One workgroup a query and head (or a key and key head): its threads are 64 keys (queries) while
// scores are computed, then the channels of the head. No two workgroups write the same number, so
// sums have one order.

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

fn dot_qk(query: u32, key: u32) -> f32 {
    var sum = 0.0;
    for (var d = 0u; d < p.dim; d = d + 1u) {
        sum = sum + q[query + d] * k[key + d];
    }
    return sum;
}

fn dot_dv(query: u32, key: u32) -> f32 {
    var sum = 0.0;
    for (var d = 0u; d < p.dim; d = d + 1u) {
        sum = sum + dout[query + d] * v[key + d];
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
        out[p.out_at + own + d] = 0.0;
    }
    var most = LOWEST;
    var total = 0.0;
    let ranges = batch[p.queries + 4u * query + 1u];
    for (var r = 0u; r <= ranges; r = r + 1u) {
        let range = range_of(query, r);
        for (var first = range.x; first < range.y; first = first + GROUP) {
            let key = first + t;
            var score = LOWEST;
            if (key < range.y) {
                score = p.scale * dot_qk(p.q_at + own, p.k_at + key_row(key, kv_head));
            }
            let larger = max(most, max_all(score, t));
            let e = select(0.0, exp_(score - larger), key < range.y);
            tile_p[t] = e;
            let sum = sum_all(e, t);
            let shrink = exp_(most - larger);
            total = total * shrink + sum;
            most = larger;
            let keys = min(GROUP, range.y - first);
            for (var d = t; d < p.dim; d = d + GROUP) {
                var y = out[p.out_at + own + d] * shrink;
                for (var j = 0u; j < keys; j = j + 1u) {
                    y = y + tile_p[j] * v[p.v_at + key_row(first + j, kv_head) + d];
                }
                out[p.out_at + own + d] = y;
            }
            workgroupBarrier();
        }
    }
    for (var d = t; d < p.dim; d = d + GROUP) {
        out[p.out_at + own + d] = out[p.out_at + own + d] / total;
    }
    if (t == 0u) {
        lse[p.lse_at + g] = most + ln_(total);
    }
}

// δ = dout · out of each query and head, kept in the first number of its row of dq, which
// backward_queries overwrites last.
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
        part = part + dout[p.dout_at + g * p.dim + d] * out[p.out_at + g * p.dim + d];
    }
    let delta = sum_all(part, t);
    if (t == 0u) {
        dq[p.dq_at + g * p.dim] = delta;
    }
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
        dk[p.dk_at + own + d] = 0.0;
        dv[p.dv_at + own + d] = 0.0;
    }
    let start = batch[p.blocks + 2u * key];
    let end = batch[p.blocks + 2u * key + 1u];
    for (var h = 0u; h < group; h = h + 1u) {
        let head = (g % p.kv_heads) * group + h;
        for (var first = start; first < end; first = first + GROUP) {
            let query = first + t;
            var weight = 0.0;
            var ds = 0.0;
            if (query < end && batch[p.queries + 4u * query + 3u] >= key) {
                let row = query * p.heads + head;
                let score = p.scale * dot_qk(p.q_at + row * p.dim, p.k_at + own);
                weight = exp_(score - lse[p.lse_at + row]);
                let dp = dot_dv(p.dout_at + row * p.dim, p.v_at + own);
                ds = weight * (dp - dq[p.dq_at + row * p.dim]) * p.scale;
            }
            tile_p[t] = weight;
            tile_ds[t] = ds;
            workgroupBarrier();
            let queries = min(GROUP, end - first);
            for (var d = t; d < p.dim; d = d + GROUP) {
                var sum_k = dk[p.dk_at + own + d];
                var sum_v = dv[p.dv_at + own + d];
                for (var j = 0u; j < queries; j = j + 1u) {
                    let row = ((first + j) * p.heads + head) * p.dim + d;
                    sum_k = sum_k + tile_ds[j] * q[p.q_at + row];
                    sum_v = sum_v + tile_p[j] * dout[p.dout_at + row];
                }
                dk[p.dk_at + own + d] = sum_k;
                dv[p.dv_at + own + d] = sum_v;
            }
            workgroupBarrier();
        }
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
    let delta = dq[p.dq_at + own];
    let sum_exp = lse[p.lse_at + g];
    storageBarrier();
    for (var d = t; d < p.dim; d = d + GROUP) {
        dq[p.dq_at + own + d] = 0.0;
    }
    let ranges = batch[p.queries + 4u * query + 1u];
    for (var r = 0u; r <= ranges; r = r + 1u) {
        let range = range_of(query, r);
        for (var first = range.x; first < range.y; first = first + GROUP) {
            let key = first + t;
            var ds = 0.0;
            if (key < range.y) {
                let row = key_row(key, kv_head);
                let score = p.scale * dot_qk(p.q_at + own, p.k_at + row);
                let dp = dot_dv(p.dout_at + own, p.v_at + row);
                ds = exp_(score - sum_exp) * (dp - delta) * p.scale;
            }
            tile_ds[t] = ds;
            workgroupBarrier();
            let keys = min(GROUP, range.y - first);
            for (var d = t; d < p.dim; d = d + GROUP) {
                var sum = dq[p.dq_at + own + d];
                for (var j = 0u; j < keys; j = j + 1u) {
                    sum = sum + tile_ds[j] * k[p.k_at + key_row(first + j, kv_head) + d];
                }
                dq[p.dq_at + own + d] = sum;
            }
            workgroupBarrier();
        }
    }
}
