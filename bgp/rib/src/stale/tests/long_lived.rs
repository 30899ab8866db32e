//! Paths of a peer whose restart time is over (RFC 9494).

use bgp_wire::{Community, Family};

use super::*;
use crate::{ExplainedPath, LongLived, Outcome, PeerSession, Reason, Withheld};

const V4: [Family; 1] = [Family::IPV4_UNICAST];
const OTHER: PeerId = PeerId(2);
const READER: PeerId = PeerId(3);

/// The peer is away for longer than its restart time.
fn away_for_long(rib: &mut Rib) {
    rib.peer_down(PEER, &V4);
    rib.long_lived(PEER, &V4);
}

fn reads(kind: PeerKind, long_lived: LongLived) -> PeerSession {
    PeerSession {
        long_lived,
        ..session(kind, 3)
    }
}

fn path_of(rib: &mut Rib, text: &str, peer: PeerId) -> ExplainedPath {
    let paths = rib.explain(prefix(text)).unwrap().paths;
    let mut paths = paths.into_iter();
    paths.find(|path| path.peer == Some(peer)).unwrap()
}

/// §4.2: retained, and the community is attached.
#[test]
fn they_stay_in_use_while_there_is_nothing_else() {
    let mut rib = rib_with_paths();
    away_for_long(&mut rib);
    assert!(has(&mut rib, P) && has(&mut rib, Q));
    let path = path_of(&mut rib, P, PEER);
    assert!(path.is_stale);
    let communities: Vec<_> = path.attributes.communities().collect();
    assert_eq!(communities, [Community::LLGR_STALE]);
    assert_eq!(rib.counts().attribute_sets, 1, "shared by both");
    rib.sweep_stale(PEER, Family::IPV4_UNICAST);
    while !rib.best_changes(10).is_empty() {}
    assert_eq!(rib.counts(), Counts::default());
}

/// §4.3: least preferred, whatever else speaks for it.
#[test]
fn every_other_path_is_better() {
    let mut rib = rib_with_paths();
    rib.peer_up(OTHER, session(PeerKind::Ebgp, 2));
    let long = fields(&[64502, 64510, 64511, 64512]);
    rib.update(OTHER, &announce(&[P], &long, "172.16.0.2"));
    assert_eq!(rib.best(prefix(P)).unwrap().peer, Some(PEER));
    away_for_long(&mut rib);
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!((best.peer, best.reason), (Some(OTHER), Reason::LongLived));
    let lost = Outcome::Lost(Reason::LongLived);
    assert_eq!(path_of(&mut rib, P, PEER).outcome, lost);

    // The peer is back and says it again.
    rib.peer_up(PEER, session(PeerKind::Ebgp, 1));
    rib.update(PEER, &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    rib.end_of_rib(PEER, Family::IPV4_UNICAST);
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!((best.peer, best.reason), (Some(PEER), Reason::AsPathLength));
    assert!(!has(&mut rib, Q), "not repeated");
}

/// §4.2: NO_LLGR asks for it.
#[test]
fn paths_that_shall_not_stay_so_long_go() {
    let mut rib = rib_with_paths();
    let mut short = fields(&[64501]);
    short.communities = vec![Community::NO_LLGR];
    rib.update(PEER, &announce(&[Q], &short, "172.16.0.1"));
    away_for_long(&mut rib);
    assert!(has(&mut rib, P) && !has(&mut rib, Q));
}

/// §4.3: told on with the community, and only to those who know it.
#[test]
fn who_does_not_know_of_them_loses_them() {
    let mut rib = rib_with_paths();
    rib.peer_up(READER, reads(PeerKind::Ebgp, LongLived::Told));
    rib.peer_up(PeerId(4), session(PeerKind::Ebgp, 4));
    let (mut reader, mut plain) = (Listener::default(), Listener::default());
    reader.listen(&mut rib, READER);
    plain.listen(&mut rib, PeerId(4));
    assert_eq!(plain.prefixes(), [Q, P, P6]);
    rib.peer_down(PEER, &V4);
    reader.listen(&mut rib, READER);
    assert_eq!(plain.listen(&mut rib, PeerId(4)), 1);
    assert_eq!(plain.prefixes(), [Q, P], "kept within the restart time");

    rib.long_lived(PEER, &V4);
    reader.listen(&mut rib, READER);
    plain.listen(&mut rib, PeerId(4));
    assert!(plain.held.is_empty());
    let explained = rib.explain_export(PeerId(4), prefix(P)).unwrap();
    assert_eq!(explained.told, Err(Withheld::LongLived));
    let (_, attributes) = &reader.held[&prefix(P)];
    let communities: Vec<_> = attributes.communities().collect();
    assert_eq!(communities, [Community::LLGR_STALE]);
}

/// §4.6: inside the AS, so that nobody there forwards in a circle.
#[test]
fn internal_peers_may_be_told_with_the_lowest_preference() {
    let mut rib = rib_with_paths();
    away_for_long(&mut rib);
    let internal = reads(PeerKind::Ibgp, LongLived::LeastPreferred);
    let (_, mut told) = told(&mut rib, internal, P).unwrap();
    told.communities.sort_unstable();
    assert_eq!(told.local_pref, Some(0));
    assert_eq!(
        told.communities,
        [Community::LLGR_STALE, Community::NO_EXPORT]
    );
    let external = reads(PeerKind::Ebgp, LongLived::LeastPreferred);
    assert_eq!(crate::testing::told(&mut rib, external, P), None);
    let unaware = reads(PeerKind::Ibgp, LongLived::Withheld);
    assert_eq!(crate::testing::told(&mut rib, unaware, P), None);
}

/// §4.3: the mark of another router counts, from a peer that was told so.
#[test]
fn the_mark_of_a_peer_counts_if_it_was_agreed() {
    for (offered, best) in [(true, OTHER), (false, PEER)] {
        let mut rib = Rib::new(config());
        let mut first = session(PeerKind::Ebgp, 1);
        first.long_lived_offered = offered;
        rib.peer_up(PEER, first);
        rib.peer_up(OTHER, session(PeerKind::Ebgp, 2));
        let mut marked = fields(&[64501]);
        marked.communities = vec![Community::LLGR_STALE];
        rib.update(PEER, &announce(&[P], &marked, "172.16.0.1"));
        let long = fields(&[64502, 64510]);
        rib.update(OTHER, &announce(&[P], &long, "172.16.0.2"));
        assert_eq!(rib.best(prefix(P)).unwrap().peer, Some(best), "{offered}");
    }
}
