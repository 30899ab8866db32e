use bgp_wire::AttributesBuilder;

use super::*;
use crate::testing::{announce, config, fields, prefix, session};
use crate::{PeerId, PeerKind, PeerSession, Rib, RibConfig};

fn router(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// A path like any other; each test changes what it is about.
fn path() -> Candidate {
    Candidate {
        long_lived: false,
        local: false,
        local_pref: 100,
        as_path_length: 2,
        origin: Origin::Igp,
        med: 0,
        neighbour_as: Some(64500),
        external: true,
        igp_metric: 10,
        router_id: router(10),
        cluster_list_length: 0,
        peer_address: 1,
        path_id: 0,
        next_hop: 0,
    }
}

fn with(change: impl FnOnce(&mut Candidate)) -> Candidate {
    let mut candidate = path();
    change(&mut candidate);
    candidate
}

fn decide(candidates: &[Candidate]) -> (Option<usize>, Reason, Vec<Option<Reason>>) {
    let mut selection = Selection::default();
    select(candidates, &mut selection);
    (
        selection.best(),
        selection.reason(),
        selection.lost_at.clone(),
    )
}

/// The better path wins whatever its position, for the expected reason.
#[track_caller]
fn assert_beats(better: Candidate, worse: Candidate, reason: Reason) {
    assert_eq!(
        decide(&[better, worse]),
        (Some(0), reason, vec![None, Some(reason)])
    );
    assert_eq!(
        decide(&[worse, better]),
        (Some(1), reason, vec![Some(reason), None])
    );
}

#[test]
fn no_candidate_no_best() {
    assert_eq!(decide(&[]), (None, Reason::OnlyPath, vec![]));
}

#[test]
fn single_path_wins_without_contest() {
    assert_eq!(decide(&[path()]), (Some(0), Reason::OnlyPath, vec![None]));
}

#[test]
fn each_step_decides_when_all_before_are_equal() {
    // In every row the loser is better in all later steps, so the order is tested as well.
    let favourite = |change: &dyn Fn(&mut Candidate)| {
        with(|c| {
            *c = Candidate {
                long_lived: false,
                local: false,
                local_pref: 100,
                as_path_length: 2,
                origin: Origin::Igp,
                med: 0,
                neighbour_as: Some(64500),
                external: true,
                igp_metric: 0,
                router_id: router(0),
                cluster_list_length: 0,
                peer_address: 0,
                path_id: 0,
                next_hop: 0,
            };
            change(c);
        })
    };
    let plain = with(|c| {
        c.origin = Origin::Egp;
        c.med = 5;
        c.external = false;
        c.cluster_list_length = 3;
        c.peer_address = 9;
        c.path_id = 9;
    });
    let rows: [(Reason, Candidate, Candidate); 12] = [
        (
            Reason::LongLived,
            plain,
            favourite(&|c| {
                c.local = true;
                c.long_lived = true;
            }),
        ),
        (
            Reason::Local,
            Candidate {
                local: true,
                ..plain
            },
            favourite(&|c| c.local_pref = 500),
        ),
        (
            Reason::LocalPref,
            Candidate {
                local_pref: 101,
                ..plain
            },
            favourite(&|c| c.as_path_length = 0),
        ),
        (
            Reason::AsPathLength,
            Candidate {
                as_path_length: 1,
                ..plain
            },
            favourite(&|_| ()),
        ),
        (
            Reason::Origin,
            plain,
            favourite(&|c| c.origin = Origin::Incomplete),
        ),
        (
            Reason::Med,
            plain,
            favourite(&|c| {
                c.origin = Origin::Egp;
                c.med = 6;
            }),
        ),
        (
            Reason::ExternalPeer,
            Candidate {
                external: true,
                ..plain
            },
            favourite(&|c| {
                c.origin = Origin::Egp;
                c.med = 5;
                c.external = false;
            }),
        ),
        (
            Reason::IgpMetric,
            plain,
            Candidate {
                igp_metric: 11,
                router_id: router(0),
                cluster_list_length: 0,
                peer_address: 0,
                path_id: 0,
                ..plain
            },
        ),
        (
            Reason::RouterId,
            plain,
            Candidate {
                router_id: router(11),
                cluster_list_length: 0,
                peer_address: 0,
                path_id: 0,
                ..plain
            },
        ),
        (
            Reason::ClusterListLength,
            plain,
            Candidate {
                cluster_list_length: 4,
                peer_address: 0,
                path_id: 0,
                ..plain
            },
        ),
        (
            Reason::PeerAddress,
            plain,
            Candidate {
                peer_address: 10,
                path_id: 0,
                ..plain
            },
        ),
        (
            Reason::PathId,
            plain,
            Candidate {
                path_id: 10,
                ..plain
            },
        ),
    ];
    for (reason, better, worse) in rows {
        assert_beats(better, worse, reason);
    }
}

/// RFC 4271 §9.1.2.2 c: MED says nothing about paths of different neighbouring AS.
#[test]
fn med_is_ignored_between_different_neighbours() {
    let low_med = with(|c| {
        c.neighbour_as = Some(64501);
        c.med = 0;
        c.router_id = router(9);
    });
    let high_med = with(|c| {
        c.med = 100;
        c.router_id = router(1);
    });
    assert_beats(high_med, low_med, Reason::RouterId);
}

/// The case that breaks pairwise comparison: A beats B by router id, B beats C by interior cost,
/// C beats A by MED. Elimination gives one answer in every order.
#[test]
fn med_cycle_has_one_answer_in_every_order() {
    let a = with(|c| {
        c.med = 10;
        c.router_id = router(1);
    });
    let b = with(|c| {
        c.neighbour_as = Some(64501);
        c.router_id = router(2);
    });
    let c = with(|c| {
        c.med = 5;
        c.igp_metric = 20;
        c.router_id = router(3);
    });
    for order in [
        [a, b, c],
        [a, c, b],
        [b, a, c],
        [b, c, a],
        [c, a, b],
        [c, b, a],
    ] {
        let (best, reason, _) = decide(&order);
        assert_eq!(best.map(|index| order[index]), Some(b), "{order:?}");
        assert_eq!(reason, Reason::IgpMetric);
    }
}

#[test]
fn multipath_takes_paths_equal_through_igp_metric() {
    let candidates = [
        with(|c| c.router_id = router(7)),
        with(|c| c.router_id = router(5)),
        with(|c| c.igp_metric = 11),
        with(|c| {
            c.router_id = router(6);
            c.neighbour_as = Some(64501);
        }),
    ];
    let mut selection = Selection::default();
    select(&candidates, &mut selection);
    assert_eq!(selection.best(), Some(1));
    let sharing: Vec<bool> = (0..4).map(|i| selection.shares_traffic(i)).collect();
    assert_eq!(sharing, [true, true, false, true]);
}

/// RFC 4271 §9.1.2.2 c, and the two usual deviations from it.
#[test]
fn med_is_compared_as_configured() {
    let best_of = |always_compare_med, missing_med_is_worst, second: (u32, Option<u32>)| {
        let mut rib = Rib::new(RibConfig {
            always_compare_med,
            missing_med_is_worst,
            ..config()
        });
        for (number, asn, med) in [(1, 64501, Some(7)), (2, second.0, second.1)] {
            // Without MED the second loses to the first by its identifier.
            let external = PeerSession {
                remote_as: asn,
                ..session(PeerKind::Ebgp, number)
            };
            rib.peer_up(PeerId(number.into()), external);
            let sent = AttributesBuilder {
                med,
                ..fields(&[asn])
            };
            let via = format!("172.16.0.{number}");
            let update = announce(&["203.0.113.0/24"], &sent, &via);
            rib.update(PeerId(number.into()), &update);
        }
        let best = rib.best(prefix("203.0.113.0/24")).unwrap();
        (best.peer.unwrap().0, best.reason)
    };
    let other_as = (64502, Some(3));
    assert_eq!(best_of(false, false, other_as), (1, Reason::RouterId));
    assert_eq!(best_of(true, false, other_as), (2, Reason::Med));
    let without = (64501, None);
    assert_eq!(best_of(false, false, without), (2, Reason::Med));
    assert_eq!(best_of(false, true, without), (1, Reason::Med));
}
