use bgp_wire::attribute::{ExtCommunity, LargeCommunity, SegmentKind};
use bgp_wire::{AsPath, AttributesBuilder, Community};

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn rule(name: &str, prefixes: Match, source: Source, verdict: Verdict) -> Rule {
    Rule {
        prefixes,
        source,
        ..Rule::new(name, verdict)
    }
}

fn changing(name: &str, verdict: Verdict, changes: Vec<Change>) -> Rule {
    Rule {
        changes,
        ..Rule::new(name, verdict)
    }
}

fn plain() -> Attributes {
    AttributesBuilder::default().build().unwrap()
}

/// A path on a session with an external peer, with next hop 192.0.2.1.
fn subject<'a>(text: &str, is_local: bool, attributes: &'a Attributes) -> Subject<'a> {
    Subject {
        prefix: prefix(text),
        is_local,
        peer_is_external: true,
        attributes,
        local_pref: 100,
        next_hop: Some(IpAddr::from([192, 0, 2, 1])),
    }
}

#[test]
fn set_entries_cover_what_their_form_says() {
    let mut set = PrefixSet::new();
    set.insert(prefix("10.0.0.0/26"));
    set.insert_within(prefix("192.0.2.0/24"));
    set.insert_range(prefix("198.51.100.0/24"), 26, 28);
    set.insert_range(prefix("198.51.100.0/24"), 32, 32);
    set.insert_within(prefix("2001:db8::/32"));
    let covered = [
        ("10.0.0.0/26", true),
        ("10.0.0.0/27", false),
        ("10.0.0.0/25", false),
        ("10.0.0.64/26", false),
        ("192.0.2.0/24", true),
        ("192.0.2.7/32", true),
        ("192.0.0.0/16", false),
        ("198.51.100.0/24", false),
        ("198.51.100.64/26", true),
        ("198.51.100.64/29", false),
        ("198.51.100.64/32", true),
        ("2001:db8::1/128", true),
        ("2001:db9::/32", false),
    ];
    for (text, expected) in covered {
        assert_eq!(set.contains(prefix(text)), expected, "{text}");
    }
    assert!(!PrefixSet::new().contains(prefix("0.0.0.0/0")));
}

#[test]
fn sets_are_equal_whatever_the_order_of_insertion() {
    let texts = ["10.0.0.0/26", "10.0.0.64/26", "192.0.2.0/24"];
    let forward: PrefixSet = texts.map(prefix).into_iter().collect();
    let backward: PrefixSet = texts.map(prefix).into_iter().rev().collect();
    assert_eq!(forward, backward);
}

/// The agent's own export policy: its confirmed blocks, nothing else out of the pool, and what
/// others announced only if it is outside the pool.
#[test]
fn first_matching_rule_decides() {
    let blocks: PrefixSet = [prefix("10.0.1.0/26")].into_iter().collect();
    let mut pool = PrefixSet::new();
    pool.insert_within(prefix("10.0.0.0/16"));
    let policy = Policy {
        rules: vec![
            rule(
                "blocks",
                Match::In(Arc::new(blocks)),
                Source::Local,
                Verdict::Accept,
            ),
            rule(
                "pool",
                Match::In(Arc::new(pool)),
                Source::Any,
                Verdict::Reject,
            ),
        ],
        otherwise: Verdict::Accept,
    };
    let asked = |text, is_local| {
        let attributes = plain();
        let judgement = policy.evaluate(&subject(text, is_local, &attributes));
        let name = judgement.rule.map(|rule| rule.name.to_string());
        (judgement.verdict, name)
    };
    let by = |name: &str| Some(name.to_owned());
    assert_eq!(asked("10.0.1.0/26", true), (Verdict::Accept, by("blocks")));
    assert_eq!(asked("10.0.1.0/26", false), (Verdict::Reject, by("pool")));
    assert_eq!(asked("10.0.2.0/26", true), (Verdict::Reject, by("pool")));
    assert_eq!(asked("192.0.2.0/24", false), (Verdict::Accept, None));
}

#[test]
fn outside_a_set() {
    let only = Policy {
        rules: vec![rule(
            "others",
            Match::NotIn(Arc::new([prefix("192.0.2.0/24")].into_iter().collect())),
            Source::Learned,
            Verdict::Reject,
        )],
        otherwise: Verdict::Accept,
    };
    let attributes = plain();
    let verdict = |text, is_local| {
        let subject = subject(text, is_local, &attributes);
        only.evaluate(&subject).verdict
    };
    assert_eq!(verdict("192.0.2.0/24", false), Verdict::Accept);
    assert_eq!(verdict("192.0.2.0/25", false), Verdict::Reject);
    assert_eq!(verdict("192.0.2.0/25", true), Verdict::Accept);
}

/// Whether a rule matches, asked of a policy of this rule alone.
fn matches(rule: Rule, subject: &Subject<'_>) -> bool {
    let policy = Policy {
        rules: vec![rule],
        otherwise: Verdict::Reject,
    };
    policy.evaluate(subject).is_accepted()
}

#[test]
fn a_rule_matches_only_where_all_its_fields_do() {
    let fields = AttributesBuilder {
        as_path: AsPath::sequence(&[64501, 64502]),
        communities: vec![Community(7)],
        local_pref: Some(200),
        ..AttributesBuilder::default()
    };
    let attributes = fields.build().unwrap();
    let subject = Subject {
        local_pref: 200,
        next_hop: Some(IpAddr::from([192, 0, 2, 9])),
        ..subject("10.0.0.0/26", false, &attributes)
    };
    let set = |text: &str| Match::In(Arc::new([prefix(text)].into_iter().collect()));
    let all = Rule {
        prefixes: set("10.0.0.0/26"),
        source: Source::Learned,
        peers: PeerScope::External,
        communities: vec![CommunityMatch::Standard(8), CommunityMatch::Standard(7)],
        as_path_prefix: vec![64501],
        next_hops: set("192.0.2.9/32"),
        local_pref: Some(200),
        ..Rule::new("all", Verdict::Accept)
    };
    assert!(matches(all.clone(), &subject));
    let others = [
        Rule {
            prefixes: set("10.0.0.0/27"),
            ..all.clone()
        },
        Rule {
            source: Source::Local,
            ..all.clone()
        },
        Rule {
            peers: PeerScope::Internal,
            ..all.clone()
        },
        Rule {
            communities: vec![CommunityMatch::Standard(8)],
            ..all.clone()
        },
        Rule {
            as_path_prefix: vec![64502],
            ..all.clone()
        },
        Rule {
            next_hops: set("192.0.2.8/32"),
            ..all.clone()
        },
        Rule {
            local_pref: Some(100),
            ..all
        },
    ];
    for rule in others {
        assert!(!matches(rule.clone(), &subject), "{rule:?}");
    }
}

/// RFC 1997, RFC 4360, RFC 8092.
#[test]
fn communities_of_each_kind_are_matched_by_value() {
    let large = LargeCommunity {
        global: 1,
        local1: 2,
        local2: 3,
    };
    let fields = AttributesBuilder {
        communities: vec![Community(1)],
        ext_communities: vec![ExtCommunity([0, 2, 0, 0, 0, 0, 0, 1])],
        large_communities: vec![large],
        ..AttributesBuilder::default()
    };
    let attributes = fields.build().unwrap();
    let subject = subject("10.0.0.0/26", false, &attributes);
    let carries = |community| {
        let communities = vec![community];
        matches(
            Rule {
                communities,
                ..Rule::new("", Verdict::Accept)
            },
            &subject,
        )
    };
    assert!(carries(CommunityMatch::Standard(1)));
    assert!(!carries(CommunityMatch::Standard(2)));
    assert!(carries(CommunityMatch::Large([1, 2, 3])));
    assert!(!carries(CommunityMatch::Large([1, 3, 2])));
    assert!(carries(CommunityMatch::Extended([0, 2, 0, 0, 0, 0, 0, 1])));
    assert!(!carries(CommunityMatch::Extended([0, 2, 0, 0, 0, 0, 0, 2])));
}

#[test]
fn an_as_path_begins_with_what_is_nearest() {
    let mut path = AsPath::sequence(&[1, 2]);
    path.push(SegmentKind::Set, &[3, 4]);
    path.push(SegmentKind::Sequence, &[5]);
    let fields = AttributesBuilder {
        as_path: path,
        ..AttributesBuilder::default()
    };
    let attributes = fields.build().unwrap();
    let subject = subject("10.0.0.0/26", false, &attributes);
    let begins = |asns: &[u32]| {
        let as_path_prefix = asns.to_vec();
        matches(
            Rule {
                as_path_prefix,
                ..Rule::new("", Verdict::Accept)
            },
            &subject,
        )
    };
    for asns in [&[1][..], &[1, 2], &[1, 2, 3], &[1, 2, 4], &[1, 2, 4, 5]] {
        assert!(begins(asns), "{asns:?}");
    }
    for asns in [
        &[2][..],
        &[1, 3],
        &[1, 2, 5],
        &[1, 2, 3, 4],
        &[1, 2, 3, 5, 6],
    ] {
        assert!(!begins(asns), "{asns:?}");
    }
}

#[test]
fn only_any_next_hop_matches_a_path_without_one() {
    let attributes = plain();
    let subject = Subject {
        next_hop: None,
        ..subject("10.0.0.0/26", true, &attributes)
    };
    let none = Arc::new(PrefixSet::new());
    let with = |next_hops| Rule {
        next_hops,
        ..Rule::new("", Verdict::Accept)
    };
    assert!(matches(with(Match::Any), &subject));
    assert!(!matches(with(Match::In(none.clone())), &subject));
    assert!(!matches(with(Match::NotIn(none)), &subject));
}

#[test]
fn changes_add_up_over_rules_that_ask_the_next_one() {
    let policy = Policy {
        rules: vec![
            changing("one", Verdict::Next, vec![Change::AddCommunity(1)]),
            changing("two", Verdict::Next, vec![Change::SetMed(Some(5))]),
            Rule {
                communities: vec![CommunityMatch::Standard(1)],
                ..changing("three", Verdict::Accept, vec![Change::SetLocalPref(7)])
            },
            Rule::new("four", Verdict::Reject),
        ],
        otherwise: Verdict::Reject,
    };
    let attributes = plain();
    let judgement = policy.evaluate(&subject("10.0.0.0/26", false, &attributes));
    assert_eq!(judgement.verdict, Verdict::Accept);
    assert_eq!(judgement.named().unwrap().name.as_ref(), "three");
    let all = [
        Change::AddCommunity(1),
        Change::SetMed(Some(5)),
        Change::SetLocalPref(7),
    ];
    assert!(judgement.changes.iter().copied().eq(&all));
}

#[test]
fn what_is_rejected_is_not_changed() {
    let policy = Policy {
        rules: vec![
            changing("one", Verdict::Next, vec![Change::AddCommunity(1)]),
            Rule::new("two", Verdict::Reject),
        ],
        otherwise: Verdict::Accept,
    };
    let attributes = plain();
    let judgement = policy.evaluate(&subject("10.0.0.0/26", false, &attributes));
    assert_eq!(judgement.named().unwrap().name.as_ref(), "two");
    assert!(!judgement.is_accepted() && judgement.changes.is_empty());
}

#[test]
fn the_last_rule_that_changed_something_is_named_where_none_decided() {
    let policy = Policy {
        rules: vec![
            changing("one", Verdict::Next, vec![Change::AddCommunity(1)]),
            Rule::new("two", Verdict::Next),
        ],
        otherwise: Verdict::Next,
    };
    let attributes = plain();
    let judgement = policy.evaluate(&subject("10.0.0.0/26", false, &attributes));
    assert!(judgement.is_accepted() && judgement.rule.is_none());
    assert_eq!(judgement.named().unwrap().name.as_ref(), "one");
}

/// What a rule matches on is what the rules before it left.
#[test]
fn later_rules_see_what_earlier_ones_changed() {
    let fields = AttributesBuilder {
        as_path: AsPath::sequence(&[3]),
        communities: vec![Community(9)],
        ..AttributesBuilder::default()
    };
    let attributes = fields.build().unwrap();
    let subject = subject("10.0.0.0/26", false, &attributes);
    let after = |changes: Vec<Change>, rule: Rule| {
        let policy = Policy {
            rules: vec![changing("", Verdict::Next, changes), rule],
            otherwise: Verdict::Reject,
        };
        policy.evaluate(&subject).is_accepted()
    };
    let accept = Rule::new("", Verdict::Accept);
    let with = |community| Rule {
        communities: vec![community],
        ..accept.clone()
    };
    let nine = CommunityMatch::Standard(9);
    assert!(!after(vec![Change::RemoveCommunity(nine)], with(nine)));
    let back = vec![Change::RemoveCommunity(nine), Change::AddCommunity(9)];
    assert!(after(back, with(nine)));
    let large = CommunityMatch::Large([1, 2, 3]);
    assert!(after(
        vec![Change::AddLargeCommunity([1, 2, 3])],
        with(large)
    ));
    let extended = CommunityMatch::Extended([1; 8]);
    assert!(after(
        vec![Change::AddExtendedCommunity([1; 8])],
        with(extended)
    ));
    let preferred = Rule {
        local_pref: Some(7),
        ..accept.clone()
    };
    let set = vec![Change::SetLocalPref(8), Change::SetLocalPref(7)];
    assert!(after(set, preferred.clone()));
    assert!(!after(vec![Change::SetLocalPref(8)], preferred));
    let via = |asns: &[u32]| Rule {
        as_path_prefix: asns.to_vec(),
        ..accept.clone()
    };
    let prepends = || {
        vec![
            Change::PrependAsPath(vec![2]),
            Change::PrependAsPath(vec![1, 1]),
        ]
    };
    assert!(after(prepends(), via(&[1, 1, 2, 3])));
    assert!(after(prepends(), via(&[1])));
    assert!(!after(prepends(), via(&[1, 2])));
    assert!(!after(prepends(), via(&[3])));
}

#[test]
fn changes_are_made_in_order_and_add_nothing_twice() {
    let mut fields = AttributesBuilder {
        as_path: AsPath::sequence(&[3]),
        med: Some(4),
        communities: vec![Community(1), Community(2)],
        ..AttributesBuilder::default()
    };
    let changes = [
        Change::AddCommunity(1),
        Change::AddCommunity(3),
        Change::RemoveCommunity(CommunityMatch::Standard(2)),
        Change::AddLargeCommunity([1, 2, 3]),
        Change::AddLargeCommunity([1, 2, 3]),
        Change::AddLargeCommunity([4, 5, 6]),
        Change::RemoveCommunity(CommunityMatch::Large([4, 5, 6])),
        Change::AddExtendedCommunity([7; 8]),
        Change::AddExtendedCommunity([8; 8]),
        Change::RemoveCommunity(CommunityMatch::Extended([7; 8])),
        Change::PrependAsPath(vec![1, 0, 2]),
        Change::SetLocalPref(9),
        Change::SetMed(None),
    ];
    for change in &changes {
        change.apply(&mut fields);
    }
    let expected = AttributesBuilder {
        as_path: AsPath::sequence(&[1, 2, 3]),
        local_pref: Some(9),
        communities: vec![Community(1), Community(3)],
        large_communities: vec![LargeCommunity {
            global: 1,
            local1: 2,
            local2: 3,
        }],
        ext_communities: vec![ExtCommunity([8; 8])],
        ..AttributesBuilder::default()
    };
    assert_eq!(fields, expected);
}
