//! Which BGPPeers lead to reflectors that run as pods. Pure.
//!
//! A reflector that is new gets its BGPPeer at once. The one of a reflector that is gone goes only when every node has
//! an established session with another one, or with all of its mesh: until then agents may live on what it told them.
//! And not before it has been gone for a while: one that comes back on its node keeps its BGPPeer, and with it the routes
//! that agents keep for a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crds::Asn;

/// A pod with a reflector, that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReflectorPod {
    /// Of its node.
    pub(crate) address: IpAddr,
    pub(crate) is_ready: bool,
}

/// A BGPPeer that was made for a reflector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadePeer {
    /// Where it leads; `None` = somebody has changed it beyond reading.
    pub(crate) to: Option<SocketAddr>,
    pub(crate) asn: Option<Asn>,
}

/// The sessions of a node, as its agent reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// Outside the mesh, established.
    pub(crate) peers: BTreeSet<IpAddr>,
    /// Of the mesh: established, and not.
    pub(crate) mesh: (usize, usize),
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create(SocketAddr),
    /// Make this one lead there again.
    Correct(String, SocketAddr),
    Delete(String),
}

/// What is known.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) port: u16,
    pub(crate) asn: Asn,
    pub(crate) pods: Vec<ReflectorPod>,
    /// By name.
    pub(crate) peers: BTreeMap<String, MadePeer>,
    /// Those whose reflector has been gone for a while.
    pub(crate) forsaken: BTreeSet<String>,
}

impl Facts {
    /// Name of the BGPPeer for a reflector.
    pub(crate) fn name(to: SocketAddr) -> String {
        let digits = to.ip().to_string().replace([':', '.'], "-");
        // A name begins and ends with a letter or a digit: `::1` does not.
        format!(
            "tortie-reflector-{}-{}",
            digits.trim_matches('-'),
            to.port()
        )
    }

    /// BGPPeers of reflectors that are not there any more.
    pub(crate) fn stale(&self) -> Vec<&str> {
        let there: BTreeSet<String> = self.pods.iter().map(|pod| self.name_of(pod)).collect();
        let names = self.peers.keys().map(String::as_str);
        names.filter(|name| !there.contains(*name)).collect()
    }

    /// What to do; `nodes` is asked for only where something is stale.
    pub(crate) fn plan(&self, nodes: &BTreeMap<String, Sessions>) -> Vec<Action> {
        let mut actions = Vec::new();
        for pod in &self.pods {
            let to = SocketAddr::new(pod.address, self.port);
            let right = MadePeer {
                to: Some(to),
                asn: Some(self.asn),
            };
            match self.peers.get(&Facts::name(to)) {
                None if pod.is_ready => actions.push(Action::Create(to)),
                Some(peer) if *peer != right => actions.push(Action::Correct(Facts::name(to), to)),
                None | Some(_) => {}
            }
        }
        let gone = self.stale().into_iter();
        let gone = gone.filter(|name| self.forsaken.contains(*name));
        if self.others_serve(nodes) {
            actions.extend(gone.map(|name| Action::Delete(name.to_owned())));
        }
        actions
    }

    fn name_of(&self, pod: &ReflectorPod) -> String {
        Facts::name(SocketAddr::new(pod.address, self.port))
    }

    fn others_serve(&self, nodes: &BTreeMap<String, Sessions>) -> bool {
        let ready = self.pods.iter().filter(|pod| pod.is_ready);
        let serving: BTreeSet<IpAddr> = ready
            .filter(|pod| self.peers.contains_key(&self.name_of(pod)))
            .map(|pod| pod.address)
            .collect();
        let is_served = |sessions: &Sessions| {
            let (up, down) = sessions.mesh;
            !sessions.peers.is_disjoint(&serving) || (up > 0 && down == 0)
        };
        !nodes.is_empty() && nodes.values().all(is_served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASN: Asn = Asn(64512);

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn to(last: u8) -> SocketAddr {
        SocketAddr::new(address(last), 1790)
    }

    fn name(last: u8) -> String {
        format!("tortie-reflector-192-0-2-{last}-1790")
    }

    /// Pods that are ready, and BGPPeers, by the last octet.
    fn facts(pods: &[u8], peers: &[u8]) -> Facts {
        let pod = |last: &u8| ReflectorPod {
            address: address(*last),
            is_ready: true,
        };
        let peer = |last: &u8| {
            let peer = MadePeer {
                to: Some(to(*last)),
                asn: Some(ASN),
            };
            (name(*last), peer)
        };
        Facts {
            port: 1790,
            asn: ASN,
            pods: pods.iter().map(pod).collect(),
            peers: peers.iter().map(peer).collect(),
            forsaken: peers.iter().map(|last| name(*last)).collect(),
        }
    }

    fn nodes(sessions: &[&[u8]]) -> BTreeMap<String, Sessions> {
        let node = |(number, peers): (usize, &&[u8])| {
            let sessions = Sessions {
                peers: peers.iter().map(|last| address(*last)).collect(),
                ..Sessions::default()
            };
            (format!("node{number}"), sessions)
        };
        sessions.iter().enumerate().map(node).collect()
    }

    #[test]
    fn a_reflector_is_found_when_it_is_ready() {
        let mut facts = facts(&[21, 22], &[21]);
        assert_eq!(facts.plan(&nodes(&[])), [Action::Create(to(22))]);
        facts.pods[1].is_ready = false;
        assert_eq!(facts.plan(&nodes(&[])), []);
    }

    #[test]
    fn a_reflector_that_moved_is_left_when_every_node_has_another() {
        // 21 was killed, 23 takes its place: first the new one.
        let facts_ = facts(&[22, 23], &[21, 22]);
        assert_eq!(facts_.stale(), [name(21)]);
        assert_eq!(
            facts_.plan(&nodes(&[&[22], &[]])),
            [Action::Create(to(23))],
            "one node has nobody else"
        );
        let delete = [Action::Delete(name(21))];
        let facts_ = facts(&[22, 23], &[21, 22, 23]);
        assert_eq!(facts_.plan(&nodes(&[&[22], &[]])), []);
        assert_eq!(facts_.plan(&nodes(&[&[22], &[23]])), delete);
        assert_eq!(facts_.plan(&nodes(&[])), [], "nobody reports");
        assert_eq!(facts_.plan(&nodes(&[&[21]])), [], "it may live yet");
    }

    #[test]
    fn a_reflector_that_is_away_for_a_moment_keeps_its_peer() {
        let mut facts = facts(&[22], &[21, 22]);
        facts.forsaken.clear();
        assert_eq!(facts.plan(&nodes(&[&[22]])), []);
    }

    #[test]
    fn a_reflector_without_its_peer_does_not_count() {
        let facts = facts(&[22], &[21]);
        assert_eq!(facts.plan(&nodes(&[&[22]])), [Action::Create(to(22))]);
    }

    #[test]
    fn without_reflectors_the_mesh_must_be_whole() {
        let facts = facts(&[], &[21, 22]);
        let sessions = |up, down| {
            let sessions = Sessions {
                mesh: (up, down),
                ..Sessions::default()
            };
            BTreeMap::from([("node1".to_owned(), sessions)])
        };
        assert_eq!(facts.plan(&sessions(0, 0)), []);
        assert_eq!(facts.plan(&sessions(2, 1)), []);
        let delete = [21, 22].map(|last| Action::Delete(name(last)));
        assert_eq!(facts.plan(&sessions(3, 0)), delete);
    }

    #[test]
    fn a_peer_that_leads_elsewhere_is_corrected() {
        let mut facts = facts(&[21, 22], &[21, 22]);
        facts.asn = Asn(64513);
        if let Some(peer) = facts.peers.get_mut(&name(22)) {
            peer.asn = Some(Asn(64513));
        }
        assert_eq!(facts.plan(&nodes(&[])), [Action::Correct(name(21), to(21))]);
    }

    #[test]
    fn names_are_names() {
        for (to, name) in [
            ("192.0.2.21:1790", "tortie-reflector-192-0-2-21-1790"),
            ("[2001:db8::21]:1790", "tortie-reflector-2001-db8--21-1790"),
            ("[::1]:1790", "tortie-reflector-1-1790"),
        ] {
            assert_eq!(Facts::name(to.parse().unwrap()), name);
        }
    }
}
