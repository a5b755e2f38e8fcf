//! Kernels' texts: a WGSL file with its operands' buffers, element types and sizes filled in.
//!
//! A file reads its operands as f32 (`f32(inp[i])`, `vec4<f32>(inp[i])`) and writes `as_out(x)`, which leaves x as it is
//! where the operand is f32 and rounds it where it is f16. `out_t` is what the operand is an array of, and
//! `OUT_IS_F16` says which. What stands between `//: where out is f32` and `//: everywhere` is left out elsewhere.

use paddock_core::weights::Dtype;

use super::activations::Activations;
use super::memory::Place;
use super::pipeline::{Key, Tile, WeightKind};
use super::tier::Tier;

impl Key {
    /// The whole WGSL text.
    pub fn wgsl(&self, tier: Tier, activations: Activations) -> String {
        let mut text = String::new();
        let multiplies = self.source.contains("coop_mat");
        let narrow = self.places().iter().any(|place| activations.narrows(*place));
        if multiplies || narrow {
            text += "enable f16;\n";
        }
        if multiplies {
            text += "enable wgpu_cooperative_matrix;\n";
        }
        text += "@group(0) @binding(0) var<uniform> p: P;\n\
                 @group(0) @binding(1) var<storage, read> batch: array<u32>;\n";
        let mut binding = 2;
        for place in self.places() {
            let (name, element) = (place.name(), self.element(place, activations));
            text += &format!(
                "@group(0) @binding({binding}) var<storage, read_write> {name}: array<{element}>;\n"
            );
            binding += 1;
        }
        if let WeightKind::Frozen(dtype) = self.weight {
            let element = match (self.quads.is_empty(), dtype) {
                (true, _) => "u32",
                (false, Dtype::F32) => "vec4<u32>",
                (false, _) => "vec2<u32>",
            };
            text += &format!(
                "@group(0) @binding({binding}) var<storage, read> frozen: array<{element}>;\n"
            );
        }
        let Tile { wx, wy, a_k_fast, b_k_fast, edge } = self.tile;
        if wx > 0 {
            text += &format!(
                "const WX: u32 = {wx}u;\nconst WY: u32 = {wy}u;\n\
                 const A_K_FAST: bool = {a_k_fast};\nconst B_K_FAST: bool = {b_k_fast};\n\
                 const TILE: u32 = {edge}u;\n"
            );
        }
        text += &self.types(activations);
        text += &match self.quads {
            [] => format!("fn weight_at(i: u32) -> f32 {{ {} }}\n", self.weight_body()),
            _ => format!("fn weight_quad(i: u32) -> vec4<f32> {{ {} }}\n", self.quad_body()),
        };
        text += include_str!("common.wgsl");
        if narrow {
            text += include_str!("half.wgsl");
        }
        // The device's tiles are squares of 16, as the file has them, or of 8.
        // Which way they lie in memory is part of the name of what loads them.
        let (along, across) = ("coopLoadT", "coopLoad");
        let own = self
            .applying(activations)
            .replace("coop_mat16x16", &format!("coop_mat{edge}x{edge}"))
            .replace("coopLoadA", if a_k_fast { along } else { across })
            .replace("coopLoadB", if b_k_fast { across } else { along });
        let source = repeated(&own);
        match tier {
            Tier::Plain | Tier::Cooperative => {
                text += include_str!("reduce.wgsl");
                text + &self.replaced(&source, activations)
            }
            Tier::Subgroups => {
                text += include_str!("reduce_subgroups.wgsl");
                let source = source.replace(LAST_ARGUMENT, SUBGROUP_ARGUMENTS);
                text + &self.replaced(&source, activations)
            }
        }
    }

    /// What each operand is an array of, and whether that is f16.
    fn types(&self, activations: Activations) -> String {
        let mut text = String::new();
        for (name, place) in &self.operands {
            let element = self.element(*place, activations);
            let (upper, is_f16) = (name.to_uppercase(), activations.narrows(*place));
            text +=
                &format!("alias {name}_t = {element};\nconst {upper}_IS_F16: bool = {is_f16};\n");
        }
        text
    }

    /// What a place's buffer is an array of.
    fn element(&self, place: Place, activations: Activations) -> &'static str {
        match (self.in_quads(place), activations.narrows(place)) {
            (true, false) => "vec4<f32>",
            (true, true) => "vec4<f16>",
            (false, false) => "f32",
            (false, true) => "f16",
        }
    }

    /// Whether a place is read four numbers at a time.
    fn in_quads(&self, place: Place) -> bool {
        let operand =
            self.operands.iter().any(|(name, p)| *p == place && self.quads.contains(name));
        operand || self.weight == WeightKind::Trained(place) && !self.quads.is_empty()
    }

    /// The file without what is for operands in f32 that are f16.
    fn applying(&self, activations: Activations) -> String {
        let narrows = |name: &str| {
            let mut all = self.operands.iter();
            all.any(|(operand, place)| *operand == name && activations.narrows(*place))
        };
        let (mut text, mut applies) = (String::with_capacity(self.source.len()), true);
        for line in self.source.split_inclusive('\n') {
            let words = line.trim();
            let name = words.strip_prefix("//: where ").and_then(|w| w.strip_suffix(" is f32"));
            match name {
                Some(name) => applies = !narrows(name),
                None if words == "//: everywhere" => applies = true,
                None if applies => text += line,
                None => {}
            }
        }
        text
    }

    /// How number i of a weight's quads is read.
    fn quad_body(&self) -> String {
        match self.weight {
            WeightKind::None => String::from("return vec4<f32>(0.0);"),
            WeightKind::Trained(place) => {
                format!("return vec4<f32>({}[i]);", place.name())
            }
            WeightKind::Frozen(Dtype::F32) => String::from("return bitcast<vec4<f32>>(frozen[i]);"),
            WeightKind::Frozen(Dtype::Bf16) => String::from(
                "let w = frozen[i]; return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, \
                 w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));",
            ),
            WeightKind::Frozen(Dtype::F16) => String::from(
                "let w = frozen[i]; return vec4<f32>(widen_f16(w.x & 0xffffu), \
                 widen_f16(w.x >> 16u), widen_f16(w.y & 0xffffu), widen_f16(w.y >> 16u));",
            ),
        }
    }

    fn weight_body(&self) -> String {
        let half = "let word = frozen[i >> 1u]; let h = select(word & 0xffffu, word >> 16u, \
                    (i & 1u) == 1u);";
        match self.weight {
            WeightKind::None => String::from("return 0.0;"),
            WeightKind::Trained(place) => format!("return f32({}[i]);", place.name()),
            WeightKind::Frozen(Dtype::F32) => String::from("return bitcast<f32>(frozen[i]);"),
            WeightKind::Frozen(Dtype::Bf16) => format!("{half} return bitcast<f32>(h << 16u);"),
            WeightKind::Frozen(Dtype::F16) => format!("{half} return widen_f16(h);"),
        }
    }

    /// The text with every operand's name replaced by its buffer's, and `as_` with its name by what rounds to its
    /// type.
    fn replaced(&self, source: &str, activations: Activations) -> String {
        let mut text = String::with_capacity(source.len());
        let mut word = String::new();
        let mut after_dot = false;
        for c in source.chars().chain(std::iter::once('\n')) {
            if c.is_ascii_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            // `p.k` is a field, `k` an operand.
            let place_of = |word: &str| self.operands.iter().find(|(name, _)| *name == word);
            let written = word.strip_prefix("as_").and_then(place_of);
            match (place_of(&word), written) {
                (Some((_, place)), _) if !after_dot => text += &place.name(),
                (_, Some((_, place))) if !activations.narrows(*place) => {}
                (_, Some((_, place))) if self.in_quads(*place) => text += "to_f16_quad",
                (_, Some(_)) => text += "to_f16",
                _ => text += &word,
            }
            word.clear();
            after_dot = c == '.';
            text.push(c);
        }
        text
    }
}

/// How every entry point's arguments end.
const LAST_ARGUMENT: &str = "@builtin(local_invocation_index) t: u32) {";

/// The same with what the subgroups' sums need.
const SUBGROUP_ARGUMENTS: &str = "@builtin(local_invocation_index) t: u32,
    @builtin(subgroup_invocation_id) own_lane: u32, @builtin(subgroup_id) own_subgroup: u32,
    @builtin(num_subgroups) all_subgroups: u32) {
    lane = own_lane;
    subgroup = own_subgroup;
    subgroups = all_subgroups;";

/// The text with what stands between `//: repeat N` and `//: end` written N times, REPEAT replaced by
/// 0, 1, … : drivers do not unroll loops that carry a guard against running for ever.
fn repeated(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("//: repeat ") {
        text += before;
        let (count, after) = after.split_once('\n').unwrap_or(("0", after));
        let (body, after) = after.split_once("//: end").unwrap_or((after, ""));
        for i in 0..count.trim().parse().unwrap_or(0u32) {
            text += &body.replace("REPEAT", &format!("{i}u"));
        }
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_written_out() {
        let text = "a\n//: repeat 3\nx = REPEAT;\n//: end\nb";
        assert_eq!(repeated(text), "a\nx = 0u;\nx = 1u;\nx = 2u;\n\nb");
        assert_eq!(repeated("plain"), "plain");
    }
}
