//! A program of ours that a test starts itself.

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long a program may take to end.
const LIMIT: Duration = Duration::from_secs(60);

/// A running program. It is killed when this is dropped, and its log is shown when a test has
/// failed or with `VERBOSE`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Takes over a program that writes into this file.
    pub fn new(child: Child, log: PathBuf) -> Self {
        Self { child, log }
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        let what = format!("the end of what writes {}", self.log.display());
        wait::until(&what, LIMIT, || Ok(self.child.try_wait()?)).map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() || std::env::var_os("VERBOSE").is_some() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("{}:\n{log}", self.log.display());
        }
    }
}
