//! Work on threads of its own: the window asks now and then how it goes, and never waits for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui;

/// What worker and window share.
#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    /// Bits of an f32 from 0 to 1; NaN where it is not known.
    share: AtomicU32,
    note: Mutex<String>,
}

/// The worker's end: tells how far it is, and hears of Cancel.
#[derive(Clone, Debug)]
pub struct Pulse {
    shared: Arc<Shared>,
    ctx: egui::Context,
}

impl Pulse {
    /// Whether the person pressed Cancel.
    pub fn cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// What is being done, in a few words.
    pub fn note(&self, text: impl Into<String>) {
        *self.shared.note.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
        self.ctx.request_repaint();
    }

    /// How much of it is done, from 0 to 1.
    pub fn share(&self, share: f32) {
        self.shared.share.store(share.to_bits(), Ordering::Relaxed);
        self.ctx.request_repaint();
    }
}

/// Work that goes on.
#[derive(Debug)]
pub struct Task<T> {
    result: Receiver<anyhow::Result<T>>,
    shared: Arc<Shared>,
    began: Instant,
}

impl<T: Send + 'static> Task<T> {
    /// Starts `work` on a thread of its own.
    pub fn spawn(
        ctx: &egui::Context,
        work: impl FnOnce(&Pulse) -> anyhow::Result<T> + Send + 'static,
    ) -> Task<T> {
        let shared = Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            share: AtomicU32::new(f32::NAN.to_bits()),
            note: Mutex::new(String::new()),
        });
        let pulse = Pulse { shared: Arc::clone(&shared), ctx: ctx.clone() };
        let (send, result) = channel();
        std::thread::spawn(move || {
            let done = work(&pulse);
            // Nobody listens any more once the task was dropped.
            let _ = send.send(done);
            pulse.ctx.request_repaint();
        });
        Task { result, shared, began: Instant::now() }
    }

    /// The result, once it is there.
    pub fn poll(&mut self) -> Option<anyhow::Result<T>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(anyhow::anyhow!("this work ended unexpectedly; please try it again")))
            }
        }
    }
}

impl<T> Task<T> {
    /// Asks the worker to stop.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// What is being done.
    pub fn note(&self) -> String {
        self.shared.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much of it is done, if that is known.
    pub fn share(&self) -> Option<f32> {
        let share = f32::from_bits(self.shared.share.load(Ordering::Relaxed));
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }

    /// How long it will still take, once that can be told.
    pub fn left(&self) -> Option<Duration> {
        let (share, gone) = (self.share()?, self.began.elapsed());
        let known = share > 0.02 && gone > Duration::from_secs(1);
        known.then(|| gone.mul_f32((1.0 - share) / share))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Work and what came of it.
#[derive(Debug, Default)]
pub enum Work<T> {
    /// Nothing was asked for.
    #[default]
    Idle,
    /// It goes on.
    Busy(Task<T>),
    /// It is done.
    Done(T),
    /// It could not be done: why, in words.
    Failed(String),
}

impl<T: Send + 'static> Work<T> {
    /// Starts work; what went on before is cancelled.
    pub fn start(
        &mut self,
        ctx: &egui::Context,
        work: impl FnOnce(&Pulse) -> anyhow::Result<T> + Send + 'static,
    ) {
        *self = Work::Busy(Task::spawn(ctx, work));
    }

    /// Takes over what the worker has finished; whether that happened just now.
    pub fn poll(&mut self) -> bool {
        let Work::Busy(task) = self else { return false };
        let Some(result) = task.poll() else { return false };
        *self = match result {
            Ok(done) => Work::Done(done),
            Err(error) => Work::Failed(sentence(&error)),
        };
        true
    }

    /// The result.
    pub fn done(&self) -> Option<&T> {
        match self {
            Work::Done(done) => Some(done),
            _ => None,
        }
    }

    /// Whether it goes on.
    pub fn busy(&self) -> bool {
        matches!(self, Work::Busy(_))
    }
}

/// An error as a person should read it, each cause once.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
