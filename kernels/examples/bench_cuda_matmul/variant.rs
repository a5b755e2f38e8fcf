//! Which kernel is measured, and its launch.

use std::ffi::c_void;

use crate::device::{Gpu, Kernel, Outcome, Room};
use crate::matmul_sm90::{
    BLOCK, GROUP, Operands, PARTS_BYTES_MOST, Parts, Product, SHARED_BYTES, SUM_BLOCK, SUM_ENTRY,
    SUM_SOURCE, grid,
};

fn portable(kind: Product) -> &'static str {
    match kind {
        Product::Forward => include_str!("../../src/cuda/matmul_forward.ptx"),
        Product::BackwardInput => include_str!("../../src/cuda/matmul_backward_input.ptx"),
        Product::BackwardWeight => include_str!("../../src/cuda/matmul_backward_weight.ptx"),
    }
}

/// The portable kernel's name, and that of both files.
pub fn name_of(kind: Product) -> &'static str {
    kind.entry().trim_end_matches("_sm90")
}

/// A kernel to be measured.
pub struct Variant {
    kernel: Kernel,
    /// Adds up parts; none for the portable kernels.
    sum: Option<Kernel>,
    /// Room for parts.
    room: Room,
    group: u32,
    /// Terms of a second pair, when speed is measured.
    pub second: u32,
}

/// `sm90`, `portable`, or the former with something changed.
pub fn variant(gpu: &Gpu, kind: Product, name: &str) -> Outcome<Variant> {
    let mut source = kind.source().to_owned();
    let (mut group, mut second) = (GROUP, 0);
    match name {
        _ if name.starts_with("portable") => {
            let mut source = portable(kind).to_owned();
            if let Some(folder) = name.strip_prefix("portable=") {
                source = std::fs::read_to_string(format!("{folder}/{}.ptx", name_of(kind)))?;
            }
            let kernel = gpu.load(&source, name_of(kind), 128, 98_304)?;
            return Ok(Variant {
                kernel,
                sum: None,
                room: Room { address: 0, bytes: 0 },
                group,
                second,
            });
        }
        "sm90" => {}
        other => {
            if let Some(number) = other.strip_prefix("group") {
                group = number.parse()?;
            } else if let Some(number) = other.strip_prefix("second") {
                second = number.parse()?;
            } else if let Some(folder) = other.strip_prefix("in=") {
                source = std::fs::read_to_string(format!("{folder}/{}.ptx", name_of(kind)))?;
            } else {
                return Err(format!("no variant is called {other}").into());
            }
        }
    }
    let kernel = gpu.load(&source, kind.entry(), BLOCK, SHARED_BYTES)?;
    let sum = Some(gpu.load(SUM_SOURCE, SUM_ENTRY, SUM_BLOCK, 0)?);
    let room = Room::new(PARTS_BYTES_MOST as usize)?;
    Ok(Variant { kernel, sum, room, group, second })
}

impl Variant {
    pub fn launch(&self, gpu: &Gpu, kind: Product, operands: &Operands) -> Outcome<()> {
        let Some(sum) = &self.sum else {
            let mut o = *operands;
            let grid = [o.m.div_ceil(128), o.n.div_ceil(128)];
            let mut flags = [u32::from(o.add), u32::from(o.wide)];
            let [add, wide] = &mut flags;
            let mut arguments: [*mut c_void; 9] = [
                (&raw mut o.out).cast(),
                (&raw mut o.a).cast(),
                (&raw mut o.b).cast(),
                (&raw mut o.m).cast(),
                (&raw mut o.n).cast(),
                (&raw mut o.k).cast(),
                (&raw mut o.alpha).cast(),
                (&raw mut *add).cast(),
                (&raw mut *wide).cast(),
            ];
            return gpu.launch(&self.kernel, grid, &mut arguments);
        };
        if !kind.takes(operands) {
            return Err(format!("the kernel does not take {operands:?}").into());
        }
        let mut o = *operands;
        let count = kind.parts(gpu.processors, &o);
        o.parts = (count > 1).then_some(Parts { count, address: self.room.address });
        let mut arguments = kind.arguments(&o, self.group)?;
        let grid = [grid(gpu.processors, &o), 1];
        gpu.launch(&self.kernel, grid, &mut arguments.pointers())?;
        match o.sum() {
            Some((mut arguments, grid)) => gpu.launch(sum, [grid, 1], &mut arguments.pointers()),
            None => Ok(()),
        }
    }
}
