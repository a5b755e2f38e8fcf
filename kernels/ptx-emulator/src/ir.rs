//! A kernel after decoding: every name is an index, every operation knows what to do.

use crate::ast::Space;
use crate::asynchronous::Async;
use crate::counters::Class;
use crate::float::Round;
pub(crate) use crate::ty::Ty;

/// One 32-bit register over the lanes of a warp. Narrower values sit in the low bits.
pub(crate) type L32 = [u32; 32];
/// One 64-bit register over the lanes of a warp.
pub(crate) type L64 = [u64; 32];
/// An operation on 32-bit lanes.
pub(crate) type Fn32 = fn([&L32; 4]) -> L32;
/// An operation on lanes of any width, carried in 64 bits.
pub(crate) type Fn64 = fn([&L64; 4]) -> L64;
/// A comparison of 32-bit lanes; bit i of the result belongs to lane i.
pub(crate) type FnSet32 = fn(&L32, &L32) -> u32;
/// A comparison of 64-bit lanes.
pub(crate) type FnSet64 = fn(&L64, &L64) -> u32;

/// An operation for either register file.
#[derive(Clone, Copy)]
pub(crate) enum Lanes {
    Narrow(Fn32),
    Wide(Fn64),
}

/// A register by its file and number. Immediate values and special registers are registers too,
/// filled before the kernel starts, so that an instruction reads nothing but registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reg {
    /// 32-bit file.
    R(u16),
    /// 64-bit file.
    D(u16),
    /// Predicate file.
    P(u16),
    /// `_`: the value is thrown away.
    Sink,
}

/// Read-only registers that tell a thread who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Laneid,
    Warpid,
    Nwarpid,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    DynamicSharedSize,
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    /// A shared variable's address in the cluster's window.
    SharedVariable(u32),
}

/// A predicate operand, possibly negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PredSrc {
    pub(crate) reg: u16,
    pub(crate) not: bool,
}

/// `[base + offset]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addr {
    /// None: the offset is the whole address (parameters, variables).
    pub(crate) base: Option<Reg>,
    pub(crate) offset: i64,
}

/// How `setp` and `set` join the comparison with a third predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    None,
    And(PredSrc),
    Or(PredSrc),
    Xor(PredSrc),
}

/// `shfl.sync` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// `vote.sync` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

/// What an atomic does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// The element types of a matrix instruction (accumulation is f32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MmaKind {
    /// m16n8k16, bf16.
    Bf16K16,
    /// m16n8k16, f16.
    F16K16,
    /// m16n8k8, bf16.
    Bf16K8,
    /// m16n8k8, f16.
    F16K8,
    /// m16n8k8, tf32.
    Tf32K8,
    /// m16n8k4, tf32.
    Tf32K4,
}

/// `cvt` in full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cvt {
    pub(crate) to: Ty,
    pub(crate) from: Ty,
    pub(crate) round: Round,
    /// Round to a whole number (`.rni` and so on).
    pub(crate) integral: bool,
    pub(crate) sat: bool,
    pub(crate) ftz: bool,
    pub(crate) relu: bool,
}

/// Flush-to-zero and saturation around a 32-bit float operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FloatMods {
    pub(crate) ftz: bool,
    pub(crate) sat: bool,
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Alu32 {
        f: Fn32,
        d: Reg,
        s: [Reg; 4],
        n: u8,
        mods: FloatMods,
    },
    Alu64 {
        f: Fn64,
        d: Reg,
        s: [Reg; 4],
        n: u8,
    },
    /// Predicate logic: truth table over (a, b).
    Logic {
        table: u8,
        d: Reg,
        a: PredSrc,
        b: PredSrc,
    },
    Cvt {
        c: Cvt,
        d: Reg,
        a: Reg,
    },
    /// Two f32 to one packed pair: d.hi = a, d.lo = b.
    Cvt2 {
        c: Cvt,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Set32 {
        f: FnSet32,
        p: Reg,
        q: Reg,
        a: Reg,
        b: Reg,
        ftz: bool,
        combine: Combine,
    },
    Set64 {
        f: FnSet64,
        p: Reg,
        q: Reg,
        a: Reg,
        b: Reg,
        combine: Combine,
    },
    Selp {
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredSrc,
    },
    Pack {
        d: Reg,
        parts: [Reg; 4],
        n: u8,
        bits: u8,
    },
    Unpack {
        d: [Reg; 4],
        a: Reg,
        n: u8,
        bits: u8,
    },
    Ld {
        space: Space,
        ty: Ty,
        d: [Reg; 4],
        n: u8,
        addr: Addr,
    },
    St {
        space: Space,
        ty: Ty,
        s: [Reg; 4],
        n: u8,
        addr: Addr,
    },
    Atom {
        space: Space,
        op: AtomicOp,
        ty: Ty,
        d: Reg,
        addr: Addr,
        b: Reg,
        c: Reg,
    },
    CpAsync {
        bytes: u32,
        dst: Addr,
        src: Addr,
        size: Option<Reg>,
    },
    CpCommit,
    CpWait {
        keep: u32,
    },
    CpWaitAll,
    Ldmatrix {
        n: u8,
        trans: bool,
        d: [Reg; 4],
        addr: Addr,
    },
    Stmatrix {
        n: u8,
        trans: bool,
        s: [Reg; 4],
        addr: Addr,
    },
    Mma {
        kind: MmaKind,
        d: [Reg; 4],
        a: [Reg; 4],
        b: [Reg; 2],
        c: [Reg; 4],
    },
    Shfl {
        mode: ShflMode,
        d: Reg,
        p: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        mask: Reg,
    },
    Vote {
        mode: VoteMode,
        d: Reg,
        a: PredSrc,
        mask: Reg,
    },
    Redux {
        op: AtomicOp,
        ty: Ty,
        d: Reg,
        a: Reg,
        mask: Reg,
    },
    Activemask {
        d: Reg,
    },
    /// The lowest lane of the mask is elected.
    Elect {
        d: Reg,
        p: Reg,
        mask: Reg,
    },
    /// Hopper's asynchronous instructions.
    Async(Box<Async>),
    Bar {
        id: Reg,
        count: Option<Reg>,
        wait: bool,
    },
    WarpBar {
        mask: Reg,
    },
    Bra {
        target: u32,
    },
    Exit,
    Trap,
    Nop,
}

/// One decoded instruction.
#[derive(Clone, Debug)]
pub(crate) struct Inst {
    pub(crate) op: Op,
    pub(crate) guard: Option<PredSrc>,
    pub(crate) line: u32,
    pub(crate) class: Class,
}

/// Where a parameter lies in the parameter block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Offset in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// A kernel that can be launched.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Size of the parameter block in bytes.
    pub parameter_bytes: u32,
    /// Shared memory that the text itself declares, in bytes.
    pub static_shared: u32,
    /// Where the launch's dynamic shared memory begins.
    pub dynamic_shared_at: u32,
    /// Local memory of each thread, in bytes.
    pub local_bytes: u32,
    /// Most threads of a CTA, if the text says so.
    pub max_threads: Option<u32>,
    /// CTAs of a cluster, if the text says so.
    pub cluster: Option<[u32; 3]>,
    /// 32-bit, 64-bit and predicate registers declared and used.
    pub registers: [u32; 3],
    pub(crate) body: Vec<Inst>,
    /// Registers of the 32-bit file that hold a constant, and the constant.
    pub(crate) constants32: Vec<(u16, u32)>,
    /// The same for the 64-bit file.
    pub(crate) constants64: Vec<(u16, u64)>,
    /// Registers of the 32-bit file that stand for a special register.
    pub(crate) specials: Vec<(u16, Special)>,
    /// Names for messages: registers of the three files.
    pub(crate) names: [Vec<String>; 3],
    /// Smallest access to shared memory in bytes, as a power of two.
    pub(crate) shared_granule: u32,
    /// Whether it uses mbarriers, bulk copies or `wgmma`.
    pub(crate) asynchronous: bool,
    /// The text's lines, for messages.
    pub(crate) source: std::sync::Arc<Vec<String>>,
}
