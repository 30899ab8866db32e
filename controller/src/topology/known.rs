//! What the datastore tells, as far as it matters here, and the facts that follow from it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crds::core::{Node, parse_time};
use crds::names::{self, annotation};
use crds::node_status::PeerState;
use crds::selector::Selector;
use crds::types::ConditionStatus;
use crds::{
    AffinityState, BgpConfiguration, BgpConfigurationSpec, BgpPeer, BgpPeerSpec, Kind, NodeStatus,
    NodeStatusStatus,
};
use datastore::{Event, Object, Typed};

use super::facts::{Facts, Mark, Mesh, NodeFacts, Peering, Session, Target, Via};
use super::{HOSTNAME, MADE_FOR, MARK, TARGET, peering_name};
use crate::reflectors;

/// Kinds that are followed.
pub(crate) const KINDS: [Kind; 4] = [
    Kind::Node,
    Kind::NodeStatus,
    Kind::BgpPeer,
    Kind::BgpConfiguration,
];
const ZONE: &str = "topology.kubernetes.io/zone";
/// Agents report at least every five minutes.
const FRESH: Duration = Duration::from_secs(6 * 60);
/// Longest name of an object.
const MAX_NAME: usize = 253;

/// A Node.
#[derive(Clone, Debug, Default)]
struct KnownNode {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    is_cordoned: bool,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(crate) struct Known {
    nodes: BTreeMap<String, KnownNode>,
    statuses: BTreeMap<String, NodeStatusStatus>,
    peers: BTreeMap<String, Typed<BgpPeer>>,
    settings: Option<Typed<BgpConfiguration>>,
    in_sync: usize,
}

impl Known {
    /// Every kind has told all there is.
    pub(crate) fn is_whole(&self) -> bool {
        self.in_sync == KINDS.len()
    }

    pub(crate) fn settings(&self) -> Option<&Typed<BgpConfiguration>> {
        self.settings.as_ref()
    }

    pub(crate) fn peer(&self, name: &str) -> Option<&Typed<BgpPeer>> {
        self.peers.get(name)
    }

    /// Of an object that cannot be read the last good state stays.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Upsert(object) => {
                let key = object.key.clone();
                if let Err(error) = self.upsert(object) {
                    tracing::warn!(%key, %error, "unusable");
                }
            }
            Event::Delete(key) => match key.kind {
                Kind::Node => drop(self.nodes.remove(&key.name)),
                Kind::NodeStatus => drop(self.statuses.remove(&key.name)),
                Kind::BgpPeer => drop(self.peers.remove(&key.name)),
                Kind::BgpConfiguration if key.name == names::DEFAULT => self.settings = None,
                _ => {}
            },
            Event::InSync => self.in_sync += 1,
            // The agents tell what is wrong with it.
            Event::Broken(_) | Event::Mended { .. } => {}
        }
    }

    fn upsert(&mut self, object: Object) -> Result<(), datastore::Error> {
        let name = object.key.name.clone();
        match object.key.kind {
            Kind::Node => {
                let node = Typed::<Node>::from_object(object)?.resource;
                let known = KnownNode {
                    labels: node.metadata.labels.unwrap_or_default(),
                    annotations: node.metadata.annotations.unwrap_or_default(),
                    is_cordoned: node.spec.is_some_and(|s| s.unschedulable == Some(true)),
                };
                self.nodes.insert(name, known);
            }
            Kind::NodeStatus => {
                let status = Typed::<NodeStatus>::from_object(object)?.resource.status;
                self.statuses.insert(name, status.unwrap_or_default());
            }
            Kind::BgpPeer => {
                self.peers.insert(name, Typed::from_object(object)?);
            }
            Kind::BgpConfiguration if name == names::DEFAULT => {
                self.settings = Some(Typed::from_object(object)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The facts at this time. `selector` says which nodes may reflect.
    pub(crate) fn facts(&self, selector: &Selector, now: SystemTime) -> Facts {
        let mut hostnames: BTreeMap<&str, usize> = BTreeMap::new();
        for node in self.nodes.values() {
            if let Some(hostname) = node.labels.get(HOSTNAME) {
                *hostnames.entry(hostname).or_default() += 1;
            }
        }
        let is_distinct = |node: &KnownNode| {
            let hostname = node.labels.get(HOSTNAME);
            hostname.is_some_and(|name| !name.contains('\'') && hostnames.get(&**name) == Some(&1))
        };
        let at: BTreeMap<IpAddr, &str> = self.nodes.iter().flat_map(addresses).collect();
        let ours = self.ours();
        let facts = |(name, node): (&String, &KnownNode)| {
            let status = self.statuses.get(name);
            let peering = peering_name(name);
            let is_free = self.peers.get(&peering).is_none_or(is_ours);
            let can_be_named = is_distinct(node) && is_free && peering.len() <= MAX_NAME;
            let facts = NodeFacts {
                zone: node.labels.get(ZONE).cloned(),
                may_reflect: can_be_named && selector.matches(&node.labels),
                has_address: addresses((name, node)).next().is_some(),
                mark: node.mark(),
                leaves: node.leaves() || status.is_some_and(says_that_it_leaves),
                is_cordoned: node.is_cordoned,
                is_fresh: status.is_some_and(|status| is_fresh(status, now)),
                blocks: status.map_or(0, announced),
                sessions: status
                    .map_or_else(BTreeMap::new, |status| sessions(name, status, &at, &ours)),
            };
            (name.clone(), facts)
        };
        Facts {
            nodes: self.nodes.iter().map(facts).collect(),
            peerings: self.peerings(),
            mesh: self.mesh(),
        }
    }

    /// Nodes by the names of our BGPPeers; those that are gone too.
    fn ours(&self) -> BTreeMap<&str, &str> {
        let ours = self.peers.iter().filter(|(_, peer)| is_ours(peer));
        ours.filter_map(|(name, _)| Some((name.as_str(), super::node_of(name)?)))
            .collect()
    }

    fn peerings(&self) -> BTreeMap<String, Peering> {
        let ours = self.ours().into_iter();
        let peering = ours.filter_map(|(name, node)| {
            let spec = &self.peers.get(name)?.resource.spec;
            let hostname = self.hostname(node);
            let is_wrong = hostname.is_some_and(|name| *spec != leading_to(spec.clone(), name));
            let peering = match is_wrong {
                true => Peering::Wrong,
                false => Peering::Right,
            };
            Some((node.to_owned(), peering))
        });
        peering.collect()
    }

    fn mesh(&self) -> Mesh {
        let Some(settings) = &self.settings else {
            return Mesh {
                is_on: true,
                target: None,
                hindered_by: None,
            };
        };
        let annotations = settings.resource.metadata.annotations.as_ref();
        let target = annotations.and_then(|all| all.get(TARGET));
        let targets = [Target::Mesh, Target::Reflectors];
        let spec = &settings.resource.spec;
        Mesh {
            is_on: spec.mesh_enabled(),
            target: target.and_then(|text| targets.into_iter().find(|one| one.name() == text)),
            hindered_by: hindrance(spec),
        }
    }

    /// The label by which a BGPPeer can name a node.
    pub(crate) fn hostname(&self, node: &str) -> Option<&str> {
        let node = self.nodes.get(node)?;
        node.labels.get(HOSTNAME).map(String::as_str)
    }
}

impl KnownNode {
    fn mark(&self) -> Mark {
        let id = annotation::NODE_ROUTE_REFLECTOR_CLUSTER_ID;
        match self.annotations.get(id).filter(|id| !id.is_empty()) {
            None => Mark::None,
            Some(id) if self.annotations.contains_key(MARK) => Mark::Ours(id.clone()),
            Some(_) => Mark::Foreign,
        }
    }

    fn leaves(&self) -> bool {
        let asked = self.annotations.get(annotation::NODE_DRAIN);
        asked.is_some_and(|value| value == "true")
    }
}

/// What a BGPPeer of ours says, where nothing else was asked for.
pub(crate) fn leading_to(before: BgpPeerSpec, hostname: &str) -> BgpPeerSpec {
    BgpPeerSpec {
        node: None,
        node_selector: Some("all()".to_owned()),
        peer_ip: None,
        peer_selector: Some(format!("{HOSTNAME} == '{hostname}'")),
        as_number: None,
        reverse_peering: None,
        ..before
    }
}

fn is_ours(peer: &Typed<BgpPeer>) -> bool {
    let labels = peer.resource.metadata.labels.as_ref();
    labels.is_some_and(|all| {
        all.get(reflectors::LABEL)
            .is_some_and(|value| value == MADE_FOR)
    })
}

fn hindrance(spec: &BgpConfigurationSpec) -> Option<&'static str> {
    if spec.node_mesh_password.is_some() {
        return Some("spec.nodeMeshPassword");
    }
    let restart = spec.node_mesh_max_restart_time;
    restart.is_some().then_some("spec.nodeMeshMaxRestartTime")
}

fn addresses<'a>(
    (name, node): (&'a String, &'a KnownNode),
) -> impl Iterator<Item = (IpAddr, &'a str)> {
    let names = [annotation::NODE_IPV4_ADDRESS, annotation::NODE_IPV6_ADDRESS];
    let texts = names
        .into_iter()
        .filter_map(|name| node.annotations.get(name));
    let parsed = texts.filter_map(|text| text.split('/').next()?.parse().ok());
    parsed.map(|address| (address, name.as_str()))
}

fn is_fresh(status: &NodeStatusStatus, now: SystemTime) -> bool {
    let at = status.observed_at.as_deref().and_then(parse_time);
    // A clock that is ahead is no reason to mistrust.
    at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age <= FRESH) || at > now)
}

fn says_that_it_leaves(status: &NodeStatusStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|one| one.type_ == "InService" && one.status == ConditionStatus::False)
}

/// Blocks that the node announces.
fn announced(status: &NodeStatusStatus) -> u64 {
    let confirmed = status.blocks.iter();
    let confirmed = confirmed.filter(|block| block.state == AffinityState::Confirmed);
    u64::try_from(confirmed.count()).unwrap_or(u64::MAX)
}

/// Sessions with other nodes that come from the mesh or from our BGPPeers.
fn sessions(
    own: &str,
    status: &NodeStatusStatus,
    at: &BTreeMap<IpAddr, &str>,
    ours: &BTreeMap<&str, &str>,
) -> BTreeMap<String, Session> {
    let session = |peer: &crds::node_status::PeerStatus| {
        let (other, via) = match peer.object.split_once('/')? {
            ("Node", other) => (other, Via::Mesh),
            ("BGPPeer", name) => match *ours.get(name)? {
                // One of those that it leads to us.
                reflector if reflector == own => {
                    (*at.get(&peer.peer_ip.parse().ok()?)?, Via::Peering)
                }
                reflector => (reflector, Via::Peering),
            },
            _ => return None,
        };
        let session = Session {
            via,
            is_up: peer.state == PeerState::Established,
            received: peer.received,
            advertised: peer.advertised,
        };
        Some((other.to_owned(), session))
    };
    status.peers.iter().filter_map(session).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(secs_ago: u64) -> String {
        crds::core::time_text(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - secs_ago))
    }

    fn node(name: &str, last: u8) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": name,
                "labels": { HOSTNAME: name, ZONE: "a" },
                "annotations": { "projectcalico.org/IPv4Address": format!("192.0.2.{last}/24") },
            },
        })
    }

    fn status(name: &str, secs_ago: u64, peers: &[(&str, u8, &str)]) -> Value {
        let peer = |(object, last, state): &(&str, u8, &str)| {
            json!({
                "name": format!("{object}-{last}"), "object": object, "peerIP": format!("192.0.2.{last}"),
                "type": "NodePeer", "state": state, "received": 3, "accepted": 3, "best": 3, "advertised": 1,
            })
        };
        json!({
            "apiVersion": "tortie.dev/v1alpha1", "kind": "NodeStatus", "metadata": { "name": name },
            "spec": { "node": name },
            "status": {
                "observedAt": at(secs_ago),
                "blocks": [
                    { "cidr": "10.244.0.0/26", "state": "confirmed", "used": 1, "free": 63 },
                    { "cidr": "10.244.0.64/26", "state": "pending", "used": 1, "free": 63 },
                ],
                "peers": peers.iter().map(peer).collect::<Vec<_>>(),
            },
        })
    }

    fn peering(node: &str, label: &str) -> Value {
        json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "BGPPeer",
            "metadata": { "name": peering_name(node), "labels": { "tortie.dev/made-for": label } },
            "spec": { "nodeSelector": "all()", "peerSelector": format!("{HOSTNAME} == '{node}'") },
        })
    }

    fn facts(objects: Vec<Value>) -> Facts {
        let mut known = Known::default();
        for value in objects {
            let kind = KINDS.into_iter().find(|kind| value["kind"] == kind.name());
            let name = value["metadata"]["name"].as_str().unwrap().to_owned();
            known.take(Event::Upsert(Object {
                key: datastore::Key::cluster(kind.unwrap(), name),
                resource_version: "1".to_owned(),
                value,
            }));
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        known.facts(&Selector::parse("!has(not)").unwrap(), now)
    }

    #[test]
    fn sessions_are_found_from_both_ends() {
        let by = peering_name("n1");
        let by = format!("BGPPeer/{by}");
        let facts = facts(vec![
            node("n1", 11),
            node("n2", 12),
            node("n3", 13),
            peering("n1", "topology"),
            status(
                "n1",
                10,
                &[(&by, 12, "Established"), ("BGPPeer/tor", 1, "Established")],
            ),
            status(
                "n2",
                360,
                &[(&by, 11, "Established"), ("Node/n3", 13, "Active")],
            ),
            status("n3", 361, &[("Node/n2", 12, "Established")]),
        ]);
        let by_peering = |via| via == Via::Peering;
        assert!(facts.has_link("n1", "n2", by_peering));
        assert!(!facts.has_link("n2", "n3", |_| true));
        assert_eq!(facts.nodes["n1"].sessions.len(), 1);
        assert_eq!(facts.awaited(), ["n1", "n2"].into());
        assert_eq!(facts.nodes["n1"].blocks, 1);
        assert!(facts.nodes["n2"].is_fresh && !facts.nodes["n3"].is_fresh);
        assert_eq!(facts.peerings, [("n1".to_owned(), Peering::Right)].into());
        assert_eq!(facts.lacks_of_neighbour("n1", "n2"), None);
    }

    #[test]
    fn who_may_reflect_can_be_named_and_is_not_taken() {
        let mut excluded = node("n2", 12);
        excluded["metadata"]["labels"]["not"] = json!("");
        let mut twin = node("n3", 13);
        twin["metadata"]["labels"][HOSTNAME] = json!("n4");
        let facts = facts(vec![
            node("n1", 11),
            excluded,
            twin,
            node("n4", 14),
            node("n5", 15),
            peering("n5", "somebody"),
        ]);
        let may = facts.nodes.iter().filter(|(_, node)| node.may_reflect);
        assert_eq!(
            may.map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["n1"]
        );
        assert_eq!(facts.peerings, BTreeMap::new());
    }

    #[test]
    fn marks_are_ours_with_our_annotation_only() {
        let marked = |name: &str, last, ours: bool| {
            let mut node = node(name, last);
            let annotations = &mut node["metadata"]["annotations"];
            annotations["projectcalico.org/RouteReflectorClusterID"] = json!("198.51.100.1");
            if ours {
                annotations[MARK] = json!("auto");
            }
            node
        };
        let mut drained = node("n3", 13);
        drained["metadata"]["annotations"]["tortie.dev/drain"] = json!("true");
        let facts = facts(vec![
            marked("n1", 11, true),
            marked("n2", 12, false),
            drained,
        ]);
        assert!(facts.is_marked("n1") && !facts.is_marked("n2"));
        assert_eq!(facts.nodes["n2"].mark, Mark::Foreign);
        assert!(facts.nodes["n3"].leaves);
    }

    #[test]
    fn the_mesh_is_read_with_its_target() {
        let settings = |spec: Value| {
            json!({
                "apiVersion": "crd.projectcalico.org/v1", "kind": "BGPConfiguration",
                "metadata": { "name": "default", "annotations": { TARGET: "reflectors" } },
                "spec": spec,
            })
        };
        let mesh = |objects| facts(objects).mesh;
        assert!(mesh(vec![]).is_on && mesh(vec![]).target.is_none());
        let off = mesh(vec![settings(json!({ "nodeToNodeMeshEnabled": false }))]);
        assert_eq!((off.is_on, off.target), (false, Some(Target::Reflectors)));
        let password =
            json!({ "nodeMeshPassword": { "secretKeyRef": { "name": "a", "key": "b" } } });
        let hindered = mesh(vec![settings(password)]);
        assert_eq!(hindered.hindered_by, Some("spec.nodeMeshPassword"));
    }

    #[test]
    fn a_changed_peering_is_wrong() {
        let mut changed = peering("n1", "topology");
        changed["spec"]["nodeSelector"] = json!("has(rack)");
        let facts = facts(vec![node("n1", 11), changed, peering("gone", "topology")]);
        let expected = [("gone", Peering::Right), ("n1", Peering::Wrong)];
        let expected = expected.map(|(name, peering)| (name.to_owned(), peering));
        assert_eq!(facts.peerings, expected.into());
    }
}
