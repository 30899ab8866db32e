mod add_path;

use std::sync::Arc;

use bgp_wire::{Family, Message, RefreshSubtype, Update};

use crate::testing::*;
use crate::{LocalPath, Match, PeerId, PeerKind, Policy, PrefixSet, Rib, RibConfig, Rule, Verdict};

const P: &str = "203.0.113.0/24";
const Q: &str = "198.51.100.0/24";
const FEEDER: PeerId = PeerId(1);
const READER: PeerId = PeerId(2);

/// A feeder and a reader; the reader has been told that there is nothing.
fn two_peers(config: RibConfig) -> (Rib, Listener) {
    let mut rib = Rib::new(config);
    rib.peer_up(FEEDER, session(PeerKind::Ebgp, 1));
    rib.peer_up(READER, session(PeerKind::Ebgp, 2));
    let mut reader = Listener::default();
    reader.listen(&mut rib, READER);
    Listener::default().listen(&mut rib, FEEDER);
    reader.messages.clear();
    (rib, reader)
}

fn feed(rib: &mut Rib, texts: &[&str]) {
    rib.update(FEEDER, &announce(texts, &fields(&[64501]), "172.16.0.1"));
}

fn many(count: u32) -> Vec<String> {
    let prefix = |number: u32| format!("10.{}.{}.0/24", number / 256, number % 256);
    (0..count).map(prefix).collect()
}

#[test]
fn a_new_peer_is_told_everything_and_then_end_of_rib() {
    let (mut rib, _) = two_peers(config());
    feed(&mut rib, &[P, Q]);
    rib.originate(prefix("2001:db8::/32"), Some(&LocalPath::default()))
        .unwrap();
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    let mut new = Listener::default();
    new.listen(&mut rib, PeerId(3));
    assert_eq!(new.prefixes(), [Q, P, "2001:db8::/32"]);
    let ends: Vec<_> = new.messages.iter().map(end_of_rib).collect();
    assert_eq!(
        ends,
        [
            None,
            Some(Family::IPV4_UNICAST),
            None,
            Some(Family::IPV6_UNICAST)
        ]
    );
}

/// What came and went before a peer asked for anything is no business of its.
#[test]
fn a_new_peer_is_not_told_of_what_is_gone() {
    let (mut rib, _) = two_peers(config());
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    feed(&mut rib, &[P, Q]);
    assert!(rib.has_pending(PeerId(3)));
    rib.update(FEEDER, &withdraw(&[P, Q]));
    let mut new = Listener::default();
    assert_eq!(new.listen(&mut rib, PeerId(3)), 2);
    assert!(
        new.messages
            .iter()
            .all(|message| end_of_rib(message).is_some())
    );
}

fn end_of_rib(message: &Message) -> Option<Family> {
    match message {
        Message::Update(update) => update.as_end_of_rib(),
        _ => None,
    }
}

#[test]
fn prefixes_with_the_same_attributes_share_a_message() {
    let (mut rib, mut reader) = two_peers(config());
    for text in many(500) {
        feed(&mut rib, &[&text]);
    }
    assert_eq!(reader.listen(&mut rib, READER), 1);
    assert_eq!(reader.held.len(), 500);
    rib.peer_down(FEEDER, &[]);
    assert_eq!(reader.listen(&mut rib, READER), 1);
    assert!(reader.held.is_empty());
}

#[test]
fn members_of_a_group_share_the_octets() {
    let (mut rib, _) = two_peers(config());
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    Listener::default().listen(&mut rib, PeerId(3));
    feed(&mut rib, &[P]);
    let a = rib.next_messages(READER, 4096);
    let b = rib.next_messages(PeerId(3), 4096);
    assert_eq!(a.len(), 1);
    assert_eq!(a[0].as_ptr(), b[0].as_ptr());
}

#[test]
fn a_peer_never_gets_its_own_path_back() {
    let (mut rib, mut reader) = two_peers(config());
    feed(&mut rib, &[P]);
    assert_eq!(Listener::default().listen(&mut rib, FEEDER), 0);
    assert_eq!(reader.listen(&mut rib, READER), 1);
}

/// The path it was told is replaced by its own, so the old one must go.
#[test]
fn a_peer_whose_path_becomes_best_loses_the_other() {
    let (mut rib, mut reader) = two_peers(config());
    let mut feeder = Listener::default();
    let long = fields(&[64502, 64510]);
    rib.update(READER, &announce(&[P], &long, "172.16.0.2"));
    feeder.listen(&mut rib, FEEDER);
    assert_eq!(feeder.prefixes(), [P]);

    feed(&mut rib, &[P]);
    feeder.listen(&mut rib, FEEDER);
    reader.listen(&mut rib, READER);
    assert!(feeder.held.is_empty());
    assert_eq!(reader.prefixes(), [P]);
}

/// Unread changes of a prefix are told once, in their newest form.
#[test]
fn a_slow_peer_is_taken_off_the_log_and_told_the_newest_state() {
    let (mut rib, mut reader) = two_peers(RibConfig {
        backlog_octets: 2000,
        ..config()
    });
    for round in 0..200 {
        let path = fields(&[64501, 64600 + round]);
        rib.update(FEEDER, &announce(&[P, Q], &path, "172.16.0.1"));
        assert!(rib.has_pending(READER));
    }
    rib.update(FEEDER, &withdraw(&[Q]));
    let told = reader.listen(&mut rib, READER);
    assert!(told <= 3, "{told} messages for two prefixes");
    assert_eq!(reader.prefixes(), [P]);

    feed(&mut rib, &[Q]);
    assert_eq!(reader.listen(&mut rib, READER), 1);
    assert_eq!(reader.prefixes(), [Q, P]);
}

#[test]
fn a_slow_peer_does_not_disturb_its_group() {
    let (mut rib, mut reader) = two_peers(RibConfig {
        backlog_octets: 2000,
        ..config()
    });
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    for round in 0..200 {
        let path = fields(&[64501, 64600 + round]);
        rib.update(FEEDER, &announce(&[P], &path, "172.16.0.1"));
        assert_eq!(reader.listen(&mut rib, READER), 1);
    }
}

/// RFC 2918 §4.
#[test]
fn refresh_repeats_the_family() {
    let (mut rib, mut reader) = two_peers(config());
    feed(&mut rib, &[P, Q]);
    reader.listen(&mut rib, READER);
    let held = std::mem::take(&mut reader.held);
    rib.refresh(READER, Family::IPV4_UNICAST);
    rib.refresh(READER, Family::IPV6_UNICAST);
    assert_eq!(reader.listen(&mut rib, READER), 1);
    assert_eq!(reader.held, held);
}

/// RFC 7313 §4.2: the answer stands between marks, even an empty one.
#[test]
fn enhanced_refresh_is_marked() {
    let (mut rib, _) = two_peers(config());
    feed(&mut rib, &[P]);
    let mut enhanced = session(PeerKind::Ebgp, 3);
    enhanced.params.enhanced_route_refresh = true;
    rib.peer_up(PeerId(3), enhanced);
    let mut peer = Listener::default();
    peer.listen(&mut rib, PeerId(3));
    peer.messages.clear();
    rib.refresh(PeerId(3), Family::IPV4_UNICAST);
    rib.refresh(PeerId(3), Family::IPV6_UNICAST);
    peer.listen(&mut rib, PeerId(3));
    let marks = peer.messages.iter().map(|message| match message {
        Message::RouteRefresh(refresh) => Some(refresh.subtype),
        _ => None,
    });
    let (begin, end) = (
        Some(RefreshSubtype::BeginningOfRib),
        Some(RefreshSubtype::EndOfRib),
    );
    assert_eq!(marks.collect::<Vec<_>>(), [begin, None, end, begin, end]);
}

#[test]
fn another_export_policy_withdraws_and_announces() {
    let (mut rib, mut reader) = two_peers(config());
    feed(&mut rib, &[P, Q]);
    reader.listen(&mut rib, READER);
    let accept = || Arc::new(Policy::accept_all());
    rib.set_policies(READER, accept(), Arc::new(Policy::reject_all()));
    reader.listen(&mut rib, READER);
    assert!(reader.held.is_empty());
    rib.set_policies(READER, accept(), accept());
    reader.listen(&mut rib, READER);
    assert_eq!(reader.prefixes(), [Q, P]);
    // The same policy again says nothing.
    rib.set_policies(READER, accept(), accept());
    assert!(!rib.has_pending(READER));
}

/// The peer has been told a part when its policy changes, and what it was told goes before it is
/// told the rest.
#[test]
fn another_policy_in_the_middle_of_the_first_dump_forgets_nothing() {
    let (mut rib, _) = two_peers(config());
    feed(&mut rib, &[P, Q]);
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    let mut new = Listener::default();
    new.read_some(&mut rib, PeerId(3), 1);
    assert_eq!(new.prefixes(), [P]);
    let mut other = Policy::accept_all();
    other.rules.push(Rule {
        prefixes: Match::In(Arc::new(PrefixSet::new())),
        ..Rule::new("nothing", Verdict::Reject)
    });
    rib.set_policies(PeerId(3), Arc::new(Policy::accept_all()), Arc::new(other));
    rib.update(FEEDER, &withdraw(&[P]));
    // The prefix is forgotten before the peer asks again.
    while !rib.best_changes(10).is_empty() {}
    new.listen(&mut rib, PeerId(3));
    assert_eq!(new.prefixes(), [Q]);
}

/// RFC 8654 §4: what fits a long message but not this peer's is withdrawn, not left as it was.
#[test]
fn attributes_too_long_for_a_peer_withdraw_its_older_path() {
    let (mut rib, mut reader) = two_peers(config());
    feed(&mut rib, &[P]);
    reader.listen(&mut rib, READER);
    assert_eq!(reader.prefixes(), [P]);
    let mut long = fields(&[64501]);
    long.communities = (0..1100)
        .map(|n| bgp_wire::Community::new(64501, n))
        .collect();
    rib.update(FEEDER, &announce(&[P], &long, "172.16.0.1"));
    reader.listen(&mut rib, READER);
    assert!(reader.held.is_empty());
}

/// Enough for several chunks, dumps in several steps, and both ways of being told.
#[test]
fn large_tables_arrive_whole() {
    let (mut rib, mut reader) = two_peers(config());
    rib.peer_up(PeerId(3), session(PeerKind::Ebgp, 3));
    let texts = many(20_000);
    for (number, part) in texts.chunks(2).enumerate() {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let path = fields(&[64501, 100_000 + number as u32]);
        rib.update(FEEDER, &announce(&part, &path, "172.16.0.1"));
    }
    reader.listen(&mut rib, READER);
    assert_eq!(reader.held.len(), 20_000);
    let mut late = Listener::default();
    late.listen(&mut rib, PeerId(3));
    assert_eq!(late.held, reader.held);
    // Once the others come to nothing, only what changes is told.
    rib.update(FEEDER, &withdraw(&["10.0.0.0/24"]));
    assert_eq!(late.listen(&mut rib, PeerId(3)), 1);
    let withdrawn = Message::Update(Update {
        unreach: withdraw(&["10.0.0.0/24"]).unreach,
        ..Update::default()
    });
    assert_eq!(late.messages.last(), Some(&withdrawn));
}
