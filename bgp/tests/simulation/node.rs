//! One speaker: a state machine per peer, and a table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp_fsm::{Config, ConnId, Negotiated, Peer, Restart, Time};
use bgp_rib::{
    Best, LocalPath, LongLived, NextHopMode, PeerKind, PeerSession, Policy, Rib, RibConfig,
};
use bgp_wire::{Family, Prefix};

use crate::topology::{Kind, Topology};

pub(crate) const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
/// Hold time in seconds: a session that looks well for so long is.
pub(crate) const HOLD: u16 = 9;
/// How long a speaker that restarts gracefully listens before it tells anything.
pub(crate) const DEFERRAL: Duration = Duration::from_secs(5);

pub(crate) struct End {
    pub(crate) peer: usize,
    pub(crate) fsm: Peer,
    /// Connections by their names in the state machine.
    pub(crate) wires: BTreeMap<ConnId, usize>,
    /// The dial that has not been answered.
    pub(crate) dialling: Option<ConnId>,
    /// The connection the state machine is being asked about.
    pub(crate) offered: Option<usize>,
    pub(crate) up: Option<ConnId>,
}

pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) asn: u32,
    pub(crate) is_alive: bool,
    pub(crate) life: u64,
    pub(crate) rib: Rib,
    /// By link.
    pub(crate) ends: BTreeMap<usize, End>,
    pub(crate) originated: BTreeSet<Prefix>,
    /// Best paths by having applied the changes.
    pub(crate) forwarding: BTreeMap<Prefix, Best>,
    /// Nothing is told before this time.
    pub(crate) quiet_until: Time,
    alarm: Option<Time>,
    /// Nothing happens here before this time.
    pub(crate) paused_until: Time,
}

pub(crate) fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, node as u8 + 1)
}

fn address_v6(node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, node as u16 + 1)
}

/// All addresses of a node.
pub(crate) fn addresses(node: usize) -> [IpAddr; 2] {
    [address(node).into(), address_v6(node).into()]
}

impl Node {
    pub(crate) fn new(topology: &Topology, number: usize) -> Self {
        let asn = topology.asn(number);
        Node {
            number,
            asn,
            is_alive: false,
            life: 0,
            rib: Rib::new(RibConfig::new(asn, address(number), 1)),
            ends: BTreeMap::new(),
            originated: BTreeSet::new(),
            forwarding: BTreeMap::new(),
            quiet_until: Time::ZERO,
            alarm: None,
            paused_until: Time::ZERO,
        }
    }

    /// Begins a new life with nothing but what is configured.
    pub(crate) fn be_born(&mut self, topology: &Topology, now: Time, graceful: bool) {
        self.is_alive = true;
        self.life += 1;
        let mut config = RibConfig::new(self.asn, address(self.number), self.life);
        // So little that slow peers fall off the log of their group.
        config.backlog_octets = 512;
        // Both reflectors serve one cluster; to a client it means nothing.
        if topology.kind == Kind::Reflectors && self.number < 2 {
            config.cluster_id = Some(Ipv4Addr::new(192, 0, 2, 200));
        }
        self.rib = Rib::new(config);
        self.forwarding.clear();
        self.quiet_until = if graceful { now + DEFERRAL } else { now };
        let links = topology.links.iter().enumerate();
        let ours = links.filter(|(_, link)| link.contains(&self.number));
        self.ends = ours
            .map(|(link, ends)| {
                let peer = ends[0] + ends[1] - self.number;
                let config = self.config(topology, peer, graceful);
                let seed = (self.life * 100 + link as u64) * 10 + self.number as u64;
                let fsm = Peer::new(config, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let end = End {
                    peer,
                    fsm,
                    wires: BTreeMap::new(),
                    dialling: None,
                    offered: None,
                    up: None,
                };
                (link, end)
            })
            .collect();
        for prefix in self.originated.clone() {
            self.rib
                .originate(prefix, Some(&LocalPath::default()))
                .unwrap();
        }
    }

    /// It keeps routes beyond the restart time (RFC 9494).
    fn is_patient(&self) -> bool {
        !self.number.is_multiple_of(4)
    }

    fn config(&self, topology: &Topology, peer: usize, restarting: bool) -> Config {
        let mut config = Config::new(self.asn, address(self.number), topology.asn(peer));
        config.families = FAMILIES.to_vec();
        config.hold_time_secs = HOLD;
        config.idle_hold_max = Duration::from_secs(5);
        config.long_lived_secs = self.is_patient().then_some(15);
        config.extended_message = self.number.is_multiple_of(2);
        config.restart = Some(Restart {
            time_secs: 30,
            restarting,
            forwarding: true,
            notification: !self.number.is_multiple_of(3),
            stale_time: Duration::from_secs(20),
        });
        config
    }

    /// The session of the table for what the OPENs agreed on.
    pub(crate) fn session(
        &self,
        topology: &Topology,
        peer: usize,
        negotiated: &Negotiated,
    ) -> PeerSession {
        PeerSession {
            kind: topology.peer_kind(self.number, peer),
            remote_as: negotiated.remote_as,
            remote_router_id: negotiated.remote_id,
            remote_addr: address(peer).into(),
            local_v4: Some(address(self.number)),
            local_v6: Some(address_v6(self.number)),
            params: negotiated.params.clone(),
            next_hop: NextHopMode::Default,
            shared_subnets: Arc::from([]),
            add_path_limit: None,
            link: None,
            max_prefixes: None,
            long_lived_offered: self.is_patient(),
            long_lived: match negotiated.long_lived.is_empty() {
                false => LongLived::Told,
                true => LongLived::Withheld,
            },
            local_as: None,
            enforce_first_as: topology.peer_kind(self.number, peer) == PeerKind::Ebgp,
            role: None,
            graceful_shutdown: false,
            require_policy: false,
            allow_own_as: 0,
            prepend: 0,
            import: Arc::new(Policy::accept_all()),
            export: Arc::new(Policy::accept_all()),
        }
    }

    pub(crate) fn originate(&mut self, prefix: Prefix, wanted: bool) {
        if wanted {
            self.originated.insert(prefix);
        } else {
            self.originated.remove(&prefix);
        }
        if self.is_alive {
            let path = wanted.then(LocalPath::default);
            self.rib.originate(prefix, path.as_ref()).unwrap();
        }
    }

    /// Has the forwarding table be as the changes say.
    pub(crate) fn take_best_changes(&mut self) {
        for (prefix, best) in self.rib.best_changes(usize::MAX) {
            match best {
                Some(best) => drop(self.forwarding.insert(prefix, best)),
                None => drop(self.forwarding.remove(&prefix)),
            }
        }
    }

    /// Looks when something is to be done here without a cause from outside.
    pub(crate) fn set_alarm(&mut self, now: Time) {
        let quiet = (self.quiet_until > now).then_some(self.quiet_until);
        let timers = self.ends.values().filter_map(|end| end.fsm.next_deadline());
        self.alarm = timers.chain(quiet).min();
    }

    /// When that is.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let alarm = self.alarm.filter(|_| self.is_alive)?;
        Some(alarm.max(self.paused_until))
    }
}
