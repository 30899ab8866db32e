//! What export policies change, and what they cannot.

use bgp_wire::attribute::{ExtCommunity, LargeCommunity};
use bgp_wire::{Message, Update};

use super::*;
use crate::testing::Listener;
use crate::{CommunityMatch, Match, PrefixSet};

const Q: &str = "198.51.100.0/24";

fn exporting(kind: PeerKind, changes: &[Change]) -> PeerSession {
    PeerSession {
        export: policy(changes, Verdict::Accept),
        ..session(kind, 2)
    }
}

#[test]
fn communities_are_added_and_removed_by_value() {
    let sent = AttributesBuilder {
        communities: vec![Community(1), Community(2)],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &sent);
    let changes = [
        Change::RemoveCommunity(CommunityMatch::Standard(1)),
        Change::AddCommunity(3),
        Change::AddLargeCommunity([64500, 1, 2]),
        Change::AddExtendedCommunity([0, 2, 0, 0, 0, 0, 0, 9]),
    ];
    let (_, attributes) = told(&mut rib, exporting(PeerKind::Ebgp, &changes), P).unwrap();
    assert_eq!(attributes.communities, [Community(2), Community(3)]);
    let large = LargeCommunity {
        global: 64500,
        local1: 1,
        local2: 2,
    };
    assert_eq!(attributes.large_communities, [large]);
    let extended = ExtCommunity([0, 2, 0, 0, 0, 0, 0, 9]);
    assert_eq!(attributes.ext_communities, [extended]);
    // What others are told is as it was.
    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 3), P).unwrap();
    assert_eq!(attributes.communities, [Community(1), Community(2)]);
}

/// RFC 4271 §5.1.2: our own AS is the first that another AS sees, whatever the policy.
#[test]
fn own_as_is_in_front_of_what_the_policy_prepends() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes = [Change::PrependAsPath(vec![64510, 64511])];
    let path = |rib: &mut Rib, kind| told(rib, exporting(kind, &changes), P).unwrap().1.as_path;
    assert_eq!(
        path(&mut rib, PeerKind::Ebgp),
        AsPath::sequence(&[OWN_AS, 64510, 64511, 64501])
    );
    assert_eq!(
        path(&mut rib, PeerKind::Ibgp),
        AsPath::sequence(&[64510, 64511, 64501])
    );
}

/// RFC 4271 §5.1.5: LOCAL_PREF is for internal peers.
#[test]
fn local_pref_of_the_policy_goes_to_internal_peers_only() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes = [Change::SetLocalPref(300)];
    let local_pref = |rib: &mut Rib, kind| told(rib, exporting(kind, &changes), P).unwrap().1;
    assert_eq!(local_pref(&mut rib, PeerKind::Ibgp).local_pref, Some(300));
    assert_eq!(local_pref(&mut rib, PeerKind::Ebgp).local_pref, None);
}

/// RFC 4271 §5.1.4: a received MED stays inside, one of our own may be told.
#[test]
fn med_of_the_policy_goes_to_external_peers() {
    let sent = AttributesBuilder {
        med: Some(7),
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &sent);
    let med = |rib: &mut Rib, kind, med| {
        let changes = [Change::SetMed(med)];
        told(rib, exporting(kind, &changes), P).unwrap().1.med
    };
    assert_eq!(med(&mut rib, PeerKind::Ebgp, Some(9)), Some(9));
    assert_eq!(med(&mut rib, PeerKind::Ibgp, None), None);
}

/// RFC 4360 §6: what may not leave an AS does not, unless it is ours.
#[test]
fn non_transitive_extended_communities_stay_inside() {
    let inside = ExtCommunity([0x40, 4, 0, 0, 0, 0, 0, 1]);
    let outside = ExtCommunity([0, 2, 0, 0, 0, 0, 0, 1]);
    let sent = AttributesBuilder {
        ext_communities: vec![inside, outside],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ibgp, &sent);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(attributes.ext_communities, [outside]);
    let (_, attributes) = told(&mut rib, session(PeerKind::IbgpClient, 2), P).unwrap();
    assert_eq!(attributes.ext_communities, [inside, outside]);
    let changes = [Change::AddExtendedCommunity(inside.0)];
    let (_, attributes) = told(&mut rib, exporting(PeerKind::Ebgp, &changes), P).unwrap();
    assert_eq!(attributes.ext_communities, [outside, inside]);
}

/// What the policy adds is for the peer, it does not keep the path from it (RFC 1997).
#[test]
fn communities_of_the_policy_bind_the_peer_and_not_us() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes = [Change::AddCommunity(Community::NO_EXPORT.0)];
    let (_, attributes) = told(&mut rib, exporting(PeerKind::Ebgp, &changes), P).unwrap();
    assert_eq!(attributes.communities, [Community::NO_EXPORT]);
}

/// RFC 7999 §3.2: to drop packets is the business of who has been asked to.
#[test]
fn blackhole_is_only_carried() {
    let sent = AttributesBuilder {
        communities: vec![Community::BLACKHOLE],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &sent);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(attributes.communities, [Community::BLACKHOLE]);
    assert_eq!(rib.best(prefix(P)).unwrap().next_hops, [address(VIA)]);
}

/// Of three prefixes with equal attributes two are changed alike.
#[test]
fn prefixes_with_equal_attributes_and_changes_share_a_message() {
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(PeerKind::Ebgp, 1));
    let some: PrefixSet = [prefix(P), prefix(Q)].into_iter().collect();
    let rule = Rule {
        prefixes: Match::In(Arc::new(some)),
        changes: vec![Change::AddCommunity(7)],
        ..Rule::new("some", Verdict::Next)
    };
    let export = Arc::new(Policy {
        rules: vec![rule],
        otherwise: Verdict::Accept,
    });
    let to = PeerSession {
        export,
        ..session(PeerKind::Ebgp, 2)
    };
    rib.peer_up(PeerId(2), to);
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    listener.messages.clear();
    let all = announce(&[P, "192.0.2.0/24", Q], &fields(&[64501]), VIA);
    rib.update(PeerId(1), &all);
    listener.listen(&mut rib, PeerId(2));
    let mut sizes: Vec<usize> = listener.messages.iter().map(announced).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2]);
    let communities = |text| {
        let (_, attributes) = &listener.held[&prefix(text)];
        attributes.communities().collect::<Vec<_>>()
    };
    assert_eq!(communities(P), [Community(7)]);
    assert_eq!(communities(Q), [Community(7)]);
    assert_eq!(communities("192.0.2.0/24"), []);
}

fn announced(message: &Message) -> usize {
    let Message::Update(Update { reach, .. }) = message else {
        return 0;
    };
    reach.iter().map(|reach| reach.nlri.len()).sum()
}

#[test]
fn another_policy_is_told_without_a_new_session() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    rib.peer_up(PeerId(2), session(PeerKind::Ebgp, 2));
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    let import = Arc::new(Policy::accept_all());
    for count in [1, 3, 0] {
        let changes = [Change::PrependAsPath(vec![OWN_AS; count])];
        rib.set_policies(PeerId(2), import.clone(), policy(&changes, Verdict::Next));
        listener.listen(&mut rib, PeerId(2));
        let (_, attributes) = &listener.held[&prefix(P)];
        assert_eq!(attributes.hops() as usize, 2 + count);
    }
}

/// RFC 8654 §4: what becomes too long is not told, and the explanation says so.
#[test]
fn what_a_policy_makes_too_long_is_withheld() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes: Vec<Change> = (0..2000).map(Change::AddCommunity).collect();
    rib.peer_up(PeerId(2), exporting(PeerKind::Ebgp, &changes));
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    assert_eq!(listener.prefixes(), [] as [&str; 0]);
    assert_eq!(withheld(&mut rib, 2, P), Some(Withheld::TooLong));
}

/// RFC 8212 §3: no policy, no routes to another AS.
#[test]
fn external_peers_without_policy_are_told_nothing_where_one_is_required() {
    let mut rib = learned_from(PeerKind::Ibgp, &fields(&[64501]));
    rib.originate(prefix(Q), Some(&LocalPath::default()))
        .unwrap();
    let requiring = |kind, export| PeerSession {
        require_policy: true,
        export,
        ..session(kind, 2)
    };
    let none = Arc::new(Policy::accept_all());
    rib.peer_up(PeerId(2), requiring(PeerKind::Ebgp, none.clone()));
    assert_eq!(withheld(&mut rib, 2, P), Some(Withheld::NoPolicy));
    assert_eq!(withheld(&mut rib, 2, Q), Some(Withheld::NoPolicy));
    let given = requiring(PeerKind::Ebgp, policy(&[], Verdict::Accept));
    rib.set_session(PeerId(2), given);
    assert_eq!(withheld(&mut rib, 2, P), None);
    rib.set_session(PeerId(2), requiring(PeerKind::IbgpClient, none));
    assert_eq!(withheld(&mut rib, 2, P), None);
}

#[test]
fn rules_are_named_and_the_wording_is_that_of_the_message() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes = [Change::AddCommunity(7)];
    rib.peer_up(PeerId(2), exporting(PeerKind::Ebgp, &changes));
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    let explained = rib.explain_export(PeerId(2), prefix(P)).unwrap();
    assert_eq!(explained.rule.as_deref(), Some("test"));
    let said = explained.told.unwrap();
    let (next_hop, attributes) = &listener.held[&prefix(P)];
    assert_eq!(
        (said.next_hop.addr(), &said.attributes),
        (*next_hop, attributes)
    );

    let reject = policy(&[], Verdict::Reject);
    rib.set_policies(PeerId(2), Arc::new(Policy::accept_all()), reject);
    let explained = rib.explain_export(PeerId(2), prefix(P)).unwrap();
    assert_eq!(explained.told, Err(Withheld::Policy));
    assert_eq!(explained.rule.as_deref(), Some("test"));
    // Nothing was asked of the policy.
    let own = rib.explain_export(PeerId(1), prefix(P)).unwrap();
    assert_eq!((own.told, own.rule), (Err(Withheld::OwnPath), None));
    assert_eq!(rib.explain_export(PeerId(2), prefix(Q)), None);
}

#[test]
fn own_prefixes_are_matched_by_their_source() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    rib.originate(prefix(Q), Some(&LocalPath::default()))
        .unwrap();
    let rule = Rule {
        source: crate::Source::Local,
        changes: vec![Change::AddCommunity(7)],
        ..Rule::new("own", Verdict::Next)
    };
    let to = PeerSession {
        export: Arc::new(Policy {
            rules: vec![rule],
            otherwise: Verdict::Accept,
        }),
        ..session(PeerKind::Ebgp, 2)
    };
    let (_, own) = told(&mut rib, to.clone(), Q).unwrap();
    assert_eq!(own.communities, [Community(7)]);
    let (_, learned) = told(&mut rib, to, P).unwrap();
    assert_eq!(learned.communities, []);
}
