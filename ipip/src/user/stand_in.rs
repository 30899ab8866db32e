//! The stand-in for a device that the kernel cannot make, as the owner of tunnels sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Config, Counters, Error, Meter, Peers, Tunnel, Wire, ipip_mac};
use crate::{Encapsulation, Problem};

/// Most queues of a device; each has a thread or two.
const MOST_QUEUES: usize = 4;

/// A tunnel that runs in user space and follows what is wanted of it. Dropped, it ends; its device
/// stays, so that routes do too.
///
/// It makes a device of kind `tun` with the tunnel's name and hardware address; all else on the
/// device is set by [`crate::Device`], as on those of the kernel's own kinds.
#[derive(Debug)]
pub struct StandIn {
    wanted: crate::Tunnel,
    hosts: BTreeSet<IpNet>,
    /// Absent after it could not be started anew.
    tunnel: Option<Tunnel>,
}

impl StandIn {
    /// Starts a tunnel in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the device or the sockets cannot be had.
    pub fn start(wanted: &crate::Tunnel) -> Result<StandIn, Problem> {
        let stand_in = StandIn {
            wanted: wanted.clone(),
            hosts: BTreeSet::new(),
            tunnel: Some(Tunnel::start(config(wanted)).map_err(problem)?),
        };
        stand_in.tell_peers();
        Ok(stand_in)
    }

    /// Follows what the tunnel shall be like now: source, port, other ends.
    ///
    /// # Errors
    /// What cannot be followed, or why no packets are carried at present; the caller starts
    /// another when [`StandIn::is_running`] says no.
    pub fn update(&mut self, wanted: &crate::Tunnel) -> Result<(), Problem> {
        if *wanted != self.wanted {
            self.wanted = wanted.clone();
            let config = config(wanted);
            if (self.tunnel.as_ref()).is_none_or(|tunnel| *tunnel.config() != config) {
                // The old one first: both would want the same port.
                self.tunnel = None;
                self.tunnel = Some(Tunnel::start(config).map_err(problem)?);
            }
            self.tell_peers();
        }
        self.failure()
            .map_or(Ok(()), |failure| Err(Problem::User(failure)))
    }

    /// Says which hosts may send tunnel packets, and may be sent IPIP.
    pub fn set_hosts(&mut self, hosts: &BTreeSet<IpNet>) {
        if *hosts != self.hosts {
            self.hosts = hosts.clone();
            self.tell_peers();
        }
    }

    /// Whether it is there; a failure that it mends by itself does not count.
    pub fn is_running(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Why it carries no packets at present.
    pub fn failure(&self) -> Option<String> {
        self.tunnel
            .as_ref()
            .and_then(|tunnel| tunnel.health().failure)
    }

    /// What it has carried and dropped.
    pub fn counters(&self) -> Counters {
        (self.tunnel.as_ref()).map_or_else(Counters::default, Tunnel::counters)
    }

    /// The same for others to read, until the tunnel is started anew.
    pub fn meter(&self) -> Option<Meter> {
        self.tunnel.as_ref().map(Tunnel::meter)
    }

    /// Other ends of VXLAN are hosts as well, so that a new one is not deaf until it is told.
    fn tell_peers(&self) {
        let Some(tunnel) = &self.tunnel else { return };
        let hosts = self.hosts.iter().map(|net| (net.addr(), net.prefix_len()));
        let whole = |address: IpAddr| (address, 128);
        let peers = match &self.wanted.encapsulation {
            Encapsulation::Ipip => Peers::new(hosts, []),
            Encapsulation::Vxlan(vxlan) => {
                let ends = vxlan.remotes.values();
                let nodes = ends.clone().map(|end| whole(end.node));
                Peers::new(hosts.chain(nodes), ends.map(|end| (end.mac, end.node)))
            }
        };
        tunnel.update(peers);
    }
}

fn config(wanted: &crate::Tunnel) -> Config {
    let (wire, mac) = match (&wanted.encapsulation, wanted.local) {
        (Encapsulation::Ipip, IpAddr::V4(local)) => (Wire::Ipip, ipip_mac(local)),
        // Refused when it is started.
        (Encapsulation::Ipip, IpAddr::V6(_)) => (Wire::Ipip, [2; 6]),
        (Encapsulation::Vxlan(vxlan), _) => {
            let (vni, port) = (vxlan.vni, vxlan.port);
            (Wire::Vxlan { vni, port }, vxlan.mac)
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Config {
        device: wanted.name.to_string(),
        mac,
        mtu: wanted.mtu,
        wire,
        local: wanted.local,
        queues: (processors / 2).clamp(1, MOST_QUEUES),
    }
}

fn problem(error: Error) -> Problem {
    Problem::User(error.to_string())
}
