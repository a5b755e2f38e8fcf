//! Real processes, killed and interrupted at random times. PADDOCK_KILLS says how often (see tests/scripts/soak).

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use paddock_cli::run::checkpoint::latest_good;
use paddock_cli::storage::RealStorage;
use paddock_core::philox::{Philox, Stream};
use paddock_tests::desk::Desk;

use crate::{TRAIN, desk};

/// Kills in the standard tests.
const KILLS: u64 = 30;

/// A run that was asked to stop must have saved and ended by then.
const PATIENCE: Duration = Duration::from_secs(20);

fn kills() -> u64 {
    let text = std::env::var("PADDOCK_KILLS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

fn spawn(desk: &Desk, args: &str) -> Child {
    let mut command = desk.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("core-cli starts")
}

/// The newest good checkpoint of a run. None may be damaged.
fn newest(desk: &Desk, run: &str) -> u64 {
    let dir = desk.path(run).join("checkpoints");
    if !dir.is_dir() {
        return 0;
    }
    let search = latest_good(&RealStorage, &dir).expect("a folder of checkpoints");
    assert!(search.bad.is_empty(), "{:?}", search.bad);
    search.found.map_or(0, |found| found.step)
}

#[test]
fn f38_kill_9_at_random_times_loses_nothing_and_changes_no_bit() {
    let desk = desk();
    let args = format!("{TRAIN} --max-steps 90 --save-every 2 --eval-every 30 --lora-dropout 0.1");
    let begun = Instant::now();
    desk.run(&format!("{args} --out whole"), 0);
    let (length, random) = (begun.elapsed().as_micros() as u64, Philox::new(1, Stream::SAMPLE));
    let adapter = |run: &str| desk.bytes(&format!("{run}/adapter/adapter_model.safetensors"));
    let (mut killed, mut ended, mut starts, mut resumed_from) = (0, 0, 0u64, 0u64);
    while killed < kills() {
        let begins = !desk.path("cut/run.toml").is_file();
        if begins {
            // Killed before it had begun: nothing but a lock may be there.
            let _ = std::fs::remove_dir_all(desk.path("cut"));
            resumed_from = 0;
        }
        let more = if begins { "" } else { "--resume" };
        let mut child = spawn(&desk, &format!("{args} --out cut {more}"));
        std::thread::sleep(Duration::from_micros(random.below(0, starts, length)));
        starts += 1;
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{status}");
            assert!(adapter("whole") == adapter("cut"), "other bits after {killed} kills");
            std::fs::remove_dir_all(desk.path("cut")).expect("removed");
            ended += 1;
            continue;
        }
        child.kill().expect("kill -9");
        child.wait().expect("a child");
        killed += 1;
        let step = newest(&desk, "cut");
        assert!(step >= resumed_from, "step {step} after {resumed_from}: a checkpoint was lost");
        resumed_from = step;
    }
    if desk.path("cut/run.toml").is_file() {
        desk.run(&format!("{args} --out cut --resume"), 0);
        assert!(adapter("whole") == adapter("cut"), "other bits at the end");
        ended += 1;
    }
    println!(
        "{killed} kills in {starts} starts of {ended} runs: no checkpoint lost, the same bits"
    );
}

#[test]
fn f47_signals_at_random_times_save_within_twenty_seconds() {
    let desk = desk();
    let random = Philox::new(2, Stream::SAMPLE);
    let mut slowest = Duration::ZERO;
    let signals = 3 + kills() / 5;
    for number in 0..signals {
        let signal = ["TERM", "INT", "HUP"][number as usize % 3];
        let mut child = spawn(&desk, &format!("{TRAIN} --max-steps 1000000 --epochs 1 --out run"));
        let begun = Instant::now();
        while !desk.path("run/metrics.jsonl").is_file() && begun.elapsed() < 3 * PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(random.below(0, number, 150_000)));
        let (status, took) = signalled(&mut child, signal);
        slowest = slowest.max(took);
        assert_eq!(status.code(), Some(130), "SIG{signal} number {number}");
        let dir = desk.path("run/checkpoints");
        let search = latest_good(&RealStorage, &dir).expect("checkpoints");
        let found = search.found.expect("a verified checkpoint");
        assert_eq!(found.step, steps(&desk.path("run/metrics.jsonl")), "the last step was saved");
        std::fs::remove_dir_all(desk.path("run")).expect("removed");
    }
    println!(
        "{signals} signals: a verified checkpoint and exit code 130, the slowest after {slowest:?}"
    );
}

/// Sends a signal; how the process ended, and after how long.
fn signalled(child: &mut Child, signal: &str) -> (ExitStatus, Duration) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{signal}"), &child.id().to_string()]);
    assert!(kill.status().expect("kill").success());
    let sent = Instant::now();
    loop {
        match child.try_wait().expect("a child") {
            Some(status) => return (status, sent.elapsed()),
            None if sent.elapsed() > PATIENCE => panic!("SIG{signal}: not ended in time"),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[test]
fn f47_a_signal_stops_the_judging_of_a_trained_model_and_resume_judges_it() {
    let desk = desk();
    let run = "train --model bundled:tiny --data bundled:stories --max-steps 1 --samples 0";
    let mut child = spawn(&desk, &format!("{run} --out run"));
    // The adapter is written between the last step and the judging of answers.
    while !desk.path("run/adapter").is_dir() {
        assert!(child.try_wait().expect("a child").is_none(), "ended before it was judged");
        std::thread::sleep(Duration::from_millis(2));
    }
    let (status, _) = signalled(&mut child, "TERM");
    assert_eq!(status.code(), Some(130));
    let ending = || String::from_utf8(desk.bytes("run/ending.json")).expect("text");
    assert!(!ending().contains("\"judged\": {"), "{}", ending());
    desk.run("train --resume --out run", 0);
    assert!(ending().contains("\"judged\": {"), "{}", ending());
}

#[test]
fn f47_a_signal_hides_no_failure_to_save() {
    let desk = desk();
    let mut command = desk.command(&format!(
        "{TRAIN} --max-steps 1000000 --epochs 1 --save-every 1000000 --validation none --out run"
    ));
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("core-cli starts");
    let begun = Instant::now();
    while !desk.path("run/metrics.jsonl").is_file() && begun.elapsed() < 3 * PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    // Somebody put a file where checkpoints belong.
    std::fs::remove_dir_all(desk.path("run/checkpoints")).expect("removed");
    std::fs::write(desk.path("run/checkpoints"), "mine").expect("a file");
    let mut err = child.stderr.take().expect("stderr");
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut err, &mut text).map(|_| text)
    });
    let (status, _) = signalled(&mut child, "TERM");
    let said = said.join().expect("a thread").expect("text");
    assert_eq!(status.code(), Some(1), "130 would say that it was saved: {said}");
    assert!(said.contains("error: ") && said.contains("was not saved"), "{said}");
}

/// The last step in a file of metrics.
fn steps(metrics: &Path) -> u64 {
    let text = std::fs::read_to_string(metrics).expect("metrics");
    text.lines().filter(|line| line.contains("\"kind\":\"step\"")).count() as u64
}
