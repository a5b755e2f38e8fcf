//! Where there is no x86-64 there is no AMX.

/// Cannot be had.
#[derive(Clone, Copy, Debug)]
pub enum Amx {}

impl Amx {
    /// None.
    pub fn detect() -> Option<Amx> {
        None
    }
}
