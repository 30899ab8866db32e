//! The thread that takes in changes when nobody asks.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::tree::Tree;
use crate::table::lock;

/// Runs until dropped.
pub(super) struct Follower {
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(tree: Arc<Mutex<Tree>>) -> io::Result<Follower> {
        let (stop, stopped) = UnixStream::pair()?;
        // A file descriptor of its own: the tree is not locked while waiting.
        let changes = lock(&tree).changes.as_fd().try_clone_to_owned()?;
        let follow = move || follow(&tree, changes.as_fd(), &stopped);
        let thread = std::thread::Builder::new()
            .name("manifests".into())
            .spawn(follow)?;
        Ok(Follower {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.stop.write_all(b".");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(tree: &Mutex<Tree>, changes: std::os::fd::BorrowedFd<'_>, stopped: &UnixStream) {
    loop {
        let idle = {
            let mut tree = lock(tree);
            tree.refresh();
            tree.idle_time()
        };
        // Rounded up, so that what is due is due when we wake.
        let timeout = idle.and_then(|idle| PollTimeout::try_from(idle.as_millis() + 1).ok());
        let ready = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut ready = [ready(changes), ready(stopped.as_fd())];
        match poll(&mut ready, timeout.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => std::thread::sleep(std::time::Duration::from_secs(1)),
        }
        if ready[1].any() == Some(true) {
            let mut stopped = stopped;
            let _ = stopped.read(&mut [0]);
            return;
        }
    }
}
