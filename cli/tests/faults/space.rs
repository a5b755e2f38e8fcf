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

/// The real file system, on which some files cannot be created for a while.
struct Failing {
    /// The part of their paths by which they are known.
    part: &'static str,
    /// Files that may still be created before it begins.
    good: AtomicI64,
    /// Files that then fail.
    bad: AtomicI64,
    kind: io::ErrorKind,
    free: u64,
    /// Whether the lines of metrics never reach the disk.
    no_lines: bool,
}

impl Failing {
    /// Fails with files of checkpoints.
    fn new(good: i64, bad: i64, kind: io::ErrorKind) -> Failing {
        let (part, free, no_lines) = ("checkpoints", 1 << 40, false);
        Failing { part, good: good.into(), bad: bad.into(), kind, free, no_lines }
    }
}

/// A file that is written and cannot be synced.
struct Unsynced(Box<dyn WriteFile>, io::ErrorKind);

impl WriteFile for Unsynced {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.0.reserve(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        Err(self.1.into())
    }
}

impl Storage for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        if path.components().any(|part| part.as_os_str() == self.part)
            && self.good.fetch_sub(1, Ordering::SeqCst) <= 0
            && self.bad.fetch_sub(1, Ordering::SeqCst) > 0
        {
            return Err(self.kind.into());
        }
        let file = RealStorage.create(path)?;
        let lines = self.no_lines && path.ends_with("metrics.jsonl");
        Ok(if lines { Box::new(Unsynced(file, self.kind)) } else { file })
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

/// Keeps what it hears, and may ask for a stop at the first pause or after a step.
#[derive(Default)]
struct Ear {
    pauses: Vec<String>,
    warnings: Vec<String>,
    saved: Vec<u64>,
    impatient: Option<Signals>,
    stops_after: Option<(u64, Signals)>,
}

impl Listener for Ear {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Pause(pause) => {
                self.pauses.push(pause.message.clone());
                self.impatient.iter().for_each(Signals::request_stop);
            }
            Event::Checkpoint(saved) => self.saved.push(saved.step),
            Event::Warning(warning) => self.warnings.push(warning.message.clone()),
            Event::Step(made) => {
                let now = self.stops_after.iter().filter(|(step, _)| *step == made.step);
                now.for_each(|(_, signals)| signals.request_stop());
            }
            _ => {}
        }
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// A run of eight steps with four checkpoints on a storage; it may stop at the first pause.
fn train(desk: &Desk, out: &str, storage: &Failing, stops: bool) -> (anyhow::Result<Ended>, Ear) {
    let signals = Signals::default();
    let mut ear = Ear { impatient: stops.then(|| signals.clone()), ..Ear::default() };
    let ended = heard(desk, out, storage, &mut ear, &signals);
    (ended, ear)
}

/// The same, told to this ear.
fn heard(
    desk: &Desk,
    out: &str,
    storage: &Failing,
    ear: &mut Ear,
    signals: &Signals,
) -> anyhow::Result<Ended> {
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
    train_on(&Launch { flags, ..Launch::default() }, ear, signals, storage)
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
fn f36_lines_without_room_make_the_run_wait_as_a_checkpoint_does() {
    let desk = desk();
    let full = Failing { no_lines: true, ..Failing::new(1000, 0, io::ErrorKind::StorageFull) };
    let (ended, ear) = train(&desk, "run", &full, true);
    let error = ended.expect_err("it was stopped");
    assert!(!is_interruption(&error) && exit_code(&error) == 1);
    assert!(error.to_string().contains("while the disk was full"), "{error:#}");
    for word in ["metrics.jsonl: the disk is full", "waits", "Ctrl-C"] {
        assert!(ear.pauses[0].contains(word), "expected {word:?} in {:?}", ear.pauses);
    }
    assert_eq!((ear.saved.len(), newest(&desk, "run")), (0, None));
    desk.run("train --resume --out run", 0);
    assert_eq!(newest(&desk, "run"), Some(8));
}

#[test]
fn f36_a_report_without_room_makes_no_failure_of_a_run_that_was_stopped_and_has_saved() {
    let desk = desk();
    let full = Failing::new(0, 1000, io::ErrorKind::StorageFull);
    let full = Failing { part: ".tmp-report.html", ..full };
    let signals = Signals::default();
    let mut ear = Ear { stops_after: Some((3, signals.clone())), ..Ear::default() };
    let ended = heard(&desk, "run", &full, &mut ear, &signals);
    assert_eq!(ended.expect("it has saved").reason, Reason::Interrupted);
    let told = ear.warnings.iter().find(|warning| warning.contains("report.html"));
    let told = told.expect("a warning");
    for word in ["the disk is full", "The run's state is saved", "--resume goes on"] {
        assert!(told.contains(word), "expected {word:?} in {told}");
    }
    assert_eq!(newest(&desk, "run"), Some(3));
    let ending = String::from_utf8(desk.bytes("run/ending.json")).expect("text");
    assert!(ending.contains("\"interrupted\"") && !desk.path("run/report.html").exists());
    // At the end of a run it is a failure, in words.
    let ended = heard(&desk, "other", &full, &mut Ear::default(), &Signals::default());
    let error = format!("{:#}", ended.expect_err("there is no report"));
    assert!(error.contains("report.html: the disk is full"), "{error}");
    desk.run("train --resume --out run", 0);
    assert!(desk.path("run/report.html").is_file());
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
