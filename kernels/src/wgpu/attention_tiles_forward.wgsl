// For each of a thread's four rows the largest (or the sum) of its row's quads, the same for the row's
// 16 threads.
fn row_most(x: vec4<f32>, t: u32) -> vec4<f32> {
    workgroupBarrier();
    weights[t % 16u * PITCH + t / 16u] = x;
    workgroupBarrier();
    var y = x;
    for (var i = 0u; i < 16u; i = i + 1u) {
        y = max(y, weights[i * PITCH + t / 16u]);
    }
    return y;
}

fn row_sum(x: vec4<f32>, t: u32) -> vec4<f32> {
    workgroupBarrier();
    weights[t % 16u * PITCH + t / 16u] = x;
    workgroupBarrier();
    var y = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i = i + 1u) {
        y = y + weights[i * PITCH + t / 16u];
    }
    return y;
}

fn largest(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
    var o = array<vec4<f32>, 8>();
    var s = array<vec4<f32>, 4>();
    var most = vec4<f32>(LOWEST);
    var total = vec4<f32>(0.0);
    for (var i = 0u; i < own.blocks; i = i + 1u) {
        let block = block_of(own, i);
        inner(&s, queries, own.rows, by_key(K, block.x, kv_head), block.zw, t);
        var tops = vec4<f32>(LOWEST);
        //: repeat 4
        {
            let seen = sees(own, block.y, REPEAT, t);
            s[REPEAT] = select(vec4<f32>(LOWEST), p.scale * s[REPEAT], seen);
            tops[REPEAT] = largest(s[REPEAT]);
        }
        //: end
        let higher = max(most, row_most(tops, t));
        let shrink = exp4(most - higher);
        most = higher;
        total = total * shrink;
        //: repeat 4
        {
            let seen = sees(own, block.y, REPEAT, t);
            s[REPEAT] = select(vec4<f32>(0.0), exp4(s[REPEAT] - higher[REPEAT]), seen);
            total[REPEAT] = total[REPEAT] + dot(s[REPEAT], vec4<f32>(1.0));
            o[REPEAT] = o[REPEAT] * shrink[REPEAT];
            o[4u + REPEAT] = o[4u + REPEAT] * shrink[REPEAT];
        }
        //: end
        spread(s, t);
        gather(&o, by_key(V, block.x, kv_head), block.zw, t);
    }
    let sum = row_sum(total, t);
    let quads = p.dim / 4u;
    let tx = t % 16u;
    //: repeat 4
    {
        let row = 4u * (t / 16u) + REPEAT;
        if (row < own.rows) {
            let at = (own.first + row) * p.heads + head;
            let to = (p.out_at + at * p.dim) / 4u + tx;
            if (tx < quads) {
                out[to] = as_out(o[REPEAT] / sum[REPEAT]);
            }
            if (tx + 16u < quads) {
                out[to + 16u] = as_out(o[4u + REPEAT] / sum[REPEAT]);
            }
            if (tx == 0u) {
                lse[p.lse_at + at] = most[REPEAT] + ln_(sum[REPEAT]);
            }
        }
    }
    //: end
}
