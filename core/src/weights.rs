//! Frozen weights: checkpoint bytes in their own element type, read in place.

use alloc::string::String;
use alloc::vec::Vec;

use crate::slot::Slot;

/// Element types of checkpoint tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// The upper half of a single-precision number.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
        }
    }
}

/// Handle to a frozen tensor: its number in [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weight(pub u32);

/// A matrix (rows, cols) that an op reads: frozen in the checkpoint, or trained in `Params`.
/// A vector is a matrix of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mat {
    /// Where the elements are, row after row.
    pub data: MatData,
    /// Output features (O, or V of a table).
    pub rows: u32,
    /// Input features (I, or C of a table).
    pub cols: u32,
}

/// Where a [`Mat`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatData {
    /// In the checkpoint's bytes.
    Frozen(Weight),
    /// In planned memory (f32).
    Trained(Slot),
}

impl Mat {
    /// A frozen matrix.
    pub const fn frozen(weight: Weight, rows: u32, cols: u32) -> Mat {
        Mat { data: MatData::Frozen(weight), rows, cols }
    }

    /// A matrix in planned memory.
    pub const fn trained(slot: Slot, rows: u32, cols: u32) -> Mat {
        Mat { data: MatData::Trained(slot), rows, cols }
    }

    /// rows x cols.
    pub const fn len(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// Whether it has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One tensor of the checkpoint, lent by the caller (memory-mapped on most machines).
#[derive(Clone, Debug)]
pub struct WeightView<'a> {
    /// Its name in the checkpoint, for messages.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Rows (1 for a vector).
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// rows x cols little-endian elements, aligned to the element size.
    pub bytes: &'a [u8],
}

impl WeightView<'_> {
    /// Element `i` widened to f32 (exact for all three types).
    pub fn get(&self, i: usize) -> f32 {
        match self.dtype {
            Dtype::F32 => {
                let b = &self.bytes[4 * i..4 * i + 4];
                f32::from_le_bytes([b[0], b[1], b[2], b[3]])
            }
            Dtype::Bf16 => {
                let b = &self.bytes[2 * i..2 * i + 2];
                half::bf16::from_le_bytes([b[0], b[1]]).to_f32()
            }
            Dtype::F16 => {
                let b = &self.bytes[2 * i..2 * i + 2];
                half::f16::from_le_bytes([b[0], b[1]]).to_f32()
            }
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All frozen tensors of a model, in the order of their handles.
#[derive(Clone, Debug, Default)]
pub struct Weights<'a> {
    /// The tensors; `Weight(i)` names `tensors[i]`.
    pub tensors: Vec<WeightView<'a>>,
}

impl<'a> Weights<'a> {
    /// Adds a tensor and returns its handle.
    pub fn push(&mut self, view: WeightView<'a>) -> Weight {
        self.tensors.push(view);
        Weight(self.tensors.len() as u32 - 1)
    }

    /// The tensor behind a handle.
    pub fn get(&self, weight: Weight) -> Option<&WeightView<'a>> {
        self.tensors.get(weight.0 as usize)
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes.len() as u64).sum()
    }
}
