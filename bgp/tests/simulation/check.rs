//! What must hold when nothing has happened for a while.

use std::collections::{BTreeMap, BTreeSet};

use bgp_rib::{Best, PeerId};
use bgp_wire::{Attributes, NextHop, Prefix};

use crate::node::addresses;
use crate::topology::Kind;
use crate::world::World;

pub(crate) fn check(world: &mut World) {
    everybody_is_up(world);
    nothing_is_stale(world);
    forwarding_is_what_was_told(world);
    peers_hold_what_they_were_told(world);
    everything_is_reached(world);
}

/// Every session is up and nothing waits for a restart any more.
pub(crate) fn is_calm(world: &World) -> bool {
    let mut ends = world.nodes.iter().flat_map(|node| node.ends.values());
    let is_quiet = world
        .nodes
        .iter()
        .all(|node| node.quiet_until.max(node.paused_until) <= world.now);
    is_quiet && ends.all(|end| end.up.is_some() && end.fsm.stale().is_empty())
}

fn everybody_is_up(world: &World) {
    for node in &world.nodes {
        for (link, end) in &node.ends {
            let state = end.fsm.state();
            assert!(
                end.up.is_some(),
                "node {} has no session with {} over link {link}: {state}",
                node.number,
                end.peer
            );
            assert_eq!(1, end.wires.len(), "connections are left");
        }
    }
}

fn nothing_is_stale(world: &mut World) {
    for node in &mut world.nodes {
        for end in node.ends.values() {
            assert!(
                end.fsm.stale().is_empty(),
                "node {} waits for a restart",
                node.number
            );
        }
        let (routes, _) = node.rib.explain_from(0, usize::MAX);
        for route in routes {
            for path in route.paths {
                assert!(
                    !path.is_stale,
                    "{} is stale at node {}",
                    route.prefix, node.number
                );
            }
        }
    }
}

fn forwarding_is_what_was_told(world: &mut World) {
    for node in &mut world.nodes {
        node.take_best_changes();
        // Why a path is the best may change without news.
        let ways = |best: &Best| (best.peer, best.next_hops.clone());
        let best = node
            .rib
            .routes()
            .map(|(prefix, best)| (prefix, ways(&best)));
        let best: BTreeMap<_, _> = best.collect();
        let told = node.forwarding.iter();
        let told: BTreeMap<_, _> = told.map(|(prefix, best)| (*prefix, ways(best))).collect();
        assert_eq!(best, told, "node {}", node.number);
    }
}

type Held = BTreeMap<Prefix, (NextHop, Attributes)>;

fn peers_hold_what_they_were_told(world: &mut World) {
    let links: Vec<[usize; 2]> = world.topology.links.clone();
    for (link, ends) in links.into_iter().enumerate() {
        let peer = PeerId(link as u32);
        for (teller, hearer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let (told, _) = world.nodes[teller].rib.told_from(peer, 0, usize::MAX);
            let told: Held = told
                .into_iter()
                .map(|told| (told.prefix, (told.next_hop, told.attributes)))
                .collect();
            let (heard, _) = world.nodes[hearer].rib.received_from(peer, 0, usize::MAX);
            let mut held = Held::new();
            for route in heard {
                let of_peer = route
                    .paths
                    .into_iter()
                    .filter(|path| path.peer == Some(peer));
                for path in of_peer {
                    held.insert(route.prefix, (path.next_hop.unwrap(), path.received));
                }
            }
            assert_eq!(told, held, "what {teller} told {hearer}");
        }
    }
}

fn everything_is_reached(world: &mut World) {
    let originated = world.nodes.iter().flat_map(|node| &node.originated);
    let all: BTreeSet<Prefix> = originated.copied().collect();
    for node in 0..world.nodes.len() {
        let known: BTreeSet<Prefix> = world.nodes[node].forwarding.keys().copied().collect();
        assert_eq!(all, known, "what node {node} reaches");
        for prefix in &all {
            follow(world, node, *prefix);
        }
    }
}

/// Follows a packet to where its prefix is.
fn follow(world: &World, from: usize, prefix: Prefix) {
    let mut at = from;
    for _ in 0..world.nodes.len() {
        let best = &world.nodes[at].forwarding[&prefix];
        let Some(peer) = best.peer else {
            assert!(world.nodes[at].originated.contains(&prefix));
            return;
        };
        at = match world.topology.kind {
            Kind::External => world.nodes[at].ends[&(peer.0 as usize)].peer,
            Kind::Mesh | Kind::Reflectors => {
                let at = |node: &usize| addresses(*node).contains(&best.next_hops[0].address);
                (0..world.nodes.len()).find(at).unwrap()
            }
        };
    }
    panic!("a packet from node {from} to {prefix} goes in circles");
}
