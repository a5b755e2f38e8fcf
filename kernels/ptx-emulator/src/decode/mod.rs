//! From the tree to code: names become indices, modifiers become choices of function.
//!
//! Nothing is skipped silently: a modifier that this machine does not know is an error.

mod arithmetic;
mod hopper;
mod memory;
mod operands;
mod sync;

pub(crate) use operands::Modifiers;

use crate::ast::{Instruction, Kernel, Space, Statement, Variable};
use crate::counters::Class;
use crate::error::SourceError;
use crate::ir::{Code, Inst, Op, Parameter, Reg, Special, Ty};
use std::collections::HashMap;
use std::sync::Arc;

/// What a name of a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) space: Space,
    /// Device address (global) or offset in the space.
    pub(crate) address: u64,
}

/// Variables at file level, laid out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    /// Whether the target is `sm_90a`, of which alone some instructions are.
    pub(crate) hopper: bool,
    pub(crate) places: HashMap<String, Place>,
    pub(crate) shared_bytes: u32,
    /// Alignment of the dynamic shared memory, where the file declares some, and its name.
    pub(crate) dynamic: Vec<(String, u32)>,
}

#[derive(Clone, Copy)]
enum Entry {
    Register(Reg, Ty),
    Variable(Place),
}

/// What a decoded instruction is, and what it counts as.
type Decoded = Result<(Op, Class), String>;

struct Decoder<'a> {
    scopes: Vec<HashMap<String, Entry>>,
    /// Numbers of the open scopes, for labels.
    open: Vec<usize>,
    labels: HashMap<(usize, &'a str), u32>,
    code: Code,
    constants32: HashMap<u32, Reg>,
    constants64: HashMap<u64, Reg>,
    specials: HashMap<&'a str, Reg>,
    shared_variables: HashMap<u32, Reg>,
    smallest_shared: u32,
    hopper: bool,
}

/// Decodes one kernel.
pub(crate) fn decode(
    kernel: &Kernel,
    symbols: &Symbols,
    source: &Arc<Vec<String>>,
) -> Result<Code, SourceError> {
    let code = Code {
        name: kernel.name.to_string(),
        parameters: Vec::new(),
        parameter_bytes: 0,
        static_shared: symbols.shared_bytes,
        dynamic_shared_at: 0,
        local_bytes: 0,
        max_threads: kernel.max_threads,
        cluster: kernel.cluster,
        registers: [0; 3],
        body: Vec::new(),
        constants32: Vec::new(),
        constants64: Vec::new(),
        specials: Vec::new(),
        names: Default::default(),
        shared_granule: 0,
        asynchronous: false,
        source: Arc::clone(source),
    };
    let mut decoder = Decoder {
        scopes: vec![HashMap::new()],
        open: vec![0],
        labels: find_labels(kernel)?,
        code,
        constants32: HashMap::new(),
        constants64: HashMap::new(),
        specials: HashMap::new(),
        shared_variables: HashMap::new(),
        smallest_shared: 16,
        hopper: symbols.hopper,
    };
    for (name, place) in &symbols.places {
        decoder.scopes[0].insert(name.clone(), Entry::Variable(*place));
    }
    decoder.parameters(kernel);
    decoder.layout(kernel, symbols);
    decoder.body(kernel)?;
    let mut code = decoder.code;
    code.shared_granule = decoder.smallest_shared.trailing_zeros();
    Ok(code)
}

/// Where each label points: (scope, name) to the number of the next instruction.
fn find_labels<'a>(kernel: &Kernel<'a>) -> Result<HashMap<(usize, &'a str), u32>, SourceError> {
    let mut labels = HashMap::new();
    let (mut open, mut scopes, mut next) = (vec![0], 0, 0);
    for statement in &kernel.body {
        match statement {
            Statement::Open => {
                scopes += 1;
                open.push(scopes);
            }
            Statement::Close => drop(open.pop()),
            Statement::Instruction(_) => next += 1,
            Statement::Label(name, line) => {
                let scope = open.last().copied().unwrap_or(0);
                if labels.insert((scope, *name), next).is_some() {
                    let message = format!("label {name} stands twice in one scope");
                    return Err(SourceError { line: *line, message });
                }
            }
            _ => {}
        }
    }
    Ok(labels)
}

impl<'a> Decoder<'a> {
    fn parameters(&mut self, kernel: &Kernel) {
        let mut end = 0_u32;
        for parameter in &kernel.parameters {
            let offset = place_next(&mut end, parameter);
            let place = Place { space: Space::Param, address: u64::from(offset) };
            self.scopes[0].insert(parameter.name.to_string(), Entry::Variable(place));
            self.code.parameters.push(Parameter {
                name: parameter.name.to_string(),
                offset,
                size: parameter.size,
            });
        }
        self.code.parameter_bytes = end;
    }

    /// Shared variables of the body follow those of the file; dynamic ones come last, all at one
    /// place.
    fn layout(&mut self, kernel: &Kernel, symbols: &Symbols) {
        let variables = || {
            kernel.body.iter().filter_map(|statement| match statement {
                Statement::Variable(variable) => Some(variable),
                _ => None,
            })
        };
        for variable in variables().filter(|variable| variable.size > 0) {
            match variable.space {
                Space::Shared => drop(place_next(&mut self.code.static_shared, variable)),
                Space::Local => drop(place_next(&mut self.code.local_bytes, variable)),
                _ => {}
            }
        }
        let inside =
            variables().filter(|variable| variable.size == 0).map(|variable| variable.align);
        let outside = symbols.dynamic.iter().map(|(_, align)| *align);
        let align = inside.chain(outside).max().unwrap_or(16);
        let end = self.code.static_shared.saturating_add(align - 1);
        self.code.dynamic_shared_at = end & !(align - 1);
        let place = Place { space: Space::Shared, address: u64::from(self.code.dynamic_shared_at) };
        for (name, _) in &symbols.dynamic {
            self.scopes[0].insert(name.clone(), Entry::Variable(place));
        }
        // The body is walked again below and places its variables in the same order.
        self.code.static_shared = symbols.shared_bytes;
        self.code.local_bytes = 0;
    }

    fn body(&mut self, kernel: &Kernel<'a>) -> Result<(), SourceError> {
        let mut scopes = 0;
        for statement in &kernel.body {
            match statement {
                Statement::Open => {
                    scopes += 1;
                    self.open.push(scopes);
                    self.scopes.push(HashMap::new());
                }
                Statement::Close => {
                    self.open.pop();
                    self.scopes.pop();
                }
                Statement::Register { ty, name, count, line } => {
                    self.registers(ty, name, *count)
                        .map_err(|message| SourceError { line: *line, message })?
                }
                Statement::Variable(variable) => self.variable(variable),
                Statement::Label(..) => {}
                Statement::Instruction(instruction) => {
                    let decoded = self.guarded(instruction).map_err(|message| SourceError {
                        line: instruction.line,
                        message: format!("{}: {message}", instruction.name),
                    })?;
                    self.code.body.push(decoded);
                }
            }
        }
        // Falling off the end is a return.
        let line = self.code.body.last().map_or(kernel.line, |inst| inst.line);
        self.code.body.push(Inst { op: Op::Exit, guard: None, line, class: Class::Control });
        Ok(())
    }

    fn registers(&mut self, ty: &str, name: &str, count: Option<u32>) -> Result<(), String> {
        let ty = Ty::parse(ty).ok_or_else(|| format!("{ty} is no register type"))?;
        let names: Vec<String> = match count {
            None => vec![name.to_string()],
            Some(count) => (0..count).map(|number| format!("{name}{number}")).collect(),
        };
        for name in names {
            let register = self.new_register(ty, name.clone())?;
            let scope = self.scopes.last_mut().ok_or("a closing brace too many")?;
            if scope.insert(name.clone(), Entry::Register(register, ty)).is_some() {
                return Err(format!("{name} is declared twice in one scope"));
            }
        }
        Ok(())
    }

    fn new_register(&mut self, ty: Ty, name: String) -> Result<Reg, String> {
        let file = match ty {
            Ty::Pred => 2,
            _ if ty.is_wide() => 1,
            _ => 0,
        };
        let number = u16::try_from(self.code.registers[file]);
        let number = number.map_err(|_| "more than 65,536 registers".to_string())?;
        self.code.registers[file] += 1;
        self.code.names[file].push(name);
        Ok([Reg::R(number), Reg::D(number), Reg::P(number)][file])
    }

    fn variable(&mut self, variable: &Variable) {
        let address = match variable.space {
            Space::Shared if variable.size == 0 => self.code.dynamic_shared_at,
            Space::Shared => place_next(&mut self.code.static_shared, variable),
            _ => place_next(&mut self.code.local_bytes, variable),
        };
        let place = Place { space: variable.space, address: u64::from(address) };
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(variable.name.to_string(), Entry::Variable(place));
        }
    }

    fn guarded(&mut self, instruction: &Instruction<'a>) -> Result<Inst, String> {
        let guard = match instruction.guard {
            None => None,
            Some((name, not)) => Some(self.predicate_name(name, not)?),
        };
        let (op, class) = self.instruction(instruction)?;
        Ok(Inst { op, guard, line: instruction.line, class })
    }

    fn instruction(&mut self, instruction: &Instruction<'a>) -> Decoded {
        let mut modifiers = Modifiers::new(instruction.name);
        let operands = instruction.operands.as_slice();
        let op = modifiers.op();
        if matches!(op, "wgmma" | "setmaxnreg") && !self.hopper {
            return Err("needs .target sm_90a".into());
        }
        let decoded = match op {
            "ld" | "ldu" => self.load(&mut modifiers, operands),
            "st" => self.store(&mut modifiers, operands),
            "atom" | "red" => self.atomic(op, &mut modifiers, operands),
            "cvta" => self.cvta(&mut modifiers, operands),
            "cp" => self.async_copy(&mut modifiers, operands),
            "ldmatrix" => self.ldmatrix(&mut modifiers, operands),
            "stmatrix" => self.stmatrix(&mut modifiers, operands),
            "mma" => self.mma(&mut modifiers, operands),
            "bar" | "barrier" => self.barrier(&mut modifiers, operands),
            "membar" | "fence" | "prefetch" => self.fence(op, &mut modifiers),
            "mbarrier" => self.mbarrier(&mut modifiers, operands),
            "mapa" => self.mapa(&mut modifiers, operands),
            "wgmma" => self.wgmma(&mut modifiers, operands),
            "setmaxnreg" => self.set_registers(&mut modifiers, operands),
            "griddepcontrol" => self.dependent_launch(&mut modifiers),
            "elect" => self.elect(&mut modifiers, operands),
            "shfl" => self.shuffle(&mut modifiers, operands),
            "vote" => self.vote(&mut modifiers, operands),
            "redux" => self.redux(&mut modifiers, operands),
            "activemask" => self.activemask(&mut modifiers, operands),
            "bra" => self.branch(&mut modifiers, operands),
            "ret" | "exit" => Ok((Op::Exit, Class::Control)),
            "trap" => Ok((Op::Trap, Class::Control)),
            "mov" => self.mov(&mut modifiers, operands),
            "cvt" => self.cvt(&mut modifiers, operands),
            "setp" => self.setp(&mut modifiers, operands),
            "selp" => self.selp(&mut modifiers, operands),
            "lop3" => self.lop3(&mut modifiers, operands),
            "shf" => self.funnel(&mut modifiers, operands),
            _ => self.arithmetic(op, &mut modifiers, operands),
        }?;
        modifiers.finish()?;
        Ok(decoded)
    }
}

/// Reserves room for a variable and gives its offset.
pub(crate) fn place_next(end: &mut u32, variable: &Variable) -> u32 {
    // Sizes are bounded by the parser; a sum beyond 32 bits stays at the top.
    // No launch takes so much.
    let offset = end.saturating_add(variable.align - 1) & !(variable.align - 1);
    *end = offset.saturating_add(variable.size);
    offset
}

/// Special registers by name.
fn special(name: &str) -> Option<Special> {
    let axis = |name: &str| match name {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    let (stem, tail) = name.split_once('.').unwrap_or((name, ""));
    Some(match stem {
        "%tid" => Special::Tid(axis(tail)?),
        "%ntid" => Special::Ntid(axis(tail)?),
        "%ctaid" => Special::Ctaid(axis(tail)?),
        "%nctaid" => Special::Nctaid(axis(tail)?),
        "%laneid" => Special::Laneid,
        "%warpid" => Special::Warpid,
        "%nwarpid" => Special::Nwarpid,
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%clusterid" => Special::Clusterid(axis(tail)?),
        "%nclusterid" => Special::Nclusterid(axis(tail)?),
        "%cluster_ctaid" => Special::ClusterCtaid(axis(tail)?),
        "%cluster_nctaid" => Special::ClusterNctaid(axis(tail)?),
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "%dynamic_smem_size" => Special::DynamicSharedSize,
        _ => return None,
    })
}
