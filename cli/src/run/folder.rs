//! The run folder: where it may be, what it may contain, and the names of what lies in it.

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

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
    #[error("{}: '..' is not allowed in a part of the path that does not exist yet", path.display())]
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
    /// Makes the folder of a new run. `inputs` are the paths that the run reads: models, data, adapters.
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
        let path = match std::fs::canonicalize(out) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FolderError::NoRun { path: out.to_path_buf() });
            }
            result => result.map_err(at(out))?,
        };
        check_overlap(&path, inputs)?;
        if !path.join(RUN_TOML).is_file() {
            return Err(FolderError::NoRun { path });
        }
        let lock = Lock::take(&path)?;
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
        match std::fs::canonicalize(ancestor) {
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
        let Ok(input) = std::fs::canonicalize(input) else { continue };
        let contains =
            |outer: &Path, inner: &Path| inner.ancestors().any(|dir| is_same(dir, outer));
        if contains(&input, out) || contains(out, &input) {
            return Err(FolderError::Overlap { out: out.to_path_buf(), input });
        }
    }
    Ok(())
}

/// Whether two paths are one file or folder, by whatever name (letter case, bind mounts, hard links).
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
    // A run that was stopped before it wrote its run.toml leaves these.
    let is_ours = |name: &str| name == LOCK_FILE || name == ".tmp-run.toml";
    let is_ours = |name: &str| {
        is_ours(name) || (name == "checkpoints" && std::fs::remove_dir(path.join(name)).is_ok())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn refused(out: &Path, inputs: &[PathBuf]) -> String {
        RunFolder::create(out, inputs).map_or_else(|e| e.to_string(), |f| panic!("made {f:?}"))
    }

    #[test]
    fn f77_names_are_allow_listed() {
        for good in ["a", "run-1", "Mein Lauf", "größe_2.5", "console", "com10", "名前"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "", ".", "..", "../x", "a/b", "a\\b", "nul", "NUL.txt", "com1", "Lpt9.log", "a\0",
            "-rf", " a", "a ", "a.", ".hidden", "a:b", "a*", "a\n", "aux .x", &long,
        ] {
            let text = check_name(bad).map_or_else(|error| error.to_string(), |()| String::new());
            assert!(text.contains("is no name for a run"), "{bad:?}");
        }
    }

    #[test]
    fn a_new_run_gets_a_folder_and_a_lock() -> Outcome {
        let dir = tempfile::tempdir()?;
        let out = dir.path().join("runs/new/one");
        let folder = RunFolder::create(&out, &[])?;
        assert!(folder.checkpoints().is_dir());
        assert!(refused(&out, &[]).contains("in use by process"));
        drop(folder);
        // Nothing was written yet, so the folder may be taken again.
        let folder = RunFolder::create(&out, &[])?;
        fs::write(folder.run_toml(), "version = 1")?;
        drop(folder);
        assert!(refused(&out, &[]).contains("go on with it by --resume"));
        let folder = RunFolder::resume(&out, &[])?;
        assert_eq!(folder.recovered_from(), None);
        let second = RunFolder::create_next(&dir.path().join("runs/new"), "one", &[])?;
        assert!(second.path().ends_with("one-2"), "{second:?}");
        Ok(())
    }

    #[test]
    fn f42_foreign_folders_are_refused() -> Outcome {
        let dir = tempfile::tempdir()?;
        let out = dir.path().join("photos");
        fs::create_dir(&out)?;
        fs::write(out.join("holiday.jpg"), "x")?;
        let text = refused(&out, &[]);
        assert!(text.contains("it contains holiday.jpg"), "{text}");
        assert_eq!(RealStorage.list(&out)?, ["holiday.jpg"], "nothing was added");
        assert!(refused(&out.join("holiday.jpg"), &[]).contains("part of the path is a file"));
        let error = RunFolder::resume(&out, &[]).unwrap_err();
        assert!(error.to_string().contains("holds no run to resume"), "{error}");
        assert!(RunFolder::resume(&dir.path().join("none"), &[]).is_err());
        let text = refused(&dir.path().join("no/../way"), &[]);
        assert!(text.contains("'..' is not allowed"), "{text}");
        Ok(())
    }

    #[test]
    fn f42_output_and_input_never_overlap() -> Outcome {
        let dir = tempfile::tempdir()?;
        let model = dir.path().join("model");
        fs::create_dir(&model)?;
        fs::write(model.join("config.json"), "{}")?;
        let inputs = [model.clone()];
        for out in [model.clone(), model.join("run"), model.join("deep/run"), dir.path().into()] {
            let text = refused(&out, &inputs);
            assert!(text.contains("overlap"), "{}: {text}", out.display());
        }
        let data = [dir.path().join("runs/one/data.json")];
        fs::create_dir_all(dir.path().join("runs/one"))?;
        fs::write(&data[0], "[]")?;
        assert!(refused(&dir.path().join("runs/one"), &data).contains("overlap"));
        assert_eq!(RealStorage.list(&model)?, ["config.json"], "nothing was added");
        RunFolder::create(&dir.path().join("model-run"), &inputs)?;
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn f42_links_are_followed_before_anything_is_judged() -> Outcome {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir()?;
        let model = dir.path().join("model");
        fs::create_dir(&model)?;
        symlink(&model, dir.path().join("link"))?;
        symlink(dir.path().join("nowhere"), dir.path().join("broken"))?;
        let inputs = [model];
        assert!(refused(&dir.path().join("link"), &inputs).contains("overlap"));
        assert!(refused(&dir.path().join("link/run"), &inputs).contains("overlap"));
        assert!(refused(&dir.path().join("broken"), &[]).contains("leads nowhere"));
        fs::create_dir(dir.path().join("elsewhere"))?;
        symlink(dir.path().join("elsewhere"), dir.path().join("out"))?;
        let folder = RunFolder::create(&dir.path().join("out"), &inputs)?;
        assert!(folder.path().ends_with("elsewhere"), "{folder:?}");
        Ok(())
    }
}
