// Where a kernel writes f16: numbers rounded to it. What f16 does not hold becomes infinite, whichever way the device
// rounds, so that a gradient that overflows is seen.

fn to_f16(x: f32) -> f16 {
    return f16(select(x, x * 3.0e38, abs(x) >= 65520.0));
}

fn to_f16_quad(x: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(select(x, x * 3.0e38, abs(x) >= vec4<f32>(65520.0)));
}
