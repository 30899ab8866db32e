//! Reading and writing files so that no reader ever sees half of one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::manifest::MAX_FILE;
use crate::Error;

/// Name of the file that writers lock.
const LOCK: &str = ".lock";
/// How long a writer waits for others.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Beginning of the names of files being written; hidden, so that nobody reads them.
const TEMPORARY: &str = ".tortie-";

/// How much of a crash a write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Loss of power: data and name are on the disk when the write returns.
    PowerLoss,
    /// The end of every process.
    Processes,
}

/// The right to write, among all processes; given back when dropped.
pub(super) struct Lock(File);

impl Lock {
    /// Waits for other writers, within reason.
    pub(super) fn acquire(root: &Path) -> Result<Lock, Error> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            if let Some(lock) = Lock::try_acquire(root)? {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                let path = root.join(LOCK);
                return Err(Error::unavailable(format!(
                    "{} is held by another process for too long",
                    path.display()
                )));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Nothing if another process is writing.
    pub(super) fn try_acquire(root: &Path) -> Result<Option<Lock>, Error> {
        let path = root.join(LOCK);
        let fail = |error| unavailable("cannot lock", &path, error);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    /// Removes what writers left behind that died while writing; nobody is writing while the lock is held.
    pub(super) fn clean(&self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(TEMPORARY.as_bytes())
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Reads a text file of bounded size.
pub(super) fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its writer.
    let nonblocking = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "the file is larger than {MAX_FILE} bytes; split it"
        )));
    }
    Ok(text)
}

/// Replaces the content of a file, or makes it, in one step. A link is followed, not replaced.
pub(super) fn write(path: &Path, text: &str, durability: Durability) -> Result<(), Error> {
    let fail = |error| unavailable("cannot write", path, error);
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("."));
    if !directory.is_dir() {
        fs::create_dir_all(directory).map_err(fail)?;
        sync_directory(directory.parent().unwrap_or(directory), durability).map_err(fail)?;
    }
    let temporary = temporary_path(directory);
    let written = write_temporary(&temporary, &target, text, durability)
        .and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(fail(error));
    }
    sync_directory(directory, durability).map_err(fail)
}

/// Removes a file.
pub(super) fn remove(path: &Path, durability: Durability) -> Result<(), Error> {
    let fail = |error| unavailable("cannot remove", path, error);
    fs::remove_file(path).map_err(fail)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")), durability).map_err(fail)
}

fn write_temporary(
    temporary: &Path,
    target: &Path,
    text: &str,
    durability: Durability,
) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(temporary)?;
    file.write_all(text.as_bytes())?;
    if let Ok(metadata) = fs::metadata(target) {
        file.set_permissions(metadata.permissions())?;
    }
    match durability {
        Durability::PowerLoss => file.sync_data(),
        Durability::Processes => Ok(()),
    }
}

fn sync_directory(directory: &Path, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::PowerLoss => File::open(directory)?.sync_all(),
        Durability::Processes => Ok(()),
    }
}

fn temporary_path(directory: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{TEMPORARY}{}-{number}.tmp", std::process::id()))
}

pub(super) fn unavailable(what: &str, path: &Path, error: io::Error) -> Error {
    Error::Unavailable {
        what: format!("{what} {}: {error}", path.display()),
        source: Some(Box::new(error)),
    }
}
