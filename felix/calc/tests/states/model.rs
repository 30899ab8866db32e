//! States as the files write them, and the updates that lead from one to another.

use std::collections::{BTreeMap, BTreeSet};

use crds::{AnyResource, Kind};
use felix_calc::{
    EndpointId, HostFacts, HostRoute, Interface, NextHop, Programmed, ResourceKey, SpeakerState,
    TunnelAddresses, UnreadPool, Update, WorkloadEndpoint,
};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct History {
    pub(crate) node: String,
    #[serde(default)]
    pub(crate) allow_default_route: bool,
    /// The expectations hold what peers may send and are told.
    #[serde(default)]
    pub(crate) policies: bool,
    /// The expectations hold tunnel devices and packet rules.
    #[serde(default)]
    pub(crate) tunnels: bool,
    #[serde(default = "yes")]
    pub(crate) bgp: bool,
    /// Objects of every state, as a base.
    #[serde(default)]
    common: Vec<Value>,
    pub(crate) states: Vec<State>,
}

fn yes() -> bool {
    true
}

impl History {
    pub(crate) fn parse(text: &str) -> Result<History, serde_yaml::Error> {
        let mut history: History = serde_yaml::from_str(text)?;
        for state in &mut history.states {
            let mut objects = history.common.clone();
            objects.append(&mut state.objects);
            state.objects = objects;
        }
        Ok(history)
    }
}

/// The world at one time, and what the node should then look like.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) name: String,
    #[serde(default)]
    objects: Vec<Value>,
    /// `<workload>/<interface in the pod>` to `<host interface> <address>...`.
    #[serde(default)]
    endpoints: BTreeMap<String, String>,
    /// Interface to its addresses.
    #[serde(default)]
    host: BTreeMap<String, Vec<IpNet>>,
    /// MTU of interfaces, 1500 when not listed.
    #[serde(default)]
    mtu: BTreeMap<String, u32>,
    /// Addresses of the node's tunnel devices from address management.
    #[serde(default)]
    addresses: Addresses,
    /// Routes of the host besides those of its subnets:
    /// `<destination> <gateway> <interface> [<metric>]`.
    #[serde(default)]
    host_routes: Vec<String>,
    #[serde(default)]
    /// Next hops are `<address>` or `<address>%<interface>`.
    learned: BTreeMap<IpNet, Vec<String>>,
    /// Next hops that paths have, written as in `learned`.
    #[serde(default)]
    next_hops: Vec<String>,
    #[serde(default)]
    programmed: Vec<IpNet>,
    /// What may be a pool and cannot be used, by place: the manifest, or nothing.
    #[serde(default)]
    unread: BTreeMap<String, Value>,
    #[serde(default)]
    converged: bool,
    pub(crate) expect: Option<String>,
}

/// Addresses of tunnel devices.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Addresses {
    ipip: Option<std::net::Ipv4Addr>,
    vxlan: Option<std::net::Ipv4Addr>,
    vxlan_v6: Option<std::net::Ipv6Addr>,
}

/// A state as inputs of the calculation.
#[derive(Default)]
pub(crate) struct World {
    objects: BTreeMap<(Kind, Option<String>, String), Value>,
    endpoints: BTreeMap<EndpointId, WorkloadEndpoint>,
    host: HostFacts,
    learned: BTreeMap<IpNet, Vec<NextHop>>,
    next_hops: BTreeSet<NextHop>,
    programmed: Vec<IpNet>,
    converged: bool,
    tunnels: TunnelAddresses,
    unread: BTreeMap<String, Value>,
}

impl World {
    pub(crate) fn of(state: &State) -> World {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let objects = state.objects.iter().map(|object| {
            let kind = Kind::ALL
                .into_iter()
                .find(|k| k.name() == object["kind"])
                .unwrap();
            let mut object = object.clone();
            object["apiVersion"] = kind.api_version().into();
            let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
            ((kind, namespace, text(&object["metadata"]["name"])), object)
        });
        World {
            objects: objects.collect(),
            endpoints: state
                .endpoints
                .iter()
                .map(|(id, text)| endpoint(id, text))
                .collect(),
            host: host(state),
            learned: state
                .learned
                .iter()
                .map(|(prefix, hops)| (*prefix, hops.iter().map(|hop| next_hop(hop)).collect()))
                .collect(),
            next_hops: state.next_hops.iter().map(|hop| next_hop(hop)).collect(),
            programmed: state.programmed.clone(),
            converged: state.converged,
            unread: state.unread.clone(),
            tunnels: TunnelAddresses {
                ipip: state.addresses.ipip,
                vxlan: state.addresses.vxlan,
                vxlan_v6: state.addresses.vxlan_v6,
            },
        }
    }

    /// What must be told so that a calculation that knows `before` knows this world.
    pub(crate) fn updates_from(&self, before: &World) -> Vec<Update> {
        let mut updates = Vec::new();
        for (kind, namespace, name) in before
            .objects
            .keys()
            .filter(|key| !self.objects.contains_key(key))
        {
            updates.push(Update::Gone(ResourceKey {
                kind: *kind,
                namespace: namespace.clone(),
                name: name.clone(),
            }));
        }
        for (key, object) in &self.objects {
            if before.objects.get(key) != Some(object) {
                let resource = AnyResource::parse(key.0, object);
                updates.push(Update::Resource(
                    resource.unwrap_or_else(|e| panic!("{key:?}: {e:?}")),
                ));
            }
        }
        for place in before
            .unread
            .keys()
            .filter(|place| !self.unread.contains_key(*place))
        {
            updates.push(Update::UnreadPool(place.clone(), None));
        }
        for (place, manifest) in &self.unread {
            let name = manifest.pointer("/metadata/name").and_then(Value::as_str);
            let unread = UnreadPool {
                name: name.map(str::to_owned),
                manifest: Some(manifest.clone()).filter(|manifest| !manifest.is_null()),
            };
            updates.push(Update::UnreadPool(place.clone(), Some(unread)));
        }
        for id in before
            .endpoints
            .keys()
            .filter(|id| !self.endpoints.contains_key(id))
        {
            updates.push(Update::Endpoint(id.clone(), None));
        }
        for (id, endpoint) in &self.endpoints {
            updates.push(Update::Endpoint(id.clone(), Some(endpoint.clone())));
        }
        updates.push(Update::Host(self.host.clone()));
        updates.push(Update::Tunnels(self.tunnels));
        for prefix in before
            .learned
            .keys()
            .filter(|p| !self.learned.contains_key(p))
        {
            updates.push(Update::Learned(vec![(*prefix, None)]));
        }
        for (prefix, next_hops) in &self.learned {
            updates.push(Update::Learned(vec![(*prefix, Some(next_hops.clone()))]));
        }
        for (from, to, in_use) in [(before, self, false), (self, before, true)] {
            let changes = from.next_hops.difference(&to.next_hops);
            updates.extend(changes.map(|hop| Update::NextHops(vec![(hop.clone(), in_use)])));
        }
        updates.push(Update::Programmed(Programmed {
            routes: self.programmed.iter().map(|p| (*p, true)).collect(),
            complete: true,
        }));
        updates.push(Update::Speaker(SpeakerState {
            converged: self.converged,
        }));
        updates
    }
}

fn next_hop(text: &str) -> NextHop {
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface.into())),
        None => (text, None),
    };
    NextHop {
        address: address.parse().unwrap(),
        interface,
    }
}

fn endpoint(id: &str, text: &str) -> (EndpointId, WorkloadEndpoint) {
    let (workload, endpoint) = id.rsplit_once('/').unwrap();
    let mut words = text.split_whitespace();
    let value = WorkloadEndpoint {
        container_id: format!("container of {workload}"),
        interface: words.next().unwrap().into(),
        addresses: words.map(|word| word.parse().unwrap()).collect(),
        pod_mac: None,
    };
    (
        EndpointId {
            workload: workload.to_owned(),
            endpoint: endpoint.to_owned(),
        },
        value,
    )
}

/// Every address brings the route of its subnet, as in the kernel.
fn host(state: &State) -> HostFacts {
    let mut facts = HostFacts::default();
    for (name, addresses) in &state.host {
        facts.interfaces.push(Interface {
            name: name.as_str().into(),
            up: true,
            addresses: addresses.clone(),
            mtu: state.mtu.get(name).copied().unwrap_or(1500),
        });
        facts
            .routes
            .extend(addresses.iter().map(|address| HostRoute {
                destination: address.trunc(),
                via: None,
                interface: name.as_str().into(),
                metric: 0,
            }));
    }
    for route in &state.host_routes {
        let words: Vec<&str> = route.split_whitespace().collect();
        facts.routes.push(HostRoute {
            destination: words[0].parse().unwrap(),
            via: Some(words[1].parse().unwrap()),
            interface: words[2].into(),
            metric: words.get(3).map_or(0, |metric| metric.parse().unwrap()),
        });
    }
    facts
}
