//! What tcpdump sees between two nodes of a subnet, and across the router.

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::cluster::{Cluster, LIMIT};
use e2e::far::{self, Tunnel};
use e2e::lab::Namespace;

use super::{FAR, heading, indent, ping, pod};

/// Packets that carry addresses of pods in their outermost header.
const PLAIN: &str = "ip net 10.244.0.0/16 or ip6 net fd00:10:244::/112";

/// Pings from a pod to one in its subnet and to one behind the router, with tcpdump on both
/// links: plain packets here, tunnel packets there, nothing else.
pub(crate) fn show(cluster: &Cluster, tunnel: Tunnel) -> Result<()> {
    let name = match tunnel {
        Tunnel::Vxlan => "VXLAN, UDP 4789",
        Tunnel::Ipip => "IPIP, protocol 4 (IPv6: VXLAN, UDP 4789)",
    };
    heading(&format!(
        "On the wire: plain inside the subnet, {name} across the router"
    ));
    let from = &cluster.nodes[0].namespace;
    for v6 in [false, true] {
        let far = pod(cluster, "pod4a")?.address(v6)?;
        let route = from.ip_json(&format!("route get {far}"))?;
        let device = tunnel.device(v6);
        ensure!(
            route[0]["dev"] == device,
            "node1 reaches {far} by {} instead of {device}",
            route[0]["dev"]
        );
        println!("  node1    ip -d link show {device}");
        indent(&from.ip(&format!("-d link show {device}"))?);
    }
    let switch = Namespace {
        name: format!("{}-switch", super::LAB),
    };
    for v6 in [false, true] {
        inside(cluster, &switch, tunnel.of(v6), v6)?;
        across(cluster, tunnel.of(v6), v6)?;
    }
    Ok(())
}

fn inside(cluster: &Cluster, switch: &Namespace, tunnel: Tunnel, v6: bool) -> Result<()> {
    let target = pod(cluster, "pod2a")?.address(v6)?.to_string();
    println!(
        "\n  pod1a pings pod2a; tcpdump on the cable of node2 ('icmp or icmp6 or {}'):",
        tunnel.filter()
    );
    let filter = format!("(icmp or icmp6 or {}) and {}", tunnel.filter(), of(v6));
    let capture = Capture::start(&cluster.lab, switch, "node2", &filter)?;
    ensure!(
        ping(pod(cluster, "pod1a")?, &target),
        "no answer from {target}"
    );
    let echo = |line: &str| line.contains("echo reply") && line.contains(&target);
    capture.wait(LIMIT, echo)?;
    let lines = capture.stop()?;
    let shown = packets(&lines, &target);
    indent(&shown.join("\n"));
    ensure!(
        lines
            .iter()
            .all(|line| !line.contains("VXLAN") && !line.contains("IPIP")),
        "a tunnel inside the subnet: {lines:#?}"
    );
    Ok(())
}

fn across(cluster: &Cluster, tunnel: Tunnel, v6: bool) -> Result<()> {
    let target = pod(cluster, "pod4a")?.address(v6)?.to_string();
    println!(
        "\n  pod1a pings pod4a; tcpdump on the router towards node{} ('{}'):",
        FAR + 1,
        tunnel.filter()
    );
    let router = &cluster.tor.namespace;
    let tunnelled = Capture::start(&cluster.lab, router, far::PORT, tunnel.filter())?;
    let plain = Capture::start(&cluster.lab, router, far::PORT, PLAIN)?;
    ensure!(
        ping(pod(cluster, "pod1a")?, &target),
        "no answer from {target}"
    );
    let echo = |line: &str| line.contains("echo reply") && line.contains(&target);
    tunnelled.wait(LIMIT, echo)?;
    let shown = packets(&tunnelled.stop()?, &target);
    indent(&shown.join("\n"));
    let outer = [cluster.address(0), cluster.address(FAR)];
    ensure!(
        v6 || shown
            .iter()
            .all(|line| outer.iter().all(|end| line.contains(end))),
        "not from node to node: {shown:#?}"
    );
    let plain = plain.stop()?;
    println!(
        "  in the open, in the same time ('{PLAIN}'): {} packets",
        plain.len()
    );
    ensure!(plain.is_empty(), "packets without a tunnel: {plain:#?}");
    Ok(())
}

/// The first question and the first answer.
fn packets(lines: &[String], target: &str) -> Vec<String> {
    ["echo request", "echo reply"]
        .iter()
        .filter_map(|what| {
            let of = |line: &&String| line.contains(what) && line.contains(target);
            lines.iter().find(of).cloned()
        })
        .collect()
}

fn of(v6: bool) -> &'static str {
    if v6 { "ip6" } else { "ip" }
}
