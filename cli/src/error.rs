//! Failures that the user can mend: exit code 2, and nothing has been touched.

use std::fmt;

use crate::eval::progress::Interrupted;
use crate::run::config::ConfigError;
use crate::run::fingerprint::FingerprintError;
use crate::run::folder::FolderError;

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

/// The device is lost, or does not answer: nothing is wrong with the input, and `--resume` goes on.
pub const EXIT_DEVICE: u8 = 3;

fn is_device_lost(cause: &(dyn std::error::Error + 'static)) -> bool {
    // While a checkpoint is written the error travels inside one of the file system's.
    let inside = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref();
    let found = cause.downcast_ref::<paddock_core::Error>().or_else(inside);
    matches!(found, Some(paddock_core::Error::DeviceLost(_)))
}

/// Whether an error is only the stop that a person asked for.
pub fn is_interruption(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Interrupted>()
            || matches!(cause.downcast_ref(), Some(paddock_datasets::Error::Interrupted))
    })
}

/// The exit code that an error deserves.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(is_device_lost) {
        return EXIT_DEVICE;
    }
    let bad = error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.is::<paddock_datasets::Error>()
            || cause.is::<ConfigError>()
            || cause.is::<FolderError>()
            || cause.is::<FingerprintError>()
            || matches!(
                cause.downcast_ref::<paddock_core::Error>(),
                Some(paddock_core::Error::Config { .. } | paddock_core::Error::Weight { .. })
            )
    });
    if bad { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use paddock_core::Error;

    use super::*;

    #[test]
    fn f51_a_lost_device_has_its_own_exit_code() {
        let lost = || Error::DeviceLost("the card is gone".to_string());
        assert_eq!(exit_code(&anyhow::Error::new(lost())), 3);
        let while_saving = Err::<(), _>(std::io::Error::other(lost())).context("saving");
        assert_eq!(exit_code(&while_saving.unwrap_err()), 3);
        assert_eq!(exit_code(&anyhow::Error::new(Error::Device("no".to_string()))), 1);
        assert_eq!(exit_code(&bad_input("no such file")), 2);
    }
}
