//! What is left of a node when it leaves for good: nothing of ours, and all of others.

use felix_dataplane::Config;
use felix_dataplane::cleanup::{Cleanup, Leftover};

use crate::lab::{Node, ip, on_node, own_routes, quick, routes, run, workload};
use crate::nft::firewalls;
use crate::tunnels::both;

const ALIAS: &str = "ours:";

fn open() -> Cleanup {
    Cleanup::open(Config::default()).unwrap()
}

fn find(cleanup: &mut Cleanup) -> Vec<Leftover> {
    cleanup.find(|alias| alias.starts_with(ALIAS)).unwrap()
}

fn texts(leftovers: &[Leftover]) -> Vec<String> {
    let text = |one: &Leftover| format!("{} {one}", one.kind());
    leftovers.iter().map(text).collect()
}

/// A node with a pod, a block, a learned route, a tunnel and packet rules.
fn busy_node() -> Node {
    workload("cali1");
    ip(&format!("link set cali1 alias {ALIAS}c/eth0"));
    let mut node = Node::new(quick());
    node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"])
        .block("10.0.1.0/26")
        .block("10.0.0.0/16")
        .learned("10.0.2.0/26", &["192.0.2.9%eth0"])
        .overlay(both());
    node.firewall(firewalls::pools()).apply();
    node.until("in place", |node| {
        own_routes().len() >= 5
            && node
                .tunnels
                .values()
                .all(|tunnel| tunnel.in_place.is_some())
    });
    node
}

#[test]
fn what_agents_left_goes_and_pods_are_last() {
    on_node(|| {
        drop(busy_node());
        let mut cleanup = open();
        let all = find(&mut cleanup);
        let (of_pods, rest): (Vec<Leftover>, Vec<Leftover>) =
            all.into_iter().partition(Leftover::is_of_pods);
        assert_eq!(
            texts(&rest),
            [
                "route 10.0.2.0/26 via 192.0.2.9 dev eth0",
                "route blackhole 10.0.1.0/26",
                "route blackhole 10.0.0.0/16",
                "tunnel device vxlan.calico",
                "tunnel device vxlan-v6.calico",
                "nftables table inet tortie",
            ]
        );
        for leftover in &rest {
            cleanup.remove(leftover).unwrap();
        }
        assert_eq!(find(&mut cleanup), of_pods);
        let of_pods = texts(&of_pods);
        for expected in [
            "route 2001:db8:1::5/128 dev cali1",
            "route 10.0.1.5/32 dev cali1",
            "pod interface cali1",
        ] {
            assert!(of_pods.iter().any(|one| one == expected), "{of_pods:?}");
        }
        assert_eq!(routes("10.0.1.5").len(), 1);
        for leftover in find(&mut cleanup) {
            cleanup.remove(&leftover).unwrap();
        }
        assert_eq!(find(&mut cleanup), []);
        assert_eq!(own_routes(), [""; 0]);
        assert!(!ip("link show").contains("cali1"));
        assert!(!run("nft", "list tables").contains("tortie"));
    });
}

#[test]
fn what_is_gone_meanwhile_is_no_failure() {
    on_node(|| {
        drop(busy_node());
        let mut cleanup = open();
        let all = find(&mut cleanup);
        ip("link delete cali1");
        ip("link delete vxlan.calico");
        ip("route flush proto 80");
        run("nft", "delete table inet tortie");
        for leftover in &all {
            cleanup.remove(leftover).unwrap();
        }
        assert_eq!(find(&mut cleanup), []);
    });
}

#[test]
fn what_is_of_others_is_not_even_found() {
    on_node(|| {
        workload("cali9");
        ip("route add 10.0.9.9 dev cali9 proto static");
        ip("route add 10.0.8.0/26 via 192.0.2.9 proto bird");
        ip("route add 10.0.5.0/26 via 192.0.2.9 proto 80 table 1000");
        ip("link add vxlan.calico type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0");
        run("nft", "add table ip kube-proxy");
        assert_eq!(find(&mut open()), []);
    });
}
