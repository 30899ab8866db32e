use std::sync::Arc;

use super::*;
use crate::testing::*;
use crate::{Outcome, PeerId, PeerKind, Policy, Reachability, Rib, RibConfig};

const P: &str = "203.0.113.0/24";

fn outcome(session: PeerSession, config: RibConfig, asns: &[u32], via: &str) -> Outcome {
    let mut rib = Rib::new(config);
    rib.peer_up(PeerId(1), session);
    rib.update(PeerId(1), &announce(&[P], &fields(asns), via));
    rib.explain(prefix(P)).unwrap().paths[0].outcome
}

/// RFC 4271 §9.1.2: a path through our own AS is not used, unless the design has it so.
#[test]
fn own_as_in_the_path_is_a_loop() {
    let looped = [64501, OWN_AS, 64502];
    let external = session(PeerKind::Ebgp, 1);
    assert_eq!(
        outcome(external.clone(), config(), &looped, "172.16.0.1"),
        Outcome::Ineligible(Ineligible::AsLoop)
    );
    let tolerant = PeerSession {
        allow_own_as: 1,
        ..external
    };
    assert_eq!(
        outcome(tolerant.clone(), config(), &looped, "172.16.0.1"),
        Outcome::Best(crate::Reason::OnlyPath)
    );
    let twice = [64501, OWN_AS, OWN_AS];
    assert_eq!(
        outcome(tolerant, config(), &twice, "172.16.0.1"),
        Outcome::Ineligible(Ineligible::AsLoop)
    );
}

/// RFC 4271 §6.3: a next hop must not be the receiver.
#[test]
fn own_addresses_are_no_next_hop() {
    let expected = Outcome::Ineligible(Ineligible::OwnNextHop);
    let external = || session(PeerKind::Ebgp, 1);
    assert_eq!(
        outcome(external(), config(), &[64501], "172.16.0.100"),
        expected
    );
    let config = RibConfig {
        own_addresses: vec!["10.0.0.1".parse().unwrap()],
        ..config()
    };
    assert_eq!(outcome(external(), config, &[64501], "10.0.0.1"), expected);
}

#[test]
fn rejected_paths_stay_and_are_judged_again_under_another_policy() {
    let mut rib = Rib::new(config());
    let rejecting = PeerSession {
        import: Arc::new(Policy::reject_all()),
        ..session(PeerKind::Ebgp, 1)
    };
    let export = Arc::clone(&rejecting.export);
    rib.peer_up(PeerId(1), rejecting);
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    assert_eq!(rib.best(prefix(P)), None);
    let outcome = rib.explain(prefix(P)).unwrap().paths[0].outcome;
    assert_eq!(outcome, Outcome::Ineligible(Ineligible::Policy));

    rib.set_policies(PeerId(1), Arc::new(Policy::accept_all()), export);
    assert!(rib.best(prefix(P)).is_some());
}

/// RFC 4271 §9.1.2.1: an unreachable next hop excludes the path for as long as it lasts.
#[test]
fn unreachable_next_hops_exclude_and_return() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(PeerKind::Ebgp, 1));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    let via: IpAddr = "172.16.0.1".parse().unwrap();
    assert_eq!(rib.next_hops().collect::<Vec<_>>(), [via]);
    rib.best_changes(10);

    rib.set_next_hop(via, Reachability::Unreachable);
    assert_eq!(rib.best_changes(10), [(prefix(P), None)]);
    let outcome = rib.explain(prefix(P)).unwrap().paths[0].outcome;
    assert_eq!(outcome, Outcome::Ineligible(Ineligible::UnreachableNextHop));
    rib.set_next_hop(via, Reachability::Reachable { metric: 5 });
    assert_eq!(rib.best(prefix(P)).unwrap().next_hops, [via]);
}

#[test]
fn what_is_known_about_a_next_hop_outlives_its_paths() {
    let mut rib = Rib::new(config());
    rib.set_next_hop("172.16.0.1".parse().unwrap(), Reachability::Unreachable);
    rib.peer_up(PeerId(1), session(PeerKind::Ebgp, 1));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    assert_eq!(rib.best(prefix(P)), None);
}

#[test]
fn updates_of_a_peer_that_is_not_up_are_ignored() {
    let mut rib = Rib::new(config());
    let update = announce(&[P], &fields(&[64501]), "172.16.0.1");
    rib.update(PeerId(1), &update);
    rib.peer_up(PeerId(1), session(PeerKind::Ebgp, 1));
    rib.peer_down(PeerId(1), &[]);
    rib.update(PeerId(1), &update);
    assert_eq!(rib.explain(prefix(P)), None);
    assert_eq!(rib.counts(), crate::Counts::default());
}
