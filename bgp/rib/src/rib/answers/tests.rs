use bgp_wire::Community;

use super::*;
use crate::testing::{Listener, announce, config, fields, prefix, session, withdraw};
use crate::{LocalPath, PeerKind};

const VIA: &str = "172.16.0.1";

/// Peer 1 is external, peer 2 internal; both are up and peer 1 announced these prefixes.
fn rib(prefixes: &[&str]) -> Rib {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(PeerKind::Ebgp, 1));
    rib.peer_up(PeerId(2), session(PeerKind::Ibgp, 2));
    if !prefixes.is_empty() {
        rib.update(PeerId(1), &announce(prefixes, &fields(&[64501]), VIA));
    }
    rib
}

/// All parts of an answer, each with at most `max` elements.
fn all<T>(max: usize, mut ask: impl FnMut(Position) -> Part<T>) -> (Vec<T>, usize) {
    let (mut found, mut parts, mut position) = (Vec::new(), 0, 0);
    loop {
        let (part, next) = ask(position);
        assert!(part.len() <= max);
        found.extend(part);
        parts += 1;
        match next {
            Some(next) => {
                assert!(next > position, "a walk goes on");
                position = next;
            }
            None => return (found, parts),
        }
    }
}

#[test]
fn parts_make_the_whole_with_every_prefix_once() {
    let v4: Vec<String> = (0..100).map(|i| format!("10.0.{i}.0/24")).collect();
    let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
    let mut rib = rib(&v4);
    rib.update(
        PeerId(1),
        &announce(&["2001:db8::/48"], &fields(&[64501]), "fd00::1"),
    );
    // A free place in the table is no prefix.
    rib.update(PeerId(1), &withdraw(&["10.0.50.0/24"]));
    let (routes, parts) = all(7, |from| rib.explain_from(from, 7));
    let mut prefixes: Vec<Prefix> = routes.iter().map(|route| route.prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    assert_eq!((100, 100), (prefixes.len(), routes.len()));
    assert!(parts > 14, "{parts}");
    let (received, _) = all(7, |from| rib.received_from(PeerId(1), from, 7));
    assert_eq!(100, received.len());
    assert_eq!(0, rib.received_from(PeerId(2), 0, 7).0.len());
    let (told, _) = all(7, |from| rib.told_from(PeerId(2), from, 7));
    assert_eq!(100, told.len());
    assert_eq!(0, rib.told_from(PeerId(1), 0, 7).0.len(), "its own");
    let (of_v6, _) = rib.told_from(PeerId(2), V6, 7);
    assert_eq!(
        [prefix("2001:db8::/48")],
        of_v6.iter().map(|t| t.prefix).collect::<Vec<_>>()[..]
    );
}

#[test]
fn one_call_looks_at_a_bounded_number_of_prefixes() {
    let mut rib = rib(&[]);
    for high in 0..=255 {
        let prefixes: Vec<String> = (0..160)
            .map(|low| format!("10.{high}.{low}.0/24"))
            .collect();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        rib.update(PeerId(1), &announce(&prefixes, &fields(&[64501]), VIA));
    }
    // None of 40,960 prefixes is from peer 2.
    let (none, next) = rib.received_from(PeerId(2), 0, 10);
    assert_eq!((0, Some(Position::from(SCAN))), (none.len(), next));
    assert_eq!((0, None), {
        let (none, next) = rib.received_from(PeerId(2), Position::from(SCAN), 10);
        (none.len(), next)
    });
}

/// What is answered is what is sent: both come from the same place, and this holds them together.
#[test]
fn told_paths_are_those_that_are_sent() {
    let mut rib = rib(&["10.0.0.0/24", "10.0.1.0/24"]);
    let own = LocalPath {
        communities: vec![Community(64500 << 16 | 7)],
        ..LocalPath::default()
    };
    rib.originate(prefix("10.9.0.0/16"), Some(&own)).unwrap();
    for kind in [PeerKind::Ebgp, PeerKind::Ibgp] {
        rib.peer_up(PeerId(3), session(kind, 3));
        let mut listener = Listener::default();
        listener.listen(&mut rib, PeerId(3));
        let (told, _) = all(10, |from| rib.told_from(PeerId(3), from, 10));
        assert_eq!(3, told.len());
        for told in told {
            let (next_hop, attributes) = &listener.held[&told.prefix];
            assert_eq!(
                (*next_hop, attributes),
                (told.next_hop.addr(), &told.attributes)
            );
            assert_eq!(Some(told.clone()), rib.told(PeerId(3), told.prefix));
        }
        rib.peer_down(PeerId(3), &[]);
    }
    assert_eq!(None, rib.told(PeerId(1), prefix("10.0.0.0/24")), "its own");
    assert_eq!(
        None,
        rib.told(PeerId(3), prefix("10.9.0.0/16")),
        "it is down"
    );
}

/// RFC 7911: each path, under the identifier it is sent with.
#[test]
fn every_path_told_with_add_path_is_answered() {
    let mut rib = rib(&["10.0.0.0/24"]);
    rib.peer_up(PeerId(4), session(PeerKind::Ebgp, 4));
    let longer = fields(&[64504, 64510]);
    rib.update(
        PeerId(4),
        &announce(&["10.0.0.0/24"], &longer, "172.16.0.4"),
    );
    let mut several = session(PeerKind::Ibgp, 3);
    several.params.families[0].add_path_send = true;
    rib.peer_up(PeerId(3), several);
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(3));
    let (told, _) = all(10, |from| rib.told_from(PeerId(3), from, 10));
    let mut told: Vec<_> = told
        .iter()
        .map(|told| (told.path_id, told.next_hop.addr()))
        .collect();
    told.sort_unstable();
    let sent = listener.paths.iter();
    let sent: Vec<_> = sent.map(|(route, via)| (route.path_id, *via)).collect();
    assert_eq!(2, sent.len());
    assert_eq!(sent, told);
}

#[test]
fn covering_prefixes_come_longest_first() {
    let mut rib = rib(&[
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.0/25",
        "10.1.0.0/16",
    ]);
    let covering = rib.covering(prefix("10.0.0.0/24"));
    let expected = ["10.0.0.0/24", "10.0.0.0/8", "0.0.0.0/0"].map(prefix);
    assert_eq!(expected, covering[..]);
    assert!(rib.covering(prefix("2001:db8::/64")).is_empty());
}
