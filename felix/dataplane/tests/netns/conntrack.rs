//! Tracked connections of addresses that go or move, judged with `conntrack`.

use std::time::Duration;

use crate::lab::{Node, ip, on_node, own_routes, quick, workload};
use crate::packets::words;

/// A flow that an address takes part in, made by hand.
fn flow(from: &str, answers: &str, port: u32) {
    words(
        "conntrack",
        &format!(
            "-I -p udp -s {from} -d 192.0.2.9 --reply-src {answers} --reply-dst {from} \
             --sport {port} --dport 53 --reply-port-src 53 --reply-port-dst {port} -t 600"
        ),
    );
}

fn has(port: u32) -> bool {
    words("conntrack", "-L").contains(&format!("sport={port} dport=53"))
}

/// Three flows of 10.0.1.5, in and out, and one of another pod.
fn flows() {
    flow("10.0.1.5", "192.0.2.9", 1);
    flow("192.0.2.77", "10.0.1.5", 2);
    flow("10.0.1.6", "192.0.2.9", 3);
    assert!(has(1) && has(2) && has(3));
}

fn two_pods(node: &mut Node) {
    workload("cali1");
    workload("cali2");
    node.pod("cali1", &["10.0.1.5"])
        .pod("cali2", &["10.0.1.6"])
        .apply();
}

#[test]
fn connections_of_an_address_end_with_its_pod_and_with_no_other() {
    on_node(|| {
        let mut node = Node::new(quick());
        two_pods(&mut node);
        flows();
        node.no_pod("cali1").nothing("10.0.1.5/32").apply();
        node.until("ended", |_| !has(1) && !has(2));
        assert!(has(3));
    });
}

#[test]
fn connections_end_when_the_interface_of_a_pod_went_first() {
    on_node(|| {
        let mut node = Node::new(quick());
        two_pods(&mut node);
        flows();
        ip("link del cali1");
        node.catch_up();
        assert!(has(1), "the pod may come back");
        node.no_pod("cali1").nothing("10.0.1.5/32").apply();
        node.until("ended", |_| !has(1) && !has(2));
        assert!(has(3));
    });
}

#[test]
fn connections_end_when_an_address_moves_and_the_pod_is_ready_only_then() {
    on_node(|| {
        let mut node = Node::new(quick());
        two_pods(&mut node);
        flows();
        node.no_pod("cali1")
            .pod("cali2", &["10.0.1.5", "10.0.1.6"])
            .apply();
        assert!(own_routes().contains(&"10.0.1.5 dev cali2".to_owned()));
        assert!(
            !node.ready.contains("cali2"),
            "not before connections have ended"
        );
        node.until("ready", |node| node.ready.contains("cali2"));
        assert!(!has(1) && !has(2) && has(3));
    });
}

#[test]
fn a_route_is_added_again_after_the_connections_have_ended() {
    on_node(|| {
        let mut node = Node::new(quick());
        two_pods(&mut node);
        flows();
        node.no_pod("cali1").nothing("10.0.1.5/32").update();
        node.pod("cali1", &["10.0.1.5"]).update();
        node.no_pod("cali1").nothing("10.0.1.5/32").apply();
        assert!(!own_routes().contains(&"10.0.1.5 dev cali1".to_owned()));
        node.pod("cali1", &["10.0.1.5"]).apply();
        let added = || own_routes().contains(&"10.0.1.5 dev cali1".to_owned());
        if added() {
            assert!(!has(1) && !has(2));
        }
        node.until("added", |_| added());
        assert!(!has(1) && !has(2) && has(3));
        let took = node.until("ready", |node| node.ready.contains("cali1"));
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn connections_end_with_a_route_that_an_earlier_run_left() {
    on_node(|| {
        workload("cali1");
        ip("route add 10.0.1.5 dev cali1 proto 80 scope link");
        workload("cali2");
        flows();
        let mut node = Node::new(quick());
        node.pod("cali2", &["10.0.1.6"]).apply();
        node.until("ended", |_| !has(1) && !has(2));
        assert!(has(3));
    });
}
