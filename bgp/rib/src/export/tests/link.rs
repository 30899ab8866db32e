//! Next hops on links with link-local addresses (RFC 2545 §3, RFC 8950).

use bgp_wire::NextHop;

use super::*;
use crate::{Hop, Link};

const P6: &str = "2001:db8:1::/48";

/// A session over link `number`, on which we are `fe80::64`.
fn on_link(peer: u8, number: u32, global: Option<&str>) -> PeerSession {
    let mut session = PeerSession {
        link: Some(Link {
            number,
            own: "fe80::64".parse().unwrap(),
        }),
        local_v6: global.map(|global| global.parse().unwrap()),
        ..session(PeerKind::Ebgp, peer)
    };
    session.params.families[0].extended_next_hop = true;
    session
}

/// The whole next hop that a peer with this session is told.
fn told_via(rib: &mut Rib, session: PeerSession, text: &str) -> Option<NextHop> {
    let peer = PeerId(99);
    rib.peer_up(peer, session);
    let told = rib.told(peer, prefix(text));
    rib.peer_down(peer, &[]);
    told.map(|told| told.next_hop)
}

fn v6(global: &str, link_local: Option<&str>) -> Option<NextHop> {
    Some(NextHop::V6 {
        global: global.parse().unwrap(),
        link_local: link_local.map(|address| address.parse().unwrap()),
    })
}

#[test]
fn peer_on_a_link_is_told_our_address_there() {
    let mut rib = Rib::new(config());
    for text in [P, P6] {
        let path = LocalPath::default();
        rib.originate(prefix(text), Some(&path)).unwrap();
    }
    for text in [P, P6] {
        let both = told_via(&mut rib, on_link(2, 1, Some("2001:db8::64")), text);
        assert_eq!(v6("2001:db8::64", Some("fe80::64")), both, "{text}");
        let alone = told_via(&mut rib, on_link(2, 1, None), text);
        assert_eq!(v6("fe80::64", None), alone, "{text}");
    }
    // Without RFC 8950 there is only the IPv4 address.
    let mut plain = on_link(2, 1, None);
    plain.params.families[0].extended_next_hop = false;
    let told = told_via(&mut rib, plain, P);
    assert_eq!(Some(NextHop::from(address("172.16.0.100"))), told);
}

#[test]
fn learned_link_local_next_hop_carries_its_link_and_goes_no_further() {
    let mut rib = Rib::new(config());
    // Two neighbours with the same address on two links are two next hops.
    for number in [1, 2] {
        let from = PeerId(u32::from(number));
        rib.peer_up(from, on_link(number, number.into(), None));
        let asn = [64500 + u32::from(number)];
        rib.update(from, &announce(&[P6], &fields(&asn), "fe80::9"));
    }
    let on = |link| Hop {
        address: address("fe80::9"),
        link: Some(link),
    };
    let best = rib.best(prefix(P6)).unwrap();
    assert_eq!(on(1), best.next_hops[0]);
    rib.peer_down(PeerId(1), &[]);
    assert_eq!(vec![on(2)], rib.best(prefix(P6)).unwrap().next_hops);
    // An internal peer elsewhere is told ourselves, whatever the mode.
    for mode in [NextHopMode::Default, NextHopMode::Keep] {
        let internal = PeerSession {
            next_hop: mode,
            ..session(PeerKind::Ibgp, 3)
        };
        assert_eq!(v6("fd00::64", None), told_via(&mut rib, internal, P6));
    }
}

#[test]
fn link_local_address_counts_on_the_link_and_the_global_one_beyond_it() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), on_link(1, 7, None));
    let mut update = announce(&[P6], &fields(&[64501]), "2001:db8::9");
    update.reach[0].next_hop = v6("2001:db8::9", Some("fe80::9")).unwrap();
    rib.update(PeerId(1), &update);
    let hop = rib.best(prefix(P6)).unwrap().next_hops[0];
    assert_eq!((address("fe80::9"), Some(7)), (hop.address, hop.link));
    let internal = session(PeerKind::Ibgp, 3);
    assert_eq!(v6("2001:db8::9", None), told_via(&mut rib, internal, P6));
}

#[test]
fn our_own_link_local_address_is_no_next_hop() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), on_link(1, 7, None));
    rib.update(PeerId(1), &announce(&[P6], &fields(&[64501]), "fe80::64"));
    assert_eq!(None, rib.best(prefix(P6)));
}
