//! Device memory: allocations at made-up addresses, with gaps between them so that an overrun never
//! lands in a neighbour.

use std::cell::Cell;

/// Where the first allocation begins.
const FIRST: u64 = 0x7_0000_0000;
/// Allocations are aligned as the driver aligns them.
const ALIGN: u64 = 256;
/// Unused bytes after each allocation.
const GAP: u64 = 4096;
/// New memory is filled with this: NaN in every float format, so that reading it shows.
const POISON: u8 = 0xFF;

struct Block {
    base: u64,
    bytes: Vec<u8>,
}

/// All of a device's memory.
pub struct DeviceMemory {
    /// Ascending by base.
    blocks: Vec<Block>,
    next: u64,
    capacity: u64,
    used: u64,
    /// The block found last: accesses come in runs.
    recent: Cell<usize>,
}

impl DeviceMemory {
    /// A device with `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self { blocks: Vec::new(), next: FIRST, capacity, used: 0, recent: Cell::new(0) }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Allocates `size` bytes, filled with 0xFF. None if the device has no room.
    pub fn allocate(&mut self, size: u64) -> Option<u64> {
        if size > self.capacity - self.used {
            return None;
        }
        let base = self.next;
        self.next = (base + size + GAP).next_multiple_of(ALIGN);
        self.used += size;
        self.blocks.push(Block { base, bytes: vec![POISON; usize::try_from(size).ok()?] });
        Some(base)
    }

    /// Frees the allocation that begins at `base`. False if there is none.
    pub fn free(&mut self, base: u64) -> bool {
        match self.blocks.binary_search_by_key(&base, |block| block.base) {
            Ok(index) => {
                self.used -= self.blocks.remove(index).bytes.len() as u64;
                self.recent.set(0);
                true
            }
            Err(_) => false,
        }
    }

    /// Index of the block and offset in it, if all of `length` bytes lie inside.
    fn find(&self, address: u64, length: u64) -> Option<(usize, usize)> {
        let inside = |index: usize| {
            let block = self.blocks.get(index)?;
            let offset = address.checked_sub(block.base)?;
            let end = offset.checked_add(length)?;
            (end <= block.bytes.len() as u64).then_some((index, offset as usize))
        };
        if let Some(found) = inside(self.recent.get()) {
            return Some(found);
        }
        let after = self.blocks.partition_point(|block| block.base <= address);
        let found = inside(after.checked_sub(1)?)?;
        self.recent.set(found.0);
        Some(found)
    }

    /// `length` bytes at `address`, if they lie in one allocation.
    pub fn get(&self, address: u64, length: usize) -> Option<&[u8]> {
        let (index, offset) = self.find(address, length as u64)?;
        Some(&self.blocks[index].bytes[offset..offset + length])
    }

    /// As [`DeviceMemory::get`], to be written.
    pub fn get_mut(&mut self, address: u64, length: usize) -> Option<&mut [u8]> {
        let (index, offset) = self.find(address, length as u64)?;
        Some(&mut self.blocks[index].bytes[offset..offset + length])
    }

    /// Copies inside the device; the ranges may overlap. False if either is not allocated.
    pub fn copy(&mut self, to: u64, from: u64, length: usize) -> bool {
        let Some(data) = self.get(from, length).map(<[u8]>::to_vec) else { return false };
        match self.get_mut(to, length) {
            Some(target) => {
                target.copy_from_slice(&data);
                true
            }
            None => false,
        }
    }

    /// Words for an error message: what lies nearest to a bad address.
    pub fn describe(&self, address: u64) -> String {
        let after = self.blocks.partition_point(|block| block.base <= address);
        match after.checked_sub(1).and_then(|index| self.blocks.get(index)) {
            Some(block) => format!(
                "the nearest allocation below begins at {:#x} and has {} bytes; this is byte {}",
                block.base,
                block.bytes.len(),
                address - block.base
            ),
            None => "no allocation lies below".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_is_no_neighbour() {
        let mut memory = DeviceMemory::new(1 << 20);
        let a = memory.allocate(100).unwrap();
        let b = memory.allocate(100).unwrap();
        assert!(memory.get(a, 100).is_some());
        assert!(memory.get(a + 1, 100).is_none());
        assert!(memory.get(a + 100, 1).is_none());
        assert!(memory.get(b - 1, 1).is_none());
        assert!(memory.get(u64::MAX, 2).is_none());
        assert!(a.is_multiple_of(256) && b.is_multiple_of(256));
        assert_eq!(memory.get(b, 2), Some(&[0xFF, 0xFF][..]));
    }

    #[test]
    fn freeing_gives_room_back() {
        let mut memory = DeviceMemory::new(1000);
        let a = memory.allocate(600).unwrap();
        assert_eq!(memory.allocate(600), None);
        assert!(!memory.free(a + 1));
        assert!(memory.free(a));
        assert!(!memory.free(a));
        assert!(memory.get(a, 1).is_none());
        assert!(memory.allocate(1000).is_some());
    }
}
