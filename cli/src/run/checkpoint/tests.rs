//! What the checkpoints of a run do, on the simulated disk and on the real one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Map;

use super::*;
use crate::storage::simulated::{Fault, Faults, Image, SimulatedDisk};

pub(super) const DIR: &str = "/runs/one/checkpoints";
pub(super) const STEPS: [u64; 4] = [10, 20, 30, 40];
const BEST: u64 = 10;

/// The files of a step: contents that differ from step to step, one longer than the other.
pub(super) fn contents(step: u64) -> [(&'static str, Vec<u8>); 2] {
    let text = |name: &str| format!("{name} of step {step}").into_bytes();
    [("weights.safetensors", text("the weights").repeat(3)), ("state.bin", text("the state"))]
}

pub(super) fn save_step(disk: &dyn Storage, step: u64) -> Result<Saved, CheckpointError> {
    let [(weights, weight_bytes), (state, state_bytes)] = contents(step);
    // Streamed in two pieces, as large tensors are.
    let stream = |out: &mut dyn io::Write| {
        let (first, second) = weight_bytes.split_at(7);
        out.write_all(first)?;
        out.flush()?;
        out.write_all(second)
    };
    let payload = Payload::Stream { bytes: weight_bytes.len() as u64, write: &stream };
    let files = [
        Entry { name: weights, payload },
        Entry { name: state, payload: Payload::Bytes(&state_bytes) },
    ];
    let checkpoint = Checkpoint { step, files: &files, info: Map::new() };
    save(disk, Path::new(DIR), &checkpoint, &Keep { best: Some(BEST), ..Keep::default() })
}

/// A disk on which the run's folders are durable.
pub(super) fn fresh_disk() -> Result<SimulatedDisk, io::Error> {
    let disk = SimulatedDisk::new();
    for dir in ["/runs", "/runs/one", DIR] {
        disk.mkdir(Path::new(dir))?;
    }
    Ok(SimulatedDisk::from_image(&disk.visible()))
}

/// Saves four checkpoints, trying each twice, sweeping first as a run does. Marks those that were
/// promised.
pub(super) fn cycle(disk: &SimulatedDisk) -> Vec<u64> {
    let _ = sweep(disk, Path::new(DIR));
    let mut promised = Vec::new();
    for step in STEPS {
        if save_step(disk, step).or_else(|_| save_step(disk, step)).is_ok() {
            disk.mark(step);
            promised.push(step);
        }
    }
    promised
}

/// Finds fault unless what was promised is there, whole, and nothing else is offered.
pub(super) fn check(disk: &SimulatedDisk, promised: &[u64]) -> Result<(), String> {
    let dir = Path::new(DIR);
    let search = latest_good(disk, dir).map_err(|error| error.to_string())?;
    let newest = search.found.as_ref().map(|found| found.step);
    if newest < promised.last().copied() {
        return Err(format!("{newest:?} is the newest, but {promised:?} were promised"));
    }
    // A save that was under way may be complete already, and may have begun to remove older ones.
    let complete: BTreeSet<u64> = promised.iter().copied().chain(newest).collect();
    let best = complete.iter().copied().filter(|step| *step == BEST);
    let kept: Vec<u64> = complete.iter().rev().take(2).copied().chain(best).collect();
    for step in kept {
        let found = find_step(disk, dir, step).map_err(|error| error.to_string())?;
        for (name, expected) in contents(found.step) {
            let read = found.read(disk, name).map_err(|error| error.to_string())?;
            if read != expected || found.manifest.files.len() != 2 {
                return Err(format!("{name} of step {step} has other contents"));
            }
        }
    }
    Ok(())
}

pub(super) fn assert_good(disk: &SimulatedDisk, promised: &[u64], place: &str) {
    check(disk, promised).unwrap_or_else(|error| panic!("{place}: {error}"));
}

pub(super) fn names(disk: &SimulatedDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap_or_default()
}

#[test]
fn f40_two_newest_and_the_best_stay() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    assert_eq!(cycle(&disk), STEPS);
    assert_eq!(names(&disk), ["step-10", "step-30", "step-40"]);
    assert_good(&disk, &STEPS, "after the cycle");
    Ok(())
}

#[test]
fn f36_a_full_disk_leaves_no_trace_and_can_be_retried() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    save_step(&disk, 10)?;
    let used: u64 = disk.visible().values().flatten().map(|c| c.len() as u64).sum();
    let before = disk.visible();
    let mut full = 0;
    for spare in (0..4 * used).step_by(7) {
        disk.set_capacity(Some(used + spare));
        match save_step(&disk, 20) {
            Ok(_) => break,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                assert!(error.to_string().contains("disk is full"), "{error}");
                assert_eq!(disk.visible(), before, "{error}");
                full += 1;
            }
        }
    }
    assert!(full > 10, "{full}");
    assert_eq!(names(&disk), ["step-10", "step-20"]);
    let error = check_space(&disk, Path::new(DIR), 1000).unwrap_err();
    assert!(error.to_string().contains("needs 16.8 MB"), "{error}");
    // The trainer's pause: half the room is given back at each complaint, until the save succeeds.
    let mut room = used + 500;
    disk.set_capacity(Some(room));
    let mut pauses = 0;
    let files = [Entry { name: "w", payload: Payload::Bytes(&[7; 4000]) }];
    let checkpoint = Checkpoint { step: 30, files: &files, info: Map::new() };
    save_patiently(&disk, Path::new(DIR), &checkpoint, &Keep::default(), &mut |error| {
        assert!(error.is_full(), "{error}");
        pauses += 1;
        room += 2000;
        disk.set_capacity(Some(room));
        true
    })?;
    assert!(pauses > 1, "{pauses}");
    disk.set_capacity(None);
    assert_eq!(check_space(&disk, Path::new(DIR), 1000)?, Some(u64::MAX));
    Ok(())
}

/// Changes one byte of a file in an image.
pub(super) fn flip(image: &Image, path: &str, index: usize) -> Image {
    let mut image = image.clone();
    if let Some(Some(contents)) = image.get_mut(path) {
        let mut changed = contents.to_vec();
        changed[index] ^= 4;
        *contents = changed.into();
    }
    image
}

#[test]
fn f41_rot_of_any_byte_is_found_and_the_one_before_is_used() -> Result<(), io::Error> {
    let disk = fresh_disk()?;
    cycle(&disk);
    let image = disk.visible();
    let newest: Vec<(&String, usize)> = image
        .iter()
        .filter(|(path, _)| path.contains("/step-40/"))
        .filter_map(|(path, contents)| Some((path, contents.as_ref()?.len())))
        .collect();
    assert_eq!(newest.len(), 3);
    for (path, length) in newest {
        for index in 0..length {
            let rotten = SimulatedDisk::from_image(&flip(&image, path, index));
            let search = match latest_good(&rotten, Path::new(DIR)) {
                Ok(search) => search,
                // The one digit of the version turned into a later one.
                Err(error @ CheckpointError::Future { .. }) => {
                    assert!(path.ends_with(MANIFEST), "{error}");
                    continue;
                }
                Err(error) => panic!("{path} byte {index}: {error}"),
            };
            assert_eq!(search.found.map(|found| found.step), Some(30), "{path} byte {index}");
            assert_eq!(search.bad.len(), 1, "{path} byte {index}");
            assert!(search.bad[0].to_string().contains("step-40 is passed over"));
        }
    }
    Ok(())
}

#[test]
fn f41_a_damaged_one_is_named_and_never_removed() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    for step in [20, 30] {
        save_step(&disk, step)?;
    }
    let image = flip(&disk.visible(), "/runs/one/checkpoints/step-30/state.bin", 3);
    let disk = SimulatedDisk::from_image(&image);
    // Step 30 is saved again by the run that resumed from 20: the damaged one moves aside.
    let saved = save_step(&disk, 30)?;
    assert!(saved.warnings[0].contains("replaced-step-30 is kept"), "{:?}", saved.warnings);
    assert_eq!(names(&disk), ["replaced-step-30", "step-20", "step-30"]);
    let saved = save_step(&disk, 40)?;
    assert_eq!(saved.removed, [Path::new(DIR).join("step-20")]);
    assert_eq!(names(&disk), ["replaced-step-30", "step-30", "step-40"]);
    // Or the resuming run gives it a name of its own.
    let disk = SimulatedDisk::from_image(&image);
    let search = latest_good(&disk, Path::new(DIR))?;
    set_aside_bad(&disk, Path::new(DIR), &search.bad)?;
    save_step(&disk, 30)?;
    assert_eq!(names(&disk), ["damaged-step-30", "step-20", "step-30"]);
    Ok(())
}

/// Large files are read a piece at a time, after they were found to be good. What changes in between is noticed too.
#[test]
fn f41_rot_between_finding_and_reading_is_noticed() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    save_step(&disk, 30)?;
    let found = latest_good(&disk, Path::new(DIR))?.found.ok_or("nothing found")?;
    let [(name, expected), _] = contents(30);
    let in_pieces = |disk: &SimulatedDisk, piece: usize| -> Result<Vec<u8>, CheckpointError> {
        let mut reader = found.open(disk, name)?;
        let mut read = vec![0; reader.left() as usize];
        for piece in read.chunks_mut(piece) {
            reader.read_exact(piece)?;
        }
        assert_eq!(reader.left(), 0);
        reader.finish()?;
        Ok(read)
    };
    let (image, path) = (disk.visible(), format!("{DIR}/step-30/{name}"));
    for piece in 1..=expected.len() {
        assert_eq!(in_pieces(&disk, piece)?, expected);
        let rotten = SimulatedDisk::from_image(&flip(&image, &path, piece - 1));
        let error = in_pieces(&rotten, piece).unwrap_err().to_string();
        assert!(error.contains("step-30 cannot be used"), "{error}");
        assert!(error.contains("the checksum differs"), "{error}");
    }
    // What nobody asked for is compared too; a file that has become shorter or longer is none of ours.
    found.open(&disk, name)?.finish()?;
    let of_length = |length: usize| {
        let mut image = image.clone();
        let mut contents = expected.clone();
        contents.resize(length, 0);
        image.insert(path.clone(), Some(contents.into()));
        in_pieces(&SimulatedDisk::from_image(&image), 7).unwrap_err().to_string()
    };
    for length in [expected.len() - 1, expected.len() + 1] {
        let error = of_length(length);
        assert!(error.contains(&format!("has {length} bytes, but {}", expected.len())), "{error}");
    }
    // Short and interrupted reads are repeated; an error of the disk is told as one.
    for fault in [Fault::Short, Fault::Interrupted, Fault::Io] {
        let disk = SimulatedDisk::from_image(&image);
        disk.set_faults(Faults::once(fault, 1));
        match (in_pieces(&disk, 7), fault) {
            (Err(error), Fault::Io) => assert!(error.to_string().contains("the disk reported")),
            (Ok(read), Fault::Short | Fault::Interrupted) => assert_eq!(read, expected),
            (other, fault) => panic!("{fault:?}: {other:?}"),
        }
    }
    assert!(found.open(&disk, "none").err().ok_or("opened")?.to_string().contains("is missing"));
    Ok(())
}

#[test]
fn f40_damaged_ones_do_not_count_as_kept() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    for step in [20, 30] {
        save_step(&disk, step)?;
    }
    let image = flip(&disk.visible(), "/runs/one/checkpoints/step-30/state.bin", 3);
    let disk = SimulatedDisk::from_image(&image);
    let saved = save_step(&disk, 40)?;
    assert_eq!(names(&disk), ["step-20", "step-30", "step-40"]);
    assert!(saved.warnings[0].contains("step-30 is damaged"), "{:?}", saved.warnings);
    Ok(())
}

/// A disk that says "done" and stores other bytes, at each call of a save in turn, and from then on.
#[test]
fn f40_what_does_not_read_back_costs_no_older_checkpoint() -> Result<(), Box<dyn std::error::Error>>
{
    let disk = fresh_disk()?;
    for step in [20, 30] {
        save_step(&disk, step)?;
    }
    let (image, before) = (disk.visible(), disk.calls());
    let saved = save_step(&disk, 40)?;
    assert_eq!(saved.removed, [Path::new(DIR).join("step-20")], "a good one makes room");
    let mut noticed = [0, 0];
    for call in 0..disk.calls() - before {
        let plans = [Faults::once(Fault::Rot, call), Faults::from_then_on(Fault::Rot, call)];
        for (noticed, faults) in noticed.iter_mut().zip(plans) {
            let disk = SimulatedDisk::from_image(&image);
            disk.set_faults(faults);
            let Err(error) = save_step(&disk, 40) else { continue };
            *noticed += 1;
            disk.set_faults(Faults::none());
            assert!(matches!(error, CheckpointError::Verify { step: 40, .. }), "{error}");
            let text = error.to_string();
            for words in ["does not read back as it was written", "are untouched", "the disk"] {
                assert!(text.contains(words), "call {call}: {text}");
            }
            assert_eq!(names(&disk), ["step-20", "step-30", "step-40"], "call {call}");
            assert_good(&disk, &[20, 30], "after a write that was another");
            let search = latest_good(&disk, Path::new(DIR))?;
            assert_eq!(search.found.map(|found| found.step), Some(30), "call {call}");
            assert_eq!(search.bad.iter().map(|bad| bad.step).collect::<Vec<_>>(), [40]);
        }
    }
    // Two files, the one in two pieces, and the manifest; and all calls up to the last of these.
    assert_eq!(noticed[0], 4);
    assert!(noticed[1] > 4, "{noticed:?}");
    Ok(())
}

/// What writes a file.
type Write<'a> = &'a dyn Fn(&mut dyn io::Write) -> io::Result<()>;

/// Saving is part of the step that does it. What writes the numbers may fail, write too little, or panic.
#[test]
fn f46_a_writer_that_fails_lies_or_panics_leaves_no_checkpoint() -> io::Result<()> {
    let disk = fresh_disk()?;
    assert!(save_step(&disk, 10).is_ok() && save_step(&disk, 20).is_ok());
    let before = names(&disk);
    let fails = |out: &mut dyn io::Write| {
        out.write_all(b"some")?;
        Err(io::Error::other("the device was lost"))
    };
    let lies = |out: &mut dyn io::Write| out.write_all(b"less than was announced");
    let save_with = |write: Write<'_>| {
        let files = [Entry { name: "weights", payload: Payload::Stream { bytes: 99, write } }];
        let checkpoint = Checkpoint { step: 30, files: &files, info: Map::new() };
        save(&disk, Path::new(DIR), &checkpoint, &Keep::default())
    };
    let cases: [(&str, Write<'_>); 2] =
        [("the device was lost", &fails), ("23 bytes were written, 99 announced", &lies)];
    for (words, write) in cases {
        let text = save_with(write).unwrap_err().to_string();
        assert!(text.contains("step 30 was not saved") && text.contains(words), "{text}");
        assert_eq!(names(&disk), before);
        assert_eq!(check(&disk, &[10, 20]), Ok(()));
    }
    let panics = |_: &mut dyn io::Write| -> io::Result<()> { panic!("for a test") };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| save_with(&panics)));
    assert!(caught.is_err());
    assert_eq!(check(&disk, &[10, 20]), Ok(()), "what is half done is never used");
    assert!(sweep(&disk, Path::new(DIR)).is_ok());
    assert_eq!(names(&disk), before);
    Ok(())
}

#[test]
fn f61_a_newer_version_is_refused_in_words() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    save_step(&disk, 10)?;
    let mut image = disk.visible();
    let path = format!("{DIR}/step-20");
    image.insert(path.clone(), None);
    let text = br#"{"format":"paddock-checkpoint","version":7,"step":20,"shards":[]}"#;
    image.insert(format!("{path}/manifest.json"), Some(text.to_vec().into()));
    let error = latest_good(&SimulatedDisk::from_image(&image), Path::new(DIR)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("checkpoint version 7"), "{text}");
    assert!(text.contains("move the folder away"), "{text}");
    Ok(())
}

#[test]
fn a_person_can_go_back_to_an_earlier_step() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    cycle(&disk);
    let moved = set_aside_newer(&disk, Path::new(DIR), 10)?;
    assert_eq!(moved.len(), 2);
    assert_eq!(names(&disk), ["step-10", "superseded-step-30", "superseded-step-40"]);
    let search = latest_good(&disk, Path::new(DIR))?;
    assert_eq!(search.found.map(|found| found.step), Some(10));
    save_step(&disk, 20)?;
    save_step(&disk, 30)?;
    save_step(&disk, 40)?;
    let all = ["step-10", "step-30", "step-40", "superseded-step-30", "superseded-step-40"];
    assert_eq!(names(&disk), all);
    Ok(())
}

#[test]
fn names_outside_the_folder_are_refused() -> Result<(), io::Error> {
    let disk = fresh_disk()?;
    for name in ["", "../x", "a/b", "a\\b", ".hidden", "manifest.json", "nul\0", "ü"] {
        let files = [Entry { name, payload: Payload::Bytes(b"x") }];
        let checkpoint = Checkpoint { step: 1, files: &files, info: Map::new() };
        let result = save(&disk, Path::new(DIR), &checkpoint, &Keep::default());
        assert!(matches!(result, Err(CheckpointError::Usage(_))), "{name:?}: {result:?}");
    }
    assert_eq!(names(&disk), Vec::<String>::new());
    Ok(())
}

#[test]
fn folder_names_are_read_strictly() {
    for (name, expected) in [
        ("step-7", Some((7, false))),
        ("replaced-step-7", Some((7, true))),
        ("replaced-step-7-2", Some((7, true))),
        ("step-07", None),
        ("step-+7", None),
        ("step-7-2", None),
        ("step-", None),
        ("superseded-step-7", None),
        (".tmp-step-7", None),
        ("step-99999999999999999999", None),
    ] {
        assert_eq!(parse_name(name), expected, "{name}");
    }
}

#[test]
fn the_real_file_system_does_the_same() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let dir: PathBuf = temporary.path().into();
    let disk = crate::storage::RealStorage;
    let keep = Keep { best: Some(1), ..Keep::default() };
    for step in 1..=5 {
        let text = vec![step as u8; 3_000_000];
        let files = [Entry { name: "weights", payload: Payload::Bytes(&text) }];
        let info = Map::from_iter([("loss".to_string(), 0.1.into())]);
        save(&disk, &dir, &Checkpoint { step, files: &files, info }, &keep)?;
    }
    assert_eq!(disk.list(&dir)?, ["step-1", "step-4", "step-5"]);
    let search = latest_good(&disk, &dir)?;
    let found = search.found.ok_or("nothing found")?;
    assert_eq!((found.step, found.manifest.info["loss"].as_f64()), (5, Some(0.1)));
    assert_eq!(found.read(&disk, "weights")?, vec![5; 3_000_000]);
    // A half-written file, as a torn write leaves it.
    std::fs::write(dir.join("step-5/weights"), vec![5; 1_000_000])?;
    let search = latest_good(&disk, &dir)?;
    assert_eq!(search.found.map(|found| found.step), Some(4));
    assert!(search.bad[0].to_string().contains("1000000 bytes, but 3000000"), "{}", search.bad[0]);
    Ok(())
}

/// A manifest as version 1 wrote it; every later program must read it.
const MANIFEST_1: &str = r#"{
  "format": "paddock-checkpoint",
  "version": 1,
  "step": 3,
  "files": [
    {
      "name": "weights",
      "bytes": 2,
      "sha256": "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603"
    }
  ],
  "info": {
    "loss": 0.5,
    "who": "é"
  },
  "checksum": "7014ff947b96fb9bb7a4f75430dc1ff9b3ceeecf4ce3cefbaed3542882d08364"
}"#;

#[test]
fn f61_manifests_of_version_1_are_read() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = Manifest::parse(MANIFEST_1.as_bytes())?;
    assert_eq!((manifest.step, manifest.info["loss"].as_f64()), (3, Some(0.5)));
    let path = format!("{DIR}/step-3");
    let image = Image::from([
        ("/runs".to_string(), None),
        ("/runs/one".to_string(), None),
        (DIR.to_string(), None),
        (path.clone(), None),
        (format!("{path}/weights"), Some(b"ab".to_vec().into())),
        (format!("{path}/manifest.json"), Some(MANIFEST_1.as_bytes().to_vec().into())),
    ]);
    let search = latest_good(&SimulatedDisk::from_image(&image), Path::new(DIR))?;
    assert_eq!(search.found.map(|found| found.step), Some(3));
    Ok(())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..Default::default()
    })]

    /// A manifest with any bytes put in any place is read as it was or is a defect; never a panic.
    #[test]
    fn damaged_manifests_are_survived(
        at in 0..MANIFEST_1.len(),
        bytes in "\\PC{0,6}",
        cut in 0..9_usize,
    ) {
        let mut text = MANIFEST_1.as_bytes().to_vec();
        text.splice(at..(at + cut).min(text.len()), bytes.bytes());
        if let Ok(manifest) = Manifest::parse(&text) {
            proptest::prop_assert_eq!(Some(manifest), Manifest::parse(MANIFEST_1.as_bytes()).ok());
        }
    }
}
