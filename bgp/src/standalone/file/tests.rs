use bgp::{Change, Match, MaxPrefixesAction, NextHopMode, Role, Ttl, Verdict};

use super::*;

const LOCAL: &str = "local: {asn: 64500, router_id: 192.0.2.1}\n";

fn in_file(text: &str) -> Result<Config> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bgp.yaml");
    fs::write(&path, text)?;
    load(&path)
}

fn peers(text: &str) -> BTreeMap<PeerKey, PeerConfig> {
    in_file(&format!("{LOCAL}{text}")).unwrap().desired.peers
}

/// The example has every field there is; what it says arrives.
#[test]
fn example_file_means_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tortie-bgp.yaml");
    let Config { desired, next_hops } = load(&path).unwrap();
    assert_eq!(
        (4, 1, 2),
        (
            desired.peers.len(),
            desired.dynamic.len(),
            desired.originate.len()
        )
    );
    let tor = &desired.peers[&"tor-1".into()];
    assert_eq!(
        (64510, 30, Some(10), Some(5)),
        (
            tor.remote_as,
            tor.hold_time_secs,
            tor.keepalive_secs,
            tor.connect_retry_secs
        )
    );
    assert_eq!(
        (Some(3600), Some(Role::Customer)),
        (tor.long_lived_secs, tor.role)
    );
    assert!(!tor.long_lived_to_all && desired.peers[&"node-1".into()].long_lived_to_all);
    assert_eq!(
        (Ttl::Security { hops: 1 }, NextHopMode::Default),
        (tor.ttl, tor.next_hop)
    );
    assert_eq!(Some(4), tor.add_path_limit.map(Into::into));
    let max = tor.max_prefixes.unwrap();
    assert_eq!(
        MaxPrefixesAction::Close {
            restart_after_secs: Some(300)
        },
        max.action
    );
    assert!(tor.bfd.is_some() && tor.password.is_some());
    assert_eq!(
        ["no-default", "customers-of-64510", "far-exit"],
        tor.import
            .rules
            .iter()
            .map(|rule| &*rule.name)
            .collect::<Vec<_>>()[..]
    );
    assert_eq!(
        (Verdict::Accept, Verdict::Reject),
        (tor.import.otherwise, tor.export.otherwise)
    );
    let far = &tor.import.rules[2];
    assert_eq!((5, Verdict::Next), (far.changes.len(), far.verdict));
    assert_eq!(Change::PrependAsPath(vec![64500, 64500]), far.changes[3]);
    let Match::In(blocks) = &tor.export.rules[0].prefixes else {
        panic!("{:?}", tor.export.rules[0]);
    };
    assert!(blocks.contains("10.244.7.0/24".parse().unwrap()));
    assert!(!blocks.contains("10.244.7.0/28".parse().unwrap()));
    let (one, two) = (
        &desired.peers[&"node-1".into()],
        &desired.peers[&"node-2".into()],
    );
    assert!(one.reflector_client && one.passive && two.passive);
    assert_eq!((90, 15), (one.hold_time_secs, two.hold_time_secs));
    let leaf = &desired.peers[&"leaf-1".into()];
    assert_eq!(
        (Some("eth1"), true),
        (leaf.interface.as_deref(), leaf.address.is_unspecified())
    );
    let racks = &desired.dynamic[&"racks".into()];
    assert_eq!(
        (50, true),
        (racks.limit.get(), racks.template.reflector_client)
    );
    assert_eq!(
        Reachability::Unreachable,
        next_hops[&"192.0.2.253".parse::<std::net::IpAddr>().unwrap().into()]
    );
}

#[test]
fn errors_name_file_field_and_remedy() {
    let peer = |fields: &str| format!("{LOCAL}peers: [{{address: 192.0.2.2, asn: 64501{fields}}}]");
    let rule = |fields: &str| format!("{LOCAL}filters: {{f: [{{{fields}}}]}}");
    let cases = [
        (
            "local: {asn: 0, router_id: 192.0.2.1}".to_owned(),
            "local.asn: AS 0 is reserved",
        ),
        (
            "local: {asn: 1, router_id: 192.0.2.1, asnn: 2}".to_owned(),
            "local.asnn: unknown field `asnn`",
        ),
        (format!("{LOCAL}colour: blue"), "unknown field `colour`"),
        (peer(", hold_time: 2"), "peers[0]: hold_time"),
        (
            peer(", hold_time: soon"),
            "peers[0].hold_time: invalid type: string \"soon\"",
        ),
        (
            peer(", holdtime: 9"),
            "peers[0].holdtime: unknown field `holdtime`",
        ),
        (
            peer(", multihop: 2, ttl_security: 1"),
            "ttl_security; remove one",
        ),
        (
            peer(", reflector_client: true"),
            "reflector_client: only peers in our own AS 64500",
        ),
        (peer(", families: [ipx]"), "unknown variant `ipx`"),
        (peer(", families: []"), "families: name at least one"),
        (peer(", role_strict: true"), "role_strict: needs role"),
        (
            peer(", add_path_limit: 2"),
            "add_path_limit: needs add_path",
        ),
        (
            peer(", long_lived: 16777216"),
            "long_lived: at most 16777215",
        ),
        (
            peer(", long_lived_to_all: true"),
            "long_lived_to_all: only peers in our own AS 64500",
        ),
        (
            peer(", connect_retry: 0"),
            "connect_retry: must be at least 1",
        ),
        (
            peer(", max_prefixes: {limit: 0}"),
            "peers[0].max_prefixes.limit",
        ),
        (
            peer(", max_prefixes: {limit: 1, action: warn, restart_after: 9}"),
            "restart_after: only action: close",
        ),
        (peer(", bfd: {min_tx_ms: 0}"), "peers[0].bfd.min_tx_ms"),
        (
            peer(", import: [nothing]"),
            "peers[0]: import: there is no filter nothing",
        ),
        (
            peer(", group: rack"),
            "peers[0].group: there is no group rack",
        ),
        (
            format!("{LOCAL}peers: [{{address: 192.0.2.2}}]"),
            "peers[0]: asn: give the peer's AS number",
        ),
        (
            format!("{LOCAL}peers: [{{asn: 64501}}]"),
            "peers[0]: address: give the peer's address",
        ),
        (
            format!("{LOCAL}peers: [{{asn: 64501, address: 'fe80::1'}}]"),
            "interface: a link-local address needs one",
        ),
        (
            format!("{LOCAL}peers: [{{asn: 64500, address: 192.0.2.2, role: peer}}]"),
            "role: only peers in another AS",
        ),
        (
            format!("{LOCAL}groups: {{rack: {{holdtime: 9}}}}"),
            "groups.rack.holdtime: unknown field",
        ),
        (
            format!("{LOCAL}groups: {{rack: {{hold_time: 1}}}}"),
            "groups.rack: hold_time",
        ),
        (
            format!("{LOCAL}defaults: {{keepalive: [1]}}"),
            "defaults.keepalive",
        ),
        (
            format!("{LOCAL}dynamic: [{{asn: 64501}}]"),
            "dynamic[0]: missing field `range`",
        ),
        (
            format!("{LOCAL}dynamic: [{{asn: 64501, range: 10.0.0.0/8, address: 10.0.0.1}}]"),
            "remove address and interface",
        ),
        (
            format!("{LOCAL}originate: [{{prefix: 10.0.0.1/26}}]"),
            "write 10.0.0.0/26",
        ),
        (
            format!("{LOCAL}originate: [{{prefix: 10.0.0.0/26, communities: ['1:2:3']}}]"),
            "1:2:3 is no community",
        ),
        (
            format!("{LOCAL}next_hops: [{{address: 192.0.2.9}}]"),
            "next_hops[0]: metric: give the cost",
        ),
        (
            rule("then: maybe"),
            "filters.f[0].then: unknown variant `maybe`",
        ),
        (
            rule("prefixes: ['10.0.0.0/8 le 4'], then: accept"),
            "lengths must be in order, 8 <= ge <= le <= 32",
        ),
        (
            rule("prefixes: ['10.0.0.0/8 up 4'], then: accept"),
            "write PREFIX",
        ),
        (
            rule("prefixes: [], not_prefixes: [], then: accept"),
            "filters.f[0]: prefixes: cannot go with not_prefixes",
        ),
        (
            rule("communities: ['1'], then: accept"),
            "1 is no community",
        ),
        (
            rule("change: [{set_med: 1, prepend: [1]}], then: accept"),
            "change[0]: each change has exactly one field",
        ),
        (
            rule("change: [{set_med: 1}], then: reject"),
            "what is rejected is not changed",
        ),
    ];
    for (text, expected) in cases {
        let error = format!("{:#}", in_file(&text).unwrap_err());
        assert!(
            error.contains(expected) && error.contains("bgp.yaml"),
            "{text}\n{error}\nshould say {expected}"
        );
    }
}

#[test]
fn peers_must_differ() {
    let one = "{address: 192.0.2.2, asn: 64501}";
    let error = in_file(&format!("{LOCAL}peers: [{one}, {one}]")).unwrap_err();
    assert!(
        format!("{error:#}").contains("another peer has address"),
        "{error:#}"
    );
    let ports = "peers: [{name: a, address: 192.0.2.2, asn: 1}, {name: b, address: 192.0.2.2, asn: 1, port: 1179}]";
    assert_eq!(2, peers(ports).len());
    let links = "peers: [{interface: eth0, asn: 64501}, {interface: eth1, asn: 64501}]";
    assert_eq!(2, peers(links).len());
}

#[test]
fn a_peer_overrides_its_group_and_the_group_the_defaults() {
    let text = "defaults: {hold_time: 30, keepalive: 5}\ngroups: {rack: {asn: 64501, hold_time: 20}}\npeers: [{group: rack, address: 192.0.2.2, hold_time: 10}, {group: rack, address: 192.0.2.3}, {asn: 1, address: 192.0.2.4}]";
    let holds: Vec<_> = peers(text)
        .values()
        .map(|peer| (peer.remote_as, peer.hold_time_secs, peer.keepalive_secs))
        .collect();
    assert_eq!(
        [(64501, 10, Some(5)), (64501, 20, Some(5)), (1, 30, Some(5))],
        holds[..]
    );
}

#[test]
fn rules_of_several_filters_are_asked_one_after_the_other() {
    let text = "filters: {a: [{then: next}, {then: next}], b: [{name: last, then: accept}]}\npeers: [{address: 192.0.2.2, asn: 1, export: [a, b]}]";
    let peers = peers(text);
    let export = &peers[&"192.0.2.2".into()].export;
    let names: Vec<&str> = export.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(["a[0]", "a[1]", "last"], names[..]);
}

#[test]
fn ranges_of_lengths_are_those_of_routers() {
    let text = "filters: {f: [{prefixes: ['10.0.0.0/8', '172.16.0.0/12 le 24', '192.168.0.0/16 ge 30'], then: accept}]}\npeers: [{address: 192.0.2.2, asn: 1, import: [f]}]";
    let peers = peers(text);
    let Match::In(set) = &peers[&"192.0.2.2".into()].import.rules[0].prefixes else {
        panic!("no set");
    };
    let holds = |text: &str| set.contains(text.parse().unwrap());
    assert!(holds("10.0.0.0/8") && !holds("10.0.0.0/9"));
    assert!(holds("172.16.0.0/12") && holds("172.17.1.0/24") && !holds("172.17.1.0/25"));
    assert!(holds("192.168.1.1/32") && holds("192.168.1.4/30") && !holds("192.168.0.0/16"));
}
