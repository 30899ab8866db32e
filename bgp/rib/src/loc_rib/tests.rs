use std::net::IpAddr;

use crate::testing::*;
use crate::{LocalPath, Outcome, PeerId, PeerKind, Reachability, Reason, Rib, RibConfig};

const P: &str = "203.0.113.0/24";

fn multipath(limit: u8) -> RibConfig {
    RibConfig {
        multipath: limit.try_into().unwrap(),
        ..config()
    }
}

/// Peers 1 to `count`, each with an equally good path via its own address.
fn equal_paths(config: RibConfig, count: u8) -> Rib {
    let mut rib = Rib::new(config);
    for number in 1..=count {
        let peer = PeerId(number.into());
        rib.peer_up(peer, session(PeerKind::Ebgp, number));
        let path = fields(&[OWN_AS + u32::from(number)]);
        let via = format!("172.16.0.{number}");
        rib.update(peer, &announce(&[P], &path, &via));
    }
    rib
}

fn vias(numbers: &[u8]) -> Vec<IpAddr> {
    let address = |number: &u8| IpAddr::from([172, 16, 0, *number]);
    numbers.iter().map(address).collect()
}

#[test]
fn multipath_shares_traffic_up_to_its_limit_in_a_fixed_order() {
    let mut rib = equal_paths(multipath(3), 5);
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!(best.next_hops, vias(&[1, 2, 3]));
    assert_eq!(best.reason, Reason::RouterId);
    assert_eq!(
        equal_paths(multipath(1), 5)
            .best(prefix(P))
            .unwrap()
            .next_hops,
        vias(&[1])
    );
}

/// Two reflectors that repeat one route give one way, not two.
#[test]
fn multipath_takes_each_next_hop_once() {
    let mut rib = equal_paths(multipath(2), 3);
    rib.update(PeerId(2), &announce(&[P], &fields(&[64502]), "172.16.0.1"));
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!(best.next_hops, vias(&[1, 3]));
}

#[test]
fn losing_a_share_is_a_change_for_the_forwarding_table_but_not_for_peers() {
    let mut rib = equal_paths(multipath(2), 2);
    rib.peer_up(PeerId(9), session(PeerKind::Ebgp, 9));
    let mut other = Listener::default();
    other.listen(&mut rib, PeerId(9));
    rib.best_changes(10);

    rib.update(PeerId(2), &withdraw(&[P]));
    let changes = rib.best_changes(10);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1.as_ref().unwrap().next_hops, vias(&[1]));
    assert_eq!(other.listen(&mut rib, PeerId(9)), 0);
}

#[test]
fn many_changes_of_a_prefix_in_a_burst_are_one() {
    let mut rib = equal_paths(config(), 3);
    assert_eq!(rib.best_changes(10).len(), 1);
    assert!(rib.best_changes(10).is_empty());
    // A path that is worse than the best is no change, nor is one that came and went.
    rib.update(
        PeerId(3),
        &announce(&[P], &fields(&[64503, 1]), "172.16.0.3"),
    );
    rib.update(PeerId(3), &withdraw(&[P]));
    assert!(rib.best_changes(10).is_empty());
}

#[test]
fn nothing_is_kept_for_a_forwarding_table_that_is_not_there() {
    let mut rib = equal_paths(
        RibConfig {
            forwards: false,
            ..config()
        },
        2,
    );
    assert!(rib.best_changes(10).is_empty());
    assert_eq!(rib.best(prefix(P)).unwrap().next_hops, vias(&[1]));
    rib.update(PeerId(1), &withdraw(&[P]));
    rib.update(PeerId(2), &withdraw(&[P]));
    assert_eq!(rib.best(prefix(P)), None);
    assert_eq!(rib.counts().prefixes_v4, 0);
}

#[test]
fn a_single_path_is_used_unless_its_next_hop_is_unreachable() {
    let mut rib = equal_paths(config(), 1);
    assert_eq!(rib.best(prefix(P)).unwrap().reason, Reason::OnlyPath);
    let via = vias(&[1])[0];
    rib.set_next_hop(via, Reachability::Unreachable);
    assert_eq!(rib.best(prefix(P)), None);
    rib.set_next_hop(via, Reachability::Reachable { metric: 5 });
    assert_eq!(rib.best(prefix(P)).unwrap().next_hops, [via]);
}

#[test]
fn who_resolves_next_hops_is_told_those_of_all_paths_once() {
    let mut rib = equal_paths(config(), 2);
    let mut told = rib.next_hop_changes();
    told.sort();
    let both = vias(&[1, 2]).into_iter().map(|via| (via.into(), true));
    assert_eq!(told, both.collect::<Vec<_>>());
    assert!(rib.next_hop_changes().is_empty());
    // What came and went is told as it is now; what is not told as reachable keeps its path.
    let [first, second] = [1, 2].map(|number| vias(&[number])[0]);
    rib.set_next_hop(first, Reachability::Unreachable);
    rib.update(PeerId(1), &withdraw(&[P]));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    rib.update(PeerId(2), &withdraw(&[P]));
    let mut told = rib.next_hop_changes();
    told.sort();
    assert_eq!(told, [(first.into(), true), (second.into(), false)]);
    assert_eq!(rib.best(prefix(P)), None);
}

#[test]
fn originated_prefixes_beat_learned_ones() {
    let mut rib = equal_paths(config(), 1);
    rib.originate(prefix(P), Some(&LocalPath::default()))
        .unwrap();
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!((best.peer, best.next_hops), (None, vec![]));
    assert_eq!(best.reason, Reason::Local);
    rib.originate(prefix(P), None).unwrap();
    assert_eq!(rib.best(prefix(P)).unwrap().peer, Some(PeerId(1)));
}

#[test]
fn interior_cost_decides_when_known() {
    let mut rib = equal_paths(config(), 2);
    let first = vias(&[1])[0];
    rib.set_next_hop(first, Reachability::Reachable { metric: 10 });
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!(
        (best.peer, best.reason),
        (Some(PeerId(2)), Reason::IgpMetric)
    );
}

#[test]
fn every_path_is_explained() {
    let mut rib = equal_paths(multipath(2), 4);
    rib.update(
        PeerId(3),
        &announce(&[P], &fields(&[64503, 1]), "172.16.0.3"),
    );
    rib.update(PeerId(4), &announce(&[P], &fields(&[OWN_AS]), "172.16.0.4"));
    let explanation = rib.explain(prefix(P)).unwrap();
    let mut outcomes: Vec<_> = explanation
        .paths
        .iter()
        .map(|p| (p.peer, p.outcome))
        .collect();
    outcomes.sort_by_key(|(peer, _)| *peer);
    assert_eq!(
        outcomes,
        [
            (Some(PeerId(1)), Outcome::Best(Reason::RouterId)),
            (Some(PeerId(2)), Outcome::Shares(Reason::RouterId)),
            (Some(PeerId(3)), Outcome::Lost(Reason::AsPathLength)),
            (
                Some(PeerId(4)),
                Outcome::Ineligible(crate::Ineligible::AsLoop)
            ),
        ]
    );
    assert_eq!(explanation.paths[0].peer, Some(PeerId(1)));
}
