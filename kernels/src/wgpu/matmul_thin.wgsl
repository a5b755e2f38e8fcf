// out = alpha · A · B [+ out] where one extent is small, as LoRA's rank is: what is large is passed over once, four
// numbers at a time. RANK is that extent, a multiple of 4 up to 32.
//
// For `across` and `down`, several workgroups share a result, each with a slice of the sum; each writes sums of its
// own, and matmul_sum.wgsl adds them in their order. For `wide` the large operand is the result.

struct P {
    first_group: u32,
    // The large operand, and the thin one.
    big_at: u32,
    thin_at: u32,
    // Rows and columns of the large operand, and elements from one row to the next.
    rows: u32,
    columns: u32,
    big_row: u32,
    // Elements of the weight from one of its long side (`wide`, where it is B_K_FAST not: RANK) to the next.
    weight_step: u32,
    weight_at: u32,
    // Workgroups along the sum (`wide`: along the rows), and how much of it each takes.
    slices: u32,
    slice: u32,
    // `wide` alone; 1: added to out.
    alpha: f32,
    add: u32,
}

const GROUP: u32 = 256u;
const RANK: u32 = WX;
const RANK_QUADS: u32 = RANK / 4u;

// A tile of 64 rows and 16 quads of columns of the large operand; one quad more, against bank conflicts.
const PITCH: u32 = 17u;
var<workgroup> tile: array<vec4<f32>, 64u * PITCH>;
// The thin operand's part: for each of 64 places along the sum (`wide`: rows) RANK numbers.
var<workgroup> factors: array<vec4<f32>, 64u * RANK_QUADS>;

// out (rows, RANK) = A (rows, columns) · B (columns, RANK). A thread has one row, and each fourth quad of RANK from
// its own on. B_K_FAST says that B lies transposed.
@compute @workgroup_size(256)
fn across(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let slice = g % p.slices;
    let first = g / p.slices * 64u;
    if (first >= p.rows) {
        return;
    }
    let end = min(p.columns, (slice + 1u) * p.slice);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    // A thread's quads of the tile after this one are on their way while this one is multiplied.
    let lane = t % 16u;
    //: repeat 4
    let row_REPEAT = t / 16u + 16u * REPEAT;
    let at_REPEAT = (p.big_at + min(first + row_REPEAT, p.rows - 1u) * p.big_row) / 4u + lane;
    var x_REPEAT = vec4<f32>();
    if (slice * p.slice + 4u * lane < end) {
        x_REPEAT = vec4<f32>(big[at_REPEAT + slice * p.slice / 4u]);
    }
    //: end
    for (var k = slice * p.slice; k < end; k = k + 64u) {
        workgroupBarrier();
        //: repeat 4
        tile[row_REPEAT * PITCH + lane] = x_REPEAT;
        x_REPEAT = vec4<f32>();
        if (k + 64u + 4u * lane < end) {
            x_REPEAT = vec4<f32>(big[at_REPEAT + (k + 64u) / 4u]);
        }
        //: end
        for (var i = t; i < 16u * RANK; i = i + GROUP) {
            if (B_K_FAST) {
                // Four places of one column of B.
                let r = i / 16u;
                let c = 4u * (i % 16u);
                var y = vec4<f32>();
                if (k + c < end) {
                    y = weight_quad((p.weight_at + r * p.weight_step + k + c) / 4u);
                }
                factors[c * RANK_QUADS + r / 4u][r % 4u] = y.x;
                factors[(c + 1u) * RANK_QUADS + r / 4u][r % 4u] = y.y;
                factors[(c + 2u) * RANK_QUADS + r / 4u][r % 4u] = y.z;
                factors[(c + 3u) * RANK_QUADS + r / 4u][r % 4u] = y.w;
            } else {
                let c = i / RANK_QUADS;
                factors[i] = vec4<f32>();
                if (k + c < end) {
                    factors[i] = weight_quad((p.weight_at + (k + c) * p.weight_step) / 4u + i % RANK_QUADS);
                }
            }
        }
        workgroupBarrier();
        let own = min(t % 4u, RANK_QUADS - 1u);
        let other = min(own + 4u, RANK_QUADS - 1u);
        for (var c = 0u; c < 16u; c = c + 1u) {
            let x = tile[t / 4u * PITCH + c];
            //: repeat 4
            sum0 = fma(vec4<f32>(x[REPEAT]), factors[(4u * c + REPEAT) * RANK_QUADS + own], sum0);
            if (RANK > 16u) {
                sum1 = fma(vec4<f32>(x[REPEAT]), factors[(4u * c + REPEAT) * RANK_QUADS + other], sum1);
            }
            //: end
        }
    }
    let row = first + t / 4u;
    if (row < p.rows) {
        let to = (slice * p.rows + row) * RANK_QUADS + t % 4u;
        if (t % 4u < RANK_QUADS) {
            out[to] = as_out(sum0);
        }
        if (t % 4u + 4u < RANK_QUADS) {
            out[to + 4u] = as_out(sum1);
        }
    }
}

// 64 rows of the thin operand; 0 beyond the end.
fn stage(first: u32, end: u32, t: u32) {
    workgroupBarrier();
    for (var i = t; i < 64u * RANK_QUADS; i = i + GROUP) {
        factors[i] = vec4<f32>();
        if (first + i / RANK_QUADS < end) {
            factors[i] = vec4<f32>(thin[p.thin_at / 4u + first * RANK_QUADS + i]);
        }
    }
    workgroupBarrier();
}

// acc[r] += thin[row, r] · x, for the staged row of the thin operand.
fn add_row(acc: ptr<function, array<vec4<f32>, 32>>, row: u32, x: vec4<f32>) {
    //: repeat 8
    if (REPEAT < RANK_QUADS) {
        let f = factors[row * RANK_QUADS + REPEAT];
        (*acc)[4u * REPEAT] = fma(vec4<f32>(f.x), x, (*acc)[4u * REPEAT]);
        (*acc)[4u * REPEAT + 1u] = fma(vec4<f32>(f.y), x, (*acc)[4u * REPEAT + 1u]);
        (*acc)[4u * REPEAT + 2u] = fma(vec4<f32>(f.z), x, (*acc)[4u * REPEAT + 2u]);
        (*acc)[4u * REPEAT + 3u] = fma(vec4<f32>(f.w), x, (*acc)[4u * REPEAT + 3u]);
    }
    //: end
}

// out (RANK, columns) = thinᵀ (RANK, rows) · big (rows, columns), or its transpose where A_K_FAST. A thread has one
// quad of columns.
@compute @workgroup_size(256)
fn down(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let slice = g % p.slices;
    let quads = p.columns / 4u;
    let column = g / p.slices * GROUP + t;
    let at = p.big_at / 4u + min(column, quads - 1u);
    let end = min(p.rows, (slice + 1u) * p.slice);
    var acc = array<vec4<f32>, 32>();
    for (var first = slice * p.slice; first < end; first = first + 64u) {
        stage(first, end, t);
        for (var row = 0u; row < min(64u, end - first); row = row + 8u) {
            // Rows beyond the end meet factors of 0.
            //: repeat 8
            let x_REPEAT = vec4<f32>(big[at + min(first + row + REPEAT, end - 1u) * (p.big_row / 4u)]);
            //: end
            //: repeat 8
            add_row(&acc, row + REPEAT, x_REPEAT);
            //: end
        }
    }
    if (column >= quads) {
        return;
    }
    if (A_K_FAST) {
        //: repeat 8
        if (REPEAT < RANK_QUADS) {
            let s0 = acc[4u * REPEAT];
            let s1 = acc[4u * REPEAT + 1u];
            let s2 = acc[4u * REPEAT + 2u];
            let s3 = acc[4u * REPEAT + 3u];
            let to = (slice * p.columns + 4u * column) * RANK_QUADS + REPEAT;
            out[to] = as_out(vec4<f32>(s0.x, s1.x, s2.x, s3.x));
            out[to + RANK_QUADS] = as_out(vec4<f32>(s0.y, s1.y, s2.y, s3.y));
            out[to + 2u * RANK_QUADS] = as_out(vec4<f32>(s0.z, s1.z, s2.z, s3.z));
            out[to + 3u * RANK_QUADS] = as_out(vec4<f32>(s0.w, s1.w, s2.w, s3.w));
        }
        //: end
    } else {
        //: repeat 32
        if (REPEAT < RANK) {
            out[(slice * RANK + REPEAT) * quads + column] = as_out(acc[REPEAT]);
        }
        //: end
    }
}

// Σ_r thin[row, r] · b[r], for the staged row of the thin operand.
fn of_row(b: ptr<function, array<vec4<f32>, 32>>, row: u32) -> vec4<f32> {
    var y = vec4<f32>();
    //: repeat 8
    if (REPEAT < RANK_QUADS) {
        let f = factors[row * RANK_QUADS + REPEAT];
        y = fma(vec4<f32>(f.x), (*b)[4u * REPEAT], y);
        y = fma(vec4<f32>(f.y), (*b)[4u * REPEAT + 1u], y);
        y = fma(vec4<f32>(f.z), (*b)[4u * REPEAT + 2u], y);
        y = fma(vec4<f32>(f.w), (*b)[4u * REPEAT + 3u], y);
    }
    //: end
    return y;
}

// out (rows, columns) = alpha · thin (rows, RANK) · B (RANK, columns) [+ out]. A thread has one quad of columns.
// B_K_FAST says that B lies transposed.
@compute @workgroup_size(256)
fn wide(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let g = group_index(wid, groups);
    let slice = g % p.slices;
    let quads = p.columns / 4u;
    let column = g / p.slices * GROUP + t;
    let c = min(column, quads - 1u);
    var b = array<vec4<f32>, 32>();
    if (B_K_FAST) {
        //: repeat 8
        if (REPEAT < RANK_QUADS) {
            let w = (p.weight_at + 4u * c * p.weight_step) / 4u + REPEAT;
            let w0 = weight_quad(w);
            let w1 = weight_quad(w + p.weight_step / 4u);
            let w2 = weight_quad(w + 2u * p.weight_step / 4u);
            let w3 = weight_quad(w + 3u * p.weight_step / 4u);
            b[4u * REPEAT] = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
            b[4u * REPEAT + 1u] = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
            b[4u * REPEAT + 2u] = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
            b[4u * REPEAT + 3u] = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        }
        //: end
    } else {
        //: repeat 32
        if (REPEAT < RANK) {
            b[REPEAT] = weight_quad((p.weight_at + REPEAT * p.weight_step) / 4u + c);
        }
        //: end
    }
    let end = min(p.rows, (slice + 1u) * p.slice);
    for (var first = slice * p.slice; first < end; first = first + 64u) {
        stage(first, end, t);
        for (var row = 0u; row < min(64u, end - first); row = row + 4u) {
            //: repeat 4
            let at_REPEAT = (p.big_at + min(first + row + REPEAT, end - 1u) * p.big_row) / 4u + c;
            var y_REPEAT = vec4<f32>();
            if (p.add == 1u) {
                y_REPEAT = vec4<f32>(out[at_REPEAT]);
            }
            //: end
            //: repeat 4
            y_REPEAT = fma(vec4<f32>(p.alpha), of_row(&b, row + REPEAT), y_REPEAT);
            if (column < quads && first + row + REPEAT < end) {
                out[at_REPEAT] = as_out(y_REPEAT);
            }
            //: end
        }
    }
}
