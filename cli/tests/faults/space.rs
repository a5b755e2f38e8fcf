//! Disks that are full or failing while a whole run goes on, through a storage that says so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use paddock_cli::error::{exit_code, is_interruption};
use paddock_cli::run::checkpoint::latest_good;
use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::{Meta, ReadFile, RealStorage, Storage, WriteFile};
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Ended, Launch, train_on};
use paddock_tests::desk::Desk;

use crate::desk;

/// The real file system, on which files of checkpoints cannot be created for a while.
struct Failing {
    /// Files that may still be created before it begins.
    good: AtomicI64,
    /// Files that then fail.
    bad: AtomicI64,
    kind: io::ErrorKind,
    free: u64,
}

impl Failing {
    fn new(good: i64, bad: i64, kind: io::ErrorKind) -> Failing {
        Failing { good: good.into(), bad: bad.into(), kind, free: 1 << 40 }
    }
}

impl Storage for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        if path.components().any(|part| part.as_os_str() == "checkpoints")
            && self.good.fetch_sub(1, Ordering::SeqCst) <= 0
            && self.bad.fetch_sub(1, Ordering::SeqCst) > 0
        {
            return Err(self.kind.into());
        }
        RealStorage.create(path)
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        RealStorage.append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        RealStorage.open(path)
    }
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        RealStorage.truncate(path, bytes)
    }
    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        RealStorage.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealStorage.list(dir)
    }
    fn mkdir(&self, path: &Path) -> io::Result<()> {
        RealStorage.mkdir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealStorage.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealStorage.unlink(path)
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        RealStorage.rmdir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealStorage.sync_dir(dir)
    }
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free)
    }
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        RealStorage.resolve(path)
    }
    fn forget_cached(&self, path: &Path) {
        RealStorage.forget_cached(path);
    }
}

/// Keeps what it hears, and may ask for a stop at the first pause.
struct Ear {
    pauses: Vec<String>,
    saved: Vec<u64>,
    impatient: Option<Signals>,
}

impl Listener for Ear {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Pause(pause) => {
                self.pauses.push(pause.message.clone());
                self.impatient.iter().for_each(Signals::request_stop);
            }
            Event::Checkpoint(saved) => self.saved.push(saved.step),
            _ => {}
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// A run of eight steps with four checkpoints on a storage.
fn train(desk: &Desk, out: &str, storage: &Failing, stops: bool) -> (anyhow::Result<Ended>, Ear) {
    let path = |name: &str| desk.path(name).display().to_string();
    let flags = [
        ("model", path("model")),
        ("data", path("rows.json")),
        ("out", path(out)),
        ("max_steps", "8".into()),
        ("save_every", "2".into()),
        ("batch_size", "8".into()),
        ("lora_rank", "4".into()),
        ("samples", "1".into()),
        ("sample_tokens", "4".into()),
        ("token_cache", "false".into()),
    ];
    let flags = flags.map(|(key, text)| (key.to_string(), text)).to_vec();
    let launch = Launch { flags, ..Launch::default() };
    let signals = Signals::default();
    let impatient = stops.then(|| signals.clone());
    let mut ear = Ear { pauses: Vec::new(), saved: Vec::new(), impatient };
    let ended = train_on(&launch, &mut ear, &signals, storage);
    (ended, ear)
}

fn newest(desk: &Desk, out: &str) -> Option<u64> {
    let search = latest_good(&RealStorage, &desk.path(out).join("checkpoints")).expect("a folder");
    assert!(search.bad.is_empty(), "{:?}", search.bad);
    search.found.map(|found| found.step)
}

/// Files of one checkpoint: weights, optimizer, state, manifest.
const FILES: i64 = 4;

#[test]
fn f36_a_full_disk_pauses_the_run_and_it_goes_on_by_itself() {
    let desk = desk();
    let (whole, _) =
        train(&desk, "whole", &Failing::new(1000, 0, io::ErrorKind::StorageFull), false);
    whole.expect("a whole run");
    // The third checkpoint meets a full disk, once.
    let full = Failing::new(2 * FILES + 1, 1, io::ErrorKind::StorageFull);
    let (ended, ear) = train(&desk, "run", &full, false);
    assert_eq!(ended.expect("it ends well").reason, Reason::Finished);
    assert_eq!(ear.pauses.len(), 2, "{:?}", ear.pauses);
    for word in
        ["step 6 was not saved", "disk is full", "Earlier checkpoints are untouched", "waits"]
    {
        assert!(ear.pauses[0].contains(word), "expected {word:?} in {}", ear.pauses[0]);
    }
    assert_eq!(ear.saved, [2, 4, 6, 8], "nothing was left out");
    assert_eq!(newest(&desk, "run"), Some(8));
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    assert_eq!(adapter("whole"), adapter("run"), "the pause changed nothing");
}

#[test]
fn f36_a_stop_while_the_disk_is_full_leaves_earlier_checkpoints() {
    let desk = desk();
    let full = Failing::new(2 * FILES + 2, 1000, io::ErrorKind::QuotaExceeded);
    let (ended, ear) = train(&desk, "run", &full, true);
    let error = ended.expect_err("it was stopped");
    // The program says so, and does not end with the code of a run that has saved.
    assert!(!is_interruption(&error) && exit_code(&error) == 1);
    let error = error.to_string();
    assert!(error.contains("while the disk was full") && error.contains("untouched"), "{error}");
    assert_eq!(ear.saved, [2, 4]);
    assert_eq!(newest(&desk, "run"), Some(4));
    desk.run("train --resume --out run", 0);
}

#[test]
fn f36_room_for_two_checkpoints_is_asked_for_before_the_start() {
    let desk = desk();
    let little = Failing { free: 1 << 20, ..Failing::new(1000, 0, io::ErrorKind::StorageFull) };
    let (ended, ear) = train(&desk, "run", &little, false);
    let error = ended.expect_err("too little").to_string();
    for word in ["1.0 MB of free space", "two checkpoints and its logs", "--out"] {
        assert!(error.contains(word), "expected {word:?} in {error}");
    }
    assert!(ear.saved.is_empty() && ear.pauses.is_empty());
}

#[test]
fn f37_a_failing_disk_ends_the_run_in_words_with_the_last_good_checkpoint() {
    let desk = desk();
    for (name, kind, words) in [
        ("locked", io::ErrorKind::ReadOnlyFilesystem, "read-only"),
        ("denied", io::ErrorKind::PermissionDenied, "permission denied"),
    ] {
        let failing = Failing::new(FILES, 1000, kind);
        let (ended, ear) = train(&desk, name, &failing, false);
        let error = ended.expect_err("it cannot go on").to_string();
        assert!(error.contains("step 4 was not saved") && error.contains(words), "{error}");
        assert!(error.contains("Earlier checkpoints are untouched"), "{error}");
        assert_eq!(ear.saved, [2]);
        assert_eq!(newest(&desk, name), Some(2));
        desk.run(&format!("train --resume --out {name}"), 0);
        assert_eq!(newest(&desk, name), Some(8));
    }
}
