//! One error enum for the core; every variant carries the values a message needs.

use alloc::string::String;
use core::fmt;

use crate::slot::{Region, Slot};

/// What the core can refuse. The shells turn these into sentences with file names around them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub enum Error {
    /// A field of the configuration has an impossible value.
    Config { field: &'static str, found: String, expected: String },
    /// A forest or batch breaks its own rules (see [`crate::forest`]).
    Batch { what: &'static str, index: u64 },
    /// A batch exceeds what the plan reserved.
    Capacity { what: &'static str, found: u64, reserved: u64 },
    /// An operand has the wrong number of elements.
    Shape { op: &'static str, operand: &'static str, found: u64, expected: u64 },
    /// Two operands of one op share elements although one of them is written.
    Alias { op: &'static str, first: Slot, second: Slot },
    /// A slot reaches beyond its region.
    OutOfRegion { region: Region, end: u64, len: u64 },
    /// A weight handle that the back-end does not know, or of another shape than asked for.
    Weight { name: String, found: String, expected: String },
    /// A value that is not finite, found where `op` wrote.
    NotFinite { op: &'static str, operand: &'static str, index: u64 },
    /// The state bytes of a run cannot be read back.
    State { what: &'static str },
    /// The state bytes of a run are of a later version than the newest that this program reads.
    StateVersion { found: u64, newest: u64 },
    /// The device or its driver said no.
    Device(String),
    /// The device is lost to this process, or does not answer any more: what was saved is safe.
    DeviceLost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config { field, found, expected } => {
                write!(f, "`{field}` is {found}; expected {expected}")
            }
            Error::Batch { what, index } => write!(f, "invalid batch: {what} (at {index})"),
            Error::Capacity { what, found, reserved } => {
                write!(f, "the batch needs {found} {what}, but {reserved} were reserved")
            }
            Error::Shape { op, operand, found, expected } => {
                write!(f, "{op}: `{operand}` has {found} elements; expected {expected}")
            }
            Error::Alias { op, first, second } => {
                write!(f, "{op}: {first:?} and {second:?} overlap and one of them is written")
            }
            Error::OutOfRegion { region, end, len } => {
                write!(f, "a slot ends at element {end} of {region:?}, which has {len}")
            }
            Error::Weight { name, found, expected } => {
                write!(f, "weight `{name}`: found {found}; expected {expected}")
            }
            Error::NotFinite { op, operand, index } => {
                write!(f, "{op} wrote a value that is not finite to `{operand}` at element {index}")
            }
            Error::State { what } => write!(f, "the saved state of the run cannot be read: {what}"),
            Error::StateVersion { found, newest } => write!(
                f,
                "the saved state of the run is of version {found}, and this Paddock reads versions 1 to {newest}: \
                 use the newer Paddock that saved it"
            ),
            Error::Device(message) | Error::DeviceLost(message) => f.write_str(message),
        }
    }
}

impl core::error::Error for Error {}

/// Shorthand for results of the core.
pub type Result<T> = core::result::Result<T, Error>;
