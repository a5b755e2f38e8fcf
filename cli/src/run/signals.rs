//! Ctrl-C and its relatives: the first one asks the run to save and stop, the second one of the
//! same kind ends the process at once. (Of the same kind: a service manager may send SIGTERM and
//! SIGHUP together.)

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code of a run that was interrupted and has saved, or had nothing to save yet. A run that could not save
/// says why and ends with the code of that error.
pub const EXIT_INTERRUPTED: i32 = 130;

/// Whether the run was asked to stop. Clones share the answer; asking costs one load, so it may be
/// asked between micro-batches and layers.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    seen: Arc<AtomicUsize>,
}

#[cfg(unix)]
const WATCHED: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const WATCHED: [i32; 2] = [SIGINT, SIGTERM];

impl Signals {
    /// Watches SIGINT, SIGTERM and SIGHUP for the rest of the process's life. A signal that the
    /// process was told to ignore (as `nohup` does with SIGHUP) stays ignored.
    pub fn install() -> io::Result<Self> {
        let signals = Self::default();
        let ignored = ignored_signals();
        for signal in WATCHED {
            if ignored >> (signal - 1) & 1 == 1 {
                continue;
            }
            let asked = Arc::new(AtomicBool::new(false));
            // The order matters: the second signal finds the flag that the first one has set.
            flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&asked))?;
            flag::register(signal, asked)?;
            flag::register_usize(signal, Arc::clone(&signals.seen), signal as usize)?;
        }
        Ok(signals)
    }

    /// Whether the run shall save and stop.
    pub fn stop_requested(&self) -> bool {
        self.seen.load(Ordering::Relaxed) != 0
    }

    /// Asks the run to stop, as a signal would.
    pub fn request_stop(&self) {
        self.seen.store(SIGINT as usize, Ordering::Relaxed);
    }

    /// The last signal's name, if one came.
    pub fn name(&self) -> Option<&'static str> {
        match self.seen.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGINT => Some("SIGINT (Ctrl-C)"),
            SIGTERM => Some("SIGTERM"),
            _ => Some("SIGHUP"),
        }
    }
}

/// One bit for each ignored signal, the first for signal 1.
#[cfg(target_os = "linux")]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn ignored_signals() -> u64 {
    0
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use signal_hook::consts::SIGHUP;
    use signal_hook::low_level::raise;

    use super::*;

    /// Runs this test program's ignored test `name` as a child, through a shell that may prepare
    /// it.
    fn child(prepare: &str, name: &str) -> io::Result<std::process::ExitStatus> {
        let program = std::env::current_exe()?;
        let script = format!(
            "{prepare} exec {} run::signals::tests::{name} --exact --ignored",
            program.display()
        );
        // Whoever runs the tests may ignore signals (`nohup`): the child begins with the defaults.
        Command::new("env")
            .args(["--default-signal=INT,TERM,HUP", "sh", "-c", &script])
            .stdout(std::process::Stdio::null())
            .status()
    }

    #[test]
    fn f47_the_second_signal_exits_with_130() -> io::Result<()> {
        assert_eq!(child("", "two_signals")?.code(), Some(EXIT_INTERRUPTED));
        Ok(())
    }

    #[test]
    fn f47_ignored_signals_stay_ignored() -> io::Result<()> {
        assert!(child("trap '' HUP;", "hang_up_is_ignored")?.success());
        Ok(())
    }

    #[test]
    #[ignore = "a child process of the test above"]
    fn two_signals() -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let signals = Signals::install()?;
            assert!(!signals.stop_requested() && signals.name().is_none());
            raise(signal)?;
            assert!(signals.stop_requested() && signals.name().is_some());
        }
        raise(SIGTERM)?;
        panic!("the second SIGTERM did not end the process");
    }

    #[test]
    #[ignore = "a child process of the test above"]
    fn hang_up_is_ignored() -> io::Result<()> {
        let signals = Signals::install()?;
        raise(SIGHUP)?;
        raise(SIGHUP)?;
        assert!(!signals.stop_requested());
        raise(SIGINT)?;
        assert!(signals.stop_requested());
        Ok(())
    }
}
