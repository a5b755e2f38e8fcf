//! Answers from a model: one prompt at a time, token by token.

use std::path::Path;

use paddock_core::backend::Backend;
use paddock_core::decode::{Cache, Sampler, extend, sample};
use paddock_core::model::Model;
use paddock_core::model::init;
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;

use crate::error::bad_input;
use crate::open::{Machine, Opened, backend};
use crate::train::reader::{CHAT, chat_template, named_template};

/// Rows of a prompt that go through the model at once.
const PROMPT_ROWS: u64 = 512;

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Most new tokens.
    pub max_new_tokens: u32,
    /// How to choose each.
    pub sampler: Sampler,
    /// Seed of the choice.
    pub seed: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model said so.
    EndToken,
    /// `max_new_tokens` was reached.
    Length,
    /// The model's longest text was reached.
    Context,
    /// Whoever listened said so.
    Interrupted,
}

impl Stop {
    /// The word for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Stop::EndToken => "eos",
            Stop::Length => "length",
            Stop::Context => "context",
            Stop::Interrupted => "interrupted",
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its text, without special tokens.
    pub text: String,
    /// Its tokens; the end token is not among them.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
}

/// What an answer is made with.
pub struct Speaker<'a> {
    /// The machine.
    pub b: &'a mut dyn Backend,
    /// The model, with or without its adapter.
    pub model: &'a Model,
    /// Its memory.
    pub plan: &'a Plan,
    /// Text from tokens.
    pub tokenizer: &'a Tokenizer,
}

impl Speaker<'_> {
    /// Answers a prompt of tokens. `each` gets every piece of text as soon as it is whole, and may end
    /// the answer by returning false.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        settings: &Generation,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> anyhow::Result<Answer> {
        let limit = self.plan.capacity.positions.min(self.plan.capacity.cache_rows);
        let room = limit.saturating_sub(prompt.len() as u64);
        if prompt.is_empty() || room == 0 {
            return Err(bad_input(format!(
                "the prompt has {} tokens; this model takes 1 to {}",
                prompt.len(),
                limit.saturating_sub(1)
            )));
        }
        let mut cache = Cache::new(self.plan.capacity.cache_rows);
        let node = cache.add(None, limit)?;
        let random = Philox::new(settings.seed, Stream::SAMPLE);
        let mut decoder = self.tokenizer.stream_decoder(prompt, true);
        let (mut text, mut tokens) = (String::new(), Vec::new());
        let mut seen = prompt.to_vec();
        let mut next = prompt.to_vec();
        let stop = loop {
            if tokens.len() as u32 == settings.max_new_tokens {
                break Stop::Length;
            }
            if tokens.len() as u64 == room {
                break Stop::Context;
            }
            let mut logits =
                extend(self.b, self.model, self.plan, &mut cache, &[(node, &next)])?.remove(0);
            let index = tokens.len() as u64;
            let token = sample(&mut logits, &settings.sampler, &seen, &random, 0, index);
            let Some(token) = token else {
                anyhow::bail!("the model's output holds no finite number; its weights are damaged");
            };
            if self.tokenizer.stops().contains(&token) {
                break Stop::EndToken;
            }
            tokens.push(token);
            seen.push(token);
            next = vec![token];
            let piece = decoder.push(token)?;
            text.push_str(&piece);
            if !piece.is_empty() && !each(&piece) {
                break Stop::Interrupted;
            }
        };
        let rest = decoder.finish()?;
        if !rest.is_empty() {
            text.push_str(&rest);
            each(&rest);
        }
        Ok(Answer { text, tokens, stop })
    }
}

/// A model opened only to answer.
pub struct Voice<'a> {
    b: Box<dyn Backend + 'a>,
    model: Model,
    plan: Plan,
    opened: &'a Opened,
}

impl<'a> Voice<'a> {
    /// Room for texts of up to `longest` tokens (at most what the model allows).
    pub fn new(
        opened: &'a Opened,
        machine: &Machine,
        longest: Option<u64>,
    ) -> anyhow::Result<Voice<'a>> {
        let config = &opened.folder.config;
        let most = u64::from(config.max_seq_len);
        let positions = longest.unwrap_or(most).min(most).max(2);
        let capacity = Capacity {
            tokens: PROMPT_ROWS.min(positions),
            kept: 1,
            entries: 1,
            positions,
            cache_rows: positions,
            logit_rows: 1,
        };
        let mut b = backend(machine, opened.weights()?)?;
        let model = Model::new(config.clone(), opened.method())?;
        let plan = Plan::new(&model, capacity, Recompute::Nothing, false, &*b);
        b.reserve(&plan.sizes)?;
        init::upload_rope(&mut *b, &model, &plan, 0)?;
        opened.load_adapter(&mut *b, &model)?;
        Ok(Voice { b, model, plan, opened })
    }

    /// Answers a prompt of tokens.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        settings: &Generation,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> anyhow::Result<Answer> {
        let tokenizer = &self.opened.tokenizer;
        let mut speaker =
            Speaker { b: &mut *self.b, model: &self.model, plan: &self.plan, tokenizer };
        speaker.answer(prompt, settings, each)
    }
}

/// The template that an adapter or model folder was trained with, if it carries one.
fn template_beside(dir: &Path) -> Option<std::path::PathBuf> {
    Some(dir.join("template.json")).filter(|p| p.is_file())
}

/// The template for a conversation: the one named, the one that the adapter or the model carries, the
/// model's own chat template, or a word that there is none (nothing ever guesses).
pub fn conversation_template(
    opened: &Opened,
    adapter: Option<&Path>,
    name: Option<&str>,
) -> anyhow::Result<Template> {
    match name {
        Some(CHAT) => return chat_template(&opened.tokenizer, None),
        Some(name) => return named_template(name),
        None => {}
    }
    let places = [adapter, Some(opened.folder.path.as_path())];
    if let Some(path) = places.into_iter().flatten().find_map(template_beside) {
        return Ok(Template::load(&path)?);
    }
    if opened.tokenizer.chat_template().is_some() {
        return chat_template(&opened.tokenizer, None);
    }
    Err(bad_input(format!(
        "it is not known which template this model was trained with. Name it with --template ({}), or \
         give the prompt as it is with --raw.",
        Template::BUILT_IN.join(", ")
    )))
}
