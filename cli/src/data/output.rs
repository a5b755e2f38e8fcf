//! Files that a data command writes: beside the final name, renamed when whole, never over an input, over
//! another file only if asked, and with a manifest that tells what they were made of.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use paddock_datasets::fingerprint::fingerprint;
use paddock_datasets::writers::{RowWriter, form_of};
use serde_json::{Map, Value, json};

use crate::error::bad_input;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;

/// A file of rows being written.
pub struct Output {
    path: PathBuf,
    partial: PathBuf,
    writer: Option<RowWriter<BufWriter<File>>>,
}

impl Output {
    /// Begins a file.
    ///
    /// # Errors
    /// An ending that names no form; a file that is there already, unless `force`; an input's path.
    pub fn create(path: &Path, force: bool, inputs: &[PathBuf]) -> anyhow::Result<Output> {
        let form = form_of(path)?;
        refuse(path, force, inputs)?;
        refuse(&manifest_path(path), force, inputs)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let name = path.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = File::create(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        let writer = Some(RowWriter::new(BufWriter::with_capacity(1 << 18, file), form));
        Ok(Output { path: path.to_path_buf(), partial, writer })
    }

    /// The file's name when it is done.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a row.
    pub fn row(&mut self, columns: &Map<String, Value>) -> anyhow::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.row(columns).map_err(|error| {
            let text = format!("{}: {error}", self.path.display());
            if error.kind() == std::io::ErrorKind::InvalidData {
                bad_input(text)
            } else {
                anyhow::anyhow!(text)
            }
        })
    }

    /// Makes the file durable and gives it its name; what the manifest says of it.
    pub fn finish(mut self) -> anyhow::Result<Value> {
        let Some(writer) = self.writer.take() else { return Ok(Value::Null) };
        let rows = writer.rows();
        let whole = |writer: RowWriter<BufWriter<File>>| -> std::io::Result<()> {
            let mut buffer = writer.finish()?;
            buffer.flush()?;
            buffer.get_ref().sync_all()
        };
        whole(writer).with_context(|| format!("cannot write {}", self.path.display()))?;
        std::fs::rename(&self.partial, &self.path)
            .with_context(|| format!("cannot rename to {}", self.path.display()))?;
        let print = fingerprint(&self.path)?;
        let name = self.path.file_name().map(|n| n.to_string_lossy().to_string());
        Ok(json!({"file": name, "rows": rows, "bytes": print.bytes, "sha256": print.sha256}))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a failure nothing half written stays; after `finish` there is nothing to remove.
        let _ = std::fs::remove_file(&self.partial);
    }
}

/// The manifest's place beside a file.
pub fn manifest_path(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
    path.with_file_name(format!("{name}.manifest.json"))
}

/// Refuses a path that is an input's, or is there already unless `force`.
///
/// # Errors
/// What is wrong with it.
pub fn refuse(path: &Path, force: bool, inputs: &[PathBuf]) -> anyhow::Result<()> {
    let Ok(own) = path.canonicalize() else { return Ok(()) };
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|i| i == own)) {
        return Err(bad_input(format!(
            "{} is one of the files that are read; name another one to write",
            path.display()
        )));
    }
    if !force {
        return Err(bad_input(format!(
            "{} is there already; give --force to replace it, or another name",
            path.display()
        )));
    }
    Ok(())
}

/// What a command did, for the manifest.
pub struct Manifest<'a> {
    /// The command, such as `data split`.
    pub command: &'a str,
    /// The files that were read.
    pub inputs: &'a [PathBuf],
    /// Every setting that the result depends on.
    pub settings: Value,
    /// Seed of all choices, if there were any.
    pub seed: Option<u64>,
    /// What was found on the way.
    pub found: Value,
}

impl Manifest<'_> {
    /// Writes it beside `path`; `outputs` come from [`Output::finish`].
    pub fn write(&self, path: &Path, outputs: &[Value]) -> anyhow::Result<()> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in self.inputs {
            let print = fingerprint(input)?;
            let path = input.display().to_string();
            inputs.push(json!({"path": path, "bytes": print.bytes, "sha256": print.sha256}));
        }
        let manifest = json!({
            "version": 1,
            "paddock": env!("CARGO_PKG_VERSION"),
            "command": self.command,
            "settings": self.settings,
            "seed": self.seed,
            "inputs": inputs,
            "outputs": outputs,
            "found": self.found,
        });
        let path = manifest_path(path);
        let mut text = serde_json::to_string_pretty(&manifest)?;
        text.push('\n');
        replace_file(&RealStorage, &path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
