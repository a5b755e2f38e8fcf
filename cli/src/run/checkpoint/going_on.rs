//! Going on and going back, enumerated as saving is: every call failed in turn, every power cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::enumeration::{grouped, stated};
use super::tests::{DIR, assert_good, contents, flip, fresh_disk, names, save_step};
use super::*;
use crate::run::metrics::{self, Line, MetricsWriter, Step};
use crate::storage::simulated::{Fault, Faults, Image, SimulatedDisk};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const METRICS: &str = "/runs/one/metrics.jsonl";

/// Good checkpoints of steps 10 to 40: the run was killed before 20 made room for 40.
fn four_checkpoints() -> Outcome<Image> {
    let (disk, other) = (fresh_disk()?, fresh_disk()?);
    for step in [10, 20, 30] {
        save_step(&disk, step)?;
    }
    save_step(&other, 40)?;
    let mut image = disk.visible();
    image.extend(other.visible().into_iter().filter(|(path, _)| path.contains("/step-40")));
    Ok(image)
}

/// The newest of the four is damaged; a save and a removal were under way when the run was killed.
fn before_going_on() -> Outcome<Image> {
    let mut image = flip(&four_checkpoints()?, &format!("{DIR}/step-40/state.bin"), 3);
    for name in [".tmp-step-50", ".trash-step-5"] {
        image.insert(format!("{DIR}/{name}"), None);
        image.insert(format!("{DIR}/{name}/state.bin"), Some(Arc::new(b"a part".to_vec())));
    }
    Ok(image)
}

/// Every call of so many failed in every way, once and from then on.
fn all_faults(calls: u64) -> impl Iterator<Item = Faults> {
    let plans = |fault, call| [Faults::once(fault, call), Faults::from_then_on(fault, call)];
    let each = move |fault| (0..calls).flat_map(move |call| plans(fault, call));
    Fault::ALL.into_iter().flat_map(each)
}

/// Reads every file of a checkpoint in both ways: what is read is what was written, or there is an error.
fn read_all(disk: &SimulatedDisk, found: &Found) -> Result<(), CheckpointError> {
    for (name, expected) in contents(found.step) {
        assert_eq!(found.read(disk, name)?, expected, "{name} of step {}", found.step);
        let mut reader = found.open(disk, name)?;
        let mut read = vec![0; reader.left() as usize];
        for piece in read.chunks_mut(16) {
            reader.read_exact(piece)?;
        }
        reader.finish()?;
        assert_eq!(read, expected, "{name} of step {}", found.step);
    }
    Ok(())
}

/// What a run does that goes on: it sweeps, takes the newest checkpoint that is good, puts damaged ones aside, reads
/// every file, and saves the next step, for which an older one goes. Returns the step found (0: none).
fn go_on(disk: &SimulatedDisk) -> Result<u64, CheckpointError> {
    let dir = Path::new(DIR);
    sweep(disk, dir)?;
    let search = latest_good(disk, dir)?;
    set_aside_bad(disk, dir, &search.bad)?;
    let mut step = 0;
    if let Some(found) = &search.found {
        read_all(disk, found)?;
        step = found.step;
    }
    save_step(disk, step + 10)?;
    disk.mark(step + 10);
    Ok(step)
}

/// Nothing is lost: what was promised is found and whole, the run goes on and cleans up, and the damaged one is still
/// kept for a person to look at. Returns the step that it went on from.
fn assert_goes_on(disk: &SimulatedDisk, promised: &[u64], place: &str) -> u64 {
    assert_good(disk, promised, place);
    let step = go_on(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
    let names = names(disk);
    assert!(names.iter().all(|name| !name.starts_with('.')), "{place}: {names:?}");
    let [_, (_, mut damaged)] = contents(40);
    damaged[3] ^= 4;
    let is_kept = disk.visible().values().flatten().any(|file| **file == damaged);
    assert!(is_kept, "{place}: {names:?}");
    step
}

#[test]
fn f36_f37_going_on_finds_what_was_promised_whatever_call_fails() -> Outcome<()> {
    let image = before_going_on()?;
    let healthy = SimulatedDisk::from_image(&image);
    assert_eq!(go_on(&healthy)?, 30);
    let calls = healthy.calls();
    assert_eq!(names(&healthy), ["damaged-step-40", "step-10", "step-30", "step-40"]);
    let mut by_outcome = BTreeMap::<Option<u64>, u64>::new();
    for faults in all_faults(calls) {
        let place = format!("{faults:?}");
        let disk = SimulatedDisk::from_image(&image);
        disk.set_faults(faults);
        let outcome = go_on(&disk).ok();
        disk.set_faults(Faults::none());
        let mut promised = vec![10, 20, 30];
        if let Some(step) = outcome {
            assert!(promised.contains(&step), "{place}: went on from {step}");
            promised.push(step + 10);
            promised.sort_unstable();
        }
        assert_goes_on(&disk, &promised, &place);
        *by_outcome.entry(outcome).or_default() += 1;
    }
    let runs: u64 = by_outcome.values().sum();
    println!("going on: {calls} calls, {runs} faulty runs, from {by_outcome:?}");
    // An error, the newest good one, or the one before where the newest could not be read.
    assert_eq!(by_outcome.into_keys().collect::<Vec<_>>(), [None, Some(20), Some(30)]);
    stated(runs, "injected faults while going on");
    Ok(())
}

#[test]
fn f38_f39_going_on_loses_nothing_when_the_power_goes() -> Outcome<()> {
    let disk = SimulatedDisk::from_image(&before_going_on()?);
    go_on(&disk)?;
    let trace = disk.trace();
    let mut by_outcome = BTreeMap::<u64, u64>::new();
    let counts = trace.power_cuts(3, &mut |image, marks| {
        let promised = [&[10, 20, 30][..], marks].concat();
        let disk = SimulatedDisk::from_image(image);
        let step = assert_goes_on(&disk, &promised, "after a power cut while going on");
        *by_outcome.entry(step).or_default() += 1;
    });
    let (operations, cuts, disks) = (trace.len(), counts.cuts, grouped(counts.distinct));
    println!("going on: {operations} operations, {cuts} cuts, {disks} disks; from {by_outcome:?}");
    assert_eq!(by_outcome.into_keys().collect::<Vec<_>>(), [30, 40]);
    stated(cuts, &format!("power cuts and {disks} different disks while going on"));
    Ok(())
}

fn line(step: u64, rows: u64) -> Line {
    Line::Step(Step { step, rows, ..Step::default() })
}

/// Four good checkpoints and the lines of their steps.
fn before_going_back() -> Outcome<Image> {
    let disk = SimulatedDisk::from_image(&four_checkpoints()?);
    let mut writer = MetricsWriter::start(&disk, Path::new(METRICS))?;
    for step in [10, 20, 30, 40] {
        writer.append(&line(step, 16))?;
    }
    Ok(disk.visible())
}

/// What a run does that goes back to step 20: it reads that checkpoint, puts the newer ones and their lines aside, and
/// goes on to step 25. That line is longer than the one whose place it takes.
fn go_back(disk: &SimulatedDisk) -> Outcome<()> {
    let dir = Path::new(DIR);
    read_all(disk, &find_step(disk, dir, 20)?)?;
    set_aside_newer(disk, dir, 20)?;
    disk.mark(20);
    let mut writer = MetricsWriter::go_back(disk, Path::new(METRICS), 20, 0)?.0;
    writer.append(&line(25, 1_000_000))?;
    writer.sync()?;
    save_step(disk, 25)?;
    disk.mark(25);
    Ok(())
}

/// Each of the four checkpoints is there, whole, whatever its name is by now.
fn assert_all_whole(disk: &SimulatedDisk, place: &str) {
    let names = names(disk);
    for step in [10, 20, 30, 40] {
        let is_whole = |name: &String| {
            contents(step).iter().all(|(file, expected)| {
                let path = Path::new(DIR).join(name).join(file);
                read_file(disk, &path, 1000).is_ok_and(|read| read == *expected)
            })
        };
        assert!(names.iter().any(is_whole), "{place}: step {step} is lost: {names:?}");
    }
}

/// Nothing is lost: the newest checkpoint is one from which the run goes on with the lines of its steps and no others,
/// and the other ones are all there; going back succeeds then. Returns the newest one's step.
fn assert_goes_back(disk: &SimulatedDisk, promised: &[u64], place: &str) -> Outcome<u64> {
    assert_good(disk, promised, place);
    assert_all_whole(disk, place);
    let newest = latest_good(disk, Path::new(DIR))?.found.map_or(0, |found| found.step);
    MetricsWriter::resume(disk, Path::new(METRICS), newest)?;
    let metrics = metrics::read(disk, Path::new(METRICS))?;
    let steps: Vec<u64> = metrics.lines.iter().map(Line::step).collect();
    let expected: &[u64] = match newest {
        20 => &[10, 20],
        25 => &[10, 20, 25],
        30 => &[10, 20, 30],
        _ => &[10, 20, 30, 40],
    };
    assert_eq!(steps, expected, "{place}: lines at step {newest}");
    assert_eq!((metrics.bad, metrics.torn), (vec![], vec![]), "{place}");
    go_back(disk)?;
    assert_all_whole(disk, place);
    assert_good(disk, &[10, 20, 25], place);
    Ok(newest)
}

#[test]
fn f36_f37_going_back_loses_nothing_whatever_call_fails() -> Outcome<()> {
    let image = before_going_back()?;
    let healthy = SimulatedDisk::from_image(&image);
    go_back(&healthy)?;
    let calls = healthy.calls();
    let all = ["step-10", "step-20", "step-25", "superseded-step-30", "superseded-step-40"];
    assert_eq!(names(&healthy), all);
    let mut by_outcome = BTreeMap::<(bool, u64), u64>::new();
    for faults in all_faults(calls) {
        let place = format!("{faults:?}");
        let disk = SimulatedDisk::from_image(&image);
        disk.set_faults(faults);
        let succeeds = go_back(&disk).is_ok();
        disk.set_faults(Faults::none());
        let promised: &[u64] = if succeeds { &[10, 20, 25] } else { &[10, 20] };
        let newest = assert_goes_back(&disk, promised, &place)?;
        assert!(!succeeds || newest == 25, "{place}: {newest}");
        *by_outcome.entry((succeeds, newest)).or_default() += 1;
    }
    let runs: u64 = by_outcome.values().sum();
    println!("going back: {calls} calls, {runs} faulty runs, to {by_outcome:?}");
    // Of those that failed some had not begun yet, and some had done all.
    assert!([20, 25, 30, 40].iter().all(|step| by_outcome.contains_key(&(false, *step))));
    stated(runs, "injected faults while going back");
    Ok(())
}

#[test]
fn f38_f39_going_back_loses_nothing_when_the_power_goes() -> Outcome<()> {
    let disk = SimulatedDisk::from_image(&before_going_back()?);
    go_back(&disk)?;
    let trace = disk.trace();
    let mut by_outcome = BTreeMap::<u64, u64>::new();
    let counts = trace.power_cuts(3, &mut |image, marks| {
        let promised = [&[10, 20][..], marks].concat();
        let (disk, place) =
            (SimulatedDisk::from_image(image), "after a power cut while going back");
        let newest = assert_goes_back(&disk, &promised, place);
        let newest = newest.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(marks.is_empty() || newest <= 25, "{newest} was given up");
        *by_outcome.entry(newest).or_default() += 1;
    });
    let (operations, cuts, disks) = (trace.len(), counts.cuts, grouped(counts.distinct));
    println!("going back: {operations} operations, {cuts} cuts, {disks} disks; to {by_outcome:?}");
    assert_eq!(by_outcome.into_keys().collect::<Vec<_>>(), [20, 25, 30, 40]);
    stated(cuts, &format!("power cuts and {disks} different disks while going back"));
    Ok(())
}
