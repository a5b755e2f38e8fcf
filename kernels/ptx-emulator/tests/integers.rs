//! Integer, bit and predicate instructions against values worked out by hand.

mod common;
use common::{lanes, wide_lanes};

fn one(snippet: &str, a: u32, b: u32, c: u32) -> u32 {
    lanes(snippet, &[[a, b, c, 0]])[0]
}

const NEG: fn(i32) -> u32 = |x| x as u32;

#[test]
fn sums_and_products() {
    assert_eq!(one("add.u32 %r, %a, %b;", u32::MAX, 2, 0), 1);
    assert_eq!(one("sub.s32 %r, %a, %b;", 3, 5, 0), NEG(-2));
    assert_eq!(one("mul.lo.u32 %r, %a, %b;", 0x10001, 0x10001, 0), 0x20001);
    assert_eq!(one("mul.hi.u32 %r, %a, %b;", 0x8000_0000, 6, 0), 3);
    assert_eq!(one("mul.hi.s32 %r, %a, %b;", NEG(-1), 6, 0), NEG(-1));
    assert_eq!(one("mad.lo.s32 %r, %a, %b, %c;", 7, NEG(-3), 1), NEG(-20));
    assert_eq!(one("mad.hi.u32 %r, %a, %b, %c;", 0x8000_0000, 6, 10), 13);
    assert_eq!(one("div.u32 %r, %a, %b;", 17, 5, 0), 3);
    assert_eq!(one("div.s32 %r, %a, %b;", NEG(-17), 5, 0), NEG(-3));
    assert_eq!(one("rem.u32 %r, %a, %b;", 17, 5, 0), 2);
    assert_eq!(one("rem.s32 %r, %a, %b;", NEG(-17), 5, 0), NEG(-2));
    assert_eq!(one("div.s32 %r, %a, %b;", 0x8000_0000, NEG(-1), 0), 0x8000_0000);
    assert_eq!(one("min.s32 %r, %a, %b;", NEG(-1), 1, 0), NEG(-1));
    assert_eq!(one("min.u32 %r, %a, %b;", NEG(-1), 1, 0), 1);
    assert_eq!(one("max.s32 %r, %a, %b;", NEG(-1), 1, 0), 1);
    assert_eq!(one("abs.s32 %r, %a;", NEG(-9), 0, 0), 9);
    assert_eq!(one("neg.s32 %r, %a;", 9, 0, 0), NEG(-9));
    assert_eq!(one("sad.s32 %r, %a, %b, %c;", NEG(-2), 3, 10), 15);
}

#[test]
fn wide_products_keep_their_sign() {
    let product = |snippet: &str, a: u64, b: u64, c: u64| wide_lanes(snippet, &[[a, b, c]])[0];
    let narrow = "cvt.u32.u64 %a, %wa;";
    let big = 0xFFFF_FFFF;
    assert_eq!(product(&format!("{narrow} mul.wide.u32 %wr, %a, %b;"), big, 2, 0), big * 2);
    assert_eq!(product(&format!("{narrow} mul.wide.s32 %wr, %a, %b;"), big, 2, 0), -2_i64 as u64);
    assert_eq!(product(&format!("{narrow} mad.wide.s32 %wr, %a, %b, %wc;"), big, 2, 5), 3);
    assert_eq!(product("mul.lo.u64 %wr, %wa, %wb;", 1 << 40, 1 << 23, 0), 1 << 63);
    assert_eq!(product("mul.hi.u64 %wr, %wa, %wb;", 1 << 40, 1 << 30, 0), 64);
    assert_eq!(product("mad.lo.u64 %wr, %wa, %wb, %wc;", 3, 5, 7), 22);
    assert_eq!(product("add.s64 %wr, %wa, -1;", 0, 0, 0), u64::MAX);
    assert_eq!(product("min.s64 %wr, %wa, %wb;", u64::MAX, 1, 0), u64::MAX);
    assert_eq!(product("div.u64 %wr, %wa, %wb;", 1 << 40, 1 << 8, 0), 1 << 32);
    assert_eq!(product("shl.b64 %wr, %wa, %b;", 1, 40, 0), 1 << 40);
    assert_eq!(product("shl.b64 %wr, %wa, %b;", 1, 64, 0), 0);
    assert_eq!(product("shr.s64 %wr, %wa, %b;", 1 << 63, 62, 0), -2_i64 as u64);
    assert_eq!(product("shr.u64 %wr, %wa, %b;", 1 << 63, 62, 0), 2);
    assert_eq!(product("popc.b64 %r, %wa; cvt.u64.u32 %wr, %r;", 0xF0F << 30, 0, 0), 8);
}

#[test]
fn sixteen_bit_integers_stay_in_sixteen_bits() {
    let body = |op: &str| {
        format!(
            "cvt.u16.u32 %h0, %a; cvt.u16.u32 %h1, %b; {op} %h2, %h0, %h1; cvt.u32.u16 %r, %h2;"
        )
    };
    assert_eq!(one(&body("add.u16"), 0xFFFF, 2, 0), 1);
    assert_eq!(one(&body("sub.s16"), 1, 2, 0), 0xFFFF);
    assert_eq!(one(&body("mul.lo.u16"), 0x101, 0x101, 0), 0x201);
    assert_eq!(one(&body("min.s16"), 0xFFFF, 1, 0), 0xFFFF);
    let shift = "cvt.u16.u32 %h0, %a; shr.s16 %h2, %h0, %b; cvt.u32.u16 %r, %h2;";
    assert_eq!(one(shift, 0x8000, 3, 0), 0xF000);
    let wide = "cvt.u16.u32 %h0, %a; cvt.u16.u32 %h1, %b; mul.wide.s16 %r, %h0, %h1;";
    assert_eq!(one(wide, 0xFFFF, 5, 0), NEG(-5));
}

#[test]
fn bits() {
    assert_eq!(one("and.b32 %r, %a, %b;", 0b1100, 0b1010, 0), 0b1000);
    assert_eq!(one("or.b32 %r, %a, %b;", 0b1100, 0b1010, 0), 0b1110);
    assert_eq!(one("xor.b32 %r, %a, %b;", 0b1100, 0b1010, 0), 0b0110);
    assert_eq!(one("not.b32 %r, %a;", 0, 0, 0), !0);
    assert_eq!(one("cnot.b32 %r, %a;", 0, 0, 0), 1);
    assert_eq!(one("shl.b32 %r, %a, %b;", 1, 31, 0), 1 << 31);
    assert_eq!(one("shl.b32 %r, %a, %b;", 1, 32, 0), 0, "shifts clamp");
    assert_eq!(one("shr.u32 %r, %a, %b;", 1 << 31, 31, 0), 1);
    assert_eq!(one("shr.s32 %r, %a, %b;", 1 << 31, 40, 0), !0);
    assert_eq!(one("popc.b32 %r, %a;", 0xF00F, 0, 0), 8);
    assert_eq!(one("clz.b32 %r, %a;", 1, 0, 0), 31);
    assert_eq!(one("brev.b32 %r, %a;", 1, 0, 0), 1 << 31);
}

#[test]
fn bit_fields() {
    assert_eq!(one("bfe.u32 %r, %a, %b, %c;", 0xABCD_1234, 8, 8), 0x12);
    assert_eq!(one("bfe.s32 %r, %a, %b, %c;", 0x0000_8000, 8, 8), NEG(-128));
    assert_eq!(one("bfe.s32 %r, %a, %b, %c;", 0x8000_0000, 28, 8), NEG(-8), "filled with the sign");
    assert_eq!(one("bfe.u32 %r, %a, %b, %c;", 0xFFFF_FFFF, 4, 0), 0);
    assert_eq!(one("bfe.u32 %r, %a, %b, %c;", 0x8765_4321, 0, 32), 0x8765_4321);
    assert_eq!(lanes("bfi.b32 %r, %a, %b, %c, %d;", &[[0xFF, 0x1234_5678, 8, 4]])[0], 0x1234_5F78);
    assert_eq!(lanes("bfi.b32 %r, %a, %b, %c, %d;", &[[0xFF, 0, 28, 8]])[0], 0xF000_0000);
    assert_eq!(one("prmt.b32 %r, %a, %b, 0x7610;", 0x3322_1100, 0x7766_5544, 0), 0x7766_1100);
    assert_eq!(one("prmt.b32 %r, %a, %b, 0x0008;", 0x0000_0080, 0, 0), 0x8080_80FF);
    assert_eq!(one("lop3.b32 %r, %a, %b, %c, 0x96;", 0b1100, 0b1010, 0b1001), 0b1111);
    assert_eq!(one("lop3.b32 %r, %a, %b, %c, 0xE8;", 0b1100, 0b1010, 0b1001), 0b1000, "majority");
    assert_eq!(one("shf.l.wrap.b32 %r, %a, %b, %c;", 0x8000_0001, 0x0000_0002, 1), 5);
    assert_eq!(one("shf.r.wrap.b32 %r, %a, %b, %c;", 0x8000_0002, 0x0000_0003, 1), 0xC000_0001);
    assert_eq!(one("shf.l.clamp.b32 %r, %a, %b, %c;", 7, 9, 99), 7);
}

#[test]
fn comparisons() {
    let compare = |op: &str, a: u32, b: u32| {
        one(&format!("setp.{op} %p, %a, %b; selp.u32 %r, 1, 0, %p;"), a, b, 0)
    };
    assert_eq!(compare("lt.s32", NEG(-1), 0), 1);
    assert_eq!(compare("lt.u32", NEG(-1), 0), 0);
    assert_eq!(compare("lo.u32", 1, 2), 1);
    assert_eq!(compare("hs.u32", 2, 2), 1);
    assert_eq!(compare("ne.b32", 2, 2), 0);
    let (one_f, nan) = (1.0_f32.to_bits(), f32::NAN.to_bits());
    for op in ["eq", "ne", "lt", "le", "gt", "ge", "num"] {
        assert_eq!(compare(&format!("{op}.f32"), one_f, nan), 0, "{op} is ordered");
    }
    for op in ["equ", "neu", "ltu", "leu", "gtu", "geu", "nan"] {
        assert_eq!(compare(&format!("{op}.f32"), nan, one_f), 1, "{op} is unordered");
    }
    assert_eq!(compare("ne.f32", one_f, 2.0_f32.to_bits()), 1);
    assert_eq!(compare("equ.f32", one_f, one_f), 1);
    assert_eq!(compare("eq.f32", 0, 0x8000_0000), 1, "zeros are equal");
    assert_eq!(compare("gt.ftz.f32", 1, 0), 0, "subnormals are flushed");
    assert_eq!(compare("gt.f32", 1, 0), 1);
}

#[test]
fn predicates_combine() {
    let body =
        |tail: &str| format!("setp.ne.u32 %q, %c, 0; setp.lt.{tail}; selp.u32 %r, 1, 0, %p;");
    assert_eq!(one(&body("and.u32 %p, %a, %b, %q"), 1, 2, 1), 1);
    assert_eq!(one(&body("and.u32 %p, %a, %b, !%q"), 1, 2, 1), 0);
    assert_eq!(one(&body("or.u32 %p, %a, %b, %q"), 2, 1, 1), 1);
    assert_eq!(one(&body("xor.u32 %p, %a, %b, %q"), 1, 2, 1), 0);
    let second = "setp.ne.u32 %q, %c, 0; setp.lt.and.u32 %s|%p, %a, %b, %q; selp.u32 %r, 1, 0, %p;";
    assert_eq!(one(second, 2, 1, 1), 1, "the second is the complement and the third");
    let logic = |op: &str, a, b| {
        let text =
            format!("setp.ne.u32 %p, %a, 0; setp.ne.u32 %q, %b, 0; {op}; selp.u32 %r, 1, 0, %s;");
        one(&text, a, b, 0)
    };
    let table = |op: &str| [logic(op, 0, 0), logic(op, 0, 1), logic(op, 1, 0), logic(op, 1, 1)];
    assert_eq!(table("and.pred %s, %p, %q"), [0, 0, 0, 1]);
    assert_eq!(table("or.pred %s, %p, %q"), [0, 1, 1, 1]);
    assert_eq!(table("xor.pred %s, %p, %q"), [0, 1, 1, 0]);
    assert_eq!(table("not.pred %s, %p"), [1, 1, 0, 0]);
    assert_eq!(table("mov.pred %s, %p"), [0, 0, 1, 1]);
}

#[test]
fn moves_pack_and_unpack() {
    assert_eq!(
        one("mov.b32 {%h0, %h1}, %a; mov.b32 %r, {%h1, %h0};", 0x1234_5678, 0, 0),
        0x5678_1234
    );
    let wide = "mov.b64 {%a, %b}, %wa; mov.b64 %wr, {%b, %a};";
    assert_eq!(wide_lanes(wide, &[[0x1111_1111_2222_2222, 0, 0]])[0], 0x2222_2222_1111_1111);
}

#[test]
fn special_registers_tell_the_place() {
    let threads: Vec<u32> = (0..32).collect();
    let inputs = [[0; 4]; 32];
    assert_eq!(lanes("mov.u32 %r, %tid.x;", &inputs), threads);
    assert_eq!(lanes("mov.u32 %r, %laneid;", &inputs), threads);
    assert_eq!(lanes("mov.u32 %r, %lanemask_lt;", &inputs)[5], 0b11111);
    assert_eq!(lanes("mov.u32 %r, %ntid.x;", &inputs)[0], 32);
    assert_eq!(lanes("mov.u32 %r, %nctaid.x;", &inputs)[0], 1);
    assert_eq!(lanes("mov.u32 %r, WARP_SZ;", &inputs)[0], 32);
}
