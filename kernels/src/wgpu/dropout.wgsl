// out (n,C) = [out +] mask · inp / (1 - p). The mask is Philox 4x32-10 (Salmon et al. 2011) of (hash
// of the row's prefix, step, channel / 4), as paddock_core::dropout::keep_words.

struct P {
    first_group: u32,
    out_at: u32,
    inp_at: u32,
    dim: u32,
    // Groups of four channels in all.
    len: u32,
    hashes: u32,
    kept_rows: u32,
    // 1: the op's rows are the kept ones.
    kept: u32,
    // 1: added to out.
    add: u32,
    step: u32,
    key0: u32,
    key1: u32,
    least: u32,
    scale: f32,
}

const GROUP: u32 = 256u;

// The upper half of a 32x32 product.
fn high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let carry = (middle & 0xffffu) + a0 * b1;
    return a1 * b1 + (middle >> 16u) + (carry >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round = round + 1u) {
        c = vec4<u32>(
            high(c.z, 0xCD9E8D57u) ^ c.y ^ k.x, c.z * 0xCD9E8D57u,
            high(c.x, 0xD2511F53u) ^ c.w ^ k.y, c.x * 0xD2511F53u,
        );
        k = k + vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

@compute @workgroup_size(256)
fn mask(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) t: u32) {
    let i = group_index(wid, groups) * GROUP + t;
    if (i < p.len) {
        let quads = (p.dim + 3u) / 4u;
        let quad = i % quads;
        let own = i / quads;
        var row = own;
        if (p.kept == 1u) {
            row = batch[p.kept_rows + own];
        }
        let hash = p.hashes + 2u * row;
        let counter = vec4<u32>(batch[hash], batch[hash + 1u], p.step, quad);
        let words = philox(counter, vec2<u32>(p.key0, p.key1));
        for (var j = 0u; j < 4u; j = j + 1u) {
            let c = 4u * quad + j;
            if (c < p.dim) {
                let at = own * p.dim + c;
                var y = 0.0;
                if (p.add == 1u) {
                    y = f32(out[p.out_at + at]);
                }
                if (words[j] >= p.least) {
                    y = y + p.scale * f32(inp[p.inp_at + at]);
                }
                out[p.out_at + at] = as_out(y);
            }
        }
    }
}
