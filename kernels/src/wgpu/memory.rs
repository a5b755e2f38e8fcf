//! Buffers: one for each region, one or more for each frozen tensor, one for the batch's integers.

use paddock_core::error::{Error, Result};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, Weight, Weights};

use super::activations::Activations;
use super::device::Gpu;
use super::tier::Tier;

/// A buffer of numbers that kernels read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Planned memory: a region, and the first element of it that is bound. (In a kernel's key: which of the
    /// region's windows, counted from 0.)
    Region(Region, u64),
    /// Partial results of a reduction over all workgroups ([`PARTIALS`] numbers), four times.
    Partials,
    /// Sums of a matrix product whose workgroups share tiles ([`SUMS`] numbers).
    Sums,
}

/// Numbers of a reduction in [`Place::Partials`].
pub const PARTIALS: u64 = 256;

/// Numbers in [`Place::Sums`].
pub const SUMS: u64 = 1 << 21;

impl Place {
    /// The buffer's name in WGSL.
    pub fn name(self) -> String {
        let (region, window) = match self {
            Place::Region(region, window) => (region, window),
            Place::Partials => return String::from("partials"),
            Place::Sums => return String::from("sums"),
        };
        let name = match region {
            Region::Params => "params",
            Region::Grads => "grads",
            Region::Moments => "moments",
            Region::Stats => "stats",
            Region::Acts => "acts",
            Region::ActGrads => "act_grads",
            Region::Kv => "kv",
            Region::Scratch => "scratch",
        };
        format!("region_{name}_{window}")
    }

    fn index(self) -> usize {
        match self {
            Place::Region(region, _) => region as usize,
            Place::Partials => 8,
            Place::Sums => 9,
        }
    }
}

/// Rows of a frozen tensor in a buffer of their own.
#[derive(Clone, Debug)]
pub struct Part {
    /// First row.
    pub first: u32,
    /// How many.
    pub rows: u32,
    /// Their bytes, two 16-bit elements a word, padded to whole words.
    pub buffer: wgpu::Buffer,
    /// The largest exponent of their numbers, for kernels that need it.
    pub exponent: Option<u32>,
}

/// All buffers of one back-end.
pub struct Memory {
    activations: Activations,
    regions: [Option<wgpu::Buffer>; 10],
    lens: [u64; 10],
    /// Parts of each frozen tensor, empty before its first use.
    frozen: Vec<Vec<Part>>,
    /// What downloads go through, as large as the largest so far.
    pub(super) staging: Option<wgpu::Buffer>,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
}

/// Where a binding may begin: at multiples of so many bytes.
const ALIGNED_BYTES: u64 = 256;

/// Bytes handed to the driver in one piece.
pub(super) const UPLOAD_BYTES: usize = 32 << 20;

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_DST)
    .union(wgpu::BufferUsages::COPY_SRC);

impl Memory {
    /// Empty memory; `max_binding_bytes` decides how tensors are cut.
    pub fn new(gpu: &Gpu, tensors: usize, max_binding_bytes: u64) -> Memory {
        let mut memory = Memory {
            activations: gpu.activations(),
            regions: Default::default(),
            lens: [0; 10],
            frozen: vec![Vec::new(); tensors],
            staging: None,
            max_binding_bytes: max_binding_bytes / 512 * 512,
            max_buffer_bytes: gpu.max_buffer_bytes,
        };
        for (place, len) in [(Place::Partials, 4 * PARTIALS), (Place::Sums, SUMS)] {
            memory.regions[place.index()] = Some(storage(gpu, &place.name(), 4 * len));
            memory.lens[place.index()] = len;
        }
        memory
    }

    /// Gives every region its buffer, zeroed by the driver. One larger than the device's buffers is refused.
    pub fn reserve(&mut self, gpu: &Gpu, sizes: &RegionSizes) -> Result<()> {
        for region in Region::ALL {
            let bytes = self.bytes_of(region) * sizes.len(region);
            if bytes > self.max_buffer_bytes {
                return Err(Error::Device(format!(
                    "the region {region:?} needs {} MiB, but a buffer on {} holds {} MiB at most; use a \
                     smaller --micro-batch-tokens or --max-seq-len, or --backend cpu",
                    bytes >> 20,
                    gpu.name,
                    self.max_buffer_bytes >> 20
                )));
            }
        }
        for region in Region::ALL {
            let place = Place::Region(region, 0);
            // The old buffer goes before the new one comes.
            self.regions[place.index()] = None;
            // Whole quads, for kernels that read four numbers at a time.
            let bytes = self.bytes_of(region) * sizes.len(region).max(4).next_multiple_of(4);
            self.regions[place.index()] = Some(storage(gpu, &place.name(), bytes));
            self.lens[place.index()] = sizes.len(region);
        }
        gpu.check()
    }

    /// Bytes of a region's element.
    pub fn bytes_of(&self, region: Region) -> u64 {
        self.activations.bytes(region)
    }

    /// Elements of a region that one binding holds.
    fn bound(&self, region: Region) -> u64 {
        self.max_binding_bytes / self.bytes_of(region)
    }

    /// Refuses a slot that reaches beyond its region.
    pub(super) fn check_end(&self, slot: Slot) -> Result<()> {
        let len = self.lens[slot.region as usize];
        if slot.end() > len {
            return Err(Error::OutOfRegion { region: slot.region, end: slot.end(), len });
        }
        Ok(())
    }

    /// Refuses a slot that reaches beyond its region, or that no binding holds.
    pub fn check(&self, slot: Slot) -> Result<()> {
        self.check_end(slot)?;
        if slot.end() - self.window(slot) > self.bound(slot.region) {
            return Err(Error::Device(format!(
                "an operand of {} MiB does not fit the device's bindings of {} MiB; use a smaller \
                 --micro-batch-tokens, or --backend cpu",
                (self.bytes_of(slot.region) * slot.len) >> 20,
                self.max_binding_bytes >> 20
            )));
        }
        Ok(())
    }

    /// The first element that is bound for a slot. A region that one binding holds is bound whole. Of a larger
    /// one, windows are bound that begin at multiples of half a binding, or where the slot begins.
    pub fn window(&self, slot: Slot) -> u64 {
        let bound = self.bound(slot.region);
        if self.lens[slot.region as usize] <= bound {
            return 0;
        }
        let first = slot.offset / (bound / 2) * (bound / 2);
        let aligned = ALIGNED_BYTES / self.bytes_of(slot.region);
        if slot.end() <= first + bound { first } else { slot.offset / aligned * aligned }
    }

    /// Elements that every binding holds wherever they begin, those of f32 too.
    pub fn longest_piece(&self) -> u64 {
        self.max_binding_bytes / 8
    }

    /// What is bound of a place's buffer.
    pub fn binding(&self, place: Place) -> Result<wgpu::BufferBinding<'_>> {
        let buffer = self.buffer(place)?;
        let offset = match place {
            Place::Region(region, first) => self.bytes_of(region) * first,
            Place::Partials | Place::Sums => 0,
        };
        let size = std::num::NonZero::new((buffer.size() - offset).min(self.max_binding_bytes));
        Ok(wgpu::BufferBinding { buffer, offset, size })
    }

    /// Elements of a region.
    pub fn len(&self, region: Region) -> u64 {
        self.lens[region as usize]
    }

    /// The buffer of a place; none before [`Memory::reserve`].
    pub fn buffer(&self, place: Place) -> Result<&wgpu::Buffer> {
        self.regions[place.index()].as_ref().ok_or_else(|| {
            Error::Device(String::from("wgpu: an op was called before memory was reserved"))
        })
    }

    /// The parts of a frozen matrix, uploaded now if this is its first use. (A tensor that training
    /// replaces by `Params` is read on the host alone and never costs device memory.)
    pub fn parts(
        &mut self,
        gpu: &Gpu,
        weights: &Weights<'_>,
        handle: Weight,
        w: Mat,
    ) -> Result<()> {
        let view = match weights.get(handle) {
            Some(view) if view.rows == w.rows && view.cols == w.cols => view,
            found => {
                return Err(Error::Weight {
                    name: found.map_or_else(|| format!("#{}", handle.0), |v| v.name.clone()),
                    found: found
                        .map_or_else(|| "nothing".into(), |v| format!("{}x{}", v.rows, v.cols)),
                    expected: format!("{}x{}", w.rows, w.cols),
                });
            }
        };
        let parts = &mut self.frozen[handle.0 as usize];
        if !parts.is_empty() {
            return Ok(());
        }
        for (first, rows) in cut(w.rows, w.cols, view.dtype, self.max_binding_bytes)? {
            let row_bytes = u64::from(w.cols) * view.dtype.bytes();
            let from = (u64::from(first) * row_bytes) as usize;
            let bytes = &view.bytes[from..from + (u64::from(rows) * row_bytes) as usize];
            let size = (bytes.len() as u64).next_multiple_of(16);
            let buffer = storage(gpu, &view.name, size);
            write(gpu, &buffer, bytes)?;
            let cooperates = gpu.tier() == Tier::Cooperative;
            let exponent = cooperates.then(|| largest_exponent(bytes, view.dtype));
            parts.push(Part { first, rows, buffer, exponent });
        }
        Ok(())
    }

    /// The parts of a tensor that [`Memory::parts`] has uploaded.
    pub fn frozen(&self, handle: Weight) -> &[Part] {
        self.frozen.get(handle.0 as usize).map_or(&[], Vec::as_slice)
    }
}

/// Rows of each part of a matrix, so that no part exceeds `most` bytes and every part begins at a
/// whole word.
pub fn cut(rows: u32, cols: u32, dtype: Dtype, most: u64) -> Result<Vec<(u32, u32)>> {
    let pair_bytes = 2 * u64::from(cols) * dtype.bytes();
    let pairs = most.saturating_sub(16) / pair_bytes.max(1);
    if pairs == 0 {
        return Err(Error::Device(format!(
            "a matrix with {cols} columns does not fit the device's binding of {most} bytes"
        )));
    }
    let step = u32::try_from(2 * pairs).unwrap_or(u32::MAX - 1);
    let firsts = (0..rows).step_by(step as usize);
    Ok(firsts.map(|first| (first, step.min(rows - first))).collect())
}

/// The exponent (as f32 has it, 255 for what is no finite number) of the largest of a tensor's numbers.
fn largest_exponent(bytes: &[u8], dtype: Dtype) -> u32 {
    let halves = || bytes.as_chunks().0.iter().map(|&b| u32::from(u16::from_le_bytes(b)));
    match dtype {
        Dtype::F32 => {
            let words = bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b));
            words.map(|w| (w >> 23) & 0xff).max().unwrap_or(0)
        }
        Dtype::Bf16 => halves().map(|h| (h >> 7) & 0xff).max().unwrap_or(0),
        Dtype::F16 => match halves().map(|h| (h >> 10) & 0x1f).max().unwrap_or(0) {
            31 => 255,
            // Subnormal numbers are below 2^-14.
            exponent => exponent + 127 - 15,
        },
    }
}

pub(super) fn storage(gpu: &Gpu, label: &str, bytes: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes,
        usage: STORAGE,
        mapped_at_creation: false,
    })
}

/// Writes bytes of any length; the last word is padded with zeros.
fn write(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
    let whole = bytes.len() / 4 * 4;
    for (i, piece) in bytes[..whole].chunks(UPLOAD_BYTES).enumerate() {
        gpu.queue.write_buffer(buffer, (i * UPLOAD_BYTES) as u64, piece);
        // The driver's copy of this piece is freed before the next one is made.
        gpu.queue.submit([]);
        gpu.wait(None)?;
    }
    if whole < bytes.len() {
        let mut last = [0u8; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.queue.write_buffer(buffer, whole as u64, &last);
    }
    gpu.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_and_begin_at_whole_words() {
        for (rows, cols, dtype, most) in
            [(7, 3, Dtype::Bf16, 40), (100, 5, Dtype::F32, 1000), (1, 9, Dtype::F16, 1 << 20)]
        {
            let parts = cut(rows, cols, dtype, most).unwrap();
            let mut next = 0;
            for (first, count) in parts {
                assert_eq!(first, next);
                let row_bytes = u64::from(cols) * dtype.bytes();
                assert_eq!(u64::from(first) * row_bytes % 4, 0);
                assert!(u64::from(count) * row_bytes <= most);
                next = first + count;
            }
            assert_eq!(next, rows);
        }
        assert!(cut(4, 1000, Dtype::F32, 100).is_err());
    }

    #[test]
    fn the_largest_exponent_is_found_in_every_type() {
        let numbers = [0.0f32, -6.5, 0.25, 3.0];
        let f32s: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> =
            numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        let bf16s: Vec<u8> =
            numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
        for (bytes, dtype) in [(&f32s, Dtype::F32), (&f16s, Dtype::F16), (&bf16s, Dtype::Bf16)] {
            assert_eq!(largest_exponent(bytes, dtype), 129);
        }
        assert_eq!(largest_exponent(&f32::NAN.to_le_bytes(), Dtype::F32), 255);
        assert_eq!(largest_exponent(&half::f16::INFINITY.to_le_bytes(), Dtype::F16), 255);
        assert_eq!(largest_exponent(&[], Dtype::Bf16), 0);
    }
}
