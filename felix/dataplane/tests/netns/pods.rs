//! Pods of this node: routes, settings, the gateway address.

use crate::lab::{
    Node, card, ip, net, new_netns, on_node, own_routes, quick, routes, set_sysctl, sysctl,
    workload,
};

#[test]
fn nothing_is_written_before_the_first_desired_state() {
    on_node(|| {
        ip("route add blackhole 10.0.9.0/26 proto 80");
        set_sysctl("net/ipv4/ip_forward", "0");
        let mut node = Node::new(quick());
        node.catch_up();
        let facts = node.facts.clone().unwrap();
        assert!(facts.interfaces.iter().any(|i| &*i.name == "eth0" && i.up));
        assert!(
            facts
                .routes
                .iter()
                .any(|r| r.destination == net("192.0.2.0/24"))
        );
        assert_eq!(node.written(), 0);
        assert_eq!(own_routes(), ["blackhole 10.0.9.0/26"]);
        assert_eq!(sysctl("net/ipv4/ip_forward"), "0");

        node.apply();
        assert_eq!(own_routes(), [""; 0]);
        assert_eq!(sysctl("net/ipv4/ip_forward"), "1");
        assert_eq!(
            sysctl("net/ipv6/conf/all/forwarding"),
            "0",
            "no IPv6 in use"
        );
    });
}

#[test]
fn a_pod_gets_routes_and_settings_and_is_reported_ready() {
    on_node(|| {
        workload("cali1");
        set_sysctl("net/ipv4/conf/default/rp_filter", "2");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"])
            .block("10.0.1.0/26");
        node.block("2001:db8:1::/122").apply();

        let own = own_routes();
        let expected = [
            "10.0.1.5 dev cali1",
            "169.254.1.1 dev eth0",
            "2001:db8:1::5 dev cali1",
            "blackhole 10.0.1.0/26",
            "blackhole 2001:db8:1::/122",
        ];
        assert_eq!(own, expected);
        assert_eq!(routes("10.0.1.5")[0]["scope"], "link");
        for (path, value) in [
            ("ipv4/conf/cali1/route_localnet", "1"),
            ("ipv4/neigh/cali1/proxy_delay", "0"),
            ("ipv4/conf/cali1/proxy_arp", "1"),
            ("ipv4/conf/cali1/forwarding", "1"),
            ("ipv4/conf/cali1/rp_filter", "2"),
            ("ipv6/conf/cali1/disable_ipv6", "0"),
            ("ipv6/conf/cali1/accept_dad", "0"),
            ("ipv6/conf/cali1/forwarding", "1"),
            ("ipv6/conf/cali1/accept_ra", "0"),
            ("ipv6/conf/all/forwarding", "1"),
        ] {
            assert_eq!(sysctl(&format!("net/{path}")), value, "{path}");
        }
        assert_eq!(node.ready.iter().collect::<Vec<_>>(), ["cali1"]);
        assert_eq!(node.programmed.len(), 4);
        let in_place = node.last.counters.in_place;
        assert_eq!(
            (in_place.workloads, in_place.blocks, in_place.learned),
            (2, 2, 0)
        );
        let (written, settings) = (node.written(), node.last.counters.sysctls_written);
        node.catch_up();
        assert_eq!(
            (node.written(), node.last.counters.sysctls_written),
            (written, settings)
        );
    });
}

#[test]
fn a_pod_waits_for_its_interface_and_survives_its_loss_and_return() {
    on_node(|| {
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"]).apply();
        assert!(node.ready.is_empty() && node.failures.is_empty());
        assert_eq!(node.last.counters.waiting, 2);
        assert_eq!(node.last.counters.in_place, Default::default());

        workload("cali1");
        node.until("ready", |node| node.ready.contains("cali1"));
        assert_eq!(routes("dev cali1 proto 80").len(), 2);

        ip("link del cali1");
        node.until("not ready", |node| node.ready.is_empty());
        assert!(node.programmed.is_empty());
        workload("cali1");
        node.until("ready again", |node| node.ready.contains("cali1"));
        assert_eq!(sysctl("net/ipv4/conf/cali1/proxy_arp"), "1");
        assert_eq!(node.failures, [""; 0]);
        assert_eq!(node.last.counters.drift_repairs, 0);
    });
}

#[test]
fn an_interface_that_flaps_or_is_renamed_ends_up_right() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"]).apply();
        for _ in 0..3 {
            ip("link set cali1 down");
            ip("link set cali1 up");
        }
        node.catch_up();
        node.until("back", |_| routes("dev cali1 proto 80").len() == 2);

        ip("link set cali1 down");
        node.until("not ready", |node| node.ready.is_empty());
        ip("link set cali1 name other");
        ip("link set cali1-pod name other-pod");
        ip("link set other up");
        workload("cali1");
        node.until("ready", |node| node.ready.contains("cali1"));
        assert_eq!(routes("dev other proto 80").len(), 0);
        assert_eq!(routes("dev cali1 proto 80").len(), 2);
        assert_eq!(node.last.counters.drift_repairs, 0);
    });
}

#[test]
fn an_address_moves_to_another_interface_in_place() {
    on_node(|| {
        workload("cali1");
        workload("cali2");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5"]).apply();
        let before = node.written();
        node.pod("cali2", &["10.0.1.5"]).apply();
        assert_eq!(node.written(), before + 1);
        let seen = routes("10.0.1.5");
        assert_eq!((seen.len(), &seen[0]["dev"]), (1, &"cali2".into()));
    });
}

#[test]
fn settings_that_others_changed_are_put_right_at_once() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"]).apply();
        let settings = [
            "net/ipv4/conf/cali1/proxy_arp",
            "net/ipv4/conf/cali1/forwarding",
            "net/ipv6/conf/cali1/forwarding",
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
        ];
        for path in settings {
            set_sysctl(path, "0");
            node.until(path, |_| settings.iter().all(|path| sysctl(path) == "1"));
        }
        assert!(node.last.counters.drift_repairs >= 5);
    });
}

#[test]
fn settings_that_others_changed_are_put_right_by_the_audit() {
    on_node(|| {
        workload("cali1");
        let mut config = quick();
        config.audit_interval = std::time::Duration::from_millis(200);
        let mut node = Node::new(config);
        node.pod("cali1", &["10.0.1.5"]).apply();
        // The kernel tells nobody about this one.
        set_sysctl("net/ipv4/conf/cali1/route_localnet", "0");
        node.until("repaired", |_| {
            sysctl("net/ipv4/conf/cali1/route_localnet") == "1"
        });
        assert!(node.last.counters.drift_repairs >= 1);
    });
}

#[test]
fn the_host_answers_for_the_gateway_address_with_and_without_a_default_route() {
    let Some(pod) = new_netns() else { return };
    on_node(|| {
        ip("link add cali1 address ee:ee:ee:ee:ee:ee type veth peer name cali1-pod");
        ip("link set cali1 up");
        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5"]).apply();
        move_to(&pod, "cali1-pod");
        pod.run(|| {
            ip("link set cali1-pod up");
            ip("address add 10.0.1.5/32 dev cali1-pod");
            ip("route add 169.254.1.1 dev cali1-pod scope link");
            ip("route add default via 169.254.1.1");
        })
        .unwrap();
        node.catch_up();
        assert_eq!(routes("169.254.1.1").len(), 1);
        pod.run(|| assert!(reaches_the_node(), "without a default route"))
            .unwrap();

        ip("route add default via 192.0.2.254 dev eth0");
        node.until("removed", |_| routes("169.254.1.1").is_empty());
        pod.run(|| assert!(reaches_the_node(), "with a default route"))
            .unwrap();

        ip("route del default");
        node.until("added", |_| routes("169.254.1.1").len() == 1);
        card("eth1", "198.51.100.1/24");
        ip("link del eth0");
        node.until("moved", |_| {
            routes("169.254.1.1")
                .first()
                .is_some_and(|route| route["dev"] == "eth1")
        });
        ip("link del eth1");
        node.until("moved", |_| {
            routes("169.254.1.1")
                .first()
                .is_some_and(|route| route["dev"] == "lo")
        });
        ip("address add 192.0.2.1/32 dev lo");
        pod.run(|| assert!(reaches_the_node(), "without a card"))
            .unwrap();
    });
}

/// Moves an interface to another namespace.
fn move_to(netns: &netlink::netns::NetNs, name: &str) {
    use std::os::fd::{AsFd, AsRawFd};
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        netns.as_fd().as_raw_fd()
    );
    ip(&format!("link set {name} netns {path}"));
}

/// From inside the pod: forgets its neighbours and asks the node for an answer.
fn reaches_the_node() -> bool {
    ip("neighbour flush all");
    let ping = std::process::Command::new("ping")
        .args(["-c", "1", "-W", "5", "192.0.2.1"])
        .output()
        .expect("ping is installed");
    ping.status.success()
}
