//! Kernels: WGSL files made concrete for the regions of their operands and the element type of their
//! weight ([`super::text`]), then compiled.
//!
//! WGSL has no pointers to buffers, so a file names its operands (`inp[p.inp_at + i]`) and the name
//! is replaced by the buffer of the region that the operand lies in. Operands that share a region
//! share its buffer, which is bound once.

use std::borrow::Cow;

use paddock_core::weights::Dtype;

use super::activations::Activations;
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
    pub(super) source: &'static str,
    pub(super) operands: Vec<(&'static str, Place)>,
    pub(super) quads: &'static [&'static str],
    pub(super) weight: WeightKind,
    pub(super) tile: Tile,
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
        (tier, activations): (Tier, Activations),
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
            source: wgpu::ShaderSource::Wgsl(Cow::Owned(key.wgsl(tier, activations))),
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
