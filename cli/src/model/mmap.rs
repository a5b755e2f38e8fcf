//! The one place that maps files into memory.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use memmap2::Mmap;

/// Maps a whole file for reading.
///
/// Weights are read in place, so the file must stay as it is while the model is open: if another
/// program cuts it short, reading the lost part stops this program with a message that names the file.
pub fn map(path: &Path) -> anyhow::Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    map_file(path, &file)
}

/// As [`map`], of a file that is open and stays so.
pub fn map_file(path: &Path, file: &File) -> anyhow::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process. Bytes that change under it are read
    // as plain numbers, never as anything with invalid values; a file cut short raises SIGBUS, which
    // the documentation above says.
    let map = unsafe { Mmap::map(file) };
    let map = map.with_context(|| format!("cannot map {} into memory", path.display()))?;
    #[cfg(unix)]
    super::cut_short::watch(&map, path);
    Ok(map)
}

/// Gives the memory of a map back to the system; what is read again later comes from the file again.
pub fn forget(map: &Mmap) {
    // SAFETY: the map is read-only and backed by its file, so that its bytes are the same when they are read
    // again. That it may fail changes nothing but memory use.
    #[cfg(unix)]
    let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    #[cfg(not(unix))]
    let _ = map;
}
