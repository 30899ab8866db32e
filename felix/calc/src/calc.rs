//! Holds the inputs, marks what a change touches, recomputes that much.
//!
//! Endpoints, blocks and BGP are small and recomputed as sections; routes are answered one
//! destination at a time, so a learned prefix costs one answer.
//! Order of a flush: endpoints, blocks, tunnels, routes, next hops, BGP, problems; each depends on
//! earlier ones only.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::Kind;
use ipnet::IpNet;

use crate::bgp::{Cluster, Ingredients, originate};
use crate::book::Book;
use crate::facts::{Affinity, BgpDefaults, Block, Claim, Felix, Filter, Node, Peer, Pool, Unread};
use crate::host::Resolver;
use crate::next_hops::Asked;
use crate::routes::{Tables, Verdict};
use crate::{
    Bgp, BlockUse, EndpointId, Endpoints, Firewall, HostFacts, NextHop, Output, Overlay, Password,
    Problem, ResourceKey, RouteNumbers, Settings, TunnelAddresses, TunnelFacts, WorkloadEndpoint,
    blocks, endpoints,
};

mod apply;
mod pools;
mod tunnels;

/// Kinds that must be in sync before anything is said.
pub const NEEDED: [Kind; 9] = [
    Kind::Node,
    Kind::IpPool,
    Kind::BlockAffinity,
    Kind::IpamBlock,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::BgpFilter,
    Kind::Secret,
    Kind::FelixConfiguration,
];

/// With hundreds of thousands of learned routes the hash of a key is a cost of its own; the seed is
/// random, as peers choose the keys.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
pub(crate) type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// At most so many unreachable next hops are named one by one.
const NAMED_NEXT_HOPS: usize = 20;

/// The calculation: updates in, outputs out.
#[derive(Debug)]
pub struct Calc {
    settings: Settings,
    inputs: Inputs,
    dirty: Dirty,
    tables: Tables,
    /// What was learned and said, by destination.
    book: Book,
    said: Said,
    section_problems: SectionProblems,
    /// How many destinations wait for each next hop the host cannot reach.
    unreachable: BTreeMap<NextHop, usize>,
    waiting: Map<IpNet, Vec<NextHop>>,
    next_hops: Asked,
}

#[derive(Debug, Default)]
struct Inputs {
    in_sync: BTreeSet<Kind>,
    endpoints_in_sync: bool,
    nodes: BTreeMap<String, Node>,
    pools: BTreeMap<String, Pool>,
    /// What may be a pool and cannot be used, by where it is.
    unread: BTreeMap<String, Unread>,
    affinities: BTreeMap<String, Affinity>,
    blocks: BTreeMap<String, Block>,
    /// Addresses in use and left, by block; for people, nothing depends on it.
    usage: BTreeMap<IpNet, (u32, u32)>,
    defaults: BgpDefaults,
    overrides: BTreeMap<String, BgpDefaults>,
    peers: BTreeMap<String, Peer>,
    filters: BTreeMap<String, Filter>,
    /// Passwords by name of the Secret and key.
    secrets: BTreeMap<String, BTreeMap<String, Password>>,
    refused: BTreeMap<ResourceKey, Vec<Problem>>,
    endpoints: BTreeMap<EndpointId, WorkloadEndpoint>,
    host: Option<HostFacts>,
    converged: bool,
    programmed: Option<BTreeSet<IpNet>>,
    tunnels: TunnelAddresses,
    felix: Felix,
    /// FelixConfiguration `node.<name>` by node name.
    felix_overrides: BTreeMap<String, Felix>,
    /// Of other nodes.
    claims: BTreeMap<String, Claim>,
    /// What other nodes say they have of blocks that are not theirs.
    borrowed: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// What must be computed again.
#[derive(Debug, Default)]
struct Dirty {
    endpoints: bool,
    blocks: bool,
    /// Overlay and firewall.
    tunnels: bool,
    /// Tunnels of other nodes.
    ends: bool,
    /// Blocks of other nodes.
    remote: bool,
    host: bool,
    /// Ways to peers and ranges of services.
    ways: bool,
    all_routes: bool,
    routes: Set<IpNet>,
    bgp: bool,
    problems: bool,
}

/// What was said last.
#[derive(Debug, Default)]
struct Said {
    generation: u64,
    endpoints: Option<Arc<Endpoints>>,
    overlay: Option<Arc<Overlay>>,
    firewall: Option<Arc<Firewall>>,
    tunnel_facts: Option<TunnelFacts>,
    numbers: RouteNumbers,
    hold_learned: bool,
    bgp: Option<Arc<Bgp>>,
    problems: Option<Arc<Vec<Problem>>>,
}

#[derive(Debug, Default)]
struct SectionProblems {
    endpoints: Vec<Problem>,
    blocks: Vec<Problem>,
    tunnels: Vec<Problem>,
    bgp: Vec<Problem>,
}

impl Calc {
    /// A calculation that knows nothing yet.
    pub fn new(settings: Settings) -> Calc {
        Calc {
            tables: Tables {
                allow_default_route: settings.allow_default_route,
                bgp: settings.bgp,
                ..Tables::default()
            },
            settings,
            inputs: Inputs::default(),
            dirty: Dirty {
                endpoints: true,
                blocks: true,
                tunnels: true,
                ends: true,
                remote: true,
                host: true,
                ways: true,
                all_routes: true,
                routes: Set::default(),
                bgp: true,
                problems: true,
            },
            book: Book::default(),
            said: Said::default(),
            section_problems: SectionProblems::default(),
            unreachable: BTreeMap::new(),
            waiting: Map::default(),
            next_hops: Asked::default(),
        }
    }

    /// What is still missing before the first output, in words; empty when nothing is.
    pub fn waiting_for(&self) -> Vec<String> {
        let kinds = NEEDED
            .iter()
            .filter(|kind| !self.inputs.in_sync.contains(kind));
        let mut missing: Vec<String> = kinds
            .map(|kind| format!("objects of kind {kind}"))
            .collect();
        if !self.inputs.endpoints_in_sync {
            missing.push("recorded endpoints".to_owned());
        }
        if self.inputs.host.is_none() {
            missing.push("first listing of the host's network".to_owned());
        }
        missing
    }

    /// The blocks this node claims.
    pub fn blocks(&self) -> Vec<BlockUse> {
        let affinities = self.inputs.affinities.values();
        affinities
            .map(|affinity| {
                let usage = self.inputs.usage.get(&affinity.cidr).copied();
                let (used, free) = usage.unwrap_or_default();
                BlockUse {
                    cidr: affinity.cidr,
                    state: affinity.state,
                    used,
                    free,
                }
            })
            .collect()
    }

    /// The addresses of this node that lie in no block of its own and that other nodes find in no other way; as of the
    /// last flush, nothing before the first.
    pub fn borrowed(&self) -> Option<BTreeSet<IpAddr>> {
        (self.said.generation > 0).then(|| {
            let affinities = self.inputs.affinities.values().map(|one| one.cidr);
            let blocks = self.inputs.blocks.values().map(|one| one.cidr);
            // A block that is being claimed or given back is no foreign one yet.
            let own: BTreeSet<IpNet> = affinities.chain(blocks).collect();
            self.tables.borrowed(&own)
        })
    }

    /// How many routes there shall be, as of the last flush.
    pub fn route_numbers(&self) -> RouteNumbers {
        self.said.numbers
    }

    /// Says what changed since the last time; `None` when nothing did, or when inputs are missing.
    pub fn flush(&mut self) -> Option<Output> {
        if !self.waiting_for().is_empty() {
            return None;
        }
        let complete = self.said.generation == 0;
        let mut output = Output {
            complete,
            ..Output::default()
        };
        self.flush_endpoints(&mut output);
        self.flush_blocks();
        self.flush_tunnels(&mut output);
        let moved = self.flush_routes(&mut output);
        self.flush_next_hops(moved, &mut output);
        self.flush_bgp(&mut output);
        self.flush_problems(&mut output);
        output.hold_learned = self.settings.bgp && !self.inputs.converged;
        let changed = complete
            || output.endpoints.is_some()
            || output.overlay.is_some()
            || output.firewall.is_some()
            || !output.routes.is_empty()
            || output.bgp.is_some()
            || output.next_hops.is_some()
            || output.problems.is_some()
            || output.hold_learned != self.said.hold_learned;
        if !changed {
            return None;
        }
        self.said.hold_learned = output.hold_learned;
        self.said.generation += 1;
        output.generation = self.said.generation;
        Some(output)
    }

    fn flush_endpoints(&mut self, output: &mut Output) {
        if !std::mem::take(&mut self.dirty.endpoints) {
            return;
        }
        let local = endpoints::local(&self.inputs.endpoints);
        for address in self.tables.owners.keys().chain(local.owners.keys()) {
            if self.tables.owners.get(address) != local.owners.get(address) {
                self.dirty.routes.insert(IpNet::from(*address));
                self.dirty.bgp = true;
            }
        }
        self.tables.owners = local.owners;
        if self.section_problems.endpoints != local.problems {
            self.section_problems.endpoints = local.problems;
            self.dirty.problems = true;
        }
        if self.said.endpoints.as_deref() != Some(&local.endpoints) {
            let said = Arc::new(local.endpoints);
            output.endpoints = Some(said.clone());
            self.said.endpoints = Some(said);
        }
    }

    fn flush_blocks(&mut self) {
        if !std::mem::take(&mut self.dirty.blocks) {
            return;
        }
        let mut problems = Vec::new();
        let this = self
            .inputs
            .nodes
            .get(&self.settings.node)
            .cloned()
            .unwrap_or_default();
        let owned = blocks::owned(&self.inputs.affinities, &self.inputs.blocks, &mut problems);
        let pools = self.inputs.all_pools();
        blocks::check(&pools, &owned, &mut problems);
        let pools: Vec<Pool> = pools.into_values().collect();
        let hidden = self.inputs.hidden_pool(self.settings.bgp);
        let tables = &mut self.tables;
        if (&tables.pools, &tables.node, tables.hidden_pool) != (&pools, &this, hidden) {
            tables.pools = pools;
            tables.node = this;
            tables.hidden_pool = hidden;
            self.dirty.all_routes = true;
            self.dirty.bgp = true;
        }
        let all = self.tables.blocks.keys().chain(owned.keys());
        let changed: BTreeSet<IpNet> = all
            .filter(|cidr| self.tables.blocks.get(cidr) != owned.get(cidr))
            .copied()
            .collect();
        if !changed.is_empty() {
            let inside = |prefix: &IpNet| changed.iter().any(|block| block.contains(prefix));
            let learned = self.book.all_learned().map(|(prefix, _)| prefix);
            self.dirty.routes.extend(learned.filter(inside));
            self.dirty.routes.extend(&changed);
            self.dirty.bgp = true;
            self.tables.blocks = owned;
        }
        if self.section_problems.blocks != problems {
            self.section_problems.blocks = problems;
            self.dirty.problems = true;
        }
    }

    /// Returns whether the host may reach something otherwise than before.
    fn flush_routes(&mut self, output: &mut Output) -> bool {
        if std::mem::take(&mut self.dirty.ways) {
            self.follow_ways();
        }
        let moved = std::mem::take(&mut self.dirty.host);
        if moved {
            self.follow_host();
        }
        self.follow_ends();
        self.follow_remote();
        let mut keys = std::mem::take(&mut self.dirty.routes);
        if std::mem::take(&mut self.dirty.all_routes) {
            keys.extend(self.book.destinations());
            keys.extend(self.tables.remote.keys());
            keys.extend(&self.tables.far);
            keys.extend(self.tables.standing());
            keys.extend(self.tables.blocks.keys());
            keys.extend(
                self.tables
                    .owners
                    .keys()
                    .map(|address| IpNet::from(*address)),
            );
        }
        for key in keys {
            let learned = self.book.learned(key);
            let Verdict { route, unreachable } = self.tables.answer(key, learned);
            self.note_unreachable(key, unreachable);
            let Some(before) = self.book.say(key, route.as_ref()) else {
                continue;
            };
            if let Some(before) = before {
                *self.said.numbers.of(before) -= 1;
            }
            if let Some(route) = &route {
                *self.said.numbers.of(route.class) += 1;
            }
            output.routes.push((key, route));
        }
        moved
    }

    fn flush_next_hops(&mut self, moved: bool, output: &mut Output) {
        output.next_hops = self.next_hops.answer(moved, &mut self.tables.resolver);
        self.dirty.problems |= output.next_hops.is_some();
    }

    /// What BGP objects say about routes: ways to peers, and services that stay out of the kernel.
    fn follow_ways(&mut self) {
        let ways = self.cluster().ways();
        if self.tables.ways != ways {
            self.tables.ways = ways;
            self.dirty.host = true;
        }
        if self.tables.services != self.inputs.defaults.services.all {
            self.tables
                .services
                .clone_from(&self.inputs.defaults.services.all);
            self.dirty.all_routes = true;
        }
    }

    fn cluster(&self) -> Cluster<'_> {
        let inputs = &self.inputs;
        Cluster {
            name: &self.settings.node,
            nodes: &inputs.nodes,
            defaults: &inputs.defaults,
            overrides: &inputs.overrides,
            peers: &inputs.peers,
            policies: Ingredients {
                filters: &inputs.filters,
                pools: &self.tables.pools,
                host: inputs.host.as_ref(),
            },
            secrets: &inputs.secrets,
            namespace: &self.settings.namespace,
        }
    }

    /// Marks the routes that a change of the host's network touches, and no others: with many
    /// learned routes an interface of somebody else must not cost anything.
    fn follow_host(&mut self) {
        let Some(host) = &self.inputs.host else {
            return;
        };
        let mut resolver = Resolver::new(host, &self.tables.ways);
        let (moved, destinations) = self.tables.resolver.difference(&mut resolver);
        self.tables.resolver = resolver;
        self.dirty.routes.extend(destinations);
        self.touch_next_hops(&moved);
    }

    fn note_unreachable(&mut self, destination: IpNet, next_hops: Vec<NextHop>) {
        let before = self
            .waiting
            .get(&destination)
            .map_or(&[][..], Vec::as_slice);
        if before == next_hops {
            return;
        }
        for next_hop in self.waiting.remove(&destination).unwrap_or_default() {
            if let Some(count) = self.unreachable.get_mut(&next_hop) {
                *count -= 1;
                if *count == 0 {
                    self.unreachable.remove(&next_hop);
                }
            }
        }
        for next_hop in &next_hops {
            *self.unreachable.entry(next_hop.clone()).or_default() += 1;
        }
        if !next_hops.is_empty() {
            self.waiting.insert(destination, next_hops);
        }
        self.dirty.problems = true;
    }

    fn flush_bgp(&mut self, output: &mut Output) {
        if !self.settings.bgp {
            return;
        }
        let Some(programmed) = &self.inputs.programmed else {
            return;
        };
        if !std::mem::take(&mut self.dirty.bgp) {
            return;
        }
        let cluster = self.cluster();
        let peers = cluster.peers();
        let services = &self.inputs.defaults.services;
        let problems = peers.problems;
        let bgp = Bgp {
            local: cluster.local(self.settings.router_id),
            peers: peers.specs,
            refused: peers.refused,
            originate: originate(&self.tables, programmed, services),
        };
        if self.section_problems.bgp != problems {
            self.section_problems.bgp = problems;
            self.dirty.problems = true;
        }
        if self.said.bgp.as_deref() != Some(&bgp) {
            let said = Arc::new(bgp);
            output.bgp = Some(said.clone());
            self.said.bgp = Some(said);
        }
    }

    fn without(&self, next_hop: &NextHop) -> Problem {
        let (reason, remedy) = match next_hop.link() {
            _ if self.tables.resolver.reaches(next_hop) => (
                "they need a tunnel, and it is no node with a tunnel address",
                "start the agent on that node, or annotate its Node with the address of its tunnel device",
            ),
            Some(_) => (
                "that interface is not up, or the address is our own",
                "set the interface up",
            ),
            None => (
                "this host has no route to it",
                "give the host a route to it, or let the peer announce its own address as next hop",
            ),
        };
        Problem {
            object: format!("Node/{}", self.settings.node),
            field: String::new(),
            problem: format!("routes through BGP next hop {next_hop} are left out: {reason}"),
            remedy: remedy.to_owned(),
        }
    }

    fn flush_problems(&mut self, output: &mut Output) {
        if !std::mem::take(&mut self.dirty.problems) {
            return;
        }
        let sections = &self.section_problems;
        let inputs = &self.inputs;
        let mut problems: Vec<Problem> = sections.endpoints.clone();
        problems.extend(sections.blocks.iter().cloned());
        problems.extend(sections.tunnels.iter().cloned());
        problems.extend(sections.bgp.iter().cloned());
        problems.extend(inputs.refused.values().flatten().cloned());
        problems.extend(self.unread_pools());
        problems.extend(
            inputs
                .nodes
                .values()
                .flat_map(|n| n.problems.iter().cloned()),
        );
        problems.extend(inputs.defaults.problems.iter().cloned());
        problems.extend(inputs.felix.problems.iter().cloned());
        let overrides = inputs.felix_overrides.values();
        problems.extend(overrides.flat_map(|o| o.problems.iter().cloned()));
        problems.extend(
            inputs
                .overrides
                .values()
                .flat_map(|o| o.problems.iter().cloned()),
        );
        problems.extend(
            inputs
                .peers
                .values()
                .flat_map(|p| p.problems.iter().cloned()),
        );
        let unreachable = self.next_hops.said().unreachable();
        let unreachable: BTreeSet<_> = unreachable.chain(self.unreachable.keys()).collect();
        let named = unreachable.into_iter().take(NAMED_NEXT_HOPS);
        problems.extend(named.map(|next_hop| self.without(next_hop)));
        problems.sort();
        problems.dedup();
        if self.said.problems.as_deref() != Some(&problems) {
            let said = Arc::new(problems);
            output.problems = Some(said.clone());
            self.said.problems = Some(said);
        }
    }
}
