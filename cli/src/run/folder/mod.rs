//! The run folder: where it may be, what it may contain, and the names of what lies in it.

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::control;
use super::lock::{LOCK_FILE, Lock, LockError};
use crate::storage::whole::retry;
use crate::storage::words::explain;
use crate::storage::{RealStorage, Storage};

/// The file that makes a folder a run folder.
pub const RUN_TOML: &str = "run.toml";

/// Why a folder cannot hold a run.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A name that is not allowed.
    #[error(
        "{name:?} is no name for a run: use letters, digits, spaces, '.', '_' and '-', at most 64 \
         characters, not first or last a '.' or space, and none of Windows' device names"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The path leads through `..` where nothing exists yet.
    #[error(
        "{}: '..' is not allowed in a part of the path that does not exist yet",
        path.display()
    )]
    Dots {
        /// The path.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error(
        "{} is not empty and not a run's folder (it contains {}); choose another folder with --out",
        path.display(), names.join(", ")
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Some of what is in it.
        names: Vec<String>,
    },
    /// The folder holds a run already.
    #[error(
        "{} holds a run already; go on with it by --resume, or choose another folder with --out",
        path.display()
    )]
    HasRun {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to resume.
    #[error("{} holds no run to resume: it has no {RUN_TOML}", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// The run would write into what it reads.
    #[error(
        "the run's folder {} and the input {} overlap; nothing may be written where the run reads \
         from: choose another folder with --out", out.display(), input.display()
    )]
    Overlap {
        /// The run's folder.
        out: PathBuf,
        /// The model, data file or adapter.
        input: PathBuf,
    },
    /// Another run uses the folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The file system said no.
    #[error("{}: {}", path.display(), explain(source))]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError + use<> {
    let path = path.to_path_buf();
    move |source| FolderError::Io { path, source }
}

/// A run folder, locked for this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: Lock,
}

impl RunFolder {
    /// Makes the folder of a new run. `inputs` are the paths that the run reads: models, data,
    /// adapters.
    ///
    /// # Errors
    /// If the name is not allowed, the folder overlaps an input, is not empty, or is in use.
    pub fn create(out: &Path, inputs: &[PathBuf]) -> Result<Self, FolderError> {
        let path = place(out, inputs)?;
        make_dirs(&path)?;
        check_empty(&path)?;
        let lock = Lock::take(&path)?;
        // Once more, now that nobody else can be filling it.
        check_empty(&path)?;
        let folder = Self { path, lock };
        make_dirs(&folder.checkpoints())?;
        Ok(folder)
    }

    /// Makes a folder of a free name in `runs`: `stem`, or `stem-2`, `stem-3`, …
    pub fn create_next(runs: &Path, stem: &str, inputs: &[PathBuf]) -> Result<Self, FolderError> {
        check_name(stem)?;
        let mut number = 1_u64;
        loop {
            let name = if number == 1 { stem.to_string() } else { format!("{stem}-{number}") };
            match Self::create(&runs.join(name), inputs) {
                Err(
                    FolderError::HasRun { .. }
                    | FolderError::Foreign { .. }
                    | FolderError::Locked(LockError::Held { .. }),
                ) => number += 1,
                result => return result,
            }
        }
    }

    /// Opens the folder of a run that is to go on.
    pub fn resume(out: &Path, inputs: &[PathBuf]) -> Result<Self, FolderError> {
        let path = match dunce::canonicalize(out) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FolderError::NoRun { path: out.to_path_buf() });
            }
            result => result.map_err(at(out))?,
        };
        check_overlap(&path, inputs)?;
        if !path.join(RUN_TOML).is_file() {
            return Err(FolderError::NoRun { path });
        }
        // Somebody else may have made this folder, and what a run writes through a link goes wherever that leads.
        for entry in std::fs::read_dir(&path).map_err(at(&path))? {
            let entry = entry.map_err(at(&path))?;
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                let what = "it is a link, and a run that goes on writes into its own folder alone; put what it leads \
                            to in its place (the whole folder of a run may be elsewhere, and a link to it)";
                return Err(at(&entry.path())(io::Error::new(ErrorKind::InvalidData, what)));
            }
        }
        let lock = Lock::take(&path)?;
        control::forget(&path);
        let folder = Self { path, lock };
        make_dirs(&folder.checkpoints())?;
        Ok(folder)
    }

    /// The folder, without links and `..`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that held the folder before and was killed, for a message.
    pub fn recovered_from(&self) -> Option<&super::lock::Holder> {
        self.lock.recovered_from.as_ref()
    }

    /// The resolved configuration.
    pub fn run_toml(&self) -> PathBuf {
        self.path.join(RUN_TOML)
    }

    /// Steps and evaluations.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The folder of checkpoints; exists.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The adapter in PEFT's layout.
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// The model in Hugging Face layout, after full fine-tuning.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The template object.
    pub fn template(&self) -> PathBuf {
        self.path.join("template.json")
    }

    /// Answers before and after.
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }

    /// How the run ended, in a few words and numbers.
    pub fn ending(&self) -> PathBuf {
        self.path.join(super::ending::ENDING)
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}

/// Names of runs: portable, harmless, the same on every file system.
pub fn check_name(name: &str) -> Result<(), FolderError> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-');
    let ends = |c: Option<char>| c.is_none_or(|c| matches!(c, '.' | ' '));
    let mut chars = name.chars();
    let is_plain = name.chars().all(allowed) && name.chars().count() <= 64 && name.len() <= 200;
    let (first, last) = (chars.next(), chars.next_back().or(name.chars().next()));
    let device = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_device = matches!(device.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (device.len() == 4
            && (device.starts_with("COM") || device.starts_with("LPT"))
            && device.ends_with(|c: char| c.is_ascii_digit()));
    if is_plain && !ends(first) && first != Some('-') && !ends(last) && !is_device {
        return Ok(());
    }
    Err(FolderError::Name { name: name.to_string() })
}

/// Where the folder is or will be, without links; refused if it is no place for a run.
fn place(out: &Path, inputs: &[PathBuf]) -> Result<PathBuf, FolderError> {
    // A folder that exists bears whatever name it has, and is judged by what it contains.
    if !out.is_dir() {
        check_name(&out.file_name().unwrap_or_default().to_string_lossy())?;
    }
    let path = resolve(out)?;
    check_overlap(&path, inputs)?;
    Ok(path)
}

/// Follows links in the part of the path that exists; the rest may not contain `..`.
fn resolve(out: &Path) -> Result<PathBuf, FolderError> {
    let absolute = std::path::absolute(out).map_err(at(out))?;
    let mut rest = PathBuf::new();
    for ancestor in absolute.ancestors() {
        match dunce::canonicalize(ancestor) {
            Ok(existing) => {
                return Ok(if rest == Path::new("") { existing } else { existing.join(rest) });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(at(ancestor)(error)),
        }
        // A link to nowhere is found as missing, yet `mkdir` would fail on it in a puzzling way.
        if std::fs::symlink_metadata(ancestor).is_ok_and(|meta| meta.is_symlink()) {
            let error = io::Error::new(ErrorKind::InvalidData, "it is a link that leads nowhere");
            return Err(at(ancestor)(error));
        }
        match ancestor.components().next_back() {
            Some(Component::Normal(name)) => {
                rest = if rest == Path::new("") { name.into() } else { Path::new(name).join(rest) };
            }
            _ => return Err(FolderError::Dots { path: out.to_path_buf() }),
        }
    }
    Err(FolderError::Dots { path: out.to_path_buf() })
}

/// Refuses an input that is the folder, lies in it, or contains it.
fn check_overlap(out: &Path, inputs: &[PathBuf]) -> Result<(), FolderError> {
    for input in inputs {
        // A missing input is reported by whoever reads it.
        let Ok(input) = dunce::canonicalize(input) else { continue };
        let contains =
            |outer: &Path, inner: &Path| inner.ancestors().any(|dir| is_same(dir, outer));
        if contains(&input, out) || contains(out, &input) {
            return Err(FolderError::Overlap { out: out.to_path_buf(), input });
        }
    }
    Ok(())
}

/// Whether two paths are one file or folder, by whatever name (letter case, bind mounts, hard
/// links).
pub fn is_same(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        id(one).is_some_and(|one| Some(one) == id(other))
    }
    #[cfg(not(unix))]
    false
}

fn check_empty(path: &Path) -> Result<(), FolderError> {
    let names = retry(|| RealStorage.list(path)).map_err(at(path))?;
    if names.iter().any(|name| name == RUN_TOML) {
        return Err(FolderError::HasRun { path: path.to_path_buf() });
    }
    // A run that was stopped before it wrote its run.toml leaves these. Nothing is removed: another run may have made
    // them a moment ago and be about to use them.
    let is_empty = |name: &str| {
        let folder = path.join(name);
        folder.symlink_metadata().is_ok_and(|meta| meta.is_dir())
            && RealStorage.list(&folder).is_ok_and(|in_it| in_it.is_empty())
    };
    let is_ours = |name: &str| {
        name == LOCK_FILE || name == ".tmp-run.toml" || (name == "checkpoints" && is_empty(name))
    };
    let foreign: Vec<String> = names.into_iter().filter(|name| !is_ours(name)).take(5).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    Err(FolderError::Foreign { path: path.to_path_buf(), names: foreign })
}

/// Makes a folder and those above it, each durable before the next.
fn make_dirs(path: &Path) -> Result<(), FolderError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if let Some(parent) = parent {
        make_dirs(parent)?;
    }
    match retry(|| RealStorage.mkdir(path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(at(path)(ErrorKind::NotADirectory.into()));
        }
        result => result.map_err(at(path))?,
    }
    retry(|| RealStorage.sync_dir(parent.unwrap_or(Path::new(".")))).map_err(at(path))
}
