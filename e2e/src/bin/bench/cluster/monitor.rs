//! When the kernel told of a route.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::lab::Namespace;
use e2e::wait;

/// `ip monitor` in a namespace: changes of routes with the time they were told.
pub(super) struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    pub(super) fn start(namespace: &Namespace) -> Result<Self> {
        let mut command: Command = namespace.command("ip");
        let mut child = command
            .args(["-4", "monitor", "route"])
            .stdout(Stdio::piped())
            .spawn()
            .context("start ip monitor")?;
        let output = child.stdout.take().context("ip monitor has no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let monitor = Self { child, lines };
        monitor.listens(namespace)?;
        Ok(monitor)
    }

    /// Makes routes until one is told of.
    fn listens(&self, namespace: &Namespace) -> Result<()> {
        wait::until("ip monitor to listen", Duration::from_secs(10), || {
            namespace.ip("route replace blackhole 203.0.113.99")?;
            namespace.ip("route delete blackhole 203.0.113.99")?;
            Ok(self.lines.try_recv().ok())
        })
        .map(drop)
    }

    /// When the line that begins like this was told.
    pub(super) fn wait_for(&self, begin: &str) -> Result<Instant> {
        let begin = format!("{begin} ");
        loop {
            let told = self.lines.recv_timeout(Duration::from_secs(30));
            let (at, line) = told.with_context(|| format!("no route {begin}within 30 s"))?;
            if line.starts_with(&begin) {
                return Ok(at);
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
