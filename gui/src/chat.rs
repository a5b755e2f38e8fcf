//! Talking with one or two models. Each is loaded and asked on a thread of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use eframe::egui::Context;
use paddock_cli::generate::{Generation, Said, Sampler, Voice, conversation_template};
use paddock_cli::open::{Machine, Opened};
use paddock_cli::run::overview::Tuned;
use paddock_datasets::encode::prompt_tokens;
use paddock_datasets::template::Template;

use crate::task::sentence;

/// One question with what was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// What was asked.
    pub question: String,
    /// Further text for the answer, if there was any.
    pub input: String,
    /// What has been answered so far.
    pub answer: String,
    /// The answer's tokens with their probabilities.
    pub said: Vec<Said>,
    /// Why the answer ended; empty while it grows.
    pub ended: String,
}

/// How new words are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Most new tokens.
    pub max_new_tokens: u32,
    /// 0: always the likeliest.
    pub temperature: f32,
    /// Among the likeliest of together this probability.
    pub top_p: f32,
    /// Above 1: repeat less.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { max_new_tokens: 160, temperature: 0.0, top_p: 0.9, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    fn generation(self, seed: u64) -> Generation {
        let sampler = Sampler {
            temperature: self.temperature,
            top_k: 0,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
        };
        Generation { max_new_tokens: self.max_new_tokens, sampler, seed }
    }
}

/// What a speaker's thread and the window share.
#[derive(Debug, Default)]
struct Shared {
    turns: Mutex<Vec<Turn>>,
    state: Mutex<State>,
    stop: AtomicBool,
}

/// How a speaker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The model is being read.
    #[default]
    Loading,
    /// It waits for a question; the name of its template.
    Ready(String),
    /// It answers; the name of its template.
    Speaking(String),
    /// It cannot speak: why.
    Failed(String),
}

struct Question {
    question: String,
    input: String,
    sampling: Sampling,
    seed: u64,
}

/// A model that answers.
#[derive(Debug)]
pub struct Talker {
    /// What it is called on the screen.
    pub title: String,
    shared: Arc<Shared>,
    ask: Sender<Question>,
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Talker {
    /// Loads a model on a thread. `template_from` is the adapter or model folder whose template is used.
    pub fn load(
        ctx: &Context,
        title: &str,
        model: Tuned,
        template_from: Option<PathBuf>,
        machine: Machine,
    ) -> Talker {
        let shared = Arc::new(Shared::default());
        let (ask, questions) = channel();
        std::thread::spawn({
            let (shared, ctx) = (Arc::clone(&shared), ctx.clone());
            move || {
                if let Err(error) =
                    speak(&model, template_from, &machine, &questions, &shared, &ctx)
                {
                    shared.set(State::Failed(sentence(&error)));
                }
                ctx.request_repaint();
            }
        });
        Talker { title: title.to_string(), shared, ask }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at what was said; it stays as it is meanwhile.
    pub fn look<R>(&self, at: impl FnOnce(&[Turn]) -> R) -> R {
        at(&self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it answers now.
    pub fn speaking(&self) -> bool {
        matches!(self.state(), State::Speaking(_))
    }

    /// Asks; the answer grows in what [`Talker::look`] shows.
    pub fn ask(&self, question: &str, input: &str, sampling: Sampling, seed: u64) {
        self.shared.stop.store(false, Ordering::Relaxed);
        // A thread that failed says so in its state.
        let _ = self.ask.send(Question {
            question: question.to_string(),
            input: input.to_string(),
            sampling,
            seed,
        });
    }

    /// Ends the answer that grows.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Forgets what was said.
    pub fn clear(&self) {
        self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn last(&self, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.turns.lock().unwrap_or_else(PoisonError::into_inner).last_mut() {
            change(turn);
        }
    }
}

fn speak(
    tuned: &Tuned,
    template_from: Option<PathBuf>,
    machine: &Machine,
    questions: &Receiver<Question>,
    shared: &Shared,
    ctx: &Context,
) -> anyhow::Result<()> {
    let opened = Opened::open(&tuned.model, tuned.adapter.as_deref())?;
    let template = conversation_template(&opened, template_from.as_deref(), None)?;
    let mut voice = Voice::new(&opened, machine, None)?;
    shared.set(State::Ready(template.name.clone()));
    ctx.request_repaint();
    while let Ok(question) = questions.recv() {
        shared.set(State::Speaking(template.name.clone()));
        let turn = Turn {
            question: question.question.clone(),
            input: question.input.clone(),
            ..Turn::default()
        };
        shared.turns.lock().unwrap_or_else(PoisonError::into_inner).push(turn);
        let ended = answer(&mut voice, &opened, &template, &question, shared, ctx);
        let ended = ended.unwrap_or_else(|error| sentence(&error));
        shared.last(|turn| turn.ended = ended);
        shared.set(State::Ready(template.name.clone()));
        ctx.request_repaint();
    }
    Ok(())
}

/// Answers one question; says in words why the answer ended.
fn answer(
    voice: &mut Voice<'_>,
    opened: &Opened,
    template: &Template,
    question: &Question,
    shared: &Shared,
    ctx: &Context,
) -> anyhow::Result<String> {
    use paddock_cli::generate::Stop;
    let rendered = template.render_question(question.question.trim(), question.input.trim())?;
    let prompt = prompt_tokens(&opened.tokenizer, &rendered)?;
    let generation = question.sampling.generation(question.seed);
    let mut seen = |said: Said| shared.last(|turn| turn.said.push(said));
    let answer = voice.answer_seen(&prompt, &generation, &mut seen, &mut |piece| {
        shared.last(|turn| turn.answer.push_str(piece));
        ctx.request_repaint();
        !shared.stop.load(Ordering::Relaxed)
    })?;
    Ok(match answer.stop {
        Stop::EndToken => "It ended the answer by itself.".to_string(),
        Stop::Length => "Cut at the most words allowed.".to_string(),
        Stop::Context => "The model cannot read longer texts.".to_string(),
        Stop::Interrupted => "Stopped.".to_string(),
    })
}

/// The state of the chat screen.
#[derive(Debug, Default)]
pub struct Chat {
    /// The run whose model talks.
    pub run: PathBuf,
    /// The models that talk, the tuned one first.
    pub talkers: Vec<Talker>,
    /// The base model beside it.
    pub compare: bool,
    /// What is being typed.
    pub question: String,
    /// Further text for the answer.
    pub input: String,
    /// How words are chosen.
    pub sampling: Sampling,
    /// Whether each word shows how sure the model was of it.
    pub sure: bool,
    /// Counts questions: each has its own seed.
    pub asked: u64,
}

impl Chat {
    /// Talks with the result of a run; the base model is read when it is compared with.
    pub fn open(
        &mut self,
        ctx: &Context,
        run: PathBuf,
        tuned: &Tuned,
        base: Option<&str>,
        machine: &Machine,
    ) {
        let template = tuned.adapter.clone().unwrap_or_else(|| PathBuf::from(&tuned.model));
        if self.run != run || self.talkers.is_empty() {
            let talker = Talker::load(
                ctx,
                "Tuned model",
                tuned.clone(),
                Some(template.clone()),
                machine.clone(),
            );
            let (compare, sampling, sure) = (self.compare, self.sampling, self.sure);
            *self = Chat { run, talkers: vec![talker], compare, sampling, sure, ..Chat::default() };
        }
        if let (true, 1, Some(base)) = (self.compare, self.talkers.len(), base) {
            let base = Tuned { model: base.to_string(), adapter: None };
            self.talkers.push(Talker::load(
                ctx,
                "Base model",
                base,
                Some(template),
                machine.clone(),
            ));
        }
    }

    /// Those that are asked.
    pub fn shown(&self) -> &[Talker] {
        let count = if self.compare { self.talkers.len() } else { 1 };
        &self.talkers[..count.min(self.talkers.len())]
    }

    /// Asks all that are shown.
    pub fn ask(&mut self) {
        let question = std::mem::take(&mut self.question);
        self.asked += 1;
        for talker in self.shown() {
            talker.ask(&question, &self.input, self.sampling, self.asked);
        }
    }

    /// What is missing before a question can be sent, in words.
    pub fn missing(&self) -> Option<String> {
        for talker in self.shown() {
            match talker.state() {
                State::Loading => return Some("The model is being read.".to_string()),
                State::Speaking(_) => return Some("An answer is on its way.".to_string()),
                State::Failed(why) => return Some(why),
                State::Ready(_) => {}
            }
        }
        if self.talkers.is_empty() {
            return Some("There is no tuned model yet.".to_string());
        }
        self.question.trim().is_empty().then(|| "Type a question first.".to_string())
    }
}
