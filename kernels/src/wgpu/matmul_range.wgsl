// The largest exponent in every 256th piece of 256 quads of a (len): how far a matrix product's operand may
// be multiplied by a power of two before it is rounded to f16. 255: not all are numbers.

struct P {
    first_group: u32,
    a_at: u32,
    len: u32,
    to: u32,
}

const GROUP: u32 = 256u;
const PIECES: u32 = 256u;

@compute @workgroup_size(256)
fn range(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) t: u32) {
    let piece = group_index(wid, groups);
    if (piece >= PIECES) {
        return;
    }
    var most = vec4<u32>(0u);
    // Eight loads at a time are under way; beyond the end it is the last quad once more.
    for (var i = piece * GROUP + t; i < p.len / 4u; i = i + 8u * PIECES * GROUP) {
        //: repeat 8
        let x_REPEAT = vec4<f32>(a[p.a_at / 4u + min(i + REPEAT * PIECES * GROUP, p.len / 4u - 1u)]);
        //: end
        //: repeat 8
        most = max(most, bitcast<vec4<u32>>(x_REPEAT) & vec4<u32>(0x7fffffffu));
        //: end
    }
    let bits = max(max(most.x, most.y), max(most.z, most.w));
    let exponent = max_all(f32(bits >> 23u), t);
    if (t == 0u) {
        ranges[p.to + piece] = exponent;
    }
}
