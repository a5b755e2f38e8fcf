//! A stop that is asked for before the first step. Rows are read with an eye on it; hashing gigabytes of weights,
//! looking through them and verifying checkpoints is not, and takes as long as the disk does. Until the first step
//! nothing is held that is not saved, so the process may end in the middle of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::signals::{EXIT_INTERRUPTED, Signals};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks between the request and the end: time for what does look itself to end in its own way.
const LOOKS: u32 = 80;

/// While this lives a stop that nobody heeds for eight seconds ends the process with exit code 130.
#[derive(Debug)]
pub struct Loading {
    over: Arc<AtomicBool>,
}

impl Loading {
    /// Watches for the stop from another thread.
    pub fn watch(signals: &Signals) -> Loading {
        let over = Arc::new(AtomicBool::new(false));
        let (known, signals) = (Arc::clone(&over), signals.clone());
        // Where memory for a thread is short the run is told so by what it really needs; a stop then takes its time.
        let _ = thread::Builder::new().spawn(move || look(&known, &signals));
        Loading { over }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn look(over: &AtomicBool, signals: &Signals) {
    let mut looks = 0;
    while !over.load(Ordering::SeqCst) {
        if signals.stop_requested() {
            looks += 1;
        }
        if looks > LOOKS {
            eprintln!("stopped before the first step; what earlier steps saved is as it was");
            std::process::exit(EXIT_INTERRUPTED);
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    #[test]
    fn f47_a_stop_that_loading_does_not_heed_ends_the_process_within_20_seconds() -> io::Result<()>
    {
        let name = "run::loading::tests::stopped_while_loading";
        let (began, program) = (Instant::now(), std::env::current_exe()?);
        let mut child = Command::new(program);
        let child = child.args([name, "--exact", "--ignored", "--nocapture"]);
        let ended = child.stdin(Stdio::null()).output()?;
        assert_eq!(ended.status.code(), Some(EXIT_INTERRUPTED));
        assert!(began.elapsed().as_secs() < 20, "it took {:?}", began.elapsed());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("stopped before the first step"), "{said}");
        Ok(())
    }

    #[test]
    #[ignore = "a child process of the test above"]
    fn stopped_while_loading() {
        let signals = Signals::default();
        // What was watched and is over ends nothing.
        drop(Loading::watch(&signals));
        let _loading = Loading::watch(&signals);
        signals.request_stop();
        thread::sleep(Duration::from_secs(60));
        panic!("nobody ended the process");
    }
}
