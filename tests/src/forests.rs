//! Rows as forests: packed as roots, or with every common prefix shared.

use paddock_core::forest::{Entry, Forest, Segment};

/// One row: tokens, and which of them are trained.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Positions of trained tokens.
    pub trained: Vec<usize>,
}

/// Rows one after another, nothing shared.
pub fn packed(rows: &[Row]) -> Forest {
    let masks: Vec<Vec<bool>> = rows
        .iter()
        .map(|r| (0..r.tokens.len()).map(|i| r.trained.contains(&i)).collect())
        .collect();
    let list: Vec<(&[u32], &[bool])> =
        rows.iter().zip(&masks).map(|(r, m)| (&r.tokens[..], &m[..])).collect();
    Forest::from_rows(&list)
}

/// Rows with every common prefix computed once: a trie, written depth first.
pub fn shared(rows: &[Row]) -> Forest {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| a.tokens.cmp(&b.tokens));
    let mut forest = Forest::default();
    grow(&mut forest, &sorted, 0, None);
    forest
}

/// Adds the rows' tokens from `depth` on; all rows agree before it. `parent` is the segment before.
fn grow(forest: &mut Forest, rows: &[&Row], depth: usize, parent: Option<u32>) {
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let Some(&token) = first.tokens.get(depth) else {
            rest = &rest[1..];
            continue;
        };
        let count = rest.iter().take_while(|r| r.tokens.get(depth) == Some(&token)).count();
        let (group, others) = rest.split_at(count);
        rest = others;
        // As far as all rows of the group agree and none has ended.
        let common = (depth..first.tokens.len())
            .take_while(|&i| group.iter().all(|r| r.tokens.get(i) == Some(&first.tokens[i])))
            .count();
        let start = forest.tokens.len() as u32;
        let number = forest.segments.len() as u32;
        forest.tokens.extend_from_slice(&first.tokens[depth..depth + common]);
        forest.segments.push(Segment { start, len: common as u32, parent });
        for row in group {
            for &i in row.trained.iter().filter(|&&i| i >= depth && i < depth + common && i > 0) {
                let position = if i > depth {
                    start + (i - depth) as u32 - 1
                } else {
                    last_row(forest, parent)
                };
                forest.entries.push(Entry { position, target: row.tokens[i], weight: 1.0 });
            }
        }
        grow(forest, group, depth + common, Some(number));
    }
}

fn last_row(forest: &Forest, segment: Option<u32>) -> u32 {
    segment.map_or(0, |s| {
        let s = forest.segments[s as usize];
        s.start + s.len - 1
    })
}
