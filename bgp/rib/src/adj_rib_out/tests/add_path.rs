//! Several paths to a prefix for one peer (RFC 7911).

use std::num::NonZeroU8;

use bgp_wire::{Community, Family};

use super::*;
use crate::{ExplainedExport, PeerSession, Withheld};

/// Peers 1 to 3 announce, internal ones, so that their next hops tell them apart.
const FEEDERS: [u8; 3] = [1, 2, 3];
/// These are told all paths of IPv4.
const LISTENER: PeerId = PeerId(4);
const OTHER: PeerId = PeerId(5);

fn told_paths(kind: PeerKind, number: u8, limit: Option<u8>) -> PeerSession {
    let mut session = session(kind, number);
    session.params.families[0].add_path_send = true;
    session.add_path_limit = limit.and_then(NonZeroU8::new);
    session
}

fn rib_with(limit: Option<u8>) -> Rib {
    let mut rib = Rib::new(config());
    for number in FEEDERS {
        let peer = PeerId(number.into());
        rib.peer_up(peer, session(PeerKind::IbgpClient, number));
    }
    rib.peer_up(LISTENER, told_paths(PeerKind::IbgpClient, 4, limit));
    rib
}

/// A longer AS path is worse.
fn says(rib: &mut Rib, number: u8, text: &str, hops: usize) {
    let path = fields(&vec![64700; hops]);
    let via = format!("172.16.0.{number}");
    rib.update(PeerId(number.into()), &announce(&[text], &path, &via));
}

fn unsays(rib: &mut Rib, number: u8, text: &str) {
    rib.update(PeerId(number.into()), &withdraw(&[text]));
}

/// Identifier and last octet of the next hop of each path.
fn paths(listener: &Listener) -> Vec<(u32, String)> {
    let paths = listener.paths.iter();
    let last = |next_hop: std::net::IpAddr| next_hop.to_string().replace("172.16.0.", "");
    paths
        .map(|(route, via)| (route.path_id, last(*via)))
        .collect()
}

/// What came since the last look: announced and withdrawn identifiers, in order.
fn news(listener: &mut Listener, rib: &mut Rib, peer: PeerId) -> (Vec<u32>, Vec<u32>) {
    let seen = listener.messages.len();
    listener.listen(rib, peer);
    let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
    for message in &listener.messages[seen..] {
        let Message::Update(update) = message else {
            continue;
        };
        let reach = update.reach.iter().flat_map(|reach| &reach.nlri);
        announced.extend(reach.map(|route| route.path_id));
        let unreach = update.unreach.iter().flat_map(|unreach| &unreach.nlri);
        withdrawn.extend(unreach.map(|route| route.path_id));
    }
    (announced, withdrawn)
}

#[test]
fn every_path_is_told_with_an_identifier_of_its_own() {
    let mut rib = rib_with(None);
    let mut listener = Listener::default();
    says(&mut rib, 1, P, 3);
    says(&mut rib, 2, P, 2);
    says(&mut rib, 3, P, 1);
    listener.listen(&mut rib, LISTENER);
    let told = |id, via: &str| (id, via.to_owned());
    let expected = [told(1, "1"), told(2, "2"), told(3, "3")];
    assert_eq!(paths(&listener), expected);
    let counts = rib.peer_counts(LISTENER, Family::IPV4_UNICAST);
    assert_eq!(counts.advertised, 3);

    // Who comes later is told the same under the same names.
    rib.peer_up(OTHER, told_paths(PeerKind::IbgpClient, 5, None));
    let mut late = Listener::default();
    late.listen(&mut rib, OTHER);
    assert_eq!(paths(&late), expected);
}

#[test]
fn only_what_changed_is_told() {
    let mut rib = rib_with(None);
    let mut listener = Listener::default();
    says(&mut rib, 1, P, 3);
    says(&mut rib, 2, P, 2);
    listener.listen(&mut rib, LISTENER);

    // Another best path is no news as such: the others keep their identifiers.
    says(&mut rib, 3, P, 1);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![3], vec![]));
    says(&mut rib, 1, P, 4);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![1], vec![]));
    says(&mut rib, 1, P, 4);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![], vec![]));
    unsays(&mut rib, 2, P);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![], vec![2]));
    says(&mut rib, 2, P, 2);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![4], vec![]));
}

/// One set of attributes goes and comes back within a burst while another takes its number.
#[test]
fn a_path_that_changed_twice_in_a_burst_is_told() {
    let mut rib = rib_with(None);
    let mut listener = Listener::default();
    says(&mut rib, 1, P, 1);
    listener.listen(&mut rib, LISTENER);
    says(&mut rib, 1, P, 2);
    says(&mut rib, 1, P, 3);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![1], vec![]));
    assert_eq!(listener.held[&prefix(P)].1.hops(), 3);
}

#[test]
fn no_path_goes_back_to_its_source() {
    let mut rib = rib_with(None);
    rib.peer_up(OTHER, told_paths(PeerKind::IbgpClient, 5, None));
    says(&mut rib, 1, P, 1);
    says(&mut rib, 4, P, 1);
    let (mut listener, mut other) = (Listener::default(), Listener::default());
    listener.listen(&mut rib, LISTENER);
    other.listen(&mut rib, OTHER);
    assert_eq!(paths(&listener), [(1, "1".to_owned())]);
    assert_eq!(paths(&other).len(), 2);
    let counts = rib.peer_counts(LISTENER, Family::IPV4_UNICAST);
    assert_eq!(counts.advertised, 1);
}

/// The path that moves up is told before the one that made room goes.
#[test]
fn the_best_ones_up_to_the_limit_are_told() {
    let mut rib = rib_with(Some(2));
    let mut listener = Listener::default();
    says(&mut rib, 1, P, 3);
    says(&mut rib, 2, P, 2);
    assert_eq!(
        news(&mut listener, &mut rib, LISTENER),
        (vec![1, 2], vec![])
    );
    says(&mut rib, 3, P, 1);
    let before = listener.messages.len();
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![3], vec![1]));
    let Message::Update(first) = &listener.messages[before] else {
        panic!("no update");
    };
    assert!(first.unreach.is_empty());
    let explained = rib.explain_exports(LISTENER, prefix(P)).into_iter();
    let told = |path: ExplainedExport| (path.from.unwrap().0, path.told.map(|told| told.path_id));
    let mut explained: Vec<_> = explained.map(told).collect();
    explained.sort_unstable_by_key(|(from, _)| *from);
    let beyond = Err(Withheld::BeyondLimit);
    assert_eq!(explained, [(1, beyond), (2, Ok(2)), (3, Ok(3))]);

    unsays(&mut rib, 2, P);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![1], vec![2]));

    rib.set_session(LISTENER, told_paths(PeerKind::IbgpClient, 4, Some(1)));
    let (_, withdrawn) = news(&mut listener, &mut rib, LISTENER);
    assert_eq!(withdrawn, [1]);
    assert_eq!(paths(&listener), [(3, "3".to_owned())]);
    rib.set_session(LISTENER, told_paths(PeerKind::IbgpClient, 4, None));
    listener.listen(&mut rib, LISTENER);
    assert_eq!(paths(&listener).len(), 2);
}

/// RFC 4456 §6 and RFC 1997 hold for each path, not for the best one only.
#[test]
fn a_path_that_may_not_be_told_hides_no_other() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(PeerKind::Ibgp, 1));
    rib.peer_up(PeerId(2), session(PeerKind::IbgpClient, 2));
    rib.peer_up(PeerId(3), session(PeerKind::IbgpClient, 3));
    rib.peer_up(LISTENER, told_paths(PeerKind::Ibgp, 4, Some(1)));
    says(&mut rib, 1, P, 1);
    let mut bound = fields(&[64700, 64700]);
    bound.communities = vec![Community::NO_ADVERTISE];
    rib.update(PeerId(2), &announce(&[P], &bound, "172.16.0.2"));
    says(&mut rib, 3, P, 3);
    let mut listener = Listener::default();
    listener.listen(&mut rib, LISTENER);
    assert_eq!(paths(&listener), [(3, "3".to_owned())]);
}

#[test]
fn members_told_the_same_paths_share_the_octets() {
    let mut rib = rib_with(Some(2));
    rib.peer_up(OTHER, told_paths(PeerKind::IbgpClient, 5, Some(2)));
    rib.peer_up(PeerId(6), told_paths(PeerKind::IbgpClient, 6, Some(3)));
    for peer in [LISTENER, OTHER, PeerId(6)] {
        Listener::default().listen(&mut rib, peer);
    }
    says(&mut rib, 1, P, 1);
    says(&mut rib, 2, P, 1);
    let [a, b, c] = [LISTENER, OTHER, PeerId(6)].map(|peer| rib.next_messages(peer, 4096));
    assert_eq!(a[0].as_ptr(), b[0].as_ptr());
    assert_ne!(a[0].as_ptr(), c[0].as_ptr());
}

/// What a slow peer missed is told path by path, the end of a path too.
#[test]
fn a_slow_peer_hears_of_each_path() {
    let mut rib = Rib::new(RibConfig {
        backlog_octets: 300,
        ..config()
    });
    for number in FEEDERS {
        let peer = PeerId(number.into());
        rib.peer_up(peer, session(PeerKind::IbgpClient, number));
    }
    rib.peer_up(LISTENER, told_paths(PeerKind::IbgpClient, 4, None));
    let mut listener = Listener::default();
    for number in FEEDERS {
        says(&mut rib, number, P, 1);
    }
    listener.listen(&mut rib, LISTENER);
    for round in 0..20 {
        says(&mut rib, 1, P, 2 + round);
        assert!(rib.has_pending(LISTENER));
    }
    unsays(&mut rib, 2, P);
    assert_eq!(news(&mut listener, &mut rib, LISTENER), (vec![1], vec![2]));
}
