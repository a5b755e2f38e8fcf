//! The device: memory, modules with the assembler's words, launches, and what a trapped kernel left.

use std::error::Error;
use std::ffi::{CString, c_void};

use cust::context::{Context, CurrentContext};
use cust::device::{Device, DeviceAttribute};
use cust::event::{Event, EventFlags};
use cust::stream::{Stream, StreamFlags};
use cust::sys;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A call of the driver that cust does not wrap.
fn called(what: &str, code: sys::CUresult) -> Outcome<()> {
    match code {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        other => Err(format!("{what}: {other:?}").into()),
    }
}

pub struct Gpu {
    pub name: String,
    pub processors: u32,
    stream: Stream,
    /// Host memory that the device sees: a kernel that gives up writes here where it stood.
    notes: *mut u32,
    _context: Context,
}

pub struct Kernel {
    function: sys::CUfunction,
    pub block: u32,
    pub shared: u32,
}

impl Gpu {
    pub fn open() -> Outcome<Self> {
        paddock_cuda_shim::load()?;
        cust::init(cust::CudaFlags::empty())?;
        let device = Device::get_device(0)?;
        let context = Context::new(device)?;
        CurrentContext::set_current(&context)?;
        let mut notes: *mut c_void = std::ptr::null_mut();
        // SAFETY: a context is current; 2 asks for memory that the device sees.
        called("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&raw mut notes, 64, 2) })?;
        // SAFETY: the allocation has 64 bytes.
        unsafe { notes.cast::<u8>().write_bytes(0, 64) };
        Ok(Self {
            name: device.name()?,
            processors: device.get_attribute(DeviceAttribute::MultiprocessorCount)? as u32,
            stream: Stream::new(StreamFlags::NON_BLOCKING, None)?,
            notes: notes.cast(),
            _context: context,
        })
    }

    /// `source` with each `trap; // why` preceded by a note of which one it was and where.
    fn noted(&self, source: &str) -> String {
        let mut count = 0;
        let lines = source.lines().map(|line| {
            if !line.starts_with("    trap; //") {
                return format!("{line}\n");
            }
            count += 1;
            format!(
                "    mov.u32 %t, %ctaid.x;\n    or.b32 %t, %t, {};\n    mov.b64 %map_a, {};\n    \
                 st.global.v4.b32 [%map_a], {{%t, %stage, %block, %tile}};\n    membar.sys;\n\
                 {line}\n",
                count << 16,
                self.notes as u64,
            )
        });
        lines.collect()
    }

    /// What a trapped kernel noted.
    pub fn trouble(&self) -> String {
        // SAFETY: 64 bytes of host memory that live as long as the program.
        let [place, stage, block, tile] = unsafe { self.notes.cast::<[u32; 4]>().read_volatile() };
        match place >> 16 {
            0 => String::new(),
            n => format!(
                "trap {n} in CTA {}: stage {stage}, {block} blocks left, tile {tile}",
                place & 0xffff
            ),
        }
    }

    pub fn load(&self, source: &str, entry: &str, block: u32, shared: u32) -> Outcome<Kernel> {
        use sys::CUjit_option_enum as Choice;
        let text = CString::new(self.noted(source))?;
        let (mut errors, mut words) = (vec![0_u8; 8192], vec![0_u8; 8192]);
        let mut options = [
            Choice::CU_JIT_ERROR_LOG_BUFFER,
            Choice::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            Choice::CU_JIT_INFO_LOG_BUFFER,
            Choice::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [
            errors.as_mut_ptr().cast::<c_void>(),
            errors.len() as *mut c_void,
            words.as_mut_ptr().cast::<c_void>(),
            words.len() as *mut c_void,
        ];
        let mut module = std::ptr::null_mut();
        // SAFETY: four options with their values; the logs have the lengths that are told.
        let code = unsafe {
            sys::cuModuleLoadDataEx(
                &raw mut module,
                text.as_ptr().cast(),
                4,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        for log in [&errors, &words] {
            let log = String::from_utf8_lossy(log);
            let log = log.trim_end_matches('\0').trim();
            if !log.is_empty() {
                eprintln!("{entry}: the assembler says: {log}");
            }
        }
        called("cuModuleLoadDataEx", code)?;
        let mut function = std::ptr::null_mut();
        let name = CString::new(entry)?;
        // SAFETY: the module was loaded above and is never unloaded.
        called("cuModuleGetFunction", unsafe {
            sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr())
        })?;
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function was found above.
        called("cuFuncSetAttribute", unsafe {
            sys::cuFuncSetAttribute(function, most, shared as i32)
        })?;
        Ok(Kernel { function, block, shared })
    }

    pub fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 2],
        arguments: &mut [*mut c_void],
    ) -> Outcome<()> {
        // SAFETY: the pointers lead to the kernel's parameters in its order, and the kernel's
        // accesses stay inside the buffers that they name.
        called("cuLaunchKernel", unsafe {
            sys::cuLaunchKernel(
                kernel.function,
                grid[0],
                grid[1],
                1,
                kernel.block,
                1,
                1,
                kernel.shared,
                self.stream.as_inner(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }

    pub fn wait(&self) -> Outcome<()> {
        match self.stream.synchronize() {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("{error:?}. {}", self.trouble()).into()),
        }
    }

    /// Milliseconds of one of `rounds` calls of `work`.
    pub fn time(&self, rounds: usize, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
        let (start, end) = (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
        start.record(&self.stream)?;
        for _ in 0..rounds {
            work()?;
        }
        end.record(&self.stream)?;
        self.wait()?;
        Ok(f64::from(end.elapsed_time_f32(&start)?) / rounds as f64)
    }
}

/// Device memory that is never given back: the program ends soon.
#[derive(Clone, Copy)]
pub struct Room {
    pub address: u64,
    pub bytes: usize,
}

impl Room {
    pub fn new(bytes: usize) -> Outcome<Self> {
        let mut address = 0;
        // SAFETY: a context is current.
        called("cuMemAlloc", unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) })?;
        Ok(Self { address, bytes })
    }

    pub fn holding<T: bytemuck::Pod>(values: &[T]) -> Outcome<Self> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let room = Self::new(bytes.len())?;
        room.write(0, bytes)?;
        Ok(room)
    }

    pub fn free(self) -> Outcome<()> {
        // SAFETY: allocated by `new`; nobody uses a copy of this value afterwards.
        called("cuMemFree", unsafe { sys::cuMemFree_v2(self.address) })
    }

    fn write(self, at: usize, bytes: &[u8]) -> Outcome<()> {
        assert!(at + bytes.len() <= self.bytes);
        // SAFETY: checked above.
        called("cuMemcpyHtoD", unsafe {
            sys::cuMemcpyHtoD_v2(self.address + at as u64, bytes.as_ptr().cast(), bytes.len())
        })?;
        // The copy may still be on its way, and kernels run in a stream of their own.
        Ok(CurrentContext::synchronize()?)
    }

    /// Fills with the bytes of `pattern`, over and over.
    pub fn fill(self, pattern: Self) -> Outcome<()> {
        let mut at = 0;
        while at < self.bytes {
            let length = pattern.bytes.min(self.bytes - at);
            // SAFETY: both ranges are inside their allocations.
            called("cuMemcpyDtoD", unsafe {
                sys::cuMemcpyDtoD_v2(self.address + at as u64, pattern.address, length)
            })?;
            at += length;
        }
        Ok(CurrentContext::synchronize()?)
    }

    pub fn read<T: bytemuck::Pod>(self) -> Outcome<Vec<T>> {
        let mut values = vec![T::zeroed(); self.bytes / size_of::<T>()];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        // SAFETY: the vector has no more bytes than the allocation.
        called("cuMemcpyDtoH", unsafe {
            sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.address, bytes.len())
        })?;
        Ok(values)
    }
}
