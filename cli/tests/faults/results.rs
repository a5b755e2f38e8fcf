//! The result of a run, and exports: whole or not there, whatever fails while they are written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use paddock_cli::run::events::{Event, Reason};
use paddock_cli::run::signals::Signals;
use paddock_cli::storage::{Meta, ReadFile, RealStorage, Storage, WriteFile};
use paddock_cli::train::report::Listener;
use paddock_cli::train::{Ended, Launch, train_on};
use paddock_tests::desk::Desk;

use crate::{TRAIN, change_weights, desk, read_tensors, refuses, tensor, write, write_tensors};

/// The real file system, on which one call fails that has to do with the temporary folder of a result.
struct Failing {
    temporary: &'static str,
    /// Such calls until then; below 0 once it has failed.
    left: Arc<AtomicI64>,
}

fn fail_in_turn(left: &AtomicI64) -> io::Result<()> {
    match left.fetch_sub(1, Ordering::SeqCst) {
        0 => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

impl Failing {
    fn at(temporary: &'static str, call: i64) -> Failing {
        Failing { temporary, left: Arc::new(call.into()) }
    }

    fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn concerns(&self, path: &Path) -> bool {
        path.components().any(|part| part.as_os_str() == self.temporary)
    }

    fn pass(&self, path: &Path) -> io::Result<()> {
        if self.concerns(path) { fail_in_turn(&self.left) } else { Ok(()) }
    }
}

/// A file of the result: writing half of the bytes before it fails, as a disk does that becomes full.
struct FailingFile {
    file: Box<dyn WriteFile>,
    left: Arc<AtomicI64>,
}

impl WriteFile for FailingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Err(error) = fail_in_turn(&self.left) {
            self.file.write(&data[..data.len() / 2])?;
            return Err(error);
        }
        self.file.write(data)
    }
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        fail_in_turn(&self.left)?;
        self.file.reserve(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        fail_in_turn(&self.left)?;
        self.file.sync()
    }
}

impl Storage for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.pass(path)?;
        let file = RealStorage.create(path)?;
        if !self.concerns(path) {
            return Ok(file);
        }
        Ok(Box::new(FailingFile { file, left: self.left.clone() }))
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        RealStorage.append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.pass(path)?;
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
        self.pass(path)?;
        RealStorage.mkdir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(from)?;
        RealStorage.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealStorage.unlink(path)
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        RealStorage.rmdir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.pass(dir)?;
        RealStorage.sync_dir(dir)
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        RealStorage.free_space(path)
    }
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        RealStorage.resolve(path)
    }
    fn forget_cached(&self, path: &Path) {
        RealStorage.forget_cached(path);
    }
}

/// Listens to nothing.
struct Deaf;

impl Listener for Deaf {
    fn event(&mut self, _: &Event) -> anyhow::Result<()> {
        Ok(())
    }
    fn note(&mut self, _: &str) {}
    fn busy(&mut self, _: &str) {}
}

/// A finished run, which can be gone on with from any folder.
fn trained(desk: &Desk, more: &str) {
    let path = |name: &str| desk.path(name).display().to_string();
    let inputs = format!("--model {} --data {}", path("model"), path("rows.json"));
    let train = TRAIN.replace("--model model --data rows.json", &inputs);
    desk.run(&format!("{} --max-steps 3 --out run", train.replace("--lora-rank 4", more)), 0);
}

/// Goes on with the run on a storage.
fn resume(desk: &Desk, storage: &Failing) -> anyhow::Result<Ended> {
    let flags = vec![("out".to_string(), desk.path("run").display().to_string())];
    let launch = Launch { flags, resume: true, ..Launch::default() };
    train_on(&launch, &mut Deaf, &Signals::default(), storage)
}

/// The files of a folder and their bytes.
fn contents(desk: &Desk, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let names = RealStorage.list(&desk.path(folder)).expect("a folder");
    names.into_iter().map(|name| (name.clone(), desk.bytes(&format!("{folder}/{name}")))).collect()
}

/// Names of what a publication would have left half done.
fn left_overs(desk: &Desk, folder: &str) -> Vec<String> {
    let mut names = RealStorage.list(&desk.path(folder)).expect("a folder");
    names.retain(|name| name.starts_with(".tmp-") || name.starts_with(".trash-"));
    names
}

/// A finished run goes on, and while it writes its result anew each call fails in turn: the old result stays as it was,
/// nothing lies beside it, and once the disk is good again the new one takes its place. Returns how many calls failed.
fn fails_in_turn(desk: &Desk, result: &str, temporary: &'static str) -> i64 {
    let folder = format!("run/{result}");
    let written = contents(desk, &folder);
    // The new result has the same bytes; this tells the old one.
    write(desk, &format!("{folder}/mark"), "old");
    let old = contents(desk, &folder);
    for call in 0..1000 {
        let storage = Failing::at(temporary, call);
        let ended = resume(desk, &storage);
        if !storage.has_failed() {
            assert_eq!(ended.expect("a good disk").reason, Reason::Finished);
            assert!(contents(desk, &folder) == written, "the new {result} has other bytes");
            assert_eq!(left_overs(desk, "run"), Vec::<String>::new());
            return call;
        }
        let error = ended.expect_err("a failing disk");
        let text = format!("{error:#}");
        for word in ["could not be written", "--resume tries again", result, "the disk is full"] {
            assert!(text.contains(word), "call {call}: expected {word:?} in {text}");
        }
        assert!(contents(desk, &folder) == old, "call {call} spoilt the old {result}: {text}");
        assert_eq!(left_overs(desk, "run"), Vec::<String>::new(), "call {call}: {text}");
    }
    panic!("it never ends");
}

#[test]
fn f15_whatever_fails_while_an_adapter_is_written_the_one_before_stays() {
    let desk = desk();
    trained(&desk, "--lora-rank 4");
    let files: Vec<String> = contents(&desk, "run/adapter").into_keys().collect();
    let expected =
        ["adapter_config.json", "adapter_model.safetensors", "paddock.json", "template.json"];
    assert_eq!(files, expected);
    let calls = fails_in_turn(&desk, "adapter", ".tmp-adapter");
    // The folder made, synced, renamed; each file created, reserved, written, synced, read back.
    assert_eq!(calls, 3 + 4 * 5);
    desk.run("score --model model --adapter run/adapter --data rows.json", 0);
}

#[test]
fn f15_whatever_fails_while_a_model_is_written_the_one_before_stays() {
    let desk = desk();
    trained(&desk, "--method full");
    let files: Vec<String> = contents(&desk, "run/model").into_keys().collect();
    assert_eq!(files, ["config.json", "model.safetensors", "template.json", "tokenizer.json"]);
    let calls = fails_in_turn(&desk, "model", ".tmp-model");
    assert_eq!(calls, 3 + 4 * 5);
    desk.run("score --model run/model --data rows.json", 0);
}

#[test]
fn f15_an_export_that_fails_half_way_leaves_nothing() {
    let desk = desk();
    // The last tensor of the file: others have been written by then.
    change_weights(&desk, |tensors| {
        let norm = tensor(tensors, "model.norm.weight");
        norm.bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    });
    let before = RealStorage.list(&desk.path("")).expect("a list");
    let words = ["`model.norm.weight`", "is not written"];
    refuses(&desk, "export --model model --merge --dtype f16 --out bad", &words);
    assert_eq!(RealStorage.list(&desk.path("")).expect("a list"), before);
    // Folders on the way are made, as ever.
    desk.run("export --model model --merge --out deep/down/merged", 0);
    assert_eq!(RealStorage.list(&desk.path("deep/down")).expect("a list"), ["merged"]);
    assert!(read_tensors(&desk, "deep/down/merged/model.safetensors").len() > 10);
}

#[test]
fn f62_a_run_without_a_single_update_has_no_result() {
    let desk = desk();
    // Finite weights whose products are not.
    change_weights(&desk, |tensors| {
        let up = tensor(tensors, "model.layers.1.mlp.up_proj.weight");
        up.bytes = vec![3e38f32; 24 * 16].iter().flat_map(|x| x.to_le_bytes()).collect();
    });
    let first = format!("{TRAIN} --max-steps 2 --set samples=0 --out run");
    for (command, told) in [(first.as_str(), 1), ("train --resume --out run", 0)] {
        let (_, err) = desk.run(command, 1);
        for words in ["of its 2 steps none had finite numbers", "nothing was learned", "--lr"] {
            assert!(err.contains(words), "{command}: expected {words:?} in\n{err}");
        }
        // Two evaluations were made, before the first step and after the last.
        let evaluation = "the loss on the held-out rows is not a finite number";
        assert_eq!(err.matches(evaluation).count(), told, "{command}: {err}");
        for name in ["run/adapter", "run/ending.json"] {
            assert!(!desk.path(name).exists(), "{command}: {name} is there");
        }
    }
}

#[test]
fn f68_an_adapter_with_a_number_that_is_not_finite_is_named_and_not_used() {
    let desk = desk();
    desk.run(&format!("{TRAIN} --max-steps 1 --out run"), 0);
    let file = "run/adapter/adapter_model.safetensors";
    let good = read_tensors(&desk, file);
    let name = "model.layers.1.self_attn.q_proj.lora_B.weight";
    for (value, index) in [(f32::NAN, 5), (f32::NEG_INFINITY, 0)] {
        let mut tensors = good.clone();
        let b = tensor(&mut tensors, &format!("base_model.model.{name}"));
        b.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
        write_tensors(&desk, file, &tensors);
        let (name, place) = (format!("`{name}`"), format!("not finite, at {index}."));
        let words = [name.as_str(), place.as_str(), "is damaged", "copy it again"];
        let with = "--model model --adapter run/adapter";
        refuses(&desk, &format!("score {with} --data rows.json"), &words);
        refuses(&desk, &format!("export {with} --merge --out bad"), &words);
    }
    write_tensors(&desk, file, &good);
    desk.run("score --model model --adapter run/adapter --data rows.json", 0);
}
