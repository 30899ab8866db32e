//! Tables of packet rules, judged with `nft`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use netlink::nft::{
    AddressSide, Base, Chain, ChainKind, Change, Expression, FibResult, Hook, MetaKey, Monitor,
    NatPorts, Nftables, Range, Rule, Ruleset, Set, Shown,
};
use netlink::{Error, Family};

use crate::lab::{addr, in_netns, net};

const TABLE: &str = "ours";

fn nft(arguments: &str) -> String {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .expect("nftables is installed");
    assert!(
        output.status.success(),
        "nft {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn set(name: &str, family: Family, nets: &[&str]) -> Set {
    let nets: Vec<_> = nets.iter().map(|each| net(each)).collect();
    Set {
        name: name.to_owned(),
        family,
        ranges: Range::merge(nets.iter(), family).into_iter().collect(),
    }
}

fn rule(expressions: Vec<Expression>) -> Rule {
    Rule {
        expressions,
        comment: None,
    }
}

fn chain(name: &str, kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: Some(Base {
            kind,
            hook,
            priority,
        }),
        rules,
    }
}

fn source(family: Family) -> Expression {
    let side = AddressSide::Source;
    Expression::Address { family, side }
}

/// Every expression there is, in rules that `nft` has words for.
fn everything() -> Ruleset {
    let ports = Some(NatPorts {
        first: 1000,
        last: 2000,
    });
    let family = |number| {
        [
            Expression::Meta(MetaKey::Family),
            Expression::Is(vec![number]),
        ]
    };
    let protocol = |number| {
        [
            Expression::Meta(MetaKey::Protocol),
            Expression::Is(vec![number]),
        ]
    };
    let local = || Expression::Is(2_u32.to_ne_bytes().to_vec());
    let from_pod = rule(vec![
        Expression::Meta(MetaKey::InName),
        Expression::Is(b"cali".to_vec()),
        Expression::GoTo("pods".to_owned()),
    ]);
    let mut spoofed = rule(vec![
        Expression::Fib(FibResult::SourceBehindInput),
        Expression::Is(vec![0; 4]),
        Expression::Counter,
        Expression::Drop,
    ]);
    spoofed.comment = Some("not its source".to_owned());
    let mut tunnel = protocol(17).to_vec();
    tunnel.extend([
        Expression::DestinationPort,
        Expression::Is(4789_u16.to_be_bytes().to_vec()),
        Expression::Fib(FibResult::DestinationType),
        local(),
        Expression::NoTrack,
        Expression::Return,
    ]);
    let mut outgoing = family(2).to_vec();
    outgoing.extend([
        source(Family::V4),
        Expression::In("four".to_owned()),
        Expression::Address {
            family: Family::V4,
            side: AddressSide::Destination,
        },
        Expression::NotIn("four".to_owned()),
    ]);
    let mut with_ports = outgoing.clone();
    with_ports.extend(protocol(6));
    with_ports.push(Expression::Masquerade(ports));
    let mut to_address = outgoing.clone();
    to_address.extend(protocol(6));
    to_address.push(Expression::SourceNat(addr("192.0.2.1"), ports));
    outgoing.push(Expression::Masquerade(None));
    let mut six = family(10).to_vec();
    six.extend([
        source(Family::V6),
        Expression::In("six".to_owned()),
        Expression::SourceNat(addr("2001:db8::1"), None),
    ]);
    let device = rule(vec![
        Expression::Meta(MetaKey::OutName),
        Expression::is_interface("tunl0"),
        Expression::Fib(FibResult::SourceTypeOnOutput),
        Expression::IsNot(2_u32.to_ne_bytes().to_vec()),
        Expression::Fib(FibResult::SourceType),
        local(),
        Expression::Masquerade(None),
    ]);
    let nat = [with_ports, to_address, outgoing, six].map(rule);
    let nat = nat.into_iter().chain([device]).collect();
    Ruleset {
        table: TABLE.to_owned(),
        sets: vec![
            set(
                "four",
                Family::V4,
                &["10.0.0.0/8", "192.0.2.1/32", "192.0.2.2/32", "255.0.0.0/8"],
            ),
            set("six", Family::V6, &["2001:db8::/32"]),
            set("none", Family::V4, &[]),
        ],
        chains: vec![
            chain(
                "raw",
                ChainKind::Filter,
                Hook::Prerouting,
                -300,
                vec![from_pod, rule(tunnel)],
            ),
            chain("post", ChainKind::Nat, Hook::Postrouting, 99, nat),
            // Behind the one that sends packets to it.
            Chain {
                name: "pods".to_owned(),
                base: None,
                rules: vec![spoofed],
            },
        ],
    }
}

const EVERYTHING: &str = r#"table inet ours {
    set four { type ipv4_addr flags interval
        elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.2, 255.0.0.0/8 } }
    set six { type ipv6_addr flags interval elements = { 2001:db8::/32 } }
    set none { type ipv4_addr flags interval }
    chain raw { type filter hook prerouting priority raw; policy accept;
        iifname "cali*" goto pods
        udp dport 4789 fib daddr type local notrack return }
    chain post { type nat hook postrouting priority srcnat - 1; policy accept;
        ip saddr @four ip daddr != @four meta l4proto tcp masquerade to :1000-2000 fully-random
        ip saddr @four ip daddr != @four meta l4proto tcp snat ip to 192.0.2.1:1000-2000 fully-random
        ip saddr @four ip daddr != @four masquerade fully-random
        ip6 saddr @six snat ip6 to 2001:db8::1 fully-random
        oifname "tunl0" fib saddr . oif type != local fib saddr type local masquerade fully-random }
    chain pods { fib saddr . iif oif missing counter drop comment "not its source" }
    }"#;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_written_is_what_nft_lists_and_what_is_read_back() {
    in_netns(|| {
        let ruleset = everything();
        let mut nftables = Nftables::open().unwrap();
        assert_eq!(nftables.show(TABLE).unwrap(), None);
        nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
        assert_eq!(
            nft(&format!("-s list table inet {TABLE}")),
            words(EVERYTHING)
        );
        let shown = nftables.show(TABLE).unwrap().unwrap();
        for shown in [&shown, &Shown::after(&ruleset)] {
            assert!(shown.has_shape_of(&ruleset));
            assert!(ruleset.chains.iter().all(|chain| shown.has_rules_of(chain)));
            for set in &ruleset.sets {
                assert_eq!(shown.difference(set), (vec![], vec![]), "{}", set.name);
            }
        }
        // Again, over what is there.
        nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
        assert_eq!(
            nft(&format!("-s list table inet {TABLE}")),
            words(EVERYTHING)
        );
    });
}

#[test]
fn what_others_do_to_the_table_is_seen() {
    in_netns(|| {
        let ruleset = everything();
        let mut nftables = Nftables::open().unwrap();
        let mut monitor = Monitor::open(TABLE, &nftables).unwrap();
        let differs = |shown: Option<Shown>| match shown {
            None => true,
            Some(shown) => {
                !shown.has_shape_of(&ruleset)
                    || !ruleset.chains.iter().all(|chain| shown.has_rules_of(chain))
                    || (ruleset.sets.iter()).any(|set| shown.difference(set) != (vec![], vec![]))
            }
        };
        let damage = [
            "flush ruleset",
            "delete table inet ours",
            "flush table inet ours",
            "flush chain inet ours raw",
            "flush chain inet ours pods",
            "add rule inet ours pods accept",
            "flush chain inet ours raw ; delete chain inet ours pods",
            "flush set inet ours four",
            "delete element inet ours four { 10.0.0.0/8 }",
            "add element inet ours none { 198.51.100.7 }",
            "insert rule inet ours raw accept",
            "add rule inet ours raw accept",
            "add set inet ours more { type ipv4_addr; }",
            "add chain inet ours more",
            "add chain inet ours more { type filter hook input priority 0; policy drop; }",
            "add chain inet ours raw { policy drop; }",
            "add table inet ours { flags dormant; }",
        ];
        for damage in damage {
            nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
            assert!(!monitor.was_changed().unwrap(), "own changes are left out");
            assert!(!differs(nftables.show(TABLE).unwrap()), "before {damage}");
            nft(damage);
            assert!(differs(nftables.show(TABLE).unwrap()), "{damage}");
            assert!(monitor.was_changed().unwrap(), "{damage}");
            assert!(!monitor.was_changed().unwrap(), "{damage}");
        }
        nft("add table inet others");
        nft("add table ip ours");
        assert!(!monitor.was_changed().unwrap(), "tables of others");
    });
}

#[test]
fn parts_are_changed_without_the_rest() {
    in_netns(|| {
        let mut ruleset = everything();
        let mut nftables = Nftables::open().unwrap();
        nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
        let handle = || {
            let text = nft("-a list table inet ours");
            text.split("chain post {").nth(1).unwrap().to_owned()
        };
        let post = handle();
        ruleset.sets[0] = set(
            "four",
            Family::V4,
            &["10.0.0.0/8", "192.0.2.2/32", "0.0.0.0/32"],
        );
        ruleset.chains[0].rules.pop();
        let shown = nftables.show(TABLE).unwrap().unwrap();
        let (remove, add) = shown.difference(&ruleset.sets[0]);
        let range = |text: &str| Range::merge([&net(text)].into_iter(), Family::V4)[0];
        assert_eq!(add, [range("0.0.0.0/32"), range("192.0.2.2/32")]);
        assert_eq!(remove.len(), 2);
        nftables
            .commit(&[
                Change::Ranges {
                    table: TABLE,
                    set: "four",
                    remove,
                    add,
                },
                Change::Rules {
                    table: TABLE,
                    chain: &ruleset.chains[0],
                },
            ])
            .unwrap();
        let now = nft("-s list table inet ours");
        assert!(
            now.contains("elements = { 0.0.0.0, 10.0.0.0/8, 192.0.2.2 }"),
            "{now}"
        );
        assert!(!now.contains("notrack"), "{now}");
        assert!(now.contains("goto pods"), "{now}");
        assert_eq!(handle(), post, "the other chain has its rules of before");
        let shown = nftables.show(TABLE).unwrap().unwrap();
        assert_eq!(shown.difference(&ruleset.sets[0]), (vec![], vec![]));
        assert!(shown.has_rules_of(&ruleset.chains[0]));
    });
}

#[test]
fn a_refused_transaction_changes_nothing_and_names_the_object() {
    in_netns(|| {
        let mut ruleset = everything();
        let mut nftables = Nftables::open().unwrap();
        nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
        let before = nft("-a list ruleset");
        ruleset.chains[1].rules[0].expressions[3] = Expression::In("missing".to_owned());
        let error = nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
        assert!(error.to_string().contains("nftables chain post"), "{error}");
        assert_eq!(nft("-a list ruleset"), before);
    });
}

#[test]
fn ten_thousand_ranges_go_in_and_come_back() {
    in_netns(|| {
        let nets: Vec<String> = (0..10_000_u32)
            .map(|n| format!("10.{}.{}.{}/26", n / 512, n / 2 % 256, n % 2 * 128))
            .collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        let mut ruleset = everything();
        ruleset.sets[0] = set("four", Family::V4, &nets);
        assert_eq!(ruleset.sets[0].ranges.len(), 10_000);
        let mut nftables = Nftables::open().unwrap();
        nftables.commit(&[Change::Rebuild(&ruleset)]).unwrap();
        let shown = nftables.show(TABLE).unwrap().unwrap();
        assert_eq!(shown.difference(&ruleset.sets[0]), (vec![], vec![]));
        let text = nft("-j list set inet ours four");
        assert_eq!(text.matches("\"prefix\"").count(), 10_000);
    });
}

#[test]
fn flows_of_an_address_are_deleted_in_both_directions_and_no_others() {
    in_netns(|| {
        // Flows made by hand: who sends, who is sent to, and who answers.
        let flow = |from: &str, to: &str, answers: &str, sees: &str, port: u32| {
            let arguments = format!(
                "-I -p udp -s {from} -d {to} --reply-src {answers} --reply-dst {sees} \
                 --sport {port} --dport 53 --reply-port-src 53 --reply-port-dst {port} -t 600"
            );
            conntrack(&arguments);
        };
        let fill = || {
            flow("10.0.1.5", "192.0.2.9", "192.0.2.9", "192.0.2.1", 1);
            flow("192.0.2.7", "10.96.0.1", "10.0.1.5", "192.0.2.7", 2);
            flow("10.0.1.6", "192.0.2.9", "192.0.2.9", "192.0.2.1", 3);
            flow("192.0.2.9", "10.0.1.15", "10.0.1.15", "10.0.1.5", 4);
            flow(
                "2001:db8:1::5",
                "2001:db8::9",
                "2001:db8::9",
                "2001:db8:1::5",
                5,
            );
            flow(
                "2001:db8:1::6",
                "2001:db8::9",
                "2001:db8::9",
                "2001:db8:1::6",
                6,
            );
        };
        let left = || {
            let both = conntrack("-L -f ipv4") + &conntrack("-L -f ipv6");
            let mut ports: Vec<u32> = (1..=6)
                .filter(|port| both.contains(&format!("sport={port} dport=53")))
                .collect();
            ports.sort_unstable();
            ports
        };
        let mut tracked = netlink::conntrack::Conntrack::open().unwrap();
        let ours: BTreeSet<IpAddr> = [addr("10.0.1.5"), addr("2001:db8:1::5")].into();
        fill();
        assert_eq!(left(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tracked.delete_flows_of(&ours).unwrap(), 3);
        assert_eq!(left(), [3, 4, 6]);
        assert_eq!(tracked.delete_flows_of(&ours).unwrap(), 0);

        conntrack("-F");
        fill();
        let others = (1..=200).map(|host| addr(&format!("10.0.9.{host}")));
        let many: BTreeSet<IpAddr> = ours.iter().copied().chain(others).collect();
        assert_eq!(tracked.delete_flows_of(&many).unwrap(), 3);
        assert_eq!(left(), [3, 4, 6]);
    });
}

fn conntrack(arguments: &str) -> String {
    let output = Command::new("conntrack")
        .args(arguments.split_whitespace())
        .output()
        .expect("conntrack is installed");
    assert!(
        output.status.success(),
        "conntrack {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
