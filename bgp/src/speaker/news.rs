//! What the outside has not been told yet.
//!
//! Changes of routes wait in the RIB, once per prefix; of peers only the newest state is told. So
//! an outside that takes no news costs no memory.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp_rib::{Best, PeerId, Rib};
use bgp_wire::Prefix;

use crate::config::PeerKey;
use crate::event::Event;
use crate::speaker::Owner;

/// Prefixes per event.
const BATCH: usize = 1024;

/// What there is to tell.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Best paths may have changed.
    routes: bool,
    peers: BTreeSet<PeerId>,
    gone: BTreeSet<PeerKey>,
    converged: bool,
    /// Prefixes that a RIB which is no more may have told.
    orphans: BTreeSet<Prefix>,
}

impl News {
    pub(super) fn routes(&mut self) {
        self.routes = true;
    }

    pub(super) fn peer(&mut self, peer: PeerId) {
        self.peers.insert(peer);
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
                return Some(Event::Peer(Box::new(info)));
            }
        }
        if self.news.routes {
            let changes = self.best_changes();
            if !changes.is_empty() {
                return Some(Event::Best(changes));
            }
            self.news.routes = false;
        }
        let converged = std::mem::take(&mut self.news.converged);
        converged.then_some(Event::Converged)
    }

    fn best_changes(&mut self) -> Vec<(Prefix, Option<Vec<IpAddr>>)> {
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
        let learned = |best: Best| best.peer.map(|_| best.next_hops);
        let told = changes
            .into_iter()
            .map(|(prefix, best)| (prefix, best.and_then(learned)));
        told.collect()
    }
}
