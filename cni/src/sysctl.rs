//! `/proc/sys/net` of the calling thread's network namespace.

use std::fs;
use std::path::Path;

use crate::error::Error;

/// Writes `value` to `net/<name>` unless it is there already.
///
/// The comparison keeps containers with a read-only `/proc/sys` working where nothing is to do.
///
/// # Errors
/// Code 5, naming the file.
pub(crate) fn set(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net").join(name);
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| Error::file("writing", &path, &error))
}

/// Writes `value` to `net/<name>` where the kernel has it.
///
/// # Errors
/// Code 5, naming the file.
pub(crate) fn set_if_present(name: &str, value: &str) -> Result<(), Error> {
    if Path::new("/proc/sys/net").join(name).exists() {
        return set(name, value);
    }
    Ok(())
}
