mod long_lived;

use super::*;
use crate::testing::*;
use crate::{Counts, PeerKind, Rib};

const P: &str = "203.0.113.0/24";
const Q: &str = "198.51.100.0/24";
const P6: &str = "2001:db8::/32";
const PEER: PeerId = PeerId(1);

fn rib_with_paths() -> Rib {
    let mut rib = Rib::new(config());
    rib.peer_up(PEER, session(PeerKind::Ebgp, 1));
    rib.update(PEER, &announce(&[P, Q], &fields(&[64501]), "172.16.0.1"));
    rib.update(PEER, &announce(&[P6], &fields(&[64501]), "fd00::1"));
    rib.best_changes(10);
    rib
}

fn has(rib: &mut Rib, text: &str) -> bool {
    rib.best(prefix(text)).is_some()
}

/// RFC 4724 §4.2: kept paths stay in use, and are swept at End-of-RIB if not repeated.
#[test]
fn paths_survive_a_restart_until_end_of_rib() {
    let mut rib = rib_with_paths();
    rib.peer_down(PEER, &[Family::IPV4_UNICAST]);
    assert!(has(&mut rib, P) && has(&mut rib, Q));
    assert!(!has(&mut rib, P6), "not retained");
    assert_eq!(rib.best_changes(10), [(prefix(P6), None)]);

    rib.peer_up(PEER, session(PeerKind::Ebgp, 1));
    rib.update(PEER, &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    assert!(rib.explain(prefix(Q)).unwrap().paths[0].is_stale);
    assert!(!rib.explain(prefix(P)).unwrap().paths[0].is_stale);
    rib.end_of_rib(PEER, Family::IPV4_UNICAST);
    assert!(has(&mut rib, P) && !has(&mut rib, Q));
    assert_eq!(rib.peer_counts(PEER, Family::IPV4_UNICAST).received, 1);
}

/// Repeating a stale path changes nothing for anybody else.
#[test]
fn a_repeated_path_is_no_change() {
    let mut rib = rib_with_paths();
    rib.peer_up(PeerId(2), session(PeerKind::Ebgp, 2));
    let mut other = Listener::default();
    other.listen(&mut rib, PeerId(2));
    rib.peer_down(PEER, &[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    rib.peer_up(PEER, session(PeerKind::Ebgp, 1));
    let held = other.held.clone();
    rib.update(PEER, &announce(&[P, Q], &fields(&[64501]), "172.16.0.1"));
    assert_eq!(other.listen(&mut rib, PeerId(2)), 0);
    assert!(rib.best_changes(10).is_empty());
    assert_eq!(other.held, held);
}

/// The peer dies again before it has repeated everything: it forwards all the while, and the timer
/// of the caller, which runs on from the first loss, ends it (not so RFC 4724 §4.2).
#[test]
fn a_second_restart_loses_nothing() {
    let both = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    let mut rib = rib_with_paths();
    rib.peer_down(PEER, &both);
    rib.peer_up(PEER, session(PeerKind::Ebgp, 1));
    rib.update(PEER, &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    rib.peer_down(PEER, &both);
    assert!(has(&mut rib, P) && has(&mut rib, Q) && has(&mut rib, P6));
    for text in [P, Q, P6] {
        assert!(rib.explain(prefix(text)).unwrap().paths[0].is_stale);
    }
    rib.sweep_stale(PEER, Family::IPV4_UNICAST);
    assert!(!has(&mut rib, P) && !has(&mut rib, Q) && has(&mut rib, P6));
}

#[test]
fn the_restart_timer_ends_everything() {
    let mut rib = rib_with_paths();
    rib.peer_down(PEER, &[Family::IPV4_UNICAST]);
    rib.sweep_stale(PEER, Family::IPV4_UNICAST);
    assert!(!has(&mut rib, P));
    while !rib.best_changes(10).is_empty() {}
    assert_eq!(rib.counts(), Counts::default());
}

/// RFC 7313 §4: between the marks of a refresh, what is not repeated goes.
#[test]
fn enhanced_refresh_sweeps_what_is_not_repeated() {
    let mut rib = rib_with_paths();
    rib.mark_stale(PEER, Family::IPV4_UNICAST);
    rib.update(PEER, &announce(&[Q], &fields(&[64501]), "172.16.0.1"));
    rib.sweep_stale(PEER, Family::IPV4_UNICAST);
    assert!(!has(&mut rib, P) && has(&mut rib, Q) && has(&mut rib, P6));
}

/// RFC 7313 §4.2 bounds the wait for the end mark; without it nothing was repeated in vain.
#[test]
fn a_refresh_without_end_changes_nothing() {
    let mut rib = rib_with_paths();
    rib.mark_stale(PEER, Family::IPV4_UNICAST);
    rib.unmark_stale(PEER, Family::IPV4_UNICAST);
    rib.sweep_stale(PEER, Family::IPV4_UNICAST);
    assert!(has(&mut rib, P) && has(&mut rib, Q));
}

/// RFC 4456 §8: reflected paths name the peer's identifier, which may be another after a restart.
#[test]
fn another_identifier_after_a_restart_is_told() {
    let mut rib = Rib::new(config());
    rib.peer_up(PEER, session(PeerKind::IbgpClient, 1));
    rib.update(PEER, &announce(&[P], &fields(&[]), "172.16.0.1"));
    rib.peer_up(PeerId(2), session(PeerKind::IbgpClient, 2));
    let mut other = Listener::default();
    other.listen(&mut rib, PeerId(2));
    rib.peer_down(PEER, &[Family::IPV4_UNICAST]);
    let mut renumbered = session(PeerKind::IbgpClient, 1);
    renumbered.remote_router_id = [172, 16, 0, 9].into();
    rib.peer_up(PEER, renumbered);
    other.listen(&mut rib, PeerId(2));
    let (_, attributes) = &other.held[&prefix(P)];
    assert_eq!(attributes.originator_id(), Some([172, 16, 0, 9].into()));
}
