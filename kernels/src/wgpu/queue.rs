//! Recording: ops become dispatches, which are submitted together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::error::{Error, Result};
use paddock_core::slot::Slot;
use paddock_core::weights::{Mat, MatData, Weight};

use super::Wgpu;
use super::device::Gpu;
use super::memory::Place;
use super::pace::Pace;
use super::pipeline::{Kernel, Key, PARAM_BYTES, Pipeline, Tile, WeightKind};

/// Dispatches of one submission at most.
const BATCHED: usize = 128;

/// Submissions that may be under way at once; more would only pile up memory in the driver.
const IN_FLIGHT: usize = 4;

/// Workgroups along x at most; kernels count along y where there are more.
const GROUPS_X: u64 = 32768;

/// What a compiled kernel and its bind group are found by.
pub type BoundKey = (Key, Vec<Place>, Option<(Weight, usize)>);

/// A compiled kernel with its buffers.
#[derive(Clone)]
pub struct Bound {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

/// Where a kernel's weight lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// It has none.
    None,
    /// A part of a frozen tensor.
    Frozen(Weight, usize, WeightKind),
    /// Planned memory.
    Trained(Place),
}

/// Rows of a weight that one binding holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightPart {
    /// Where.
    pub source: Source,
    /// First row.
    pub first: u32,
    /// How many.
    pub rows: u32,
    /// The first row's first element in the buffer.
    pub at: u32,
    /// The largest exponent of its numbers, if that was looked for.
    pub exponent: Option<u32>,
}

/// One dispatch to record.
pub struct Launch<'a> {
    /// Which kernel.
    pub kernel: Kernel,
    /// Where its operands lie.
    pub operands: &'a [(&'static str, Place)],
    /// Its weight.
    pub weight: Source,
    /// The matrix product's threads.
    pub tile: Tile,
    /// Its parameters, in the order of its struct.
    pub params: &'a [u32],
    /// Workgroups.
    pub groups: u64,
    /// Operations of a workgroup, about.
    pub cost: u64,
}

struct Dispatch {
    bound: Bound,
    groups: [u32; 2],
}

/// Dispatches that wait for their submission.
pub struct Queue {
    recorded: Vec<Dispatch>,
    params: Vec<u32>,
    uniform: wgpu::Buffer,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Operations recorded.
    cost: u64,
    pub(super) pace: Pace,
}

impl Queue {
    /// An empty queue.
    pub fn new(gpu: &Gpu) -> Queue {
        let uniform = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: BATCHED as u64 * PARAM_BYTES,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Queue {
            recorded: Vec::new(),
            params: Vec::new(),
            uniform,
            in_flight: VecDeque::new(),
            cost: 0,
            pace: Pace::unknown(),
        }
    }
}

/// The grid of `total` workgroups, or a little more.
fn grid(total: u64) -> [u32; 2] {
    let x = total.min(GROUPS_X);
    [x as u32, total.div_ceil(x.max(1)) as u32]
}

impl Queue {
    fn record(&mut self, dispatch: Dispatch, first_group: u64, launch: &Launch<'_>) {
        self.recorded.push(dispatch);
        self.params.push(first_group as u32);
        self.params.extend_from_slice(launch.params);
        let end = self.recorded.len() * PARAM_BYTES as usize / 4;
        self.params.resize(end, 0);
    }
}

impl Wgpu<'_> {
    /// The slot's first element in what is bound of its region, checked; a binding is below 4 GiB, so it fits
    /// 32 bits.
    pub(super) fn at(&self, slot: Slot) -> Result<u32> {
        self.memory.check(slot)?;
        Ok((slot.offset - self.memory.window(slot)) as u32)
    }

    /// What is bound for a slot.
    pub(super) fn place(&self, slot: Slot) -> Place {
        Place::Region(slot.region, self.memory.window(slot))
    }

    /// A long range in pieces that one binding holds.
    pub(super) fn pieces(&self, len: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let most = self.memory.longest_piece();
        (0..len.div_ceil(most)).map(move |i| (i * most, most.min(len - i * most)))
    }

    /// The parts of a matrix; frozen ones are uploaded at their first use.
    pub(super) fn parts(&mut self, w: Mat) -> Result<Vec<WeightPart>> {
        let handle = match w.data {
            MatData::Trained(slot) => {
                let (at, source) = (self.at(slot)?, Source::Trained(self.place(slot)));
                let exponent = None;
                return Ok(vec![WeightPart { source, first: 0, rows: w.rows, at, exponent }]);
            }
            MatData::Frozen(handle) => handle,
        };
        self.memory.parts(&self.gpu, &self.weights, handle, w)?;
        let dtype = self.weights.tensors[handle.0 as usize].dtype;
        let kind = WeightKind::Frozen(dtype);
        let parts = self.memory.frozen(handle).iter().enumerate().map(|(i, part)| WeightPart {
            source: Source::Frozen(handle, i, kind),
            first: part.first,
            rows: part.rows,
            at: 0,
            exponent: part.exponent,
        });
        Ok(parts.collect())
    }

    /// The only part of a vector.
    pub(super) fn vector(&mut self, w: Mat) -> Result<WeightPart> {
        let parts = self.parts(w)?;
        parts.first().copied().ok_or_else(|| Error::Device(String::from("wgpu: an empty weight")))
    }

    /// Records a kernel's dispatches, none of which runs long; submits when enough are recorded.
    pub(super) fn launch(&mut self, launch: &Launch<'_>) -> Result<()> {
        if launch.groups == 0 {
            return Ok(());
        }
        // A product says itself what it writes.
        if !launch.kernel.stem.starts_with("matmul") {
            self.ranged = None;
        }
        let (kind, frozen) = match launch.weight {
            Source::None => (WeightKind::None, None),
            Source::Frozen(handle, part, kind) => (kind, Some((handle, part))),
            Source::Trained(place) => (WeightKind::Trained(place), None),
        };
        let (key, places) = Key::new(&launch.kernel, launch.operands, kind, launch.tile);
        let key = (key, places, frozen);
        let bound = match self.bound.get(&key) {
            Some(bound) => bound.clone(),
            None => self.bind(key)?,
        };
        let mut first = 0;
        while first < launch.groups {
            let most = self.queue.pace.groups(launch.cost, GROUPS_X);
            let count = most.min(launch.groups - first);
            let groups = grid(count);
            if groups[1] > self.gpu.max_groups {
                return Err(Error::Device(format!(
                    "{} needs {count} workgroups, more than {} runs at once; use a smaller \
                     --micro-batch-tokens",
                    launch.kernel.stem, self.gpu.name
                )));
            }
            self.queue.record(Dispatch { bound: bound.clone(), groups }, first, launch);
            self.queue.cost += count * launch.cost;
            let full = self.queue.recorded.len() == BATCHED;
            if full || self.queue.cost >= self.queue.pace.submission() {
                self.flush()?;
            }
            first += count;
        }
        Ok(())
    }

    fn bind(&mut self, key: BoundKey) -> Result<Bound> {
        let pipeline = self.gpu.pipeline(&key.0);
        let params = wgpu::BufferBinding {
            buffer: &self.queue.uniform,
            offset: 0,
            size: std::num::NonZero::new(PARAM_BYTES),
        };
        let mut bindings = vec![params, self.batch.as_entire_buffer_binding()];
        for place in &key.1 {
            bindings.push(self.memory.binding(*place)?);
        }
        if let Some((handle, part)) = key.2 {
            bindings.push(self.memory.frozen(handle)[part].buffer.as_entire_buffer_binding());
        }
        let storage = bindings.len() as u32 - 1;
        if storage > self.gpu.max_storage_buffers {
            return Err(Error::Device(format!(
                "{} needs {storage} pieces of memory at once, but {} binds at most {}; use a smaller \
                 --micro-batch-tokens",
                key.0.stem(),
                self.gpu.name,
                self.gpu.max_storage_buffers
            )));
        }
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .into_iter()
            .enumerate()
            .map(|(i, binding)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(binding),
            })
            .collect();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let bound = Bound { pipeline, group };
        self.bound.insert(key, bound.clone());
        self.gpu.check()?;
        Ok(bound)
    }

    /// Submits everything recorded.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.queue.recorded.is_empty() {
            return self.gpu.check();
        }
        let gpu = &self.gpu;
        gpu.queue.write_buffer(&self.queue.uniform, 0, bytemuck::cast_slice(&self.queue.params));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (i, dispatch) in self.queue.recorded.iter().enumerate() {
                pass.set_pipeline(&dispatch.bound.pipeline.pipeline);
                let offset = i as u32 * PARAM_BYTES as u32;
                pass.set_bind_group(0, &dispatch.bound.group, &[offset]);
                pass.dispatch_workgroups(dispatch.groups[0], dispatch.groups[1], 1);
            }
        }
        let cost = std::mem::take(&mut self.queue.cost);
        let looks = self.queue.pace.wants_to_see(cost);
        if looks {
            gpu.wait(None)?;
        }
        let start = Instant::now();
        let submission = gpu.queue.submit([encoder.finish()]);
        self.queue.in_flight.push_back(submission);
        self.queue.recorded.clear();
        self.queue.params.clear();
        if looks {
            gpu.wait(None)?;
            self.queue.in_flight.clear();
            self.queue.pace.saw(cost, start.elapsed());
        } else if self.queue.in_flight.len() > IN_FLIGHT {
            gpu.wait(self.queue.in_flight.pop_front())?;
        }
        gpu.check()
    }
}

#[cfg(test)]
mod tests {
    use super::grid;

    #[test]
    fn grids_cover_every_group() {
        for total in [1, 256, 32768, 32769, 1 << 23, (1 << 23) + 1, 1 << 30] {
            let [x, y] = grid(total).map(u64::from);
            assert!(x * y >= total && x <= 32768 && y <= 65535, "{total}");
        }
    }
}
