//! The token cache: rows are rendered and tokenised once, and mapped into memory ever after. A file's
//! name is the hash of everything that its content depends on: the data's content, the template, the
//! tokenizer, the limits. So nothing in it is ever out of date.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use paddock_datasets::fingerprint::{Fingerprint, fingerprint};
use paddock_datasets::prepare::{PrepareOptions, Progress, ReadFile, prepare};
use paddock_datasets::readers;
use paddock_datasets::record::BadRows;
use paddock_datasets::report::EncodeReport;
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::tokens::{Store, VERSION, Writer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::bundled::cache_folder;
use crate::model::mmap::map;

/// Together the files take at most this; those longest unused go first.
const MOST_BYTES: u64 = 8 << 30;

/// Examples with what there is to say about them.
pub struct Tokens {
    /// The examples.
    pub store: Arc<Store>,
    /// Counts.
    pub report: EncodeReport,
    /// The files that were read.
    pub files: Vec<ReadFile>,
}

/// What stands beside the examples.
#[derive(Serialize, Deserialize)]
struct Notes {
    report: EncodeReport,
    files: Vec<Note>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    fingerprint: Fingerprint,
    rows: u64,
    first_row: u64,
}

/// The examples of files in memory, without the cache.
pub fn in_memory(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
) -> anyhow::Result<Tokens> {
    let mut examples = Vec::new();
    let (report, files) = prepare(paths, options, tokenizer, progress, &mut |part| {
        examples.extend(part);
        Ok(())
    })?;
    Ok(Tokens { store: Arc::new(Store::of(examples)), report, files })
}

/// The examples of files, from the cache if they are there, else made and kept there.
pub fn cached(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
) -> anyhow::Result<Tokens> {
    let folder = cache_folder().join("tokens");
    if std::fs::create_dir_all(&folder).is_err() {
        // A machine without a place to write still trains.
        return in_memory(paths, options, tokenizer, progress);
    }
    let place = folder.join(format!("{}.tokens", key(paths, options, tokenizer)?));
    if let Some(found) = open(&place, paths, options, progress)? {
        return Ok(found);
    }
    let (report, files) = make(&place, paths, options, tokenizer, progress)?;
    make_room(&folder, &place);
    let store = Store::open(Arc::new(map(&place)?))
        .with_context(|| format!("{} changed while it was written", place.display()))?;
    if report.rows_bad > 0 {
        // Bad rows are to be named each time, so these files are read each time.
        let _ = std::fs::remove_file(&place);
    }
    Ok(Tokens { store: Arc::new(store), report, files })
}

/// Renders and tokenises the rows and writes what comes of it.
fn make(
    place: &Path,
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
    progress: &mut dyn Progress,
) -> anyhow::Result<(EncodeReport, Vec<ReadFile>)> {
    let own = |end: &str| place.with_extension(format!("{}.{end}", std::process::id()));
    let (partial, index) = (Gone(own("partial")), Gone(own("index")));
    let new = |path: &Path| {
        let mut both = File::options();
        both.read(true).write(true).create(true).truncate(true);
        both.open(path).with_context(|| advice(path))
    };
    let body = BufWriter::with_capacity(1 << 18, new(&partial.0)?);
    let mut writer = Writer::new(body, new(&index.0)?);
    let (report, files) = prepare(paths, options, tokenizer, progress, &mut |part| {
        writer.push(&part).map_err(|source| paddock_datasets::Error::Io {
            path: partial.0.clone(),
            action: "write",
            source,
        })
    })?;
    let note = |file: &ReadFile| Note {
        fingerprint: file.fingerprint.clone(),
        rows: file.rows,
        first_row: file.first_row,
    };
    let notes = Notes { report: report.clone(), files: files.iter().map(note).collect() };
    let finish = || -> std::io::Result<()> {
        let mut body = writer.finish(&serde_json::to_vec(&notes)?)?;
        body.flush()?;
        body.get_ref().sync_all()?;
        let renamed = std::fs::rename(&partial.0, place);
        // Another run may have made it at the same time.
        if place.is_file() { Ok(()) } else { renamed }
    };
    finish().with_context(|| advice(place))?;
    Ok((report, files))
}

fn advice(path: &Path) -> String {
    let path = path.display();
    format!(
        "cannot write {path}; name another folder in PADDOCK_CACHE, or give --token-cache false"
    )
}

/// A file that is removed when it is no longer needed.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The hash of all that the examples depend on.
fn key(
    paths: &[PathBuf],
    options: &PrepareOptions,
    tokenizer: &Tokenizer,
) -> anyhow::Result<String> {
    let mut data = Vec::with_capacity(paths.len());
    for path in paths {
        data.push(fingerprint(path)?.sha256);
    }
    let PrepareOptions { read, template, encode, keep_empty_answers, limit_rows, shots, sample } =
        options;
    let specials: Vec<&str> = tokenizer.special_texts().collect();
    let text = json!([
        VERSION,
        env!("CARGO_PKG_VERSION"),
        data,
        template.hash(),
        tokenizer.fingerprint(),
        specials,
        [tokenizer.bos(), tokenizer.eos()],
        tokenizer.stops(),
        tokenizer.max_id(),
        encode,
        [keep_empty_answers, &read.skip_bad],
        limit_rows,
        shots,
        sample.map(|sample| [sample.rows, sample.seed]),
        format!("{read:?}"),
    ]);
    let digest = Sha256::digest(text.to_string().as_bytes());
    Ok(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// What is kept of these files; nothing if it is not there or not whole.
fn open(
    place: &Path,
    paths: &[PathBuf],
    options: &PrepareOptions,
    progress: &mut dyn Progress,
) -> anyhow::Result<Option<Tokens>> {
    if !place.is_file() {
        return Ok(None);
    }
    let Some(store) = map(place).ok().and_then(|map| Store::open(Arc::new(map))) else {
        return Ok(None);
    };
    let Ok(Notes { report, files: notes }) = serde_json::from_slice::<Notes>(store.notes()) else {
        return Ok(None);
    };
    if notes.len() != paths.len() {
        return Ok(None);
    }
    // Used just now: it is to stay longer than others.
    if let Ok(file) = File::options().append(true).open(place) {
        let _ = file.set_modified(std::time::SystemTime::now());
    }
    let mut files = Vec::with_capacity(paths.len());
    for (path, note) in paths.iter().zip(notes) {
        let rows = readers::open(path, &options.read)?;
        progress.opened(path, rows.detected(), rows.notes());
        files.push(ReadFile {
            path: path.clone(),
            detected: rows.detected().clone(),
            notes: rows.notes().to_vec(),
            fingerprint: note.fingerprint,
            rows: note.rows,
            first_row: note.first_row,
            bad: BadRows::default(),
        });
    }
    Ok(Some(Tokens { store: Arc::new(store), report, files }))
}

/// Removes the files that were not used for longest until the rest fits; never the new one.
fn make_room(folder: &Path, new: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            let path = entry.path();
            let ours = path.extension().is_some_and(|end| end == "tokens");
            ours.then_some((meta.modified().ok()?, meta.len(), path))
        })
        .collect();
    files.sort();
    let mut all: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if all <= MOST_BYTES {
            return;
        }
        if path != new && std::fs::remove_file(&path).is_ok() {
            all -= bytes;
        }
    }
}
