//! A device for tests, and shorthand for kernels of a few instructions.
#![allow(dead_code)]

use paddock_ptx_emulator::{DeviceConfig, Fault, FaultKind, LaunchError, Machine, Report, Shape};

/// A parameter of a launch.
#[derive(Clone, Copy)]
pub enum Arg {
    /// A 32-bit number.
    U32(u32),
    /// A pointer or another 64-bit number.
    U64(u64),
    /// A float.
    F32(f32),
    /// A tensor map.
    Map([u8; 128]),
}

pub struct Gpu {
    pub machine: Machine,
}

impl Gpu {
    pub fn new() -> Self {
        Self { machine: Machine::new(DeviceConfig::default()) }
    }

    /// A device of Hopper's family.
    pub fn hopper() -> Self {
        Self { machine: Machine::new(DeviceConfig::hopper()) }
    }

    /// Device memory with these values.
    pub fn upload<T: Copy, const B: usize>(
        &mut self,
        values: &[T],
        bytes: fn(T) -> [u8; B],
    ) -> u64 {
        let address = self.machine.memory.allocate((values.len() * B) as u64).expect("room");
        let target = self.machine.memory.get_mut(address, values.len() * B).expect("allocated");
        for (slot, value) in target.chunks_exact_mut(B).zip(values) {
            slot.copy_from_slice(&bytes(*value));
        }
        address
    }

    pub fn u32s(&mut self, values: &[u32]) -> u64 {
        self.upload(values, u32::to_le_bytes)
    }

    pub fn u64s(&mut self, values: &[u64]) -> u64 {
        self.upload(values, u64::to_le_bytes)
    }

    pub fn f32s(&mut self, values: &[f32]) -> u64 {
        self.upload(values, f32::to_le_bytes)
    }

    pub fn u16s(&mut self, values: &[u16]) -> u64 {
        self.upload(values, u16::to_le_bytes)
    }

    /// Unwritten device memory.
    pub fn room(&mut self, bytes: usize) -> u64 {
        self.machine.memory.allocate(bytes as u64).expect("room")
    }

    fn read<T, const B: usize>(
        &self,
        address: u64,
        count: usize,
        from: fn([u8; B]) -> T,
    ) -> Vec<T> {
        let bytes = self.machine.memory.get(address, count * B).expect("allocated");
        bytes.chunks_exact(B).map(|part| from(part.try_into().expect("whole"))).collect()
    }

    pub fn read_u32(&self, address: u64, count: usize) -> Vec<u32> {
        self.read(address, count, u32::from_le_bytes)
    }

    pub fn read_u64(&self, address: u64, count: usize) -> Vec<u64> {
        self.read(address, count, u64::from_le_bytes)
    }

    pub fn read_f32(&self, address: u64, count: usize) -> Vec<f32> {
        self.read(address, count, f32::from_le_bytes)
    }

    pub fn read_u16(&self, address: u64, count: usize) -> Vec<u16> {
        self.read(address, count, u16::from_le_bytes)
    }

    /// Loads `source` and launches its kernel `name`.
    pub fn try_launch(
        &mut self,
        source: &str,
        name: &str,
        shape: Shape,
        args: &[Arg],
    ) -> Result<Report, LaunchError> {
        let module = self.machine.load(source).unwrap_or_else(|error| panic!("{error}"));
        let kernel = module.kernel(name).expect("the kernel is in the file");
        let mut block = Vec::new();
        for arg in args {
            let (size, bits) = match arg {
                Arg::U32(value) => (4, u64::from(*value)),
                Arg::F32(value) => (4, u64::from(value.to_bits())),
                Arg::U64(value) => (8, *value),
                Arg::Map(bytes) => {
                    block.resize(block.len().next_multiple_of(64), 0);
                    block.extend_from_slice(bytes);
                    continue;
                }
            };
            block.resize(block.len().next_multiple_of(size), 0);
            block.extend_from_slice(&bits.to_le_bytes()[..size]);
        }
        self.machine.launch(&kernel, shape, &block)
    }

    pub fn launch(&mut self, source: &str, name: &str, shape: Shape, args: &[Arg]) -> Report {
        self.try_launch(source, name, shape, args).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// One CTA of `threads`, no dynamic shared memory.
pub fn one_cta(threads: u32) -> Shape {
    Shape { grid: [1, 1, 1], block: [threads, 1, 1], shared: 0 }
}

/// A kernel `k(out, in)` around `body`, with some registers declared and %lane, %out, %in set.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 p_out, .param .u64 p_in)\n{{\n\
         .reg .b32 %a, %b, %c, %d, %r, %lane, %t<8>;\n\
         .reg .b64 %wa, %wb, %wc, %wr, %out, %in, %w<4>;\n\
         .reg .b16 %h<8>;\n.reg .f32 %f<16>;\n.reg .pred %p, %q, %s;\n\
         ld.param.u64 %out, [p_out]; ld.param.u64 %in, [p_in]; mov.u32 %lane, %tid.x;\n\
         {body}\nret;\n}}\n"
    )
}

/// Runs `snippet` in 32 lanes: %a, %b, %c, %d come from `inputs` (lane by lane; shorter lists are
/// repeated), the result is %r.
pub fn lanes(snippet: &str, inputs: &[[u32; 4]]) -> Vec<u32> {
    let body = format!(
        "mad.wide.u32 %w0, %lane, 16, %in;\nld.global.v4.u32 {{%a, %b, %c, %d}}, [%w0];\n\
         {snippet}\nmad.wide.u32 %w1, %lane, 4, %out;\nst.global.u32 [%w1], %r;"
    );
    let mut gpu = Gpu::new();
    let values: Vec<u32> = (0..32).flat_map(|lane| inputs[lane % inputs.len()]).collect();
    let (input, output) = (gpu.u32s(&values), gpu.room(128));
    gpu.launch(&kernel(&body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    gpu.read_u32(output, inputs.len().min(32))
}

/// As [`lanes`] with 64-bit values %wa, %wb, %wc and result %wr.
pub fn wide_lanes(snippet: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let body = format!(
        "mad.wide.u32 %w0, %lane, 24, %in;\nld.global.u64 %wa, [%w0];\n\
         ld.global.u64 %wb, [%w0+8];\nld.global.u64 %wc, [%w0+16];\ncvt.u32.u64 %b, %wb;\n\
         {snippet}\nmad.wide.u32 %w1, %lane, 8, %out;\nst.global.u64 [%w1], %wr;"
    );
    let mut gpu = Gpu::new();
    let values: Vec<u64> = (0..32).flat_map(|lane| inputs[lane % inputs.len()]).collect();
    let (input, output) = (gpu.u64s(&values), gpu.room(256));
    gpu.launch(&kernel(&body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    gpu.read_u64(output, inputs.len().min(32))
}

/// Runs `body` (see [`kernel`]) with `threads` threads and gives the first fault.
pub fn fault_of(body: &str, threads: u32) -> Fault {
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[7; 64]), gpu.room(4096));
    let args = [Arg::U64(output), Arg::U64(input)];
    match gpu.try_launch(&kernel(body), "k", one_cta(threads), &args) {
        Err(LaunchError::Fault(fault)) => *fault,
        Err(other) => panic!("refused: {other}"),
        Ok(_) => panic!("no fault was found in:\n{body}"),
    }
}

/// Only the kind of [`fault_of`].
pub fn kind_of(body: &str, threads: u32) -> FaultKind {
    fault_of(body, threads).kind
}

/// As [`kernel`] for sm_90a, with 1,024-aligned shared memory `tile` of 64 KiB, two mbarriers
/// `first` and `second`, and two tensor maps `map_a` and `map_b`.
pub fn hopper_kernel(directives: &str, body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 p_out, .param .u64 p_in,\n\
         .param .align 64 .b8 map_a[128], .param .align 64 .b8 map_b[128])\n{directives}\n{{\n\
         .shared .align 1024 .b8 tile[65536]; .shared .align 8 .b64 first; \
         .shared .align 8 .b64 second;\n\
         .reg .b32 %a, %b, %c, %d, %r, %lane, %t<8>;\n\
         .reg .b64 %wa, %wb, %wc, %wr, %out, %in, %w<4>;\n\
         .reg .b16 %h<8>;\n.reg .f32 %f<16>;\n.reg .pred %p, %q, %s;\n\
         ld.param.u64 %out, [p_out]; ld.param.u64 %in, [p_in]; mov.u32 %lane, %tid.x;\n\
         {body}\nret;\n}}\n"
    )
}

/// Runs a [`hopper_kernel`] that takes no tensor maps.
pub fn run_hopper(
    gpu: &mut Gpu,
    body: &str,
    shape: Shape,
    out: u64,
) -> Result<Report, LaunchError> {
    let none = Arg::Map([0; 128]);
    let args = [Arg::U64(out), Arg::U64(out), none, none];
    gpu.try_launch(&hopper_kernel("", body), "k", shape, &args)
}

/// The fault of a [`hopper_kernel`] that takes no tensor maps.
pub fn hopper_fault(body: &str, threads: u32) -> Fault {
    let mut gpu = Gpu::hopper();
    let out = gpu.room(4096);
    match run_hopper(&mut gpu, body, one_cta(threads), out) {
        Err(LaunchError::Fault(fault)) => *fault,
        Err(other) => panic!("refused: {other}"),
        Ok(_) => panic!("no fault was found in:\n{body}"),
    }
}
