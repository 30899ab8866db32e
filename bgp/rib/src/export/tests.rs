mod changes;
mod leaving;
mod link;
mod local_as;
mod roles;

use super::*;
use crate::testing::*;
use crate::{Change, LocalPath, Rib, Rule, Verdict};
use bgp_wire::attribute::{AttributeType, LargeCommunity, UnknownAttribute};
use bgp_wire::{AsPath, AttributesBuilder, Community};
use std::net::IpAddr;

const P: &str = "203.0.113.0/24";
const VIA: &str = "172.16.0.1";

/// A RIB in which peer 1 of this kind announced one prefix.
fn learned_from(kind: PeerKind, fields: &AttributesBuilder) -> Rib {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(kind, 1));
    rib.update(PeerId(1), &announce(&[P], fields, VIA));
    rib
}

/// Why a peer that is up is not told the best path.
fn withheld(rib: &mut Rib, peer: u32, text: &str) -> Option<Withheld> {
    let explained = rib.explain_export(PeerId(peer), prefix(text));
    explained?.told.err()
}

/// A policy of this rule, which matches everything, and acceptance.
fn policy(changes: &[Change], verdict: Verdict) -> Arc<Policy> {
    let rule = Rule {
        changes: changes.to_vec(),
        ..Rule::new("test", verdict)
    };
    Arc::new(Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// RFC 4271 §5.1.2: an external peer sees our AS in front; §5.1.3: and our address as next hop.
#[test]
fn external_peer_is_told_own_as_and_address() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let (next_hop, attributes) = told(&mut rib, session(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(next_hop, address("172.16.0.100"));
    assert_eq!(attributes.as_path, AsPath::sequence(&[OWN_AS, 64501]));
    assert_eq!(attributes.local_pref, None);
}

/// RFC 4271 §5.1.2, §5.1.3, §5.1.5.
#[test]
fn internal_peer_is_told_path_and_next_hop_as_received_with_local_pref() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let (next_hop, attributes) = told(&mut rib, session(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(next_hop, address(VIA));
    assert_eq!(attributes.as_path, AsPath::sequence(&[64501]));
    assert_eq!(attributes.local_pref, Some(100));
    assert_eq!(attributes.originator_id, None);
}

/// RFC 4271 §9.2.1: what an internal peer said is not repeated to another one.
#[test]
fn internal_peers_do_not_hear_of_each_other() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    assert_eq!(told(&mut rib, session(PeerKind::Ibgp, 2), P), None);
    assert!(told(&mut rib, session(PeerKind::Ebgp, 2), P).is_some());
}

/// RFC 4271 §5.1.4: MED reaches internal peers, but not another AS unless it is our own.
#[test]
fn received_med_stays_inside_and_own_med_leaves() {
    let with_med = AttributesBuilder {
        med: Some(7),
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &with_med);
    let med = |rib: &mut Rib, kind| told(rib, session(kind, 2), P).unwrap().1.med;
    assert_eq!(med(&mut rib, PeerKind::Ibgp), Some(7));
    assert_eq!(med(&mut rib, PeerKind::Ebgp), None);

    let local = LocalPath {
        med: Some(9),
        ..LocalPath::default()
    };
    rib.originate(prefix(P), Some(&local)).unwrap();
    assert_eq!(med(&mut rib, PeerKind::Ebgp), Some(9));
}

/// RFC 1997: the communities bind whoever receives them.
#[test]
fn well_known_communities_bind_received_paths() {
    let rows = [
        (Community::NO_EXPORT, true, false),
        (Community::NO_EXPORT_SUBCONFED, true, false),
        (Community::NO_ADVERTISE, false, false),
        (Community::new(64500, 1), true, true),
    ];
    for (community, to_internal, to_external) in rows {
        let marked = AttributesBuilder {
            communities: vec![community],
            ..fields(&[64501])
        };
        let mut rib = learned_from(PeerKind::Ebgp, &marked);
        let mut is_told = |kind| told(&mut rib, session(kind, 2), P).is_some();
        assert_eq!(is_told(PeerKind::Ibgp), to_internal, "{community}");
        assert_eq!(is_told(PeerKind::Ebgp), to_external, "{community}");
    }
}

#[test]
fn originated_prefixes_carry_their_communities_to_the_peers() {
    let local = LocalPath {
        communities: vec![Community::NO_EXPORT],
        large_communities: vec![LargeCommunity {
            global: OWN_AS,
            local1: 1,
            local2: 2,
        }],
        ..LocalPath::default()
    };
    let mut rib = Rib::new(config());
    rib.originate(prefix(P), Some(&local)).unwrap();
    let (next_hop, attributes) = told(&mut rib, session(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(next_hop, address("172.16.0.100"));
    assert_eq!(attributes.communities, local.communities);
    assert_eq!(attributes.large_communities, local.large_communities);
    assert_eq!(attributes.as_path, AsPath::sequence(&[OWN_AS]));
}

/// RFC 8326 §4.2: the preference is lowered on import and told so to internal peers.
#[test]
fn graceful_shutdown_lowers_local_pref() {
    let leaving = AttributesBuilder {
        communities: vec![Community::GRACEFUL_SHUTDOWN],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &leaving);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(attributes.local_pref, Some(0));

    // A longer path that is not about to go is preferred.
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    rib.update(
        PeerId(3),
        &announce(&[P], &fields(&[64503, 64504]), "172.16.0.3"),
    );
    assert_eq!(rib.best(prefix(P)).unwrap().peer, Some(PeerId(3)));
}

/// RFC 4271 §5: unknown transitive attributes travel on, marked as partial.
#[test]
fn unknown_transitive_attributes_are_passed_on() {
    let unknown = vec![UnknownAttribute {
        attribute: AttributeType(99),
        partial: true,
        value: vec![1, 2, 3],
    }];
    let exotic = AttributesBuilder {
        unknown: unknown.clone(),
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &exotic);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(attributes.unknown, unknown);
}

#[test]
fn next_hop_modes() {
    let own = address("172.16.0.100");
    let received = address(VIA);
    let rows = [
        (PeerKind::Ebgp, NextHopMode::Keep, received),
        (PeerKind::Ebgp, NextHopMode::OwnAddress, own),
        (PeerKind::Ibgp, NextHopMode::Default, received),
        (PeerKind::Ibgp, NextHopMode::OwnAddress, own),
    ];
    for (kind, next_hop, expected) in rows {
        let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
        let session = PeerSession {
            next_hop,
            ..session(kind, 2)
        };
        let (told, _) = told(&mut rib, session, P).unwrap();
        assert_eq!(told, expected, "{kind:?} {next_hop:?}");
    }
}

/// RFC 4271 §5.1.3: on a shared link the peer is told whom to send to, but never itself.
#[test]
fn an_external_peer_on_the_same_link_is_told_a_third_party() {
    let own = address("172.16.0.100");
    let via = address(VIA);
    let link: Arc<[_]> = [prefix("172.16.0.0/16"), prefix("192.0.2.0/24")].into();
    let rows = [
        (PeerKind::Ebgp, Arc::clone(&link), "172.16.9.9", via),
        (PeerKind::Ebgp, Arc::clone(&link), VIA, own),
        (
            PeerKind::Ebgp,
            [prefix("10.0.0.0/8")].into(),
            "172.16.9.9",
            own,
        ),
        (PeerKind::Ebgp, [].into(), "172.16.9.9", own),
    ];
    for (kind, shared_subnets, remote, expected) in rows {
        let mut rib = learned_from(PeerKind::Ibgp, &fields(&[]));
        let session = PeerSession {
            shared_subnets: Arc::clone(&shared_subnets),
            remote_addr: remote.parse().unwrap(),
            ..session(kind, 2)
        };
        let (told, _) = told(&mut rib, session, P).unwrap();
        assert_eq!(told, expected, "{shared_subnets:?} {remote}");
    }
}

#[test]
fn internal_peers_on_a_shared_link_are_treated_alike() {
    let treatment = |kind, number| {
        Treatment::of(&PeerSession {
            shared_subnets: [prefix("172.16.0.0/16")].into(),
            ..session(kind, number)
        })
    };
    let [ibgp, ebgp] = [PeerKind::Ibgp, PeerKind::Ebgp];
    assert_eq!(treatment(ibgp, 1), treatment(ibgp, 2));
    assert_ne!(treatment(ebgp, 1), treatment(ebgp, 2));
}

/// RFC 4456 §10: a reflector does not touch the next hop.
#[test]
fn reflection_keeps_the_next_hop_even_with_own_address_mode() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    let session = PeerSession {
        next_hop: NextHopMode::OwnAddress,
        ..session(PeerKind::IbgpClient, 2)
    };
    let (next_hop, _) = told(&mut rib, session, P).unwrap();
    assert_eq!(next_hop, address(VIA));
}

#[test]
fn prepend_adds_to_the_usual_once() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let session = PeerSession {
        prepend: 2,
        ..session(PeerKind::Ebgp, 2)
    };
    let (_, attributes) = told(&mut rib, session, P).unwrap();
    let expected = AsPath::sequence(&[OWN_AS, OWN_AS, OWN_AS, 64501]);
    assert_eq!(attributes.as_path, expected);
}

#[test]
fn routes_without_a_next_hop_for_the_session_are_withheld() {
    let mut rib = Rib::new(config());
    let v6 = "2001:db8::/32";
    rib.originate(prefix(v6), Some(&LocalPath::default()))
        .unwrap();
    let without_v6 = PeerSession {
        local_v6: None,
        ..session(PeerKind::Ebgp, 2)
    };
    rib.peer_up(PeerId(2), without_v6.clone());
    let withheld = withheld(&mut rib, 2, v6);
    assert_eq!(withheld, Some(Withheld::NoNextHop));
    assert_eq!(told(&mut rib, without_v6, v6), None);
    assert!(told(&mut rib, session(PeerKind::Ebgp, 3), v6).is_some());
}

/// RFC 8950: with the extension, IPv4 routes go out with an IPv6 next hop.
#[test]
fn extended_next_hop_carries_ipv4_over_ipv6() {
    let mut rib = Rib::new(config());
    rib.originate(prefix(P), Some(&LocalPath::default()))
        .unwrap();
    let mut only_v6 = PeerSession {
        local_v4: None,
        ..session(PeerKind::Ebgp, 2)
    };
    assert_eq!(told(&mut rib, only_v6.clone(), P), None);
    only_v6.params.families[0].extended_next_hop = true;
    let (next_hop, _) = told(&mut rib, only_v6, P).unwrap();
    assert_eq!(next_hop, address("fd00::64"));
}

#[test]
fn export_reasons() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    rib.peer_up(PeerId(2), session(PeerKind::Ibgp, 2));
    let rejecting = PeerSession {
        export: Arc::new(Policy::reject_all()),
        ..session(PeerKind::Ebgp, 3)
    };
    rib.peer_up(PeerId(3), rejecting);
    rib.peer_up(PeerId(4), session(PeerKind::Ebgp, 4));
    let reasons = [1, 2, 3, 4].map(|peer| withheld(&mut rib, peer, P));
    let expected = [
        Some(Withheld::OwnPath),
        Some(Withheld::NotReflected),
        Some(Withheld::Policy),
        None,
    ];
    assert_eq!(reasons, expected);
}
