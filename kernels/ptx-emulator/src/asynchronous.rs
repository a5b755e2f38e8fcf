//! Hopper's asynchronous instructions after decoding.

use crate::ast::Space;
use crate::ir::{Addr, PredSrc, Reg};

/// An address of shared memory, written in the CTA's or cluster's window or as a generic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedAddr {
    pub(crate) addr: Addr,
    pub(crate) generic: bool,
}

/// A tensor map and where in the tensor a box begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorAddr {
    pub(crate) map: Addr,
    /// Parameter (a name) or generic (a register).
    pub(crate) space: Space,
    pub(crate) rank: u8,
    pub(crate) at: [Reg; 5],
}

/// The multiplicand A of a `wgmma`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeftSide {
    /// A descriptor, and whether the matrix is stored by columns (M-major).
    Shared(Reg, bool),
    /// Four registers, as for `mma`.
    Registers([Reg; 4]),
}

/// One `wgmma.mma_async`.
#[derive(Clone, Debug)]
pub(crate) struct Wgmma {
    /// bf16; f16 otherwise.
    pub(crate) bf16: bool,
    /// n / 2 accumulators.
    pub(crate) d: Vec<Reg>,
    pub(crate) a: LeftSide,
    /// A descriptor, and whether the matrix is N-major.
    pub(crate) b: (Reg, bool),
    /// Whether the accumulators are added to.
    pub(crate) adds: PredSrc,
    /// Whether the product is subtracted.
    pub(crate) negative: bool,
}

/// One asynchronous operation, or one that such operations need.
#[derive(Clone, Debug)]
pub(crate) enum Async {
    MbarrierInit {
        at: SharedAddr,
        count: Reg,
    },
    MbarrierInval {
        at: SharedAddr,
    },
    /// `expect`: bytes that are expected besides.
    Arrive {
        d: Reg,
        at: SharedAddr,
        count: Option<Reg>,
        expect: Option<Reg>,
        drops_out: bool,
    },
    Expect {
        at: SharedAddr,
        bytes: Reg,
    },
    Complete {
        at: SharedAddr,
        bytes: Reg,
    },
    /// `goal`: a parity (32 bits) or a state (64 bits). `patient`: `try_wait`.
    Wait {
        p: Reg,
        at: SharedAddr,
        goal: Reg,
        patient: bool,
    },
    /// The cluster's window: d = the address a in CTA `rank`.
    Mapa {
        d: Reg,
        a: Reg,
        rank: Reg,
    },
    TensorLoad {
        to: SharedAddr,
        from: TensorAddr,
        mbarrier: SharedAddr,
        mask: Option<Reg>,
    },
    TensorStore {
        to: TensorAddr,
        from: SharedAddr,
        adds: bool,
    },
    BulkCommit,
    BulkWait {
        keep: u32,
    },
    FenceProxy,
    FenceMbarrierInit,
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait {
        keep: u32,
    },
    Wgmma(Wgmma),
    ClusterArrive,
    ClusterWait,
    /// `setmaxnreg`: registers of a thread from now on.
    SetRegisters {
        count: u32,
        more: bool,
    },
}
