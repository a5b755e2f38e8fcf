//! The protocol, enumerated on the simulated disk: every call failed in turn, every power cut.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::tests::{DIR, STEPS, assert_good, check, cycle, fresh_disk, names, save_step};
use super::*;
use crate::storage::simulated::{Counts, Fault, Faults, Image, SimulatedDisk};

/// Digits in threes, as people write them.
pub(super) fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// The page that states these figures must not fall behind.
pub(super) fn stated(figure: u64, what: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let words = format!("{} {what}", grouped(figure));
    // Not as the end of a longer number.
    assert!(page.contains(&format!(" {words}")), "docs/reliability.md does not say \"{words}\"");
}

#[test]
fn f38_f39_no_power_cut_loses_or_spoils_a_checkpoint() -> Result<(), Box<dyn std::error::Error>> {
    let disk = fresh_disk()?;
    cycle(&disk);
    // The same step once more, as a run does that was stopped right after a periodic save.
    save_step(&disk, 40)?;
    let trace = disk.trace();
    let mut by_outcome = BTreeMap::<Option<u64>, u64>::new();
    let mut visit = |image: &Image, promised: &[u64]| {
        let disk = SimulatedDisk::from_image(image);
        assert_good(&disk, promised, "after a power cut");
        let search = latest_good(&disk, Path::new(DIR)).unwrap_or_default();
        *by_outcome.entry(search.found.map(|found| found.step)).or_default() += 1;
        // The run goes on: what the cut left behind is in nobody's way.
        sweep(&disk, Path::new(DIR)).unwrap_or_else(|error| panic!("{error}"));
        save_step(&disk, 50).unwrap_or_else(|error| panic!("{error}"));
        let hidden = names(&disk).into_iter().filter(|name| name.starts_with('.')).count();
        assert_eq!(hidden, 0, "{:?}", names(&disk));
    };
    let counts = trace.power_cuts(3, &mut visit);
    println!(
        "power cuts: {} operations, depth 3, {} cuts, {} different disks; resumed from \
         {by_outcome:?}",
        trace.len(),
        counts.cuts,
        counts.distinct
    );
    // Every outcome was reached, so the enumeration did look at all stages.
    let reached: Vec<Option<u64>> = by_outcome.into_keys().collect();
    assert_eq!(reached, [None, Some(10), Some(20), Some(30), Some(40)]);
    stated(counts.cuts, "power cuts");
    stated(counts.distinct, "different disks");
    Ok(())
}

/// Runs the cycle with one fault plan; then cuts the power everywhere, if `depth` says so; then
/// goes on.
fn faulty_run(faults: Faults, depth: Option<usize>, total: &mut Counts) -> Result<usize, String> {
    let place = format!("{faults:?}");
    let disk = fresh_disk().map_err(|error| error.to_string())?;
    disk.set_faults(faults);
    let promised = cycle(&disk);
    disk.set_faults(Faults::none());
    assert_good(&disk, &promised, &place);
    if let Some(depth) = depth {
        let mut visit = |image: &Image, promised: &[u64]| {
            assert_good(&SimulatedDisk::from_image(image), promised, &place);
        };
        let counts = disk.trace().power_cuts(depth, &mut visit);
        total.cuts += counts.cuts;
        total.distinct += counts.distinct;
    }
    // Once the fault is gone the run goes on and cleans up behind it.
    sweep(&disk, Path::new(DIR)).map_err(|error| error.to_string())?;
    save_step(&disk, 50).map_err(|error| error.to_string())?;
    assert!(names(&disk).iter().all(|name| !name.starts_with('.')), "{place}");
    Ok(STEPS.len() - promised.len())
}

/// Every call of the cycle failed in turn, in every way, once and from then on. `cut_once` and
/// `cut_on` say how deep the power cuts after such runs go. Returns how many runs and cuts there were.
fn every_fault(cut_once: Option<usize>, cut_on: Option<usize>) -> Result<(u64, Counts), String> {
    let healthy = fresh_disk().map_err(|error| error.to_string())?;
    cycle(&healthy);
    let (mut runs, mut given_up) = (0_u64, 0);
    let mut total = Counts::default();
    for fault in Fault::ALL {
        for call in 0..healthy.calls() {
            given_up += faulty_run(Faults::once(fault, call), cut_once, &mut total)?;
            given_up += faulty_run(Faults::from_then_on(fault, call), cut_on, &mut total)?;
            runs += 2;
        }
    }
    println!(
        "faults: {} calls, {runs} faulty runs, {given_up} saves given up, {} power cuts after \
         them, {} different disks (counted for each run)",
        healthy.calls(),
        total.cuts,
        total.distinct
    );
    assert!(given_up > 0);
    Ok((runs, total))
}

#[test]
fn f36_f37_every_call_fails_in_turn() -> Result<(), String> {
    let (runs, total) = every_fault(Some(0), None)?;
    stated(runs, "injected faults");
    let disks = format!("power cuts after them leave {} disks", grouped(total.distinct));
    stated(total.cuts, &disks);
    Ok(())
}

#[test]
#[ignore = "soak: some minutes; cargo test --release -p core-cli --lib soak -- --ignored"]
fn soak_every_call_fails_and_then_the_power_goes() -> Result<(), String> {
    let (_, total) = every_fault(Some(1), Some(1))?;
    stated(total.cuts, &format!("power cuts leave {} disks", grouped(total.distinct)));
    Ok(())
}

/// The enumeration itself is put to the test: on a disk that ignores syncs it must find lost
/// checkpoints.
#[test]
fn f39_the_enumeration_notices_missing_syncs() -> Result<(), io::Error> {
    let disk = fresh_disk()?;
    disk.ignore_syncs();
    for step in [10, 20] {
        if save_step(&disk, step).is_ok() {
            disk.mark(step);
        }
    }
    let mut lost = 0;
    disk.trace().power_cuts(1, &mut |image, promised| {
        lost += u64::from(check(&SimulatedDisk::from_image(image), promised).is_err());
    });
    assert!(lost > 10, "{lost}");
    Ok(())
}

#[test]
fn one_fault_never_costs_a_checkpoint() -> Result<(), Box<dyn std::error::Error>> {
    let healthy = fresh_disk()?;
    cycle(&healthy);
    for fault in Fault::ALL {
        for call in 0..healthy.calls() {
            let disk = fresh_disk()?;
            disk.set_faults(Faults::once(fault, call));
            assert_eq!(cycle(&disk), STEPS, "{fault:?} at call {call}: the second try succeeds");
        }
    }
    // Interrupted and short calls are not even seen.
    for fault in [Fault::Interrupted, Fault::Short] {
        for call in 0..healthy.calls() {
            let disk = fresh_disk()?;
            disk.set_faults(Faults::once(fault, call));
            for step in STEPS {
                save_step(&disk, step)?;
            }
        }
    }
    Ok(())
}
