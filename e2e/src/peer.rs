//! Foreign BGP speakers that do BFD: each announces two prefixes and says what it holds.
//!
//! All of them sit at [`THEIRS`] on one link with [`OURS`] and have one session,
//! IPv4 and IPv6 unicast in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::command::{output, run};
use crate::lab::{Lab, Namespace};

/// Addresses of the speaker under test.
pub const OURS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Addresses of the foreign speaker.
pub const THEIRS: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// AS number of the speaker under test.
pub const OUR_ASN: u32 = 64512;
/// AS number of the foreign speaker: one that needs four octets.
pub const THEIR_ASN: u32 = 4_200_000_001;
/// What the foreign speaker announces.
pub const THEIR_PREFIXES: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];

/// Which foreign program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// BIRD 2.
    Bird,
    /// FRR's bgpd.
    Frr,
}

/// A running foreign speaker.
#[derive(Debug)]
pub struct Peer {
    kind: Kind,
    /// Where it lives.
    pub namespace: Namespace,
    folder: PathBuf,
    _child: Child,
}

impl Peer {
    /// Makes its namespace and starts it. It watches our speaker with BFD: sends every 100 ms,
    /// takes a packet every 150 ms, and may miss three of ours.
    pub fn start(lab: &Lab, kind: Kind) -> Result<Self> {
        Self::start_with(lab, kind, "")
    }

    /// As above; a loss that BFD tells does not end what is kept for a restart: `bfd graceful` of
    /// BIRD, `bfd check-control-plane-failure` of FRR.
    pub fn start_graceful(lab: &Lab, kind: Kind) -> Result<Self> {
        let setting = match kind {
            Kind::Bird => "bfd graceful;".to_owned(),
            Kind::Frr => format!(
                " neighbor {} bfd check-control-plane-failure\n bgp graceful-restart\n",
                OURS[0]
            ),
        };
        Self::start_with(lab, kind, &setting)
    }

    fn start_with(lab: &Lab, kind: Kind, setting: &str) -> Result<Self> {
        let namespace = lab.namespace("peer")?;
        lab.plug(
            &namespace,
            "peer",
            &[&format!("{}/24", THEIRS[0]), &format!("{}/64", THEIRS[1])],
        )?;
        let folder = lab.folder().join("peer");
        std::fs::create_dir_all(&folder)?;
        let mut command = match kind {
            Kind::Bird => bird(&namespace, &folder, setting)?,
            Kind::Frr => frr(&namespace, &folder, setting)?,
        };
        let log = std::fs::File::create(folder.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {kind:?}"))?;
        Ok(Self {
            kind,
            namespace,
            folder,
            _child: child,
        })
    }

    /// Its own words about one prefix; empty when it does not hold it.
    pub fn route(&self, prefix: &str) -> Result<String> {
        let v6 = prefix.contains(':');
        match self.kind {
            Kind::Bird => crate::bird::route(&self.folder.join("bird.ctl"), prefix),
            Kind::Frr => {
                let family = if v6 { "ipv6" } else { "ipv4" };
                let text = self.vtysh(&format!("show bgp {family} unicast {prefix} json"))?;
                Ok(if text.contains("\"paths\"") {
                    text
                } else {
                    String::new()
                })
            }
        }
    }

    /// Its own words about its sessions.
    pub fn sessions(&self) -> Result<String> {
        match self.kind {
            Kind::Bird => self.birdc("show protocols all"),
            Kind::Frr => self.vtysh("show bgp summary"),
        }
    }

    /// Its own words about its BFD sessions.
    pub fn bfd(&self) -> Result<String> {
        match self.kind {
            Kind::Bird => self.birdc("show bfd sessions"),
            Kind::Frr => self.daemon("bfdd", "show bfd peers"),
        }
    }

    /// Changes the BFD settings of FRR.
    pub fn change_bfd_profile(&self, line: &str) -> Result<()> {
        let steps = ["configure terminal", "bfd", "profile lab", line];
        let steps = steps.iter().flat_map(|step| ["-c", step]);
        text(
            Command::new("vtysh")
                .arg("--vty_socket")
                .arg(&self.folder)
                .args(["-d", "bfdd"])
                .args(steps),
        )?;
        Ok(())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn birdc(&self, command: &str) -> Result<String> {
        crate::bird::birdc(&self.folder.join("bird.ctl"), command)
    }

    fn vtysh(&self, command: &str) -> Result<String> {
        self.daemon("bgpd", command)
    }

    fn daemon(&self, daemon: &str, command: &str) -> Result<String> {
        text(
            Command::new("vtysh")
                .arg("--vty_socket")
                .arg(&self.folder)
                .args(["-d", daemon, "-c", command]),
        )
    }
}

fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?.stdout).into_owned())
}

const BIRD_BFD: &str = "protocol bfd {
    interface \"*\" { min rx interval 150 ms; min tx interval 100 ms; multiplier 3; };
}
";

fn bird(namespace: &Namespace, folder: &Path, setting: &str) -> Result<Command> {
    let configuration = format!(
        "log stderr all;
router id {};
protocol device {{ }}
{BIRD_BFD}protocol static {{ ipv4; route {} blackhole; }}
protocol static {{ ipv6; route {} blackhole; }}
protocol bgp ours {{
    local {} as {THEIR_ASN};
    neighbor {} as {OUR_ASN};
    graceful restart on; bfd on; {setting}
    connect retry time 2; connect delay time 1; error wait time 1, 2;
    ipv4 {{ import all; export where source = RTS_STATIC; }};
    ipv6 {{ import all; export where source = RTS_STATIC; }};
}}
",
        THEIRS[0], THEIR_PREFIXES[0], THEIR_PREFIXES[1], THEIRS[0], OURS[0]
    );
    let file = folder.join("bird.conf");
    std::fs::write(&file, configuration)?;
    let mut command = namespace.command("bird");
    command
        .args(["-f", "-c"])
        .arg(file)
        .arg("-s")
        .arg(folder.join("bird.ctl"));
    Ok(command)
}

const FRR_BFD: &str = "bfd
 profile lab
  detect-multiplier 3
  receive-interval 150
  transmit-interval 100
";

fn frr(namespace: &Namespace, folder: &Path, setting: &str) -> Result<Command> {
    let configuration = format!(
        "router bgp {THEIR_ASN}
 bgp router-id {}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor {} remote-as {OUR_ASN}
 neighbor {} timers connect 2
 neighbor {} advertisement-interval 0
 neighbor {} bfd profile lab
{setting} address-family ipv4 unicast
  network {}
 exit-address-family
 address-family ipv6 unicast
  neighbor {} activate
  network {}
 exit-address-family
",
        THEIRS[0],
        OURS[0],
        OURS[0],
        OURS[0],
        OURS[0],
        THEIR_PREFIXES[0],
        OURS[0],
        THEIR_PREFIXES[1]
    );
    let file = folder.join("bgpd.conf");
    std::fs::write(&file, configuration)?;
    // bgpd learns its own addresses from zebra, and its IPv6 next hop with them.
    let zebra = folder.join("zebra.api");
    std::fs::write(folder.join("zebra.conf"), "")?;
    // Both give up root for the user of Debian's package.
    run("chown", &["-R", "frr:frr", &folder.to_string_lossy()])?;
    output(
        namespace
            .command("/usr/lib/frr/zebra")
            .arg("--daemon")
            .arg("--socket")
            .arg(&zebra)
            .arg("--vty_socket")
            .arg(folder)
            .arg("--pid_file")
            .arg(folder.join("zebra.pid"))
            .arg("--config_file")
            .arg(folder.join("zebra.conf")),
    )?;
    std::fs::write(folder.join("bfdd.conf"), FRR_BFD)?;
    output(
        namespace
            .command("/usr/lib/frr/bfdd")
            .arg("--daemon")
            .arg("--socket")
            .arg(&zebra)
            .arg("--vty_socket")
            .arg(folder)
            .arg("--bfdctl")
            .arg(folder.join("bfdd.sock"))
            .arg("--pid_file")
            .arg(folder.join("bfdd.pid"))
            .arg("--config_file")
            .arg(folder.join("bfdd.conf")),
    )?;
    let mut command = namespace.command("/usr/lib/frr/bgpd");
    command
        .args(["--log", "stdout"])
        .arg("--socket")
        .arg(zebra)
        .arg("--config_file")
        .arg(file)
        .arg("--vty_socket")
        .arg(folder)
        .arg("--pid_file")
        .arg(folder.join("bgpd.pid"));
    Ok(command)
}
