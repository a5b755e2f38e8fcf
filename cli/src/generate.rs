//! Answers from a model: one prompt at a time, token by token.

use std::path::Path;

use paddock_core::backend::Backend;
pub use paddock_core::decode::Sampler;
use paddock_core::decode::{Cache, extend, sample};
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

/// A token as it was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Text that became whole with it; empty while a character is not.
    pub text: String,
    /// Its probability among all tokens, before temperature and the like.
    pub probability: f32,
    /// The likeliest tokens at this place with their probabilities, the likeliest first.
    pub likeliest: Vec<(String, f32)>,
}

/// Tokens of [`Said::likeliest`].
const LIKELIEST: usize = 4;

/// Probability of one token among logits (V), and the likeliest ones.
fn chances(logits: &[f32], token: u32) -> (f32, Vec<(u32, f32)>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    let chance = |x: f32| (f64::from(x - most).exp() / sum) as f32;
    let mut first: Vec<(u32, f32)> = Vec::with_capacity(LIKELIEST + 1);
    for (id, &logit) in logits.iter().enumerate() {
        if first.len() == LIKELIEST && first.last().is_some_and(|(_, least)| logit <= *least) {
            continue;
        }
        let place = first.partition_point(|(_, other)| *other >= logit);
        first.insert(place, (id as u32, logit));
        first.truncate(LIKELIEST);
    }
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (chance(own), first.into_iter().map(|(id, logit)| (id, chance(logit))).collect())
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
        self.speak(prompt, settings, &mut None, each)
    }

    /// The same; `seen` hears of every token with its probability, where somebody listens.
    fn speak(
        &mut self,
        prompt: &[u32],
        settings: &Generation,
        seen_by: &mut Option<&mut dyn FnMut(Said)>,
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
            // Sampling changes the numbers.
            let before = seen_by.as_ref().map(|_| logits.clone());
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
            if let (Some(listen), Some(before)) = (seen_by.as_mut(), before) {
                let (probability, first) = chances(&before, token);
                let word = |id| self.tokenizer.token_text(id).unwrap_or_default();
                let likeliest = first.into_iter().map(|(id, p)| (word(id), p)).collect();
                listen(Said { text: piece.clone(), probability, likeliest });
            }
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
        self.speak(prompt, settings, &mut None, each)
    }

    /// The same; `seen_by` hears of every token with its probability.
    pub fn answer_seen(
        &mut self,
        prompt: &[u32],
        settings: &Generation,
        seen_by: &mut dyn FnMut(Said),
        each: &mut dyn FnMut(&str) -> bool,
    ) -> anyhow::Result<Answer> {
        self.speak(prompt, settings, &mut Some(seen_by), each)
    }

    fn speak(
        &mut self,
        prompt: &[u32],
        settings: &Generation,
        seen_by: &mut Option<&mut dyn FnMut(Said)>,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> anyhow::Result<Answer> {
        let tokenizer = &self.opened.tokenizer;
        let mut speaker =
            Speaker { b: &mut *self.b, model: &self.model, plan: &self.plan, tokenizer };
        speaker.speak(prompt, settings, seen_by, each)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_a_softmax_and_its_largest() {
        let logits = [1.0f32, 3.0, -2.0, 3.5, 0.0, 2.0];
        let (own, first) = chances(&logits, 1);
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        assert!((own - 3.0f32.exp() / sum).abs() < 1e-6);
        assert_eq!(first.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 1, 5, 0]);
        assert!((first[0].1 - 3.5f32.exp() / sum).abs() < 1e-6);
    }
}
