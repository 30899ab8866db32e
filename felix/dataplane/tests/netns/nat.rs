//! Outgoing NAT, seen from outside by `tcpdump`.

use std::collections::BTreeSet;

use felix_calc::Firewall;
use ipnet::IpNet;

use crate::lab::{Node, quick};
use crate::nft::firewalls;
use crate::packets::{Capture, PORT, Place, cable, pod, words};

pub(crate) const POD: &str = "10.244.1.5";
const POD6: &str = "2001:db8:244:1::5";
const NODE: &str = "192.0.2.1";
const OTHER_NODE: &str = "192.0.2.2";
const WORLD: &str = "203.0.113.9";
const OTHER_POD: &str = "10.244.9.9";
const DISABLED_POOL: &str = "10.245.0.9";

/// A node with a pod, and a router that is all the rest of the world.
pub(crate) struct World {
    pub(crate) node: Place,
    pub(crate) router: Place,
    pub(crate) pod: Place,
}

impl World {
    pub(crate) fn new() -> Option<World> {
        let (node, router) = (Place::new()?, Place::new()?);
        cable((&node, "eth0"), (&router, "eth0"));
        node.ip(&[
            "address add 192.0.2.1/24 dev eth0",
            "address add 2001:db8::1/64 dev eth0 nodad",
            "route add default via 192.0.2.254",
            "route add default via 2001:db8::254",
        ]);
        router.ip(&[
            "address add 192.0.2.254/24 dev eth0",
            "address add 192.0.2.2/24 dev eth0",
            "address add 2001:db8::254/64 dev eth0 nodad",
            "route add 10.244.1.0/24 via 192.0.2.1",
            "route add 2001:db8:244:1::/64 via 2001:db8::1",
            "route add 192.0.2.99 via 192.0.2.1",
        ]);
        for address in [WORLD, OTHER_POD, DISABLED_POOL] {
            router.ip(&[&format!("address add {address}/32 dev lo")]);
        }
        router.ip(&["address add 2001:db8:ffff::9/128 dev lo"]);
        router.ip(&["address add 2001:db8:244:9::9/128 dev lo"]);
        let pod = pod(&node, "cali1", POD)?;
        pod.ip(&[
            &format!("address add {POD6}/128 dev eth0 nodad"),
            "route add default via fe80::ecee:eeff:feee:eeee dev eth0",
        ]);
        Some(World { node, router, pod })
    }

    /// Runs `test` on the node, with a dataplane that has these rules and the pod.
    pub(crate) fn with(&self, firewall: Firewall, test: impl FnOnce(&mut Node) + Send) {
        self.node.run(|| {
            let mut node = Node::new(quick());
            node.pod("cali1", &[POD, POD6]).firewall(firewall).apply();
            assert_eq!(node.failures, [""; 0]);
            assert!(node.ready.contains("cali1"));
            test(&mut node);
        });
    }

    /// Looks at what comes to the router from the node.
    pub(crate) fn outside(&self) -> Capture {
        self.router.capture("eth0", "udp or tcp")
    }
}

pub(crate) fn nets(nets: &[&str]) -> BTreeSet<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn the_table_of_sources_and_destinations() {
    let Some(world) = World::new() else { return };
    let seen = world.outside();
    let source = |from: &str, to: &str| {
        world.pod.send(from, to);
        let (address, _) = seen.next_source();
        address.to_string()
    };
    world.with(firewalls::pools(), |node| {
        assert_eq!(source(POD, WORLD), NODE, "to the outside");
        assert_eq!(source(POD, OTHER_POD), POD, "to the pool");
        assert_eq!(source(POD, DISABLED_POOL), POD, "to a disabled pool");
        assert_eq!(source(POD, OTHER_NODE), NODE, "to a node");
        assert_eq!(
            source(POD6, "2001:db8:ffff::9"),
            "2001:db8::1",
            "IPv6 outside"
        );
        assert_eq!(source(POD6, "2001:db8:244:9::9"), POD6, "IPv6 to the pool");

        let mut firewall = firewalls::pools();
        firewall.nat.exclude_hosts = true;
        node.firewall(firewall).apply();
        // The flow of before keeps its translation: from another port.
        world.pod.send_to(POD, OTHER_NODE, PORT + 1);
        assert_eq!(seen.next_source().0.to_string(), POD, "nodes excluded");
        assert_eq!(source(POD, "203.0.113.9"), NODE, "the outside is not");

        let mut without = firewalls::pools();
        without.masq_pools.clear();
        node.firewall(without).apply();
        world.pod.send_to(POD, WORLD, PORT + 2);
        assert_eq!(
            seen.next_source().0.to_string(),
            POD,
            "a pool without natOutgoing"
        );
    });
}

#[test]
fn an_address_and_a_range_of_ports_are_what_the_outside_sees() {
    let Some(world) = World::new() else { return };
    let seen = world.outside();
    let mut firewall = firewalls::pools();
    firewall.nat.address = Some("192.0.2.99".parse().unwrap());
    world.with(firewall.clone(), |node| {
        world.pod.send(POD, WORLD);
        assert_eq!(seen.next_source().0.to_string(), "192.0.2.99");
        world.pod.send(POD6, "2001:db8:ffff::9");
        assert_eq!(
            seen.next_source().0.to_string(),
            "2001:db8::1",
            "of the other family"
        );

        firewall.nat.ports = Some((32000, 32003));
        node.firewall(firewall.clone()).apply();
        for port in 6000..6004 {
            world.pod.send_to(POD, WORLD, port);
            let (address, port) = seen.next_source();
            assert_eq!(address.to_string(), "192.0.2.99");
            assert!((32000..=32003).contains(&port), "{port}");
        }
        firewall.nat.address = None;
        node.firewall(firewall).apply();
        for port in 6004..6008 {
            world.pod.send_to(POD, WORLD, port);
            let (address, port) = seen.next_source();
            assert_eq!(address.to_string(), NODE);
            assert!((32000..=32003).contains(&port), "{port}");
        }
        world.pod.connect(&world.router, WORLD);
        let (address, port) = seen.next_source();
        assert_eq!(address.to_string(), NODE);
        assert!((32000..=32003).contains(&port), "TCP {port}");
    });
}

#[test]
fn only_what_leaves_by_the_interface_of_the_filter_is_translated() {
    let Some(world) = World::new() else { return };
    let seen = world.outside();
    let mut firewall = firewalls::pools();
    for (filter, source) in [
        ("eth+", NODE),
        ("eth0", NODE),
        ("ens+", POD),
        ("eth", POD),
        ("+", NODE),
    ] {
        firewall.nat.out_interface = Some(filter.to_owned());
        world.with(firewall.clone(), |_| {
            words("conntrack", "--flush");
            world.pod.send(POD, WORLD);
            assert_eq!(seen.next_source().0.to_string(), source, "{filter}");
        });
    }
}

#[test]
fn what_the_host_sends_through_a_tunnel_has_the_tunnels_address() {
    let Some(world) = World::new() else { return };
    for (place, local, remote, address) in [
        (&world.node, "192.0.2.1", "192.0.2.2", "10.244.1.2"),
        (&world.router, "192.0.2.2", "192.0.2.1", "10.244.9.2"),
    ] {
        place.ip(&[
            &format!(
                "link add vxlan.calico type vxlan id 4096 dstport 4790 local {local} remote {remote} nolearning"
            ),
            &format!("address add {address}/32 dev vxlan.calico"),
            "link set vxlan.calico up",
        ]);
    }
    world
        .node
        .ip(&["route add 10.244.9.0/24 dev vxlan.calico src 192.0.2.1"]);
    world.router.ip(&["route add 10.244.1.2 dev vxlan.calico"]);
    world
        .router
        .ip(&["route replace 10.244.1.5 dev vxlan.calico"]);
    let inside = world.router.capture("vxlan.calico", "udp");
    world.with(firewalls::tunnels(), |_| {
        world.node.send(NODE, OTHER_POD);
        assert_eq!(
            inside.next_source().0.to_string(),
            "10.244.1.2",
            "from the node's address"
        );
        world.node.send_to("10.244.1.2", OTHER_POD, PORT + 1);
        assert_eq!(inside.next(), format!("10.244.1.2.5000 > {OTHER_POD}.5001"));
        world.pod.send(POD, OTHER_POD);
        assert_eq!(inside.next_source().0.to_string(), POD, "pods keep theirs");
        let tracked = words("conntrack", "-L -f ipv4");
        assert!(!tracked.contains("dport=4790"), "{tracked}");
    });
}

/// Two clusters, each knows the other's pool by a disabled pool of its own.
#[test]
fn clusters_that_know_each_others_pool_talk_untranslated() {
    let (Some(one), Some(middle), Some(other)) = (Place::new(), Place::new(), Place::new()) else {
        return;
    };
    let clusters = [
        (
            &one,
            "one",
            "192.0.2.1/24",
            "192.0.2.254/24",
            "10.244.1.5",
            "10.244.0.0/16",
        ),
        (
            &other,
            "other",
            "198.51.100.1/24",
            "198.51.100.254/24",
            "10.245.1.5",
            "10.245.0.0/16",
        ),
    ];
    middle.run(|| crate::lab::set_sysctl("net/ipv4/ip_forward", "1"));
    middle.ip(&["address add 203.0.113.9/32 dev lo"]);
    let mut pods = Vec::new();
    for (node, name, address, gateway, pod_address, pool) in clusters {
        cable((node, "eth0"), (&middle, name));
        let via = gateway.trim_end_matches("/24");
        let node_address = address.trim_end_matches("/24");
        node.ip(&[
            &format!("address add {address} dev eth0"),
            &format!("route add default via {via}"),
        ]);
        middle.ip(&[
            &format!("address add {gateway} dev {name}"),
            &format!("route add {pool} via {node_address}"),
        ]);
        let Some(pod) = pod(node, "cali1", pod_address) else {
            return;
        };
        pods.push(pod);
    }
    let seen = [middle.capture("one", "udp"), middle.capture("other", "udp")];
    let [one_pool, other_pool] = ["10.244.0.0/16", "10.245.0.0/16"];
    let both = [one_pool, other_pool];
    // First each cluster knows its own pool only, then the other's too.
    for (round, joined) in [false, true].into_iter().enumerate() {
        let port = PORT + round as u16;
        for (number, (node, _, address, _, pod_address, pool)) in clusters.into_iter().enumerate() {
            node.run(|| {
                let all: &[&str] = if joined { &both } else { &[pool] };
                let firewall = Firewall {
                    all_pools: nets(all),
                    masq_pools: nets(&[pool]),
                    ..Firewall::default()
                };
                let mut driven = Node::new(quick());
                driven
                    .pod("cali1", &[pod_address])
                    .firewall(firewall)
                    .apply();
                assert_eq!(driven.failures, [""; 0]);
            });
            let peer = clusters[1 - number].4;
            pods[number].send_to(pod_address, peer, port);
            let source = seen[number].next_source().0.to_string();
            let node_address = address.trim_end_matches("/24");
            assert_eq!(source, if joined { pod_address } else { node_address });
            pods[number].send_to(pod_address, "203.0.113.9", port);
            let source = seen[number].next_source().0.to_string();
            assert_eq!(source, node_address, "the rest of the world sees the node");
        }
    }
}
