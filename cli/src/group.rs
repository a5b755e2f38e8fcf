//! Answers to many prompts, several at a time: each step of the model appends one token to every answer of
//! the group that has not ended.

use paddock_core::backend::Backend;
use paddock_core::decode::{Cache, NodeId, Sampler, extend, sample};
use paddock_core::model::Model;
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::Plan;
use paddock_datasets::tokenizer::Tokenizer;

use crate::generate::{Answer, Stop};

/// What answers are made with.
pub struct Group<'a> {
    /// The machine.
    pub b: &'a mut dyn Backend,
    /// The model, with or without its adapter.
    pub model: &'a Model,
    /// Its memory; `logit_rows` answers grow together.
    pub plan: &'a Plan,
    /// Text from tokens.
    pub tokenizer: &'a Tokenizer,
    /// Most new tokens of an answer.
    pub max_new_tokens: u64,
    /// 0 takes the likeliest token each time; more is more varied.
    pub temperature: f32,
    /// Seed of the choice.
    pub seed: u64,
}

/// One growing answer.
struct Growing {
    index: usize,
    node: NodeId,
    tokens: Vec<u32>,
    limit: u64,
}

impl Group<'_> {
    /// The answers to prompts of tokens, in their order. A prompt that does not fit gets an empty
    /// answer with [`Stop::Context`]. `go_on` is asked after each token, and after each group, with the number of
    /// answers in finished groups; `None` if it said no.
    pub fn answers(
        &mut self,
        prompts: &[&[u32]],
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> anyhow::Result<Option<Vec<Answer>>> {
        let empty = Answer { text: String::new(), tokens: Vec::new(), stop: Stop::Context };
        let mut answers = vec![empty; prompts.len()];
        let mut from = 0;
        while from < prompts.len() {
            let to = self.group_end(prompts, from);
            let whole = self.group(prompts, from..to, &mut answers, &mut || go_on(from))?;
            from = to;
            if !whole || !go_on(from) {
                return Ok(None);
            }
        }
        Ok(Some(answers))
    }

    /// Cache rows that an answer to this prompt may fill.
    fn room(&self, prompt: &[u32]) -> u64 {
        (prompt.len() as u64 + self.max_new_tokens).min(self.plan.capacity.positions)
    }

    fn group_end(&self, prompts: &[&[u32]], from: usize) -> usize {
        let (mut to, mut rows) = (from, 0);
        // At least one goes on, or the groups would never come to an end.
        let most = self.plan.capacity.logit_rows.max(1);
        while to < prompts.len() && ((to - from) as u64) < most {
            rows += self.room(prompts[to]);
            if rows > self.plan.capacity.cache_rows && to > from {
                break;
            }
            to += 1;
        }
        to
    }

    /// Answers the prompts of a range together; whether `go_on` let it come to its end.
    fn group(
        &mut self,
        prompts: &[&[u32]],
        range: std::ops::Range<usize>,
        answers: &mut [Answer],
        go_on: &mut dyn FnMut() -> bool,
    ) -> anyhow::Result<bool> {
        let mut cache = Cache::new(self.plan.capacity.cache_rows);
        let mut growing = Vec::new();
        let mut next: Vec<Vec<f32>> = Vec::new();
        for index in range {
            if !go_on() {
                return Ok(false);
            }
            let room = self.room(prompts[index]);
            let limit = room.saturating_sub(prompts[index].len() as u64);
            if prompts[index].is_empty() || limit == 0 || room > self.plan.capacity.cache_rows {
                continue;
            }
            let node = cache.add(None, room)?;
            let one = [(node, prompts[index])];
            next.extend(extend(self.b, self.model, self.plan, &mut cache, &one)?);
            growing.push(Growing { index, node, tokens: Vec::new(), limit });
        }
        while !growing.is_empty() {
            if !go_on() {
                return Ok(false);
            }
            growing = self.grow(growing, next, answers)?;
            let new: Vec<(NodeId, &[u32])> =
                growing.iter().map(|g| (g.node, &g.tokens[g.tokens.len() - 1..])).collect();
            next = match new.is_empty() {
                true => Vec::new(),
                false => extend(self.b, self.model, self.plan, &mut cache, &new)?,
            };
        }
        Ok(true)
    }

    /// Appends a token to each; ended ones are written to `answers` and left out.
    fn grow(
        &self,
        growing: Vec<Growing>,
        logits: Vec<Vec<f32>>,
        answers: &mut [Answer],
    ) -> anyhow::Result<Vec<Growing>> {
        let sampler = Sampler { temperature: self.temperature, ..Sampler::default() };
        let random = Philox::new(self.seed, Stream::SAMPLE);
        let mut left = Vec::with_capacity(growing.len());
        for (mut g, mut row) in growing.into_iter().zip(logits) {
            let index = g.tokens.len() as u64;
            let Some(token) = sample(&mut row, &sampler, &[], &random, g.index as u32, index)
            else {
                anyhow::bail!("the model's output holds no finite number; its weights are damaged");
            };
            let ended = self.tokenizer.stops().contains(&token);
            if !ended {
                g.tokens.push(token);
            }
            if ended || g.tokens.len() as u64 == g.limit {
                let stop = if ended { Stop::EndToken } else { Stop::Length };
                let text = self.tokenizer.decode(&g.tokens, true)?;
                answers[g.index] = Answer { text, tokens: g.tokens, stop };
            } else {
                left.push(g);
            }
        }
        Ok(left)
    }
}
