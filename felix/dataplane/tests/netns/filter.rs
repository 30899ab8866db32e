//! Packets that nobody should send: spoofed ones, and tunnel packets of pods and strangers.

use std::net::UdpSocket;

use crate::nat::{POD, World, nets};
use crate::nft::firewalls;
use crate::packets::{PORT, packet, source_of_next, udp, words};

/// RFC 2003.
const IPIP: u8 = 4;
const UDP: u8 = 17;
const VXLAN_PORT: u16 = 4790;

/// An IPIP packet with a UDP packet inside.
fn ipip(source: &str, destination: &str) -> Vec<u8> {
    let inside = packet("10.244.9.9", POD, UDP, &udp(PORT, PORT));
    packet(source, destination, IPIP, &inside)
}

fn udp_packet(source: &str, destination: &str, port: u16) -> Vec<u8> {
    packet(source, destination, UDP, &udp(PORT, port))
}

#[test]
fn a_pod_sends_from_its_own_addresses_only() {
    let Some(world) = World::new() else { return };
    let seen = world.router.capture("eth0", "udp");
    let mut firewall = firewalls::pools();
    firewall.masq_pools.clear();
    world.with(firewall, |_| {
        let spoofed = [
            "192.0.2.1",
            "10.244.1.6",
            "10.244.9.9",
            "203.0.113.77",
            "127.0.0.1",
            "169.254.1.1",
        ];
        for source in spoofed {
            world.pod.send_raw(&udp_packet(source, "203.0.113.9", 6666));
        }
        world.pod.send(POD, "203.0.113.9");
        assert_eq!(seen.next(), format!("{POD}.5000 > 203.0.113.9.5000"));

        // IPv6: an address that the pod gave itself.
        world
            .pod
            .ip(&["address add 2001:db8:244:1::6/128 dev eth0 nodad"]);
        world.pod.send("2001:db8:244:1::6", "2001:db8:ffff::9");
        world.pod.send("2001:db8:244:1::5", "2001:db8:ffff::9");
        assert_eq!(seen.next_source().0.to_string(), "2001:db8:244:1::5");
        // More where the pod says without an address what multicast it listens to.
        assert!(dropped("pods", "not an address of this pod") > spoofed.len());
    });
}

#[test]
fn a_pod_reaches_its_gateway_and_the_node_over_both_families() {
    let Some(world) = World::new() else { return };
    world.with(firewalls::tunnels(), |_| {
        world.pod.ip(&["neighbour flush all"]);
        world.pod.run(|| {
            words("ping", "-c 1 -W 20 192.0.2.1");
            words("ping", "-c 1 -W 20 2001:db8::1");
            words("ping", "-c 1 -W 20 fe80::ecee:eeff:feee:eeee%eth0");
        });
        words("ping", &format!("-c 1 -W 20 {POD}"));
    });
}

#[test]
fn pods_send_no_tunnel_packets_unless_they_may() {
    let Some(world) = World::new() else { return };
    let seen = world.router.capture("eth0", "udp or proto 4");
    let mut firewall = firewalls::tunnels();
    firewall.masq_pools.clear();
    world.with(firewall.clone(), |node| {
        world.pod.send_raw(&ipip(POD, "192.0.2.2"));
        world
            .pod
            .send_raw(&udp_packet(POD, "192.0.2.2", VXLAN_PORT));
        world.pod.send(POD, "192.0.2.2");
        assert_eq!(seen.next(), format!("{POD}.5000 > 192.0.2.2.5000"));

        firewall.workload_ipip = true;
        firewall.workload_vxlan = true;
        node.firewall(firewall.clone()).apply();
        world.pod.send_raw(&ipip(POD, "192.0.2.2"));
        assert!(seen.next().starts_with(&format!("{POD} > 192.0.2.2")));
        world
            .pod
            .send_raw(&udp_packet(POD, "192.0.2.2", VXLAN_PORT));
        assert_eq!(seen.next(), format!("{POD}.5000 > 192.0.2.2.{VXLAN_PORT}"));

        // To others, that is: nothing of theirs comes out of a tunnel of this host.
        let received = world.node.receiver(IPIP);
        let vxlan = Vxlan::new(&world);
        world.pod.send_raw(&ipip(POD, "192.0.2.1"));
        world
            .pod
            .send_raw(&udp_packet(POD, "192.0.2.1", VXLAN_PORT));
        world.router.send_raw(&ipip("192.0.2.2", "192.0.2.1"));
        world
            .router
            .send_raw(&udp_packet("192.0.2.2", "192.0.2.1", VXLAN_PORT));
        assert_eq!(source_of_next(&received).to_string(), "192.0.2.2");
        assert_eq!(vxlan.source_of_next(), "192.0.2.2");
    });
}

/// What receives VXLAN packets of the node.
struct Vxlan(UdpSocket);

impl Vxlan {
    fn new(world: &World) -> Vxlan {
        let socket = world
            .node
            .run(|| UdpSocket::bind(("::", VXLAN_PORT)).unwrap());
        socket.set_read_timeout(Some(crate::lab::DEADLINE)).unwrap();
        Vxlan(socket)
    }

    fn source_of_next(&self) -> String {
        let from = self.0.recv_from(&mut [0; 64]).expect("a packet").1;
        from.ip().to_canonical().to_string()
    }
}

#[test]
fn tunnel_packets_come_from_nodes_only() {
    let Some(world) = World::new() else { return };
    world.router.ip(&[
        "address add 198.51.100.7/32 dev lo",
        "address add 2001:db8::66/64 dev eth0 nodad",
        "route add 224.0.0.0/4 dev eth0",
    ]);
    // An address of the host that is not the node's, such as the one of before a change.
    world.node.ip(&["address add 192.0.2.11/24 dev eth0"]);
    let received = world.node.receiver(IPIP);
    let vxlan = Vxlan::new(&world);
    let mut firewall = firewalls::tunnels();
    firewall.hosts = nets(&["192.0.2.2/32", "2001:db8::254/128"]);
    world.with(firewall.clone(), |node| {
        // To the node, to another address of its host, to all on the link and to all hosts.
        let targets = ["192.0.2.1", "192.0.2.11", "192.0.2.255", "224.0.0.1"];
        let strangers = ["192.0.2.254", "203.0.113.9", "198.51.100.7"];
        for (stranger, target) in strangers
            .into_iter()
            .flat_map(|stranger| targets.map(|target| (stranger, target)))
        {
            world.router.send_raw(&ipip(stranger, target));
            world
                .router
                .send_raw(&udp_packet(stranger, target, VXLAN_PORT));
        }
        world.router.send_raw(&ipip("192.0.2.2", "192.0.2.1"));
        assert_eq!(source_of_next(&received).to_string(), "192.0.2.2");
        world
            .router
            .send_raw(&udp_packet("192.0.2.2", "192.0.2.1", VXLAN_PORT));
        assert_eq!(vxlan.source_of_next(), "192.0.2.2");
        let forged = strangers.len() * targets.len();
        assert_eq!(dropped("prerouting", "meta l4proto ipencap"), forged);
        assert_eq!(dropped("vxlan-in", "ip saddr"), forged);
        world.router.send_raw(&ipip("192.0.2.2", "192.0.2.11"));
        assert_eq!(source_of_next(&received).to_string(), "192.0.2.2");
        world
            .router
            .send_raw(&udp_packet("192.0.2.2", "192.0.2.11", VXLAN_PORT));
        assert_eq!(vxlan.source_of_next(), "192.0.2.2");

        world
            .router
            .send_to("2001:db8::66", "2001:db8::1", VXLAN_PORT);
        world
            .router
            .send_to("2001:db8::254", "2001:db8::1", VXLAN_PORT);
        assert_eq!(vxlan.source_of_next(), "2001:db8::254");

        // externalNodesList, and a node that is gone.
        firewall.hosts = nets(&["198.51.100.0/24"]);
        node.firewall(firewall.clone()).apply();
        world.router.send_raw(&ipip("192.0.2.2", "192.0.2.1"));
        world.router.send_raw(&ipip("198.51.100.7", "192.0.2.1"));
        assert_eq!(source_of_next(&received).to_string(), "198.51.100.7");

        // Without IPIP in use, protocol 4 is none of our business.
        firewall.ipip = false;
        node.firewall(firewall).apply();
        world.router.send_raw(&ipip("192.0.2.254", "192.0.2.1"));
        assert_eq!(source_of_next(&received).to_string(), "192.0.2.254");
    });
}

/// How many packets the rules of a chain dropped that have a text in them.
fn dropped(chain: &str, text: &str) -> usize {
    let rules = words("nft", &format!("list chain inet tortie {chain}"));
    rules
        .split(" comment ")
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[0].contains(text) || pair[1].contains(text))
        .filter_map(|pair| {
            let count = pair[0].rsplit("counter packets ").next()?;
            count.split(' ').next()?.parse::<usize>().ok()
        })
        .max()
        .unwrap_or_default()
}
