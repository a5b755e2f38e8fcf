// Attention as attention.wgsl, for many rows: 64 queries (or keys) of a head at a time, against blocks of
// 64 keys (or queries), as two small matrix products around the softmax (FlashAttention, Dao et al. 2022).
//
// Behind attention_lists.wgsl. 256 threads are 16 x 16: scores are computed 4 x 4 a thread, then the same 4 rows
// and one or two quads of channels. No two workgroups write the same number, so sums have one order.

// Quads from one channel (or column) to the next, one more than there are, against bank conflicts.
const PITCH: u32 = 17u;

// 16 channels of the rows and of the columns, or 16 columns' channels.
var<workgroup> staged: array<vec4<f32>, 544u>;
// For each of 64 columns a quad of rows: probabilities or their gradients; also sums on their way.
var<workgroup> weights: array<vec4<f32>, 1088u>;

// s[i] = row 4 ty + i · columns tx, tx + 16, tx + 32 and tx + 48. What nobody sees is not read.
fn inner(s: ptr<function, array<vec4<f32>, 4>>, x: Lines, rows: u32, y: Lines, some: vec2<u32>,
         t: u32) {
    let line = t % 64u;
    let from_x = x.at + min(line, rows - 1u) * x.step;
    let from_y = y.at + line * y.step;
    let seen = has(some, line);
    let quads = p.dim / 4u;
    let ty = t / 16u;
    let tx = t % 16u;
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    if (t / 64u < quads) {
        a = operand(x.which, from_x + t / 64u);
        if (seen) {
            b = operand(y.which, from_y + t / 64u);
        }
    }
    for (var d = 0u; d < quads; d = d + 4u) {
        workgroupBarrier();
        let to_a = 4u * (t / 64u) * PITCH + line / 4u;
        let c = line % 4u;
        staged[to_a][c] = a.x;
        staged[to_a + PITCH][c] = a.y;
        staged[to_a + 2u * PITCH][c] = a.z;
        staged[to_a + 3u * PITCH][c] = a.w;
        let to_b = 16u * PITCH + 4u * (t / 64u) * PITCH + line % 16u;
        let e = line / 16u;
        staged[to_b][e] = b.x;
        staged[to_b + PITCH][e] = b.y;
        staged[to_b + 2u * PITCH][e] = b.z;
        staged[to_b + 3u * PITCH][e] = b.w;
        workgroupBarrier();
        a = vec4<f32>(0.0);
        b = vec4<f32>(0.0);
        let next = d + 4u + t / 64u;
        if (next < quads) {
            a = operand(x.which, from_x + next);
            if (seen) {
                b = operand(y.which, from_y + next);
            }
        }
        //: repeat 16
        {
            let u = staged[REPEAT * PITCH + ty];
            let w = staged[(16u + REPEAT) * PITCH + tx];
            a0 = fma(vec4<f32>(u.x), w, a0);
            a1 = fma(vec4<f32>(u.y), w, a1);
            a2 = fma(vec4<f32>(u.z), w, a2);
            a3 = fma(vec4<f32>(u.w), w, a3);
        }
        //: end
    }
    (*s)[0] = a0;
    (*s)[1] = a1;
    (*s)[2] = a2;
    (*s)[3] = a3;
}

// Puts the 4 x 4 weights of each thread where `gather` reads them.
fn spread(s: array<vec4<f32>, 4>, t: u32) {
    let to = t % 16u * PITCH + t / 16u;
    workgroupBarrier();
    weights[to] = vec4<f32>(s[0].x, s[1].x, s[2].x, s[3].x);
    weights[to + 16u * PITCH] = vec4<f32>(s[0].y, s[1].y, s[2].y, s[3].y);
    weights[to + 32u * PITCH] = vec4<f32>(s[0].z, s[1].z, s[2].z, s[3].z);
    weights[to + 48u * PITCH] = vec4<f32>(s[0].w, s[1].w, s[2].w, s[3].w);
}

// o[i] and o[4 + i] (row 4 ty + i, quads tx and tx + 16 of channels) += weights · the columns' rows.
fn gather(o: ptr<function, array<vec4<f32>, 8>>, y: Lines, some: vec2<u32>, t: u32) {
    let quads = p.dim / 4u;
    let ty = t / 16u;
    let tx = t % 16u;
    for (var first = 0u; first < 64u; first = first + 16u) {
        workgroupBarrier();
        for (var i = t; i < 16u * 16u * WX; i = i + GROUP) {
            let column = first + i / (16u * WX);
            let quad = i % (16u * WX);
            var x = vec4<f32>(0.0);
            if (has(some, column) && quad < quads) {
                x = operand(y.which, y.at + column * y.step + quad);
            }
            staged[i] = x;
        }
        workgroupBarrier();
        let at = first * PITCH + ty;
        //: repeat 16
        {
            let w = weights[at + REPEAT * PITCH];
            let x = staged[REPEAT * 16u * WX + tx];
            (*o)[0] = fma(vec4<f32>(w.x), x, (*o)[0]);
            (*o)[1] = fma(vec4<f32>(w.y), x, (*o)[1]);
            (*o)[2] = fma(vec4<f32>(w.z), x, (*o)[2]);
            (*o)[3] = fma(vec4<f32>(w.w), x, (*o)[3]);
            if (WX > 1u) {
                let z = staged[REPEAT * 16u * WX + 16u + tx];
                (*o)[4] = fma(vec4<f32>(w.x), z, (*o)[4]);
                (*o)[5] = fma(vec4<f32>(w.y), z, (*o)[5]);
                (*o)[6] = fma(vec4<f32>(w.z), z, (*o)[6]);
                (*o)[7] = fma(vec4<f32>(w.w), z, (*o)[7]);
            }
        }
        //: end
    }
}

// Which of a thread's columns row 4 ty + i sees.
fn sees(own: Own, mask: u32, i: u32, t: u32) -> vec4<bool> {
    if (mask == 0xffffffffu) {
        return vec4<bool>(true);
    }
    let at = p.masks + 2u * (128u * mask + 64u * own.half + 4u * (t / 16u) + i);
    let bits = vec2<u32>(batch[at], batch[at + 1u]) >> vec2<u32>(t % 16u);
    return (vec4<u32>(bits.x, bits.x >> 16u, bits.y, bits.y >> 16u) & vec4<u32>(1u)) == vec4<u32>(1u);
}

fn exp4(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(exp_(x.x), exp_(x.y), exp_(x.z), exp_(x.w));
}

