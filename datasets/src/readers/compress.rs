//! Gzip and zstd, recognised by their first bytes and unpacked as a stream with limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

/// Bytes between two looks at the limits.
const BUFFER: usize = 64 * 1024;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not packed.
    None,
    /// Gzip (RFC 1952), several members allowed.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// By the first bytes of the file; the name plays no part.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Limits of unpacking, against archives made to fill a disk or memory.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Most unpacked bytes for each packed byte, looked at above 64 MiB unpacked.
    pub ratio: u64,
    /// Most unpacked bytes in all.
    pub total: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { ratio: 500, total: 1 << 40 }
    }
}

/// Below this many unpacked bytes the ratio is not looked at: a small file of blanks is no attack.
const RATIO_FREE: u64 = 64 << 20;

/// A file, unpacked if it is packed.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = File::open(path)?;
    let packed_len = file.metadata()?.len();
    let mut head = [0; 4];
    let got = file.read(&mut head)?;
    file.rewind()?;
    let compression = Compression::detect(&head[..got]);
    unpack(Box::new(file), compression, packed_len, UnpackLimits::default())
}

/// Reads `raw` unpacked.
pub fn unpack(
    raw: Box<dyn Read + Send>,
    compression: Compression,
    packed_len: u64,
    limits: UnpackLimits,
) -> io::Result<Box<dyn BufRead + Send>> {
    let reader: Box<dyn Read + Send> = match compression {
        Compression::None => return Ok(Box::new(BufReader::with_capacity(BUFFER, raw))),
        Compression::Gzip => {
            let buffered = BufReader::with_capacity(BUFFER, raw);
            Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::new(raw)?;
            // 128 MiB windows: the largest that `zstd` itself accepts without being asked.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    };
    let limited = Limited { reader, packed_len, limits, unpacked: 0 };
    Ok(Box::new(BufReader::with_capacity(BUFFER, limited)))
}

struct Limited {
    reader: Box<dyn Read + Send>,
    packed_len: u64,
    limits: UnpackLimits,
    unpacked: u64,
}

impl Read for Limited {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(out)?;
        self.unpacked = self.unpacked.saturating_add(n as u64);
        let by_ratio = self.packed_len.saturating_mul(self.limits.ratio).max(RATIO_FREE);
        if self.unpacked > self.limits.total || self.unpacked > by_ratio {
            return Err(io::Error::other(format!(
                "unpacks to more than {} bytes from {} packed ones; that is no ordinary data file. \
                 Unpack it by hand if you trust it",
                self.unpacked, self.packed_len
            )));
        }
        Ok(n)
    }
}
