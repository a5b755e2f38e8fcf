//! core-cli as a child process: short work that can be cancelled, and runs that outlive the window.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use paddock_cli::run::command::arguments;
use paddock_cli::run::folder::RUN_TOML;
use paddock_cli::run::lock::holder;

use crate::task::Pulse;

/// The word that makes this program behave as core-cli.
pub const AS_CLI: &str = "core-cli";
/// The same in a session of its own, for runs.
pub const AS_RUN: &str = "core-cli-run";

/// How often a child is asked whether it has ended.
const ASK_EVERY: Duration = Duration::from_millis(40);

/// Seconds by which the clocks of file system and process may differ.
const CLOCKS_DIFFER: u64 = 2;

/// Keys and values, as flags.
pub type Flags = Vec<(String, String)>;

/// Where the work is done.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The program that understands [`AS_CLI`]: this one.
    pub program: PathBuf,
    /// The folder of runs.
    pub runs: PathBuf,
    helpers: Helpers,
}

/// The processes of short work, which end with the window; runs are not among them.
#[derive(Clone, Debug, Default)]
struct Helpers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    closed: bool,
    begun: u64,
    children: Vec<(u64, Child)>,
}

impl Helpers {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all, and lets no other begin. Whoever waits for one takes note of its end.
    fn close(&self) {
        let mut kept = self.kept();
        kept.closed = true;
        for (_, child) in &mut kept.children {
            // One that is gone already needs no end.
            let _ = child.kill();
        }
    }

    /// Takes in the process that `start` begins, with its pipes.
    fn begin(&self, start: impl FnOnce() -> anyhow::Result<Child>) -> anyhow::Result<Helper> {
        let mut kept = self.kept();
        anyhow::ensure!(!kept.closed, "cancelled");
        let mut child = start()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        // Not the system's number, which it gives again once a process is gone.
        kept.begun += 1;
        let id = kept.begun;
        kept.children.push((id, child));
        Ok(Helper { all: self.clone(), id, out, err })
    }
}

/// One process of short work; it is ended and forgotten when this is dropped.
struct Helper {
    all: Helpers,
    id: u64,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Helper {
    /// How it ended, if it has.
    fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut kept = self.all.kept();
        let child = kept.children.iter_mut().find(|(id, _)| *id == self.id);
        Ok(child.context("cancelled")?.1.try_wait()?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let mut kept = self.all.kept();
        let Some(at) = kept.children.iter().position(|(id, _)| *id == self.id) else { return };
        let (_, mut child) = kept.children.swap_remove(at);
        let _ = child.kill();
        drop(kept);
        // Somebody has to take note of its end, or the system keeps its entry.
        let _ = child.wait();
    }
}

/// A run that was just started.
#[derive(Clone, Debug)]
pub struct Started {
    /// Its files.
    pub trail: Trail,
    /// Whether its process lives.
    pub alive: Arc<AtomicBool>,
}

/// The files that follow a run beside its folder, for this app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The run's folder.
    pub out: PathBuf,
    /// Its event stream.
    pub events: PathBuf,
    /// What it says besides.
    pub log: PathBuf,
}

impl Trail {
    /// The files of the run in `out`.
    pub fn of(out: &Path) -> Trail {
        let name = out.file_name().map(|name| name.to_string_lossy().to_string());
        let beside = out.parent().unwrap_or(out).join(".app");
        let file = |end: &str| beside.join(format!("{}.{end}", name.as_deref().unwrap_or("run")));
        Trail { out: out.to_path_buf(), events: file("events.jsonl"), log: file("log") }
    }

    /// Whether the events are those of a process that began at that second since 1970, and not those of an
    /// earlier one, after which core-cli went on.
    pub fn is_of(&self, since: u64) -> bool {
        // 0: when it began could not be read, as on Windows, where a file that is locked cannot be read.
        if since == 0 {
            return false;
        }
        let changed = std::fs::metadata(&self.events).and_then(|meta| meta.modified());
        let changed = changed.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        changed.is_some_and(|time| time.as_secs() + CLOCKS_DIFFER >= since)
    }
}

impl Engine {
    /// This program, with runs in PADDOCK_RUNS, or in a folder of the person's own.
    ///
    /// # Errors
    /// If the system does not say where this program is.
    pub fn here() -> anyhow::Result<Engine> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = var("HOME").or_else(|| var("USERPROFILE"));
        let own = || home.unwrap_or_else(|| PathBuf::from(".")).join("Paddock").join("runs");
        let program = std::env::current_exe().context("where is this program?")?;
        Ok(Engine::new(program, var("PADDOCK_RUNS").unwrap_or_else(own)))
    }

    /// A program that understands [`AS_CLI`], with a folder of runs.
    pub fn new(program: PathBuf, runs: PathBuf) -> Engine {
        Engine { program, runs, helpers: Helpers::default() }
    }

    /// Ends the processes of short work, and starts no other: the window closes. Runs live on.
    pub fn close(&self) {
        self.helpers.close();
    }

    /// A name under the runs' folder that is free: `stem`, `stem-2`, …
    pub fn free_name(&self, stem: &str) -> String {
        let free = |name: &str| {
            let trail = Trail::of(&self.runs.join(name));
            !trail.out.exists() && !trail.events.exists()
        };
        if free(stem) {
            return stem.to_string();
        }
        (2u32..).map(|n| format!("{stem}-{n}")).find(|name| free(name)).unwrap_or_default()
    }

    /// Starts a run, or goes on with one, in a process that lives on when the window closes.
    ///
    /// # Errors
    /// If the run is in use, or a new one would take the place of another: its files are not touched then.
    pub fn start_run(&self, out: &Path, flags: &Flags, resume: bool) -> anyhow::Result<Started> {
        let trail = Trail::of(out);
        refuse(&trail, resume)?;
        let folder = trail.events.parent().unwrap_or(&self.runs);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))
        };
        let mut command = Command::new(&self.program);
        command.arg(AS_RUN).args(arguments("train", flags)).args(["--events", "jsonl"]);
        if resume {
            command.arg("--resume");
        }
        command.stdin(Stdio::null());
        command.stdout(create(&trail.events)?).stderr(create(&trail.log)?);
        let mut child = command.spawn().with_context(|| {
            format!("the training process {} cannot be started", self.program.display())
        })?;
        let alive = Arc::new(AtomicBool::new(true));
        // Somebody has to take note of its end, or the system keeps its entry.
        std::thread::spawn({
            let alive = Arc::clone(&alive);
            move || {
                let _ = child.wait();
                alive.store(false, Ordering::Relaxed);
            }
        });
        Ok(Started { trail, alive })
    }

    /// Runs core-cli to its end and gives what it printed.
    ///
    /// # Errors
    /// What core-cli said, if it failed; that it was cancelled.
    pub fn ask(&self, list: &[String], pulse: &Pulse) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg(AS_CLI).args(list).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = || {
            let started = command.spawn();
            started.with_context(|| format!("{} cannot be started", self.program.display()))
        };
        let mut child = self.helpers.begin(start)?;
        let said = Arc::new(Mutex::new(String::new()));
        let (mut out, err) = (child.out.take(), child.err.take());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            out.as_mut().map(|out| out.read_to_string(&mut text));
            text
        });
        let listener = std::thread::spawn({
            let (said, pulse) = (Arc::clone(&said), pulse.clone());
            move || listen(err, &said, &pulse)
        });
        let status = loop {
            if pulse.cancelled() {
                anyhow::bail!("cancelled");
            }
            match child.ended()? {
                Some(status) => break status,
                None => std::thread::sleep(ASK_EVERY),
            }
        };
        let printed = reader.join().unwrap_or_default();
        let _ = listener.join();
        if status.success() {
            return Ok(printed);
        }
        let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        anyhow::bail!("{}", complaint(&said));
    }
}

/// Refuses a start that would take away the event file of another run, or of the same one in another window.
fn refuse(trail: &Trail, resume: bool) -> anyhow::Result<()> {
    if let Some(holder) = holder(&trail.out) {
        // 0: the system does not let its number be read.
        let by = match holder.pid {
            0 => "another process".to_string(),
            pid => format!("process {pid}"),
        };
        anyhow::bail!("the run is in use by {by}; open it from Home instead");
    }
    if !resume && (trail.out.join(RUN_TOML).exists() || trail.events.exists()) {
        let name = trail.out.file_name().unwrap_or_default().to_string_lossy();
        anyhow::bail!("a run named {name} was started before; choose another name");
    }
    Ok(())
}

fn listen(err: Option<impl Read>, said: &Mutex<String>, pulse: &Pulse) {
    let Some(err) = err else { return };
    for line in BufReader::new(err).lines().map_while(Result::ok) {
        pulse.note(line.clone());
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&line);
        said.push('\n');
    }
}

/// The error among what a program said, or its last words.
pub fn complaint(said: &str) -> String {
    if let Some((_, error)) = said.rsplit_once("error: ") {
        return error.trim().to_string();
    }
    let last: Vec<&str> = said.trim().lines().rev().take(3).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    if last.is_empty() {
        return "the process ended without a word".to_string();
    }
    last.join("\n")
}

/// Why a process ended that was not asked to, by what it said, if that is `known` and did not go to a terminal.
pub fn unasked(said: &str, known: bool) -> String {
    let system = "The system ended its process, perhaps for lack of memory.";
    match said {
        _ if !known => {
            "Why is not known here; a terminal in which it was started may say it.".to_string()
        }
        _ if said.contains("error: ") || said.contains("panicked at") => complaint(said),
        _ if said.trim().is_empty() => system.to_string(),
        _ => format!("{system} Its last words were: {}", complaint(said)),
    }
}
