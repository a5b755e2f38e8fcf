//! Failures that the user can mend: exit code 2, and nothing has been touched.

use std::fmt;

/// Bad usage or bad input; every other error is a failure of the work itself.
#[derive(Debug)]
pub struct BadInput(pub String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// An error that ends the program with exit code 2.
pub fn bad_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(message.into()))
}

/// The exit code that an error deserves.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let bad = error.chain().any(|cause| {
        cause.is::<BadInput>()
            || matches!(
                cause.downcast_ref::<paddock_core::Error>(),
                Some(paddock_core::Error::Config { .. } | paddock_core::Error::Weight { .. })
            )
    });
    if bad { 2 } else { 1 }
}
