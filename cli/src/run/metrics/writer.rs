//! Appending to the metrics file.

use std::path::{Path, PathBuf};

use super::lines::for_each_line;
use super::{BadLine, Line, MetricsError, parse};
use crate::storage::whole::{retry, write_all};
use crate::storage::{Storage, WriteFile};

/// Appends lines. After a failed append the file is as it was before it, or will be before the
/// next.
pub struct MetricsWriter<'s> {
    storage: &'s dyn Storage,
    file: Box<dyn WriteFile>,
    path: PathBuf,
    /// Length of the whole lines.
    bytes: u64,
    /// Whether a part of a line may follow them.
    is_torn: bool,
}

/// What [`MetricsWriter::resume`] did to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Lines that stay.
    pub kept: u64,
    /// Lines of later steps, and torn ones at the end, that were cut off.
    pub dropped: u64,
    /// Unreadable lines among those that stay.
    pub bad: Vec<BadLine>,
}

impl<'s> MetricsWriter<'s> {
    /// Opens the file of a new run; a file that exists already is an error.
    pub fn start(storage: &'s dyn Storage, path: &Path) -> Result<Self, MetricsError> {
        let file = retry(|| storage.create(path)).map_err(MetricsError::at("creating", path))?;
        Ok(Self { storage, file, path: path.to_path_buf(), bytes: 0, is_torn: false })
    }

    /// Opens the file of a run that goes on from `step`: lines of later steps and a torn tail are
    /// cut off.
    pub fn resume(
        storage: &'s dyn Storage,
        path: &Path,
        step: u64,
    ) -> Result<(Self, Resumed), MetricsError> {
        Self::go_back(storage, path, step, u64::MAX)
    }

    /// As [`Self::resume`], for a state that had gone back so many times: what came after a later time is cut off too.
    pub fn go_back(
        storage: &'s dyn Storage,
        path: &Path,
        step: u64,
        rewinds: u64,
    ) -> Result<(Self, Resumed), MetricsError> {
        let later = |line: &Line| match line {
            Line::Rewind(rewind) => rewind.step > step || rewind.number > rewinds,
            line => line.step() > step,
        };
        let (bytes, resumed) = find_cut(storage, path, &later)?;
        let file = retry(|| storage.append(path)).map_err(MetricsError::at("opening", path))?;
        let mut writer =
            Self { storage, file, path: path.to_path_buf(), bytes, is_torn: resumed.dropped > 0 };
        writer.mend()?;
        Ok((writer, resumed))
    }

    /// Appends one line.
    pub fn append(&mut self, line: &Line) -> Result<(), MetricsError> {
        self.mend()?;
        let at = MetricsError::at("writing", &self.path);
        let mut text = match serde_json::to_vec(line) {
            Ok(text) => text,
            Err(error) => return Err(at(error.into())),
        };
        text.push(b'\n');
        self.is_torn = true;
        write_all(self.file.as_mut(), &text).map_err(at)?;
        self.is_torn = false;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Makes the lines durable. Call it before a checkpoint is saved, so that none of its steps is
    /// missing.
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        retry(|| self.file.sync()).map_err(MetricsError::at("syncing", &self.path))
    }

    /// Cuts off what a failed append left behind.
    fn mend(&mut self) -> Result<(), MetricsError> {
        if self.is_torn {
            retry(|| self.storage.truncate(&self.path, self.bytes))
                .map_err(MetricsError::at("shortening", &self.path))?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// How many bytes stay, and what is dropped behind them.
fn find_cut(
    storage: &dyn Storage,
    path: &Path,
    later: &dyn Fn(&Line) -> bool,
) -> Result<(u64, Resumed), MetricsError> {
    let mut resumed = Resumed::default();
    let mut pending: Vec<BadLine> = Vec::new();
    let (mut cut, mut is_cut) = (0, false);
    for_each_line(storage, path, &mut |place, text| {
        if is_cut {
            resumed.dropped += 1;
            return;
        }
        match parse(text) {
            Ok(line) if later(&line) => {
                is_cut = true;
                resumed.dropped += 1 + pending.len() as u64;
                pending.clear();
            }
            Ok(_) => {
                resumed.kept += 1 + pending.len() as u64;
                resumed.bad.append(&mut pending);
                if let super::lines::Text::Whole(bytes) = text {
                    cut = place.byte + bytes.len() as u64 + 1;
                }
            }
            Err(what) => pending.push(BadLine { line: place.line, byte: place.byte, what }),
        }
    })
    .map_err(MetricsError::at("reading", path))?;
    resumed.dropped += pending.len() as u64;
    Ok((cut, resumed))
}
