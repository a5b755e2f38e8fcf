//! Size and hash of a file, to notice that it changed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::template::hex;

/// What tells one content of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
}

/// Reads a file once and hashes it.
pub fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(|e| Error::io(path, "read", e))?;
        if n == 0 {
            return Ok(Fingerprint { bytes, sha256: hex(&hash.finalize()) });
        }
        bytes += n as u64;
        hash.update(&buffer[..n]);
    }
}
