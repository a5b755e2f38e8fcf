//! Classification by likelihood: which of the answers to choose from does the model find likeliest?

use paddock_datasets::encode::{Example, encode};
use paddock_datasets::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use super::calibration::softmax;
use super::engine::Likelihood;
use super::rows::Item;
use crate::error::bad_input;

/// What an answer's log-likelihood is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LengthNorm {
    /// Nothing: the sum over its tokens. Favours short answers.
    #[default]
    None,
    /// The number of its tokens.
    Token,
    /// The number of its bytes: the same for every tokenizer.
    Byte,
}

impl LengthNorm {
    /// In words, for reports.
    pub fn words(self) -> &'static str {
        match self {
            LengthNorm::None => "summed over the answer's tokens, not normalised by length",
            LengthNorm::Token => "mean of the answer's tokens",
            LengthNorm::Byte => "sum over the answer's tokens, divided by its bytes",
        }
    }
}

/// The items' choices as examples.
pub struct Ranking {
    /// All choices of the first item, then those of the second, and so on.
    pub examples: Vec<Example>,
    /// The end token counts, because one choice begins with another.
    pub end_counts: bool,
}

/// What the model thinks of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The likeliest choice.
    pub best: usize,
    /// Probability of each choice, as if one of them had to be true.
    pub probabilities: Vec<f64>,
}

/// Makes an example of each choice: the item's prompt, then the choice. The end token after it does not count,
/// unless one choice of some item begins with another: then it counts for all, or the shorter one could not
/// lose.
///
/// # Errors
/// If a choice leaves no token of its own, or choices begin with one another and the model has no end token,
/// or a prompt with its choice is above `limit` tokens.
pub fn ranking(tokenizer: &Tokenizer, items: &[Item], limit: usize) -> anyhow::Result<Ranking> {
    let mut examples = Vec::new();
    let mut end_counts = false;
    for item in items {
        let from = examples.len();
        for choice in &item.choices {
            examples.push(example(tokenizer, item, choice, limit)?);
        }
        end_counts |= begins_with_another(tokenizer, &examples[from..]);
    }
    if !end_counts {
        examples.iter_mut().for_each(|e| drop_end(tokenizer, e));
    } else if tokenizer.eos().is_none() {
        return Err(bad_input(
            "one of the answers begins with another, and this model has no end token to tell them apart by \
             likelihood; use --classify generate, or other words for the answers",
        ));
    }
    if let Some(bad) = examples.iter().position(|e| e.trained_tokens() == 0) {
        return Err(bad_input(format!(
            "row {}: an answer to choose from leaves no token to judge by; none may be empty",
            examples[bad].row
        )));
    }
    Ok(Ranking { examples, end_counts })
}

fn example(
    tokenizer: &Tokenizer,
    item: &Item,
    choice: &str,
    limit: usize,
) -> anyhow::Result<Example> {
    let mut whole = item.prompt.clone();
    whole.answer(choice);
    let encoding = encode(tokenizer, &whole)?;
    if encoding.tokens.len() > limit {
        return Err(bad_input(format!(
            "row {}: prompt and answer have {} tokens, this model takes {limit}; leave long rows out or \
             shorten them",
            item.row,
            encoding.tokens.len()
        )));
    }
    let (tokens, trained) = (encoding.tokens, encoding.trained);
    Ok(Example { tokens, trained, row: item.row, template: 0, cut: false })
}

fn without_end<'e>(tokenizer: &Tokenizer, example: &'e Example) -> &'e [u32] {
    match example.tokens.split_last() {
        Some((last, rest)) if tokenizer.stops().contains(last) => rest,
        _ => &example.tokens,
    }
}

fn begins_with_another(tokenizer: &Tokenizer, choices: &[Example]) -> bool {
    let texts: Vec<&[u32]> = choices.iter().map(|e| without_end(tokenizer, e)).collect();
    texts
        .iter()
        .enumerate()
        .any(|(i, a)| texts.iter().enumerate().any(|(j, b)| i != j && b.starts_with(a)))
}

fn drop_end(tokenizer: &Tokenizer, example: &mut Example) {
    let len = without_end(tokenizer, example).len();
    example.trained[len..].iter_mut().for_each(|t| *t = false);
}

/// The choices of each item from the likelihoods of [`Ranking::examples`].
pub fn rank(items: &[Item], found: &[Likelihood], norm: LengthNorm) -> Vec<Ranked> {
    let mut left = found;
    let mut ranked = Vec::with_capacity(items.len());
    for item in items {
        let (own, rest) = left.split_at(item.choices.len());
        left = rest;
        let scores: Vec<f64> = own
            .iter()
            .zip(&item.choices)
            .map(|(likelihood, choice)| {
                let length = match norm {
                    LengthNorm::None => 1,
                    LengthNorm::Token => likelihood.tokens,
                    LengthNorm::Byte => choice.len(),
                };
                -likelihood.nll / length.max(1) as f64
            })
            .collect();
        // The first of equals: as good as any, and the same each time.
        let best = (0..scores.len()).fold(0, |b, i| if scores[i] > scores[b] { i } else { b });
        ranked.push(Ranked { best, probabilities: softmax(&scores) });
    }
    ranked
}
