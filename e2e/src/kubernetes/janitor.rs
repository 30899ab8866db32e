//! Removes a cluster when the program that made it ends, however it ends.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::binary;
use crate::wait;

/// The first word of a command line that makes the program `kubernetes` a janitor.
pub const WORD: &str = "--remove-when-input-ends";
/// Processes that were killed may write for a moment more.
const LIMIT: Duration = Duration::from_secs(30);

/// A process that waits for the end of this one.
#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    /// Starts it. It is in a process group of its own, so Ctrl-C does not reach it.
    pub(super) fn start(name: &str) -> Result<Self> {
        let child = Command::new(binary("kubernetes")?)
            .args([WORD, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the janitor")?;
        Ok(Self(child))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Its input ends, and what is left to remove it removes now.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What the janitor does.
pub fn work(name: &str) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    wait::until("the cluster to be removed", LIMIT, || {
        super::remove(name).map(Some)
    })
    .map(drop)
}
