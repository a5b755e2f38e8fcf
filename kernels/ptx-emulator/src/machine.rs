//! A device: memory, loaded modules, launches.

use crate::ast::{Space, Variable};
use crate::clock::Layout;
use crate::counters::Counters;
use crate::decode::{Place, Symbols, decode, place_next};
use crate::error::{Fault, SourceError};
use crate::exec::cluster::{Cluster, Gate, Located};
use crate::exec::world::World;
use crate::grid::{Places, check_cluster};
use crate::ir::Code;
use crate::memory::DeviceMemory;
use crate::parser::parse;
use crate::shared::Shared;
use std::collections::HashMap;
use std::sync::Arc;

/// Local memory of a thread at most, in bytes.
const MAX_LOCAL: u32 = 512 << 10;

/// What the device pretends to be. The default is an sm_80 with 4 GiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The name that the driver reports.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Shared memory of a CTA without asking for more, in bytes.
    pub shared_bytes: u32,
    /// Shared memory of a CTA at most, in bytes.
    pub shared_bytes_opt_in: u32,
    /// Multiprocessors.
    pub processors: u32,
    /// One warp may execute this many instructions before it counts as an endless loop.
    pub step_limit: u64,
}

impl DeviceConfig {
    /// An sm_90a: one of Hopper's family.
    pub fn hopper() -> Self {
        Self { capability: (9, 0), shared_bytes_opt_in: 227 << 10, ..Self::default() }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            name: "Paddock PTX emulator".to_string(),
            capability: (8, 0),
            memory_bytes: 4 << 30,
            shared_bytes: 48 << 10,
            shared_bytes_opt_in: 163 << 10,
            processors: 8,
            step_limit: 200_000_000,
        }
    }
}

/// A loaded module.
#[derive(Clone, Debug)]
pub struct Module {
    kernels: HashMap<String, Arc<Code>>,
    constants: Arc<Vec<u8>>,
    /// Device variables: name, address, bytes.
    globals: HashMap<String, (u64, u32)>,
}

impl Module {
    /// A kernel by its name.
    pub fn kernel(&self, name: &str) -> Option<Kernel> {
        let code = Arc::clone(self.kernels.get(name)?);
        Some(Kernel { code, constants: Arc::clone(&self.constants) })
    }

    /// The kernels' names, sorted.
    pub fn kernel_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.kernels.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Address and size in bytes of a device variable.
    pub fn global(&self, name: &str) -> Option<(u64, u32)> {
        self.globals.get(name).copied()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.globals.values().map(|(address, _)| *address)
    }
}

/// A kernel with its module's constants.
#[derive(Clone, Debug)]
pub struct Kernel {
    code: Arc<Code>,
    constants: Arc<Vec<u8>>,
}

impl Kernel {
    /// Parameters, registers, shared memory.
    pub fn code(&self) -> &Code {
        &self.code
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// CTAs along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared: u32,
}

/// What a launch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Figures of the whole launch.
    pub counters: Counters,
    /// For each instruction its line and how many warps executed it in at least one lane.
    pub executed: Vec<(u32, u64)>,
}

impl Report {
    /// Lines of instructions that no lane executed.
    pub fn unreached(&self) -> Vec<u32> {
        self.executed.iter().filter(|(_, count)| *count == 0).map(|(line, _)| *line).collect()
    }
}

/// Why a launch did not end well.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launch itself was wrong; nothing ran.
    #[error("kernel {kernel} cannot be launched: {reason}")]
    Refused {
        /// The kernel.
        kernel: String,
        /// Why.
        reason: String,
    },
    /// A thread did something wrong.
    #[error("{0}")]
    Fault(Box<Fault>),
}

/// A device that runs PTX.
pub struct Machine {
    /// Its memory.
    pub memory: DeviceMemory,
    config: DeviceConfig,
}

impl Machine {
    /// A device with nothing on it.
    pub fn new(config: DeviceConfig) -> Self {
        Self { memory: DeviceMemory::new(config.memory_bytes), config }
    }

    /// What it pretends to be.
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Parses and decodes a PTX file and places its variables.
    ///
    /// # Errors
    /// The first error in the text, or a target newer than this device.
    pub fn load(&mut self, source: &str) -> Result<Module, SourceError> {
        let tree = parse(source)?;
        self.check_target(tree.target)?;
        let lines = Arc::new(source.lines().map(|line| line.trim().to_string()).collect());
        let hopper = tree.target == "sm_90a";
        let (mut symbols, mut constants) = (Symbols { hopper, ..Symbols::default() }, Vec::new());
        let mut globals = HashMap::new();
        for variable in &tree.variables {
            self.place(variable, &mut symbols, &mut constants, &mut globals)
                .map_err(|message| SourceError { line: 0, message })?;
        }
        let mut kernels = HashMap::new();
        for kernel in &tree.kernels {
            let code = decode(kernel, &symbols, &lines)?;
            if kernels.insert(code.name.clone(), Arc::new(code)).is_some() {
                let message = format!("kernel {} is defined twice", kernel.name);
                return Err(SourceError { line: kernel.line, message });
            }
        }
        Ok(Module { kernels, constants: Arc::new(constants), globals })
    }

    fn check_target(&self, target: &str) -> Result<(), SourceError> {
        let error = |message| Err(SourceError { line: 0, message });
        let Some(number) = target.strip_prefix("sm_") else {
            return error(format!("target {target} is not sm_NN"));
        };
        let (major, minor) = self.config.capability;
        if number == "90a" && (major, minor) == (9, 0) {
            return Ok(());
        }
        match number.parse::<u32>() {
            Ok(number) if number <= major * 10 + minor => Ok(()),
            Ok(_) => {
                error(format!("target {target} is newer than this device (sm_{major}{minor})"))
            }
            Err(_) => error(format!(
                "target {target}: of one architecture's own features sm_90a's are emulated, on \
                 a device that is an sm_90"
            )),
        }
    }

    fn place(
        &mut self,
        variable: &Variable,
        symbols: &mut Symbols,
        constants: &mut Vec<u8>,
        globals: &mut HashMap<String, (u64, u32)>,
    ) -> Result<(), String> {
        let name = variable.name.to_string();
        let address = match variable.space {
            Space::Shared if variable.size == 0 => {
                symbols.dynamic.push((name, variable.align));
                return Ok(());
            }
            Space::Shared => u64::from(place_next(&mut symbols.shared_bytes, variable)),
            Space::Const => {
                let start = constants.len().next_multiple_of(variable.align as usize);
                constants.resize(start + variable.size as usize, 0);
                constants[start..start + variable.initial.len()].copy_from_slice(&variable.initial);
                start as u64
            }
            Space::Global => {
                let base = self.memory.allocate(u64::from(variable.size));
                let base = base.ok_or_else(|| format!("no device memory left for {name}"))?;
                if let Some(bytes) = self.memory.get_mut(base, variable.size as usize) {
                    // Device variables without a value begin as zeros.
                    bytes.fill(0);
                    bytes[..variable.initial.len()].copy_from_slice(&variable.initial);
                }
                globals.insert(name.clone(), (base, variable.size));
                base
            }
            _ => return Err(format!("{name} cannot stand at file level")),
        };
        symbols.places.insert(name, Place { space: variable.space, address });
        Ok(())
    }

    /// Runs a kernel to its end. `parameters` is the parameter block that [`Code::parameters`]
    /// describes.
    ///
    /// # Errors
    /// A launch that the device refuses, or the first fault of a thread. What other threads wrote
    /// before it stays written.
    pub fn launch(
        &mut self,
        kernel: &Kernel,
        shape: Shape,
        parameters: &[u8],
    ) -> Result<Report, LaunchError> {
        self.launch_in_clusters(kernel, shape, None, parameters)
    }

    /// As [`Machine::launch`], with the CTAs of a cluster given by the launch.
    ///
    /// # Errors
    /// As [`Machine::launch`]; also a cluster that is not the one that the text asks for.
    pub fn launch_in_clusters(
        &mut self,
        kernel: &Kernel,
        shape: Shape,
        cluster: Option<[u32; 3]>,
        parameters: &[u8],
    ) -> Result<Report, LaunchError> {
        let code = kernel.code();
        let refuse = |reason| LaunchError::Refused { kernel: code.name.clone(), reason };
        let threads = self.check(code, shape, parameters).map_err(refuse)?;
        let cluster = check_cluster(code, shape, cluster).map_err(refuse)?;
        let warps = threads.div_ceil(32);
        let places = Places { shape, cluster };
        let ctas = cluster.iter().product::<u32>() as usize;
        let layout = Layout { warps: warps as usize, ctas, asynchronous: code.asynchronous };
        let total_shared = code.dynamic_shared_at.max(code.static_shared) + shape.shared;
        let memory = |rank| Shared::new(total_shared, code.shared_granule, layout, rank);
        let mut shared: Vec<Shared> = (0..ctas).map(memory).collect();
        let mut issues = vec![Vec::new(); ctas * layout.warps.div_ceil(4)];
        let (mut gate, mut arriving) = (Gate::default(), Vec::new());
        let mut runner = Cluster::new(code, layout);
        let mut counters = Counters::default();
        let mut executed = vec![0; code.body.len()];
        for index in 0..places.count() {
            let mut world = World {
                code,
                parameters,
                constants: &kernel.constants,
                memory: &mut self.memory,
                ctas: &mut shared,
                rank: 0,
                gate: &mut gate,
                arriving: &mut arriving,
                issues: &mut issues,
                counters: &mut counters,
                executed: &mut executed,
                limit: self.config.step_limit,
            };
            let ctas = places.of(index);
            runner.run(&ctas, &mut world).map_err(|located| {
                let cta = ctas[located.rank].cta;
                LaunchError::Fault(Box::new(fault(code, cta, located)))
            })?;
        }
        // The last instruction is the return that the decoder added.
        let lines = code.body[..code.body.len() - 1].iter().map(|inst| inst.line);
        Ok(Report { counters, executed: lines.zip(executed).collect() })
    }

    /// The number of threads of a CTA, if the device would take the launch.
    fn check(&self, code: &Code, shape: Shape, parameters: &[u8]) -> Result<u32, String> {
        let [x, y, z] = shape.block;
        let threads = u64::from(x) * u64::from(y) * u64::from(z);
        let most = u64::from(code.max_threads.unwrap_or(1024).min(1024));
        if threads == 0 || threads > most || z > 64 {
            return Err(format!("{x}x{y}x{z} threads; at most {most} are possible"));
        }
        let [x, y, z] = shape.grid;
        if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
            return Err(format!("grid {x}x{y}x{z} is empty or too large"));
        }
        let shared = u64::from(code.dynamic_shared_at) + u64::from(shape.shared);
        if shared > u64::from(self.config.shared_bytes_opt_in) {
            let most = self.config.shared_bytes_opt_in;
            return Err(format!("{shared} bytes of shared memory; the device has {most}"));
        }
        if code.local_bytes > MAX_LOCAL {
            return Err(format!(
                "{} bytes of local memory a thread; {MAX_LOCAL} are possible",
                code.local_bytes
            ));
        }
        if parameters.len() != code.parameter_bytes as usize {
            return Err(format!(
                "{} bytes of parameters, but the kernel takes {}",
                parameters.len(),
                code.parameter_bytes
            ));
        }
        Ok(threads as u32)
    }
}

fn fault(code: &Code, cta: [u32; 3], located: Located) -> Fault {
    let line = code.body.get(located.at).map_or(0, |inst| inst.line);
    let text = code.source.get(line.saturating_sub(1) as usize).cloned();
    let (lane, kind) = located.fault;
    let kernel = code.name.clone();
    Fault { kernel, line, text: text.unwrap_or_default(), cta, warp: located.warp, lane, kind }
}
