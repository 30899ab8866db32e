//! Sessions on which we are another AS than on the rest.

use super::*;

const OTHER_AS: u32 = 64999;

fn as_other(kind: PeerKind, number: u8) -> PeerSession {
    PeerSession {
        local_as: Some(OTHER_AS),
        ..session(kind, number)
    }
}

/// RFC 4271 §5.1.2, with the AS that the peer knows us by and no other.
#[test]
fn the_peer_sees_the_as_of_its_session_only() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    let two = PeerSession {
        prepend: 1,
        ..as_other(PeerKind::Ebgp, 2)
    };
    let (_, attributes) = told(&mut rib, two, P).unwrap();
    let expected = AsPath::sequence(&[OTHER_AS, OTHER_AS, 64501]);
    assert_eq!(attributes.as_path, expected);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 3), P).unwrap();
    assert_eq!(attributes.as_path, AsPath::sequence(&[OWN_AS, 64501]));
}

/// RFC 4456 §6 is about one AS: from one to the other a path passes as between ASes.
#[test]
fn internal_sessions_of_two_ases_are_not_inside_one() {
    let sent = AttributesBuilder {
        med: Some(5),
        local_pref: Some(200),
        originator_id: Some(Ipv4Addr::new(172, 16, 0, 9)),
        cluster_list: vec![Ipv4Addr::new(172, 16, 0, 8)],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ibgp, &sent);
    assert_eq!(told(&mut rib, session(PeerKind::Ibgp, 2), P), None);
    let (next_hop, attributes) = told(&mut rib, as_other(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(next_hop, address(VIA));
    let expected = AttributesBuilder {
        local_pref: Some(200),
        ..fields(&[OWN_AS, 64501])
    };
    assert_eq!(attributes, expected);
}

#[test]
fn no_export_keeps_a_path_in_the_as_of_its_session() {
    let sent = AttributesBuilder {
        communities: vec![Community::NO_EXPORT],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::IbgpClient, &sent);
    assert!(told(&mut rib, session(PeerKind::Ibgp, 2), P).is_some());
    assert_eq!(told(&mut rib, as_other(PeerKind::Ibgp, 2), P), None);
}

/// Two sessions of the same other AS are inside it.
#[test]
fn reflection_works_inside_the_other_as() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), as_other(PeerKind::IbgpClient, 1));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), VIA));
    let (_, attributes) = told(&mut rib, as_other(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(attributes.as_path, AsPath::sequence(&[64501]));
    assert_eq!(attributes.cluster_list, [config().router_id]);
}
