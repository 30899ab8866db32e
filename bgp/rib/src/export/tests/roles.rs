//! What roles have us add and keep back (RFC 9234 §5, RFC 3765).

use super::*;
use crate::Counts;
use crate::testing::Listener;

const UP: [Role; 3] = [Role::Customer, Role::Peer, Role::RouteServerClient];

/// An external peer to which we are this.
fn as_role(role: Role, number: u8) -> PeerSession {
    PeerSession {
        role: Some(role),
        ..session(PeerKind::Ebgp, number)
    }
}

fn otc(rib: &mut Rib, session: PeerSession) -> Option<Option<u32>> {
    told(rib, session, P).map(|(_, attributes)| attributes.only_to_customer)
}

/// RFC 9234 §5, egress 1: customers, peers and clients of a route server are told our AS in OTC.
#[test]
fn otc_is_added_on_the_way_down_and_sideways() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    let told = |rib: &mut Rib, role| otc(rib, as_role(role, 2));
    for role in [Role::Provider, Role::Peer, Role::RouteServer] {
        assert_eq!(told(&mut rib, role), Some(Some(OWN_AS)), "{role:?}");
    }
    for role in [Role::Customer, Role::RouteServerClient] {
        assert_eq!(told(&mut rib, role), Some(None), "{role:?}");
    }
    assert_eq!(otc(&mut rib, session(PeerKind::Ebgp, 2)), Some(None));
    let other = PeerSession {
        local_as: Some(64999),
        ..as_role(Role::Provider, 2)
    };
    assert_eq!(otc(&mut rib, other), Some(Some(64999)));
}

/// RFC 9234 §5, egress 1: prefixes of our own too.
#[test]
fn otc_is_added_to_own_prefixes() {
    let mut rib = Rib::new(config());
    rib.originate(prefix(P), Some(&LocalPath::default()))
        .unwrap();
    assert_eq!(
        otc(&mut rib, as_role(Role::Provider, 2)),
        Some(Some(OWN_AS))
    );
    assert_eq!(otc(&mut rib, as_role(Role::Customer, 2)), Some(None));
}

/// RFC 9234 §5, egress 2: what has OTC goes to customers only, and keeps it.
#[test]
fn paths_with_otc_do_not_go_up() {
    let sent = AttributesBuilder {
        only_to_customer: Some(64510),
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ibgp, &sent);
    for role in UP {
        rib.peer_up(PeerId(2), as_role(role, 2));
        let expected = Some(Withheld::OnlyToCustomer);
        assert_eq!(withheld(&mut rib, 2, P), expected, "{role:?}");
    }
    for role in [Role::Provider, Role::RouteServer] {
        assert_eq!(
            otc(&mut rib, as_role(role, 2)),
            Some(Some(64510)),
            "{role:?}"
        );
    }
}

/// RFC 9234 §5, ingress 3: what comes from above counts as marked with the AS it came from, for
/// the peers inside the AS too.
#[test]
fn otc_is_added_to_what_comes_from_above() {
    for role in UP {
        let mut rib = Rib::new(config());
        rib.peer_up(PeerId(1), as_role(role, 1));
        rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), VIA));
        let inside = session(PeerKind::Ibgp, 2);
        assert_eq!(otc(&mut rib, inside), Some(Some(64501)), "{role:?}");
        assert_eq!(otc(&mut rib, as_role(Role::Provider, 2)), Some(Some(64501)));
        assert_eq!(otc(&mut rib, as_role(Role::Customer, 2)), None);
        let path = rib.explain(prefix(P)).unwrap().paths.remove(0);
        assert_eq!(path.received.only_to_customer(), None);
        assert_eq!(path.attributes.only_to_customer(), Some(64501));
        // It is worked out, not held.
        let counts = Counts {
            prefixes_v4: 1,
            attribute_sets: 1,
            next_hops: 1,
            ..Counts::default()
        };
        assert_eq!(rib.counts(), counts);
    }
}

/// A role that changes is told at once, though nobody announced anything.
#[test]
fn another_role_changes_what_others_are_told() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    rib.peer_up(PeerId(2), session(PeerKind::Ibgp, 2));
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    rib.set_session(PeerId(1), as_role(Role::Customer, 1));
    listener.listen(&mut rib, PeerId(2));
    let otc = listener.held[&prefix(P)].1.only_to_customer();
    assert_eq!(otc, Some(64501));
}

/// RFC 9234 §3: inside an AS there are no roles.
#[test]
fn roles_of_internal_peers_do_not_count() {
    let sent = AttributesBuilder {
        only_to_customer: Some(64510),
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &sent);
    let internal = PeerSession {
        role: Some(Role::Customer),
        ..session(PeerKind::Ibgp, 2)
    };
    assert_eq!(otc(&mut rib, internal), Some(Some(64510)));
}

/// RFC 3765: not to lateral peers.
#[test]
fn no_peer_is_kept_from_lateral_peers() {
    let sent = AttributesBuilder {
        communities: vec![Community::NO_PEER],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ibgp, &sent);
    rib.peer_up(PeerId(2), as_role(Role::Peer, 2));
    assert_eq!(withheld(&mut rib, 2, P), Some(Withheld::NoPeer));
    for role in [Role::Provider, Role::Customer] {
        assert!(told(&mut rib, as_role(role, 3), P).is_some(), "{role:?}");
    }
    assert!(told(&mut rib, session(PeerKind::Ebgp, 3), P).is_some());
}
