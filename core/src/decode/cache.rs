//! Who owns which rows of the key/value cache: a tree of token runs, each with room to grow, so that
//! many continuations share one prefix.

use alloc::vec::Vec;

use crate::batch::KeyRange;
use crate::error::{Error, Result};

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

#[derive(Clone, Debug)]
struct Node {
    start: u32,
    len: u32,
    room: u32,
    first_position: u32,
    /// Rows of all ancestors.
    ranges: Vec<KeyRange>,
}

/// The tree. Rows are given out in order and freed all at once.
#[derive(Clone, Debug)]
pub struct Cache {
    nodes: Vec<Node>,
    used: u32,
    rows: u32,
}

impl Cache {
    /// A cache over `rows` planned rows.
    pub fn new(rows: u64) -> Cache {
        Cache { nodes: Vec::new(), used: 0, rows: rows.min(u64::from(u32::MAX)) as u32 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.used = 0;
    }

    /// A new run of at most `room` tokens that continues `parent`.
    pub fn add(&mut self, parent: Option<NodeId>, room: u64) -> Result<NodeId> {
        let free = u64::from(self.rows - self.used);
        if room > free {
            return Err(Error::Capacity { what: "cache rows", found: room, reserved: free });
        }
        let (mut ranges, mut first_position) = (Vec::new(), 0);
        if let Some(parent) = parent {
            let node = self.node(parent)?;
            ranges = self.visible(node);
            first_position = node.first_position + node.len;
        }
        let (start, room) = (self.used, room as u32);
        self.used += room;
        self.nodes.push(Node { start, len: 0, room, first_position, ranges });
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    /// Everything that a token appended to `id` now would see, itself excepted.
    pub(crate) fn ranges(&self, id: NodeId) -> Result<Vec<KeyRange>> {
        Ok(self.visible(self.node(id)?))
    }

    /// (cache row, position) of the next token of `id`.
    pub fn next(&self, id: NodeId) -> Result<(u32, u32)> {
        let node = self.node(id)?;
        Ok((node.start + node.len, node.first_position + node.len))
    }

    /// Notes that `count` tokens were appended to `id`.
    pub(crate) fn grow(&mut self, id: NodeId, count: u32) -> Result<()> {
        self.room(id, count)?;
        self.nodes[id.0 as usize].len += count;
        Ok(())
    }

    /// Refuses what would not fit.
    pub(crate) fn room(&self, id: NodeId, count: u32) -> Result<()> {
        let node = self.node(id)?;
        let (found, reserved) = (u64::from(node.len) + u64::from(count), u64::from(node.room));
        if found > reserved {
            return Err(Error::Capacity { what: "cache rows", found, reserved });
        }
        Ok(())
    }

    fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(id.0 as usize).ok_or(Error::State { what: "unknown cache node" })
    }

    fn visible(&self, node: &Node) -> Vec<KeyRange> {
        let mut ranges = node.ranges.clone();
        if node.len > 0 {
            match ranges.last_mut() {
                Some(last) if last.start + last.len == node.start => last.len += node.len,
                _ => ranges.push(KeyRange { start: node.start, len: node.len }),
            }
        }
        ranges
    }
}
