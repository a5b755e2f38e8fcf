//! Following a run through its files, on a thread: its event stream where this app started it, its metrics
//! where core-cli did.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use eframe::egui::Context;
use paddock_cli::machine::process_bytes;
use paddock_cli::run::events::{Event, Parsed};
use paddock_cli::run::lock::holder;
use paddock_cli::run::metrics::{self, Line};
use paddock_cli::storage::RealStorage;

use crate::engine::Trail;

/// Between two looks at a run's files.
const LOOK_EVERY: Duration = Duration::from_millis(120);
/// Looks between two looks at the memory of its process.
const MEMORY_EVERY: u32 = 8;

/// What a follower says.
#[derive(Debug)]
pub enum News {
    /// Things that happened.
    Events(Vec<Event>),
    /// Bytes of memory that its process uses now.
    Memory(u64),
    /// The process has gone without a last event; what it said.
    Gone(String),
}

/// The window's end of a thread that follows a run.
#[derive(Debug)]
pub struct Follower {
    news: Receiver<News>,
    stop: Arc<AtomicBool>,
}

impl Follower {
    /// What has come in since the last call.
    pub fn news(&self) -> Vec<News> {
        self.news.try_iter().collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Follows an event file from its beginning. `child` says whether the process lives, where this app started
/// it; otherwise the lock of the run's folder does.
pub fn follow(ctx: &Context, trail: &Trail, child: Option<Arc<AtomicBool>>) -> Follower {
    let (send, news) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let (ctx, trail, stopped) = (ctx.clone(), trail.clone(), Arc::clone(&stop));
    std::thread::spawn(move || {
        let mut tail = Tail::new(&trail.events);
        let mut looks = 0u32;
        while !stopped.load(Ordering::Relaxed) {
            // Asked first: what a process wrote before its end is read below.
            let alive = match &child {
                Some(alive) => alive.load(Ordering::Relaxed),
                None => holder(&trail.out).is_some(),
            };
            let events = tail.events();
            let over = events.iter().any(|event| matches!(event, Event::Done(_) | Event::Error(_)));
            if !events.is_empty() {
                tell(&ctx, &send, News::Events(events));
            }
            if over {
                return;
            }
            if !alive {
                let said = std::fs::read_to_string(&trail.log).unwrap_or_default();
                tell(&ctx, &send, News::Gone(said));
                return;
            }
            looks += 1;
            if looks.is_multiple_of(MEMORY_EVERY)
                && let Some(holder) = holder(&trail.out)
            {
                tell(&ctx, &send, News::Memory(process_bytes(holder.pid)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    });
    Follower { news, stop }
}

/// Watches a run of core-cli that has no event file here: its metrics tell, from the line after those `known`.
pub fn watch(ctx: &Context, out: &Path, known: usize) -> Follower {
    let (send, news) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let (ctx, out, stopped) = (ctx.clone(), out.to_path_buf(), Arc::clone(&stop));
    std::thread::spawn(move || {
        let mut known = known;
        let mut rewinds = rewinds_in(&metrics_of(&out)[..]).take_while(|at| *at < known).count();
        while !stopped.load(Ordering::Relaxed) {
            let alive = holder(&out).is_some();
            let lines = metrics_of(&out);
            // A run that went back has cut its file off there.
            if let Some(at) = rewinds_in(&lines).nth(rewinds) {
                known = at;
            }
            rewinds = rewinds_in(&lines).count();
            let fresh: Vec<Event> = lines.into_iter().skip(known).map(event_of).collect();
            if !fresh.is_empty() {
                known += fresh.len();
                tell(&ctx, &send, News::Events(fresh));
            }
            if !alive {
                tell(&ctx, &send, News::Gone(String::new()));
                return;
            }
            std::thread::sleep(8 * LOOK_EVERY);
        }
    });
    Follower { news, stop }
}

fn metrics_of(out: &Path) -> Vec<Line> {
    metrics::read(&RealStorage, &out.join("metrics.jsonl")).map(|m| m.lines).unwrap_or_default()
}

/// The places of the lines that say that the run went back.
fn rewinds_in(lines: &[Line]) -> impl Iterator<Item = usize> + '_ {
    let places = lines.iter().enumerate();
    places.filter(|(_, line)| matches!(line, Line::Rewind(_))).map(|(at, _)| at)
}

fn event_of(line: Line) -> Event {
    match line {
        Line::Step(step) => Event::Step(step),
        Line::Eval(eval) => Event::Eval(eval),
        Line::Rewind(rewind) => Event::Rewind(rewind),
    }
}

fn tell(ctx: &Context, send: &Sender<News>, news: News) {
    // Nobody listens any more once another run was opened.
    let _ = send.send(news);
    ctx.request_repaint();
}

/// The end of a file that grows, line by line.
struct Tail {
    path: PathBuf,
    at: u64,
    /// Bytes after the last whole line: the end of a read may cut a letter in two.
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: &Path) -> Tail {
        Tail { path: path.to_path_buf(), at: 0, rest: Vec::new() }
    }

    /// Events since the last call. A line without its end waits; one that is no event is passed over.
    fn events(&mut self) -> Vec<Event> {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        self.at += text.len() as u64;
        self.rest.append(&mut text);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let whole = String::from_utf8_lossy(&whole);
        let parsed = whole.lines().filter_map(|line| match Event::parse(line) {
            Ok(Parsed::Event(event)) => Some(*event),
            _ => None,
        });
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_letter_cut_in_two_is_read_whole() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("run.events.jsonl");
        let line = "{\"v\":1,\"kind\":\"warning\",\"message\":\"Wärme\"}\n".as_bytes();
        let middle =
            line.iter().position(|byte| !byte.is_ascii()).expect("a letter of two bytes") + 1;
        let mut file = File::create(&path)?;
        let mut tail = Tail::new(&path);
        file.write_all(&line[..middle])?;
        assert!(tail.events().is_empty());
        file.write_all(&line[middle..])?;
        let events = tail.events();
        let [Event::Warning(warning)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(warning.message, "Wärme");
        Ok(())
    }
}
