//! Operands of the larger ops of a [back-end](crate::backend::Backend), by name.

use crate::backend::{Heads, Write};
use crate::batch::Rows;
use crate::slot::Slot;

/// Where the loss writes; see [`Backend::linear_cross_entropy`](crate::backend::Backend::linear_cross_entropy).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSlots {
    /// nll (E)
    pub nll: Slot,
    /// lse (M)
    pub lse: Slot,
    /// coeff (E), read
    pub coeff: Slot,
    /// dinp (M,C), overwritten
    pub dinp: Slot,
    /// dw (V,C), accumulated
    pub dw: Option<Slot>,
}

/// Gradients of a LoRA linear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraGrads {
    /// da (R,I) +=
    pub da: Slot,
    /// db (O,R) +=
    pub db: Slot,
    /// dinp (n,I), if anything below is trained.
    pub dinp: Option<(Slot, Write)>,
}

/// Gradients of attention, all overwritten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionGrads {
    /// dq (n,H,D)
    pub dq: Slot,
    /// dk (Nk,K,D)
    pub dk: Slot,
    /// dv (Nk,K,D)
    pub dv: Slot,
}

/// What attention's backward reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSaved {
    /// dout (n,H,D)
    pub dout: Slot,
    /// out (n,H,D) of forward
    pub out: Slot,
    /// lse (n,H) of forward
    pub lse: Slot,
    /// q (n,H,D)
    pub q: Slot,
    /// k (Nk,K,D)
    pub k: Slot,
    /// v (Nk,K,D)
    pub v: Slot,
    /// Geometry.
    pub heads: Heads,
    /// Which rows the queries are.
    pub rows: Rows,
}
