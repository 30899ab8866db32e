//! What goes over a link, judged by tcpdump.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, Namespace};
use crate::wait;

const START: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_millis(500);

/// A tcpdump that is running. One line per packet.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    lines: PathBuf,
    what: String,
}

impl Capture {
    /// Captures what passes `filter` (pcap-filter(7)) on an interface.
    /// Returns when tcpdump sees packets.
    pub fn start(lab: &Lab, namespace: &Namespace, interface: &str, filter: &str) -> Result<Self> {
        let name = format!("{}-{interface}-{}", namespace.name, nonce());
        let lines = lab.folder().join(format!("{name}.pcap.txt"));
        let messages = lab.folder().join(format!("{name}.pcap.err"));
        let child = namespace
            .command("tcpdump")
            // Numbers only, a line at a time and at once; root opens no files for others.
            .args([
                "-n",
                "-l",
                "--immediate-mode",
                "-Z",
                "root",
                "-i",
                interface,
            ])
            .arg(filter)
            .stdin(Stdio::null())
            .stdout(File::create(&lines)?)
            .stderr(File::create(&messages)?)
            .spawn()
            .context("start tcpdump")?;
        let capture = Self {
            child,
            lines,
            what: format!("`{filter}` on {interface} of {}", namespace.name),
        };
        wait::until_true("tcpdump to listen", START, || {
            let said = std::fs::read_to_string(&messages)?;
            ensure!(!said.contains("syntax error"), "{said}");
            Ok(said.contains("listening on"))
        })?;
        Ok(capture)
    }

    /// The packets so far, one line each.
    pub fn lines(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.lines)?;
        // The last line may be half written.
        Ok(packets(text.rfind('\n').map_or("", |end| &text[..end])))
    }

    /// Waits until a packet matches and returns its line.
    pub fn wait(&self, limit: Duration, matches: impl Fn(&str) -> bool) -> Result<String> {
        let what = format!("a packet in {}", self.what);
        wait::until(&what, limit, || {
            let lines = self.lines()?;
            let found = lines.iter().find(|line| matches(line)).cloned();
            ensure!(found.is_some(), "seen so far: {lines:#?}");
            Ok(found)
        })
        .map(|(line, _)| line)
    }

    /// Ends the capture and returns every packet, one line each.
    pub fn stop(mut self) -> Result<Vec<String>> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?;
        // A program that has blocked the signal for itself has for its children too.
        let ended = wait::until_true("tcpdump to end", GRACE, || {
            Ok(self.child.try_wait()?.is_some())
        });
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(packets(&std::fs::read_to_string(&self.lines)?))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A capture that was stopped is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// tcpdump puts what is inside a VXLAN packet on a line of its own, without a time.
fn packets(text: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    // Interrupted, it ends with an empty one.
    for line in text.lines().filter(|line| !line.is_empty()) {
        match packets.last_mut() {
            Some(packet) if !line.starts_with(|first: char| first.is_ascii_digit()) => {
                packet.push_str(" | ");
                packet.push_str(line.trim());
            }
            _ => packets.push(line.to_owned()),
        }
    }
    packets
}

fn nonce() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
