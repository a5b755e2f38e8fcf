//! Reading rows of files one after another, with a word on stderr about how far it has come.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paddock_datasets::inspect::{all_text, text_of};
use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::{self, Detected, ReadOptions};
use paddock_datasets::record::{BadRows, Record};

use crate::bundled;
use crate::error::bad_input;

/// Time between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Says on stderr what was recognised, and every two seconds how many rows have been read and, where the
/// file's bytes tell, how long it will still take.
pub struct Teller {
    begun: Instant,
    said: Instant,
    what: &'static str,
    bytes: Option<u64>,
}

impl Teller {
    /// `what` is done to the rows, such as "read".
    pub fn new(what: &'static str) -> Teller {
        let now = Instant::now();
        Teller { begun: now, said: now, what, bytes: None }
    }

    fn due(&mut self) -> bool {
        let due = self.said.elapsed() >= LINE_EVERY;
        if due {
            self.said = Instant::now();
        }
        due
    }

    fn at(&mut self, path: &Path, rows: u64, byte: Option<u64>) {
        if !self.due() {
            return;
        }
        let left = match (byte, self.bytes) {
            (Some(done), Some(all)) if done > 0 && all >= done => {
                let gone = self.begun.elapsed().as_secs_f64();
                let left = gone * (all - done) as f64 / done as f64;
                format!(", about {left:.0} s to go")
            }
            _ => String::new(),
        };
        eprintln!("{}: {rows} rows {}{left}", path.display(), self.what);
    }
}

impl Progress for Teller {
    fn rows(&mut self, path: &Path, rows: u64) -> bool {
        self.at(path, rows, None);
        true
    }

    fn opened(&mut self, path: &Path, detected: &Detected, notes: &[String]) {
        eprintln!(
            "{}: {} ({}): {}",
            path.display(),
            detected.format,
            detected.layout,
            detected.why
        );
        notes.iter().for_each(|note| eprintln!("{}: {note}", path.display()));
        self.begun = Instant::now();
        let plain = detected.compression == "none";
        self.bytes = std::fs::metadata(path).ok().filter(|_| plain).map(|m| m.len());
    }
}

/// Files that a person named: paths, or `bundled:NAME`.
pub fn files(names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::with_capacity(names.len());
    for name in names {
        let path = bundled::data_path(name)?;
        if !path.exists() {
            return Err(bad_input(format!("{}: there is no such file", path.display())));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The text that a row is judged by: that of some columns, or of all where none is named.
///
/// # Errors
/// A column that the row does not have: a name that is misspelt would judge nothing.
pub fn judged_text(record: &Record, on: &[String]) -> anyhow::Result<String> {
    if on.is_empty() {
        return Ok(all_text(record));
    }
    match on.iter().find(|name| record.get(name).is_none()) {
        None => Ok(text_of(record, on)),
        Some(name) => {
            let known: Vec<&str> = record.names().collect();
            let (row, known) = (record.row, known.join(", "));
            Err(bad_input(format!("row {row}: there is no column {name:?}; there are {known}")))
        }
    }
}

/// Hands every good row to `take` with the number of its file. Bad rows are all counted.
///
/// # Errors
/// Bad rows, when all files have been read, unless `options.skip_bad`; what `take` reports.
pub fn each_row(
    paths: &[PathBuf],
    options: &ReadOptions,
    teller: &mut Teller,
    take: &mut dyn FnMut(usize, Record) -> anyhow::Result<()>,
) -> anyhow::Result<BadRows> {
    let mut bad = BadRows::default();
    for (number, path) in paths.iter().enumerate() {
        let mut rows = readers::open(path, options)?;
        teller.opened(path, rows.detected(), rows.notes());
        let mut count = 0;
        for item in &mut rows {
            count += 1;
            match item {
                Ok(record) => {
                    teller.at(path, count, record.byte);
                    take(number, record)?;
                }
                Err(fatal) if fatal.fatal => {
                    return Err(paddock_datasets::Error::BadRow(Box::new(fatal)).into());
                }
                Err(_) => {}
            }
        }
        bad.append(rows.bad().clone());
    }
    if bad.total > 0 && !options.skip_bad {
        return Err(paddock_datasets::Error::BadRows(bad).into());
    }
    if bad.total > 0 {
        eprintln!("left out: {bad}");
    }
    Ok(bad)
}
