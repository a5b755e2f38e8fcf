//! Planned memory on the CPU: one run of f32 for each region, lent out as disjoint slices.
//!
//! A region is a map of its own, which begins on a page (so that vectors of 64 bytes do not lie on
//! two cache lines) and asks for huge pages, where the system grants them on request: rows of a
//! matrix are often a page or more apart, and a column of them is more small pages than the
//! processor remembers.

use half::{bf16, f16};
use memmap2::MmapMut;
use paddock_core::error::{Error, Result};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, MatData, Weights};

use super::matmul::Elems;
use super::pack::View;

/// The regions.
#[derive(Debug, Default)]
pub struct Memory {
    regions: [Option<MmapMut>; 8],
}

/// Zeros, `len` of them.
fn zeros(len: u64) -> std::io::Result<Option<MmapMut>> {
    let bytes = usize::try_from(len).ok().and_then(|len| len.checked_mul(4));
    let Some(bytes) = bytes else { return Err(std::io::ErrorKind::OutOfMemory.into()) };
    if bytes == 0 {
        return Ok(None);
    }
    let map = MmapMut::map_anon(bytes)?;
    // A wish: without huge pages everything works, only slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(Some(map))
}

fn numbers(region: &Option<MmapMut>) -> &[f32] {
    region.as_ref().map_or(&[], |map| bytemuck::cast_slice(map))
}

fn numbers_mut(region: &mut Option<MmapMut>) -> &mut [f32] {
    region.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(map))
}

impl Memory {
    /// Gives every region its size, zeroed.
    pub fn reserve(&mut self, sizes: &RegionSizes) -> Result<()> {
        // What was reserved before goes first.
        self.regions = Default::default();
        for region in Region::ALL {
            let len = sizes.len(region);
            self.regions[region as usize] = zeros(len).map_err(|e| {
                let mb = len.saturating_mul(4) / 1_000_000;
                Error::Device(format!(
                    "the system gives no memory for {mb} MB of {region:?}: {e}; close other programs, \
                     or look with `core-cli plan` at what would make the run smaller"
                ))
            })?;
        }
        Ok(())
    }

    /// The whole of a region.
    pub fn whole(&self, region: Region) -> Slot {
        Slot::new(region, 0, numbers(&self.regions[region as usize]).len() as u64)
    }

    /// Disjoint views of several slots; overlapping ones are refused, empty ones never overlap.
    pub fn views<const K: usize>(
        &mut self,
        op: &'static str,
        slots: [Slot; K],
    ) -> Result<[&mut [f32]; K]> {
        let mut order: [usize; K] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| (slots[i].region, slots[i].offset));
        let mut rest = self.regions.each_mut().map(|region| (0, numbers_mut(region)));
        let mut out = slots.map(|_| <&mut [f32]>::default());
        let mut before = None;
        for i in order.into_iter().filter(|&i| slots[i].len > 0) {
            let slot = slots[i];
            let (start, left) = &mut rest[slot.region as usize];
            if slot.offset < *start {
                return Err(Error::Alias { op, first: before.unwrap_or(slot), second: slot });
            }
            let len = *start + left.len() as u64;
            if slot.end() > len {
                return Err(Error::OutOfRegion { region: slot.region, end: slot.end(), len });
            }
            let (_, tail) = std::mem::take(left).split_at_mut((slot.offset - *start) as usize);
            let (view, tail) = tail.split_at_mut(slot.len as usize);
            (*start, *left) = (slot.end(), tail);
            out[i] = view;
            before = Some(slot);
        }
        Ok(out)
    }
}

/// The slot of a trained matrix; an empty one for a frozen matrix.
pub fn slot_of(w: Mat) -> Slot {
    match w.data {
        MatData::Trained(slot) => slot,
        MatData::Frozen(_) => Slot::new(Region::Params, 0, 0),
    }
}

/// An optional slot, empty where there is none.
pub fn or_empty(slot: Option<Slot>) -> Slot {
    slot.unwrap_or(Slot::new(Region::Grads, 0, 0))
}

/// The elements of a matrix: `trained` (the view of `slot_of`), or the checkpoint's bytes in place.
pub fn elems<'a>(weights: &'a Weights<'_>, w: Mat, trained: &'a [f32]) -> Result<Elems<'a>> {
    let stride = w.cols as usize;
    let MatData::Frozen(handle) = w.data else {
        return match trained.len() as u64 == w.len() {
            true => Ok(Elems::F32(View { data: trained, stride })),
            false => Err(Error::Shape {
                op: "cpu",
                operand: "weight",
                found: trained.len() as u64,
                expected: w.len(),
            }),
        };
    };
    let name = |found: String| {
        let name = weights.get(handle).map_or_else(|| format!("#{}", handle.0), |v| v.name.clone());
        Error::Weight { name, found, expected: format!("{}x{}", w.rows, w.cols) }
    };
    let view = weights.get(handle).ok_or_else(|| name("nothing".into()))?;
    if view.rows != w.rows || view.cols != w.cols {
        return Err(name(format!("{}x{}", view.rows, view.cols)));
    }
    let broken = |_| name(format!("{} bytes, not aligned to the element", view.bytes.len()));
    let elems = match view.dtype {
        Dtype::F32 => {
            Elems::F32(View { data: bytemuck::try_cast_slice(view.bytes).map_err(broken)?, stride })
        }
        Dtype::Bf16 => {
            let data: &[bf16] = bytemuck::try_cast_slice(view.bytes).map_err(broken)?;
            Elems::Bf16(View { data, stride })
        }
        Dtype::F16 => {
            let data: &[f16] = bytemuck::try_cast_slice(view.bytes).map_err(broken)?;
            Elems::F16(View { data, stride })
        }
    };
    if view.bytes.len() as u64 != w.len() * view.dtype.bytes() {
        return Err(name(format!("{} bytes", view.bytes.len())));
    }
    Ok(elems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f48_each_region_that_the_system_refuses_is_named() {
        for region in Region::ALL {
            let mut sizes = RegionSizes::default();
            Region::ALL.iter().for_each(|&other| _ = sizes.take(other, 64));
            let mut memory = Memory::default();
            memory.reserve(&sizes).expect("a little");
            // More than processors can address, and more than can be counted.
            for len in [1u64 << 46, u64::MAX / 8] {
                let mut large = sizes;
                large.take(region, len);
                let error = memory.reserve(&large).expect_err("too much").to_string();
                for word in
                    [format!("{region:?}"), "gives no memory".into(), "core-cli plan".into()]
                {
                    assert!(error.contains(&word), "expected {word:?} in {error}");
                }
            }
            memory.reserve(&sizes).expect("as before");
        }
    }
}
