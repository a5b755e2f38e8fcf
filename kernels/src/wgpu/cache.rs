//! Compiled kernels on disk, so that the driver compiles them once and not at every start.
//!
//! One file for each adapter, driver and text of the kernels: a line of our own (what the file is, how
//! long, a checksum), then the driver's bytes. A file that is not whole is passed over and replaced.

use std::fs;
use std::path::{Path, PathBuf};

use super::adapters::AdapterReport;

/// All kernels' texts: other texts, another file.
const SOURCES: [&str; 28] = [
    include_str!("common.wgsl"),
    include_str!("half.wgsl"),
    include_str!("reduce.wgsl"),
    include_str!("reduce_subgroups.wgsl"),
    include_str!("adamw.wgsl"),
    include_str!("attention.wgsl"),
    include_str!("attention_lists.wgsl"),
    include_str!("attention_tiles.wgsl"),
    include_str!("attention_tiles_forward.wgsl"),
    include_str!("attention_tiles_backward.wgsl"),
    include_str!("attention_cooperative.wgsl"),
    include_str!("attention_cooperative_forward.wgsl"),
    include_str!("attention_cooperative_backward.wgsl"),
    include_str!("dropout.wgsl"),
    include_str!("elementwise.wgsl"),
    include_str!("embed.wgsl"),
    include_str!("linear_cross_entropy.wgsl"),
    include_str!("matmul.wgsl"),
    include_str!("matmul_large.wgsl"),
    include_str!("matmul_quads.wgsl"),
    include_str!("matmul_cooperative.wgsl"),
    include_str!("matmul_range.wgsl"),
    include_str!("matmul_sum.wgsl"),
    include_str!("matmul_thin.wgsl"),
    include_str!("rms_norm.wgsl"),
    include_str!("rms_norm_quads.wgsl"),
    include_str!("rope.wgsl"),
    include_str!("swiglu.wgsl"),
];

/// Kernels of one device, kept in one file.
pub struct Cache {
    path: PathBuf,
    pipelines: wgpu::PipelineCache,
}

impl Cache {
    /// What is there for this adapter; nothing if there is no whole file.
    pub fn open(folder: &Path, device: &wgpu::Device, adapter: &AdapterReport) -> Cache {
        let path = folder.join(file_name(adapter));
        let stored = fs::read(&path).ok();
        let data = stored.as_deref().and_then(unwrap);
        let desc = wgpu::PipelineCacheDescriptor { label: None, data, fallback: true };
        // SAFETY: the bytes are those that `store` got from `get_data` for this adapter and driver, which the
        // file's name and its checksum say; wgpu and the driver look at their own headers besides.
        let pipelines = unsafe { device.create_pipeline_cache(&desc) };
        Cache { path, pipelines }
    }

    /// What pipelines are compiled with.
    pub fn pipelines(&self) -> &wgpu::PipelineCache {
        &self.pipelines
    }

    /// Writes everything compiled so far. That a kernel is compiled again next time is no error worth
    /// stopping for.
    pub fn store(&self) {
        let Some(data) = self.pipelines.get_data() else { return };
        let (Some(folder), new) = (self.path.parent(), self.path.with_extension("new")) else {
            return;
        };
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&new, wrap(&data)))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            // Half a file helps nobody; if it cannot go either, the next start passes over it.
            let _ = fs::remove_file(&new);
        }
    }
}

/// FNV-1a: against damage, not against people, who could replace the program as well.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |h: u64, &b: &u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn file_name(adapter: &AdapterReport) -> String {
    let text =
        format!("{}\n{}\n{}\n{}", adapter.name, adapter.api, adapter.driver, SOURCES.concat());
    format!("wgpu-{:016x}.kernels", checksum(text.as_bytes()))
}

/// The first line's words before length and checksum.
const MAGIC: &str = "paddock kernels 1";

fn wrap(data: &[u8]) -> Vec<u8> {
    let mut file = format!("{MAGIC} {} {:016x}\n", data.len(), checksum(data)).into_bytes();
    file.extend_from_slice(data);
    file
}

/// The driver's bytes, if the file is whole.
fn unwrap(file: &[u8]) -> Option<&[u8]> {
    let end = file.iter().position(|&b| b == b'\n')?;
    let (line, data) = (std::str::from_utf8(&file[..end]).ok()?, &file[end + 1..]);
    let expected = format!("{MAGIC} {} {:016x}", data.len(), checksum(data));
    (line == expected).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_used() {
        let file = wrap(b"the driver's bytes\n\0");
        assert_eq!(unwrap(&file), Some(&b"the driver's bytes\n\0"[..]));
        for i in 0..file.len() {
            assert_eq!(unwrap(&file[..i]), None);
            let mut damaged = file.clone();
            damaged[i] ^= 1;
            assert_eq!(unwrap(&damaged), None);
        }
        assert_eq!(unwrap(b""), None);
    }
}
