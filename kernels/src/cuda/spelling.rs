//! The kernels once more, in f16.
//!
//! Every kernel is written for bf16 and touches 16-bit numbers in few ways: it widens the lower or the upper
//! half of a word, rounds one number or two to 16 bits, and multiplies on tensor cores. Each of these has a
//! counterpart for f16, so the texts for f16 are those for bf16 with these instructions spelled otherwise. What is
//! loaded this way is assembled and executed in the tests as every other kernel is.
//!
//! | bf16 | f16 |
//! |---|---|
//! | `shl.b32 t, x, 16; mov.b32 f, t` | `mov.b32 {%half0, %half1}, x; cvt.f32.f16 f, %half0` |
//! | `and.b32 t, x, 0xffff0000; mov.b32 f, t` | the same with `%half1` |
//! | `cvt.rn.bf16.f32` | `cvt.rn.f16.f32` |
//! | `cvt.rn.bf16x2.f32 w, hi, lo` | two `cvt.rn.f16.f32` and a `mov.b32 w, {%half0, %half1}` |
//! | `mma.sync … .bf16.bf16.` | `mma.sync … .f16.f16.` |
//!
//! A file that asks for neither asynchronous copies nor wide matrix instructions then needs no more than
//! compute capability 7.5.

use std::fmt::Write;

/// The text with f16 in place of bf16.
pub fn in_f16(text: &str) -> String {
    let code: Vec<&str> =
        text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let needs_more = code.contains("cp.async") || code.contains("mma.sync");
    let target = if needs_more { ".target sm_80" } else { ".target sm_75" };
    let code = code.replacen(".target sm_80", target, 1);
    let code = code.replace("\n{\n", "\n{\n    .reg .b16 %half<2>;\n");
    let code = code.replace(".bf16.bf16.", ".f16.f16.");
    let mut out = String::with_capacity(2 * code.len());
    let mut statements = code.split_inclusive(';').peekable();
    while let Some(statement) = statements.next() {
        if let Some(half) = Half::of(statement)
            && let Some(float) = statements.peek().and_then(|next| half.moved_to(next))
        {
            let Half { before, from, number, .. } = half;
            let from = format!("mov.b32 {{%half0, %half1}}, {from};");
            let _ = write!(out, "{before}{from} cvt.f32.f16 {float}, %half{number};");
            statements.next();
        } else {
            out.push_str(&rounded(statement));
        }
    }
    out
}

/// A statement that puts one half of a word into the upper half of another.
struct Half<'a> {
    before: &'a str,
    to: &'a str,
    from: &'a str,
    number: u32,
}

impl<'a> Half<'a> {
    fn of(statement: &'a str) -> Option<Half<'a>> {
        let ways = [("shl.b32 ", ", 16;", 0), ("and.b32 ", ", 0xffff0000;", 1)];
        ways.into_iter().find_map(|(name, last, number)| {
            let (before, operands) = statement.split_once(name)?;
            let (to, from) = operands.strip_suffix(last)?.split_once(", ")?;
            Some(Half { before, to, from, number })
        })
    }

    /// Where the next statement moves it as a float.
    fn moved_to(&self, next: &'a str) -> Option<&'a str> {
        let operands = next.trim_start().strip_prefix("mov.b32 ")?.strip_suffix(';')?;
        let (float, from) = operands.split_once(", ")?;
        (from == self.to).then_some(float)
    }
}

/// The statement with roundings to f16.
fn rounded(statement: &str) -> String {
    let one = statement.replace("cvt.rn.bf16.f32", "cvt.rn.f16.f32");
    let Some((before, operands)) = one.split_once("cvt.rn.bf16x2.f32 ") else { return one };
    let operands: Vec<&str> = operands.trim_end_matches(';').split(", ").collect();
    let [word, high, low] = operands[..] else { return one };
    let (start, guard) = match before.rsplit_once('@') {
        Some((start, guard)) => (start, format!("@{guard}")),
        None => (before, String::new()),
    };
    format!(
        "{start}{guard}cvt.rn.f16.f32 %half0, {low}; {guard}cvt.rn.f16.f32 %half1, {high}; \
         {guard}mov.b32 {word}, {{%half0, %half1}};"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_spelled_otherwise() {
        let text = "// bf16\n.target sm_80\n.entry k()\n{\n    shl.b32 %t, %x, 16; // low\n    mov.b32 %f, %t;\n    \
                    and.b32 %t, %x, 0xffff0000; mov.b32 %g, %t;\n    @!%p cvt.rn.bf16x2.f32 %w, %g, %f;\n    \
                    cvt.rn.bf16.f32 %h, %f;\n    shl.b32 %t, %x, 16; add.u32 %t, %t, 1;\n}\n";
        let found = in_f16(text);
        let found: Vec<&str> = found.split_whitespace().collect();
        let wanted = ".target sm_75 .entry k() { .reg .b16 %half<2>; \
                      mov.b32 {%half0, %half1}, %x; cvt.f32.f16 %f, %half0; \
                      mov.b32 {%half0, %half1}, %x; cvt.f32.f16 %g, %half1; \
                      @!%p cvt.rn.f16.f32 %half0, %f; @!%p cvt.rn.f16.f32 %half1, %g; \
                      @!%p mov.b32 %w, {%half0, %half1}; cvt.rn.f16.f32 %h, %f; \
                      shl.b32 %t, %x, 16; add.u32 %t, %t, 1; }";
        assert_eq!(found, wanted.split_whitespace().collect::<Vec<_>>());
        let wide = in_f16(".target sm_80\nmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 x;");
        assert!(wide.contains(".f32.f16.f16.f32") && wide.contains("sm_80"), "{wide}");
    }
}
