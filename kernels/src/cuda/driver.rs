//! The calls of the CUDA driver that cust does not offer as safe functions: raw memory, modules with
//! their error log, launches. All unsafe code of the back-end is in this file.

use std::cell::Cell;
use std::ffi::{CString, c_uint, c_void};
use std::rc::Rc;
use std::time::Duration;

use cust::context::Context;
use cust::event::{Event, EventFlags};
use cust::memory::LockedBuffer;
use cust::stream::Stream;
use cust::sys;

use super::{matmul_sm90, wait};

/// A result code of the driver that is not success.
pub type Code = u32;

/// What a call of the driver gives.
pub type Answer<T = ()> = Result<T, Code>;

fn answer(result: sys::CUresult) -> Answer {
    match result as u32 {
        0 => Ok(()),
        code => Err(code),
    }
}

/// The context that everything on the device belongs to.
pub struct Home {
    context: Option<Context>,
    hung: Cell<bool>,
}

impl Home {
    /// Of a context that was made current.
    pub fn new(context: Context) -> Home {
        Home { context: Some(context), hung: Cell::new(false) }
    }

    /// The device does not answer: from now on nothing is given back to it, because that would wait for it.
    /// The end of the process gives it back.
    pub fn abandon(&self) {
        self.hung.set(true);
    }

    /// Whether it was abandoned.
    pub fn is_abandoned(&self) -> bool {
        self.hung.get()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.hung.get() {
            std::mem::forget(self.context.take());
        }
    }
}

/// Device memory, given back when dropped.
pub struct Buffer {
    address: u64,
    bytes: u64,
    /// The memory belongs to the context.
    home: Rc<Home>,
}

impl Buffer {
    /// Memory with undefined contents; `bytes` is not 0.
    pub fn new(home: &Rc<Home>, bytes: u64) -> Answer<Buffer> {
        let mut address = 0;
        // SAFETY: the driver writes an address to the variable, whose context is current.
        answer(unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) })?;
        Ok(Buffer { address, bytes, home: home.clone() })
    }

    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.home.is_abandoned() {
            return;
        }
        // SAFETY: the address came from the allocation and is forgotten now. On a lost device the call
        // fails and there is nothing left to free.
        let _ = unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// Fills `count` words of `bytes_each` (1, 2 or 4) bytes with the lowest bytes of `value`.
pub fn fill(stream: &Stream, at: u64, value: u32, bytes_each: u32, count: u64) -> Answer {
    let (raw, count) = (stream.as_inner(), count as usize);
    // SAFETY: no memory of the host is involved; the driver checks the device's.
    answer(unsafe {
        match bytes_each {
            1 => sys::cuMemsetD8Async(at, value as u8, count, raw),
            2 => sys::cuMemsetD16Async(at, value as u16, count, raw),
            _ => sys::cuMemsetD32Async(at, value, count, raw),
        }
    })
}

/// Copies device memory to device memory.
pub fn copy(stream: &Stream, to: u64, from: u64, bytes: u64) -> Answer {
    // SAFETY: no memory of the host is involved; the driver checks the device's.
    answer(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes as usize, stream.as_inner()) })
}

/// Copies device memory to the host and waits for the copy. All work before it has finished: the driver
/// would wait for it without a limit.
pub fn read(stream: &Stream, to: &mut [u8], from: u64) -> Answer {
    // SAFETY: the target has that many bytes and stays borrowed until the stream has finished below.
    let copied = answer(unsafe {
        sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream.as_inner())
    });
    let waited = stream.synchronize().map_err(|e| e as Code);
    copied.and(waited)
}

/// Free and total bytes of the current device.
pub fn memory() -> Answer<(u64, u64)> {
    let (free, total) = cust::memory::mem_get_info().map_err(|e| e as Code)?;
    Ok((free as u64, total as u64))
}

/// Pinned memory of the host that uploads go through: several buffers that take turns, so that one is
/// filled while another is on its way.
pub struct Staging {
    buffers: Vec<(LockedBuffer<u8>, Event)>,
    next: usize,
}

/// Bytes of one buffer of [`Staging`].
pub const PIECE: usize = 4 << 20;
const BUFFERS: usize = 3;

impl Staging {
    /// Allocates the buffers.
    pub fn new(stream: &Stream) -> Answer<Staging> {
        let mut buffers = Vec::new();
        for _ in 0..BUFFERS {
            let buffer = LockedBuffer::new(&0_u8, PIECE).map_err(|e| e as Code)?;
            let event = Event::new(EventFlags::DISABLE_TIMING).map_err(|e| e as Code)?;
            event.record(stream).map_err(|e| e as Code)?;
            buffers.push((buffer, event));
        }
        Ok(Staging { buffers, next: 0 })
    }

    /// Lets `write` fill `bytes` bytes (at most [`PIECE`]) and sends them to the device.
    pub fn send(
        &mut self,
        stream: &Stream,
        to: u64,
        bytes: usize,
        limit: Duration,
        write: impl FnOnce(&mut [u8]),
    ) -> Answer {
        let (buffer, event) = &mut self.buffers[self.next];
        self.next = (self.next + 1) % BUFFERS;
        // The copy that used this buffer before has left it.
        wait::until(event, limit)?;
        write(&mut buffer[..bytes]);
        // SAFETY: the buffer has that many bytes, and nobody writes it before the event has passed;
        // `Gpu` waits for the stream before it drops the buffers.
        answer(unsafe {
            let from = buffer.as_slice().as_ptr().cast::<c_void>();
            sys::cuMemcpyHtoDAsync_v2(to, from, bytes, stream.as_inner())
        })?;
        event.record(stream).map_err(|e| e as Code)
    }
}

/// A loaded file of PTX.
pub struct Module {
    raw: sys::CUmodule,
}

impl Module {
    /// Assembles `text` for the current device. The error carries the assembler's own words.
    pub fn load(text: &str) -> Result<Module, (Code, String)> {
        let text =
            CString::new(text).map_err(|_| (218, String::from("a zero byte in the text")))?;
        let mut log = vec![0_u8; 8192];
        let mut options = [
            sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let mut raw = std::ptr::null_mut();
        // SAFETY: two options with their two values, a C string, and a log as long as is told.
        let result = answer(unsafe {
            sys::cuModuleLoadDataEx(
                &mut raw,
                text.as_ptr().cast(),
                options.len() as c_uint,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        });
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        let log = || String::from_utf8_lossy(&log[..end]).trim().to_owned();
        result.map(|()| Module { raw }).map_err(|code| (code, log()))
    }

    /// A kernel and the types of its parameters, as its text declares them.
    pub fn function(&self, name: &str, parameters: Vec<Type>) -> Answer<Function> {
        let text = CString::new(name).map_err(|_| 500_u32)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the module lives and the name is a C string.
        answer(unsafe { sys::cuModuleGetFunction(&mut raw, self.raw, text.as_ptr()) })?;
        Ok(Function { raw, parameters, shared: Cell::new(48 << 10) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once; its functions live no longer (fields of `Gpu`).
        let _ = unsafe { sys::cuModuleUnload(self.raw) };
    }
}

/// Type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An address or a 64-bit number.
    U64,
    /// A 32-bit number.
    U32,
    /// A float.
    F32,
    /// A tensor map of 128 bytes.
    Map,
}

/// An argument of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// An address or a 64-bit number.
    U64(u64),
    /// A 32-bit number.
    U32(u32),
    /// A float.
    F32(f32),
}

impl Arg {
    fn of(self) -> (Type, u64) {
        match self {
            Arg::U64(x) => (Type::U64, x),
            Arg::U32(x) => (Type::U32, u64::from(x)),
            Arg::F32(x) => (Type::F32, u64::from(x.to_bits())),
        }
    }
}

impl From<u64> for Arg {
    fn from(x: u64) -> Arg {
        Arg::U64(x)
    }
}

impl From<u32> for Arg {
    fn from(x: u32) -> Arg {
        Arg::U32(x)
    }
}

impl From<f32> for Arg {
    fn from(x: f32) -> Arg {
        Arg::F32(x)
    }
}

/// A kernel of a loaded module.
pub struct Function {
    raw: sys::CUfunction,
    parameters: Vec<Type>,
    /// Dynamic shared memory that it may be launched with.
    shared: Cell<u32>,
}

/// Most parameters of a kernel.
const MOST: usize = 24;

impl Function {
    /// Queues a launch of `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory.
    /// Arguments that are not the kernel's parameters in number and type are refused (code 1).
    pub fn launch(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        args: &[Arg],
    ) -> Answer {
        let fits = args.len() == self.parameters.len() && args.len() <= MOST;
        if !fits || args.iter().zip(&self.parameters).any(|(arg, want)| arg.of().0 != *want) {
            return Err(1);
        }
        let mut words = [0_u64; MOST];
        let mut pointers = [std::ptr::null_mut::<c_void>(); MOST];
        for (i, arg) in args.iter().enumerate() {
            words[i] = arg.of().1;
            pointers[i] = (&raw mut words[i]).cast();
        }
        // SAFETY: one pointer for each parameter that the kernel declares, each to eight bytes of which
        // the driver reads the first four or all.
        unsafe { self.launch_raw(stream, grid, block, shared, &mut pointers) }
    }

    /// Queues one of Hopper's products.
    pub fn launch_product(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        arguments: &mut matmul_sm90::Arguments,
    ) -> Answer {
        let mut pointers = arguments.pointers();
        // All but `matmul_forward` read one parameter less; five are tensor maps.
        let maps = self.parameters.iter().filter(|&&kind| kind == Type::Map).count();
        if maps != 5 || !(pointers.len() - 1..=pointers.len()).contains(&self.parameters.len()) {
            return Err(1);
        }
        let (block, shared) = (matmul_sm90::BLOCK, matmul_sm90::SHARED_BYTES);
        // SAFETY: a pointer to each parameter, in the kernel's order and of its size.
        unsafe { self.launch_raw(stream, grid, block, shared, &mut pointers) }
    }

    /// Queues the sum of such a product's parts.
    pub fn launch_sum(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        sum: &mut matmul_sm90::Sum,
    ) -> Answer {
        let mut pointers = sum.pointers();
        if self.parameters.len() != pointers.len() || self.parameters.contains(&Type::Map) {
            return Err(1);
        }
        // SAFETY: a pointer to each parameter, in the kernel's order and of its size.
        unsafe { self.launch_raw(stream, grid, matmul_sm90::SUM_BLOCK, 0, &mut pointers) }
    }

    /// # Safety
    /// `pointers` has one pointer for each parameter of the kernel, to as many bytes as it has; they are
    /// read before this returns.
    unsafe fn launch_raw(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        pointers: &mut [*mut c_void],
    ) -> Answer {
        if shared > self.shared.get() {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is loaded.
            answer(unsafe { sys::cuFuncSetAttribute(self.raw, attribute, shared as i32) })?;
            self.shared.set(shared);
        }
        let [x, y, z] = grid;
        // SAFETY: the pointers are the caller's promise; the function is loaded.
        answer(unsafe {
            sys::cuLaunchKernel(
                self.raw,
                x,
                y,
                z,
                block,
                1,
                1,
                shared,
                stream.as_inner(),
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }
}
