use std::num::NonZeroU32;

use super::*;
use crate::testing::*;
use crate::{Outcome, PeerKind, PeerSession};

const V4: Family = Family::IPV4_UNICAST;
const PEER: PeerId = PeerId(1);
const A: &str = "10.0.0.0/24";
const B: &str = "10.0.1.0/24";
const C: &str = "10.0.2.0/24";

fn limited(limit: Option<u32>) -> PeerSession {
    PeerSession {
        max_prefixes: limit.and_then(NonZeroU32::new),
        ..session(PeerKind::Ebgp, 1)
    }
}

fn says(rib: &mut Rib, texts: &[&str]) {
    rib.update(PEER, &announce(texts, &fields(&[64501]), "172.16.0.1"));
}

fn used(rib: &mut Rib) -> Vec<String> {
    let mut used: Vec<_> = rib.routes().map(|(prefix, _)| prefix.to_string()).collect();
    used.sort();
    used
}

fn with_three(limit: Option<u32>) -> Rib {
    let mut rib = Rib::new(config());
    rib.peer_up(PEER, limited(limit));
    says(&mut rib, &[A, B, C]);
    rib
}

#[test]
fn the_surplus_is_held_and_not_used() {
    let mut rib = with_three(Some(2));
    assert_eq!(used(&mut rib), [A, B]);
    let paths = rib.explain(prefix(C)).unwrap().paths;
    let outcome = Outcome::Ineligible(Ineligible::MaxPrefixes);
    assert_eq!(paths[0].outcome, outcome);
    let counts = rib.peer_counts(PEER, V4);
    assert_eq!((counts.received, counts.accepted, counts.best), (3, 2, 2));
    assert_eq!(rib.received(PEER, V4), 3);
    // Each family has a limit of its own.
    rib.update(
        PEER,
        &announce(&["2001:db8::/32"], &fields(&[64501]), "fd00::1"),
    );
    assert_eq!(used(&mut rib).len(), 3);
}

#[test]
fn saying_it_again_does_not_help() {
    let mut rib = with_three(Some(2));
    says(&mut rib, &[C]);
    assert_eq!(used(&mut rib), [A, B]);
    says(&mut rib, &[B]);
    assert_eq!(used(&mut rib), [A, B]);
    assert!(!rib.has_room(PEER));
}

#[test]
fn room_is_given_to_what_is_held() {
    let mut rib = with_three(Some(2));
    rib.update(PEER, &withdraw(&[A]));
    assert!(rib.has_room(PEER));
    rib.refill(PEER);
    assert!(!rib.has_room(PEER));
    assert_eq!(used(&mut rib), [B, C]);
    rib.update(PEER, &withdraw(&[B, C]));
    assert_eq!(used(&mut rib).len(), 0);
    assert!(!rib.has_room(PEER));
}

#[test]
fn another_limit_counts_at_once() {
    let mut rib = with_three(Some(2));
    rib.set_session(PEER, limited(None));
    assert_eq!(used(&mut rib), [A, B, C]);
    rib.set_session(PEER, limited(Some(1)));
    assert_eq!(used(&mut rib).len(), 1);
    let counts = rib.peer_counts(PEER, V4);
    assert_eq!((counts.received, counts.accepted), (3, 1));
    // A change of something else leaves the surplus what it is.
    let other = PeerSession {
        allow_own_as: 1,
        ..limited(Some(1))
    };
    rib.set_session(PEER, other);
    assert_eq!(used(&mut rib).len(), 1);
}

/// The same numbers hold after a restart of the peer with fewer routes.
#[test]
fn stale_paths_count_until_they_are_swept() {
    let mut rib = with_three(Some(2));
    rib.peer_down(PEER, &[V4]);
    rib.long_lived(PEER, &[V4]);
    assert_eq!(used(&mut rib), [A, B]);
    rib.peer_up(PEER, limited(Some(2)));
    says(&mut rib, &[C]);
    assert_eq!(used(&mut rib), [A, B]);
    rib.end_of_rib(PEER, V4);
    rib.refill(PEER);
    assert_eq!(used(&mut rib), [C]);
}
