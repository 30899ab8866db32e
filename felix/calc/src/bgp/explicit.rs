//! Peers named by BGPPeer objects, and the way back from nodes that are such peers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::mesh::shared_addresses;
use super::sessions::Sessions;
use super::{Cluster, DEFAULT_PORT, in_name, waits_for};
use crate::facts::{Node, Peer, Remote, Scope};
use crate::{NextHopMode, PeerKind, PeerSpec, Problem, Refused, SessionOptions};

/// The other end of one session.
#[derive(Clone, Copy)]
struct End<'a> {
    own: IpAddr,
    address: IpAddr,
    /// Given by the object.
    port: Option<u16>,
    node: Option<(&'a str, &'a Node)>,
    /// Families that can be carried: all of ours towards a router, those of both between nodes.
    families: (bool, bool),
}

/// Which side of the object we are on.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// The object is for us.
    Forward,
    /// We are the peer of those that the object is for.
    Reverse,
}

impl<'a> Cluster<'a> {
    /// Peers of this node that objects ask for.
    /// Global ones come first: they win over those for this node only, and over the mesh; what is
    /// asked for wins over what follows from it in reverse (Calico behaviour).
    pub(super) fn explicit(&self, this: &Node, sessions: &mut Sessions<'a>) {
        let (global, own): (Vec<_>, Vec<_>) = self
            .peers
            .iter()
            .filter(|(_, peer)| self.concerns(&peer.scope, self.name, this))
            .partition(|(_, peer)| matches!(peer.scope, Scope::Global));
        for (object, peer) in global.into_iter().chain(own) {
            let from = format!("BGPPeer/{object}");
            sessions
                .policies
                .check(&from, &peer.filters, &mut sessions.problems);
            for end in self.remotes(this, object, peer, sessions) {
                self.session(this, (object, peer), &end, Side::Forward, sessions);
            }
        }
        for (object, peer) in self.peers.iter().filter(|(_, peer)| peer.reverse) {
            let ends = self.reversed(this, peer);
            if !ends.is_empty() {
                let from = format!("BGPPeer/{object}");
                sessions
                    .policies
                    .check(&from, &peer.filters, &mut sessions.problems);
            }
            for end in ends {
                self.session(this, (object, peer), &end, Side::Reverse, sessions);
            }
        }
    }

    /// Ways to peers that objects of this node give, by peer.
    pub(crate) fn ways(&self) -> BTreeMap<IpAddr, IpAddr> {
        let this = self.this();
        let ours = self
            .peers
            .values()
            .filter(|peer| self.concerns(&peer.scope, self.name, &this));
        let ways = ours.filter_map(|peer| match peer.remote {
            Remote::Address(address, _) => Some((address, peer.reachable_by?)),
            Remote::Nodes(_) => None,
        });
        ways.filter(|(peer, gateway)| peer != gateway && peer.is_ipv4() == gateway.is_ipv4())
            .collect()
    }

    fn concerns(&self, scope: &Scope, name: &str, node: &Node) -> bool {
        match scope {
            Scope::Global => true,
            Scope::Node(wanted) => wanted == name,
            Scope::Selector(selector) => selector.matches(&node.labels),
        }
    }

    /// The peers that an object gives to us.
    fn remotes(
        &self,
        this: &Node,
        object: &str,
        peer: &Peer,
        sessions: &mut Sessions<'_>,
    ) -> Vec<End<'a>> {
        match &peer.remote {
            Remote::Nodes(selector) => {
                let chosen = |node: &Node| selector.matches(&node.labels);
                self.ends(this, |_, node| chosen(node))
            }
            // A peering for all nodes with one of them is no peering for that one; another port
            // of its address is another speaker, such as a reflector.
            Remote::Address(address, port)
                if this.address_like(*address) == Some(*address)
                    && port.is_none_or(|port| port == self.listen_port_of(self.name)) =>
            {
                Vec::new()
            }
            Remote::Address(address, port) => match this.address_like(*address) {
                Some(own) => vec![End {
                    own,
                    address: *address,
                    port: *port,
                    node: self.node_at(*address),
                    families: (this.ipv4.is_some(), this.ipv6.is_some()),
                }],
                None => {
                    sessions.problems.push(other_family(object, *address));
                    Vec::new()
                }
            },
        }
    }

    /// The nodes that have us as a peer.
    fn reversed(&self, this: &Node, peer: &Peer) -> Vec<End<'a>> {
        let nodes = |name: &str, node: &Node| self.concerns(&peer.scope, name, node);
        match &peer.remote {
            Remote::Nodes(selector) if selector.matches(&this.labels) => self.ends(this, nodes),
            Remote::Nodes(_) => Vec::new(),
            Remote::Address(address, port) => {
                let is_us = this.address_like(*address) == Some(*address)
                    && port.is_none_or(|port| port == self.listen_port_of(self.name))
                    && peer.asn.is_none_or(|asn| asn == self.asn_of(this));
                if !is_us {
                    return Vec::new();
                }
                let all = self.nodes.iter().filter(|(name, node)| nodes(name, node));
                let all = all.filter(|(name, _)| *name != self.name);
                let theirs = all.filter_map(|(name, node)| {
                    Some(End {
                        own: *address,
                        address: node
                            .address_like(*address)
                            .filter(|theirs| theirs != address)?,
                        port: None,
                        node: Some((name, node)),
                        families: (this.ipv4.is_some(), this.ipv6.is_some()),
                    })
                });
                theirs.collect()
            }
        }
    }

    /// One end for each other node that is wanted: one session carries both families.
    fn ends(&self, this: &Node, wanted: impl Fn(&str, &Node) -> bool) -> Vec<End<'a>> {
        let others = self.nodes.iter().filter(|(name, _)| *name != self.name);
        let wanted = others.filter(|(name, node)| wanted(name, node));
        let ends = wanted.filter_map(|(name, node)| {
            let shared = shared_addresses(this, node);
            let (own, address) = shared.first().copied()?;
            Some(End {
                own,
                address,
                port: None,
                node: Some((name, node)),
                families: (
                    shared.iter().any(|(_, theirs)| theirs.is_ipv4()),
                    shared.iter().any(|(_, theirs)| theirs.is_ipv6()),
                ),
            })
        });
        ends.collect()
    }

    fn session(
        &self,
        this: &Node,
        (object, peer): (&str, &'a Peer),
        end: &End<'a>,
        side: Side,
        sessions: &mut Sessions<'a>,
    ) {
        let global = side == Side::Forward && matches!(peer.scope, Scope::Global);
        let port = end
            .port
            .or_else(|| end.node.map(|(name, _)| self.listen_port_of(name)));
        let port = port.unwrap_or(DEFAULT_PORT);
        if sessions.is_taken(end.address, port) {
            return;
        }
        let kind = if global {
            PeerKind::GlobalPeer
        } else {
            PeerKind::NodePeer
        };
        let name = name(global, end.address, end.port);
        let Some(remote_as) = self.remote_as(peer, end, side) else {
            sessions.problems.push(unknown_as(object, end.address));
            let refused = Refused {
                object: format!("BGPPeer/{object}"),
                kind,
                address: end.address,
                port,
                remote_as: None,
                reason: "the AS number of the peer is not known".to_owned(),
            };
            sessions.refused.insert(name, refused);
            return;
        };
        let local_as = peer.local_as.filter(|_| side == Side::Forward);
        let internal = remote_as == local_as.unwrap_or(self.asn_of(this));
        let policies = sessions.policies.with(&peer.filters);
        let cluster = end.node.and_then(|(_, node)| node.cluster_id);
        let spec = PeerSpec {
            object: format!("BGPPeer/{object}"),
            kind,
            address: end.address,
            port,
            remote_as,
            local_as,
            // A router with one session should get the routes of both families.
            ipv4: end.families.0,
            ipv6: end.families.1,
            // The other end of a peering that is for all nodes has it too, and dials.
            passive: global
                && peer.reverse
                && end.node.is_some()
                && waits_for(end.own, end.address),
            source: peer.use_node_address.then_some(end.own),
            keepalive: peer.keepalive,
            restart_time: peer.restart_time,
            multihop: peer.ttl_security.is_none(),
            ttl_security: peer.ttl_security,
            reflector_client: internal && this.cluster_id.is_some() && cluster != this.cluster_id,
            allow_own_as: peer.allow_own_as,
            next_hop: if peer.keep_towards_others && !internal {
                NextHopMode::Keep
            } else {
                peer.next_hop
            },
            password: None,
            options: self.options(object, peer, end, internal, &mut sessions.problems),
            import: policies.import,
            export: policies.export,
        };
        let password = peer.password.as_ref().map(|at| (at, "spec.password"));
        sessions.add(name, spec, password);
    }

    /// What the object asks for, as far as it can be had with this peer.
    fn options(
        &self,
        object: &str,
        peer: &Peer,
        end: &End<'_>,
        internal: bool,
        problems: &mut Vec<Problem>,
    ) -> SessionOptions {
        let given = &peer.options;
        if internal && given.role.is_some() {
            problems.push(role_inside(object, end.address));
        }
        let role = given.role.filter(|_| !internal);
        SessionOptions {
            // Between nodes, as Calico's BIRD has it: a reflector passes on what it knows.
            add_path: end.node.is_some(),
            bfd: given.bfd.filter(|_| self.is_on_link(end.address)),
            role,
            role_strict: given.role_strict && role.is_some(),
            ..given.clone()
        }
    }

    /// The address is in a subnet of an interface that can carry packets.
    fn is_on_link(&self, address: IpAddr) -> bool {
        let interfaces = self.policies.host.iter().flat_map(|host| &host.interfaces);
        let up = interfaces.filter(|interface| interface.up);
        let mut subnets = up.flat_map(|interface| &interface.addresses);
        subnets.any(|subnet| subnet.contains(&address))
    }

    fn remote_as(&self, peer: &Peer, end: &End<'_>, side: Side) -> Option<u32> {
        let given = match side {
            Side::Forward => peer.asn,
            // What the object says of us is for the others; what they call themselves is for us.
            Side::Reverse => peer.local_as,
        };
        given.or_else(|| end.node.map(|(_, node)| self.asn_of(node)))
    }
}

fn other_family(object: &str, address: IpAddr) -> Problem {
    Problem {
        object: format!("BGPPeer/{object}"),
        field: "spec.peerIP".to_owned(),
        problem: format!("this node has no address of the family of {address}"),
        remedy: "give the node one, or select other nodes".to_owned(),
    }
}

fn role_inside(object: &str, address: IpAddr) -> Problem {
    Problem {
        object: format!("BGPPeer/{object}"),
        field: "spec.role".to_owned(),
        problem: format!("{address} is in the same AS, where there are no roles (RFC 9234 §4)"),
        remedy: "remove it".to_owned(),
    }
}

fn unknown_as(object: &str, address: IpAddr) -> Problem {
    Problem {
        object: format!("BGPPeer/{object}"),
        field: "spec.asNumber".to_owned(),
        problem: format!("the AS number of {address} is not known, it is no node"),
        remedy: "set asNumber".to_owned(),
    }
}

fn name(global: bool, address: IpAddr, port: Option<u16>) -> String {
    let prefix = if global { "Global" } else { "Node" };
    match port {
        Some(port) => format!("{prefix}_{}_port_{port}", in_name(address)),
        None => format!("{prefix}_{}", in_name(address)),
    }
}
