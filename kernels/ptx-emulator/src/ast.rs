//! The text as a tree, before names mean anything.

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// No space written: the address tells.
    Generic,
    /// Device memory.
    Global,
    /// The CTA's own memory.
    Shared,
    /// The kernel's parameters.
    Param,
    /// Constants of the module.
    Const,
    /// A thread's own memory.
    Local,
}

/// A declared variable (not a register).
#[derive(Clone, Debug)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it lives.
    pub space: Space,
    /// Alignment in bytes.
    pub align: u32,
    /// Size in bytes; 0 for `.extern .shared x[]`, whose size the launch tells.
    pub size: u32,
    /// Initial bytes; shorter than `size` means zeros follow. Empty: not initialised.
    pub initial: Vec<u8>,
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// A register, a variable, a label, a special register or `_`.
    Name(&'a str),
    /// `!%p`.
    Not(&'a str),
    /// An integer, already negated where a minus stood before it.
    Int(u64),
    /// A decimal float.
    Float(f64),
    /// A float as bits.
    F32(u32),
    /// A double as bits.
    F64(u64),
    /// `{a, b, …}`.
    List(Vec<Operand<'a>>),
    /// `a|b`.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `[base + offset]`.
    Address(Box<Operand<'a>>, i64),
    /// `[map + offset, {x, y, …}]`.
    Tensor(Box<Operand<'a>>, i64, Vec<Operand<'a>>),
}

/// One instruction as written.
#[derive(Clone, Debug)]
pub struct Instruction<'a> {
    /// `@%p` or `@!%p`: the name, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// The operation with its modifiers: `ld.global.v4.f32`.
    pub name: &'a str,
    /// The operands.
    pub operands: Vec<Operand<'a>>,
    /// Its line, counted from 1.
    pub line: u32,
}

/// A statement of a kernel's body.
#[derive(Clone, Debug)]
pub enum Statement<'a> {
    /// `.reg .b32 %r<4>;` is type `.b32`, name `%r`, count 4.
    Register {
        /// The type with its dot.
        ty: &'a str,
        /// The name or its stem.
        name: &'a str,
        /// How many, for the form with angle brackets.
        count: Option<u32>,
        /// Its line.
        line: u32,
    },
    /// A shared or local variable.
    Variable(Variable<'a>),
    /// `name:`.
    Label(&'a str, u32),
    /// An instruction.
    Instruction(Instruction<'a>),
    /// `{`: names declared from here end at the matching `Close`.
    Open,
    /// `}`.
    Close,
}

/// One `.entry`.
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its parameters, in order.
    pub parameters: Vec<Variable<'a>>,
    /// Most threads of a CTA, from `.maxntid` or `.reqntid`.
    pub max_threads: Option<u32>,
    /// CTAs of a cluster, from `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
    /// The body.
    pub body: Vec<Statement<'a>>,
    /// Its line.
    pub line: u32,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Module<'a> {
    /// `.version` as (major, minor).
    pub version: (u32, u32),
    /// `.target`.
    pub target: &'a str,
    /// Variables at file level.
    pub variables: Vec<Variable<'a>>,
    /// The kernels.
    pub kernels: Vec<Kernel<'a>>,
}
