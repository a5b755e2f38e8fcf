//! `manifest.json`: what a checkpoint consists of, written last, so that a folder without a good
//! one was never finished.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::storage::whole::{FileRecord, hash_file, read_file, retry, sha256_hex};
use crate::storage::words::explain;
use crate::storage::{Kind, Storage};

/// The file's name inside a checkpoint folder.
pub const MANIFEST: &str = "manifest.json";

/// The version that this program writes. It reads every version from 1 to this one.
pub const MANIFEST_VERSION: u64 = 1;

const FORMAT: &str = "paddock-checkpoint";
const MANIFEST_LIMIT_BYTES: u64 = 4 << 20;

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name in the folder; never a path.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its contents, lower-case hexadecimal.
    pub sha256: String,
}

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u64,
    /// Optimizer steps done when the checkpoint was made.
    pub step: u64,
    /// Every file but the manifest itself.
    pub files: Vec<ManifestFile>,
    /// What the trainer wants to remember (fingerprints, versions, best score); not interpreted
    /// here.
    pub info: Map<String, Value>,
    /// SHA-256 of this manifest with an empty string in this place: finds rot in the manifest
    /// itself.
    checksum: String,
}

/// Why a folder is no good checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// The folder was never finished, or its manifest was removed.
    #[error("it has no {MANIFEST}: it was never finished, or the file was removed")]
    NoManifest,
    /// The entry is a link, a file or something else.
    #[error("it is not a folder")]
    NotAFolder,
    /// The manifest is damaged.
    #[error("its {MANIFEST} is damaged: {0}")]
    BadManifest(String),
    /// The manifest belongs to another step than the folder's name says.
    #[error("its {MANIFEST} is that of step {0}")]
    OtherStep(u64),
    /// The manifest is of a version that this program does not know.
    #[error(
        "it was written by a newer Paddock (checkpoint version {0}, this program reads versions \
         1 to {MANIFEST_VERSION})"
    )]
    Future(u64),
    /// A file is missing.
    #[error("its file {0} is missing")]
    Missing(String),
    /// A file has another size than the manifest says.
    #[error("its file {name} has {found} bytes, but {expected} were written")]
    Size {
        /// The file's name.
        name: String,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on the disk.
        found: u64,
    },
    /// A file's contents have changed since they were written.
    #[error("the contents of its file {0} are not those that were written (the checksum differs)")]
    Hash(String),
    /// The system could not read it.
    #[error("{} could not be read: {}", path.display(), explain(source))]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Manifest {
    /// A manifest for files that have been written.
    pub(super) fn new(step: u64, files: Vec<ManifestFile>, info: Map<String, Value>) -> Self {
        let (format, checksum) = (FORMAT.to_string(), String::new());
        Self { format, version: MANIFEST_VERSION, step, files, info, checksum }
    }

    /// The bytes of `manifest.json`, with the seal that fits.
    ///
    /// # Errors
    /// None that is known: everything in it can be written as JSON.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let sealed = Self { checksum: self.seal()?, ..self.clone() };
        let mut text = serde_json::to_vec_pretty(&sealed)?;
        text.push(b'\n');
        Ok(text)
    }

    fn seal(&self) -> io::Result<String> {
        let open = Self { checksum: String::new(), ..self.clone() };
        Ok(sha256_hex(&serde_json::to_vec(&open)?))
    }

    /// Reads the bytes of a `manifest.json`. Total: any input gives a manifest or a defect.
    pub fn parse(text: &[u8]) -> Result<Self, Defect> {
        let bad = |error: String| Defect::BadManifest(error);
        let value: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
        if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(bad(format!("it does not say \"format\": \"{FORMAT}\"")));
        }
        match value.get("version").and_then(Value::as_u64) {
            Some(1..=MANIFEST_VERSION) => {}
            Some(newer) if newer > MANIFEST_VERSION => return Err(Defect::Future(newer)),
            _ => return Err(bad("it has no version number".to_string())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
        let seal = manifest.seal().map_err(|e| bad(e.to_string()))?;
        if manifest.checksum != seal {
            return Err(bad("its checksum differs".to_string()));
        }
        for file in &manifest.files {
            check_file_name(&file.name).map_err(bad)?;
        }
        Ok(manifest)
    }

    /// Reads the manifest in `dir` and compares its step.
    pub(super) fn read(storage: &dyn Storage, dir: &Path, step: u64) -> Result<Self, Defect> {
        let unreadable = |path: &Path, source| Defect::Unreadable { path: path.into(), source };
        let meta = retry(|| storage.metadata(dir)).map_err(|error| unreadable(dir, error))?;
        if meta.kind != Kind::Dir {
            return Err(Defect::NotAFolder);
        }
        let path = dir.join(MANIFEST);
        let text = match read_file(storage, &path, MANIFEST_LIMIT_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Defect::NoManifest),
            Err(error) => return Err(unreadable(&path, error)),
        };
        let manifest = Self::parse(&text)?;
        if manifest.step != step {
            return Err(Defect::OtherStep(manifest.step));
        }
        Ok(manifest)
    }

    /// Reads every file of the checkpoint in `dir` again and compares size and contents.
    pub(super) fn verify(&self, storage: &dyn Storage, dir: &Path) -> Result<(), Defect> {
        for file in &self.files {
            let path = dir.join(&file.name);
            let unreadable = |source: io::Error| match source.kind() {
                ErrorKind::NotFound => Defect::Missing(file.name.clone()),
                _ => Defect::Unreadable { path: path.clone(), source },
            };
            let meta = retry(|| storage.metadata(&path)).map_err(unreadable)?;
            if meta.kind != Kind::File {
                return Err(Defect::Missing(file.name.clone()));
            }
            file.check_size(meta.bytes)?;
            storage.forget_cached(&path);
            file.check(&hash_file(storage, &path).map_err(unreadable)?)?;
        }
        Ok(())
    }

    /// The entry of one file.
    pub fn file(&self, name: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl ManifestFile {
    fn check_size(&self, found: u64) -> Result<(), Defect> {
        if found == self.bytes {
            return Ok(());
        }
        Err(Defect::Size { name: self.name.clone(), expected: self.bytes, found })
    }

    /// Compares what was read with what was written.
    pub(in crate::run) fn check(&self, found: &FileRecord) -> Result<(), Defect> {
        self.check_size(found.bytes)?;
        if found.sha256 != self.sha256 {
            return Err(Defect::Hash(self.name.clone()));
        }
        Ok(())
    }
}

/// Names of files in a checkpoint: letters, digits, `.`, `_` and `-`, not hidden, not the manifest.
pub(super) fn check_file_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=100).contains(&name.len()) && name.chars().all(plain);
    if fits && !name.starts_with('.') && name != MANIFEST {
        return Ok(());
    }
    Err(format!("{name:?} is no name for a file in a checkpoint"))
}
