//! One opened device: its context, kernels, stream and errors.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::forget;
use std::rc::Rc;

use cust::context::Context;
use cust::stream::{Stream, StreamFlags};
use paddock_core::error::{Error, Result};

use super::convert::Half;
use super::driver::{
    Answer, Arg, Buffer, Code, Function, Home, Module, PIECE, Staging, fill, memory, read,
};
use super::kernels::{SOURCES, Source};
use super::machine::{DeviceReport, choose, devices, start};
use super::matmul_sm90;
use super::profile::{Line, Profile};
use super::trouble::{hung, is_lasting, words};
use super::wait::{self, HUNG, Pace};
use crate::{Options, Precision, Progress};

/// One opened device, shared by the back-ends that compute on it. It belongs to the thread that opened
/// it.
pub struct Gpu {
    // In the order in which they are given up: the context last.
    staging: RefCell<Option<Staging>>,
    /// Where weights of another element type land before they are converted.
    pub(super) landing: RefCell<Option<Buffer>>,
    functions: HashMap<String, Function>,
    modules: Vec<Module>,
    pace: RefCell<Pace>,
    profile: RefCell<Option<Profile>>,
    trouble: RefCell<Option<String>>,
    /// The newest kernel queued.
    newest: Cell<&'static str>,
    pub(super) progress: Option<Progress>,
    /// What 16-bit numbers are.
    pub(super) half: Half,
    /// Parameters are bf16 alone.
    pub(super) narrow_parameters: bool,
    pub(super) stream: Stream,
    home: Rc<Home>,
    pub(super) report: DeviceReport,
    name: String,
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.home.is_abandoned() {
            // Giving these back would wait for the device.
            forget(self.staging.take());
            self.modules.drain(..).for_each(forget);
            return;
        }
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
        let home = Rc::new(Home::new(context));
        let stream = Stream::new(StreamFlags::DEFAULT, None);
        let stream = stream.map_err(|e| failed("its stream", e as Code))?;
        let staging = Staging::new(&stream).map_err(|code| failed("pinned memory", code))?;
        let pace = Pace::new(&stream, wait::limit(options.wait_limit));
        let pace = pace.map_err(|code| failed("its events", code))?;
        let half = half(report, options)?;
        let (modules, functions) = load(report, version, half)?;
        Ok(Rc::new(Gpu {
            staging: RefCell::new(Some(staging)),
            landing: RefCell::default(),
            functions,
            modules,
            pace: RefCell::new(pace),
            profile: RefCell::default(),
            trouble: RefCell::default(),
            newest: Cell::new("none"),
            progress: options.progress.clone(),
            half,
            narrow_parameters: options.narrow_parameters,
            stream,
            home,
            report: report.clone(),
            name: match half {
                Half::Bf16 => format!("cuda {}", report.name),
                Half::F16 => format!("cuda {} in f16", report.name),
            },
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
        self.alive()?;
        answer.map_err(|code| {
            let words = match code {
                HUNG => hung(self.pace.borrow().limit(), self.newest.get()),
                code => words(code),
            };
            let mut message = format!("{}: {doing}: {words}", self.name);
            if code != HUNG && !is_lasting(code) {
                return Error::Device(message);
            }
            if code == HUNG {
                self.home.abandon();
            }
            message.push_str(
                ". The device is lost to this run; start it again with --resume to go on from the \
                 last checkpoint",
            );
            self.trouble.replace(Some(message.clone()));
            Error::DeviceLost(message)
        })
    }

    /// After an error that lasts nothing is asked of the device any more.
    fn alive(&self) -> Result<()> {
        match &*self.trouble.borrow() {
            Some(message) => Err(Error::DeviceLost(message.clone())),
            None => Ok(()),
        }
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
        self.alive()?;
        self.newest.set(entry);
        let mut profile = self.profile.borrow_mut();
        if let Some(profile) = &mut *profile {
            self.check("timing", profile.begin(entry, grid, &self.stream))?;
        }
        self.check(entry, launch(function, grid))?;
        if let Some(profile) = &mut *profile {
            self.check("timing", profile.end(&self.stream))?;
        }
        let launched = self.pace.borrow_mut().launched(&self.stream);
        self.check("waiting for earlier kernels", launched)
    }

    /// Fills device memory; `bytes_each` is 1, 2 or 4.
    pub(super) fn fill(&self, at: u64, value: u32, bytes_each: u32, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.alive()?;
        self.check("filling memory", fill(&self.stream, at, value, bytes_each, count))
    }

    /// Copies device memory to the host, after everything before it.
    pub(super) fn read(&self, to: &mut [u8], from: u64) -> Result<()> {
        self.wait()?;
        if to.is_empty() {
            return Ok(());
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
        self.alive()?;
        let limit = self.pace.borrow().limit();
        let mut staging = self.staging.borrow_mut();
        let Some(staging) = &mut *staging else { return Ok(()) };
        for start in (0..bytes).step_by(PIECE) {
            let len = (bytes - start).min(PIECE as u64) as usize;
            let sent =
                staging.send(&self.stream, to + start, len, limit, |piece| write(start, piece));
            self.check("sending data", sent)?;
        }
        Ok(())
    }

    /// New device memory, for what `why` says.
    pub(super) fn allocate(&self, why: &str, bytes: u64) -> Result<Buffer> {
        // The driver may wait for the device when it looks for room.
        self.wait()?;
        let buffer = Buffer::new(&self.home, bytes);
        let doing = format!("{} MiB for {why}", bytes.div_ceil(1 << 20));
        self.check(&doing, buffer)
    }

    /// Free and total bytes of the device.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        self.check("asking for free memory", memory())
    }

    /// Waits until everything queued has finished, and reports its errors.
    pub(super) fn wait(&self) -> Result<()> {
        self.alive()?;
        let waited = self.pace.borrow().wait(&self.stream);
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

/// What 16-bit numbers are to be on a device.
fn half(report: &DeviceReport, options: &Options) -> Result<Half> {
    let refused = |why: &str| Err(Error::Device(format!("{}: {why}", report.name)));
    let half = match options.precision {
        Precision::F16 => Half::F16,
        Precision::Bf16 if !report.has_bf16() => {
            return refused("it has no bf16 (compute capability 8.0 has); use --precision f16");
        }
        Precision::Auto if !report.has_bf16() => Half::F16,
        Precision::Auto | Precision::Bf16 => Half::Bf16,
    };
    if half == Half::F16 && options.narrow_parameters {
        return refused("parameters in bf16 do not go with --precision f16; use --parameters f32");
    }
    Ok(half)
}

/// Loads every file that the device can run and the driver for this version of CUDA can read.
fn load(
    report: &DeviceReport,
    version: (i32, i32),
    half: Half,
) -> Result<(Vec<Module>, HashMap<String, Function>)> {
    let (mut modules, mut functions) = (Vec::new(), HashMap::new());
    let fits = |source: &Source| source.runs_on(report.capability) && source.read_by(version);
    let sources = SOURCES.iter().filter_map(|source| source.of(half));
    for source in sources.filter(fits) {
        let module = Module::load(&source.text).map_err(|(code, log)| {
            let (name, stem, why) = (&report.name, source.stem, words(code));
            let log = if log.is_empty() { String::new() } else { format!(": {log}") };
            Error::Device(format!("{name} does not take the kernels of {stem}.ptx: {why}{log}"))
        })?;
        for (entry, types) in source.entries() {
            let function = module.function(&entry, types).map_err(|code| {
                Error::Device(format!("{}: kernel {entry}: {}", report.name, words(code)))
            })?;
            functions.insert(entry, function);
        }
        modules.push(module);
    }
    Ok((modules, functions))
}
