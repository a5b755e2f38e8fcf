//! Adapters, and one opened device: what it can do, its compiled kernels, and its errors.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paddock_core::error::{Error, Result};

use super::pipeline::{Key, Pipeline};

/// A graphics adapter as `doctor` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterReport {
    /// Its number, as the environment variable PADDOCK_DEVICE takes it.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "software" or "other".
    pub kind: &'static str,
    /// The interface that it is reached by: "vulkan", "metal" or "dx12".
    pub api: String,
    /// Driver and version.
    pub driver: String,
    /// Bytes that one binding may have: the largest region of planned memory.
    pub max_binding_bytes: u64,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Threads of a workgroup.
    pub max_workgroup_threads: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// What the adapter lacks for training, if anything.
    pub unusable: Option<String>,
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.max_binding_bytes >> 20;
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

fn adapters() -> Vec<wgpu::Adapter> {
    let desc = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(desc);
    let apis = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    pollster::block_on(instance.enumerate_adapters(apis))
}

fn report(number: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits) = (adapter.get_info(), adapter.limits());
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
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        unusable: lacks(&limits),
    }
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

/// The first thing that went wrong on a device, kept until an op can report it.
type Trouble = Arc<Mutex<Option<String>>>;

/// One opened device, shared by the back-ends that compute on it.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) max_binding_bytes: u64,
    pub(super) max_groups: u32,
    pub(super) name: String,
    trouble: Trouble,
    pipelines: Mutex<HashMap<Key, Arc<Pipeline>>>,
}

impl Gpu {
    /// Opens an adapter: number or part of the name in PADDOCK_DEVICE, else the best: discrete
    /// before integrated before virtual before software.
    pub fn open() -> Result<Arc<Gpu>> {
        let wanted = std::env::var("PADDOCK_DEVICE").ok();
        let all = adapters();
        let list: Vec<AdapterReport> = all.iter().enumerate().map(|(i, a)| report(i, a)).collect();
        let number = choose(&list, wanted.as_deref())?;
        Gpu::request(&all[number], &list[number])
    }

    fn request(adapter: &wgpu::Adapter, report: &AdapterReport) -> Result<Arc<Gpu>> {
        let desc = wgpu::DeviceDescriptor {
            label: Some("paddock"),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&desc)).map_err(|e| {
            Error::Device(format!("the graphics adapter {} cannot be opened: {e}", report.name))
        })?;
        let trouble = Trouble::default();
        let (lost, uncaptured) = (trouble.clone(), trouble.clone());
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&lost, format!("the graphics device was lost ({message})"));
            }
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            note(&uncaptured, describe(&error));
        }));
        Ok(Arc::new(Gpu {
            max_binding_bytes: report.max_binding_bytes,
            max_groups: device.limits().max_compute_workgroups_per_dimension,
            name: format!("wgpu {} ({})", report.name, report.api),
            device,
            queue,
            trouble,
            pipelines: Mutex::default(),
        }))
    }

    /// The device's name: "wgpu llvmpipe (vulkan)".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails with the first trouble noted since the device was opened. A lost device stays lost, so
    /// the note stays too.
    pub(super) fn check(&self) -> Result<()> {
        match &*lock(&self.trouble) {
            Some(message) => Err(Error::Device(message.clone())),
            None => Ok(()),
        }
    }

    /// The compiled kernel for `key`, compiled now if this is its first use.
    pub(super) fn pipeline(&self, key: &Key) -> Arc<Pipeline> {
        if let Some(found) = lock(&self.pipelines).get(key) {
            return found.clone();
        }
        let made = Arc::new(Pipeline::compile(&self.device, key));
        lock(&self.pipelines).entry(key.clone()).or_insert(made).clone()
    }

    /// Waits until everything submitted has finished.
    pub(super) fn wait(&self) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map(drop).map_err(|e| Error::Device(format!("waiting for {}: {e}", self.name)))
    }
}

/// A poisoned lock only means that another thread panicked; the map behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(trouble: &Trouble, message: String) {
    lock(trouble).get_or_insert(message);
}

fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => String::from(
            "the graphics device is out of memory; use a smaller --micro-batch-tokens or close \
             other programs that use it",
        ),
        wgpu::Error::Validation { description, .. } => {
            format!("the graphics driver refused a command: {description}")
        }
        wgpu::Error::Internal { description, .. } => {
            format!("the graphics driver failed: {description}")
        }
    }
}

fn choose(list: &[AdapterReport], wanted: Option<&str>) -> Result<usize> {
    if list.is_empty() {
        return Err(Error::Device(String::from(
            "no graphics adapter with a Vulkan, Metal or Direct3D 12 driver was found; install the \
             card's driver, or use --backend cpu",
        )));
    }
    let names = || list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if let Some(wanted) = wanted {
        let hit = |a: &&AdapterReport| {
            a.name.to_lowercase().contains(&wanted.to_lowercase()) || wanted.parse() == Ok(a.number)
        };
        return match list.iter().find(hit) {
            Some(AdapterReport { unusable: Some(why), name, .. }) => {
                Err(Error::Device(format!("{name} cannot be used: {why}")))
            }
            Some(found) => Ok(found.number),
            None => Err(Error::Device(format!(
                "PADDOCK_DEVICE is \"{wanted}\", but the adapters are: {}",
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
            max_storage_buffers: 8,
            max_workgroup_threads: 256,
            max_workgroup_bytes: 16384,
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
        list[2].unusable = Some(String::from("too small"));
        assert_eq!(choose(&list, None), Ok(1));
        assert!(choose(&list, Some("radeon")).is_err());
        assert!(choose(&list, Some("geforce")).is_err());
        assert!(choose(&[], None).is_err());
    }
}
