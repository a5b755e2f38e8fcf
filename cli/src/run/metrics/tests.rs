use std::path::Path;

use super::*;
use crate::storage::simulated::{Fault, Faults, SimulatedDisk};
use crate::storage::whole::read_file;

const FILE: &str = "/metrics.jsonl";

fn step(step: u64) -> Line {
    Line::Step(Step { step, loss: 1.5, rows: 16, ..Step::default() })
}

fn eval(step: u64) -> Line {
    Line::Eval(Eval { step, eval_loss: 1.25, ..Eval::default() })
}

fn lines(disk: &SimulatedDisk) -> Vec<Line> {
    read(disk, Path::new(FILE)).map(|metrics| metrics.lines).unwrap_or_default()
}

#[test]
fn the_field_names_are_those_promised() -> Result<(), serde_json::Error> {
    let line = Line::Step(Step {
        step: 1,
        epoch: 0.01,
        loss: f64::NAN,
        lr: 2e-4,
        grad_norm: 1.0,
        rows: 16,
        tokens: 900,
        trained_tokens: 300,
        tokens_per_s: 1e3,
        elapsed_s: 0.9,
        unchanged: None,
    });
    let text = serde_json::to_string(&line)?;
    let expected = concat!(
        r#"{"kind":"step","step":1,"epoch":0.01,"loss":null,"lr":0.0002,"grad_norm":1.0,"#,
        r#""rows":16,"tokens":900,"trained_tokens":300,"tokens_per_s":1000.0,"elapsed_s":0.9}"#
    );
    assert_eq!(text, expected);
    let Line::Step(read) = serde_json::from_str(&text)? else { panic!("{text}") };
    assert!(read.loss.is_nan(), "a loss that is no number is never read as one");
    assert!(
        serde_json::to_string(&eval(3))?.starts_with(r#"{"kind":"eval","step":3,"eval_loss":1.25"#)
    );
    Ok(())
}

#[test]
fn f45_a_torn_tail_of_any_length_is_ignored() -> Result<(), Box<dyn std::error::Error>> {
    let disk = SimulatedDisk::new();
    let path = Path::new(FILE);
    let mut writer = MetricsWriter::start(&disk, path)?;
    for line in [step(1), step(2), eval(2), step(3)] {
        writer.append(&line)?;
    }
    let whole = read_file(&disk, path, 10_000)?;
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap_or(0) + 1;
    for length in last + 1..whole.len() {
        for tail in [&whole[last..length], &vec![0; length - last]] {
            let torn = [&whole[..last], tail].concat();
            let image = [("/metrics.jsonl".to_string(), Some(torn.into()))].into();
            let disk = SimulatedDisk::from_image(&image);
            let metrics = read(&disk, path)?;
            assert_eq!(metrics.lines, [step(1), step(2), eval(2)]);
            assert_eq!((metrics.bad.len(), metrics.torn.len()), (0, 1));
            let (mut writer, resumed) = MetricsWriter::resume(&disk, path, 9)?;
            assert_eq!((resumed.kept, resumed.dropped), (3, 1));
            writer.append(&step(3))?;
            assert_eq!(read_file(&disk, path, 10_000)?, whole);
        }
    }
    Ok(())
}

#[test]
fn resume_cuts_to_the_checkpoints_step() -> Result<(), Box<dyn std::error::Error>> {
    let disk = SimulatedDisk::new();
    let path = Path::new(FILE);
    let mut writer = MetricsWriter::start(&disk, path)?;
    for line in [step(1), step(2), eval(2), step(3), step(4), eval(4)] {
        writer.append(&line)?;
    }
    let (mut writer, resumed) = MetricsWriter::resume(&disk, path, 2)?;
    assert_eq!((resumed.kept, resumed.dropped), (3, 3));
    writer.append(&step(3))?;
    assert_eq!(lines(&disk), [step(1), step(2), eval(2), step(3)]);
    let (_, resumed) = MetricsWriter::resume(&disk, path, 0)?;
    assert_eq!((resumed.kept, resumed.dropped), (0, 4));
    assert_eq!(lines(&disk), []);
    assert!(MetricsWriter::start(&disk, path).is_err(), "a new run never writes into an old file");
    Ok(())
}

#[test]
fn bad_lines_in_the_middle_are_named() -> Result<(), Box<dyn std::error::Error>> {
    let long = format!("{{\"kind\":\"step\",\"x\":\"{}\"}}", "y".repeat(200_000));
    let first = serde_json::to_string(&step(1))?;
    let text = format!("{first}\nnonsense\n{long}\n{{\"kind\":\"other\"}}\n{first}\n");
    let image = [("/metrics.jsonl".to_string(), Some(text.into_bytes().into()))].into();
    let metrics = read(&SimulatedDisk::from_image(&image), Path::new(FILE))?;
    assert_eq!(metrics.lines, [step(1), step(1)]);
    let places: Vec<u64> = metrics.bad.iter().map(|bad| bad.line).collect();
    assert_eq!(places, [2, 3, 4]);
    assert!(metrics.bad[0].to_string().starts_with("line 2 (byte "), "{}", metrics.bad[0]);
    assert!(metrics.bad[1].what.contains("too long"), "{}", metrics.bad[1]);
    Ok(())
}

#[test]
fn f36_a_failed_append_leaves_whole_lines() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(FILE);
    for fault in Fault::ALL {
        for call in 0..12 {
            let disk = SimulatedDisk::new();
            disk.set_faults(Faults::once(fault, call));
            let Ok(mut writer) = MetricsWriter::start(&disk, path) else { continue };
            for number in 1..=3 {
                // What fails is written again, as the trainer does after its pause.
                if writer.append(&step(number)).is_err() {
                    writer.append(&step(number))?;
                }
            }
            disk.set_faults(Faults::none());
            assert_eq!(lines(&disk), [step(1), step(2), step(3)], "{fault:?} at call {call}");
        }
    }
    Ok(())
}
