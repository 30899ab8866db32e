//! Many routes, and events faster than they can be read.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Node, ip, on_node, own_routes, quick, routes, workload};

const MANY: u32 = 100_000;

fn block(number: u32) -> String {
    format!("{}/26", Ipv4Addr::from(0x0b00_0000 + (number << 6)))
}

#[test]
fn a_hundred_thousand_learned_routes_are_programmed_kept_and_withdrawn() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        for number in 0..MANY {
            node.learned(&block(number), &["192.0.2.9%eth0"]);
        }
        node.pod("cali1", &["10.0.1.5"]);
        node.apply();
        assert!(node.ready.contains("cali1"), "the pod is first");
        node.until("programmed", |node| node.written() == u64::from(MANY) + 2);
        assert_eq!(routes("proto 80").len(), MANY as usize + 2);
        node.catch_up();
        assert_eq!(node.written(), u64::from(MANY) + 2);
        drop(node);

        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5"]).apply();
        node.until("swept", |node| node.written() == u64::from(MANY));
        assert_eq!(own_routes(), ["10.0.1.5 dev cali1", "169.254.1.1 dev eth0"]);
    });
}

#[test]
fn a_flood_of_foreign_changes_loses_nothing_of_ours() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]).apply();
        let batch = |verb: &str| {
            (0..60_000).fold(String::new(), |text, number| {
                text + &format!("route {verb} blackhole {} proto static\n", block(number))
            })
        };
        ip_batch(&batch("add"));
        ip("route del 10.0.2.0/26");
        ip_batch(&batch("del"));
        node.until("repaired", |_| own_routes().len() == 1);
        node.until("facts are small again", |node| {
            node.facts
                .as_ref()
                .is_some_and(|facts| facts.routes.len() < 100)
        });
        assert_eq!(node.last.counters.drift_repairs, 1);
    });
}

#[test]
fn pods_that_come_and_go_cost_no_listing() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.apply();
        for round in 0..20 {
            let name = format!("cali{round}");
            let pod = [format!("10.0.1.{round}"), format!("2001:db8:1::{round}")];
            node.pod(&name, &[&pod[0], &pod[1]]).update();
            workload(&name);
            node.until("ready", |node| node.ready.contains(&name));
        }
        for round in 0..10 {
            let name = format!("cali{round}");
            ip(&format!("link del {name}"));
            node.until("gone", |node| !node.ready.contains(&name));
        }
        let start = Instant::now();
        node.until("past the pause between listings", |_| {
            start.elapsed() > Duration::from_millis(1200)
        });
        assert_eq!(node.last.counters.listings, 1);
        assert_eq!(own_routes().len(), 21);
        assert_eq!(node.last.counters.drift_repairs, 0);
    });
}

fn ip_batch(commands: &str) {
    let mut batch = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("iproute2 is installed");
    let mut input = batch.stdin.take().unwrap();
    input.write_all(commands.as_bytes()).unwrap();
    drop(input);
    assert!(batch.wait().unwrap().success());
}
