//! Network namespaces, entered on a thread of their own.
//!
//! A namespace belongs to a thread. No thread that somebody else may use is ever moved: work in
//! another namespace runs on a fresh thread that ends with it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;

/// The calling thread's namespace; `/proc/self` would be that of the first thread.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by this handle.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

impl NetNs {
    /// Opens a namespace by path, e.g. `/run/netns/x` or `/proc/42/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<NetNs, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| {
            Error::system(format!("open network namespace {}", path.display()), source)
        })?;
        Ok(NetNs {
            file,
            path: path.to_owned(),
        })
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<NetNs, Error> {
        NetNs::open(CURRENT)
    }

    /// A new namespace that lasts as long as the handle and what runs in it.
    pub fn create() -> Result<NetNs, Error> {
        on_fresh_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::system("create a network namespace", errno))?;
            NetNs::current()
        })?
    }

    /// Runs `work` in this namespace, on a thread of its own, and waits for it.
    ///
    /// Sockets opened by `work`, processes started by it and its `/proc/sys/net` belong to the
    /// namespace. A panic of `work` continues in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_fresh_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                Error::system(
                    format!("enter network namespace {}", self.path.display()),
                    errno,
                )
            })?;
            Ok(work())
        })?
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| Error::system("start a thread", source))?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
