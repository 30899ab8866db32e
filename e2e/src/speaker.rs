//! The stand-alone speaker `tortie-bgp` in a namespace of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::{binary, output};
use crate::lab::{Lab, Namespace};
use crate::peer::{OUR_ASN, OURS, THEIR_ASN, THEIRS};
use crate::wait;

/// What our speaker announces.
pub const PREFIXES: [&str; 2] = ["203.0.113.0/24", "2001:db8:200::/48"];

/// A running `tortie-bgp`.
#[derive(Debug)]
pub struct Speaker {
    /// Where it lives.
    pub namespace: Namespace,
    folder: PathBuf,
    child: Option<Child>,
    /// Settings of the one peer beside the usual ones, such as `bfd: {multiplier: 3}`.
    pub peer_settings: Option<String>,
}

impl Speaker {
    /// Makes its namespace, its link and its file; starts nothing.
    pub fn new(lab: &Lab) -> Result<Self> {
        let namespace = lab.namespace("ours")?;
        lab.plug(
            &namespace,
            "ours",
            &[&format!("{}/24", OURS[0]), &format!("{}/64", OURS[1])],
        )?;
        let folder = lab.folder().join("ours");
        std::fs::create_dir_all(&folder)?;
        let speaker = Self {
            namespace,
            folder,
            child: None,
            peer_settings: None,
        };
        speaker.configure(&PREFIXES)?;
        Ok(speaker)
    }

    /// Writes the file with these prefixes to announce.
    pub fn configure(&self, prefixes: &[&str]) -> Result<()> {
        let more = self.peer_settings.iter().map(|more| format!(", {more}"));
        let more: String = more.collect();
        let mut text = format!(
            "local:
  asn: {OUR_ASN}
  router_id: {}
  listen: ['{}:179']
  next_hop_v6: {}
peers:
  - {{name: theirs, address: {}, asn: {THEIR_ASN}, families: [ipv4, ipv6]{more}}}
originate:
",
            OURS[0], OURS[0], OURS[1], THEIRS[0]
        );
        for prefix in prefixes {
            text.push_str(&format!("  - {{prefix: '{prefix}'}}\n"));
        }
        Ok(std::fs::write(self.folder.join("tortie-bgp.yaml"), text)?)
    }

    /// Starts it; `arguments` are added to `run`.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let child = self
            .namespace
            .command(binary("tortie-bgp")?)
            .arg("run")
            .arg("--config")
            .arg(self.folder.join("tortie-bgp.yaml"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start tortie-bgp")?;
        self.child = Some(child);
        Ok(())
    }

    /// Sends a signal and, unless it is SIGHUP, waits for the end of the process.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let child = self.child.as_mut().context("tortie-bgp is not running")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        if signal != Signal::SIGHUP {
            child.wait()?;
            self.child = None;
        }
        Ok(())
    }

    /// Answer of `tortie bgp`.
    pub fn show(&self, what: &str) -> Result<Value> {
        let output = output(
            Command::new(binary("tortie")?)
                .arg("bgp")
                .args(what.split_whitespace())
                .args(["-o", "json", "--socket"])
                .arg(self.socket()),
        )?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until the one session is up.
    pub fn wait_established(&self, limit: Duration) -> Result<()> {
        wait::until_true("our session to be established", limit, || {
            Ok(self.show("peers")?.to_string().contains("Established"))
        })?;
        Ok(())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("bgp.sock")
    }
}
