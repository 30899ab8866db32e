//! Route leaks (RFC 9234 §5).

use bgp_wire::AttributesBuilder;

use super::*;

/// What becomes of a path from a peer in AS 64501 to which we are this.
fn outcome_as(role: Role, only_to_customer: Option<u32>) -> Outcome {
    let mut rib = Rib::new(config());
    let session = PeerSession {
        role: Some(role),
        ..session(PeerKind::Ebgp, 1)
    };
    rib.peer_up(PeerId(1), session);
    let sent = AttributesBuilder {
        only_to_customer,
        ..fields(&[64501])
    };
    rib.update(PeerId(1), &announce(&[P], &sent, "172.16.0.1"));
    rib.explain(prefix(P)).unwrap().paths[0].outcome
}

/// RFC 9234 §5, ingress 1 and 2.
#[test]
fn what_came_from_above_does_not_come_from_below_or_the_side() {
    let leak = Outcome::Ineligible(Ineligible::RouteLeak);
    let best = Outcome::Best(crate::Reason::OnlyPath);
    for role in [Role::Provider, Role::RouteServer] {
        assert_eq!(outcome_as(role, Some(64501)), leak, "{role:?}");
        assert_eq!(outcome_as(role, None), best, "{role:?}");
    }
    assert_eq!(outcome_as(Role::Peer, Some(64510)), leak);
    assert_eq!(outcome_as(Role::Peer, Some(64501)), best);
    for role in [Role::Customer, Role::RouteServerClient] {
        assert_eq!(outcome_as(role, Some(64510)), best, "{role:?}");
    }
    assert_eq!(Ineligible::RouteLeak.as_str(), "route leak (OTC)");
}
