// p = exp(scale · q · k - lse); ds = p · (dout · v - δ) · scale. δ is in the first numbers of each row of
// dq, which backward_queries overwrites last.
@compute @workgroup_size(256)
fn backward_queries(@builtin(workgroup_id) wid: vec3<u32>,
                    @builtin(num_workgroups) groups: vec3<u32>,
                    @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.halves * p.heads) {
        return;
    }
    let own = own_of(g, p.heads);
    if (own.rows == 0u) {
        return;
    }
    let head = g / 2u % p.heads;
    let kv_head = head / (p.heads / p.kv_heads);
    let queries = by_query(Q, own.first, head);
    let douts = by_query(DOUT, own.first, head);
    var o = array<vec4<f32>, 8>();
    var s = array<vec4<f32>, 4>();
    var ds = array<vec4<f32>, 4>();
    var delta = vec4<f32>(0.0);
    var log_sum = vec4<f32>(0.0);
    //: repeat 4
    {
        let row = own.first + min(4u * (t / 16u) + REPEAT, own.rows - 1u);
        delta[REPEAT] = delta_at((p.dq_at + (row * p.heads + head) * p.dim) / 4u);
        log_sum[REPEAT] = lse[p.lse_at + row * p.heads + head];
    }
    //: end
    for (var i = 0u; i < own.blocks; i = i + 1u) {
        let block = block_of(own, i);
        inner(&s, queries, own.rows, by_key(K, block.x, kv_head), block.zw, t);
        inner(&ds, douts, own.rows, by_key(V, block.x, kv_head), block.zw, t);
        //: repeat 4
        {
            let seen = sees(own, block.y, REPEAT, t);
            let weight = exp4(p.scale * s[REPEAT] - log_sum[REPEAT]);
            let x = weight * (ds[REPEAT] - delta[REPEAT]) * p.scale;
            ds[REPEAT] = select(vec4<f32>(0.0), x, seen);
        }
        //: end
        spread(ds, t);
        gather(&o, by_key(K, block.x, kv_head), block.zw, t);
    }
    // Every thread has read its δ before one of them is overwritten.
    workgroupBarrier();
    let quads = p.dim / 4u;
    let tx = t % 16u;
    //: repeat 4
    {
        let row = 4u * (t / 16u) + REPEAT;
        if (row < own.rows) {
            let to = (p.dq_at + ((own.first + row) * p.heads + head) * p.dim) / 4u + tx;
            if (tx < quads) {
                dq[to] = as_dq(o[REPEAT]);
            }
            if (tx + 16u < quads) {
                dq[to + 16u] = as_dq(o[4u + REPEAT]);
            }
        }
    }
    //: end
}

// dv = pᵀ · dout; dk = dsᵀ · q: rows are keys, columns queries.
@compute @workgroup_size(256)
fn backward_keys(@builtin(workgroup_id) wid: vec3<u32>,
                 @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    if (g >= p.halves * p.kv_heads) {
        return;
    }
    let own = own_of(g, p.kv_heads);
    if (own.rows == 0u) {
        return;
    }
    let kv_head = g / 2u % p.kv_heads;
    let group = p.heads / p.kv_heads;
    let keys = by_key(K, own.first, kv_head);
    let values = by_key(V, own.first, kv_head);
    var grad_k = array<vec4<f32>, 8>();
    var grad_v = array<vec4<f32>, 8>();
    var s = array<vec4<f32>, 4>();
    var ds = array<vec4<f32>, 4>();
    let tx = t % 16u;
    for (var i = 0u; i < own.blocks * group; i = i + 1u) {
        let head = kv_head * group + i % group;
        let block = block_of(own, i / group);
        let queries = by_query(Q, block.x, head);
        let douts = by_query(DOUT, block.x, head);
        inner(&s, keys, own.rows, queries, block.zw, t);
        inner(&ds, values, own.rows, douts, block.zw, t);
        var delta = vec4<f32>(0.0);
        var log_sum = vec4<f32>(0.0);
        //: repeat 4
        {
            let column = tx + 16u * REPEAT;
            if (has(block.zw, column)) {
                let row = (block.x + column) * p.heads + head;
                delta[REPEAT] = delta_at((p.dq_at + row * p.dim) / 4u);
                log_sum[REPEAT] = lse[p.lse_at + row];
            }
        }
        //: end
        //: repeat 4
        {
            let seen = sees(own, block.y, REPEAT, t);
            let weight = select(vec4<f32>(0.0), exp4(p.scale * s[REPEAT] - log_sum), seen);
            let x = weight * (ds[REPEAT] - delta) * p.scale;
            s[REPEAT] = weight;
            ds[REPEAT] = select(vec4<f32>(0.0), x, seen);
        }
        //: end
        spread(s, t);
        gather(&grad_v, douts, block.zw, t);
        spread(ds, t);
        gather(&grad_k, queries, block.zw, t);
    }
    let quads = p.dim / 4u;
    //: repeat 4
    {
        let row = 4u * (t / 16u) + REPEAT;
        if (row < own.rows) {
            let at = ((own.first + row) * p.kv_heads + kv_head) * p.dim;
            if (tx < quads) {
                dk[(p.dk_at + at) / 4u + tx] = as_dk(grad_k[REPEAT]);
                dv[(p.dv_at + at) / 4u + tx] = as_dv(grad_v[REPEAT]);
            }
            if (tx + 16u < quads) {
                dk[(p.dk_at + at) / 4u + tx + 16u] = as_dk(grad_k[4u + REPEAT]);
                dv[(p.dv_at + at) / 4u + tx + 16u] = as_dv(grad_v[4u + REPEAT]);
            }
        }
    }
    //: end
}
