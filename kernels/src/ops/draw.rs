//! Drawing cases: sizes, values, forests and slots from one seed.

use half::{bf16, f16};
use paddock_core::backend::Heads;
use paddock_core::batch::{Batch, KeyRange, Piece, Rows};
use paddock_core::error::Result;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, Weight};

use super::{Call, Case, Tensor};

/// How large drawn cases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Tiny and odd: every edge of every tile.
    Small,
    /// Large enough that several threads work.
    Large,
    /// Like the layers of a small real model: for measuring.
    Real,
}

/// Draws the parts of one case.
pub struct Draw {
    random: Philox,
    drawn: u64,
    /// How large.
    pub size: Size,
    /// Element type of frozen matrices, if it is not drawn too.
    pub element: Option<Dtype>,
    tensors: Vec<Tensor>,
    sizes: RegionSizes,
    inputs: Vec<(Slot, Vec<f32>)>,
    outputs: Vec<(&'static str, Slot)>,
}

impl Draw {
    /// The case of `seed`.
    pub fn new(seed: u64, size: Size) -> Draw {
        Draw {
            random: Philox::new(seed, Stream::GENERATE),
            drawn: 0,
            size,
            element: None,
            tensors: vec![],
            sizes: RegionSizes::default(),
            inputs: vec![],
            outputs: vec![],
        }
    }

    /// A whole number in `from..=to`.
    pub fn int(&mut self, from: u32, to: u32) -> u32 {
        self.drawn += 1;
        from + self.random.below(0, self.drawn, u64::from(to - from) + 1) as u32
    }

    /// A size: `small` at most for small cases, around `large` for large ones.
    pub fn extent(&mut self, small: u32, large: u32) -> u32 {
        match self.size {
            Size::Small => self.int(1, small),
            Size::Large => self.int(large - large / 8, large + large / 8),
            Size::Real => 6 * large,
        }
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.int(0, 1) == 1
    }

    /// Standard normal values.
    pub fn values(&mut self, len: u64) -> Vec<f32> {
        self.drawn += 1;
        let step = self.drawn as u32;
        (0..len).map(|i| self.random.normal(step, i)).collect()
    }

    /// A slot with drawn values.
    pub fn input(&mut self, region: Region, len: u64) -> Slot {
        let values = self.values(len);
        self.given(region, values)
    }

    /// A slot with given values.
    pub fn given(&mut self, region: Region, values: Vec<f32>) -> Slot {
        let slot = self.sizes.take(region, values.len() as u64);
        self.inputs.push((slot, values));
        slot
    }

    /// A slot to compare afterwards; it holds drawn values before (so a missed write shows).
    pub fn output(&mut self, name: &'static str, region: Region, len: u64) -> Slot {
        let slot = self.input(region, len);
        self.outputs.push((name, slot));
        slot
    }

    /// Compares a slot that is also read.
    pub fn compare(&mut self, name: &'static str, slot: Slot) {
        self.outputs.push((name, slot));
    }

    /// A matrix: frozen in one of three element types, or trained. Values have deviation
    /// 1 / sqrt(cols), as weights do.
    pub fn matrix(&mut self, rows: u32, cols: u32) -> Mat {
        let scale = 1.0 / (cols as f32).sqrt();
        let values: Vec<f32> =
            self.values(u64::from(rows) * u64::from(cols)).into_iter().map(|x| x * scale).collect();
        let drawn = self.int(0, 3);
        let kind = match self.element {
            Some(Dtype::F32) => 0,
            Some(Dtype::Bf16) => 1,
            Some(Dtype::F16) => 2,
            None => drawn,
        };
        let (dtype, words) = match kind {
            0 => (Dtype::F32, values.iter().map(|x| x.to_bits()).collect()),
            1 => (Dtype::Bf16, pairs(values.iter().map(|&x| bf16::from_f32(x).to_bits()))),
            2 => (Dtype::F16, pairs(values.iter().map(|&x| f16::from_f32(x).to_bits()))),
            _ => return Mat::trained(self.given(Region::Params, values), rows, cols),
        };
        self.tensors.push(Tensor { dtype, rows, cols, words });
        Mat::frozen(Weight(self.tensors.len() as u32 - 1), rows, cols)
    }

    /// Heads, key heads and an even width.
    pub fn heads(&mut self) -> Heads {
        if self.size == Size::Real {
            return Heads { n_heads: 16, n_kv_heads: 4, head_dim: 64 };
        }
        let n_kv_heads = self.int(1, 3);
        let n_heads = n_kv_heads * self.int(1, 3);
        let head_dim = match self.int(0, 4) {
            0 => 2 * self.int(1, 9),
            1 => 48,
            2 => 64,
            3 => 128,
            _ => 2 * self.int(1, 70),
        };
        Heads { n_heads, n_kv_heads, head_dim }
    }

    /// A random forest with loss entries, as a batch.
    pub fn batch(&mut self, vocab: u32) -> Batch {
        if self.size == Size::Real {
            return self.packed_rows(vocab);
        }
        let longest = if self.size == Size::Large { 120 } else { 40 };
        let mut forest = Forest::default();
        let mut open: Vec<u32> = vec![];
        for i in 0..self.int(1, 7) {
            let keep = self.int(0, open.len() as u32);
            open.truncate(keep as usize);
            let (start, len) = (forest.tokens.len() as u32, self.int(1, longest));
            forest.segments.push(Segment { start, len, parent: open.last().copied() });
            for _ in 0..len {
                let token = self.int(0, vocab - 1);
                forest.tokens.push(token);
            }
            open.push(i);
        }
        let n = forest.tokens.len() as u32;
        for _ in 0..self.int(1, n.max(2)) {
            let (position, target) = (self.int(0, n - 1), self.int(0, vocab - 1));
            forest.entries.push(Entry { position, target, weight: 1.0 });
        }
        // A drawn forest is valid by construction; an empty batch would fail every comparison.
        Batch::from_forest(&forest, vocab).unwrap_or_default()
    }

    /// Four rows of 512 tokens, every one of them trained.
    fn packed_rows(&mut self, vocab: u32) -> Batch {
        let mut token = |_| self.int(0, vocab - 1);
        let rows: Vec<Vec<u32>> = (0..4).map(|_| (0..512).map(&mut token).collect()).collect();
        let pairs: Vec<(&[u32], &[bool])> =
            rows.iter().map(|r| (&r[..], &[true; 512][..])).collect();
        Batch::from_forest(&Forest::from_rows(&pairs), vocab).unwrap_or_default()
    }

    /// New tokens of several sequences over a cache of `rows` rows, as a batch.
    pub fn pieces(&mut self, vocab: u32, rows: u32) -> Batch {
        let shared = [KeyRange { start: 0, len: self.int(1, rows / 4) }];
        let mut tokens: Vec<Vec<u32>> = vec![];
        let mut firsts = vec![];
        let mut next = rows / 4;
        while next + 8 < rows && tokens.len() < 6 {
            let len = self.int(1, 8);
            tokens.push((0..len).map(|_| self.int(0, vocab - 1)).collect());
            firsts.push(next);
            next += len + self.int(0, 3);
        }
        let pieces: Vec<Piece<'_>> = tokens
            .iter()
            .zip(&firsts)
            .map(|(tokens, &first_row)| Piece {
                tokens,
                first_position: shared[0].len,
                ranges: &shared,
                first_row,
                wanted: true,
            })
            .collect();
        Batch::from_pieces(&pieces, vocab).unwrap_or_default()
    }

    /// Rows of the batch that an op works on.
    pub fn rows(&mut self) -> Rows {
        if self.coin() { Rows::All } else { Rows::Kept }
    }

    /// Working space that both the reference and the back-ends find large enough: twice what the op
    /// itself needs, for what a kernel may keep besides.
    pub fn scratch(&mut self, len: u64) {
        self.sizes.grow(Region::Scratch, 2 * len + 64);
    }

    /// Extents, half the time all multiples of 8: what kernels for matrix units take.
    pub fn even<const K: usize>(&mut self, extents: [u32; K]) -> [u32; K] {
        if self.coin() { extents.map(|x| x.next_multiple_of(8)) } else { extents }
    }

    /// The finished case.
    pub fn case(&mut self, batch: Batch, shape: String, flops: f64, call: Call) -> Case {
        let inputs = std::mem::take(&mut self.inputs);
        let frozen: usize = self.tensors.iter().map(|t| 4 * t.words.len()).sum();
        let bytes = inputs.iter().map(|(slot, _)| 4 * slot.len).sum::<u64>() + frozen as u64;
        Case {
            tensors: std::mem::take(&mut self.tensors),
            batch,
            sizes: self.sizes,
            inputs,
            outputs: std::mem::take(&mut self.outputs),
            call,
            flops,
            bytes: bytes as f64,
            shape,
        }
    }
}

/// Two 16-bit patterns a word, the first in the lower half (little-endian order).
fn pairs(mut halves: impl Iterator<Item = u16>) -> Vec<u32> {
    let mut words = vec![];
    while let Some(low) = halves.next() {
        let high = halves.next().unwrap_or(0);
        words.push(u32::from(low) | (u32::from(high) << 16));
    }
    words
}

/// Boxes a call.
pub fn call(f: impl Fn(&mut dyn paddock_core::backend::Backend) -> Result<()> + 'static) -> Call {
    Box::new(f)
}
