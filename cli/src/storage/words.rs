//! Operating-system errors in plain words.

use std::io::{self, ErrorKind};

/// What an I/O error means and what a person can do about it, in one sentence without a full stop.
pub fn explain(error: &io::Error) -> String {
    let words = match error.kind() {
        ErrorKind::StorageFull => "the disk is full; free some space",
        ErrorKind::QuotaExceeded => "your disk quota is used up; free some space or raise it",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only; choose another folder",
        ErrorKind::PermissionDenied => "permission denied; check who owns the folder",
        ErrorKind::NotFound => "it does not exist",
        ErrorKind::AlreadyExists => "it exists already",
        ErrorKind::DirectoryNotEmpty => "the folder is not empty",
        ErrorKind::IsADirectory => "it is a folder, not a file",
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        ErrorKind::FileTooLarge => "the file system does not allow a file this large",
        ErrorKind::InvalidFilename => "the file system does not allow this name",
        ErrorKind::CrossesDevices => "the two places are on different file systems",
        ErrorKind::Interrupted => "the system kept interrupting the call",
        _ if is_device_error(error) => {
            "the disk reported a read or write error; check the disk and its cable"
        }
        _ => return error.to_string(),
    };
    match error.raw_os_error() {
        Some(code) => format!("{words} (system error {code})"),
        None => words.to_string(),
    }
}

/// Whether space may come back: the disk is full or a quota is used up.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(unix)]
fn is_device_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

#[cfg(not(unix))]
fn is_device_error(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn f37_errors_are_in_words() {
        let words = |code| explain(&io::Error::from_raw_os_error(code));
        assert!(words(libc::ENOSPC).contains("disk is full"), "{}", words(libc::ENOSPC));
        assert!(words(libc::EDQUOT).contains("quota"), "{}", words(libc::EDQUOT));
        assert!(words(libc::EROFS).contains("read-only"), "{}", words(libc::EROFS));
        assert!(words(libc::EACCES).contains("permission"), "{}", words(libc::EACCES));
        assert!(words(libc::EIO).contains("disk reported"), "{}", words(libc::EIO));
        assert!(is_full(&io::Error::from_raw_os_error(libc::EDQUOT)));
        assert!(!is_full(&io::Error::from_raw_os_error(libc::EIO)));
    }
}
