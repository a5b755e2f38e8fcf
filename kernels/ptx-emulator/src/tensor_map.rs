//! Tensor maps: how a bulk tensor copy finds a box of elements in device memory.
//!
//! The hardware's encoding is secret, so the emulator has its own in the same 128 bytes, made by
//! its `cuTensorMapEncodeTiled` or by [`TensorMap::to_bytes`].

/// Marks the emulator's own encoding.
const MARK: [u8; 8] = *b"PADDOCK1";
/// Most elements of a box along one axis.
const MOST: u32 = 256;

/// The element type of a tensor, numbered as `CUtensorMapDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    /// 8 bits.
    U8 = 0,
    /// 16 bits.
    U16 = 1,
    /// 32 bits.
    U32 = 2,
    /// f16.
    F16 = 6,
    /// f32.
    F32 = 7,
    /// bf16.
    Bf16 = 9,
}

impl Element {
    /// The type that the driver's interface gives this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [Self::U8, Self::U16, Self::U32, Self::F16, Self::F32, Self::Bf16];
        all.into_iter().find(|element| *element as u32 == number)
    }

    /// Its size.
    pub fn bytes(self) -> u32 {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::F32 => 4,
        }
    }
}

/// A tensor in device memory and the box that one copy moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The element type.
    pub element: Element,
    /// Axes, 1 to 5; the first one is contiguous.
    pub rank: usize,
    /// Where the tensor begins.
    pub address: u64,
    /// Elements along each axis; 1 beyond `rank`.
    pub sizes: [u64; 5],
    /// Bytes from one element to the next along each axis.
    pub strides: [u64; 5],
    /// Elements of the box along each axis.
    pub boxes: [u32; 5],
    /// Span of the swizzle in bytes: 0, 32, 64 or 128.
    pub swizzle: u32,
}

/// One row of a box: its bytes in shared memory follow those of the row before.
pub(crate) struct Row {
    /// Bytes of the row before the first that lies in the tensor.
    pub(crate) skip: usize,
    /// Bytes that lie in the tensor.
    pub(crate) bytes: usize,
    /// Where the first of them is.
    pub(crate) address: u64,
}

fn axes<T: Copy>(given: &[T], rest: T) -> [T; 5] {
    std::array::from_fn(|axis| given.get(axis).copied().unwrap_or(rest))
}

impl TensorMap {
    /// A tensor at `address` with `sizes` elements along its axes, and a box. `strides` are the
    /// bytes between elements along all axes but the first. `swizzle` is 0, 32, 64 or 128 bytes.
    ///
    /// # Errors
    /// What the driver would refuse, and what is not emulated.
    pub fn new(
        element: Element,
        address: u64,
        sizes: &[u64],
        strides: &[u64],
        boxes: &[u32],
        swizzle: u32,
    ) -> Result<Self, String> {
        let rank = sizes.len();
        if !(1..=5).contains(&rank) || strides.len() != rank - 1 || boxes.len() != rank {
            return Err(format!("{rank} axes need as many sizes and boxes and one stride less"));
        }
        if !address.is_multiple_of(16) {
            return Err(format!("address {address:#x} is no multiple of 16"));
        }
        if let Some(size) = sizes.iter().find(|&&size| size == 0 || size > 1 << 32) {
            return Err(format!("an axis of {size} elements; 1 to 2^32 are possible"));
        }
        let bad = |stride: &&u64| !stride.is_multiple_of(16) || **stride >= 1 << 40;
        if let Some(stride) = strides.iter().find(bad) {
            return Err(format!("stride {stride} is no multiple of 16 below 2^40"));
        }
        if let Some(count) = boxes.iter().find(|&&count| count == 0 || count > MOST) {
            return Err(format!("a box of {count} elements along an axis; 1 to {MOST}"));
        }
        let row = boxes[0] * element.bytes();
        if !row.is_multiple_of(16) {
            return Err(format!("a box row of {row} bytes is no multiple of 16"));
        }
        if ![0, 32, 64, 128].contains(&swizzle) || (swizzle > 0 && row != swizzle) {
            return Err(format!("a box row of {row} bytes with a swizzle of {swizzle}"));
        }
        let mut all_strides = [u64::from(element.bytes()); 5];
        all_strides[1..rank].copy_from_slice(strides);
        Ok(Self {
            element,
            rank,
            address,
            sizes: axes(sizes, 1),
            strides: all_strides,
            boxes: axes(boxes, 1),
            swizzle,
        })
    }

    /// The 128 bytes that a kernel takes.
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut out = Vec::with_capacity(128);
        out.extend(MARK);
        out.extend([self.element as u8, self.rank as u8, self.swizzle as u8, 0]);
        self.boxes.iter().for_each(|count| out.extend(count.to_le_bytes()));
        out.extend(self.address.to_le_bytes());
        self.sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
        self.strides[1..].iter().for_each(|stride| out.extend(stride.to_le_bytes()));
        let mut bytes = [0; 128];
        bytes[..out.len()].copy_from_slice(&out);
        bytes
    }

    /// Reads what [`TensorMap::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MARK)?;
        let (head, rest) = rest.split_at_checked(4)?;
        let number = |at: usize, length: usize| {
            let mut value = [0; 8];
            value[..length].copy_from_slice(rest.get(at..at + length)?);
            Some(u64::from_le_bytes(value))
        };
        let mut map = Self {
            element: Element::from_number(u32::from(head[0]))?,
            rank: usize::from(head[1]),
            address: number(20, 8)?,
            sizes: [1; 5],
            strides: [0; 5],
            boxes: [1; 5],
            swizzle: u32::from(head[2]),
        };
        map.strides[0] = u64::from(map.element.bytes());
        for axis in 0..5 {
            map.boxes[axis] = number(4 * axis, 4)? as u32;
            map.sizes[axis] = number(28 + 8 * axis, 8)?;
        }
        for axis in 1..5 {
            map.strides[axis] = number(60 + 8 * axis, 8)?;
        }
        Some(map)
    }

    /// Bytes of a box row.
    pub(crate) fn row_bytes(&self) -> usize {
        (self.boxes[0] * self.element.bytes()) as usize
    }

    /// The rows of the box that begins `at` these coordinates, in the order of shared memory.
    pub(crate) fn rows(&self, at: [i32; 5]) -> Vec<Row> {
        let count: u32 = self.boxes[1..].iter().product();
        let size = u64::from(self.element.bytes());
        (0..count)
            .map(|index| {
                let mut rest = index;
                let mut address = self.address;
                let mut inside = true;
                for axis in 1..5 {
                    let place = i64::from(at[axis]) + i64::from(rest % self.boxes[axis]);
                    rest /= self.boxes[axis];
                    inside &= place >= 0 && (place as u64) < self.sizes[axis];
                    let offset = (place as u64).wrapping_mul(self.strides[axis]);
                    address = address.wrapping_add(offset);
                }
                let start = i64::from(at[0]);
                let first = start.max(0);
                let end = (start + i64::from(self.boxes[0])).min(self.sizes[0] as i64);
                if !inside || end <= first {
                    return Row { skip: 0, bytes: 0, address: 0 };
                }
                Row {
                    skip: ((first - start) as u64 * size) as usize,
                    bytes: ((end - first) as u64 * size) as usize,
                    address: address.wrapping_add(first as u64 * size),
                }
            })
            .collect()
    }
}

/// Where a byte of shared memory goes under a swizzle of `span` bytes: bits 4 to 6 of the address
/// (as many as the span has) are changed by bits 7 to 9.
pub(crate) fn swizzled(address: u64, span: u32) -> u64 {
    let mask = match span {
        128 => 7,
        64 => 3,
        32 => 1,
        _ => 0,
    };
    address ^ ((address >> 7 & mask) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        let boxes = [64, 4];
        TensorMap::new(Element::Bf16, 0x1000, &[100, 6], &[208], &boxes, 128).unwrap()
    }

    #[test]
    fn the_encoding_comes_back() {
        let mut map = map();
        assert_eq!(TensorMap::from_bytes(&map.to_bytes()), Some(map.clone()));
        map.sizes[4] = 3;
        map.strides[4] = 0x12_3456_7890;
        assert_eq!(TensorMap::from_bytes(&map.to_bytes()), Some(map));
        assert_eq!(TensorMap::from_bytes(&[0; 128]), None);
    }

    #[test]
    fn boxes_at_the_edge_are_cut() {
        let rows = map().rows([64, -1, 0, 0, 0]);
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[0].bytes, rows[1].bytes), (0, 2 * 36));
        assert_eq!(rows[1].address, 0x1000 + 128);
        assert_eq!(rows[3].address, 0x1000 + 2 * 208 + 128);
        let rows = map().rows([-3, 5, 0, 0, 0]);
        assert_eq!((rows[0].skip, rows[0].bytes, rows[0].address), (6, 122, 0x1000 + 5 * 208));
        assert_eq!(rows[1].bytes, 0);
        assert_eq!(map().rows([100, 0, 0, 0, 0])[0].bytes, 0);
    }

    #[test]
    fn what_the_driver_refuses_is_refused() {
        let new = |address, stride, row, swizzle| {
            TensorMap::new(Element::Bf16, address, &[100, 6], &[stride], &[row, 4], swizzle)
        };
        assert!(new(0x1008, 208, 64, 128).is_err(), "the address");
        assert!(new(0x1000, 200, 64, 128).is_err(), "the stride");
        assert!(new(0x1000, 208, 128, 128).is_err(), "a row longer than the swizzle");
        assert!(new(0x1000, 208, 257, 0).is_err(), "the box");
        assert!(new(0x1000, 208, 128, 0).is_ok());
    }

    #[test]
    fn the_swizzles_of_the_tables() {
        // Row 1 (128 bytes), chunk 0 goes to chunk 1; row 7, chunk 2 to chunk 5; row 8 begins anew.
        assert_eq!(swizzled(128, 128), 128 + 16);
        assert_eq!(swizzled(7 * 128 + 32, 128), 7 * 128 + 80);
        assert_eq!(swizzled(8 * 128 + 32, 128), 8 * 128 + 32);
        // 64 bytes: rows come in pairs; row 2 (address 128) chunk 0 goes to chunk 1.
        assert_eq!(swizzled(64, 64), 64);
        assert_eq!(swizzled(128, 64), 128 + 16);
        assert_eq!(swizzled(3 * 128 + 64 + 16, 64), 3 * 128 + 64 + 32);
        // 32 bytes: rows come in fours.
        assert_eq!(swizzled(96, 32), 96);
        assert_eq!(swizzled(128 + 16, 32), 128);
        assert_eq!(swizzled(500, 0), 500);
    }
}
