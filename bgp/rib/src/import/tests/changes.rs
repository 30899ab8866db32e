//! What import policies change.

use bgp_wire::{AttributesBuilder, Community};

use super::*;
use crate::{Change, CommunityMatch, Counts, ExplainedPath, Match, PrefixSet, Reason};

const Q: &str = "198.51.100.0/24";
const VIA: &str = "172.16.0.1";

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

/// A RIB in which peer 1 of this kind announced one prefix and its policy made these changes.
fn changed(kind: PeerKind, sent: &AttributesBuilder, changes: &[Change]) -> Rib {
    let mut rib = Rib::new(config());
    let session = PeerSession {
        import: policy(changes, Verdict::Accept),
        ..session(kind, 1)
    };
    rib.peer_up(PeerId(1), session);
    rib.update(PeerId(1), &announce(&[P], sent, VIA));
    rib
}

fn explained(rib: &mut Rib) -> ExplainedPath {
    rib.explain(prefix(P)).unwrap().paths.remove(0)
}

#[test]
fn changes_count_and_what_was_received_stays_known() {
    let changes = [Change::AddCommunity(7), Change::SetMed(Some(3))];
    let mut rib = changed(PeerKind::Ebgp, &fields(&[64501]), &changes);
    let path = explained(&mut rib);
    assert_eq!(path.received, fields(&[64501]).build().unwrap());
    assert_eq!(
        path.attributes.communities().collect::<Vec<_>>(),
        [Community(7)]
    );
    assert_eq!(path.attributes.med(), Some(3));
    assert_eq!(path.rule.as_deref(), Some("test"));
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(attributes.communities, [Community(7)]);
    assert_eq!(attributes.med, Some(3));
}

/// RFC 4271 §9.1.1: the degree of preference of external paths is a matter of our policy.
#[test]
fn local_pref_of_the_policy_decides() {
    let mut rib = changed(
        PeerKind::Ebgp,
        &fields(&[64501, 64510]),
        &[Change::SetLocalPref(200)],
    );
    rib.peer_up(PeerId(2), session(PeerKind::Ebgp, 2));
    rib.update(PeerId(2), &announce(&[P], &fields(&[64502]), "172.16.0.2"));
    let best = rib.best(prefix(P)).unwrap();
    assert_eq!(
        (best.peer, best.reason),
        (Some(PeerId(1)), Reason::LocalPref)
    );
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 3), P).unwrap();
    assert_eq!(attributes.local_pref, Some(200));
}

/// RFC 4271 §5.1.5: LOCAL_PREF from an external peer is nothing to us, even if a policy changes
/// something else.
#[test]
fn local_pref_of_an_external_peer_does_not_count() {
    let sent = AttributesBuilder {
        local_pref: Some(300),
        ..fields(&[64501])
    };
    for changes in [&[][..], &[Change::AddCommunity(1)]] {
        let mut rib = changed(PeerKind::Ebgp, &sent, changes);
        let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 3), P).unwrap();
        assert_eq!(attributes.local_pref, Some(100));
    }
}

/// RFC 8326 §4.1: the community counts as the policy leaves it, and then above LOCAL_PREF.
#[test]
fn graceful_shutdown_is_above_the_local_pref_of_the_policy() {
    let leaving = Community::GRACEFUL_SHUTDOWN;
    let sent = AttributesBuilder {
        communities: vec![leaving],
        ..fields(&[64501])
    };
    let local_pref = |changes: &[Change]| {
        let mut rib = changed(PeerKind::Ebgp, &sent, changes);
        let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 3), P).unwrap();
        attributes.local_pref
    };
    let remove = Change::RemoveCommunity(CommunityMatch::Standard(leaving.0));
    assert_eq!(local_pref(&[Change::SetLocalPref(200)]), Some(0));
    assert_eq!(local_pref(&[Change::SetLocalPref(200), remove]), Some(200));
}

/// RFC 1997: well-known communities bind as the policy leaves them.
#[test]
fn a_policy_may_bind_and_free_a_path() {
    let bind = [Change::AddCommunity(Community::NO_EXPORT.0)];
    let mut rib = changed(PeerKind::Ebgp, &fields(&[64501]), &bind);
    assert_eq!(told(&mut rib, session(PeerKind::Ebgp, 2), P), None);
    let bound = AttributesBuilder {
        communities: vec![Community::NO_EXPORT],
        ..fields(&[64501])
    };
    let no_export = CommunityMatch::Standard(Community::NO_EXPORT.0);
    let mut rib = changed(
        PeerKind::Ebgp,
        &bound,
        &[Change::RemoveCommunity(no_export)],
    );
    assert!(told(&mut rib, session(PeerKind::Ebgp, 2), P).is_some());
}

/// A loop is one in what was received.
#[test]
fn a_policy_does_not_hide_or_make_loops() {
    let changes = [Change::PrependAsPath(vec![OWN_AS])];
    let mut rib = changed(PeerKind::Ebgp, &fields(&[64501]), &changes);
    assert_eq!(explained(&mut rib).outcome, Outcome::Best(Reason::OnlyPath));
    let mut rib = changed(PeerKind::Ebgp, &fields(&[64501, OWN_AS]), &changes);
    let path = explained(&mut rib);
    assert_eq!(path.outcome, Outcome::Ineligible(Ineligible::AsLoop));
    assert_eq!(path.rule, None, "the policy was not asked");
}

#[test]
fn another_policy_starts_from_what_was_received() {
    let add = |value| policy(&[Change::AddCommunity(value)], Verdict::Accept);
    let mut rib = changed(
        PeerKind::Ebgp,
        &fields(&[64501]),
        &[Change::AddCommunity(1)],
    );
    rib.peer_up(PeerId(2), session(PeerKind::Ibgp, 2));
    let mut listener = Listener::default();
    let none = Arc::new(Policy::accept_all());
    let reject = policy(&[], Verdict::Reject);
    for (import, expected) in [
        (add(2), Some(vec![Community(2)])),
        (reject, None),
        (add(3), Some(vec![Community(3)])),
        (none.clone(), Some(vec![])),
    ] {
        rib.set_policies(PeerId(1), import, none.clone());
        listener.listen(&mut rib, PeerId(2));
        let held = listener.held.get(&prefix(P));
        let held = held.map(|(_, attributes)| attributes.communities().collect::<Vec<_>>());
        assert_eq!(held, expected);
        assert_eq!(explained(&mut rib).received.communities().len(), 0);
    }
}

/// A set is held once more for as long as somebody's policy changes it, and no longer.
#[test]
fn only_what_is_changed_costs_memory() {
    let mut rib = Rib::new(config());
    let some: PrefixSet = [prefix(Q)].into_iter().collect();
    let rule = Rule {
        prefixes: Match::In(Arc::new(some)),
        changes: vec![Change::AddCommunity(1)],
        ..Rule::new("some", Verdict::Accept)
    };
    let import = Arc::new(Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    });
    let changing = PeerSession {
        import,
        ..session(PeerKind::Ebgp, 1)
    };
    rib.peer_up(PeerId(1), changing);
    let sets = |rib: &Rib| rib.counts().attribute_sets;
    rib.update(
        PeerId(1),
        &announce(&[P, "192.0.2.0/24"], &fields(&[64501]), VIA),
    );
    assert_eq!(sets(&rib), 1);
    rib.update(PeerId(1), &announce(&[Q], &fields(&[64501]), VIA));
    assert_eq!(sets(&rib), 2);
    rib.update(PeerId(1), &withdraw(&[P, "192.0.2.0/24"]));
    assert_eq!(sets(&rib), 2, "what was received stays known");
    rib.update(PeerId(1), &withdraw(&[Q]));
    while !rib.best_changes(10).is_empty() {}
    assert_eq!(rib.counts(), Counts::default());
}

/// What cannot be held as the policy wants it is not used as the peer wants it.
#[test]
fn what_a_policy_makes_too_long_is_not_used() {
    let many: Vec<Change> = (0..17_000).map(Change::AddCommunity).collect();
    let mut rib = changed(PeerKind::Ebgp, &fields(&[64501]), &many);
    let path = explained(&mut rib);
    assert_eq!(path.outcome, Outcome::Ineligible(Ineligible::TooLong));
    assert_eq!(path.rule.as_deref(), Some("test"));
}

#[test]
fn the_rule_that_rejects_is_named() {
    let mut rib = Rib::new(config());
    let rejecting = PeerSession {
        import: policy(&[Change::AddCommunity(1)], Verdict::Reject),
        ..session(PeerKind::Ebgp, 1)
    };
    rib.peer_up(PeerId(1), rejecting);
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), VIA));
    let path = explained(&mut rib);
    assert_eq!(path.outcome, Outcome::Ineligible(Ineligible::Policy));
    assert_eq!(path.rule.as_deref(), Some("test"));
    assert_eq!(path.attributes, path.received);
}
