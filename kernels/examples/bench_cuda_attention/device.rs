//! The device: kernels by name, launches, times.

use std::error::Error;
use std::ffi::c_void;

use cust::context::Context;
use cust::device::{Device, DeviceAttribute};
use cust::event::{Event, EventFlags};
use cust::memory::{DeviceBuffer, DeviceCopy};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::sys;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

pub struct Gpu {
    pub name: String,
    /// Whether kernels for sm_90a run.
    pub hopper: bool,
    pub processors: u32,
    stream: Stream,
    modules: Vec<Module>,
    _context: Context,
}

/// A function of a module, ready to be launched.
#[derive(Clone, Copy)]
pub struct Kernel {
    function: sys::CUfunction,
    threads: u32,
    shared: u32,
}

/// A parameter of a launch.
#[derive(Clone, Copy)]
pub enum Arg {
    Pointer(u64),
    Number(u32),
    Float(f32),
}

/// A call of the driver that cust does not wrap.
fn called(what: &str, code: sys::CUresult) -> Outcome<()> {
    match code {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        other => Err(format!("{what}: {other:?}").into()),
    }
}

impl Gpu {
    pub fn open(sources: &[&str]) -> Outcome<Self> {
        paddock_cuda_shim::load()?;
        cust::init(cust::CudaFlags::empty())?;
        let device = Device::get_device(0)?;
        let context = Context::new(device)?;
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
        let hopper = device.get_attribute(DeviceAttribute::ComputeCapabilityMajor)? == 9;
        let processors = device.get_attribute(DeviceAttribute::MultiprocessorCount)? as u32;
        let name = device.name()?;
        let mut gpu =
            Self { name, hopper, processors, stream, modules: Vec::new(), _context: context };
        gpu.load(sources)?;
        Ok(gpu)
    }

    pub fn load(&mut self, sources: &[&str]) -> Outcome<()> {
        for source in sources {
            self.modules.push(Module::from_ptx(source, &[])?);
        }
        Ok(())
    }

    pub fn kernel(&self, name: &str, threads: u32, shared: u32) -> Outcome<Kernel> {
        let found = self.modules.iter().find_map(|module| module.get_function(name).ok());
        let function = found.ok_or_else(|| format!("no kernel {name}"))?.to_raw();
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function belongs to a module that lives as long as this device.
        called("cuFuncSetAttribute", unsafe {
            sys::cuFuncSetAttribute(function, most, shared as i32)
        })?;
        Ok(Kernel { function, threads, shared })
    }

    pub fn launch(&self, kernel: Kernel, grid: [u32; 3], args: &[Arg]) -> Outcome<()> {
        let mut values: Vec<u64> = args
            .iter()
            .map(|arg| match *arg {
                Arg::Pointer(address) => address,
                Arg::Number(number) => u64::from(number),
                Arg::Float(value) => u64::from(value.to_bits()),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        // SAFETY: each pointer leads to eight bytes, of which the driver reads what the parameter
        // takes; the kernel's accesses stay inside the buffers that the arguments name.
        called("cuLaunchKernel", unsafe {
            sys::cuLaunchKernel(
                kernel.function,
                grid[0],
                grid[1],
                grid[2],
                kernel.threads,
                1,
                1,
                kernel.shared,
                self.stream.as_inner(),
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }

    pub fn wait(&self) -> Outcome<()> {
        Ok(self.stream.synchronize()?)
    }

    /// Median milliseconds of `work`, of seven times; run until warm before.
    pub fn time(&self, work: impl Fn() -> Outcome<()>) -> Outcome<f64> {
        let mut times = Vec::new();
        for turn in 0..10 {
            let (start, end) = (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
            start.record(&self.stream)?;
            work()?;
            end.record(&self.stream)?;
            end.synchronize()?;
            if turn >= 3 {
                times.push(f64::from(end.elapsed_time_f32(&start)?));
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

pub fn address<T: DeviceCopy>(buffer: &DeviceBuffer<T>) -> u64 {
    buffer.as_device_ptr().as_raw()
}
