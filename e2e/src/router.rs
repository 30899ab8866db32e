//! BGP routers of any make in one topology: ours and the foreign ones take the
//! same [`Setup`] and answer the same questions in the same words.
//!
//! What a router says about itself comes from its own tables, so a foreign one
//! judges what it got from us.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod tortie;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, Namespace};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `tortie-bgp`.
    Tortie,
    /// BIRD 2.
    Bird,
    /// FRR: zebra and bgpd.
    Frr,
    /// GoBGP.
    Gobgp,
    /// ExaBGP: announces and listens, has no table and chooses nothing.
    Exabgp,
}

impl Kind {
    /// Name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tortie => "tortie-bgp",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Exabgp => "ExaBGP",
        }
    }
}

/// What a router shall be.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Its AS number.
    pub asn: u32,
    /// Its IPv4 address on the link, also its router id.
    pub v4: String,
    /// Its IPv6 address on the link.
    pub v6: String,
    /// What it announces as its own.
    pub announce: Vec<Announced>,
    /// Whom it talks to.
    pub neighbours: Vec<Neighbour>,
    /// Several paths per prefix are used for forwarding.
    pub multipath: bool,
}

/// A prefix and what goes with it.
#[derive(Debug, Clone, Default)]
pub struct Announced {
    /// The prefix.
    pub prefix: String,
    /// Standard communities, `64500:1`.
    pub communities: Vec<String>,
    /// Large communities, `64500:1:2`.
    pub large: Vec<String>,
    /// Next hop, where it is not the router itself; only BIRD does that here.
    pub next_hop: Option<String>,
}

impl Announced {
    /// A prefix alone.
    pub fn plain(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..Self::default()
        }
    }
}

/// One session.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its address.
    pub address: String,
    /// Its AS number.
    pub asn: u32,
    /// IPv4 routes.
    pub v4: bool,
    /// IPv6 routes.
    pub v6: bool,
    /// TCP MD5 key.
    pub password: Option<String>,
    /// GTSM: the neighbour is one hop away.
    pub ttl_security: bool,
    /// ADD-PATH in both directions.
    pub add_path: bool,
    /// It is a route reflector's client.
    pub client: bool,
    /// Graceful restart.
    pub restart: bool,
    /// Long-lived graceful restart after that, in seconds.
    pub long_lived: Option<u32>,
    /// Never dial.
    pub passive: bool,
    /// BFD, every 300 ms, five packets; only BIRD does that here.
    pub bfd: bool,
}

impl Neighbour {
    /// A session for both families.
    pub fn new(address: &str, asn: u32) -> Self {
        Self {
            address: address.to_owned(),
            asn,
            v4: true,
            v6: true,
            password: None,
            ttl_security: false,
            add_path: false,
            client: false,
            restart: false,
            long_lived: None,
            passive: false,
            bfd: false,
        }
    }
}

/// One path in a router's own table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// Where packets go.
    pub next_hop: String,
    /// AS numbers.
    pub as_path: Vec<u32>,
    /// Standard communities, sorted.
    pub communities: Vec<String>,
    /// Large communities, sorted.
    pub large: Vec<String>,
    /// ORIGINATOR_ID.
    pub originator: Option<String>,
    /// CLUSTER_LIST.
    pub clusters: Vec<String>,
    /// Kept for a neighbour that is away.
    pub stale: bool,
}

/// A router in a namespace of its own.
#[derive(Debug)]
pub struct Router {
    /// What it runs.
    pub kind: Kind,
    /// Where it lives.
    pub namespace: Namespace,
    folder: PathBuf,
    children: Vec<Child>,
}

impl Router {
    /// Makes its namespace and link and starts it.
    pub fn start(lab: &Lab, name: &str, kind: Kind, setup: &Setup) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        let addresses = [format!("{}/24", setup.v4), format!("{}/64", setup.v6)];
        lab.plug(&namespace, name, &[&addresses[0], &addresses[1]])?;
        let folder = lab.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        let mut router = Self {
            kind,
            namespace,
            folder,
            children: Vec::new(),
        };
        router.configure(setup)?;
        router.run(&[])?;
        if kind == Kind::Gobgp {
            gobgp::originate(&router, setup)?;
        }
        Ok(router)
    }

    /// Writes its configuration.
    pub fn configure(&self, setup: &Setup) -> Result<()> {
        match self.kind {
            Kind::Tortie => self.write("tortie-bgp.yaml", &tortie::configuration(setup)),
            Kind::Bird => self.write("bird.conf", &bird::configuration(setup)),
            Kind::Frr => self.write("bgpd.conf", &frr::configuration(setup)),
            Kind::Gobgp => self.write("gobgpd.toml", &gobgp::configuration(setup)),
            Kind::Exabgp => exabgp::configure(self, setup),
        }
    }

    /// Starts its program; `arguments` are added to those of `tortie-bgp run`.
    pub fn run(&mut self, arguments: &[&str]) -> Result<()> {
        let commands = match self.kind {
            Kind::Tortie => vec![tortie::command(self, arguments)?],
            Kind::Bird => vec![bird::command(self)],
            Kind::Frr => frr::commands(self)?,
            Kind::Gobgp => vec![gobgp::command(self)],
            Kind::Exabgp => vec![exabgp::command(self)],
        };
        for mut command in commands {
            let log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.file("log"))?;
            let child = command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .with_context(|| format!("start {}", self.kind.name()))?;
            self.children.push(child);
        }
        Ok(())
    }

    /// Ends its programs with a signal and waits for their end.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        for mut child in self.children.drain(..).rev() {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
            child.wait()?;
        }
        Ok(())
    }

    /// Has it read its configuration again; only ours can do that here.
    pub fn reload(&self) -> Result<()> {
        for child in &self.children {
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGHUP)?;
        }
        Ok(())
    }

    /// Whether its session with an address is established, in its own words.
    pub fn is_established(&self, neighbour: &str) -> Result<bool> {
        match self.kind {
            Kind::Tortie => tortie::is_established(self, neighbour),
            Kind::Bird => bird::is_established(self, neighbour),
            Kind::Frr => frr::is_established(self, neighbour),
            Kind::Gobgp => gobgp::is_established(self, neighbour),
            Kind::Exabgp => exabgp::is_established(self, neighbour),
        }
    }

    /// The paths to exactly this prefix that it learned.
    pub fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        let mut paths = match self.kind {
            Kind::Tortie => tortie::paths(self, prefix)?,
            Kind::Bird => bird::paths(self, prefix)?,
            Kind::Frr => frr::paths(self, prefix)?,
            Kind::Gobgp => gobgp::paths(self, prefix)?,
            Kind::Exabgp => exabgp::paths(self, prefix)?,
        };
        for path in &mut paths {
            path.communities.sort();
            path.large.sort();
        }
        Ok(paths)
    }

    /// What BIRD says of its BFD sessions.
    pub fn bfd_sessions(&self) -> Result<String> {
        bird::ask(self, "show bfd sessions")
    }

    /// What BIRD says of its BGP sessions.
    pub fn bgp_sessions(&self) -> Result<String> {
        bird::ask(self, "show protocols all")
    }

    /// Whether its path to a prefix has so many large communities.
    pub fn has_large_communities(&self, prefix: &str, count: usize) -> Result<bool> {
        match self.kind {
            // Its tables show only the first of many.
            Kind::Bird => bird::has_large_communities(self, prefix, count),
            Kind::Tortie | Kind::Frr | Kind::Gobgp | Kind::Exabgp => {
                let paths = self.paths(prefix)?;
                Ok(paths.first().is_some_and(|path| path.large.len() == count))
            }
        }
    }

    /// Everything it says of itself, for the report of a failure.
    pub fn words(&self) -> String {
        let state = match self.kind {
            Kind::Tortie => tortie::words(self),
            Kind::Bird => bird::words(self),
            Kind::Frr => frr::words(self),
            Kind::Gobgp => gobgp::words(self),
            Kind::Exabgp => Ok(String::new()),
        };
        let mut text = format!("== {} in {}\n", self.kind.name(), self.namespace.name);
        let _ = writeln!(
            text,
            "{}",
            state.unwrap_or_else(|error| format!("{error:#}"))
        );
        let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(60)..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.file(name);
        std::fs::write(&file, text).with_context(|| file.display().to_string())
    }

    fn text(&self, command: &mut Command) -> Result<String> {
        let output = crate::command::output(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself; the lab ends what is left.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a file is there.
fn exists(path: &FilePath) -> bool {
    path.exists()
}

fn is_v6(prefix: &str) -> bool {
    prefix.contains(':')
}

/// Prefixes of one family.
fn of_family(setup: &Setup, v6: bool) -> impl Iterator<Item = &Announced> {
    setup
        .announce
        .iter()
        .filter(move |announced| is_v6(&announced.prefix) == v6)
}
