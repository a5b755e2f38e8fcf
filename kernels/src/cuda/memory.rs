//! Regions, the bf16 copy of trained parameters, frozen weights, and the batch's tables on the device.

use std::time::{Duration, Instant};

use paddock_core::error::{Error, Result};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, MatData, Weight, Weights};

use super::convert::Half;
use super::device::Gpu;
use super::driver::{Buffer, PIECE};
use crate::Preparing;

/// Elements of a vector that norms read in f32 although it is kept in bf16.
const WIDENED: u64 = 1 << 16;

/// Rows of matrices are counted in eights by the kernels for tensor cores.
pub const EIGHT: u32 = 8;

/// A frozen tensor on the device: as products read it (16 bits) and as norms do (f32), each uploaded at its
/// first use.
#[derive(Default)]
struct Frozen {
    narrow: Option<Buffer>,
    wide: Option<Buffer>,
}

/// All device memory of one back-end.
pub struct Memory {
    regions: [Option<Buffer>; 8],
    lens: [u64; 8],
    /// Params in 16 bits: what products read.
    compute: Option<Buffer>,
    /// Params are bf16 themselves.
    narrow_parameters: bool,
    /// The norm that is read just now, where Params are bf16.
    widened: Option<Buffer>,
    frozen: Vec<Frozen>,
    /// Bytes of frozen tensors sent so far, and the time that it took.
    sent: (u64, Duration),
    tables: Option<Buffer>,
}

impl Memory {
    /// Empty memory beside `tensors` frozen ones.
    pub fn new(tensors: usize, narrow_parameters: bool) -> Memory {
        Memory {
            regions: Default::default(),
            lens: [0; 8],
            compute: None,
            narrow_parameters,
            widened: None,
            frozen: (0..tensors).map(|_| Frozen::default()).collect(),
            sent: Default::default(),
            tables: None,
        }
    }

    /// Bytes of one element as kernels address it.
    pub fn bytes_of(&self, region: Region) -> u64 {
        match region {
            Region::Acts | Region::ActGrads | Region::Kv => 2,
            Region::Params if self.narrow_parameters => 2,
            _ => 4,
        }
    }

    /// Bytes of frozen tensors that products will read and that are not on the device yet. Where as many parameters are
    /// trained as the checkpoint has, none is frozen.
    fn to_be_sent(&self, weights: &Weights<'_>, trained: u64) -> u64 {
        let elements: u64 = weights.tensors.iter().map(|t| t.len() as u64).sum();
        if trained >= elements {
            return 0;
        }
        let tensors = weights.tensors.iter().zip(&self.frozen);
        let here = |frozen: &Frozen| frozen.narrow.is_some() || frozen.wide.is_some();
        tensors.filter(|(_, frozen)| !here(frozen)).map(|(t, _)| 2 * t.len() as u64).sum()
    }

    /// Gives every region its memory, zeroed; refuses more than the device has free for it and the frozen tensors.
    pub fn reserve(&mut self, gpu: &Gpu, weights: &Weights<'_>, sizes: &RegionSizes) -> Result<()> {
        // The old memory goes before the new one comes.
        self.regions = Default::default();
        self.compute = None;
        self.widened = None;
        self.lens = [0; 8];
        let bytes_of = Region::ALL.map(|region| self.bytes_of(region));
        let bytes = |region: Region| sizes.len(region) * bytes_of[region as usize];
        let copy = if self.narrow_parameters { 0 } else { 2 * sizes.len(Region::Params) };
        let planned = copy + Region::ALL.iter().map(|&r| bytes(r)).sum::<u64>();
        let sent = self.to_be_sent(weights, sizes.len(Region::Params));
        let (free, total) = gpu.memory()?;
        if planned + sent > free {
            let gib = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 30));
            let beside = match sent {
                0 => String::new(),
                _ => format!(" and the model {} GiB", gib(sent)),
            };
            return Err(Error::Device(format!(
                "{}: the plan needs {} GiB{beside}, but {} of {} GiB are free; use a smaller \
                 --micro-batch-tokens or --max-seq-len, --recompute layers, --method lora, or a smaller model",
                gpu.name(),
                gib(planned),
                gib(free),
                gib(total)
            )));
        }
        for region in Region::ALL.into_iter().filter(|&region| sizes.len(region) > 0) {
            let name = format!("the region {region:?}");
            self.regions[region as usize] = Some(zeroed(gpu, &name, bytes(region))?);
            self.lens[region as usize] = sizes.len(region);
        }
        if copy > 0 {
            self.compute = Some(zeroed(gpu, "the parameters in 16 bits", copy)?);
        }
        if self.narrow_parameters {
            self.widened = Some(gpu.allocate("a norm's weights", 4 * WIDENED)?);
        }
        Ok(())
    }

    /// Elements of a region.
    pub fn len(&self, region: Region) -> u64 {
        self.lens[region as usize]
    }

    /// The address of a slot, which must lie inside its region. (An empty one has none that is read.)
    pub fn at(&self, slot: Slot) -> Result<u64> {
        let len = self.lens[slot.region as usize];
        if slot.end() > len {
            return Err(Error::OutOfRegion { region: slot.region, end: slot.end(), len });
        }
        let base = self.regions[slot.region as usize].as_ref().map_or(0, Buffer::address);
        Ok(base + slot.offset * self.bytes_of(slot.region))
    }

    /// The address of a slot of `Params` as products read it.
    fn in_compute(&self, slot: Slot) -> Result<u64> {
        let at = self.at(slot)?;
        if self.narrow_parameters {
            return Ok(at);
        }
        Ok(self.compute.as_ref().map_or(0, Buffer::address) + 2 * slot.offset)
    }

    fn has_copy(&self, slot: Slot) -> bool {
        slot.region == Region::Params && !self.narrow_parameters
    }

    /// The address of a slot's copy in 16 bits, or 0 where there is none.
    pub fn copy_of(&self, slot: Slot) -> Result<u64> {
        if self.has_copy(slot) { self.in_compute(slot) } else { Ok(0) }
    }

    /// Brings the copy up to date after `slot` was written; other regions have none.
    pub fn written(&self, gpu: &Gpu, slot: Slot) -> Result<()> {
        if !self.has_copy(slot) {
            return Ok(());
        }
        super::convert::narrow(gpu, self.in_compute(slot)?, self.at(slot)?, slot.len)
    }

    /// dst = data.
    pub fn upload(&self, gpu: &Gpu, dst: Slot, data: &[f32]) -> Result<()> {
        let (at, len) = (self.at(dst)?, dst.len.min(data.len() as u64));
        if self.bytes_of(dst.region) == 4 {
            let bytes: &[u8] = bytemuck::cast_slice(&data[..len as usize]);
            send_bytes(gpu, at, bytes)?;
        } else {
            gpu.send(at, 2 * len, |start, piece| {
                let values = data[start as usize / 2..].iter();
                for (to, value) in piece.chunks_exact_mut(2).zip(values) {
                    to.copy_from_slice(&gpu.half.bits(*value).to_le_bytes());
                }
            })?;
        }
        self.written(gpu, dst.first(len))
    }

    /// data = src, after everything before it.
    pub fn download(&self, gpu: &Gpu, src: Slot, data: &mut [f32]) -> Result<()> {
        let (at, len) = (self.at(src)?, src.len.min(data.len() as u64) as usize);
        if self.bytes_of(src.region) == 4 {
            return gpu.read(bytemuck::cast_slice_mut(&mut data[..len]), at);
        }
        let mut narrow = vec![0_u16; len];
        gpu.read(bytemuck::cast_slice_mut(&mut narrow), at)?;
        data.iter_mut().zip(narrow).for_each(|(to, from)| *to = gpu.half.value(from));
        Ok(())
    }

    /// The address of a matrix in 16 bits, as products and embeddings read it. Behind a frozen one there are
    /// rows of zeros up to a multiple of eight.
    pub fn matrix(&mut self, gpu: &Gpu, weights: &Weights<'_>, w: Mat) -> Result<u64> {
        let handle = match w.data {
            MatData::Trained(slot) if slot.region == Region::Params => {
                return self.in_compute(slot);
            }
            MatData::Trained(slot) if self.bytes_of(slot.region) == 2 => return self.at(slot),
            MatData::Trained(slot) => return Err(unreadable("a matrix", slot)),
            MatData::Frozen(handle) => handle,
        };
        let bytes = frozen_bytes(weights, handle, w)?;
        let frozen = &mut self.frozen[handle.0 as usize].narrow;
        if let Some(buffer) = frozen {
            return Ok(buffer.address());
        }
        let started = Instant::now();
        let padded = 2 * u64::from(w.rows.next_multiple_of(EIGHT)) * u64::from(w.cols);
        let buffer = gpu.allocate("a frozen weight", padded)?;
        gpu.fill(buffer.address() + 2 * w.len(), 0, 1, padded - 2 * w.len())?;
        match (bytes, gpu.half) {
            ((Dtype::Bf16, bytes), Half::Bf16) | ((Dtype::F16, bytes), Half::F16) => {
                send_bytes(gpu, buffer.address(), bytes)?;
            }
            ((dtype, bytes), _) => send_converted(gpu, &buffer, dtype, bytes)?,
        }
        self.sent.0 += bytes.1.len() as u64;
        self.sent.1 += started.elapsed();
        if let Some(tell) = &gpu.progress {
            let (done, total) = (self.sent.0 >> 20, Some(weights.bytes() >> 20));
            // Norms go another way.
            let goes_on = total.is_some_and(|total| done + 1 + total / 100 < total);
            tell(Preparing {
                what: "MiB of weights sent",
                done,
                total,
                spent: self.sent.1,
                goes_on,
            });
        }
        Ok(frozen.insert(buffer).address())
    }

    /// The address of a vector in f32, as norms read it.
    pub fn vector(&mut self, gpu: &Gpu, weights: &Weights<'_>, w: Mat) -> Result<u64> {
        let handle = match w.data {
            MatData::Trained(slot) if self.bytes_of(slot.region) == 4 => return self.at(slot),
            MatData::Trained(slot) if slot.region == Region::Params && slot.len <= WIDENED => {
                // Whoever reads it comes before the next one on the stream.
                let to = self.widened.as_ref().map_or(0, Buffer::address);
                super::convert::widen(gpu, to, self.at(slot)?, slot.len)?;
                return Ok(to);
            }
            MatData::Trained(slot) => return Err(unreadable("a vector", slot)),
            MatData::Frozen(handle) => handle,
        };
        frozen_bytes(weights, handle, w)?;
        let frozen = &mut self.frozen[handle.0 as usize].wide;
        if let Some(buffer) = frozen {
            return Ok(buffer.address());
        }
        let buffer = gpu.allocate("a frozen vector", 4 * w.len())?;
        let view = &weights.tensors[handle.0 as usize];
        let values: Vec<f32> = (0..view.len()).map(|i| view.get(i)).collect();
        send_bytes(gpu, buffer.address(), bytemuck::cast_slice(&values))?;
        Ok(frozen.insert(buffer).address())
    }

    /// Sends the batch's tables; their memory grows to the largest so far.
    pub fn set_tables(&mut self, gpu: &Gpu, words: &[u32]) -> Result<()> {
        let bytes = 4 * words.len() as u64;
        if self.tables.as_ref().is_none_or(|buffer| buffer.bytes() < bytes) {
            self.tables = None;
            let buffer = gpu.allocate("the batch's tables", bytes.next_power_of_two().max(1 << 16));
            self.tables = Some(buffer?);
        }
        send_bytes(gpu, self.tables_at(0)?, bytemuck::cast_slice(words))
    }

    /// The address of word `word` of the batch's tables.
    pub fn tables_at(&self, word: u64) -> Result<u64> {
        let buffer = self.tables.as_ref().ok_or_else(|| {
            Error::Device(String::from("cuda: an op needs a batch, and none was set"))
        })?;
        Ok(buffer.address() + 4 * word)
    }
}

fn unreadable(what: &str, slot: Slot) -> Error {
    Error::Device(format!("cuda: {what} cannot be read from the region {:?}", slot.region))
}

fn zeroed(gpu: &Gpu, why: &str, bytes: u64) -> Result<Buffer> {
    let buffer = gpu.allocate(why, bytes)?;
    gpu.fill(buffer.address(), 0, 1, buffer.bytes())?;
    Ok(buffer)
}

fn send_bytes(gpu: &Gpu, to: u64, bytes: &[u8]) -> Result<()> {
    gpu.send(to, bytes.len() as u64, |start, piece| {
        let start = start as usize;
        piece.copy_from_slice(&bytes[start..start + piece.len()]);
    })
}

/// Element type and bytes of a frozen tensor, which must have the shape of `w`.
fn frozen_bytes<'a>(weights: &'a Weights<'_>, handle: Weight, w: Mat) -> Result<(Dtype, &'a [u8])> {
    match weights.get(handle) {
        Some(view) if view.rows == w.rows && view.cols == w.cols => Ok((view.dtype, view.bytes)),
        found => Err(Error::Weight {
            name: found.map_or_else(|| format!("#{}", handle.0), |v| v.name.clone()),
            found: found.map_or_else(|| "nothing".into(), |v| format!("{}x{}", v.rows, v.cols)),
            expected: format!("{}x{}", w.rows, w.cols),
        }),
    }
}

/// Sends numbers of another type than the device's in pieces and converts each on the device.
fn send_converted(gpu: &Gpu, to: &Buffer, dtype: Dtype, bytes: &[u8]) -> Result<()> {
    if gpu.landing.borrow().is_none() {
        gpu.landing.replace(Some(gpu.allocate("converting weights", PIECE as u64)?));
    }
    let landing = gpu.landing.borrow().as_ref().map_or(0, Buffer::address);
    for (i, piece) in bytes.chunks(PIECE).enumerate() {
        send_bytes(gpu, landing, piece)?;
        let count = piece.len() as u64 / dtype.bytes();
        let first = (i * PIECE) as u64 / dtype.bytes();
        let out = to.address() + 2 * first;
        match dtype {
            Dtype::F32 => super::convert::narrow(gpu, out, landing, count)?,
            Dtype::F16 => super::convert::half_to_narrow(gpu, out, landing, count)?,
            Dtype::Bf16 => super::convert::narrow_to_half(gpu, out, landing, count)?,
        }
    }
    Ok(())
}
