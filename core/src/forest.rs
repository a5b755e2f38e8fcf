//! The batch as a forest: one flat row of tokens cut into segments that may have parents.
//!
//! A segment's positions continue its parent's, and its tokens attend to all ancestors' tokens and,
//! causally, to their own segment. Packed examples are roots; a shared preamble is a root whose
//! children are the examples; several answers to one prompt are children of the prompt. Loss and
//! gradients equal those of the same rows run one by one.
//!
//! Segments stand in depth-first order (a parent before its children, a subtree without gaps), so
//! that "query i may see key j" is simply `j <= i < end of the subtree of j's segment`.

use alloc::vec::Vec;

use crate::error::{Error, Result};

/// A run of tokens with at most one parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first row in the flat batch.
    pub start: u32,
    /// How many rows.
    pub len: u32,
    /// The number of the segment it continues.
    pub parent: Option<u32>,
}

/// One term of the loss: row `position` should predict `target`; positions may repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The row whose output is judged.
    pub position: u32,
    /// The token that should come next.
    pub target: u32,
    /// Its share in the loss (1 for an ordinary trained token).
    pub weight: f32,
}

/// Tokens, segments and loss entries of one micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forest {
    /// The flat row (N).
    pub tokens: Vec<u32>,
    /// The segments, depth first.
    pub segments: Vec<Segment>,
    /// The loss entries, in any order.
    pub entries: Vec<Entry>,
}

impl Forest {
    /// A forest of roots: plain packed rows. `trained[r][i]` says whether token i of row r is an
    /// answer's; it is then predicted from the token before it (so token 0 never counts).
    pub fn from_rows(rows: &[(&[u32], &[bool])]) -> Forest {
        let mut forest = Forest::default();
        for (tokens, trained) in rows {
            let start = forest.tokens.len() as u32;
            forest.tokens.extend_from_slice(tokens);
            forest.segments.push(Segment { start, len: tokens.len() as u32, parent: None });
            for (i, &token) in tokens.iter().enumerate().skip(1) {
                if trained.get(i).copied().unwrap_or(false) {
                    let position = start + i as u32 - 1;
                    forest.entries.push(Entry { position, target: token, weight: 1.0 });
                }
            }
        }
        forest
    }

    /// Checks the rules above and that every token and target is below `vocab_size`.
    pub fn validate(&self, vocab_size: u32) -> Result<()> {
        let fail = |what, index: usize| Err(Error::Batch { what, index: index as u64 });
        if self.tokens.len() > 1 << 31 {
            return fail("more than 2^31 tokens", self.tokens.len());
        }
        let mut next = 0;
        // The chain of segments that the next one may continue.
        let mut open: Vec<u32> = Vec::new();
        for (i, segment) in self.segments.iter().enumerate() {
            if segment.start != next || segment.len == 0 {
                return fail("segments must cover the tokens without gaps", i);
            }
            next = match next.checked_add(segment.len) {
                Some(next) => next,
                None => return fail("segments must cover the tokens without gaps", i),
            };
            match segment.parent {
                None => open.clear(),
                Some(parent) => {
                    while open.last().is_some_and(|&last| last != parent) {
                        open.pop();
                    }
                    if open.is_empty() {
                        return fail("segments must be depth first, parents before children", i);
                    }
                }
            }
            open.push(i as u32);
        }
        if next as usize != self.tokens.len() {
            return fail("segments must cover the tokens without gaps", self.segments.len());
        }
        if let Some(i) = self.tokens.iter().position(|&t| t >= vocab_size) {
            return fail("a token beyond the vocabulary", i);
        }
        for (i, entry) in self.entries.iter().enumerate() {
            if entry.position as usize >= self.tokens.len() {
                return fail("a loss entry beyond the tokens", i);
            }
            if entry.target >= vocab_size {
                return fail("a loss target beyond the vocabulary", i);
            }
            if !entry.weight.is_finite() {
                return fail("a loss weight that is not finite", i);
            }
        }
        Ok(())
    }

    /// For each segment, the row after the last one of its subtree.
    pub fn subtree_ends(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = self.segments.iter().map(|s| s.start + s.len).collect();
        for i in (0..self.segments.len()).rev() {
            if let Some(parent) = self.segments[i].parent {
                let end = ends[i];
                let parent_end = &mut ends[parent as usize];
                *parent_end = (*parent_end).max(end);
            }
        }
        ends
    }

    /// For each segment, the position of its first token.
    pub fn first_positions(&self) -> Vec<u32> {
        let mut first: Vec<u32> = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            first.push(match segment.parent {
                None => 0,
                Some(p) => first[p as usize] + self.segments[p as usize].len,
            });
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn segment(start: u32, len: u32, parent: Option<u32>) -> Segment {
        Segment { start, len, parent }
    }

    fn forest(segments: Vec<Segment>) -> Forest {
        let n = segments.iter().map(|s| s.len).sum::<u32>();
        Forest { tokens: vec![1; n as usize], segments, entries: vec![] }
    }

    #[test]
    fn depth_first_trees_pass() {
        let f = forest(vec![
            segment(0, 3, None),
            segment(3, 2, Some(0)),
            segment(5, 1, Some(1)),
            segment(6, 4, Some(0)),
            segment(10, 2, None),
        ]);
        f.validate(10).unwrap();
        assert_eq!(f.subtree_ends(), [10, 6, 6, 10, 12]);
        assert_eq!(f.first_positions(), [0, 3, 5, 3, 0]);
    }

    #[test]
    fn broken_trees_are_refused() {
        let closed = forest(vec![
            segment(0, 1, None),
            segment(1, 1, Some(0)),
            segment(2, 1, Some(0)),
            segment(3, 1, Some(1)),
        ]);
        assert!(closed.validate(10).is_err());
        assert!(forest(vec![segment(0, 1, Some(0))]).validate(10).is_err());
        assert!(forest(vec![segment(0, 1, None), segment(2, 1, None)]).validate(10).is_err());
        assert!(forest(vec![segment(0, 1, None)]).validate(1).is_err());
    }
}
