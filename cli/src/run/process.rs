//! A run's process as its starter sees it: apart from the starter's terminal, and stopped on request.

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
