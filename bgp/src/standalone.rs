//! What only the stand-alone speaker needs: its file, its process, its questions.

pub(crate) mod file;
mod prefix;
pub(crate) mod run;
mod watch;

/// Where a running speaker answers questions.
pub(crate) const SOCKET: &str = "/run/tortie/bgp.sock";
