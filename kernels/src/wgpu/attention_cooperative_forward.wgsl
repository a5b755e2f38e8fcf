@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let own = own_or_none(g, p.halves * p.heads, p.heads);
    let head = g / 2u % p.heads;
    let kv_head = head / (p.heads / p.kv_heads);
    let row = subgroup / SHARE * TILE;
    let part = subgroup % SHARE;
    let by = scales(t);
    let unscale = p.scale * by.of_q.y * by.of_k.y;
    var y = array<vec4<f32>, 8>();
    fetch(&y, by_query(Q, own.first, head), first_bits(own.rows), t);
    stage(&y, by.of_q.x, t);
    //: repeat 16
    var q_REPEAT = TileA();
    if (REPEAT < DIM_TILES) {
        let at_REPEAT = staged_at(row, REPEAT);
        q_REPEAT = coopLoadT<TileA>(&staged[at_REPEAT], STEP);
    }
    var o_REPEAT = TileC();
    //: end
    workgroupBarrier();

    // The largest score of a thread's numbers, and the sum of their exponentials.
    var most = LOWEST;
    var total = 0.0;
    for (var i = 0u; i < own.blocks; i = i + 1u) {
        let block = block_of(own, i);
        fetch(&y, by_key(K, block.x, kv_head), block.zw, t);
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
        let s_REPEAT = select(vec4<f32>(LOWEST), unscale * score(t, REPEAT), sees(bits, t, REPEAT));
        //: end
        let tops = max(max(s_0u, s_1u), max(s_2u, s_3u));
        let higher = max(most, max(max(tops.x, tops.y), max(tops.z, tops.w)));
        total = total * exp(most - higher);
        most = higher;
        //: repeat 4
        total = total + dot(select(vec4<f32>(), exp(s_REPEAT - higher), sees(bits, t, REPEAT)), vec4<f32>(1.0));
        //: end
    }
    workgroupBarrier();
    scores[t] = vec4<f32>(most, total, 0.0, 0.0);
    workgroupBarrier();
    var highest = LOWEST;
    for (var i = 0u; i < 4u; i = i + 1u) {
        highest = max(highest, scores[t / 4u * 4u + i].x);
    }
    var sum = 0.0;
    for (var i = 0u; i < 4u; i = i + 1u) {
        let other = scores[t / 4u * 4u + i];
        sum = sum + other.y * exp_(other.x - highest);
    }
    let log_sum = highest + ln_(sum);
    if (t % 4u == 0u && row_of(t) < own.rows) {
        lse[p.lse_at + (own.first + row_of(t)) * p.heads + head] = log_sum;
    }
    workgroupBarrier();

    for (var i = 0u; i < own.blocks; i = i + 1u) {
        let block = block_of(own, i);
        fetch(&y, by_key(K, block.x, kv_head), block.zw, t);
        stage(&y, by.of_k.x, t);
        fetch(&y, by_key(V, block.x, kv_head), block.zw, t);
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
        let w_REPEAT = exp(unscale * score(t, REPEAT) - log_sum);
        put_weight(t, REPEAT, select(vec4<f32>(), w_REPEAT, sees(bits, t, REPEAT)));
        //: end
        stage(&y, by.of_v.x, t);
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
    let at = (p.out_at + (own.first * p.heads + head) * DIM) / 4u;
    //: repeat 16
    if (REPEAT < OWN_CHANNELS) {
        coopStoreT(o_REPEAT, &scores[to], SCORES_STEP);
        put_rows(DOUT, at, p.heads * DIM / 4u, own, REPEAT, by.of_v.y, t);
    }
    //: end
}
