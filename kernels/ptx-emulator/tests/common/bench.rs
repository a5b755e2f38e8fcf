//! Launches of kernels on random numbers, described in a few words.

use crate::common::{Arg, Gpu};
use crate::data::Numbers;
use paddock_ptx_emulator::{Element, TensorMap};

/// A device with random numbers on it.
pub struct Bench {
    pub gpu: Gpu,
    pub numbers: Numbers,
}

impl Bench {
    /// A buffer of bf16.
    pub fn narrow(&mut self, count: usize) -> Arg {
        let values = self.numbers.bf16s(count);
        Arg::U64(self.gpu.u16s(&values))
    }

    /// A buffer of f32 in [0, 1).
    pub fn wide(&mut self, count: usize) -> Arg {
        let values: Vec<f32> = self.numbers.f32s(count).iter().map(|x| x.abs()).collect();
        Arg::U64(self.gpu.f32s(&values))
    }

    pub fn list(&mut self, values: impl IntoIterator<Item = u32>) -> Arg {
        let values: Vec<u32> = values.into_iter().collect();
        Arg::U64(self.gpu.u32s(&values))
    }

    /// A matrix as a tensor map of pieces of 64 rows of 128 bytes.
    pub fn matrix(&mut self, element: Element, rows: usize, columns: usize) -> Arg {
        let list = match element {
            Element::F32 => self.wide(rows * columns),
            _ => self.narrow(rows * columns),
        };
        let Arg::U64(address) = list else { panic!("a buffer is an address") };
        let (bytes, sizes) = (element.bytes(), [columns as u64, rows as u64]);
        let (stride, boxes) = ([sizes[0] * u64::from(bytes)], [128 / bytes, 64]);
        let map = TensorMap::new(element, address, &sizes, &stride, &boxes, 128);
        Arg::Map(map.expect("the matrix fits").to_bytes())
    }

    /// 0, 1, 2, …
    pub fn rows(&mut self, count: usize) -> Arg {
        self.list(0..count as u32)
    }
}

pub fn n(value: usize) -> Arg {
    Arg::U32(value as u32)
}

pub fn long(value: usize) -> Arg {
    Arg::U64(value as u64)
}

/// Puts a kernel's operands on a device and gives its arguments.
pub type Args = Box<dyn Fn(&mut Bench) -> Vec<Arg>>;

/// One launch.
pub struct Job {
    pub file: &'static str,
    pub entry: String,
    /// In words, for the table.
    pub what: String,
    pub grid: [usize; 2],
    pub block: u32,
    pub shared: usize,
    pub args: Args,
}

pub fn job(
    file: &'static str,
    entry: impl Into<String>,
    what: impl Into<String>,
    (grid, block, shared): ([usize; 2], u32, usize),
    args: impl Fn(&mut Bench) -> Vec<Arg> + 'static,
) -> Job {
    Job { file, entry: entry.into(), what: what.into(), grid, block, shared, args: Box::new(args) }
}

pub fn per(items: usize, each: usize, block: u32) -> ([usize; 2], u32, usize) {
    ([items.div_ceil(each), 1], block, 0)
}
