//! How many prefixes a peer may send: the surplus is held and not used.
//!
//! Which paths are surplus depends on the order in which they came, not on what they are. Held
//! they are because the peer will not say them again when there is room.

use bgp_wire::{Family, Prefix};

use super::Rib;
use crate::attrs::Attrs;
use crate::import::Importer;
use crate::key::{FamilyIndex, Key};
use crate::loc_rib::{Change, LocRib};
use crate::path::{Ineligible, Path, PeerId};
use crate::peer::Shared;

impl Rib {
    /// How many prefixes of a family are held from a peer, where it sends path identifiers
    /// (RFC 7911) how many paths. Unlike [`Rib::peer_counts`] this decides nothing.
    #[must_use]
    pub fn received(&self, peer: PeerId, family: Family) -> usize {
        let held = match FamilyIndex::of(family) {
            Some(FamilyIndex::V4) => &self.tables.v4.held,
            Some(FamilyIndex::V6) => &self.tables.v6.held,
            None => return 0,
        };
        held.of(peer).received
    }

    /// Whether paths of a peer are not used for its limit although there is room for them, as
    /// others were withdrawn.
    #[must_use]
    pub fn has_room(&self, peer: PeerId) -> bool {
        let Some(known) = self.shared.peer(peer) else {
            return false;
        };
        let limit = known.session.prefix_limit();
        let held = [&self.tables.v4.held, &self.tables.v6.held];
        held.into_iter()
            .any(|held| held.surplus(peer) > 0 && held.within_limit(peer) < limit)
    }

    /// Has as many paths of a peer used as it may send. Walks the table if there is anything to be
    /// changed.
    pub fn refill(&mut self, peer: PeerId) {
        let Self { shared, tables, .. } = self;
        refill(shared, &mut tables.v4, peer);
        refill(shared, &mut tables.v6, peer);
    }
}

fn refill<K: Key>(shared: &mut Shared, table: &mut LocRib<K>, peer: PeerId) {
    let Shared {
        config,
        peers,
        attrs,
    } = shared;
    let Some(known) = peers.get(peer) else {
        return;
    };
    let limit = known.session.prefix_limit();
    let mut within = table.held.within_limit(peer);
    let has_room = within < limit && table.held.surplus(peer) > 0;
    if within <= limit && !has_room {
        return;
    }
    let mut importer = Importer::new(config, &known.session);
    let change = |attrs: &mut Attrs, key: K, path: &mut Path| {
        if path.is_surplus() && within < limit {
            within += 1;
            let prefix: Prefix = key.into();
            let old = path.attrs;
            let received = attrs.received(old);
            (path.attrs, path.refused) = importer.judge(attrs, prefix, received);
            attrs.release(old);
            return Change::Wording;
        }
        if !path.is_surplus() && within > limit {
            within -= 1;
            path.refused = Some(Ineligible::MaxPrefixes);
            return Change::Ranking;
        }
        Change::None
    };
    table.change_paths(attrs, peer, change);
}

#[cfg(test)]
mod tests;
