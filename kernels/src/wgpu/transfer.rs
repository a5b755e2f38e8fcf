//! Numbers between the host, where they are f32, and regions.
//!
//! Copies move whole words of four bytes. A range of f16 that begins or ends within a word is read with the number
//! beside it, and written with what is there.

use half::f16;
use paddock_core::error::{Error, Result};
use paddock_core::slot::{Region, Slot};

use super::device::Gpu;
use super::memory::{Memory, Place, UPLOAD_BYTES};

/// Bytes that one download moves at most, and a word.
const STAGING_BYTES: usize = 16 << 20;

impl Memory {
    /// Writes numbers to a slot, behind everything submitted before.
    pub fn upload(&mut self, gpu: &Gpu, dst: Slot, data: &[f32]) -> Result<()> {
        self.check_end(dst)?;
        let data = &data[..data.len().min(dst.len as usize)];
        let bytes = self.bytes_of(dst.region);
        for (i, piece) in data.chunks(UPLOAD_BYTES / bytes as usize).enumerate() {
            let at = dst.offset + i as u64 * (UPLOAD_BYTES as u64 / bytes);
            match bytes {
                4 => self.write(gpu, dst.region, 4 * at, bytemuck::cast_slice(piece))?,
                _ => self.write_halves(gpu, dst.region, at, piece)?,
            }
        }
        gpu.check()
    }

    /// Writes whole words to a region, `at` bytes behind its beginning.
    fn write(&self, gpu: &Gpu, region: Region, at: u64, bytes: &[u8]) -> Result<()> {
        let buffer = self.buffer(Place::Region(region, 0))?;
        gpu.queue.write_buffer(buffer, at, bytes);
        gpu.queue.submit([]);
        Ok(())
    }

    /// Writes f16 numbers from element `at` on.
    fn write_halves(&mut self, gpu: &Gpu, region: Region, at: u64, data: &[f32]) -> Result<()> {
        let end = at + data.len() as u64;
        let mut halves = Vec::with_capacity(data.len() + 2);
        // A buffer has whole words, so there is a number beside either end.
        if !at.is_multiple_of(2) {
            halves.push(self.half(gpu, region, at - 1)?);
        }
        halves.extend(data.iter().map(|&x| f16::from_f32(x)));
        if !end.is_multiple_of(2) {
            halves.push(self.half(gpu, region, end)?);
        }
        self.write(gpu, region, at / 2 * 4, bytemuck::cast_slice(&halves))
    }

    /// One f16 number, after everything submitted before has finished.
    fn half(&mut self, gpu: &Gpu, region: Region, at: u64) -> Result<f16> {
        let mut found = [0.0];
        self.read_halves(gpu, region, at, &mut found)?;
        Ok(f16::from_f32(found[0]))
    }

    /// Reads a slot, after everything submitted before has finished.
    pub fn download(&mut self, gpu: &Gpu, src: Slot, data: &mut [f32]) -> Result<()> {
        self.check_end(src)?;
        let len = data.len().min(src.len as usize);
        let bytes = self.bytes_of(src.region);
        for (i, piece) in data[..len].chunks_mut(STAGING_BYTES / bytes as usize).enumerate() {
            let at = src.offset + i as u64 * (STAGING_BYTES as u64 / bytes);
            match bytes {
                4 => {
                    let piece: &mut [u8] = bytemuck::cast_slice_mut(piece);
                    let len = piece.len() as u64;
                    self.read(gpu, src.region, 4 * at, len, |view| piece.copy_from_slice(view))?;
                }
                _ => self.read_halves(gpu, src.region, at, piece)?,
            }
        }
        Ok(())
    }

    /// Reads f16 numbers from element `at` on.
    fn read_halves(&mut self, gpu: &Gpu, region: Region, at: u64, data: &mut [f32]) -> Result<()> {
        let before = at % 2;
        let bytes = 2 * (before + data.len() as u64).next_multiple_of(2);
        self.read(gpu, region, 2 * (at - before), bytes, |view| {
            let halves = view.as_chunks().0.iter().skip(before as usize);
            for (x, half) in data.iter_mut().zip(halves) {
                *x = f16::from_le_bytes(*half).to_f32();
            }
        })
    }

    /// A buffer that the host can read, of at least `bytes`.
    fn staging(&mut self, gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
        if let Some(buffer) = self.staging.as_ref().filter(|b| b.size() >= bytes) {
            return buffer.clone();
        }
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes.next_power_of_two(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.staging = Some(buffer.clone());
        buffer
    }

    /// Shows `take` so many bytes of a region, from byte `at` on.
    fn read(
        &mut self,
        gpu: &Gpu,
        region: Region,
        at: u64,
        bytes: u64,
        take: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let buffer = self.buffer(Place::Region(region, 0))?.clone();
        let staging = self.staging(gpu, bytes);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&buffer, at, &staging, 0, bytes);
        gpu.queue.submit([encoder.finish()]);
        let (send, receive) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver lives until the answer has come.
            let _ = send.send(result);
        });
        gpu.wait(None)?;
        let failed =
            |why: String| Error::Device(format!("reading back from {} failed: {why}", gpu.name));
        receive.recv().map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let view = staging.get_mapped_range(0..bytes).map_err(|e| failed(e.to_string()))?;
        take(&view);
        drop(view);
        staging.unmap();
        gpu.check()
    }
}
