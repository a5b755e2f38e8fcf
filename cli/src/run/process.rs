//! A run's process as its starter sees it: apart from the starter's terminal, stopped on request, and with an
//! ending in words even where the program itself is wrong.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Does the work of a process. A panic, on whatever thread of it, is a mistake of the program; Rust has said where
/// it was when this says what it means for the person.
pub fn orderly(work: impl FnOnce() -> ExitCode) -> ExitCode {
    // Nothing is used after it that a panic could have left half done.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let words = "error: Paddock made a mistake, which is told above; please report it. What was saved is safe: \
                     --resume goes on from the last checkpoint.";
        let _ = writeln!(std::io::stderr(), "{words}");
        ExitCode::FAILURE
    })
}

/// Makes this process the leader of a session of its own, so that it lives on when the program that started
/// it, or the terminal of that program, goes away.
pub fn own_session() {
    #[cfg(unix)]
    // It fails only for a process that leads a group already, and then there is nothing to do.
    let _ = rustix::process::setsid();
}

/// Asks the process of a run to save and stop, as Ctrl-C does.
///
/// # Errors
/// If there is no such process, or the system has no such request (Windows).
pub fn interrupt(pid: u32) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| anyhow::anyhow!("there is no process of that number"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        Ok(())
    }
    #[cfg(not(unix))]
    anyhow::bail!(
        "process {pid} cannot be asked to stop on this system; end it in the task manager"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f56_a_panic_on_any_thread_ends_in_an_exit_code() {
        let code = |work: fn() -> ExitCode| format!("{:?}", orderly(work));
        let failed = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(code(|| ExitCode::from(2)), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(|| panic!("on this thread, for a test")), failed);
        let elsewhere = || {
            let paint = || -> ExitCode { panic!("on another thread, for a test") };
            std::thread::scope(|s| s.spawn(paint).join()).expect("what a pool does: it panics too")
        };
        assert_eq!(code(elsewhere), failed);
    }
}
