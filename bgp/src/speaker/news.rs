//! What the outside has not been told yet.
//!
//! Changes of routes wait in the RIB, once per prefix; of peers only the newest state is told. So
//! an outside that takes no news costs no memory. Numbers of routes are looked at now and then
//! while routes change, as they would change with every report.

use std::collections::BTreeSet;
use std::time::Duration;

use bgp_rib::{Best, Hop, PeerId, Rib};
use bgp_wire::Prefix;
use tokio::time::Instant;

use crate::config::PeerKey;
use crate::event::{Event, NextHop};
use crate::speaker::Owner;

/// Prefixes per event.
const BATCH: usize = 1024;

/// From a change of routes to a look at the numbers of all peers.
const COUNTS: Duration = Duration::from_secs(1);

/// What there is to tell.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Best paths may have changed.
    routes: bool,
    peers: BTreeSet<PeerId>,
    /// When the numbers of routes are to be looked at.
    count_at: Option<Instant>,
    gone: BTreeSet<PeerKey>,
    converged: bool,
    /// Prefixes that a RIB which is no more may have told.
    orphans: BTreeSet<Prefix>,
}

impl News {
    pub(super) fn routes(&mut self) {
        self.routes = true;
        self.count_at.get_or_insert_with(|| Instant::now() + COUNTS);
    }

    pub(super) fn peer(&mut self, peer: PeerId) {
        self.peers.insert(peer);
    }

    /// When to look at the numbers of routes.
    pub(super) fn count_at(&self) -> Option<Instant> {
        self.count_at
    }

    pub(super) fn peer_gone(&mut self, key: PeerKey) {
        self.gone.insert(key);
    }

    pub(super) fn converged(&mut self) {
        self.converged = true;
    }

    /// A RIB is about to go: what it told is asked of the next one.
    pub(super) fn orphan(&mut self, rib: &mut Rib) {
        loop {
            let untold = rib.best_changes(BATCH);
            if untold.is_empty() {
                break;
            }
            self.orphans
                .extend(untold.into_iter().map(|(prefix, _)| prefix));
        }
        self.orphans.extend(rib.routes().map(|(prefix, _)| prefix));
        self.routes = true;
    }
}

impl Owner {
    pub(super) fn has_news(&self) -> bool {
        let news = &self.news;
        news.routes || news.converged || !news.peers.is_empty() || !news.gone.is_empty()
    }

    /// Tells of the peers whose numbers of routes are no longer those that were told.
    pub(super) fn count(&mut self, now: Instant) {
        if self.news.count_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        for id in self.peers.values().copied().collect::<Vec<_>>() {
            self.use_room(id);
            let counts = self.peer_counts(id);
            if self.task(id).is_some_and(|task| task.told != counts) {
                self.news.peer(id);
            }
        }
    }

    /// The next thing to tell: peers first, they are few; convergence last, after its routes.
    pub(super) fn next_news(&mut self) -> Option<Event> {
        if let Some(key) = self.news.gone.pop_first() {
            // A peer of this name may be there again.
            if !self.peers.contains_key(&key) {
                return Some(Event::PeerGone(key));
            }
        }
        while let Some(id) = self.news.peers.pop_first() {
            if let Some(info) = self.peer_info(id) {
                if let Some(task) = self.task(id) {
                    task.told.clone_from(&info.counts);
                }
                return Some(Event::Peer(Box::new(info)));
            }
        }
        if self.news.routes && self.options.best_paths {
            // Before the routes, so that how they are reached is asked early.
            let next_hops = self.next_hop_changes();
            if !next_hops.is_empty() {
                return Some(Event::NextHops(next_hops));
            }
            let changes = self.best_changes();
            if !changes.is_empty() {
                return Some(Event::Best(changes));
            }
        }
        self.news.routes = false;
        let converged = std::mem::take(&mut self.news.converged);
        converged.then_some(Event::Converged)
    }

    fn best_changes(&mut self) -> Vec<(Prefix, Option<Vec<NextHop>>)> {
        let mut changes = Vec::new();
        while changes.len() < BATCH
            && let Some(prefix) = self.news.orphans.pop_first()
        {
            let best = self.rib.best(prefix);
            changes.push((prefix, best));
        }
        if changes.is_empty() {
            changes = self.rib.best_changes(BATCH);
        }
        let learned = |best: Best| {
            let next_hops = best.next_hops.into_iter();
            best.peer
                .map(|_| next_hops.map(|hop| self.next_hop(hop)).collect())
        };
        let told = changes
            .into_iter()
            .map(|(prefix, best)| (prefix, best.and_then(learned)));
        told.collect()
    }

    pub(super) fn next_hop(&self, hop: Hop) -> NextHop {
        let interface = hop.link.and_then(|number| self.links.get(number as usize));
        NextHop {
            address: hop.address,
            interface: interface.cloned(),
        }
    }
}
