//! A model ready to be asked: likelihoods of given answers, and answers of its own.

use paddock_core::backend::Backend;
use paddock_core::model::{Model, init};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::train::evaluate;
use paddock_datasets::encode::Example;
use paddock_datasets::forest::Limits;

use super::progress::Progress;
use crate::generate::Answer;
use crate::group::Group;
use crate::open::{Machine, Opened, backend};
use crate::train::capacity::together;
use crate::train::session::batches;

/// Examples looked at together: enough to share beginnings, few enough to hold and to show progress.
const CHUNK: usize = 256;

/// What is computed with.
#[derive(Clone, Debug)]
pub struct Device {
    /// The back-end.
    pub machine: Machine,
    /// Tokens in memory at once.
    pub micro_batch_tokens: u64,
}

/// Likelihood of one example's trained tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Σ of the token losses.
    pub nll: f64,
    /// How many tokens.
    pub tokens: usize,
}

/// A model with its memory.
pub struct Engine<'a> {
    b: Box<dyn Backend + 'a>,
    model: Model,
    plan: Plan,
    opened: &'a Opened,
    limits: Limits,
}

impl<'a> Engine<'a> {
    /// Memory for examples of up to `longest` tokens and answers of up to `new_tokens` (0: none) tokens.
    pub fn new(
        opened: &'a Opened,
        device: &Device,
        longest: u64,
        new_tokens: u64,
    ) -> anyhow::Result<Engine<'a>> {
        let config = &opened.folder.config;
        let longest = longest.max(2);
        let most = u64::from(config.max_seq_len).max(longest);
        let positions = (longest + new_tokens).min(most);
        let tokens = device.micro_batch_tokens.max(positions);
        let rows = if new_tokens > 0 { together(config, positions) } else { 0 };
        let capacity = Capacity {
            tokens,
            kept: tokens,
            entries: 2 * tokens,
            positions,
            cache_rows: rows * positions,
            logit_rows: rows,
        };
        let mut b = backend(&device.machine, opened.weights()?)?;
        let model = Model::new(config.clone(), opened.method())?;
        let plan = Plan::new(&model, capacity, Recompute::Nothing, false, &*b);
        b.reserve(&plan.sizes)?;
        init::upload_rope(&mut *b, &model, &plan, 0)?;
        opened.load_adapter(&mut *b, &model)?;
        let limits = Limits { entries: 2 * tokens as usize, ..Limits::tokens(tokens as usize) };
        Ok(Engine { b, model, plan, opened, limits })
    }

    /// Bytes that the plan reserves.
    pub fn planned_bytes(&self) -> u64 {
        self.plan.sizes.total_bytes(&*self.b)
    }

    /// Likelihoods of the examples' trained tokens. Examples that begin alike share that part.
    pub fn likelihoods(
        &mut self,
        examples: &[Example],
        progress: &mut Progress,
    ) -> anyhow::Result<Vec<Likelihood>> {
        let likelihood = |e: &Example| Likelihood { nll: 0.0, tokens: e.trained_tokens() };
        let mut found: Vec<Likelihood> = examples.iter().map(likelihood).collect();
        for (chunk, base) in examples.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            let chunk: Vec<&Example> = chunk.iter().collect();
            for (micro, batch) in batches(&chunk, &self.limits, &self.model.config)? {
                let result = evaluate(&mut *self.b, &self.model, &self.plan, &batch)?;
                for (&x, &row) in result.nll.iter().zip(&micro.entry_rows) {
                    found[base + row].nll += f64::from(x);
                }
                progress.step(micro.rows.len())?;
            }
        }
        if let Some(bad) = found.iter().position(|l| !l.nll.is_finite()) {
            anyhow::bail!(
                "row {}: the model's output holds no finite number; its weights are damaged",
                examples[bad].row
            );
        }
        Ok(found)
    }

    /// The likeliest answers to prompts of tokens, token by token.
    pub fn answers(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: u64,
        progress: &mut Progress,
    ) -> anyhow::Result<Vec<Answer>> {
        let mut group = Group {
            b: &mut *self.b,
            model: &self.model,
            plan: &self.plan,
            tokenizer: &self.opened.tokenizer,
            max_new_tokens,
        };
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let (mut done, mut stopped) = (0, Ok(()));
        let answers = group.answers(&prompts, &mut |finished| {
            stopped = progress.step(finished - done);
            done = finished;
            stopped.is_ok()
        })?;
        stopped?;
        answers.ok_or_else(|| super::progress::Interrupted.into())
    }
}
