//! Straight-line programs drawn at random.

/// The body of a kernel over eight 32-bit registers a lane, of instructions whose results are exact,
/// and its input.
pub fn program(seed: u64) -> (String, Vec<u32>) {
    const OPS: [&str; 34] = [
        "add.u32 D, A, B",
        "sub.u32 D, A, B",
        "mul.lo.u32 D, A, B",
        "mul.hi.u32 D, A, B",
        "mul.hi.s32 D, A, B",
        "mad.lo.u32 D, A, B, C",
        "min.s32 D, A, B",
        "max.u32 D, A, B",
        "and.b32 D, A, B",
        "or.b32 D, A, B",
        "xor.b32 D, A, B",
        "not.b32 D, A",
        "neg.s32 D, A",
        "shl.b32 D, A, B",
        "shr.u32 D, A, B",
        "shr.s32 D, A, B",
        "shf.l.wrap.b32 D, A, B, C",
        "shf.r.clamp.b32 D, A, B, C",
        "lop3.b32 D, A, B, C, 0x96",
        "prmt.b32 D, A, B, C",
        "popc.b32 D, A",
        "clz.b32 D, A",
        "brev.b32 D, A",
        "bfe.u32 D, A, B, C",
        "add.rn.f32 D, A, B",
        "mul.rn.f32 D, A, B",
        "fma.rn.f32 D, A, B, C",
        "min.f32 D, A, B",
        "max.f32 D, A, B",
        "div.rn.f32 D, A, B",
        "sqrt.rn.f32 D, A",
        "cvt.rn.bf16x2.f32 D, A, B",
        "cvt.rn.f32.s32 D, A",
        "shfl.sync.bfly.b32 D, A, 5, 31, -1",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |most: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut body = String::from(
        ".reg .b32 %x<8>; mad.wide.u32 %w0, %lane, 32, %in; mad.wide.u32 %w1, %lane, 32, %out;\n",
    );
    (0..8).for_each(|at| body += &format!("ld.global.b32 %x{at}, [%w0+{}];\n", 4 * at));
    for _ in 0..60 {
        let mut line = OPS[draw(OPS.len() as u64) as usize].to_string();
        for place in ["D", "A", "B", "C"] {
            // The operands stand behind the first blank.
            let (op, operands) = line.split_once(' ').expect("operands");
            line = format!("{op} {}", operands.replacen(place, &format!("%x{}", draw(8)), 1));
        }
        body += &line;
        body += ";\n";
    }
    (0..8).for_each(|at| body += &format!("st.global.b32 [%w1+{}], %x{at};\n", 4 * at));
    let input = (0..256).map(|_| (draw(1 << 31) as u32) << 1 | draw(2) as u32).collect();
    (body, input)
}
