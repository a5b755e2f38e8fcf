//! Worked examples before each question.

use paddock_datasets::encode::encode;
use paddock_datasets::fewshot::{Choice, Exemplar, Pool, fit_exemplars};
use paddock_datasets::template::Rendered;
use paddock_datasets::tokenizer::Tokenizer;

use super::rows::Item;

/// Between worked examples.
pub const SEPARATOR: &str = "\n\n";

/// Worked examples for prompts.
pub struct Shots {
    /// Where they come from.
    pub pool: Pool,
    /// How they are chosen.
    pub choice: Choice,
    /// How many.
    pub k: usize,
}

impl Shots {
    /// Of items with answers.
    pub fn new(items: &[Item], choice: Choice, k: usize, seed: u64) -> Shots {
        let exemplar = |item: &Item| Exemplar {
            text: format!("{}{}", item.prompt.text, item.wanted()),
            query: item.prompt.text.clone(),
            label: item.wanted().to_string(),
        };
        Shots { pool: Pool::new(items.iter().map(exemplar).collect(), seed), choice, k }
    }

    /// Puts worked examples before every prompt, as many as fit into `limit` tokens with the longest answer
    /// (`answer_tokens`). Returns how many were left out because they did not fit, over all items.
    pub fn put_before(
        &self,
        tokenizer: &Tokenizer,
        items: &mut [Item],
        limit: usize,
        answer_tokens: usize,
    ) -> anyhow::Result<usize> {
        let all = self.pool.exemplars();
        let mut left_out = 0;
        for item in items {
            let query = &item.prompt.text;
            let same = all.iter().position(|e| e.query == *query);
            let chosen = self.pool.choose(self.choice, self.k, item.row, query, same);
            let texts: Vec<&str> = chosen.iter().map(|&i| all[i].text.as_str()).collect();
            let room = limit.saturating_sub(answer_tokens);
            let (prompt, skipped) =
                fit_exemplars(tokenizer, &item.prompt, &texts, SEPARATOR, room)?;
            left_out += skipped;
            item.prompt = prompt;
        }
        Ok(left_out)
    }
}

/// Tokens of the longest answer among the items' choices, end token included.
pub fn longest_choice(tokenizer: &Tokenizer, items: &[Item]) -> anyhow::Result<usize> {
    let mut longest = 0;
    let mut seen: Vec<&str> = Vec::new();
    for choice in items.iter().flat_map(|item| &item.choices) {
        if seen.contains(&choice.as_str()) {
            continue;
        }
        if seen.len() < 256 {
            seen.push(choice);
        }
        let mut alone = Rendered::default();
        alone.answer(choice);
        longest = longest.max(encode(tokenizer, &alone)?.tokens.len());
    }
    Ok(longest + 2)
}
