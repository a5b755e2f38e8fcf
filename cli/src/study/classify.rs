//! Labels from a model: the likeliest of the answers, perhaps after worked examples. All rows get the same
//! examples, so that the prompt's beginning is computed once.

use paddock_datasets::encode::prompt_tokens;
use paddock_datasets::fewshot::with_exemplars;
use paddock_datasets::record::Record;
use paddock_datasets::template::Template;

use super::rows::Row;
use crate::error::bad_input;
use crate::eval::engine::{Device, Engine};
use crate::eval::progress::Progress;
use crate::eval::rank::{LengthNorm, rank, ranking};
use crate::eval::rows::{Item, render_records};
use crate::eval::shots::{SEPARATOR, longest_choice};
use crate::open::Opened;

/// Whoever asks a model for labels.
pub struct Asker<'a> {
    /// The model, with or without an adapter.
    pub opened: &'a Opened,
    /// How a row becomes a prompt.
    pub template: &'a Template,
    /// The answers.
    pub labels: &'a [String],
    /// What likelihoods are divided by.
    pub norm: LengthNorm,
    /// What computes.
    pub device: Device,
}

/// What the model chose.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Place of the chosen label, row by row.
    pub chosen: Vec<usize>,
    /// Tokens of prompts and answers, nothing shared.
    pub tokens: u64,
    /// Memory planned, the weights included.
    pub memory_bytes: u64,
    /// Worked examples that fitted.
    pub shots: usize,
}

impl Asker<'_> {
    /// Asks about the rows, after as many of the worked examples as fit for every row.
    pub fn ask(
        &self,
        rows: &[&Row],
        shots: &[&Row],
        progress: &mut Progress,
    ) -> anyhow::Result<Answers> {
        let tokenizer = &self.opened.tokenizer;
        let limit = self.opened.folder.config.max_seq_len as usize;
        let mut items = self.items(rows)?;
        let fitting = self.put_before(&mut items, shots, limit)?;
        let ranking = ranking(tokenizer, &items, limit)?;
        let longest = ranking.examples.iter().map(|e| e.tokens.len()).max().unwrap_or(2);
        let mut engine = Engine::new(self.opened, &self.device, longest as u64, 0)?;
        let found = engine.likelihoods(&ranking.examples, progress)?;
        let weights: usize = self.opened.folder.files.iter().map(|file| file.map.len()).sum();
        Ok(Answers {
            chosen: rank(&items, &found, self.norm).into_iter().map(|r| r.best).collect(),
            tokens: ranking.examples.iter().map(|e| e.tokens.len() as u64).sum(),
            memory_bytes: engine.planned_bytes() + weights as u64,
            shots: fitting,
        })
    }

    fn items(&self, rows: &[&Row]) -> anyhow::Result<Vec<Item>> {
        let records: Vec<Record> = rows.iter().map(|row| row.record.clone()).collect();
        let found = render_records(&records, self.template, self.labels, true)?;
        if let Some(row) = found.unlabelled.first() {
            return Err(bad_input(format!("row {row}: the template writes no answer for it")));
        }
        Ok(found.items)
    }

    /// Puts worked examples before all prompts: as many as fit before the longest, each label as often as
    /// the others. Returns how many.
    fn put_before(
        &self,
        items: &mut [Item],
        shots: &[&Row],
        limit: usize,
    ) -> anyhow::Result<usize> {
        if shots.is_empty() {
            return Ok(0);
        }
        let tokenizer = &self.opened.tokenizer;
        let examples = self.items(shots)?;
        let texts: Vec<String> =
            examples.iter().map(|e| format!("{}{}", e.prompt.text, e.wanted())).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let room = limit.saturating_sub(longest_choice(tokenizer, items)?);
        let mut longest = (0, 0);
        for (i, item) in items.iter().enumerate() {
            longest = longest.max((prompt_tokens(tokenizer, &item.prompt)?.len(), i));
        }
        let longest = &items[longest.1].prompt;
        let mut fitting = shots.len();
        while fitting > 0 {
            let tried = with_exemplars(longest, &texts[..fitting], SEPARATOR);
            if prompt_tokens(tokenizer, &tried)?.len() <= room {
                break;
            }
            fitting = (fitting - 1) / self.labels.len() * self.labels.len();
        }
        for item in items {
            item.prompt = with_exemplars(&item.prompt, &texts[..fitting], SEPARATOR);
        }
        Ok(fitting)
    }
}
