//! Waiting for a descriptor or for the order to end, whichever comes first.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor is ready, or time has passed.
    Ready,
    /// It is time to end.
    Quit,
}

/// A pipe whose other end is closed when it is time to end.
pub(crate) struct Quit(pub(crate) PipeReader);

impl Quit {
    /// Waits until the descriptor is ready.
    pub(crate) fn wait(&self, what: BorrowedFd<'_>, events: PollFlags) -> io::Result<Woken> {
        self.poll(Some((what, events)), PollTimeout::NONE)
    }

    /// Waits for up to so many milliseconds.
    pub(crate) fn pause(&self, millis: u16) -> io::Result<Woken> {
        self.poll(None, PollTimeout::from(millis))
    }

    /// Whether it is time to end, without waiting.
    pub(crate) fn rung(&self) -> io::Result<Woken> {
        self.pause(0)
    }

    fn poll(
        &self,
        what: Option<(BorrowedFd<'_>, PollFlags)>,
        timeout: PollTimeout,
    ) -> io::Result<Woken> {
        let quit = PollFd::new(self.0.as_fd(), PollFlags::POLLIN);
        let (fd, events) = what.unwrap_or((self.0.as_fd(), PollFlags::empty()));
        let mut fds = [quit, PollFd::new(fd, events)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let rung = fds[0].revents().is_some_and(|events| !events.is_empty());
        Ok(if rung { Woken::Quit } else { Woken::Ready })
    }
}
