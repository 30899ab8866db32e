use super::*;

/// `eth0:192.0.2.11/24,192.0.2.5/24`, with a `!` in front for an interface that is down.
fn host(interfaces: &[&str]) -> Vec<Interface> {
    let interfaces = interfaces.iter().map(|text| {
        let (name, addresses) = text.split_once(':').unwrap();
        Interface {
            name: name.trim_start_matches('!').into(),
            up: !name.starts_with('!'),
            addresses: addresses
                .split(',')
                .map(|net| net.parse().unwrap())
                .collect(),
            mtu: 1500,
        }
    });
    interfaces.collect()
}

struct Case {
    interfaces: Vec<Interface>,
    annotated: Option<&'static str>,
    internal: Option<&'static str>,
    any_internal: bool,
    reached: Option<&'static str>,
    holders: BTreeMap<IpAddr, String>,
    missing_for: Duration,
    running_for: Duration,
}

impl Case {
    fn new(interfaces: &[&str]) -> Case {
        Case {
            interfaces: host(interfaces),
            annotated: None,
            internal: None,
            any_internal: false,
            reached: None,
            holders: BTreeMap::new(),
            missing_for: Duration::ZERO,
            running_for: PATIENCE,
        }
    }

    /// What is decided for IPv4, in short.
    fn decides(&self, wish: &Wish) -> String {
        self.decides_in(wish, false)
    }

    fn decides_in(&self, wish: &Wish, is_ipv6: bool) -> String {
        let parsed = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let facts = Facts {
            is_ipv6,
            interfaces: &self.interfaces,
            annotated: self.annotated,
            internal: parsed(self.internal),
            any_internal: self.any_internal || self.internal.is_some(),
            reached: parsed(self.reached),
            holders: &self.holders,
            missing_for: self.missing_for,
            running_for: self.running_for,
        };
        match decide(wish, &facts) {
            Decision::Keep(Some(address)) => format!("keep {address}"),
            Decision::Keep(None) => "nothing".to_owned(),
            Decision::Write(net) => format!("write {net}"),
            Decision::Remove => "remove".to_owned(),
            Decision::Trouble(trouble) => {
                format!(
                    "{}, keep {:?}: {}",
                    trouble.reason, trouble.stays, trouble.problem
                )
            }
        }
    }
}

const ON_FILES: Wish = Wish::Unasked(Unasked {
    heal: false,
    first_found: false,
});
const ON_KUBERNETES: Wish = Wish::Unasked(Unasked {
    heal: true,
    first_found: true,
});

fn detected(method: &str) -> Wish {
    Wish::parse(None, Some(method), false, Unasked::default()).unwrap()
}

const TWO: [&str; 4] = [
    "lo:127.0.0.1/8",
    "docker0:172.17.0.1/16",
    "eth0:192.0.2.11/24",
    "eth1:198.51.100.11/24",
];

#[test]
fn settings_are_read_as_calico_has_them() {
    let parse = |address, method, is_ipv6| {
        let wish = Wish::parse(address, method, is_ipv6, Unasked::default());
        wish.map_err(|error| format!("{error:#}"))
    };
    assert_eq!(parse(None, None, false), Ok(ON_FILES));
    assert_eq!(
        parse(Some("none"), Some("first-found"), false),
        Ok(Wish::None)
    );
    assert_eq!(
        parse(Some("autodetect"), None, false),
        Ok(Wish::Detected(Method::Default))
    );
    assert_eq!(
        parse(Some("autodetect"), Some("first-found"), true),
        Ok(Wish::Detected(Method::FirstFound))
    );
    let fixed = |length| Ok(Wish::Fixed("192.0.2.1".parse().unwrap(), length));
    assert_eq!(parse(Some("192.0.2.1"), None, false), fixed(None));
    assert_eq!(parse(Some("192.0.2.1/25"), None, false), fixed(Some(25)));
    for (address, method, is_ipv6, word) in [
        (Some("auto"), None, false, "autodetect"),
        (Some("2001:db8::1"), None, false, "other family"),
        (None, Some("can-reach="), false, "can-reach=DESTINATION"),
        (None, Some("interface="), false, "no name"),
        (None, Some("interface=("), false, "regular expression"),
        (None, Some("cidr=192.0.2.0/24"), true, "own family"),
        (None, Some("cidr=x"), false, "CIDR"),
        (None, Some("magic"), false, "none of"),
    ] {
        let error = parse(address, method, is_ipv6).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn methods_find_what_they_say() {
    let case = Case {
        internal: Some("198.51.100.11"),
        reached: Some("198.51.100.11"),
        ..Case::new(&TWO)
    };
    for (method, expected) in [
        ("first-found", "write 192.0.2.11/24"),
        ("kubernetes-internal-ip", "write 198.51.100.11/24"),
        ("can-reach=203.0.113.1", "write 198.51.100.11/24"),
        ("interface=eth1", "write 198.51.100.11/24"),
        ("interface=none, th0$", "write 192.0.2.11/24"),
        ("interface=docker0", "write 172.17.0.1/16"),
        ("skip-interface=eth0,eth5", "write 198.51.100.11/24"),
        ("cidr=198.51.100.0/25,10.0.0.0/8", "write 198.51.100.11/24"),
    ] {
        assert_eq!(case.decides(&detected(method)), expected, "{method}");
    }
    let internal = detected("kubernetes-internal-ip");
    assert!(
        Case::new(&TWO)
            .decides(&internal)
            .contains("no InternalIP of IPv4")
    );
    for (method, word) in [
        ("interface=eth7", "named eth7"),
        ("skip-interface=eth", "not named eth"),
        ("cidr=10.0.0.0/8", "in 10.0.0.0/8"),
        ("can-reach=203.0.113.1", "203.0.113.1"),
    ] {
        let told = Case::new(&TWO).decides(&detected(method));
        assert!(
            told.starts_with("NotFound") && told.contains(word),
            "{told}"
        );
    }
}

#[test]
fn a_method_that_finds_nothing_leaves_what_is_annotated() {
    let mut case = Case::new(&TWO);
    case.annotated = Some("192.0.2.11/24");
    let told = case.decides(&detected("interface=eth7"));
    assert!(
        told.starts_with("NotFound, keep Some(192.0.2.11)"),
        "{told}"
    );
}

#[test]
fn by_default_the_internal_ip_counts_then_the_first_address() {
    let autodetect = Wish::Detected(Method::Default);
    let mut case = Case::new(&TWO);
    assert_eq!(case.decides(&autodetect), "write 192.0.2.11/24");
    assert_eq!(case.decides(&ON_KUBERNETES), "write 192.0.2.11/24");
    assert_eq!(case.decides(&ON_FILES), "nothing");
    case.running_for = PATIENCE - Duration::from_secs(1);
    assert!(case.decides(&autodetect).contains("no InternalIP"));
    case.internal = Some("198.51.100.11");
    for wish in [autodetect, ON_KUBERNETES, ON_FILES] {
        assert_eq!(case.decides(&wish), "write 198.51.100.11/24");
    }
    // A cluster of the other family.
    case = Case::new(&TWO);
    case.any_internal = true;
    assert_eq!(case.decides(&ON_KUBERNETES), "nothing");
}

#[test]
fn what_is_annotated_stays_where_no_method_is_asked_for() {
    let mut case = Case::new(&TWO);
    case.internal = Some("198.51.100.11");
    case.annotated = Some("192.0.2.11/26");
    for wish in [ON_KUBERNETES, ON_FILES] {
        assert_eq!(case.decides(&wish), "keep 192.0.2.11");
    }
    assert_eq!(
        case.decides(&detected("kubernetes-internal-ip")),
        "write 198.51.100.11/24"
    );
    case.annotated = Some("nonsense");
    assert_eq!(case.decides(&ON_FILES), "nothing", "the calculation tells");
}

#[test]
fn an_address_the_host_does_not_have_gives_way_only_where_the_agent_follows_the_node() {
    let mut case = Case::new(&TWO);
    case.annotated = Some("192.0.2.99/24");
    case.internal = Some("192.0.2.11");
    let told = case.decides(&ON_FILES);
    assert!(
        told.starts_with("NotOnHost, keep Some(192.0.2.99)"),
        "{told}"
    );
    let soon = case.decides(&ON_KUBERNETES);
    assert!(soon.starts_with("NotOnHost"), "it may come back: {soon}");
    case.missing_for = VANISHED;
    assert_eq!(case.decides(&ON_KUBERNETES), "write 192.0.2.11/24");
    assert!(case.decides(&ON_FILES).starts_with("NotOnHost"));
}

#[test]
fn an_address_in_use_stays_though_another_comes_first() {
    let mut case = Case::new(&[
        "eth0:192.0.2.11/24",
        "!eth1:198.51.100.11/24,198.51.100.5/24",
    ]);
    case.annotated = Some("198.51.100.5/24");
    for method in ["first-found", "skip-interface=x", "interface=eth"] {
        assert_eq!(
            case.decides(&detected(method)),
            "keep 198.51.100.5",
            "{method}"
        );
    }
    assert_eq!(
        case.decides(&detected("interface=eth0")),
        "write 192.0.2.11/24"
    );
    // The length of its subnet changed.
    case.annotated = Some("198.51.100.5/32");
    assert_eq!(
        case.decides(&detected("first-found")),
        "write 198.51.100.5/24"
    );
    // And a new choice is never on an interface that is down.
    case.annotated = None;
    let told = case.decides(&detected("skip-interface=eth0"));
    assert!(told.starts_with("NotFound"), "{told}");
}

#[test]
fn one_that_vanished_is_waited_for() {
    let mut case = Case::new(&["eth1:198.51.100.11/24"]);
    case.annotated = Some("192.0.2.11/24");
    let told = case.decides(&detected("first-found"));
    assert!(
        told.starts_with("NotOnHost, keep Some(192.0.2.11)"),
        "{told}"
    );
    case.missing_for = VANISHED;
    assert_eq!(
        case.decides(&detected("first-found")),
        "write 198.51.100.11/24"
    );
}

#[test]
fn an_address_of_another_node_is_not_written() {
    let mut case = Case::new(&TWO);
    case.holders
        .insert("192.0.2.11".parse().unwrap(), "node7".to_owned());
    for wish in [detected("first-found"), ON_KUBERNETES] {
        let told = case.decides(&wish);
        assert!(
            told.starts_with("Conflict, keep None") && told.contains("Node/node7"),
            "{told}"
        );
    }
    case.annotated = Some("192.0.2.11/24");
    assert_eq!(
        case.decides(&ON_KUBERNETES),
        "keep 192.0.2.11",
        "both say so already"
    );
}

#[test]
fn a_fixed_address_must_be_on_the_host_and_none_takes_the_annotation_away() {
    let mut case = Case::new(&TWO);
    let fixed = |text| Wish::parse(Some(text), None, false, Unasked::default()).unwrap();
    assert_eq!(case.decides(&fixed("192.0.2.11")), "write 192.0.2.11/24");
    assert_eq!(case.decides(&fixed("192.0.2.11/25")), "write 192.0.2.11/25");
    assert!(case.decides(&fixed("192.0.2.12")).starts_with("NotOnHost"));
    assert_eq!(case.decides(&Wish::None), "nothing");
    case.annotated = Some("192.0.2.11/24");
    assert_eq!(case.decides(&Wish::None), "remove");
}

#[test]
fn ipv6_is_chosen_among_addresses_that_others_reach() {
    let case = Case::new(&["eth0:192.0.2.11/24,fe80::11/64,2001:db8::11/64"]);
    let first = Wish::Detected(Method::FirstFound);
    assert_eq!(case.decides_in(&first, true), "write 2001:db8::11/64");
    assert_eq!(case.decides_in(&ON_FILES, true), "nothing");
}
