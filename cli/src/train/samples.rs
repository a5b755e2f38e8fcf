//! A few held-out prompts, answered by the model before and after training.

use paddock_core::decode::Sampler;
use paddock_core::model::Model;

use super::session::Session;
use crate::generate::{Generation, Speaker};
use crate::run::events::Sample;

/// A prompt and the answer in the data, both as text and the prompt as tokens.
#[derive(Clone, Debug)]
pub struct Prompt {
    tokens: Vec<u32>,
    text: String,
    wanted: String,
}

impl Prompt {
    /// The prompt as text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The prompts of a run: the first validation rows, spread evenly.
pub fn prompts(session: &Session<'_>) -> anyhow::Result<Vec<Prompt>> {
    let (rows, wanted) = (&session.setup.validation, session.setup.config.samples as usize);
    let count = wanted.min(rows.len());
    let tokenizer = &session.setup.opened.tokenizer;
    (0..count)
        .map(|i| {
            let row = rows.get(i * rows.len() / count)?;
            let first = row.trained.iter().position(|&t| t).unwrap_or(row.tokens.len());
            // The first answer only: later turns are not asked for.
            let end = first + row.trained[first..].iter().take_while(|&&t| t).count();
            Ok(Prompt {
                tokens: row.tokens[..first].to_vec(),
                text: tokenizer.decode(&row.tokens[..first], true)?,
                wanted: tokenizer.decode(&row.tokens[first..end], true)?,
            })
        })
        .collect()
}

/// Greedy answers to the prompts; `base` without the adapter.
pub fn answers(
    session: &mut Session<'_>,
    prompts: &[Prompt],
    base: bool,
    go_on: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<String>> {
    let plain: Option<Model> = base.then(|| session.model.base());
    let settings = Generation {
        max_new_tokens: session.setup.config.sample_tokens as u32,
        sampler: Sampler::default(),
        seed: session.setup.config.seed,
    };
    let mut answers = Vec::new();
    for prompt in prompts {
        if !go_on() {
            break;
        }
        let mut speaker = Speaker {
            b: &mut *session.b,
            model: plain.as_ref().unwrap_or(&session.model),
            plan: &session.plan,
            tokenizer: &session.setup.opened.tokenizer,
        };
        let fits = (prompt.tokens.len() as u64) < session.plan.capacity.positions;
        let text = if prompt.tokens.is_empty() || !fits {
            String::new()
        } else {
            speaker.answer(&prompt.tokens, &settings, &mut |_| true)?.text
        };
        answers.push(text);
    }
    Ok(answers)
}

/// Prompts with both answers, for events and samples.jsonl.
pub fn pair(step: u64, prompts: &[Prompt], base: &[String], tuned: &[String]) -> Vec<Sample> {
    prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| Sample {
            step,
            prompt: prompt.text.clone(),
            reference: Some(prompt.wanted.clone()),
            base: base.get(i).cloned(),
            tuned: tuned.get(i).cloned(),
        })
        .collect()
}
