//! A run's control file: one word in the file `control` of its folder asks the run's process to pause, to go
//! on, or to save and stop. Whoever may write there can ask, on every system, whether or not it is the program
//! that started the run; a signal reaches less far.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::signals::Signals;
use crate::storage::RealStorage;
use crate::storage::whole::replace_file;

/// The file's name in a run folder.
pub const CONTROL: &str = "control";

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// What a run is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Make no step until asked to go on; memory is kept.
    Pause,
    /// Go on after a pause.
    Go,
    /// Save and stop, as Ctrl-C does.
    Stop,
}

impl Wish {
    const ALL: [Wish; 3] = [Wish::Pause, Wish::Go, Wish::Stop];

    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Wish::Pause => "pause",
            Wish::Go => "go",
            Wish::Stop => "stop",
        }
    }
}

/// Asks the run in `folder`; its process notices within a fraction of a second.
///
/// # Errors
/// If the file cannot be written.
pub fn ask(folder: &Path, wish: Wish) -> anyhow::Result<()> {
    let path = folder.join(CONTROL);
    Ok(replace_file(&RealStorage, &path, format!("{}\n", wish.word()).as_bytes())?)
}

/// What the run in `folder` is asked for; nothing where there is no file, or a word that is none of the three.
pub fn asked(folder: &Path) -> Option<Wish> {
    let text = std::fs::read_to_string(folder.join(CONTROL)).ok()?;
    Wish::ALL.into_iter().find(|wish| text.trim() == wish.word())
}

/// What an earlier run in `folder` was asked for is forgotten. Call it as soon as the run's lock is held: whoever asks
/// after that means the run that begins.
pub fn forget(folder: &Path) {
    // Most often there is none.
    let _ = std::fs::remove_file(folder.join(CONTROL));
}

/// The run's end of the file: a thread that looks at it. The file goes when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    paused: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Control {
    /// Watches the control file of `folder`; a word to stop becomes a request in `signals`. What was asked while the
    /// run was loading counts at once.
    pub fn watch(folder: &Path, signals: &Signals) -> Control {
        let path = folder.join(CONTROL);
        let (paused, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let look = {
            let (paused, folder, signals) =
                (Arc::clone(&paused), folder.to_path_buf(), signals.clone());
            move || {
                let wish = asked(&folder);
                paused.store(wish == Some(Wish::Pause), Ordering::Relaxed);
                if wish == Some(Wish::Stop) && !signals.stop_requested() {
                    signals.request_stop();
                }
            }
        };
        look();
        std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    look();
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        });
        Control { path, paused, over }
    }

    /// Whether the run shall make no further step for now.
    pub fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Nothing is left to be asked for; if it cannot be removed, the next run forgets it.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for what another thread does; a minute is more than any machine needs.
    fn comes_true(so: impl Fn() -> bool) -> bool {
        (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            so()
        })
    }

    #[test]
    fn words_reach_the_run_and_old_ones_do_not() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        ask(dir.path(), Wish::Stop)?;
        forget(dir.path());
        assert_eq!(asked(dir.path()), None, "what an earlier run was asked for is forgotten");
        let signals = Signals::default();
        ask(dir.path(), Wish::Pause)?;
        let control = Control::watch(dir.path(), &signals);
        assert!(control.paused(), "what was asked before it was watched counts at once");
        assert!(!signals.stop_requested());
        // By hand, as from a terminal; a word that is none changes nothing for good.
        std::fs::write(dir.path().join(CONTROL), "  go ")?;
        assert!(comes_true(|| !control.paused()));
        std::fs::write(dir.path().join(CONTROL), "stopp")?;
        assert_eq!(asked(dir.path()), None);
        ask(dir.path(), Wish::Stop)?;
        assert!(comes_true(|| signals.stop_requested()));
        drop(control);
        assert!(!dir.path().join(CONTROL).exists());
        Ok(())
    }
}
