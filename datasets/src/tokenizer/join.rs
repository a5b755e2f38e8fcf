//! BPE of one long word in nearly linear time.
//!
//! The rule is the library's: always join the pair of lowest rank, the leftmost of equals. Places
//! wait in one queue for each rank. A join never makes a pair of its own rank (its token is longer
//! than either part), so a queue's places come in ascending order but for those that a later join
//! of another rank adds; these wait in a small heap beside it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

/// Left and right token as `(left << 32) | right` to rank and joined token.
pub type Ranks = FxHashMap<u64, (u32, u32)>;

/// Key of a pair.
pub fn pair(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

/// No neighbour.
const NONE: u32 = u32::MAX;
/// The token of a place that was joined to its left neighbour.
const GONE: u32 = u32::MAX;

/// Places of the pairs of one rank.
#[derive(Default)]
struct Queue {
    ascending: Vec<u32>,
    taken: usize,
    late: BinaryHeap<Reverse<u32>>,
    waiting: bool,
}

impl Queue {
    fn push(&mut self, place: u32) {
        if self.ascending.last().is_none_or(|last| *last < place) {
            self.ascending.push(place);
        } else {
            self.late.push(Reverse(place));
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let next = self.ascending.get(self.taken).copied();
        match (next, self.late.peek()) {
            (Some(place), Some(Reverse(late))) if *late < place => self.late.pop().map(|r| r.0),
            (None, Some(_)) => self.late.pop().map(|r| r.0),
            (Some(place), _) => {
                self.taken += 1;
                Some(place)
            }
            (None, None) => None,
        }
    }
}

struct Word<'a> {
    ranks: &'a Ranks,
    tokens: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    queues: FxHashMap<u32, Queue>,
    /// Ranks whose queue holds something, lowest first.
    order: BinaryHeap<Reverse<u32>>,
}

impl Word<'_> {
    /// Puts the pair that begins at `place` into its queue, if it can be joined.
    fn offer(&mut self, place: u32) {
        let right = self.next[place as usize];
        if right == NONE {
            return;
        }
        let key = pair(self.tokens[place as usize], self.tokens[right as usize]);
        let Some(&(rank, _)) = self.ranks.get(&key) else { return };
        let queue = self.queues.entry(rank).or_default();
        queue.push(place);
        if !queue.waiting {
            queue.waiting = true;
            self.order.push(Reverse(rank));
        }
    }

    /// Joins the pair at `place` if it still is one of `rank`.
    fn join(&mut self, place: u32, rank: u32) {
        let at = place as usize;
        let right = self.next[at];
        if self.tokens[at] == GONE || right == NONE {
            return;
        }
        let key = pair(self.tokens[at], self.tokens[right as usize]);
        let Some(&(found, joined)) = self.ranks.get(&key) else { return };
        if found != rank {
            return;
        }
        self.tokens[at] = joined;
        self.tokens[right as usize] = GONE;
        let after = self.next[right as usize];
        self.next[at] = after;
        if after != NONE {
            self.previous[after as usize] = place;
        }
        if self.previous[at] != NONE {
            self.offer(self.previous[at]);
        }
        self.offer(place);
    }
}

/// Joins the tokens of a word. Words of 2^32 - 1 tokens and more are left as they are.
pub fn join(ranks: &Ranks, tokens: Vec<u32>) -> Vec<u32> {
    let Some(count) = u32::try_from(tokens.len()).ok().filter(|n| *n < NONE) else {
        return tokens;
    };
    let mut word = Word {
        ranks,
        tokens,
        next: (1..=count).map(|i| if i == count { NONE } else { i }).collect(),
        previous: (0..count).map(|i| if i == 0 { NONE } else { i - 1 }).collect(),
        queues: FxHashMap::default(),
        order: BinaryHeap::new(),
    };
    (0..count).for_each(|place| word.offer(place));
    while let Some(&Reverse(rank)) = word.order.peek() {
        let popped = word.queues.get_mut(&rank).and_then(|queue| {
            let popped = queue.pop();
            queue.waiting = popped.is_some();
            popped
        });
        match popped {
            Some(place) => word.join(place, rank),
            None => {
                word.order.pop();
            }
        }
    }
    word.tokens.retain(|token| *token != GONE);
    word.tokens
}
