//! In which parts of the table a peer may have paths.
//!
//! A peer that goes takes a walk over all of its paths, and no index of them is kept per peer:
//! that would cost more than the paths. Instead each part of the table has a set of the peers that
//! have paths in it, small and therefore wrong at times: it may name a peer that has none, never
//! leave one out.

use super::PrefixId;
use crate::path::PeerId;

/// Prefixes per part. Large enough for a set to cost next to nothing per prefix, small enough for
/// the walk of a peer with few paths to be short.
const PART: usize = 256;

/// Peers in so many groups, by their number.
const GROUPS: usize = 256;

/// A set of groups of peers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peers([u64; GROUPS / 64]);

impl Peers {
    pub(crate) fn add(&mut self, peer: PeerId) {
        let (word, bit) = place(peer);
        self.0[word] |= bit;
    }

    fn may_have(&self, peer: PeerId) -> bool {
        let (word, bit) = place(peer);
        self.0[word] & bit != 0
    }
}

fn place(peer: PeerId) -> (usize, u64) {
    let group = peer.0 as usize % GROUPS;
    (group / 64, 1 << (group % 64))
}

/// The sets of all parts.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Peers>);

impl Sources {
    /// A prefix has a path of a peer from now on.
    pub(crate) fn add(&mut self, id: PrefixId, peer: PeerId) {
        let part = id as usize / PART;
        if self.0.len() <= part {
            self.0.resize(part + 1, Peers::default());
        }
        self.0[part].add(peer);
    }

    /// The next part from `part` on in which a peer may have paths.
    pub(crate) fn next(&self, part: usize, peer: PeerId) -> Option<usize> {
        let rest = self.0.get(part..)?;
        let next = rest.iter().position(|peers| peers.may_have(peer))?;
        Some(part + next)
    }

    /// The ids of the prefixes of a part, used or not.
    pub(crate) fn ids(part: usize) -> std::ops::Range<PrefixId> {
        (part * PART) as PrefixId..((part + 1) * PART) as PrefixId
    }

    /// Replaces what is known of a part: just these peers have paths in it.
    pub(crate) fn set(&mut self, part: usize, peers: Peers) {
        self.0[part] = peers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sources: &Sources, peer: PeerId) -> Vec<usize> {
        let next = |part: &usize| sources.next(part + 1, peer);
        std::iter::successors(sources.next(0, peer), next).collect()
    }

    #[test]
    fn a_peer_is_found_in_every_part_where_it_has_paths() {
        let mut sources = Sources::default();
        let (one, other) = (PeerId(3), PeerId(70));
        for id in [0, 255, 256, 5000] {
            sources.add(id, one);
        }
        sources.add(300, other);
        sources.add(301, PeerId::LOCAL);
        assert_eq!(vec![0, 1, 19], parts(&sources, one));
        assert_eq!(vec![1], parts(&sources, other));
        assert_eq!(256..512, Sources::ids(1));
    }

    #[test]
    fn a_part_that_was_walked_names_only_who_is_left() {
        let mut sources = Sources::default();
        sources.add(10, PeerId(1));
        sources.add(10, PeerId(2));
        let mut left = Peers::default();
        left.add(PeerId(2));
        sources.set(0, left);
        assert!(parts(&sources, PeerId(1)).is_empty());
        assert_eq!(vec![0], parts(&sources, PeerId(2)));
    }

    #[test]
    fn peers_that_share_a_group_are_taken_for_each_other() {
        let mut sources = Sources::default();
        sources.add(10, PeerId(1));
        assert_eq!(vec![0], parts(&sources, PeerId(1 + GROUPS as u32)));
    }
}
