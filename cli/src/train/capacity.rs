//! How large the batches and the caches of a run may become.

use paddock_core::config::Config;
use paddock_core::plan::Capacity;

use super::judge::longest_answer;
use super::setup::Setup;

/// Keys and values of answers that grow together take at most this, unless a single one needs more.
const ANSWERING_BYTES: u64 = 64 << 20;

/// The largest batch of a run.
pub fn capacity(setup: &Setup) -> Capacity {
    let config = &setup.config;
    let tests = setup.test.iter().map(|row| row.example.tokens.len() as u64);
    let rows = setup.train.facts().chain(setup.validation.facts()).map(|f| u64::from(f.tokens));
    let longest = rows.chain(tests).max().unwrap_or(1);
    let all: u64 = setup.train.facts().map(|f| u64::from(f.tokens)).sum();
    let tokens = config.micro_batch_tokens.min(all).max(longest);
    let samples = if setup.validation.is_empty() { 0 } else { config.samples.min(1) };
    let new_tokens = (samples * config.sample_tokens).max(longest_answer(setup));
    let shape = &setup.opened.folder.config;
    let positions = (longest + new_tokens).min(u64::from(shape.max_seq_len)).max(longest);
    let logit_rows = if setup.test.is_empty() { samples } else { together(shape, positions) };
    Capacity {
        tokens,
        kept: tokens,
        entries: 2 * tokens,
        positions,
        cache_rows: logit_rows * positions,
        logit_rows,
    }
}

/// Answers that grow together: as many as fit into the memory set aside for their keys and values.
pub fn together(shape: &Config, positions: u64) -> u64 {
    let token_bytes = 8 * u64::from(shape.n_layers) * u64::from(shape.kv_dim());
    (ANSWERING_BYTES / (token_bytes * positions).max(1)).clamp(1, 32)
}
