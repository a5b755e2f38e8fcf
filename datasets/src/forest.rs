//! Examples become forests: tokens that rows share at their beginning are computed once.
//!
//! Rows are sorted by their tokens; neighbours that share at least `min_share` tokens beyond what
//! they share already get a common segment. A row needs only the tokens that predict something, so
//! what follows its last trained token (usually just EOS, a target) is not computed.

use paddock_core::forest::{Entry, Forest, Segment};

use crate::encode::Example;
use crate::error::{Error, Result};

/// Limits of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most computed tokens (N).
    pub tokens: usize,
    /// Most segments.
    pub segments: usize,
    /// Most loss entries.
    pub entries: usize,
    /// Fewest tokens worth a segment of their own.
    pub min_share: usize,
}

impl Limits {
    /// `tokens` computed at once, no limit on segments and entries.
    pub fn tokens(tokens: usize) -> Self {
        Self { tokens, segments: usize::MAX, entries: usize::MAX, min_share: DEFAULT_MIN_SHARE }
    }
}

/// Below this a shared beginning costs more in bookkeeping than it saves.
pub const DEFAULT_MIN_SHARE: usize = 8;

/// Some rows of a step as one forest.
#[derive(Debug, Clone, PartialEq)]
pub struct MicroBatch {
    /// The forest.
    pub forest: Forest,
    /// Which of the given rows are in it (indices into the slice given).
    pub rows: Vec<usize>,
    /// Tokens of these rows, as if nothing were shared.
    pub row_tokens: usize,
    /// Loss entries, which is the number of trained tokens.
    pub trained_tokens: usize,
    /// For each loss entry of the forest, its row (an index into the slice given).
    pub entry_rows: Vec<usize>,
}

impl MicroBatch {
    /// Tokens that are computed.
    pub fn computed_tokens(&self) -> usize {
        self.forest.tokens.len()
    }
}

/// A row cut to what predicts something.
struct Row<'a> {
    index: usize,
    example: &'a Example,
    /// Tokens to compute.
    need: usize,
}

/// Cuts the rows of an optimizer step into forests within the limits. Every row is in exactly one.
///
/// # Errors
/// [`Error::Forest`] if one row alone is above a limit.
pub fn micro_batches(rows: &[&Example], limits: &Limits) -> Result<Vec<MicroBatch>> {
    let mut sorted: Vec<Row> = rows
        .iter()
        .enumerate()
        .map(|(index, example)| Row { index, example, need: need(example) })
        .collect();
    sorted.sort_by(|a, b| inputs(a).cmp(inputs(b)).then(a.index.cmp(&b.index)));
    let mut batches = Vec::new();
    let mut rest = sorted.as_slice();
    while !rest.is_empty() {
        let mut take = guess(rest, limits);
        let batch = loop {
            let batch = build(&rest[..take], limits.min_share);
            let over = over_by(&batch, limits);
            if over <= 1.0 {
                break batch;
            }
            if take == 1 {
                return Err(alone_too_large(&rest[0], &batch, limits));
            }
            take = ((take as f64 / over) as usize).clamp(1, take - 1);
        };
        batches.push(batch);
        rest = &rest[take..];
    }
    Ok(batches)
}

/// One forest of all rows, whatever its size.
pub fn forest_of(rows: &[&Example], min_share: usize) -> MicroBatch {
    let mut sorted: Vec<Row> = rows
        .iter()
        .enumerate()
        .map(|(index, example)| Row { index, example, need: need(example) })
        .collect();
    sorted.sort_by(|a, b| inputs(a).cmp(inputs(b)).then(a.index.cmp(&b.index)));
    build(&sorted, min_share)
}

/// Tokens before the last trained one: those that predict something, or lie before such.
fn need(example: &Example) -> usize {
    example.trained.iter().rposition(|t| *t).unwrap_or(0)
}

fn inputs<'a>(row: &Row<'a>) -> &'a [u32] {
    &row.example.tokens[..row.need]
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// How many rows probably fit: exact but for the minimum of a share.
fn guess(rows: &[Row], limits: &Limits) -> usize {
    let (mut tokens, mut entries) = (0, 0);
    for (i, row) in rows.iter().enumerate() {
        let shared = if i == 0 { 0 } else { common(inputs(&rows[i - 1]), inputs(row)) };
        tokens += row.need - if shared < limits.min_share { 0 } else { shared };
        entries += row.example.trained_tokens();
        if tokens > limits.tokens || entries > limits.entries {
            return i.max(1);
        }
    }
    rows.len()
}

/// Largest share of a limit that is used.
fn over_by(batch: &MicroBatch, limits: &Limits) -> f64 {
    let share = |used: usize, limit: usize| used as f64 / limit.max(1) as f64;
    share(batch.forest.tokens.len(), limits.tokens)
        .max(share(batch.forest.segments.len(), limits.segments))
        .max(share(batch.forest.entries.len(), limits.entries))
}

fn alone_too_large(row: &Row, batch: &MicroBatch, limits: &Limits) -> Error {
    Error::Forest(format!(
        "row {} alone needs {} tokens and {} loss entries at once, the limits are {} and {}; raise \
         --micro-batch-tokens or lower --max-seq-len",
        row.example.row,
        batch.forest.tokens.len(),
        batch.forest.entries.len(),
        limits.tokens,
        limits.entries
    ))
}

/// A group of neighbouring rows still to be placed below a segment.
struct Group {
    from: usize,
    to: usize,
    /// Tokens that lie above.
    depth: usize,
    parent: Option<u32>,
}

fn build(rows: &[Row], min_share: usize) -> MicroBatch {
    // shared[i]: tokens that rows i-1 and i have in common.
    let shared: Vec<usize> = (0..rows.len())
        .map(|i| if i == 0 { 0 } else { common(inputs(&rows[i - 1]), inputs(&rows[i])) })
        .collect();
    let mut forest = Forest::default();
    let mut entry_rows = Vec::new();
    let mut pending = Vec::new();
    push_groups(&mut pending, &shared, (0, rows.len()), 0, None, min_share);
    while let Some(group) = pending.pop() {
        let members = &rows[group.from..group.to];
        let end = if members.len() == 1 {
            members[0].need
        } else {
            shared[group.from + 1..group.to].iter().copied().min().unwrap_or(0)
        };
        let mut below = group.parent;
        if end > group.depth {
            let start = forest.tokens.len() as u32;
            let segment = forest.segments.len() as u32;
            forest.tokens.extend_from_slice(&members[0].example.tokens[group.depth..end]);
            let len = (end - group.depth) as u32;
            forest.segments.push(Segment { start, len, parent: group.parent });
            for row in members {
                push_entries(&mut forest.entries, row, group.depth, end, start);
                entry_rows.resize(forest.entries.len(), row.index);
            }
            below = Some(segment);
        }
        if members.len() > 1 {
            // Rows that end here come first in the order.
            let done = members.iter().take_while(|row| row.need <= end).count();
            let range = (group.from + done, group.to);
            push_groups(&mut pending, &shared, range, end, below, min_share);
        }
    }
    MicroBatch {
        rows: rows.iter().map(|row| row.index).collect(),
        row_tokens: rows.iter().map(|row| row.example.tokens.len()).sum(),
        trained_tokens: forest.entries.len(),
        entry_rows,
        forest,
    }
}

/// Cuts a range of rows where neighbours share too little, and stacks the parts, first on top.
fn push_groups(
    pending: &mut Vec<Group>,
    shared: &[usize],
    (from, to): (usize, usize),
    depth: usize,
    parent: Option<u32>,
    min_share: usize,
) {
    let mut groups = Vec::new();
    let mut start = from;
    for i in from..to {
        let last = i + 1 == to;
        if last || shared[i + 1] < depth + min_share.max(1) {
            groups.push(Group { from: start, to: i + 1, depth, parent });
            start = i + 1;
        }
    }
    pending.extend(groups.into_iter().rev());
}

/// Token i of a row is predicted at token i - 1; the segment holds tokens `from..to` of it.
fn push_entries(entries: &mut Vec<Entry>, row: &Row, from: usize, to: usize, start: u32) {
    for i in from..to {
        if row.example.trained[i + 1] {
            let position = start + (i - from) as u32;
            entries.push(Entry { position, target: row.example.tokens[i + 1], weight: 1.0 });
        }
    }
}
