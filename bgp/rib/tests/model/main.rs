//! Random histories: the RIB against a model that recomputes everything from scratch.
//!
//! After each history, and at random times in between, the best paths are those of the model, and
//! what each peer holds by having applied our messages in order is what the model says. So are the
//! numbers that are counted along the way.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of a test fail by panicking"
)]

mod history;
mod policies;
mod receiver;
mod reference;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp_rib::{Best, Counts, Outcome, PeerId, PeerKind, PeerSession, Rib};
use bgp_wire::{
    Attributes, AttributesBuilder, Community, Family, NextHop, Nlri, Prefix, Reach, Unreach, Update,
};
use proptest::prelude::*;

use history::{ADD_PATH_PEERS, Op, PEERS, config, delivery_ops, next_hop, ops, prefixes, session};
use policies::PolicyModel;
use receiver::Receiver;
use reference::{Path, Peer, Reference};

const FAMILIES: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

/// The RIB, the model, and the peers that read what the RIB sends.
struct World {
    rib: Rib,
    reference: Reference,
    receivers: BTreeMap<u32, Receiver>,
    /// What a forwarding table holds by having applied the changes.
    forwarding: BTreeMap<Prefix, Best>,
    prefixes: Vec<Prefix>,
    /// How many sessions each peer has had.
    sessions: BTreeMap<u32, u8>,
}

impl World {
    fn new() -> Self {
        Self {
            rib: Rib::new(config()),
            reference: Reference::new(config()),
            receivers: BTreeMap::new(),
            forwarding: BTreeMap::new(),
            prefixes: prefixes(),
            sessions: BTreeMap::new(),
        }
    }

    fn is_up(&self, peer: u32) -> bool {
        self.receivers.contains_key(&peer)
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Up(peer) => self.up(*peer),
            Op::Down { peer, retain } => self.down(*peer, retain),
            Op::Announce {
                peer,
                prefixes,
                path_id,
                fields,
                via,
            } => self.announce(*peer, prefixes, *path_id, fields, *via),
            Op::Withdraw {
                peer,
                prefixes,
                path_id,
            } => self.withdraw(*peer, prefixes, *path_id),
            Op::MarkStale(peer, family) => {
                self.rib.mark_stale(PeerId(*peer), *family);
                self.reference.retain_paths(|prefix, path| {
                    path.stale |= path.peer == Some(*peer) && prefix.family() == *family;
                    true
                });
            }
            Op::UnmarkStale(peer, family) => {
                self.rib.unmark_stale(PeerId(*peer), *family);
                self.reference.retain_paths(|prefix, path| {
                    path.stale &= path.peer != Some(*peer) || prefix.family() != *family;
                    true
                });
            }
            Op::LongLived(peer, families) => {
                self.rib.long_lived(PeerId(*peer), families);
                self.reference.retain_paths(|prefix, path| {
                    let its = path.peer == Some(*peer) && families.contains(&prefix.family());
                    let communities = &mut path.fields.communities;
                    if !its || !path.stale {
                        return true;
                    }
                    if !communities.contains(&Community::LLGR_STALE) {
                        communities.push(Community::LLGR_STALE);
                    }
                    !communities.contains(&Community::NO_LLGR)
                });
            }
            Op::EndOfRib(peer, family) => {
                self.rib.end_of_rib(PeerId(*peer), *family);
                self.reference.retain_paths(|prefix, path| {
                    !(path.stale && path.peer == Some(*peer) && prefix.family() == *family)
                });
            }
            Op::Refresh(peer, family) => self.rib.refresh(PeerId(*peer), *family),
            Op::Originate(prefix, path) => {
                let prefix = self.prefixes[*prefix];
                self.rib.originate(prefix, path.as_ref()).unwrap();
                self.reference.originate(prefix, path.as_ref());
            }
            Op::Reach(number, v6, reachability) => {
                let address = next_hop(*number, *v6).addr();
                self.rib.set_next_hop(address, *reachability);
                self.reference.reachability.insert(address, *reachability);
            }
            Op::Policies(peer, import, export) => self.set_policies(*peer, import, export),
            Op::Options(peer, options) => {
                self.change_session(*peer, |session| options.apply(session));
            }
            Op::PathLimit(peer, limit) => {
                self.change_session(*peer, |session| session.add_path_limit = *limit);
            }
            Op::Read(peer, octets) => self.read(*peer, *octets),
            Op::Forward => self.take_best_changes(),
            Op::Check => self.check(),
        }
    }

    fn up(&mut self, peer: u32) {
        if self.is_up(peer) {
            // The RIB ends the old session itself; what was kept for a restart is gone.
            self.reference
                .retain_paths(|_, path| path.peer != Some(peer));
        }
        let number = self.sessions.entry(peer).or_default();
        *number = number.wrapping_add(1);
        let session = session(peer, *number);
        self.receivers.insert(peer, Receiver::new(&session.params));
        let known = Peer {
            session: session.clone(),
            import: PolicyModel::accept_all(),
            export: PolicyModel::accept_all(),
        };
        self.reference.peers.insert(peer, known);
        self.rib.peer_up(PeerId(peer), session);
    }

    fn down(&mut self, peer: u32, retain: &[Family]) {
        self.receivers.remove(&peer);
        self.rib.peer_down(PeerId(peer), retain);
        self.reference.retain_paths(|prefix, path| {
            if path.peer != Some(peer) {
                return true;
            }
            path.stale = true;
            retain.contains(&prefix.family())
        });
    }

    fn announce(
        &mut self,
        peer: u32,
        prefixes: &[usize],
        path_id: u32,
        fields: &AttributesBuilder,
        via: u8,
    ) {
        let path_id = if ADD_PATH_PEERS.contains(&peer) {
            path_id
        } else {
            0
        };
        let mut fields = fields.clone();
        if session(peer, 0).kind == PeerKind::Ebgp {
            fields.local_pref = None;
            fields.originator_id = None;
            fields.cluster_list.clear();
        }
        let attributes: Attributes = fields.build().unwrap();
        let mut update = Update {
            attributes: Some(Arc::new(attributes)),
            ..Update::default()
        };
        let is_up = self.is_up(peer);
        for family in FAMILIES {
            let next_hop: NextHop = next_hop(via, family == Family::IPV6_UNICAST);
            let nlri = self.nlri(prefixes, family, path_id);
            for route in nlri.iter().filter(|_| is_up) {
                let path = Path {
                    peer: Some(peer),
                    path_id,
                    fields: fields.clone(),
                    next_hop: Some(next_hop),
                    stale: false,
                };
                self.reference.announce(route.prefix, path);
            }
            update.reach.push(Reach {
                family,
                next_hop,
                nlri,
            });
        }
        self.rib.update(PeerId(peer), &update);
    }

    fn withdraw(&mut self, peer: u32, prefixes: &[usize], path_id: u32) {
        let path_id = if ADD_PATH_PEERS.contains(&peer) {
            path_id
        } else {
            0
        };
        let unreach = FAMILIES.map(|family| Unreach {
            family,
            nlri: self.nlri(prefixes, family, path_id),
        });
        if self.is_up(peer) {
            for route in unreach.iter().flat_map(|unreach| &unreach.nlri) {
                self.reference.withdraw(route.prefix, Some(peer), path_id);
            }
        }
        let update = Update {
            unreach: unreach.into(),
            ..Update::default()
        };
        self.rib.update(PeerId(peer), &update);
    }

    fn nlri(&self, prefixes: &[usize], family: Family, path_id: u32) -> Vec<Nlri> {
        let prefixes = prefixes.iter().map(|&index| self.prefixes[index]);
        let prefixes = prefixes.filter(|prefix| prefix.family() == family);
        prefixes.map(|prefix| Nlri { prefix, path_id }).collect()
    }

    fn set_policies(&mut self, peer: u32, import: &PolicyModel, export: &PolicyModel) {
        let Some(known) = self.reference.peers.get_mut(&peer) else {
            return;
        };
        known.import = import.clone();
        known.export = export.clone();
        known.session.import = import.policy();
        known.session.export = export.policy();
        let (import, export) = (import.policy(), export.policy());
        self.rib.set_policies(PeerId(peer), import, export);
    }

    fn change_session(&mut self, peer: u32, change: impl FnOnce(&mut PeerSession)) {
        if let Some(known) = self.reference.peers.get_mut(&peer) {
            change(&mut known.session);
            self.rib.set_session(PeerId(peer), known.session.clone());
        }
    }

    fn read(&mut self, peer: u32, octets: usize) {
        if let Some(receiver) = self.receivers.get_mut(&peer) {
            for bytes in self.rib.next_messages(PeerId(peer), octets) {
                receiver.read(&bytes);
            }
        }
    }

    fn check(&mut self) {
        for peer in 0..PEERS {
            while self.is_up(peer) && self.rib.has_pending(PeerId(peer)) {
                self.read(peer, 50);
            }
            let Some(receiver) = self.receivers.get(&peer) else {
                assert!(!self.rib.has_pending(PeerId(peer)));
                continue;
            };
            let held = receiver.by_prefix();
            assert_eq!(held, self.reference.held_by(peer), "peer {peer}");
            assert_eq!(receiver.ended, receiver.families(), "End-of-RIB to {peer}");
            assert!(self.rib.next_messages(PeerId(peer), 100).is_empty());
        }
        self.check_counts();
        self.take_best_changes();
        for prefix in self.prefixes.clone() {
            self.check_best(prefix);
        }
    }

    /// How much each peer has to do with, delivered or not.
    fn check_counts(&mut self) {
        for (peer, family) in (0..PEERS).flat_map(|peer| FAMILIES.map(|family| (peer, family))) {
            let expected = self.reference.counts(peer, self.is_up(peer), family);
            let counts = self.rib.peer_counts(PeerId(peer), family);
            assert_eq!(counts, expected, "counts of peer {peer}, {family}");
        }
    }

    fn take_best_changes(&mut self) {
        loop {
            let changes = self.rib.best_changes(3);
            if changes.is_empty() {
                return;
            }
            for (prefix, best) in changes {
                match best {
                    Some(best) => self.forwarding.insert(prefix, best),
                    None => self.forwarding.remove(&prefix),
                };
            }
        }
    }

    fn check_best(&mut self, prefix: Prefix) {
        let expected = self.reference.best(prefix);
        let expected = expected.first().map(|first| {
            let next_hops = expected.iter().filter_map(|path| path.next_hop);
            let next_hops: Vec<IpAddr> = next_hops.map(NextHop::addr).collect();
            (first.peer.map(PeerId), next_hops)
        });
        let best = self.rib.best(prefix);
        let simple = |best: &Best| {
            let next_hops = best.next_hops.iter().map(|hop| hop.address);
            (best.peer, next_hops.collect::<Vec<_>>())
        };
        assert_eq!(best.as_ref().map(simple), expected, "best of {prefix}");
        let held = self.forwarding.get(&prefix);
        assert_eq!(held.map(simple), expected, "forwarding of {prefix}");
        self.check_explanation(prefix, best);
    }

    fn check_explanation(&mut self, prefix: Prefix, best: Option<Best>) {
        let paths = self.reference.paths.get(&prefix).cloned();
        let paths = paths.unwrap_or_default();
        let explained = self.rib.explain(prefix).map_or(vec![], |all| all.paths);
        assert_eq!(explained.len(), paths.len(), "paths of {prefix}");
        let is_best = |outcome: &Outcome| matches!(outcome, Outcome::Best(_));
        let outcomes: Vec<Outcome> = explained.iter().map(|path| path.outcome).collect();
        assert_eq!(
            outcomes.iter().filter(|o| is_best(o)).count(),
            usize::from(best.is_some())
        );
        if let Some(best) = best {
            assert_eq!(outcomes[0], Outcome::Best(best.reason));
        }
        for path in &explained {
            let id = (path.peer.map(|peer| peer.0), path.path_id);
            let known = paths.iter().find(|known| (known.peer, known.path_id) == id);
            let known = known.expect("a path that the model has");
            assert_eq!(path.received, known.fields.build().unwrap());
            let (counts, rule) = self.reference.imported(prefix, known);
            assert_eq!(path.rule.as_deref(), rule, "rule about {known:?}");
            if let Some(counts) = counts {
                assert_eq!(path.attributes, counts.build().unwrap());
            }
        }
        for peer in (0..PEERS).filter(|peer| self.receivers.contains_key(peer)) {
            let explained = self.rib.explain_export(PeerId(peer), prefix);
            let told = explained.and_then(|explained| explained.told.ok());
            let told = told.map(|told| (told.next_hop, told.attributes));
            assert_eq!(
                told,
                self.reference.told_of_best(peer, prefix),
                "to peer {peer}"
            );
        }
    }

    /// Ends everything: nothing may be left.
    fn tear_down(&mut self) {
        for peer in 0..PEERS {
            self.down(peer, &[]);
        }
        for prefix in self.prefixes.clone() {
            self.rib.originate(prefix, None).unwrap();
            self.reference.originate(prefix, None);
        }
        self.check();
        assert_eq!(self.rib.counts(), Counts::default());
        assert!(self.forwarding.is_empty());
    }
}

fn run(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        world.run(op);
    }
    world.check();
    world.tear_down();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_gives_what_the_model_gives(ops in ops()) {
        run(&ops);
    }

    #[test]
    fn counts_are_those_of_the_model_after_each_step(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check_counts();
        }
        world.tear_down();
    }

    #[test]
    fn delivery_in_pieces_gives_what_the_model_gives(ops in delivery_ops(&[0, 2, 4, 6])) {
        run(&ops);
    }

    #[test]
    fn paths_in_pieces_give_what_the_model_gives(ops in delivery_ops(&[0, 8, 9, 10, 11])) {
        run(&ops);
    }
}
