//! Devices in words, and one opened device: its context, kernels, stream and errors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use cust::context::Context;
use cust::device::{Device, DeviceAttribute};
use cust::stream::{Stream, StreamFlags};
use paddock_core::error::{Error, Result};

use super::driver::{
    Answer, Arg, Buffer, Code, Function, Module, PIECE, Staging, fill, memory, read,
};
use super::kernels::{SOURCES, Source};
use super::matmul_sm90;
use super::profile::{Line, Profile};
use super::trouble::{is_lasting, words};
use crate::{Options, Progress};

/// The oldest driver that knows the kernels' instructions (PTX 7.0).
const LEAST_DRIVER: (i32, i32) = (11, 0);
/// The oldest device that has them.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

/// A CUDA device as `doctor` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceReport {
    /// Its number, as the environment variable PADDOCK_DEVICE takes it.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Multiprocessors.
    pub processors: u32,
    /// What it lacks for training, if anything.
    pub unusable: Option<String>,
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "{}: {}, compute capability {major}.{minor}", self.number, self.name)?;
        write!(f, ", {} multiprocessors, {gib:.1} GiB", self.processors)?;
        match &self.unusable {
            Some(why) => write!(f, "; cannot be used: {why}"),
            None => write!(f, "; kernels for {}", kernels_for(self.capability)),
        }
    }
}

/// Which kernels a device runs, and why not the others.
fn kernels_for(capability: (u32, u32)) -> &'static str {
    match capability {
        (9, 0) => "sm_80, and for matrix products sm_90a (with a driver for CUDA 12 or later)",
        _ => "sm_80 (those for sm_90a need compute capability 9.0)",
    }
}

/// What this machine has for CUDA, a line each: the driver and every device, or why there is none.
pub fn describe_devices() -> Vec<String> {
    let mut lines = Vec::new();
    match start().and_then(|version| Ok((version, devices()?))) {
        Ok(((major, minor), list)) => {
            lines.push(format!("CUDA driver for CUDA {major}.{minor}"));
            lines.extend(list.iter().map(|(_, report)| report.to_string()));
        }
        Err(error) => lines.push(error.to_string()),
    }
    lines
}

/// Whether a device could be opened here; if not, why, and what to use instead.
///
/// # Errors
/// One line in words.
pub fn available() -> std::result::Result<(), String> {
    let list = start().and_then(|_| devices()).map_err(|error| error.to_string())?;
    choose(&list, None).map(drop).map_err(|error| error.to_string())
}

const INSTEAD: &str = "use --backend cpu, or --backend wgpu for another graphics card";

/// Finds the driver; gives the CUDA version that it serves.
fn start() -> Result<(i32, i32)> {
    let device = |text: String| Error::Device(format!("{text}; {INSTEAD}"));
    if paddock_cuda_shim::state() == paddock_cuda_shim::State::Empty {
        paddock_cuda_shim::load().map_err(|error| device(error.to_string()))?;
    }
    cust::init(cust::CudaFlags::empty()).map_err(|e| match e as Code {
        100 => device(String::from("the CUDA driver is there, but it finds no device")),
        code => device(format!("the CUDA driver cannot be started: {}", words(code))),
    })?;
    let version = cust::CudaApiVersion::get();
    let version = version.map_err(|e| device(format!("the CUDA driver: {}", words(e as Code))))?;
    let (major, minor) = (version.major(), version.minor());
    if (major, minor) < LEAST_DRIVER {
        let (least, point) = LEAST_DRIVER;
        return Err(device(format!(
            "the CUDA driver serves CUDA {major}.{minor}, the kernels need {least}.{point} or later: \
             install a newer driver"
        )));
    }
    Ok((major, minor))
}

fn devices() -> Result<Vec<(Device, DeviceReport)>> {
    let failed = |e: cust::error::CudaError| Error::Device(format!("CUDA: {}", words(e as Code)));
    let mut list = Vec::new();
    for number in 0..Device::num_devices().map_err(failed)? {
        let device = Device::get_device(number).map_err(failed)?;
        let attribute = |which| device.get_attribute(which).map(|x| x as u32).map_err(failed);
        let capability = (
            attribute(DeviceAttribute::ComputeCapabilityMajor)?,
            attribute(DeviceAttribute::ComputeCapabilityMinor)?,
        );
        let (least, point) = LEAST_CAPABILITY;
        let unusable = (capability < LEAST_CAPABILITY)
            .then(|| format!("the kernels need compute capability {least}.{point} or later"));
        let report = DeviceReport {
            number,
            name: device.name().map_err(failed)?,
            capability,
            memory_bytes: device.total_memory().map_err(failed)? as u64,
            processors: attribute(DeviceAttribute::MultiprocessorCount)?,
            unusable,
        };
        list.push((device, report));
    }
    Ok(list)
}

/// The device of this number or with this in its name; without a wish the one with most processors.
fn choose<'a>(
    list: &'a [(Device, DeviceReport)],
    wanted: Option<&str>,
) -> Result<&'a (Device, DeviceReport)> {
    let names = list.iter().map(|(_, r)| r.to_string()).collect::<Vec<_>>().join("; ");
    let found = match wanted {
        Some(wanted) => {
            let hit = |r: &DeviceReport| {
                r.name.to_lowercase().contains(&wanted.to_lowercase())
                    || wanted.parse() == Ok(r.number)
            };
            let found = list.iter().find(|(_, r)| hit(r));
            found.ok_or_else(|| {
                Error::Device(format!("no CUDA device is called \"{wanted}\"; there are: {names}"))
            })?
        }
        None => {
            let usable = list.iter().filter(|(_, r)| r.unusable.is_none());
            let best = usable.max_by_key(|(_, r)| (r.processors, std::cmp::Reverse(r.number)));
            best.or(list.first()).ok_or_else(|| {
                let text = "the CUDA driver is there, but it finds no device";
                Error::Device(format!("{text}; {INSTEAD}"))
            })?
        }
    };
    match &found.1.unusable {
        Some(_) => Err(Error::Device(format!("{}; {INSTEAD}", found.1))),
        None => Ok(found),
    }
}

/// One opened device, shared by the back-ends that compute on it. It belongs to the thread that opened
/// it.
pub struct Gpu {
    // In the order in which they are given up: the context last.
    pub(super) staging: RefCell<Staging>,
    /// Where weights of another element type land before they are converted.
    pub(super) landing: RefCell<Option<Buffer>>,
    functions: HashMap<&'static str, Function>,
    _modules: Vec<Module>,
    profile: RefCell<Option<Profile>>,
    trouble: RefCell<Option<String>>,
    pub(super) progress: Option<Progress>,
    pub(super) stream: Stream,
    pub(super) context: Rc<Context>,
    pub(super) report: DeviceReport,
    name: String,
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Nothing may be on its way when the pinned buffers go; a lost device has nothing on its way.
        let _ = self.stream.synchronize();
    }
}

impl Gpu {
    /// Opens the device that the options name by its number or a part of its name; none: what
    /// PADDOCK_DEVICE says, else the largest.
    ///
    /// # Errors
    /// No driver, no device, a driver or device that is too old, kernels that it does not take: in words.
    pub fn open(options: &Options) -> Result<Rc<Gpu>> {
        let version = start()?;
        let list = devices()?;
        let variable = std::env::var("PADDOCK_DEVICE").ok();
        let (device, report) = choose(&list, options.device.as_deref().or(variable.as_deref()))?;
        let failed = |what: &str, code| {
            Error::Device(format!("{} cannot be opened: {what}: {}", report.name, words(code)))
        };
        let context = Context::new(*device).map_err(|e| failed("its context", e as Code))?;
        let context = Rc::new(context);
        let stream = Stream::new(StreamFlags::DEFAULT, None);
        let stream = stream.map_err(|e| failed("its stream", e as Code))?;
        let staging = Staging::new(&stream).map_err(|code| failed("pinned memory", code))?;
        let (modules, functions) = load(report, version)?;
        Ok(Rc::new(Gpu {
            staging: RefCell::new(staging),
            landing: RefCell::default(),
            functions,
            _modules: modules,
            profile: RefCell::default(),
            trouble: RefCell::default(),
            progress: options.progress.clone(),
            stream,
            context,
            report: report.clone(),
            name: format!("cuda {}", report.name),
        }))
    }

    /// The device's name: "cuda NVIDIA H100 80GB HBM3".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is.
    pub fn report(&self) -> &DeviceReport {
        &self.report
    }

    /// Turns the driver's answer into a result. After an error that lasts, every later call repeats it.
    pub(super) fn check<T>(&self, doing: &str, answer: Answer<T>) -> Result<T> {
        if let Some(message) = &*self.trouble.borrow() {
            return Err(Error::Device(message.clone()));
        }
        answer.map_err(|code| {
            let mut message = format!("{}: {doing}: {}", self.name, words(code));
            if is_lasting(code) {
                message.push_str(
                    ". The device is lost to this run; start it again with --resume to go on from the \
                     last checkpoint",
                );
                self.trouble.replace(Some(message.clone()));
            }
            Error::Device(message)
        })
    }

    /// Whether this device has a kernel (some are for one kind of device only).
    pub(super) fn has(&self, entry: &str) -> bool {
        self.functions.contains_key(entry)
    }

    /// Queues a kernel. An empty grid is nothing to do.
    pub(super) fn launch(
        &self,
        entry: &'static str,
        grid: [u64; 3],
        block: u32,
        shared: u32,
        args: &[Arg],
    ) -> Result<()> {
        self.queue(entry, grid, |function, grid| {
            function.launch(&self.stream, grid, block, shared, args)
        })
    }

    /// Queues one of Hopper's products.
    pub(super) fn launch_product(
        &self,
        entry: &'static str,
        ctas: u32,
        arguments: &mut matmul_sm90::Arguments,
    ) -> Result<()> {
        self.queue(entry, [u64::from(ctas), 1, 1], |function, grid| {
            function.launch_product(&self.stream, grid, arguments)
        })
    }

    /// Queues the sum of such a product's parts.
    pub(super) fn launch_sum(&self, ctas: u32, sum: &mut matmul_sm90::Sum) -> Result<()> {
        self.queue(matmul_sm90::SUM_ENTRY, [u64::from(ctas), 1, 1], |function, grid| {
            function.launch_sum(&self.stream, grid, sum)
        })
    }

    fn queue(
        &self,
        entry: &'static str,
        grid: [u64; 3],
        launch: impl FnOnce(&Function, [u32; 3]) -> Answer,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let Some(function) = self.functions.get(entry) else {
            return Err(Error::Device(format!("{}: there is no kernel {entry}", self.name)));
        };
        if grid[0] > i32::MAX as u64 || grid[1] > 65_535 || grid[2] > 65_535 {
            return Err(Error::Device(format!(
                "{}: {entry} would need a grid of {grid:?}; use a smaller --micro-batch-tokens",
                self.name
            )));
        }
        let grid = grid.map(|x| x as u32);
        let mut profile = self.profile.borrow_mut();
        if let Some(profile) = &mut *profile {
            self.check("timing", profile.begin(entry, grid, &self.stream))?;
        }
        self.check(entry, launch(function, grid))?;
        if let Some(profile) = &mut *profile {
            self.check("timing", profile.end(&self.stream))?;
        }
        Ok(())
    }

    /// Fills device memory; `bytes_each` is 1, 2 or 4.
    pub(super) fn fill(&self, at: u64, value: u32, bytes_each: u32, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.check("filling memory", fill(&self.stream, at, value, bytes_each, count))
    }

    /// Copies device memory to the host, after everything before it.
    pub(super) fn read(&self, to: &mut [u8], from: u64) -> Result<()> {
        if to.is_empty() {
            return self.wait();
        }
        self.check("reading results", read(&self.stream, to, from))
    }

    /// Sends `bytes` bytes to the device, in pieces that `write` fills: it is given where each piece
    /// begins.
    pub(super) fn send(
        &self,
        to: u64,
        bytes: u64,
        mut write: impl FnMut(u64, &mut [u8]),
    ) -> Result<()> {
        let mut staging = self.staging.borrow_mut();
        for start in (0..bytes).step_by(PIECE) {
            let len = (bytes - start).min(PIECE as u64) as usize;
            let sent = staging.send(&self.stream, to + start, len, |piece| write(start, piece));
            self.check("sending data", sent)?;
        }
        Ok(())
    }

    /// New device memory, for what `why` says.
    pub(super) fn allocate(&self, why: &str, bytes: u64) -> Result<Buffer> {
        let buffer = Buffer::new(&self.context, bytes);
        let doing = format!("{} MiB for {why}", bytes.div_ceil(1 << 20));
        self.check(&doing, buffer)
    }

    /// Free and total bytes of the device.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        self.check("asking for free memory", memory())
    }

    /// Waits until everything queued has finished, and reports its errors.
    pub(super) fn wait(&self) -> Result<()> {
        let waited = self.stream.synchronize().map_err(|e| e as Code);
        self.check("waiting for the device", waited)
    }

    /// Begins to time every kernel by events, or stops it. What was timed before is forgotten.
    pub fn time_kernels(&self, on: bool) {
        self.profile.replace(on.then(Profile::default));
    }

    /// What the timed kernels took, summed by kernel and grid, the most expensive first. Waits.
    ///
    /// # Errors
    /// Those of the kernels.
    pub fn kernel_times(&self) -> Result<Vec<Line>> {
        self.wait()?;
        match &*self.profile.borrow() {
            Some(profile) => self.check("timing", profile.lines()),
            None => Ok(Vec::new()),
        }
    }
}

/// Loads every file that the device can run and the driver for this version of CUDA can read.
fn load(
    report: &DeviceReport,
    version: (i32, i32),
) -> Result<(Vec<Module>, HashMap<&'static str, Function>)> {
    let (mut modules, mut functions) = (Vec::new(), HashMap::new());
    let fits = |source: &&Source| source.runs_on(report.capability) && source.read_by(version);
    for source in SOURCES.iter().filter(fits) {
        let module = Module::load(source.text).map_err(|(code, log)| {
            let (name, stem, why) = (&report.name, source.stem, words(code));
            let log = if log.is_empty() { String::new() } else { format!(": {log}") };
            Error::Device(format!("{name} does not take the kernels of {stem}.ptx: {why}{log}"))
        })?;
        for (entry, types) in source.entries() {
            let function = module.function(entry, types).map_err(|code| {
                Error::Device(format!("{}: kernel {entry}: {}", report.name, words(code)))
            })?;
            functions.insert(entry, function);
        }
        modules.push(module);
    }
    Ok((modules, functions))
}
