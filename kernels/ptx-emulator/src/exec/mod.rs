//! Execution: what each decoded operation does to a warp.

pub(crate) mod access;
pub(crate) mod bulk;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod compute;
pub(crate) mod convert;
pub(crate) mod copies;
pub(crate) mod cta;
pub(crate) mod exchange;
pub(crate) mod int;
pub(crate) mod lanes;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod real;
pub(crate) mod registers;
pub(crate) mod warp;
pub(crate) mod wgmma;
pub(crate) mod world;
