// What every kernel shares. `p` is the op's own struct of parameters, `batch` the integer tables;
// a kernel's file names its operands, which the host replaces by the buffers of their regions.

const LOWEST: f32 = -3.0e38;

// The workgroup's number. Grids are cut in two dimensions, since one holds at most 65,535 workgroups,
// and long ones into several dispatches.
fn group_index(wid: vec3<u32>, groups: vec3<u32>) -> u32 {
    return p.first_group + wid.x + wid.y * groups.x;
}

// Whether x is not a number, told by its bits: drivers assume finite arithmetic.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// e^x for x in [-87, 88], clamped to it (below: 0); a NaN passes. Drivers' own exp may be off by
// thousands of roundings; this one is off by one or two.
fn exp_(x: f32) -> f32 {
    let c = clamp(x, -87.0, 88.0);
    let n = floor(c * 1.4426950408889634 + 0.5);
    let r = fma(n, 2.12194440e-4, fma(n, -0.693359375, c));
    var y = 1.9875691500e-4;
    y = fma(y, r, 1.3981999507e-3);
    y = fma(y, r, 8.3334519073e-3);
    y = fma(y, r, 4.1665795894e-2);
    y = fma(y, r, 1.6666665459e-1);
    y = fma(y, r, 5.0000001201e-1);
    y = fma(y, r * r, r + 1.0);
    let power = bitcast<f32>(u32(i32(n) + 127) << 23u);
    let e = select(y * power, 0.0, x < -87.0);
    return select(e, x, is_nan(x));
}

// Natural logarithm of a positive number; a NaN passes.
fn ln_(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    var e = i32(bits >> 23u) - 127;
    var m = bitcast<f32>((bits & 0x007fffffu) | 0x3f800000u);
    if (m > 1.4142135) {
        m = m * 0.5;
        e = e + 1;
    }
    // ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    var y = 0.1111111111;
    y = fma(y, z, 0.1428571429);
    y = fma(y, z, 0.2);
    y = fma(y, z, 0.3333333333);
    let l = fma(2.0 * s * z, y, 2.0 * s) + f32(e) * 0.6931471806;
    return select(l, x, is_nan(x));
}

// Half precision to single, exact for subnormal numbers too.
fn widen_f16(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let fraction = h & 1023u;
    let small = bitcast<u32>(f32(fraction) * 5.9604644775390625e-8);
    let normal = ((exponent + 112u) << 23u) | (fraction << 13u);
    let special = 0x7f800000u | (fraction << 13u);
    let magnitude = select(select(normal, special, exponent == 31u), small, exponent == 0u);
    return bitcast<f32>(sign | magnitude);
}

var<workgroup> reduced: array<f32, GROUP>;
