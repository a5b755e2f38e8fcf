//! Graphics adapters: what each can do, and which one is taken.

use std::fmt;

use paddock_core::error::{Error, Result};

use super::activations::Activations;
use super::tier::{Offer, Tier};

/// A graphics adapter as `doctor` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterReport {
    /// Its number, as `--device` takes it.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "software" or "other".
    pub kind: &'static str,
    /// The interface that it is reached by: "vulkan", "metal" or "dx12".
    pub api: String,
    /// Driver and version.
    pub driver: String,
    /// Bytes that a kernel may see of one buffer: the largest operand.
    pub max_binding_bytes: u64,
    /// Bytes of the largest buffer: the largest region of planned memory.
    pub max_buffer_bytes: u64,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Threads of a workgroup.
    pub max_workgroup_threads: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Kernels that it can run, the plainest first.
    pub tiers: Vec<Tier>,
    /// Whether activations can be kept in f16.
    pub half_activations: bool,
    /// Whether compiled kernels can be kept on disk.
    pub keeps_compiled: bool,
    /// Whether it has matrix instructions, of whatever kind.
    pub cooperative_matrix: bool,
    /// Edge of those tiles of them that the kernels are made for; 0: none.
    pub tile_edge: u32,
    /// Threads of a subgroup; 0: not always the same.
    pub subgroup: u32,
    /// What the adapter lacks for training, if anything.
    pub unusable: Option<String>,
}

impl AdapterReport {
    /// The kernels that it would run, and why: those named, else the fastest.
    pub fn tier(&self, wanted: Option<&str>) -> Result<(Tier, &'static str)> {
        Tier::choose(&self.tiers, self.kind == "software", wanted)
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.max_buffer_bytes >> 20;
        write!(f, "{}: {} ({}, {}, {})", self.number, self.name, self.kind, self.api, self.driver)?;
        write!(f, ", regions up to {mib} MiB, workgroups of {}", self.max_workgroup_threads)?;
        match &self.unusable {
            Some(why) => write!(f, "; cannot be used: {why}"),
            None => Ok(()),
        }
    }
}

/// Every adapter of this machine that the wgpu back-end may use, the ones without a driver left out.
pub fn describe_adapters() -> Vec<AdapterReport> {
    adapters().iter().enumerate().map(|(number, adapter)| report(number, adapter)).collect()
}

pub(super) fn adapters() -> Vec<wgpu::Adapter> {
    let desc = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(desc);
    let apis = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    pollster::block_on(instance.enumerate_adapters(apis))
}

pub(super) fn report(number: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let tile_edge = tile_edge(&adapter.cooperative_matrix_properties());
    AdapterReport {
        number,
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        },
        api: format!("{:?}", info.backend).to_lowercase(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: binding_bytes(&limits),
        max_buffer_bytes: limits.max_buffer_size,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        tiers: Tier::offered(Offer {
            features,
            subgroups: [info.subgroup_min_size, info.subgroup_max_size],
            tile_edge,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
        }),
        half_activations: features.contains(Activations::F16.features()),
        keeps_compiled: features.contains(wgpu::Features::PIPELINE_CACHE),
        cooperative_matrix: features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        tile_edge,
        subgroup: match info.subgroup_min_size == info.subgroup_max_size {
            true => info.subgroup_min_size,
            false => 0,
        },
        unusable: lacks(&limits),
    }
}

/// The edge of the largest square tiles of f16 that are multiplied and added in f32: 16, 8, or 0 for none.
fn tile_edge(kinds: &[wgpu::CooperativeMatrixProperties]) -> u32 {
    let types = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let fits = |edge: &u32| {
        let size = |p: &wgpu::CooperativeMatrixProperties| [p.m_size, p.n_size, p.k_size];
        kinds.iter().any(|p| size(p) == [*edge; 3] && (p.ab_type, p.cr_type) == types)
    };
    [16, 8].into_iter().find(fits).unwrap_or(0)
}

/// Elements are addressed by 32-bit byte offsets on some drivers, so a binding stays below 4 GiB.
fn binding_bytes(limits: &wgpu::Limits) -> u64 {
    let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    most.min((1 << 32) - 256) / 256 * 256
}

/// What the kernels need at least: WebGPU's guaranteed limits.
fn lacks(limits: &wgpu::Limits) -> Option<String> {
    let needs = [
        ("threads in a workgroup", limits.max_compute_invocations_per_workgroup, 256),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, 16384),
        ("storage buffers in a kernel", limits.max_storage_buffers_per_shader_stage, 8),
    ];
    let short = needs.iter().find(|(_, found, least)| found < least)?;
    Some(format!("it allows {} {}, the kernels need {}", short.1, short.0, short.2))
}

pub(super) fn choose(list: &[AdapterReport], wanted: Option<&str>) -> Result<usize> {
    if list.is_empty() {
        return Err(Error::Device(String::from(
            "no graphics adapter with a Vulkan, Metal or Direct3D 12 driver was found; install the \
             card's driver, or use --backend cpu",
        )));
    }
    let names = || list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if let Some(wanted) = wanted {
        // A number is never a part of a name: many names have digits.
        let hit = |a: &&AdapterReport| match wanted.parse::<usize>() {
            Ok(number) => a.number == number,
            Err(_) => a.name.to_lowercase().contains(&wanted.to_lowercase()),
        };
        return match list.iter().find(hit) {
            Some(AdapterReport { unusable: Some(why), name, .. }) => {
                Err(Error::Device(format!("{name} cannot be used: {why}")))
            }
            Some(found) => Ok(found.number),
            None => Err(Error::Device(format!(
                "there is no graphics adapter \"{wanted}\"; --device takes a number or a part of the \
                 name of one of these: {}",
                names()
            ))),
        };
    }
    let order = ["discrete GPU", "integrated GPU", "virtual GPU", "other", "software"];
    let rank = |a: &&AdapterReport| order.iter().position(|kind| *kind == a.kind);
    let usable = list.iter().filter(|a| a.unusable.is_none());
    usable.min_by_key(rank).map(|a| a.number).ok_or_else(|| {
        Error::Device(format!("no graphics adapter can run the kernels: {}", names()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(number: usize, name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            number,
            name: name.to_owned(),
            kind,
            api: String::from("vulkan"),
            driver: String::new(),
            max_binding_bytes: 1 << 30,
            max_buffer_bytes: 1 << 30,
            max_storage_buffers: 8,
            max_workgroup_threads: 256,
            max_workgroup_bytes: 16384,
            tiers: vec![Tier::Plain],
            half_activations: false,
            keeps_compiled: true,
            cooperative_matrix: false,
            tile_edge: 0,
            subgroup: 0,
            unusable: None,
        }
    }

    #[test]
    fn the_best_usable_adapter_is_chosen() {
        let mut list = vec![
            adapter(0, "llvmpipe", "software"),
            adapter(1, "Iris", "integrated GPU"),
            adapter(2, "Radeon", "discrete GPU"),
        ];
        assert_eq!(choose(&list, None), Ok(2));
        assert_eq!(choose(&list, Some("iris")), Ok(1));
        assert_eq!(choose(&list, Some("0")), Ok(0));
        list[0].name = String::from("llvmpipe (LLVM 15.0.1, 256 bits)");
        assert_eq!(choose(&list, Some("1")), Ok(1));
        assert!(choose(&list, Some("5")).is_err());
        list[2].unusable = Some(String::from("too small"));
        assert_eq!(choose(&list, None), Ok(1));
        assert!(choose(&list, Some("radeon")).is_err());
        assert!(choose(&list, Some("geforce")).is_err());
        assert!(choose(&[], None).is_err());
    }
}
