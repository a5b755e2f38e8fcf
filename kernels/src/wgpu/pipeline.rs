//! Kernels: WGSL files made concrete for the regions of their operands and the element type of their
//! weight, then compiled.
//!
//! WGSL has no pointers to buffers, so a file names its operands (`inp[p.inp_at + i]`) and the name
//! is replaced by the buffer of the region that the operand lies in. Operands that share a region
//! share its buffer, which is bound once.

use std::borrow::Cow;

use paddock_core::weights::Dtype;

use super::memory::Place;
use super::tier::Tier;
use super::trusted;

/// One entry point of a WGSL file.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The file's stem.
    pub stem: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// The entry point.
    pub entry: &'static str,
    /// The file's operands; those that an entry point leaves out may take any buffer.
    pub operands: &'static [&'static str],
    /// Those that are read four numbers at a time, and so is the weight if there are any. They share no buffer
    /// with the others.
    pub quads: &'static [&'static str],
}

/// What `weight_at(i)` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightKind {
    /// The kernel has no weight.
    None,
    /// Checkpoint bytes of this element type.
    Frozen(Dtype),
    /// Numbers of a region.
    Trained(Place),
}

/// Threads and tile order of the matrix product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Threads along the columns; each has four.
    pub wx: u32,
    /// Threads along the rows; each has four.
    pub wy: u32,
    /// Whether A is contiguous along k.
    pub a_k_fast: bool,
    /// Whether B is contiguous along k.
    pub b_k_fast: bool,
    /// Edge of the device's own tiles, for matrix instructions.
    pub edge: u32,
}

/// Names one compiled kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    stem: &'static str,
    entry: &'static str,
    source: &'static str,
    operands: Vec<(&'static str, Place)>,
    quads: &'static [&'static str],
    weight: WeightKind,
    tile: Tile,
}

impl Key {
    /// The kernel for operands in these places, and what to bind, in the order of the bindings. The file's
    /// other operands take the first one's place. A kernel knows the windows of a region by their order
    /// alone, so that it serves wherever they lie.
    pub fn new(
        kernel: &Kernel,
        used: &[(&'static str, Place)],
        weight: WeightKind,
        tile: Tile,
    ) -> (Key, Vec<Place>) {
        let place_of = |name: &str| used.iter().find(|(n, _)| *n == name).unwrap_or(&used[0]).1;
        let places: Vec<Place> = kernel.operands.iter().map(|&name| place_of(name)).collect();
        let mut bound = places.clone();
        if let WeightKind::Trained(place) = weight {
            bound.push(place);
        }
        bound.sort_unstable();
        bound.dedup();
        let ordinal = |place: Place| match place {
            Place::Region(region, first) => {
                let before =
                    |p: &&Place| matches!(p, Place::Region(r, f) if *r == region && *f < first);
                Place::Region(region, bound.iter().filter(before).count() as u64)
            }
            Place::Partials | Place::Sums => place,
        };
        let weight = match weight {
            WeightKind::Trained(place) => WeightKind::Trained(ordinal(place)),
            other => other,
        };
        let operands = kernel.operands.iter().zip(places).map(|(&name, p)| (name, ordinal(p)));
        let Kernel { stem, entry, source, quads, .. } = *kernel;
        (Key { stem, entry, source, operands: operands.collect(), quads, weight, tile }, bound)
    }

    /// The file's stem.
    pub fn stem(&self) -> &'static str {
        self.stem
    }

    /// The buffers to bind, each once, in the order of their bindings.
    pub fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.operands.iter().map(|(_, place)| *place).collect();
        if let WeightKind::Trained(place) = self.weight {
            places.push(place);
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Whether a frozen tensor is bound last.
    pub fn reads_frozen(&self) -> bool {
        matches!(self.weight, WeightKind::Frozen(_))
    }

    /// The whole WGSL text.
    pub fn wgsl(&self, tier: Tier) -> String {
        let mut text = String::new();
        if self.source.contains("coop_mat") {
            text += "enable f16;\nenable wgpu_cooperative_matrix;\n";
        }
        text += "@group(0) @binding(0) var<uniform> p: P;\n\
                 @group(0) @binding(1) var<storage, read> batch: array<u32>;\n";
        let mut binding = 2;
        for place in self.places() {
            let (name, element) = (place.name(), self.element(place));
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
        text += &match self.quads {
            [] => format!("fn weight_at(i: u32) -> f32 {{ {} }}\n", self.weight_body()),
            _ => format!("fn weight_quad(i: u32) -> vec4<f32> {{ {} }}\n", self.quad_body()),
        };
        text += include_str!("common.wgsl");
        // The device's tiles are squares of 16, as the file has them, or of 8.
        // Which way they lie in memory is part of the name of what loads them.
        let (along, across) = ("coopLoadT", "coopLoad");
        let own = self
            .source
            .replace("coop_mat16x16", &format!("coop_mat{edge}x{edge}"))
            .replace("coopLoadA", if a_k_fast { along } else { across })
            .replace("coopLoadB", if b_k_fast { across } else { along });
        let source = repeated(&own);
        match tier {
            Tier::Plain | Tier::Cooperative => {
                text += include_str!("reduce.wgsl");
                text + &self.replaced(&source)
            }
            Tier::Subgroups => {
                text += include_str!("reduce_subgroups.wgsl");
                text + &self.replaced(&source.replace(LAST_ARGUMENT, SUBGROUP_ARGUMENTS))
            }
        }
    }

    /// What a place's buffer is an array of.
    fn element(&self, place: Place) -> &'static str {
        let quads = self.operands.iter().any(|(name, p)| *p == place && self.quads.contains(name));
        let weight = self.weight == WeightKind::Trained(place) && !self.quads.is_empty();
        if quads || weight { "vec4<f32>" } else { "f32" }
    }

    /// How number i of a weight's quads is read.
    fn quad_body(&self) -> String {
        match self.weight {
            WeightKind::None => String::from("return vec4<f32>(0.0);"),
            WeightKind::Trained(place) => format!("return {}[i];", place.name()),
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
            WeightKind::Trained(place) => format!("return {}[i];", place.name()),
            WeightKind::Frozen(Dtype::F32) => String::from("return bitcast<f32>(frozen[i]);"),
            WeightKind::Frozen(Dtype::Bf16) => format!("{half} return bitcast<f32>(h << 16u);"),
            WeightKind::Frozen(Dtype::F16) => format!("{half} return widen_f16(h);"),
        }
    }

    /// The text with every operand's name replaced by its buffer's.
    fn replaced(&self, source: &str) -> String {
        let mut text = String::with_capacity(source.len());
        let mut word = String::new();
        let mut after_dot = false;
        for c in source.chars().chain(std::iter::once('\n')) {
            if c.is_ascii_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            // `p.k` is a field, `k` an operand.
            let place = self.operands.iter().find(|(name, _)| *name == word && !after_dot);
            match place {
                Some((_, place)) => text += &place.name(),
                None => text += &word,
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

/// A compiled kernel.
pub struct Pipeline {
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::ComputePipeline,
}

/// Bytes of a kernel's parameters at most, and the distance between those of two dispatches.
pub const PARAM_BYTES: u64 = 256;

impl Pipeline {
    /// Compiles; errors reach the device's handler.
    pub fn compile(
        device: &wgpu::Device,
        key: &Key,
        tier: Tier,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Pipeline {
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
        let read = wgpu::BufferBindingType::Storage { read_only: true };
        entries.push(entry(1, read));
        for _ in key.places() {
            let write = wgpu::BufferBindingType::Storage { read_only: false };
            entries.push(entry(entries.len() as u32, write));
        }
        if key.reads_frozen() {
            entries.push(entry(entries.len() as u32, read));
        }
        let label = format!("{} {}", key.stem, key.entry);
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let text = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(Cow::Owned(key.wgsl(tier))),
        };
        let module = match key.stem {
            "matmul_quads"
            | "matmul_cooperative"
            | "matmul_range"
            | "matmul_thin"
            | "attention_tiles"
            | "attention_cooperative"
            | "rms_norm_quads" => trusted::unchecked(device, text),
            _ => device.create_shader_module(text),
        };
        // Every kernel writes its workgroup memory before it reads it.
        let options = wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(key.entry),
            compilation_options: options,
            cache,
        });
        Pipeline { layout, pipeline }
    }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: ty == wgpu::BufferBindingType::Uniform,
            min_binding_size: None,
        },
        count: None,
    }
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
