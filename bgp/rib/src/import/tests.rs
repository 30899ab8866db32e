mod changes;
mod roles;

use std::sync::Arc;

use super::*;
use crate::testing::*;
use crate::{Outcome, PeerId, PeerKind, Policy, Reachability, Rib, RibConfig, Rule, Verdict};

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

/// RFC 4271 §9.1.2, for both AS numbers that we have.
#[test]
fn either_own_as_in_the_path_is_a_loop() {
    let as_other = PeerSession {
        local_as: Some(64999),
        ..session(PeerKind::Ebgp, 1)
    };
    let looped = Outcome::Ineligible(Ineligible::AsLoop);
    let outcome_of = |session: &PeerSession, asns: &[u32]| {
        outcome(session.clone(), config(), asns, "172.16.0.1")
    };
    assert_eq!(outcome_of(&as_other, &[64501, 64999]), looped);
    assert_eq!(outcome_of(&as_other, &[64501, OWN_AS]), looped);
    let tolerant = PeerSession {
        allow_own_as: 1,
        ..as_other
    };
    let best = Outcome::Best(crate::Reason::OnlyPath);
    assert_eq!(outcome_of(&tolerant, &[64501, 64999, OWN_AS]), best);
    assert_eq!(outcome_of(&tolerant, &[64501, 64999, 64999]), looped);
}

/// RFC 4271 §6.3: who sends a path to another AS is the first in it.
#[test]
fn the_first_as_is_the_peers_where_that_is_asked_for() {
    let asking = PeerSession {
        enforce_first_as: true,
        ..session(PeerKind::Ebgp, 1)
    };
    let outcome_of = |session: &PeerSession, asns: &[u32]| {
        outcome(session.clone(), config(), asns, "172.16.0.1")
    };
    let refused = Outcome::Ineligible(Ineligible::FirstAs);
    let best = Outcome::Best(crate::Reason::OnlyPath);
    assert_eq!(outcome_of(&asking, &[64501, 64510]), best);
    assert_eq!(outcome_of(&asking, &[64510, 64501]), refused);
    assert_eq!(outcome_of(&asking, &[]), refused);
    // RFC 7947 §2.2.2.1: a route server is not in the path.
    let of_route_server = PeerSession {
        role: Some(Role::RouteServerClient),
        ..asking.clone()
    };
    assert_eq!(outcome_of(&of_route_server, &[64510, 64501]), best);
    let internal = PeerSession {
        enforce_first_as: true,
        ..session(PeerKind::Ibgp, 1)
    };
    assert_eq!(outcome_of(&internal, &[64510]), best);
    assert_eq!(outcome_of(&session(PeerKind::Ebgp, 1), &[64510]), best);
}

/// All that is asked of paths may change while the session goes on.
#[test]
fn other_settings_judge_held_paths_again() {
    let mut rib = Rib::new(config());
    let strict = PeerSession {
        enforce_first_as: true,
        ..session(PeerKind::Ebgp, 1)
    };
    rib.peer_up(PeerId(1), strict.clone());
    let looped = announce(&[P], &fields(&[64501, OWN_AS]), "172.16.0.1");
    rib.update(PeerId(1), &looped);
    let mut with = |allow_own_as, enforce_first_as| {
        let session = PeerSession {
            allow_own_as,
            enforce_first_as,
            ..strict.clone()
        };
        rib.set_session(PeerId(1), session);
        rib.best(prefix(P)).is_some()
    };
    assert!(!with(0, true));
    assert!(with(1, true));
    assert!(!with(0, true));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64510]), "172.16.0.1"));
    let mut with = |enforce_first_as| {
        let session = PeerSession {
            enforce_first_as,
            ..strict.clone()
        };
        rib.set_session(PeerId(1), session);
        rib.best(prefix(P)).is_some()
    };
    assert_eq!([true, false, true].map(&mut with), [false, true, false]);
}

/// RFC 8212 §3: no policy, no routes from another AS.
#[test]
fn external_peers_without_policy_are_not_used_where_one_is_required() {
    let requiring = |kind| PeerSession {
        require_policy: true,
        ..session(kind, 1)
    };
    let outcome_of = |session: PeerSession| outcome(session, config(), &[64501], "172.16.0.1");
    let best = Outcome::Best(crate::Reason::OnlyPath);
    let refused = Outcome::Ineligible(Ineligible::NoPolicy);
    assert_eq!(outcome_of(requiring(PeerKind::Ebgp)), refused);
    assert_eq!(outcome_of(requiring(PeerKind::Ibgp)), best);
    let everything = Policy {
        rules: vec![Rule::new("everything", Verdict::Accept)],
        otherwise: Verdict::Reject,
    };
    let given = PeerSession {
        import: Arc::new(everything),
        ..requiring(PeerKind::Ebgp)
    };
    assert_eq!(outcome_of(given), best);
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

/// A reflector has the address of the node whose agent is its client.
#[test]
fn a_peer_on_the_same_host_is_a_next_hop_for_who_forwards_nothing() {
    let told = |forwards| {
        let same_host = PeerSession {
            remote_addr: "172.16.0.100".parse().unwrap(),
            ..session(PeerKind::IbgpClient, 1)
        };
        let config = RibConfig {
            forwards,
            ..config()
        };
        outcome(same_host, config, &[], "172.16.0.100")
    };
    assert_eq!(told(true), Outcome::Ineligible(Ineligible::OwnNextHop));
    assert_eq!(told(false), Outcome::Best(crate::Reason::OnlyPath));
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
    assert_eq!(rib.next_hop_changes(), [(via.into(), true)]);
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
    let via: IpAddr = "172.16.0.1".parse().unwrap();
    rib.set_next_hop(via, Reachability::Unreachable);
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
