use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn rule(name: &str, prefixes: Match, source: Source, verdict: Verdict) -> Rule {
    Rule {
        name: name.into(),
        prefixes,
        source,
        verdict,
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
        let (verdict, rule) = policy.evaluate(prefix(text), is_local);
        (verdict, rule.map(|rule| rule.name.as_ref()))
    };
    assert_eq!(
        asked("10.0.1.0/26", true),
        (Verdict::Accept, Some("blocks"))
    );
    assert_eq!(asked("10.0.1.0/26", false), (Verdict::Reject, Some("pool")));
    assert_eq!(asked("10.0.2.0/26", true), (Verdict::Reject, Some("pool")));
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
    assert_eq!(
        only.evaluate(prefix("192.0.2.0/24"), false).0,
        Verdict::Accept
    );
    assert_eq!(
        only.evaluate(prefix("192.0.2.0/25"), false).0,
        Verdict::Reject
    );
    assert_eq!(
        only.evaluate(prefix("192.0.2.0/25"), true).0,
        Verdict::Accept
    );
}
