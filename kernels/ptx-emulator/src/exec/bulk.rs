//! Bulk tensor copies between device and shared memory.
//!
//! A load's bytes stand in shared memory at once, but belong to the mbarrier's phase: who has not
//! seen that phase end may not touch them. The mbarrier counts them later. A store reads at once
//! too, and keeps its place occupied until its group is waited for.

use crate::ast::Space;
use crate::asynchronous::{Async, SharedAddr, TensorAddr};
use crate::error::{FaultKind, LaneFault};
use crate::exec::access::{PARAMETER_WINDOW, address_lanes};
use crate::exec::copies::SectorCount;
use crate::exec::warp::Warp;
use crate::exec::world::World;
use crate::float::{Round, bf16_to_f32, f16_to_f32, f32_to_bf16, f64_to_f16};
use crate::ir::Reg;
use crate::tensor_map::{Element, TensorMap, swizzled};

/// Bytes that an mbarrier will count.
pub(crate) struct Arriving {
    /// The CTA and the mbarrier.
    pub(crate) to: usize,
    pub(crate) slot: usize,
    pub(crate) count: u32,
    /// The phase that they belong to.
    pub(crate) phase: u32,
    /// Who copied: CTA, warp, instruction.
    pub(crate) from: usize,
    pub(crate) warp: u32,
    pub(crate) at: usize,
}

/// A store that may still read.
struct Store {
    lane: u32,
    group: u32,
    address: u64,
    length: u32,
}

/// A warp's bulk stores under way.
#[derive(Default)]
pub(crate) struct Stores {
    pending: Vec<Store>,
    /// Groups that each lane has closed.
    closed: [u32; 32],
}

impl Stores {
    /// A thread must not end while shared memory is still read for it.
    pub(crate) fn check_end(&self, leaving: u32) -> Result<(), LaneFault> {
        match self.pending.iter().find(|store| leaving >> store.lane & 1 == 1) {
            None => Ok(()),
            Some(store) => {
                let text = format!(
                    "the thread ends while a bulk store may still read shared memory at {:#x}: \
                     cp.async.bulk.wait_group is missing",
                    store.address
                );
                Err((Some(store.lane), FaultKind::BadOperand(text)))
            }
        }
    }
}

fn lanes(active: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |lane| active >> lane & 1 == 1)
}

impl Warp {
    pub(crate) fn bulk(
        &mut self,
        op: &Async,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        match op {
            Async::TensorLoad { to, from, mbarrier, mask } => {
                self.tensor_load([to, mbarrier], from, *mask, active, world)
            }
            Async::TensorStore { to, from, adds } => {
                self.tensor_store(to, from, *adds, active, world)
            }
            Async::BulkCommit => {
                lanes(active).for_each(|lane| self.stores.closed[lane as usize] += 1);
                Ok(())
            }
            Async::BulkWait { keep } => {
                self.finish_stores(*keep, active, world);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The tensor map and the coordinates of each lane.
    fn boxes(
        &self,
        tensor: &TensorAddr,
        active: u32,
        world: &World,
    ) -> Result<Vec<(u32, TensorMap, [i32; 5])>, LaneFault> {
        let addresses = address_lanes(&self.registers, &tensor.map, active, world.code)?;
        let used = &tensor.at[..usize::from(tensor.rank)];
        for &reg in used {
            self.registers.ready(reg, active, world.code)?;
        }
        let mut boxes = Vec::new();
        for lane in lanes(active) {
            let bad = |text: &str| Err((Some(lane), FaultKind::BadOperand(text.to_string())));
            let address = addresses[lane as usize];
            if !address.is_multiple_of(64) {
                return bad("a tensor map's address is no multiple of 64");
            }
            let parameter = match tensor.space {
                Space::Param => Some(address),
                _ => address.checked_sub(PARAMETER_WINDOW).filter(|&at| at < PARAMETER_WINDOW / 2),
            };
            let bytes = match parameter {
                Some(at) => world.parameters.get(at as usize..).and_then(|rest| rest.get(..128)),
                None => world.memory.get(address, 128),
            };
            let Some(map) = bytes.and_then(TensorMap::from_bytes) else {
                return bad("there is no tensor map at this address");
            };
            if map.rank != usize::from(tensor.rank) {
                return bad("the tensor map has another number of axes");
            }
            let mut at = [0; 5];
            for (coordinate, &reg) in at.iter_mut().zip(used) {
                *coordinate = self.registers.narrow(reg)[lane as usize] as i32;
            }
            let (element, x) = (i64::from(map.element.bytes()), i64::from(at[0]));
            if x * element % 16 != 0 {
                let text = format!(
                    "the box begins at element {x} of its rows, no multiple of 16 bytes: a device \
                     takes that for an illegal instruction"
                );
                return bad(&text);
            }
            boxes.push((lane, map, at));
        }
        Ok(boxes)
    }

    fn tensor_load(
        &mut self,
        [to, mbarrier]: [&SharedAddr; 2],
        from: &TensorAddr,
        mask: Option<Reg>,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let targets = self.places(to, active, world)?;
        let mbarriers = self.places(mbarrier, active, world)?;
        let masks = match mask {
            None => None,
            Some(reg) => {
                self.registers.ready(reg, active, world.code)?;
                Some(*self.registers.narrow(reg))
            }
        };
        for (lane, map, at) in self.boxes(from, active, world)? {
            let place = lane as usize;
            let ((rank, target), (same, mbarrier)) = (targets[place], mbarriers[place]);
            let fault = |kind| (Some(lane), kind);
            let ranks = match masks {
                None if rank != same => {
                    let text = "the copy's target and its mbarrier are in different CTAs";
                    return Err(fault(FaultKind::BadOperand(text.to_string())));
                }
                None => vec![rank],
                Some(masks) => members(masks[place], world).map_err(fault)?,
            };
            let data = fetch(&map, at, world).map_err(fault)?;
            for rank in ranks {
                self.put(&map, &data, (rank, target, mbarrier), lane, world).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// Puts the rows of a box into one CTA's shared memory.
    fn put(
        &self,
        map: &TensorMap,
        data: &[u8],
        (rank, target, mbarrier): (usize, u64, u64),
        lane: u32,
        world: &mut World,
    ) -> Result<(), FaultKind> {
        if !target.is_multiple_of(128) {
            return Err(FaultKind::Misaligned { space: "shared", address: target, bytes: 128 });
        }
        let who = self.who(lane);
        let shared = &mut world.ctas[rank];
        let slot = shared.mbarriers.find(mbarrier, &who)?;
        shared.mbarriers.check_fenced(slot)?;
        let phase = shared.mbarriers.get(slot).map_or(0, |mbarrier| mbarrier.phase);
        let component = shared.layout().mbarrier(rank, slot);
        for (at, chunk) in data.chunks_exact(16).enumerate() {
            let address = swizzled(target + 16 * at as u64, map.swizzle);
            shared.write_asynchronously(address, chunk, &who, (component, phase))?;
        }
        let count = data.len() as u32;
        world.counters.shared_written += u64::from(count);
        let (from, warp, at) = (world.rank, self.id, self.at());
        world.arriving.push(Arriving { to: rank, slot, count, phase, from, warp, at });
        Ok(())
    }

    fn tensor_store(
        &mut self,
        to: &TensorAddr,
        from: &SharedAddr,
        adds: bool,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let sources = self.places(from, active, world)?;
        for (lane, map, at) in self.boxes(to, active, world)? {
            let fault = |kind| (Some(lane), kind);
            let (rank, source) = sources[lane as usize];
            if rank != world.rank {
                let text = "a bulk store reads the own CTA's shared memory only".to_string();
                return Err(fault(FaultKind::BadOperand(text)));
            }
            if !source.is_multiple_of(128) {
                let (space, bytes) = ("shared", 128);
                return Err(fault(FaultKind::Misaligned { space, address: source, bytes }));
            }
            check_store(&map, at).map_err(fault)?;
            let length = self.drain(&map, at, source, adds, lane, world).map_err(fault)?;
            let group = self.stores.closed[lane as usize];
            self.stores.pending.push(Store { lane, group, address: source, length });
        }
        Ok(())
    }

    /// Writes the rows of a box from shared memory; gives its size.
    fn drain(
        &self,
        map: &TensorMap,
        at: [i32; 5],
        source: u64,
        adds: bool,
        lane: u32,
        world: &mut World,
    ) -> Result<u32, FaultKind> {
        let (who, row_bytes) = (self.who(lane), map.row_bytes());
        let rows = map.rows(at);
        let mut sectors = SectorCount::default();
        let mut bytes = Vec::with_capacity(row_bytes);
        for (index, row) in rows.iter().enumerate() {
            bytes.clear();
            for chunk in (0..row_bytes).step_by(16) {
                let address = source + (index * row_bytes + chunk) as u64;
                let shared = world.shared();
                let read =
                    shared.read_asynchronously(swizzled(address, map.swizzle), &who, None)?;
                bytes.extend_from_slice(read);
            }
            if row.bytes == 0 {
                continue;
            }
            let data = &bytes[row.skip..row.skip + row.bytes];
            sectors.add(row.address, row.bytes as u32);
            if world.memory.get(row.address, row.bytes).is_none() {
                return Err(outside("bulk store", row.address, row.bytes, world));
            }
            let target = world.memory.get_mut(row.address, row.bytes).unwrap_or_default();
            if adds {
                add(map.element, target, data)?;
                world.counters.global_read += row.bytes as u64;
            } else {
                target.copy_from_slice(data);
            }
            world.counters.global_written += row.bytes as u64;
        }
        let length = (rows.len() * row_bytes) as u32;
        world.counters.sectors_written += sectors.finish();
        world.counters.shared_read += u64::from(length);
        world.shared().begin_reading(source, length, &who);
        Ok(length)
    }

    /// Lets the stores of the active lanes end, except those of the `keep` youngest closed groups
    /// and of the open one.
    fn finish_stores(&mut self, keep: u32, active: u32, world: &mut World) {
        let mut pending = std::mem::take(&mut self.stores.pending);
        pending.retain(|store| {
            let closed = self.stores.closed[store.lane as usize];
            let ends = active >> store.lane & 1 == 1 && store.group < closed.saturating_sub(keep);
            if ends {
                world.shared().end_reading(store.address, store.length, &self.who(store.lane));
            }
            !ends
        });
        self.stores.pending = pending;
    }
}

/// What an H200 was seen to refuse (a store that begins before the tensor) or to do otherwise than
/// the tensor's sizes say (one that is cut inside 16 bytes).
fn check_store(map: &TensorMap, at: [i32; 5]) -> Result<(), FaultKind> {
    let bad = |text: &str| Err(FaultKind::BadOperand(format!("bulk store: {text}")));
    if at.iter().any(|&coordinate| coordinate < 0) {
        return bad(
            "the box begins before the tensor; a device takes that for an illegal instruction",
        );
    }
    let row = map.sizes[0] * u64::from(map.element.bytes());
    if !row.is_multiple_of(16) && at[0] as u64 + u64::from(map.boxes[0]) > map.sizes[0] {
        return bad("the box is cut at the end of rows that are no multiple of 16 bytes");
    }
    Ok(())
}

/// The CTAs of a multicast's mask.
fn members(mask: u32, world: &World) -> Result<Vec<usize>, FaultKind> {
    let ranks: Vec<usize> = (0..16).filter(|rank| mask >> rank & 1 == 1).collect();
    let gone = |rank: &usize| *rank >= world.ctas.len() || world.ctas[*rank].ended;
    match ranks.iter().find(|rank| gone(rank)) {
        _ if ranks.is_empty() => {
            Err(FaultKind::BadOperand("a multicast to no CTA at all".to_string()))
        }
        Some(rank) => {
            let text = format!("a multicast to CTA {rank}, which is not there or has ended");
            Err(FaultKind::BadOperand(text))
        }
        None => Ok(ranks),
    }
}

/// The bytes of a box, with zeros for what lies outside the tensor.
fn fetch(map: &TensorMap, at: [i32; 5], world: &mut World) -> Result<Vec<u8>, FaultKind> {
    let row_bytes = map.row_bytes();
    let rows = map.rows(at);
    let mut data = vec![0; rows.len() * row_bytes];
    let mut sectors = SectorCount::default();
    for (row, target) in rows.iter().zip(data.chunks_exact_mut(row_bytes)) {
        if row.bytes == 0 {
            continue;
        }
        let found = world.memory.get(row.address, row.bytes);
        let found = found.ok_or_else(|| outside("bulk copy", row.address, row.bytes, world))?;
        target[row.skip..row.skip + row.bytes].copy_from_slice(found);
        sectors.add(row.address, row.bytes as u32);
        world.counters.global_read += row.bytes as u64;
    }
    world.counters.sectors_read += sectors.finish();
    Ok(data)
}

fn outside(access: &'static str, address: u64, bytes: usize, world: &World) -> FaultKind {
    let detail = world.memory.describe(address);
    FaultKind::OutOfBounds { access, space: "global", address, bytes: bytes as u32, detail }
}

/// Adds element by element, each sum rounded to nearest.
fn add(element: Element, target: &mut [u8], data: &[u8]) -> Result<(), FaultKind> {
    for (old, new) in target
        .chunks_exact_mut(element.bytes() as usize)
        .zip(data.chunks_exact(element.bytes() as usize))
    {
        match element {
            Element::F32 => {
                let number =
                    |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                old.copy_from_slice(&(number(old) + number(new)).to_le_bytes());
            }
            Element::Bf16 => {
                let number = |bytes: &[u8]| bf16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]));
                let sum = f32_to_bf16(number(old) + number(new));
                old.copy_from_slice(&sum.to_le_bytes());
            }
            Element::F16 => {
                let number = |bytes: &[u8]| f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]));
                let sum = f64::from(number(old)) + f64::from(number(new));
                old.copy_from_slice(&f64_to_f16(sum, Round::Near).to_le_bytes());
            }
            Element::U32 => {
                let number =
                    |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                old.copy_from_slice(&number(old).wrapping_add(number(new)).to_le_bytes());
            }
            Element::U8 | Element::U16 => {
                let text = format!("a bulk reduction of .{element:?} is not there");
                return Err(FaultKind::BadOperand(text));
            }
        }
    }
    Ok(())
}
