use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::decision::{Candidate, Reason, Selection, select};

fn candidate() -> impl Strategy<Value = Candidate> {
    let pref = prop_oneof![Just(0), Just(100), Just(101), Just(u32::MAX)];
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let hops = prop_oneof![0..3_u32, Just(65_535)];
    (any::<bool>(), any::<bool>(), pref, hops, origin, 0..2_u32).prop_map(
        |(long_lived, local, local_pref, as_path_length, origin, med)| Candidate {
            long_lived,
            local,
            local_pref,
            as_path_length,
            origin,
            med,
            neighbour_as: None,
            external: false,
            igp_metric: 0,
            router_id: Ipv4Addr::UNSPECIFIED,
            cluster_list_length: 0,
            peer_address: 0,
            path_id: 0,
            next_hop: 0,
        },
    )
}

fn standing(candidate: &Candidate) -> Standing {
    Standing::new(
        candidate.long_lived,
        candidate.local,
        candidate.local_pref,
        candidate.as_path_length,
        candidate.origin,
    )
}

proptest! {
    #[test]
    fn the_decision_process_agrees(a in candidate(), b in candidate()) {
        // Paths that are equal in every step are one.
        let b = Candidate { path_id: 1, ..b };
        let mut selection = Selection::default();
        select(&[a, b], &mut selection);
        let (a, b) = (standing(&a), standing(&b));
        if selection.reason() < Reason::Med {
            let (best, other) = if selection.best() == Some(0) { (a, b) } else { (b, a) };
            prop_assert!(best < other);
        } else {
            prop_assert_eq!(a, b);
        }
    }
}
