//! A router that runs BIRD 2: the top-of-rack switch of the lab.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::output;
use crate::lab::{Lab, Namespace};
use crate::wait;

/// AS number of the router.
pub const ASN: u32 = 64500;

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    /// Where it lives.
    pub namespace: Namespace,
    socket: PathBuf,
    _child: Child,
}

impl Bird {
    /// Starts a router at these addresses that accepts a session from every node on a link in
    /// one of `ranges` in AS `remote`, installs what it learns, and announces what its loopback
    /// carries.
    pub fn start(
        lab: &Lab,
        name: &str,
        addresses: [&str; 2],
        ranges: &[&str],
        remote: u32,
    ) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        lab.plug(&namespace, name, &addresses)?;
        namespace.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        let router_id = addresses[0].split('/').next().unwrap_or_default();
        let folder = lab.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        let (file, socket) = (folder.join("bird.conf"), folder.join("bird.ctl"));
        std::fs::write(&file, configuration(router_id, ranges, remote))?;
        let child = namespace
            .command("bird")
            .args(["-f", "-c"])
            .arg(&file)
            .arg("-s")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.join("bird.log"))?)
            .stderr(Stdio::null())
            .spawn()
            .context("start bird")?;
        let bird = Self {
            namespace,
            socket,
            _child: child,
        };
        wait::until("bird to answer", Duration::from_secs(10), || {
            bird.birdc("show status").map(Some)
        })?;
        Ok(bird)
    }

    /// Runs one `birdc` command and returns its text without the banner.
    pub fn birdc(&self, command: &str) -> Result<String> {
        birdc(&self.socket, command)
    }

    /// Name and version, as BIRD gives them.
    pub fn version(&self) -> Result<String> {
        let status = self.birdc("show status")?;
        Ok(status
            .lines()
            .find(|line| line.starts_with("BIRD "))
            .unwrap_or_default()
            .to_owned())
    }

    /// Number of BGP sessions that are up.
    pub fn established(&self) -> Result<usize> {
        Ok(self
            .birdc("show protocols")?
            .lines()
            .filter(|line| line.contains(" BGP ") && line.contains("Established"))
            .count())
    }

    /// How many routes BIRD took from a neighbour and how many it told it, all families together.
    pub fn exchanged(&self, neighbour: &str) -> Result<(u64, u64)> {
        let protocols = self.birdc("show protocols all")?;
        exchanged(&protocols, neighbour)
            .with_context(|| format!("no numbers for {neighbour} in\n{protocols}"))
    }

    /// Whether BIRD has a route to exactly this prefix from a BGP peer.
    pub fn knows(&self, prefix: &str) -> Result<bool> {
        Ok(!self.route(prefix)?.is_empty())
    }

    /// BIRD's own words about a prefix that it learned by BGP; empty when it did not.
    pub fn route(&self, prefix: &str) -> Result<String> {
        route(&self.socket, prefix)
    }
}

/// Reads lines such as `Routes: 1 imported, 2 exported, 1 preferred` of one protocol.
fn exchanged(protocols: &str, neighbour: &str) -> Option<(u64, u64)> {
    let is_its = |protocol: &&str| {
        let mut lines = protocol.lines().map(str::trim);
        lines.any(|line| {
            let address = line.strip_prefix("Neighbor address:");
            address.is_some_and(|address| address.trim() == neighbour)
        })
    };
    let protocol = protocols.split("\n\n").find(is_its)?;
    let counts = protocol.lines().map(str::trim);
    let counts = counts.filter_map(|line| line.strip_prefix("Routes:"));
    let sum = |word: &str| -> u64 {
        let parts = counts.clone().flat_map(|counts| counts.split(','));
        let numbers =
            parts.filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok());
        numbers.sum()
    };
    counts.clone().next()?;
    Some((sum("imported"), sum("exported")))
}

/// Runs one `birdc` command and returns its text without the banner.
pub(crate) fn birdc(socket: &Path, command: &str) -> Result<String> {
    let output = output(
        Command::new("birdc")
            .args(["-r", "-s"])
            .arg(socket)
            .args(command.split_whitespace()),
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.ends_with(" ready.") && !line.starts_with("Access restricted"))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// What BIRD says of a prefix that it learned by BGP; empty when it did not.
pub(crate) fn route(socket: &Path, prefix: &str) -> Result<String> {
    let table = if prefix.contains(':') {
        "master6"
    } else {
        "master4"
    };
    match birdc(socket, &format!("show route {prefix} table {table} all")) {
        Ok(text) if text.contains("BGP.next_hop") => Ok(text),
        Ok(_) => Ok(String::new()),
        // That answer comes with a failure status.
        Err(error) if error.to_string().contains("Network not found") => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn configuration(router_id: &str, ranges: &[&str], remote: u32) -> String {
    let mut text = format!(
        "log stderr all;
router id {router_id};
protocol device {{ scan time 10; }}
protocol direct {{ ipv4; ipv6; interface \"lo\"; }}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol kernel {{ ipv6 {{ export where source = RTS_BGP; }}; }}
"
    );
    for (number, range) in ranges.iter().enumerate() {
        text += &format!(
            "protocol bgp nodes{number} {{
    local as {ASN};
    neighbor range {range} as {remote};
    direct;
    dynamic name \"node{number}_\";
    graceful restart on;
    ipv4 {{ import all; export where source = RTS_DEVICE; }};
    ipv6 {{ import all; export where source = RTS_DEVICE; }};
}}
"
        );
    }
    text
}
