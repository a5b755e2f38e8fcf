// p = exp(scale · q · k - lse); ds = p · (dout · v - δ) · scale. δ is in the first numbers of each row of
// dq, which backward_queries overwrites last.
@compute @workgroup_size(256)
fn backward_queries(@builtin(workgroup_id) wid: vec3<u32>,
                    @builtin(num_workgroups) groups: vec3<u32>,
                    @builtin(subgroup_id) subgroup: u32,
                    @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let own = own_or_none(g, p.halves * p.heads, p.heads);
    let head = g / 2u % p.heads;
    let kv_head = head / (p.heads / p.kv_heads);
    let row = subgroup / SHARE * TILE;
    let part = subgroup % SHARE;
    let by = scales(t);
    let of_s = p.scale * by.of_q.y * by.of_k.y;
    let of_dp = by.of_dout.y * by.of_v.y;
    let of_ds = p.scale * by.of_ds.x;
    var y = array<vec4<f32>, 8>();
    fetch(&y, by_query(Q, own.first, head), first_bits(own.rows), t);
    stage(&y, by.of_q.x, t);
    //: repeat 16
    var q_REPEAT = TileA();
    var d_REPEAT = TileA();
    var o_REPEAT = TileC();
    if (REPEAT < DIM_TILES) {
        let at_REPEAT = staged_at(row, REPEAT);
        q_REPEAT = coopLoadT<TileA>(&staged[at_REPEAT], STEP);
    }
    //: end
    workgroupBarrier();
    fetch(&y, by_query(DOUT, own.first, head), first_bits(own.rows), t);
    stage(&y, by.of_dout.x, t);
    //: repeat 16
    if (REPEAT < DIM_TILES) {
        let at_REPEAT = staged_at(row, REPEAT);
        d_REPEAT = coopLoadT<TileA>(&staged[at_REPEAT], STEP);
    }
    //: end
    workgroupBarrier();
    let at = min(own.first + row_of(t), p.rows - 1u) * p.heads + head;
    let delta = delta_at((p.dq_at + at * DIM) / 4u);
    let log_sum = lse[p.lse_at + at];
    for (var i = 0u; i < own.blocks; i = i + 1u) {
        let block = block_of(own, i);
        fetch(&y, by_key(V, block.x, kv_head), block.zw, t);
        stage(&y, by.of_v.x, t);
        fetch(&y, by_key(K, block.x, kv_head), block.zw, t);
        for (var j = 0u; j < OWN_COLUMNS; j = j + 1u) {
            let column = (part * OWN_COLUMNS + j) * TILE;
            var s = TileC();
            //: repeat 16
            if (REPEAT < DIM_TILES) {
                let at_REPEAT = staged_at(column, REPEAT);
                s = coopMultiplyAdd(d_REPEAT, coopLoad<TileB>(&staged[at_REPEAT], STEP), s);
            }
            //: end
            let to = row * SCORES_STEP + column / 4u;
            coopStoreT(s, &scores[to], SCORES_STEP);
        }
        workgroupBarrier();
        //: repeat 4
        let dp_REPEAT = of_dp * score(t, REPEAT) - delta;
        //: end
        stage(&y, by.of_k.x, t);
        for (var j = 0u; j < OWN_COLUMNS; j = j + 1u) {
            let column = (part * OWN_COLUMNS + j) * TILE;
            var s = TileC();
            //: repeat 16
            if (REPEAT < DIM_TILES) {
                let at_REPEAT = staged_at(column, REPEAT);
                s = coopMultiplyAdd(q_REPEAT, coopLoad<TileB>(&staged[at_REPEAT], STEP), s);
            }
            //: end
            let to = row * SCORES_STEP + column / 4u;
            coopStoreT(s, &scores[to], SCORES_STEP);
        }
        workgroupBarrier();
        let bits = seen_by(own, block.y, t);
        //: repeat 4
        let ds_REPEAT = exp(of_s * score(t, REPEAT) - log_sum) * dp_REPEAT * of_ds;
        put_weight(t, REPEAT, select(vec4<f32>(), ds_REPEAT, sees(bits, t, REPEAT)));
        //: end
        workgroupBarrier();
        for (var n = 0u; n < ROW_TILES; n = n + 1u) {
            let at_w = weights_at(row, n);
            let w = coopLoadT<TileA>(&weights[at_w], WEIGHTS_STEP);
            //: repeat 16
            if (REPEAT < OWN_CHANNELS) {
                let at_REPEAT = staged_at(n * TILE, part * OWN_CHANNELS + REPEAT);
                o_REPEAT = coopMultiplyAdd(w, coopLoadT<TileB>(&staged[at_REPEAT], STEP), o_REPEAT);
            }
            //: end
        }
        workgroupBarrier();
    }
    let to = row * SCORES_STEP + part * TILE_QUADS;
    let rows = (p.dq_at + (own.first * p.heads + head) * DIM) / 4u;
    // Every thread has read its δ before one of them is overwritten.
    workgroupBarrier();
    //: repeat 16
    if (REPEAT < OWN_CHANNELS) {
        coopStoreT(o_REPEAT, &scores[to], SCORES_STEP);
        put_rows(Q, rows, p.heads * DIM / 4u, own, REPEAT, by.of_ds.y * by.of_k.y, t);
    }
    //: end
}

// The logarithms of the sums and δ of a block's 64 columns, for all threads: behind the rows of scores where those are
// padded, else read by each.
fn note_columns(first: u32, head: u32, some: vec2<u32>, t: u32) {
    if (SCORES_STEP > 16u && t < 64u) {
        var y = vec2<f32>();
        if (has(some, t)) {
            let at = (first + t) * p.heads + head;
            y = vec2<f32>(lse[p.lse_at + at], delta_at((p.dq_at + at * DIM) / 4u));
        }
        scores[t / 4u * SCORES_STEP + 16u][t % 4u] = y.x;
        scores[(16u + t / 4u) * SCORES_STEP + 16u][t % 4u] = y.y;
    }
}

// Those of a thread's quad i of columns.
fn log_sums(first: u32, head: u32, some: vec2<u32>, t: u32, i: u32) -> vec4<f32> {
    if (SCORES_STEP > 16u) {
        return scores[quad_of(t, i) * SCORES_STEP + 16u];
    }
    var y = vec4<f32>();
    //: repeat 4
    if (has(some, 4u * quad_of(t, i) + REPEAT)) {
        y[REPEAT] = lse[p.lse_at + (first + 4u * quad_of(t, i) + REPEAT) * p.heads + head];
    }
    //: end
    return y;
}

fn deltas(first: u32, head: u32, some: vec2<u32>, t: u32, i: u32) -> vec4<f32> {
    if (SCORES_STEP > 16u) {
        return scores[(16u + quad_of(t, i)) * SCORES_STEP + 16u];
    }
    var y = vec4<f32>();
    //: repeat 4
    if (has(some, 4u * quad_of(t, i) + REPEAT)) {
        let at = (first + 4u * quad_of(t, i) + REPEAT) * p.heads + head;
        y[REPEAT] = delta_at((p.dq_at + at * DIM) / 4u);
    }
    //: end
    return y;
}

// dv = pᵀ · dout; dk = dsᵀ · q: rows are keys, columns queries.
@compute @workgroup_size(256)
fn backward_keys(@builtin(workgroup_id) wid: vec3<u32>,
                 @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(subgroup_id) subgroup: u32,
                 @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let own = own_or_none(g, p.halves * p.kv_heads, p.kv_heads);
    let kv_head = g / 2u % p.kv_heads;
    let group = p.heads / p.kv_heads;
    let row = subgroup / SHARE * TILE;
    let part = subgroup % SHARE;
    let by = scales(t);
    let of_s = p.scale * by.of_q.y * by.of_k.y;
    let of_dp = by.of_dout.y * by.of_v.y;
    let of_ds = p.scale * by.of_ds.x;
    var y = array<vec4<f32>, 8>();
    fetch(&y, by_key(K, own.first, kv_head), first_bits(own.rows), t);
    stage(&y, by.of_k.x, t);
    //: repeat 16
    var k_REPEAT = TileA();
    var v_REPEAT = TileA();
    var dk_REPEAT = TileC();
    var dv_REPEAT = TileC();
    if (REPEAT < DIM_TILES) {
        let at_REPEAT = staged_at(row, REPEAT);
        k_REPEAT = coopLoadT<TileA>(&staged[at_REPEAT], STEP);
    }
    //: end
    workgroupBarrier();
    fetch(&y, by_key(V, own.first, kv_head), first_bits(own.rows), t);
    stage(&y, by.of_v.x, t);
    //: repeat 16
    if (REPEAT < DIM_TILES) {
        let at_REPEAT = staged_at(row, REPEAT);
        v_REPEAT = coopLoadT<TileA>(&staged[at_REPEAT], STEP);
    }
    //: end
    workgroupBarrier();
    for (var i = 0u; i < own.blocks * group; i = i + 1u) {
        let head = kv_head * group + i % group;
        let block = block_of(own, i / group);
        fetch(&y, by_query(Q, block.x, head), block.zw, t);
        note_columns(block.x, head, block.zw, t);
        stage(&y, by.of_q.x, t);
        fetch(&y, by_query(DOUT, block.x, head), block.zw, t);
        for (var j = 0u; j < OWN_COLUMNS; j = j + 1u) {
            let column = (part * OWN_COLUMNS + j) * TILE;
            var s = TileC();
            //: repeat 16
            if (REPEAT < DIM_TILES) {
                let at_REPEAT = staged_at(column, REPEAT);
                s = coopMultiplyAdd(k_REPEAT, coopLoad<TileB>(&staged[at_REPEAT], STEP), s);
            }
            //: end
            let to = row * SCORES_STEP + column / 4u;
            coopStoreT(s, &scores[to], SCORES_STEP);
        }
        workgroupBarrier();
        let bits = seen_by(own, block.y, t);
        //: repeat 4
        let w_REPEAT = select(vec4<f32>(), exp(of_s * score(t, REPEAT) - log_sums(block.x, head, block.zw, t, REPEAT)),
                              sees(bits, t, REPEAT));
        put_weight(t, REPEAT, w_REPEAT);
        //: end
        stage(&y, by.of_dout.x, t);
        fetch(&y, by_query(Q, block.x, head), block.zw, t);
        for (var n = 0u; n < ROW_TILES; n = n + 1u) {
            let at_w = weights_at(row, n);
            let w = coopLoadT<TileA>(&weights[at_w], WEIGHTS_STEP);
            //: repeat 16
            if (REPEAT < OWN_CHANNELS) {
                let at_REPEAT = staged_at(n * TILE, part * OWN_CHANNELS + REPEAT);
                dv_REPEAT = coopMultiplyAdd(w, coopLoadT<TileB>(&staged[at_REPEAT], STEP), dv_REPEAT);
            }
            //: end
        }
        for (var j = 0u; j < OWN_COLUMNS; j = j + 1u) {
            let column = (part * OWN_COLUMNS + j) * TILE;
            var s = TileC();
            //: repeat 16
            if (REPEAT < DIM_TILES) {
                let at_REPEAT = staged_at(column, REPEAT);
                s = coopMultiplyAdd(v_REPEAT, coopLoad<TileB>(&staged[at_REPEAT], STEP), s);
            }
            //: end
            let to = row * SCORES_STEP + column / 4u;
            coopStoreT(s, &scores[to], SCORES_STEP);
        }
        workgroupBarrier();
        //: repeat 4
        let dp_REPEAT = of_dp * score(t, REPEAT) - deltas(block.x, head, block.zw, t, REPEAT);
        put_weight(t, REPEAT, w_REPEAT * dp_REPEAT * of_ds);
        //: end
        stage(&y, by.of_q.x, t);
        for (var n = 0u; n < ROW_TILES; n = n + 1u) {
            let at_w = weights_at(row, n);
            let w = coopLoadT<TileA>(&weights[at_w], WEIGHTS_STEP);
            //: repeat 16
            if (REPEAT < OWN_CHANNELS) {
                let at_REPEAT = staged_at(n * TILE, part * OWN_CHANNELS + REPEAT);
                dk_REPEAT = coopMultiplyAdd(w, coopLoadT<TileB>(&staged[at_REPEAT], STEP), dk_REPEAT);
            }
            //: end
        }
        workgroupBarrier();
    }
    let to = row * SCORES_STEP + part * TILE_QUADS;
    let rows = (own.first * p.kv_heads + kv_head) * DIM;
    //: repeat 16
    if (REPEAT < OWN_CHANNELS) {
        coopStoreT(dk_REPEAT, &scores[to], SCORES_STEP);
        put_rows(K, (p.dk_at + rows) / 4u, p.kv_heads * DIM / 4u, own, REPEAT, by.of_ds.y * by.of_q.y, t);
        coopStoreT(dv_REPEAT, &scores[to], SCORES_STEP);
        put_rows(V, (p.dv_at + rows) / 4u, p.kv_heads * DIM / 4u, own, REPEAT, by.of_dout.y, t);
    }
    //: end
}
