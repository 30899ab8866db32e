//! Takes updates into the inputs and marks what they touch.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crds::{AnyResource, Kind};
use ipnet::IpNet;

use super::Calc;
use crate::facts::{BgpDefaults, Felix, Filter};
use crate::{NextHop, Problem, Programmed, ResourceKey, UnreadPool, Update, parse};

impl Calc {
    /// Takes one update in; cheap, nothing is computed before [`Calc::flush`].
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Resource(resource) => self.resource(resource),
            Update::Gone(key) => {
                self.refuse(key.clone(), Vec::new());
                self.forget(&key);
                self.pool_is_read(&key);
            }
            Update::Broken(key, problems) => {
                self.forget(&key);
                if key.kind == Kind::IpPool {
                    let (name, manifest) = (Some(key.name.clone()), None);
                    self.unread(place(&key), Some(UnreadPool { name, manifest }));
                }
                self.refuse(key, problems);
            }
            Update::UnreadPool(place, unread) => self.unread(place, unread),
            Update::InSync(kind) => {
                self.inputs.in_sync.insert(kind);
            }
            Update::Endpoint(id, endpoint) => {
                self.dirty.endpoints |= set(&mut self.inputs.endpoints, &id, endpoint);
            }
            Update::EndpointsInSync => self.inputs.endpoints_in_sync = true,
            Update::Host(host) => {
                if self.inputs.host.as_ref() != Some(&host) {
                    self.inputs.host = Some(host);
                    self.dirty.host = true;
                    self.dirty.tunnels = true;
                    let by_interface = |filter: &Filter| filter.asks_for_interfaces();
                    self.dirty.bgp |= self.inputs.filters.values().any(by_interface);
                    // BFD is for peers on a link.
                    let mut peers = self.inputs.peers.values();
                    self.dirty.bgp |= peers.any(|peer| peer.options.bfd.is_some());
                }
            }
            Update::Learned(changes) => {
                for (prefix, next_hops) in changes {
                    self.learned(prefix.trunc(), next_hops);
                }
            }
            Update::NextHops(changes) => self.next_hops.update(changes),
            Update::Speaker(speaker) => {
                let changed = self.inputs.converged != speaker.converged;
                self.inputs.converged = speaker.converged;
                // Blocks that may lie in a pool nobody can read are guarded from then on.
                self.dirty.blocks |= changed && self.inputs.has_hidden_pool();
            }
            Update::Programmed(programmed) => self.programmed(programmed),
            Update::Tunnels(tunnels) => {
                self.dirty.tunnels |= self.inputs.tunnels != tunnels;
                self.inputs.tunnels = tunnels;
            }
        }
    }

    fn learned(&mut self, prefix: IpNet, next_hops: Option<Vec<NextHop>>) {
        if !self.book.learn(prefix, next_hops) {
            return;
        }
        self.dirty.routes.insert(prefix);
    }

    fn programmed(&mut self, programmed: Programmed) {
        let first = self.inputs.programmed.is_none();
        let known = self.inputs.programmed.get_or_insert_with(BTreeSet::new);
        let mut changed = first;
        if programmed.complete {
            let listed = programmed
                .routes
                .into_iter()
                .filter(|(_, present)| *present);
            let listed: BTreeSet<_> = listed.map(|(destination, _)| destination).collect();
            changed |= *known != listed;
            *known = listed;
        } else {
            for (destination, present) in programmed.routes {
                changed |= match present {
                    true => known.insert(destination),
                    false => known.remove(&destination),
                };
            }
        }
        self.dirty.bgp |= changed;
    }

    /// Replaces what is wrong with an object; nothing when it is readable or gone.
    fn refuse(&mut self, key: ResourceKey, problems: Vec<Problem>) {
        let problems = Some(problems).filter(|p| !p.is_empty());
        self.dirty.problems |= set(&mut self.inputs.refused, &key, problems);
    }

    fn resource(&mut self, resource: AnyResource) {
        let key = ResourceKey {
            kind: resource.kind(),
            namespace: resource.namespace().map(str::to_owned),
            name: resource.name().to_owned(),
        };
        let this = self.settings.node.clone();
        let name = key.name.as_str();
        let mut problems = Vec::new();
        match &resource {
            AnyResource::Node(node) => {
                let mut read = parse::node(name, node);
                // This node's own is written from here.
                if name != this {
                    let borrowed = parse::borrowed(name, node, &mut read.problems);
                    let borrowed = Some(borrowed).filter(|all| !all.is_empty());
                    self.dirty.remote |= set(&mut self.inputs.borrowed, name, borrowed);
                }
                let changed = set(&mut self.inputs.nodes, name, Some(read));
                self.node_changed(name, changed);
            }
            AnyResource::IpPool(pool) => {
                let changed = set(&mut self.inputs.pools, name, Some(parse::pool(pool)));
                self.pools_changed(changed);
            }
            AnyResource::BlockAffinity(affinity) => {
                let claim = parse::claim(&this, affinity);
                self.dirty.remote |= set(&mut self.inputs.claims, name, claim);
                let affinity = parse::affinity(&this, affinity);
                self.dirty.blocks |= set(&mut self.inputs.affinities, name, affinity);
            }
            AnyResource::IpamBlock(block) => {
                let cidr = block.spec.cidr.net();
                set(&mut self.inputs.usage, &cidr, parse::usage(&this, block));
                let block = parse::block(&this, block);
                self.dirty.blocks |= set(&mut self.inputs.blocks, name, block);
            }
            AnyResource::BgpConfiguration(configuration) => {
                self.bgp_configuration(name, Some(parse::bgp_defaults(name, configuration)));
            }
            AnyResource::BgpPeer(peer) => {
                let peer = parse::peer(name, peer).map_err(|p| problems = p).ok();
                let changed = set(&mut self.inputs.peers, name, peer);
                self.peers_changed(changed);
            }
            AnyResource::BgpFilter(filter) => {
                let filter = Some(parse::filter(name, filter));
                self.dirty.bgp |= set(&mut self.inputs.filters, name, filter);
            }
            AnyResource::Secret(secret) => {
                if key.namespace.as_deref() == Some(&self.settings.namespace) {
                    let passwords = Some(parse::passwords(secret));
                    self.dirty.bgp |= set(&mut self.inputs.secrets, name, passwords);
                }
            }
            AnyResource::FelixConfiguration(felix) => {
                self.felix_configuration(name, Some(parse::felix(name, felix)));
            }
            AnyResource::Pod(_)
            | AnyResource::Namespace(_)
            | AnyResource::IpamHandle(_)
            | AnyResource::IpamConfig(_)
            | AnyResource::IpReservation(_)
            | AnyResource::ClusterInformation(_)
            | AnyResource::NodeStatus(_) => {}
        }
        self.pool_is_read(&key);
        self.refuse(key, problems);
    }

    /// What can be read of something that may be a pool; nothing when it is mended or gone.
    fn unread(&mut self, place: String, unread: Option<UnreadPool>) {
        let unread = unread.map(parse::unread);
        let changed = set(&mut self.inputs.unread, &place, unread);
        self.pools_changed(changed);
        self.dirty.problems |= changed;
    }

    /// A pool that came as [`Update::Broken`] is not broken any more.
    fn pool_is_read(&mut self, key: &ResourceKey) {
        if key.kind == Kind::IpPool {
            self.unread(place(key), None);
        }
    }

    fn forget(&mut self, key: &ResourceKey) {
        let name = key.name.as_str();
        match key.kind {
            Kind::Node => {
                let changed = self.inputs.nodes.remove(name).is_some();
                self.dirty.remote |= self.inputs.borrowed.remove(name).is_some();
                self.node_changed(name, changed);
            }
            Kind::IpPool => {
                let changed = self.inputs.pools.remove(name).is_some();
                self.pools_changed(changed);
            }
            Kind::BlockAffinity => {
                self.dirty.blocks |= self.inputs.affinities.remove(name).is_some();
                self.dirty.remote |= self.inputs.claims.remove(name).is_some();
            }
            Kind::IpamBlock => {
                if let Some(block) = self.inputs.blocks.remove(name) {
                    self.inputs.usage.remove(&block.cidr);
                    self.dirty.blocks = true;
                }
            }
            Kind::FelixConfiguration => self.felix_configuration(name, None),
            Kind::BgpConfiguration => self.bgp_configuration(name, None),
            Kind::BgpPeer => {
                let changed = self.inputs.peers.remove(name).is_some();
                self.peers_changed(changed);
            }
            Kind::BgpFilter => self.dirty.bgp |= self.inputs.filters.remove(name).is_some(),
            Kind::Secret => {
                if key.namespace.as_deref() == Some(&self.settings.namespace) {
                    self.dirty.bgp |= self.inputs.secrets.remove(name).is_some();
                }
            }
            Kind::Pod
            | Kind::Namespace
            | Kind::IpamHandle
            | Kind::IpamConfig
            | Kind::IpReservation
            | Kind::ClusterInformation
            | Kind::NodeStatus => {}
        }
    }

    fn peers_changed(&mut self, changed: bool) {
        self.dirty.bgp |= changed;
        self.dirty.ways |= changed;
        self.dirty.problems |= changed;
    }

    fn pools_changed(&mut self, changed: bool) {
        self.dirty.blocks |= changed;
        self.dirty.tunnels |= changed;
        // Whether what a node says it has borrowed is an address of the cluster.
        self.dirty.remote |= changed && !self.inputs.borrowed.is_empty();
        // Whether the last good state of a pool is in force.
        self.dirty.problems |= changed && !self.inputs.unread.is_empty();
    }

    fn felix_configuration(&mut self, name: &str, felix: Option<Felix>) {
        let changed = if name == crds::names::DEFAULT {
            let felix = felix.unwrap_or_default();
            let before = std::mem::replace(&mut self.inputs.felix, felix);
            before != self.inputs.felix
        } else if let Some(node) = name.strip_prefix("node.") {
            set(&mut self.inputs.felix_overrides, node, felix)
        } else {
            false
        };
        self.dirty.tunnels |= changed;
        self.dirty.problems |= changed;
    }

    fn node_changed(&mut self, name: &str, changed: bool) {
        self.dirty.bgp |= changed;
        self.dirty.problems |= changed;
        self.dirty.tunnels |= changed;
        self.dirty.ends |= changed;
        self.dirty.remote |= changed;
        // The subnet of this node decides about routes.
        self.dirty.blocks |= changed && name == self.settings.node;
        self.dirty.ways |= changed && name == self.settings.node;
    }

    fn bgp_configuration(&mut self, name: &str, defaults: Option<BgpDefaults>) {
        let changed = if name == crds::names::DEFAULT {
            let defaults = defaults.unwrap_or_default();
            let before = std::mem::replace(&mut self.inputs.defaults, defaults);
            before != self.inputs.defaults
        } else if let Some(node) = name.strip_prefix("node.") {
            set(&mut self.inputs.overrides, node, defaults)
        } else {
            false
        };
        self.peers_changed(changed);
    }
}

/// Where an object is that came without a place.
fn place(key: &ResourceKey) -> String {
    format!("{}/{}", key.kind, key.name)
}

/// Puts a value, or removes it, and says whether that changed anything.
fn set<K, Q, V>(map: &mut BTreeMap<K, V>, key: &Q, value: Option<V>) -> bool
where
    K: Ord + Borrow<Q>,
    Q: Ord + ToOwned<Owned = K> + ?Sized,
    V: PartialEq,
{
    if map.get(key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
    true
}
