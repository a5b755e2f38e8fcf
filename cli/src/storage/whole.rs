//! Whole files out of single calls: interrupted and short calls are repeated, contents are hashed
//! while they pass, and nothing counts as written before it is synced.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::words::explain;
use super::{ReadFile, Storage, WriteFile};

/// Size and SHA-256 of a file's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal, 64 characters.
    pub sha256: String,
}

/// A call that is interrupted this often in a row is given up, so that nothing can hang.
const MOST_INTERRUPTIONS: u32 = 100;

/// Buffers start small, so that small files cost little, and grow to this.
const BUFFER_BYTES: usize = 1 << 20;
const FIRST_BUFFER_BYTES: usize = 4 << 10;

/// Repeats a call for as long as the system says "interrupted" (within reason).
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = MOST_INTERRUPTIONS;
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted && left > 0 => left -= 1,
            result => return result,
        }
    }
}

/// Writes all of `data`, however short the single writes are.
pub fn write_all(file: &mut dyn WriteFile, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = retry(|| file.write(data))?;
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        data = data.get(written..).ok_or(ErrorKind::InvalidData)?;
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; returns how many bytes were read.
pub fn read_full(file: &mut dyn ReadFile, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match retry(|| file.read(&mut into[filled..]))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Reads a file of at most `limit` bytes; a longer one is an `InvalidData` error that says so.
pub fn read_file(storage: &dyn Storage, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = retry(|| storage.open(path))?;
    let mut contents = Vec::new();
    for_each_piece(file.as_mut(), &mut |piece| {
        if contents.len() as u64 + piece.len() as u64 > limit {
            let text = format!("it is longer than the {limit} bytes that are allowed here");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        contents.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(contents)
}

/// Shows `visit` the rest of a file, piece by piece.
pub fn for_each_piece(
    file: &mut dyn ReadFile,
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; FIRST_BUFFER_BYTES];
    loop {
        let read = read_full(file, &mut buffer)?;
        visit(&buffer[..read])?;
        if read < buffer.len() {
            return Ok(());
        }
        if buffer.len() < BUFFER_BYTES {
            buffer.resize(buffer.len() * 4, 0);
        }
    }
}

/// Size and SHA-256 of a file, read in pieces.
pub fn hash_file(storage: &dyn Storage, path: &Path) -> io::Result<FileRecord> {
    let mut file = retry(|| storage.open(path))?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    for_each_piece(file.as_mut(), &mut |piece| {
        hasher.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    })?;
    Ok(FileRecord { bytes, sha256: hex(&hasher.finalize()) })
}

/// SHA-256 of bytes in memory, in lower-case hexadecimal.
pub fn sha256_hex(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(digest: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A writer that buffers, hashes and counts what passes through it on the way to a file.
struct HashingWriter<'a> {
    file: &'a mut dyn WriteFile,
    buffer: Vec<u8>,
    hasher: Sha256,
    bytes: u64,
}

impl HashingWriter<'_> {
    fn empty_buffer(&mut self) -> io::Result<()> {
        write_all(self.file, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        if self.buffer.len() + data.len() > BUFFER_BYTES {
            self.empty_buffer()?;
        }
        if data.len() >= BUFFER_BYTES {
            write_all(self.file, data)?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.empty_buffer()
    }
}

/// Creates a file, lets `fill` write it, and syncs it. On failure the half-written file stays: it
/// lies in a temporary place that the caller removes.
///
/// # Errors
/// `AlreadyExists` where the name is taken; otherwise what `fill` or the file system reported.
pub fn write_new(
    storage: &dyn Storage,
    path: &Path,
    fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<FileRecord> {
    let mut file = retry(|| storage.create(path))?;
    fill_and_sync(file.as_mut(), fill)
}

/// As [`write_new`], with room for `bytes` set aside first, so that a full disk shows before the
/// work.
pub fn write_new_reserved(
    storage: &dyn Storage,
    path: &Path,
    bytes: u64,
    fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<FileRecord> {
    let mut file = retry(|| storage.create(path))?;
    match retry(|| file.reserve(bytes)) {
        Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
        _ => {}
    }
    fill_and_sync(file.as_mut(), fill)
}

fn fill_and_sync(
    file: &mut dyn WriteFile,
    fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<FileRecord> {
    let mut out = HashingWriter { file, buffer: Vec::new(), hasher: Sha256::new(), bytes: 0 };
    fill(&mut out)?;
    out.empty_buffer()?;
    let record = FileRecord { bytes: out.bytes, sha256: hex(&out.hasher.finalize_reset()) };
    // An interrupted sync has done nothing yet and may be repeated; any other error is final.
    retry(|| out.file.sync())?;
    Ok(record)
}

/// Replaces (or creates) a file so that a reader finds the old contents or the new, never a part:
/// temporary file beside it, sync, rename, sync of the folder.
///
/// # Errors
/// Those of the file system, of the same kind, with the path and what to do in their words: most callers have
/// nothing to add.
pub fn replace_file(storage: &dyn Storage, path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(storage, path, contents).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {}", path.display(), explain(&error)))
    })
}

fn replace(storage: &dyn Storage, path: &Path, contents: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let temporary = dir.join(format!(".tmp-{}", name.to_string_lossy()));
    match retry(|| storage.unlink(&temporary)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let result = write_new(storage, &temporary, &mut |out| out.write_all(contents))
        .and_then(|_| retry(|| storage.rename(&temporary, path)));
    if let Err(error) = result {
        // The old file is untouched; a temporary that cannot be removed now goes with the next
        // call.
        let _ = retry(|| storage.unlink(&temporary));
        return Err(error);
    }
    retry(|| storage.sync_dir(dir))
}

/// Whether there is anything at `path` (a link counts, wherever it leads).
pub fn exists(storage: &dyn Storage, path: &Path) -> io::Result<bool> {
    match retry(|| storage.metadata(path)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Fault, Faults, SimulatedDisk};
    use super::super::words::is_full;
    use super::*;

    #[test]
    fn f36_f37_a_small_file_that_cannot_be_written_is_named_and_the_old_one_stays() -> io::Result<()>
    {
        let path = Path::new("/report.html");
        let good = SimulatedDisk::new();
        replace_file(&good, path, b"old")?;
        let (old, before) = (good.visible(), good.calls());
        replace_file(&good, path, b"new")?;
        let device = if cfg!(unix) { "check the disk" } else { "input/output error" };
        for (fault, words) in [(Fault::NoSpace, "the disk is full"), (Fault::Io, device)] {
            for call in 0..good.calls() - before {
                let disk = SimulatedDisk::from_image(&old);
                disk.set_faults(Faults::once(fault, call));
                let error = replace_file(&disk, path, b"new").expect_err("a failing disk");
                let text = error.to_string();
                assert!(text.starts_with("/report.html: ") && text.contains(words), "{text}");
                assert_eq!(is_full(&error), fault == Fault::NoSpace, "{text}");
                // Once it has its name only the folder's sync can fail.
                let last = call + 1 == good.calls() - before;
                disk.set_faults(Faults::none());
                let expected: &[u8] = if last { b"new" } else { b"old" };
                assert_eq!(read_file(&disk, path, 100)?, expected, "call {call}");
            }
        }
        Ok(())
    }
}
