//! Loads, stores and atomics in every state space.

use crate::ast::Space;
use crate::banks::count_passes;
use crate::error::{FaultKind, LaneFault};
use crate::exec::copies::SectorCount;
use crate::exec::registers::Registers;
use crate::exec::warp::Warp;
use crate::exec::world::World;
use crate::ir::{Addr, AtomicOp, Code, L64, Op, Reg, Ty};

/// Generic addresses of shared memory begin here: below every allocation of device memory.
pub(crate) const SHARED_WINDOW: u64 = 0x1_0000_0000;
/// CTA r of a cluster has its shared memory at r times this in the cluster's window.
pub(crate) const CLUSTER_STEP: u64 = 1 << 24;
const WINDOW_SIZE: u64 = CLUSTER_STEP;
/// Generic addresses of parameters begin here.
pub(crate) const PARAMETER_WINDOW: u64 = 0x2_0000_0000;

/// A space's name for messages.
pub(crate) fn space_name(space: Space) -> &'static str {
    match space {
        Space::Generic => "generic",
        Space::Global => "global",
        Space::Shared => "shared",
        Space::Param => "parameter",
        Space::Const => "constant",
        Space::Local => "local",
    }
}

/// The address of each active lane.
pub(crate) fn address_lanes(
    registers: &Registers,
    addr: &Addr,
    active: u32,
    code: &Code,
) -> Result<L64, LaneFault> {
    let Some(base) = addr.base else { return Ok([addr.offset as u64; 32]) };
    registers.ready(base, active, code)?;
    let wide = matches!(base, Reg::D(_));
    Ok(registers.wide(base).map(|lane| {
        let sum = lane.wrapping_add(addr.offset as u64);
        if wide { sum } else { u64::from(sum as u32) }
    }))
}

/// One access of a warp: the active lanes, their addresses, and the shape of what each one touches.
struct Access {
    space: Space,
    addresses: L64,
    active: u32,
    ty: Ty,
    count: u32,
}

impl Access {
    fn bytes(&self) -> u32 {
        self.ty.bytes() * self.count
    }

    fn lanes(&self) -> impl Iterator<Item = u32> + use<> {
        let active = self.active;
        (0..32).filter(move |lane| active >> lane & 1 == 1)
    }
}

fn at(lane: u32, kind: FaultKind) -> LaneFault {
    (Some(lane), kind)
}

fn load_value(bytes: &[u8], ty: Ty) -> u64 {
    let mut raw = [0; 8];
    raw[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(raw);
    match ty {
        Ty::S8 => value as i8 as i64 as u64,
        Ty::S16 => value as i16 as i64 as u64,
        Ty::S32 => value as i32 as i64 as u64,
        _ => value,
    }
}

impl Warp {
    pub(crate) fn access(
        &mut self,
        op: &Op,
        active: u32,
        world: &mut World,
    ) -> Result<(), LaneFault> {
        let (space, ty, count, addr) = match op {
            Op::Ld { space, ty, n, addr, .. } | Op::St { space, ty, n, addr, .. } => {
                (*space, *ty, u32::from(*n), addr)
            }
            Op::Atom { space, ty, addr, .. } => (*space, *ty, 1, addr),
            _ => return Ok(()),
        };
        let addresses = address_lanes(&self.registers, addr, active, world.code)?;
        let mut access = Access { space, addresses, active, ty, count };
        if space == Space::Generic {
            resolve_generic(&mut access)?;
        }
        match op {
            Op::Ld { d, .. } => self.load(&access, d, world),
            Op::St { s, .. } => self.store(&access, s, world),
            Op::Atom { op, d, b, c, .. } => self.atomic(&access, *op, [*d, *b, *c], world),
            _ => Ok(()),
        }
    }

    fn load(&mut self, access: &Access, d: &[Reg; 4], world: &mut World) -> Result<(), LaneFault> {
        let (length, step) = (access.bytes(), access.ty.bytes() as usize);
        let mut values = [[0_u64; 32]; 4];
        let mut sectors = SectorCount::default();
        for lane in access.lanes() {
            let address = access.addresses[lane as usize];
            if access.space == Space::Global {
                sectors.add(address, length);
            }
            let bytes =
                self.read_bytes(access, address, lane, world).map_err(|kind| at(lane, kind))?;
            for (value, part) in values.iter_mut().zip(bytes.chunks_exact(step)) {
                value[lane as usize] = load_value(part, access.ty);
            }
        }
        for (value, &reg) in values.iter().zip(d).take(access.count as usize) {
            if access.ty == Ty::Pred {
                continue;
            }
            self.registers.set_wide(reg, value, access.active);
        }
        let total = u64::from(length) * u64::from(access.active.count_ones());
        match access.space {
            Space::Global => {
                world.counters.global_read += total;
                world.counters.sectors_read += sectors.finish();
            }
            Space::Shared => {
                world.counters.shared_read += total;
                count_passes(&access.addresses, access.active, length, world.counters);
            }
            _ => {}
        }
        Ok(())
    }

    fn read_bytes<'a>(
        &'a self,
        access: &Access,
        address: u64,
        lane: u32,
        world: &'a mut World,
    ) -> Result<&'a [u8], FaultKind> {
        let length = access.bytes();
        let flat = |bytes: &'a [u8], size: usize| {
            let start = checked_range(access, address, size, "read")?;
            Ok(&bytes[start..start + length as usize])
        };
        match access.space {
            Space::Shared => world.shared().read(address, length, &self.who(lane)),
            Space::Param => flat(world.parameters, world.parameters.len()),
            Space::Const => flat(world.constants, world.constants.len()),
            Space::Local => {
                let size = world.code.local_bytes as usize;
                let start = checked_range(access, address, size, "read")? + lane as usize * size;
                let range = start..start + length as usize;
                if self.local_written[range.clone()].contains(&false) {
                    return Err(FaultKind::UninitialisedMemory { space: "local", address });
                }
                Ok(&self.local[range])
            }
            _ => {
                aligned("global", address, length)?;
                let memory = &*world.memory;
                memory
                    .get(address, length as usize)
                    .ok_or_else(|| outside(access, address, "read", world))
            }
        }
    }

    fn store(&mut self, access: &Access, s: &[Reg; 4], world: &mut World) -> Result<(), LaneFault> {
        let (length, step) = (access.bytes(), access.ty.bytes() as usize);
        let mut values = [[0_u64; 32]; 4];
        for (value, &reg) in values.iter_mut().zip(s).take(access.count as usize) {
            self.registers.ready(reg, access.active, world.code)?;
            *value = self.registers.wide(reg);
        }
        let mut sectors = SectorCount::default();
        for lane in access.lanes() {
            let address = access.addresses[lane as usize];
            let mut data = [0; 32];
            for (part, value) in
                data.chunks_exact_mut(step).zip(values.iter().take(access.count as usize))
            {
                part.copy_from_slice(&value[lane as usize].to_le_bytes()[..step]);
            }
            if access.space == Space::Global {
                sectors.add(address, length);
            }
            self.write_bytes(access, address, &data[..length as usize], lane, world)
                .map_err(|kind| at(lane, kind))?;
        }
        let total = u64::from(length) * u64::from(access.active.count_ones());
        match access.space {
            Space::Global => {
                world.counters.global_written += total;
                world.counters.sectors_written += sectors.finish();
            }
            Space::Shared => {
                world.counters.shared_written += total;
                count_passes(&access.addresses, access.active, length, world.counters);
            }
            _ => {}
        }
        Ok(())
    }

    fn write_bytes(
        &mut self,
        access: &Access,
        address: u64,
        data: &[u8],
        lane: u32,
        world: &mut World,
    ) -> Result<(), FaultKind> {
        match access.space {
            Space::Shared => world.shared().write(address, data, &self.who(lane)),
            Space::Local => {
                let size = world.code.local_bytes as usize;
                let start = checked_range(access, address, size, "write")? + lane as usize * size;
                self.local[start..start + data.len()].copy_from_slice(data);
                self.local_written[start..start + data.len()].fill(true);
                Ok(())
            }
            Space::Global => {
                aligned("global", address, data.len() as u32)?;
                match world.memory.get_mut(address, data.len()) {
                    Some(target) => {
                        target.copy_from_slice(data);
                        Ok(())
                    }
                    None => Err(outside(access, address, "write", world)),
                }
            }
            space => {
                let text = format!("{} memory cannot be written", space_name(space));
                Err(FaultKind::BadOperand(text))
            }
        }
    }

    /// Lanes take their turns in ascending order: one of the orders that the hardware may choose.
    fn atomic(
        &mut self,
        access: &Access,
        op: AtomicOp,
        [d, b, c]: [Reg; 3],
        world: &mut World,
    ) -> Result<(), LaneFault> {
        for reg in [b, c] {
            self.registers.ready(reg, access.active, world.code)?;
        }
        let (operand, second) = (self.registers.wide(b), self.registers.wide(c));
        let length = access.bytes();
        let mut before = [0_u64; 32];
        for lane in access.lanes() {
            let (place, address) = (lane as usize, access.addresses[lane as usize]);
            let bytes = match access.space {
                Space::Shared => world.shared().atomic(address, length, &self.who(lane)),
                Space::Global => aligned("global", address, length).and_then(|()| {
                    if world.memory.get(address, length as usize).is_none() {
                        return Err(outside(access, address, "atomic", world));
                    }
                    Ok(world.memory.get_mut(address, length as usize).unwrap_or_default())
                }),
                space => {
                    Err(FaultKind::BadOperand(format!("atomic in {} memory", space_name(space))))
                }
            };
            let bytes = bytes.map_err(|kind| at(lane, kind))?;
            before[place] = load_value(bytes, access.ty);
            let after = combine(op, access.ty, before[place], operand[place], second[place]);
            bytes.copy_from_slice(&after.to_le_bytes()[..length as usize]);
        }
        self.registers.set_wide(d, &before, access.active);
        let total = u64::from(length) * u64::from(access.active.count_ones());
        if access.space == Space::Global {
            world.counters.global_read += total;
            world.counters.global_written += total;
        }
        Ok(())
    }
}

/// The space of a generic address, and where its window begins.
fn generic_space(address: u64) -> (Space, u64) {
    let inside = |window: u64| (window..window + WINDOW_SIZE).contains(&address);
    match address {
        _ if inside(SHARED_WINDOW) => (Space::Shared, SHARED_WINDOW),
        _ if inside(PARAMETER_WINDOW) => (Space::Param, PARAMETER_WINDOW),
        _ => (Space::Global, 0),
    }
}

/// All lanes of one access must be in the same space.
fn resolve_generic(access: &mut Access) -> Result<(), LaneFault> {
    let mut lanes = access.lanes();
    let first = lanes.next().unwrap_or(0);
    let (space, window) = generic_space(access.addresses[first as usize]);
    let elsewhere = |lane: &u32| generic_space(access.addresses[*lane as usize]).0 != space;
    if let Some(lane) = lanes.find(elsewhere) {
        let text = "a generic access mixes state spaces in one warp: not supported here";
        return Err(at(lane, FaultKind::BadOperand(text.to_string())));
    }
    access.space = space;
    access.addresses = access.addresses.map(|address| address.wrapping_sub(window));
    Ok(())
}

fn aligned(space: &'static str, address: u64, bytes: u32) -> Result<(), FaultKind> {
    if address.is_multiple_of(u64::from(bytes)) {
        Ok(())
    } else {
        Err(FaultKind::Misaligned { space, address, bytes })
    }
}

fn checked_range(
    access: &Access,
    address: u64,
    size: usize,
    verb: &'static str,
) -> Result<usize, FaultKind> {
    let (space, bytes) = (space_name(access.space), access.bytes());
    aligned(space, address, bytes)?;
    match address.checked_add(u64::from(bytes)) {
        Some(end) if end <= size as u64 => Ok(address as usize),
        _ => {
            let detail = format!("there are {size} bytes");
            Err(FaultKind::OutOfBounds { access: verb, space, address, bytes, detail })
        }
    }
}

fn outside(access: &Access, address: u64, verb: &'static str, world: &World) -> FaultKind {
    FaultKind::OutOfBounds {
        access: verb,
        space: space_name(access.space),
        address,
        bytes: access.bytes(),
        detail: world.memory.describe(address),
    }
}

/// What an atomic leaves in memory.
fn combine(op: AtomicOp, ty: Ty, old: u64, b: u64, c: u64) -> u64 {
    let floats = |f: fn(f32, f32) -> f32| {
        u64::from(f(f32::from_bits(old as u32), f32::from_bits(b as u32)).to_bits())
    };
    match (op, ty) {
        (AtomicOp::Add, Ty::F32) => floats(|x, y| x + y),
        (AtomicOp::Add, Ty::F64) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (AtomicOp::Add, _) => old.wrapping_add(b),
        (AtomicOp::Min, Ty::S32) => (old as i32).min(b as i32) as u32 as u64,
        (AtomicOp::Max, Ty::S32) => (old as i32).max(b as i32) as u32 as u64,
        (AtomicOp::Min, Ty::S64) => (old as i64).min(b as i64) as u64,
        (AtomicOp::Max, Ty::S64) => (old as i64).max(b as i64) as u64,
        (AtomicOp::Min, _) => old.min(b),
        (AtomicOp::Max, _) => old.max(b),
        (AtomicOp::And, _) => old & b,
        (AtomicOp::Or, _) => old | b,
        (AtomicOp::Xor, _) => old ^ b,
        (AtomicOp::Exch, _) => b,
        (AtomicOp::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (AtomicOp::Inc, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (AtomicOp::Dec, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}
