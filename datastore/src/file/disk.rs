//! Reading and writing files so that no reader ever sees half of one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
        if let Some(lock) = Lock::try_acquire(root)? {
            return Ok(lock);
        }
        let file = Lock::open(root)?;
        let path = root.join(LOCK);
        // Who asks again and again takes the time of whoever writes, and may never be the one that
        // asks in the right moment; the kernel gives the lock to those that wait for it, but
        // without an end.
        let (sender, receiver) = mpsc::sync_channel(1);
        let wait = move || {
            // Too late, the lock is given back at once.
            let _late = sender.send(wait_for(&file).map(|()| Lock(file)));
        };
        let fail = |error| unavailable("cannot lock", &path, error);
        let waiter = thread::Builder::new().name("datastore-lock".to_owned());
        waiter.spawn(wait).map_err(fail)?;
        match receiver.recv_timeout(LOCK_TIMEOUT) {
            Ok(locked) => locked.map_err(fail),
            Err(_) => Err(Error::unavailable(format!(
                "{} is held by another process for too long",
                path.display()
            ))),
        }
    }

    /// Nothing if another process is writing.
    pub(super) fn try_acquire(root: &Path) -> Result<Option<Lock>, Error> {
        let file = Lock::open(root)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(unavailable("cannot lock", &root.join(LOCK), error))
            }
        }
    }

    fn open(root: &Path) -> Result<File, Error> {
        let path = root.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        options
            .open(&path)
            .map_err(|error| unavailable("cannot lock", &path, error))
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

fn wait_for(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_for_each_other_and_all_get_their_turn() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let held = Lock::acquire(root).unwrap();
        assert!(Lock::try_acquire(root).unwrap().is_none());
        let turns = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::acquire(root).unwrap();
                        // Not atomic: two at a time would lose one.
                        let turn = turns.load(Ordering::Relaxed);
                        thread::yield_now();
                        turns.store(turn + 1, Ordering::Relaxed);
                    }
                });
            }
            drop(held);
        });
        assert_eq!(turns.load(Ordering::Relaxed), 400);
        assert!(Lock::try_acquire(root).unwrap().is_some());
    }
}
