//! Hashes of files that were read before, kept in the cache folder, so that a model's weights are read once to be
//! told from others and not at every use. An entry holds for a file that looks the same in every respect: place,
//! length, time of the last change and, on Unix, the file itself. An entry that is damaged, or cannot be read or
//! written, is as good as none: the file is read again.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::storage::RealStorage;
use crate::storage::whole::{read_file, sha256_hex};

/// The coarsest clock of a file system ticks every two seconds: what was changed more recently may change once
/// more and look the same.
const TICK: Duration = Duration::from_secs(2);
/// An entry is a path and a few numbers; what is longer is none.
const MOST_BYTES: u64 = 64 << 10;
/// So many entries are kept; those written longest ago go first.
const MOST_ENTRIES: usize = 1000;

/// What can be seen of a file without reading it.
pub(super) struct Look {
    /// Name of its entry, made of its place.
    name: String,
    /// All that is seen, as the entry says it.
    text: String,
    /// Its length.
    pub bytes: u64,
    /// Its last change is so long ago that a further one would be seen.
    settled: bool,
}

impl Look {
    /// Of the file at this place, which is a path without links. `None` where the system does not say enough.
    pub fn of(place: &Path) -> Option<Look> {
        let now = SystemTime::now();
        let meta = std::fs::metadata(place).ok()?;
        let modified = meta.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let bytes = meta.len();
        let text =
            format!("{}\n{bytes} bytes, modified {since} ns{}", place.display(), identity(&meta));
        let settled = now.duration_since(modified).is_ok_and(|age| age > TICK);
        let name = sha256_hex(place.as_os_str().as_encoded_bytes());
        Some(Look { name, text, bytes, settled })
    }

    /// Whether nothing that can be seen has changed.
    pub fn is(&self, other: &Look) -> bool {
        self.text == other.text
    }
}

/// Which file it is, and when anything about it was changed: that cannot be set back by hand.
#[cfg(unix)]
fn identity(meta: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let (seconds, ns) = (meta.ctime(), meta.ctime_nsec());
    format!(", changed {seconds} s {ns} ns, device {}, inode {}", meta.dev(), meta.ino())
}

/// When it was made: two files with the time of their last change copied differ in that.
#[cfg(windows)]
fn identity(meta: &Metadata) -> String {
    use std::os::windows::fs::MetadataExt;
    format!(", made at {}", meta.creation_time())
}

#[cfg(not(any(unix, windows)))]
fn identity(_: &Metadata) -> String {
    String::new()
}

/// The folder of the entries.
pub(super) struct Kept(pub PathBuf);

impl Kept {
    /// The hash that is kept of a file that looks like this.
    pub fn find(&self, look: &Look) -> Option<String> {
        let bytes = read_file(&RealStorage, &self.0.join(&look.name), MOST_BYTES).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let rest = text.strip_prefix(&look.text)?.strip_prefix('\n')?;
        let sha256 = rest.split('\n').next()?;
        (text == entry(look, sha256)).then(|| sha256.to_string())
    }

    /// Keeps a file's hash, if a later change of the file would be seen.
    pub fn keep(&self, look: &Look, sha256: &str) {
        if look.settled && self.write(look, sha256).is_ok() {
            make_room(&self.0, MOST_ENTRIES);
        }
    }

    fn write(&self, look: &Look, sha256: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        // Beside and renamed: another process may be doing the same.
        let partial = self.0.join(format!("{}.{}.partial", look.name, std::process::id()));
        std::fs::write(&partial, entry(look, sha256))
            .and_then(|()| std::fs::rename(&partial, self.0.join(&look.name)))
            .inspect_err(|_| _ = std::fs::remove_file(&partial))
    }
}

/// The whole text of an entry. Its last line is the hash of those before, so that no damage passes for a hash.
fn entry(look: &Look, sha256: &str) -> String {
    let lines = format!("{}\n{sha256}\n", look.text);
    format!("{lines}{}\n", sha256_hex(lines.as_bytes()))
}

/// Removes the entries that were written longest ago until no more than `most` are left.
fn make_room(folder: &Path, most: usize) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    if paths.len() <= most {
        return;
    }
    let written = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let mut by_age: Vec<(Option<SystemTime>, PathBuf)> =
        paths.into_iter().map(|path| (written(&path), path)).collect();
    by_age.sort();
    for (_, path) in by_age.iter().take(by_age.len() - most) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fingerprint::{Fingerprinter, Trust};
    use crate::storage::Storage;

    /// A file that was last changed an hour ago.
    fn old_file(path: &Path, contents: &str) -> std::io::Result<()> {
        std::fs::write(path, contents)?;
        let ago = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().append(true).open(path)?.set_modified(ago)
    }

    #[test]
    fn f70_a_kept_hash_is_used_where_it_may_be_and_never_for_a_record()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let (path, folder) = (dir.path().join("weights"), dir.path().join("hashes"));
        old_file(&path, "one")?;
        let hash = |trust| -> Result<String, Box<dyn std::error::Error>> {
            let mut prints = Fingerprinter::new(&RealStorage).keeping(folder.clone(), trust);
            Ok(prints.of(&path)?.sha256)
        };
        let (kept, place) = (Kept(folder.clone()), RealStorage.resolve(&path)?);
        let look = || Look::of(&place).ok_or("the file is there");
        let truth = sha256_hex(b"one");
        assert_eq!(kept.find(&look()?), None);
        assert_eq!(hash(Trust::Kept)?, truth);
        assert_eq!(kept.find(&look()?).as_deref(), Some(truth.as_str()), "read once, then kept");
        // A false entry shows which of the two is asked.
        let other = sha256_hex(b"other");
        kept.keep(&look()?, &other);
        assert_eq!(hash(Trust::Kept)?, other);
        assert_eq!(hash(Trust::Nothing)?, truth);
        assert_eq!(kept.find(&look()?), Some(truth), "what was read replaces what was kept");
        Ok(())
    }

    #[test]
    fn f70_a_file_that_may_still_be_changing_is_not_kept() -> Result<(), Box<dyn std::error::Error>>
    {
        let dir = tempfile::tempdir()?;
        let (path, folder) = (dir.path().join("weights"), dir.path().join("hashes"));
        for ahead in [30, 3600] {
            std::fs::write(&path, "just written")?;
            // A clock that is ahead, so that this test may take its time.
            let time = SystemTime::now() + Duration::from_secs(ahead);
            std::fs::File::options().append(true).open(&path)?.set_modified(time)?;
            let prints = Fingerprinter::new(&RealStorage);
            prints.keeping(folder.clone(), Trust::Kept).of(&path)?;
            assert!(!folder.exists(), "{ahead} seconds");
        }
        Ok(())
    }

    #[test]
    fn f70_a_damaged_entry_is_none() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let (path, kept) = (dir.path().join("weights"), Kept(dir.path().join("hashes")));
        old_file(&path, "one")?;
        let look = Look::of(&path).ok_or("the file is there")?;
        kept.keep(&look, &sha256_hex(b"one"));
        let place = kept.0.join(&look.name);
        let good = std::fs::read(&place)?;
        assert!(kept.find(&look).is_some());
        // Every byte in turn, and every place where it may be cut short.
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&place, &bad)?;
            assert_eq!(kept.find(&look), None, "byte {at}");
            std::fs::write(&place, &good[..at])?;
            assert_eq!(kept.find(&look), None, "cut at {at}");
        }
        std::fs::write(&place, [&good[..], b"more"].concat())?;
        assert_eq!(kept.find(&look), None);
        std::fs::write(&place, vec![b'a'; 1 << 20])?;
        assert_eq!(kept.find(&look), None);
        Ok(())
    }

    #[test]
    fn entries_do_not_pile_up() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        for (age, name) in ["new", "middle", "old"].iter().enumerate() {
            let path = dir.path().join(name);
            std::fs::write(&path, name)?;
            let ago = SystemTime::now() - Duration::from_secs(100 * age as u64);
            std::fs::File::options().append(true).open(&path)?.set_modified(ago)?;
        }
        make_room(dir.path(), 3);
        assert!(dir.path().join("old").exists());
        make_room(dir.path(), 1);
        let left: Vec<_> = std::fs::read_dir(dir.path())?.flatten().collect();
        assert_eq!((left.len(), left[0].file_name().to_str()), (1, Some("new")));
        Ok(())
    }
}
