//! Real processes, really killed.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::Map;

use super::*;
use crate::storage::RealStorage;

const DIR_VARIABLE: &str = "PADDOCK_TEST_CHECKPOINT_DIR";

fn save_real(dir: &Path, step: u64) -> Result<Saved, CheckpointError> {
    let text = vec![step as u8; 200_000];
    let files = [Entry { name: "weights", payload: Payload::Bytes(&text) }];
    let checkpoint = Checkpoint { step, files: &files, info: Map::new() };
    save(&RealStorage, dir, &checkpoint, &Keep::default())
}

#[test]
#[ignore = "a child process of the test below"]
fn save_for_ever() -> Result<(), CheckpointError> {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return Ok(()) };
    let dir = Path::new(&dir);
    let first = latest_good(&RealStorage, dir)?.found.map_or(0, |found| found.step);
    sweep(&RealStorage, dir)?;
    for step in first + 1.. {
        save_real(dir, step)?;
        println!("\nsaved {step}");
    }
    Ok(())
}

#[test]
fn f38_kill_9_while_saving_loses_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let mut promised = 0;
    for round in 0..20_u64 {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .args(["run::checkpoint::kill::save_for_ever", "--exact", "--ignored", "--nocapture"])
            .env(DIR_VARIABLE, temporary.path())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut wait_for_one = || -> Result<Option<u64>, io::Error> {
            for line in lines.by_ref() {
                if let Some(step) = line?.strip_prefix("saved ") {
                    return Ok(step.parse().ok());
                }
            }
            Ok(None)
        };
        promised = wait_for_one()?.ok_or("the child saved nothing")?;
        // A different moment each time, spread over the length of a save.
        std::thread::sleep(std::time::Duration::from_micros(round * 7_919 % 20_000));
        child.kill()?;
        child.wait()?;
        while let Some(step) = wait_for_one()? {
            promised = step;
        }
        let search = latest_good(&RealStorage, temporary.path())?;
        let found = search.found.ok_or("nothing found")?;
        assert!(found.step >= promised, "round {round}: {} after {promised}", found.step);
        let read = found.read(&RealStorage, "weights")?;
        assert_eq!(read, vec![found.step as u8; 200_000]);
        assert!(search.bad.is_empty(), "round {round}: {:?}", search.bad);
    }
    println!("killed 20 times in {promised} saves");
    Ok(())
}
