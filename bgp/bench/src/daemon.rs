//! The speakers under test: how each is set up for the same plan, started and ended.

mod bird;
mod frr;
mod gobgp;
mod tortie;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::link::{self, Link};
use crate::process;
use crate::tester::Tester;

/// AS number of the speaker under test.
pub const ASN: u32 = 65000;

/// A speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Forwards octets between the clients without looking: what the tester can do.
    Relay,
    /// `tortie-bgp`.
    Tortie,
    /// Debian's BIRD 2.
    Bird,
    /// FRR's bgpd.
    Frr,
    /// GoBGP.
    Gobgp,
}

/// One neighbour in the configuration of the speaker.
#[derive(Debug, Clone, Copy)]
pub struct Neighbour {
    /// Its AS number.
    pub asn: u32,
    /// It is a client of the route reflector that the speaker is.
    pub client: bool,
    /// It is told routes; the others only send.
    pub receives: bool,
}

impl Neighbour {
    /// It is told the speaker's address as next hop.
    pub fn external(self) -> bool {
        self.asn != ASN
    }
}

impl Kind {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "null relay",
            Self::Tortie => "tortie-bgp",
            Self::Bird => "BIRD 2",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
        }
    }

    /// What the program says about its version.
    ///
    /// # Errors
    /// It is not installed.
    pub fn version(self) -> Result<String> {
        let text = match self {
            Self::Relay => return Ok(String::new()),
            Self::Tortie => link::run(Command::new(binary("tortie-bgp")?).arg("--version"))?,
            // BIRD writes it to its error output.
            Self::Bird => link::run(Command::new("sh").args(["-c", "bird --version 2>&1"]))?,
            Self::Frr => link::run(Command::new("/usr/lib/frr/bgpd").arg("--version"))?,
            Self::Gobgp => link::run(Command::new("gobgpd").arg("--version"))?,
        };
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// FRR builds its UPDATEs once per group of neighbours and sends a client its own routes too.
    pub fn echoes(self) -> bool {
        matches!(self, Self::Frr | Self::Relay)
    }
}

/// What a speaker is set up for.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Its neighbours: they have the addresses of the clients, in order, and dial.
    pub neighbours: &'a [Neighbour],
    /// It puts what it learns into the kernel.
    pub kernel: bool,
}

/// A running speaker.
#[derive(Debug)]
pub struct Daemon {
    kind: Kind,
    children: Vec<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Configures and starts it in the namespace of `link`.
    ///
    /// # Errors
    /// It is not installed or does not start.
    pub fn start(kind: Kind, link: &Link, plan: Plan<'_>) -> Result<Self> {
        let mut daemon = Self {
            kind,
            children: Vec::new(),
            log: link.path("log"),
        };
        if kind == Kind::Frr && plan.kernel {
            daemon.add(&mut frr::zebra(link)?)?;
        }
        let mut command = match kind {
            Kind::Relay => {
                let mut command = link::command(std::env::current_exe()?);
                command.arg("relay");
                command
            }
            Kind::Tortie if plan.kernel => tortie::agent(link, plan.neighbours)?,
            Kind::Tortie => tortie::command(link, plan.neighbours)?,
            Kind::Bird => bird::command(link, plan)?,
            Kind::Frr => frr::command(link, plan)?,
            Kind::Gobgp => gobgp::command(link, plan.neighbours)?,
        };
        daemon.add(&mut command)?;
        Ok(daemon)
    }

    fn add(&mut self, command: &mut Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.kind.name()))?;
        self.children.push(child);
        Ok(())
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration> {
        process::cpu(&self.pids()).with_context(|| format!("its log ends:\n{}", self.log()))
    }

    /// Waits until it does nothing any more, at most for `limit`.
    ///
    /// # Errors
    /// It is gone, or a session is.
    pub fn settle(&self, tester: &mut Tester, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let mut before = self.cpu()?;
        while start.elapsed() < limit {
            tester.stay(Duration::from_millis(100))?;
            let now = self.cpu()?;
            if now - before < Duration::from_millis(2) {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program of ours: in `TORTIE_BIN_DIR`, or beside this one.
///
/// # Errors
/// It is not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("TORTIE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?
            .parent()
            .context("this program has no folder")?
            .to_path_buf(),
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: build it with `cargo build --release --workspace --bins`",
            path.display()
        );
    }
    Ok(path)
}
