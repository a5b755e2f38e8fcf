//! One opened device: its compiled kernels, and its errors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paddock_core::error::{Error, Result};

use super::activations::Activations;
use super::adapters::{AdapterReport, adapters, choose, report};
use super::cache::Cache;
use super::pipeline::{Key, Pipeline};
use super::tier::Tier;
use super::trusted;
use crate::{Options, Preparing, Progress};

/// The first thing that went wrong on a device, kept until an op can report it. A loss replaces what went wrong on the
/// way to it.
type Trouble = Arc<Mutex<Option<Error>>>;

/// A submission that takes longer than this is taken for a hang. Software devices are slow, hence so much.
const HANGS: Duration = Duration::from_secs(300);

/// Kernels of a run, about: what the bar counts towards.
const USUAL: u64 = 40;

/// Kernels compiled so far.
#[derive(Default)]
struct Compiled {
    pipelines: HashMap<Key, Arc<Pipeline>>,
    spent: Duration,
    /// How many there were when they were last written to disk.
    kept: usize,
}

/// One opened device, shared by the back-ends that compute on it.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) max_binding_bytes: u64,
    pub(super) max_buffer_bytes: u64,
    pub(super) max_storage_buffers: u32,
    pub(super) max_groups: u32,
    pub(super) max_workgroup_bytes: u32,
    /// Of these, what kernels may use whose threads write single components of shared vectors. WGSL
    /// lets such a write touch the whole vector, and Metal and Direct3D do: none there.
    pub(super) componentwise_bytes: u32,
    /// Edge of the tiles of its matrix instructions; 0: none that kernels here use.
    pub(super) tile_edge: u32,
    /// Threads of a subgroup; 0: not always the same.
    pub(super) subgroup: u32,
    pub(super) name: String,
    tier: Tier,
    activations: Activations,
    trouble: Trouble,
    compiled: Mutex<Compiled>,
    cache: Option<Cache>,
    progress: Option<Progress>,
}

impl Gpu {
    /// Opens an adapter: the one that the options (or else the environment variable PADDOCK_DEVICE)
    /// name by number or part of the name, else the best: discrete before integrated before virtual
    /// before software.
    pub fn open(options: &Options) -> Result<Arc<Gpu>> {
        let wanted = options.device.clone().or_else(|| std::env::var("PADDOCK_DEVICE").ok());
        let all = adapters();
        let list: Vec<AdapterReport> = all.iter().enumerate().map(|(i, a)| report(i, a)).collect();
        let number = choose(&list, wanted.as_deref())?;
        let tier = std::env::var("PADDOCK_WGPU_TIER").ok();
        let (tier, _) = list[number].tier(tier.as_deref())?;
        Gpu::request(&all[number], &list[number], tier, options)
    }

    /// Opens the adapter of `options` with a tier that it offers.
    pub fn with_tier(options: &Options, tier: Tier) -> Result<Arc<Gpu>> {
        let all = adapters();
        let list: Vec<AdapterReport> = all.iter().enumerate().map(|(i, a)| report(i, a)).collect();
        let number = choose(&list, options.device.as_deref())?;
        let (tier, _) = list[number].tier(Some(&tier.to_string()))?;
        Gpu::request(&all[number], &list[number], tier, options)
    }

    fn request(
        adapter: &wgpu::Adapter,
        report: &AdapterReport,
        tier: Tier,
        options: &Options,
    ) -> Result<Arc<Gpu>> {
        let activations =
            Activations::choose(options.precision, report.half_activations, &report.name)?;
        let keeps = report.keeps_compiled && options.kernel_cache.is_some();
        let cache = if keeps { wgpu::Features::PIPELINE_CACHE } else { wgpu::Features::empty() };
        let desc = wgpu::DeviceDescriptor {
            label: Some("paddock"),
            required_limits: adapter.limits(),
            required_features: tier.features() | activations.features() | cache,
            experimental_features: trusted::experiments(tier),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&desc)).map_err(|e| {
            Error::Device(format!("the graphics adapter {} cannot be opened: {e}", report.name))
        })?;
        let trouble = Trouble::default();
        let (lost, uncaptured) = (trouble.clone(), trouble.clone());
        device.set_device_lost_callback(move |_, message| {
            let message = message.trim().trim_end_matches('.');
            lose(
                &lost,
                format!(
                    "the graphics device was lost ({message}): its driver was reset or the card taken away. What was \
                     saved is safe; go on with --resume"
                ),
            );
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            note(&uncaptured, describe(&error));
        }));
        let folder = options.kernel_cache.as_deref().filter(|_| keeps);
        let cache = folder.map(|folder| Cache::open(folder, &device, report));
        Ok(Arc::new(Gpu {
            max_binding_bytes: report.max_binding_bytes,
            max_buffer_bytes: report.max_buffer_bytes,
            max_storage_buffers: report.max_storage_buffers,
            tile_edge: report.tile_edge,
            subgroup: report.subgroup,
            max_workgroup_bytes: report.max_workgroup_bytes,
            componentwise_bytes: match report.api.as_str() {
                "vulkan" => report.max_workgroup_bytes,
                _ => 0,
            },
            max_groups: device.limits().max_compute_workgroups_per_dimension,
            name: format!("wgpu {} ({}, {tier}{activations})", report.name, report.api),
            tier,
            activations,
            device,
            queue,
            trouble,
            compiled: Mutex::default(),
            cache,
            progress: options.progress.clone(),
        }))
    }

    /// The device's name: "wgpu llvmpipe (vulkan, plain)", "wgpu llvmpipe (vulkan, plain, activations in f16)".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which kernels it runs.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// What it keeps activations in.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// Gives the device back, as a reset of its driver would: everything after this fails in words.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Fails with the first trouble noted since the device was opened. A lost device stays lost, so
    /// the note stays too.
    pub(super) fn check(&self) -> Result<()> {
        match &*lock(&self.trouble) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The compiled kernel for `key`, compiled now if this is its first use.
    pub(super) fn pipeline(&self, key: &Key) -> Arc<Pipeline> {
        let mut compiled = lock(&self.compiled);
        if let Some(found) = compiled.pipelines.get(key) {
            return found.clone();
        }
        self.tell(&compiled, true);
        let start = Instant::now();
        let cache = self.cache.as_ref().map(Cache::pipelines);
        let made =
            Arc::new(Pipeline::compile(&self.device, key, (self.tier, self.activations), cache));
        compiled.pipelines.insert(key.clone(), made.clone());
        compiled.spent += start.elapsed();
        self.tell(&compiled, false);
        made
    }

    /// Tells how far compiling has come.
    fn tell(&self, compiled: &Compiled, goes_on: bool) {
        let Some(tell) = &self.progress else { return };
        let what = "compiling kernels for the graphics card";
        let done = compiled.pipelines.len() as u64;
        tell(Preparing {
            what,
            done,
            total: Some(USUAL.max(done)),
            spent: compiled.spent,
            goes_on,
        });
    }

    /// Writes compiled kernels to disk if there are new ones.
    pub(super) fn keep_compiled(&self) {
        let mut compiled = lock(&self.compiled);
        let count = compiled.pipelines.len();
        if let Some(cache) = self.cache.as_ref().filter(|_| count > compiled.kept) {
            cache.store();
            compiled.kept = count;
        }
    }

    /// Waits until a submission has finished, or everything submitted.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(HANGS) };
        let polled = self.device.poll(wait);
        self.check()?;
        polled.map(drop).map_err(|e| {
            if matches!(e, wgpu::PollError::Timeout) {
                // Dropping a queue waits for its device without a limit, so this one is left to the end of the process.
                std::mem::forget((self.device.clone(), self.queue.clone()));
            }
            unanswered(&self.name, &self.trouble, &e)
        })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.keep_compiled();
    }
}

/// A poisoned lock only means that another thread panicked; the map behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(trouble: &Trouble, message: String) {
    lock(trouble).get_or_insert(Error::Device(message));
}

/// From now on nothing is to be had from the device. The first loss is the one that is told.
fn lose(trouble: &Trouble, message: String) {
    let mut trouble = lock(trouble);
    if !matches!(*trouble, Some(Error::DeviceLost(_))) {
        *trouble = Some(Error::DeviceLost(message));
    }
}

/// Waiting has failed: a device that hangs is as good as lost.
fn unanswered(name: &str, trouble: &Trouble, error: &wgpu::PollError) -> Error {
    if !matches!(error, wgpu::PollError::Timeout) {
        return Error::Device(format!("waiting for {name}: {error}"));
    }
    let message = format!(
        "{name} has not answered for {} s: its driver hangs. What was saved is safe; go on with --resume",
        HANGS.as_secs()
    );
    lose(trouble, message.clone());
    Error::DeviceLost(message)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f52_a_graphics_device_that_hangs_counts_as_lost_from_then_on() {
        let trouble = Trouble::default();
        let other = wgpu::PollError::WrongSubmissionIndex(7, 5);
        assert!(matches!(unanswered("card", &trouble, &other), Error::Device(_)));
        assert_eq!(*lock(&trouble), None);
        note(&trouble, "the driver refused a command".to_string());
        let error = unanswered("card", &trouble, &wgpu::PollError::Timeout);
        let Error::DeviceLost(words) = &error else { panic!("{error:?}") };
        assert!(words.contains("card has not answered for 300 s"), "{words}");
        assert!(words.contains("--resume"), "{words}");
        // Whatever comes after it does not change what is told.
        lose(&trouble, "taken away".to_string());
        note(&trouble, "refused".to_string());
        assert_eq!(*lock(&trouble), Some(error));
    }
}
