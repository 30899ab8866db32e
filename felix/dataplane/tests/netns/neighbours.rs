//! Tables of others: kube-proxy in its three ways of working beside our rules.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::nat::{POD, World};
use crate::nft::firewalls;
use crate::packets::{PORT, words};

/// A service, its backend outside and its backend in the pool on another node.
const SERVICE: &str = "10.96.0.1";
const OUTSIDE: &str = "203.0.113.9";
const POOL_SERVICE: &str = "10.96.0.2";
const IN_POOL: &str = "10.244.9.9";
/// A service that kube-proxy masquerades whoever asks, as it does for node ports.
const MARKED_SERVICE: &str = "10.96.0.3";

/// kube-proxy's rules of these services in iptables: marks and masquerades as it does.
fn iptables(program: &str) {
    let services = [
        (SERVICE, OUTSIDE),
        (POOL_SERVICE, IN_POOL),
        (MARKED_SERVICE, IN_POOL),
    ];
    let mut lines = vec![
        "-N KUBE-SERVICES".to_owned(),
        "-N KUBE-MARK-MASQ".to_owned(),
        "-N KUBE-POSTROUTING".to_owned(),
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000".to_owned(),
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned(),
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000".to_owned(),
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully".to_owned(),
        "-A PREROUTING -j KUBE-SERVICES".to_owned(),
        "-A OUTPUT -j KUBE-SERVICES".to_owned(),
        "-A POSTROUTING -j KUBE-POSTROUTING".to_owned(),
        format!("-A KUBE-SERVICES -d {MARKED_SERVICE} -p udp -j KUBE-MARK-MASQ"),
    ];
    for (service, backend) in services {
        lines.push(format!(
            "-A KUBE-SERVICES -d {service} -p udp --dport {PORT} -j DNAT --to-destination {backend}:{PORT}"
        ));
    }
    for line in lines {
        words(program, &format!("-t nat {line}"));
    }
    words(program, "-A FORWARD -m conntrack --ctstate INVALID -j DROP");
}

/// The same in the way of kube-proxy's nftables mode.
fn nftables() {
    let script = format!(
        "table ip kube-proxy {{
            map services {{
                type ipv4_addr : ipv4_addr
                elements = {{ {SERVICE} : {OUTSIDE}, {POOL_SERVICE} : {IN_POOL}, {MARKED_SERVICE} : {IN_POOL} }}
            }}
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr {MARKED_SERVICE} meta mark set meta mark or 0x4000
                udp dport {PORT} dnat to ip daddr map @services
            }}
            chain filter-forward {{
                type filter hook forward priority -110; policy accept;
                ct state invalid drop
            }}
            chain nat-postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                meta mark & 0x4000 == 0 return
                meta mark set meta mark xor 0x4000
                masquerade fully-random
            }}
        }}"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success());
}

/// Services work for pods beside our rules, and what is listed of the others stays.
fn services_work(set_up: fn(), listing: fn() -> String, ours_first: bool) {
    let Some(world) = World::new() else { return };
    let seen = world.outside();
    let check = || {
        let source = |to: &str, backend: &str| {
            words("conntrack", "--flush");
            world.pod.send(POD, to);
            let packet = seen.next();
            assert!(packet.ends_with(&format!("> {backend}.{PORT}")), "{packet}");
            packet
                .rsplit_once(" > ")
                .unwrap()
                .0
                .rsplit_once('.')
                .unwrap()
                .0
                .to_owned()
        };
        assert_eq!(source(SERVICE, OUTSIDE), "192.0.2.1", "a backend outside");
        assert_eq!(source(POOL_SERVICE, IN_POOL), POD, "a backend in the pool");
        assert_eq!(
            source(MARKED_SERVICE, IN_POOL),
            "192.0.2.1",
            "kube-proxy's masquerade"
        );
        assert_eq!(source(OUTSIDE, OUTSIDE), "192.0.2.1", "no service");
    };
    if ours_first {
        world.with(firewalls::tunnels(), |node| {
            set_up();
            let before = listing();
            check();
            node.catch_up();
            words("nft", "delete table inet tortie");
            node.until("repaired", |node| node.last.counters.rules_written == 2);
            check();
            assert_eq!(listing(), before);
        });
    } else {
        world.node.run(set_up);
        let before = world.node.run(listing);
        world.with(firewalls::tunnels(), |node| {
            check();
            node.firewall(firewalls::options()).apply();
            assert_eq!(listing(), before);
        });
    }
}

fn legacy() -> String {
    without_comments(&words("iptables-legacy-save", ""))
}

fn translated() -> String {
    without_comments(&words("iptables-nft-save", ""))
}

fn kube_proxy() -> String {
    words("nft", "--handle --stateless list table ip kube-proxy")
}

/// Comments hold the time, chains their counts.
fn without_comments(listing: &str) -> String {
    let words = listing.split(' ').filter(|word| {
        !word.starts_with('[') && !word.contains(':') || word.contains(&PORT.to_string())
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn kube_proxy_with_iptables_legacy_works_before_and_after_ours() {
    services_work(|| iptables("iptables-legacy"), legacy, true);
    services_work(|| iptables("iptables-legacy"), legacy, false);
}

#[test]
fn kube_proxy_with_iptables_nft_works_before_and_after_ours() {
    services_work(|| iptables("iptables-nft"), translated, true);
    services_work(|| iptables("iptables-nft"), translated, false);
}

#[test]
fn kube_proxy_with_nftables_works_before_and_after_ours() {
    services_work(nftables, kube_proxy, true);
    services_work(nftables, kube_proxy, false);
}
