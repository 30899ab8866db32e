//! The table of packet rules: what `nft` lists, who repairs it, and what others have.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use felix_calc::Firewall;

use crate::lab::{Node, ip, on_node, own_routes, quick};
use crate::packets::{eventually, same_spaces, words};

#[path = "../golden/firewalls.rs"]
pub(crate) mod firewalls;

impl Node {
    pub(crate) fn firewall(&mut self, firewall: Firewall) -> &mut Node {
        self.output.firewall = Some(Arc::new(firewall));
        self
    }
}

/// Our table as `nft` lists it, without counts.
pub(crate) fn table() -> String {
    words("nft", "--stateless list table inet tortie")
}

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}.nft", env!("CARGO_MANIFEST_DIR"));
    same_spaces(&std::fs::read_to_string(path).unwrap())
}

fn nft(script: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nftables is installed");
    nft.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

#[test]
fn the_kernel_has_what_the_golden_files_show_and_goes_from_one_to_the_next() {
    on_node(|| {
        let mut node = Node::new(quick());
        let all = firewalls::all();
        // The first one translates nothing, which is another table once something was translated.
        for (name, firewall) in all.iter().chain(all[1..].iter().rev()) {
            node.firewall(firewall.clone()).apply();
            assert_eq!(node.failures, [""; 0]);
            assert_eq!(table(), golden(name), "{name}");
        }
    });
}

#[test]
fn nothing_is_tracked_before_something_is_translated_and_what_was_goes_on() {
    on_node(|| {
        let translates = || table().contains("chain postrouting");
        let mut node = Node::new(quick());
        node.firewall(Firewall::default()).apply();
        assert!(!translates());
        node.firewall(firewalls::pools()).apply();
        assert!(translates());
        node.firewall(Firewall::default()).apply();
        assert!(translates(), "flows under way would break");

        drop(node);
        let mut node = Node::new(quick());
        node.firewall(Firewall::default()).apply().catch_up();
        assert!(translates(), "flows of an earlier run would break");
        assert_eq!(node.last.counters.rules_written, 0);
    });
}

#[test]
fn without_packet_rules_there_is_no_table_and_what_is_right_is_not_written_again() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.apply();
        assert_eq!(words("nft", "list tables"), "");
        node.firewall(firewalls::tunnels()).apply();
        assert_eq!(node.last.counters.rules_written, 1);
        let handles = || words("nft", "--handle --stateless list table inet tortie");
        let before = handles();
        node.firewall(firewalls::tunnels()).apply().catch_up();
        assert_eq!(node.last.counters.rules_written, 1);

        // After a restart neither.
        drop(node);
        let mut node = Node::new(quick());
        node.firewall(firewalls::tunnels()).apply().catch_up();
        assert_eq!(node.last.counters.rules_written, 0);
        assert_eq!(handles(), before);

        // A new node is a new element and nothing else.
        let mut more = firewalls::tunnels();
        more.hosts.insert("192.0.2.77/32".parse().unwrap());
        node.firewall(more).apply();
        let after = handles();
        assert_eq!(after.replace(", 192.0.2.77,", ","), before);
        assert_ne!(after, before);
        assert_eq!(node.last.counters.drift_repairs, 0);
    });
}

#[test]
fn what_others_do_to_the_table_is_repaired_within_a_second() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.firewall(firewalls::tunnels()).apply();
        let right = golden("tunnels");
        let damage = [
            "flush ruleset",
            "delete table inet tortie",
            "flush table inet tortie",
            "flush chain inet tortie pods",
            "flush chain inet tortie vxlan-in",
            "flush chain inet tortie prerouting\ndelete chain inet tortie pods",
            "delete element inet tortie cali40all-ipam-pools { 10.248.0.0/17 }",
            "add element inet tortie cali40masq-ipam-pools { 10.248.0.0/17 }",
            "flush set inet tortie cali40all-hosts-net",
            "insert rule inet tortie prerouting accept",
            "add chain inet tortie output { policy drop; }",
            "add chain inet tortie more { type filter hook output priority 0; policy drop; }",
            "add table inet tortie { flags dormant; }",
        ];
        for (number, damage) in damage.into_iter().enumerate() {
            nft(damage);
            assert_ne!(table_or_nothing(), right, "{damage}");
            let repairs = number as u64 + 1;
            let took = node.until(damage, |node| node.last.counters.drift_repairs == repairs);
            assert!(took < Duration::from_secs(1), "{damage}: {took:?}");
            assert_eq!(table_or_nothing(), right, "{damage}");
        }
        assert_eq!(
            node.last.counters.listings, 1,
            "found by event, not by listing"
        );
        nft("add table ip tortie\nadd table inet others\ndelete table inet others");
        let written = node.last.counters.rules_written;
        node.catch_up();
        assert_eq!(node.last.counters.rules_written, written);
    });
}

fn table_or_nothing() -> String {
    match words("nft", "list tables").contains("table inet tortie") {
        true => table(),
        false => String::new(),
    }
}

#[test]
fn rules_that_the_kernel_refuses_are_a_failure_and_routes_go_on() {
    on_node(|| {
        // A table that a process owns is refused to all others.
        let mut owner = Command::new("nft")
            .arg("--interactive")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = owner.stdin.take().unwrap();
        input
            .write_all(b"add table inet tortie { flags owner; }\n")
            .unwrap();
        input.flush().unwrap();
        eventually("owned", || words("nft", "list tables").contains("tortie"));

        let mut config = quick();
        config.retry_interval = Duration::from_millis(200);
        let mut node = Node::new(config);
        node.firewall(firewalls::pools())
            .block("10.0.1.0/26")
            .apply();
        assert_eq!(own_routes(), ["blackhole 10.0.1.0/26"]);
        assert_eq!(node.failures.len(), 1, "{:?}", node.failures);
        let failure = node.failures[0].clone();
        assert!(
            failure.starts_with("nftables table inet tortie: "),
            "{failure}"
        );
        assert!(failure.contains("Operation not permitted"), "{failure}");
        assert!(failure.contains("no outgoing NAT"), "{failure}");

        drop(input);
        owner.wait().unwrap();
        node.until("written", |node| node.failures.is_empty());
        assert_eq!(table(), golden("pools"));
    });
}

#[test]
fn the_filter_of_a_tunnel_stays_as_long_as_its_device_is_up() {
    on_node(|| {
        ip("link add vxlan.calico type vxlan id 4096 dstport 4790 local 192.0.2.1 dev eth0");
        ip("link set vxlan.calico up");
        let mut node = Node::new(quick());
        let filters = || table().matches("udp dport 4790").count();
        node.firewall(firewalls::tunnels()).apply();
        let in_use = filters();
        assert!(in_use >= 4, "{}", table());
        node.firewall(firewalls::pools()).apply();
        assert_eq!(filters(), in_use);
        ip("link del vxlan.calico");
        node.until("without the filter", |_| filters() == 0);
        assert_eq!(table(), golden("pools"));
    });
}
