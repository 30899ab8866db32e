//! What every NAT scenario asks: which source address does a packet have where it arrives?

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Namespace;
use e2e::overlay::{LIMIT, Overlay, Pool, Setup};
use e2e::pod::{Pod, configuration};
use e2e::wait;
use serde_json::json;

/// Pools with and without `natOutgoing`, IPv4 and IPv6, and the range of another cluster.
pub(crate) const NAT: [&str; 2] = ["10.244.0.0/17", "fd00:10:244::/112"];
pub(crate) const PLAIN: [&str; 2] = ["10.244.128.0/17", "fd00:10:245::/112"];
/// Pool that is disabled; the host outside has addresses of it.
pub(crate) const DISABLED: [&str; 2] = ["10.235.64.0/18", "fd00:10:235::/112"];
/// Addresses of the host outside that lie in the disabled pools.
pub(crate) const JOINED: [&str; 2] = ["10.235.64.10", "fd00:10:235::10"];

/// Pools of the scenarios, VXLAN between subnets.
pub(crate) fn pools() -> Vec<Pool> {
    let mut pools = Vec::new();
    for (family, suffix) in ["4", "6"].into_iter().enumerate() {
        let vxlan =
            |name: &str, cidr| Pool::new(&format!("{name}{suffix}"), cidr).vxlan("CrossSubnet");
        pools.push(vxlan("nat", NAT[family]).nat());
        pools.push(vxlan("plain", PLAIN[family]));
        pools.push(Pool::new(&format!("joined{suffix}"), DISABLED[family]).disabled());
    }
    pools
}

/// Two nodes in two subnets with these pools.
pub(crate) fn setup() -> Setup {
    let mut setup = Setup::new(&[0, 1], Pool::new("none", "10.99.0.0/16"));
    setup.pools = pools();
    setup
}

/// A pod with addresses of `nat` or `plain` pools on each node, and the joined network outside.
pub(crate) fn pods(overlay: &mut Overlay) -> Result<()> {
    for node in 0..2 {
        for pool in ["nat", "plain"] {
            let mut network = configuration(&overlay.nodes[node]);
            network["ipam"] = json!({
                "assign_ipv4": "true", "ipv4_pools": [format!("{pool}4")],
                "assign_ipv6": "true", "ipv6_pools": [format!("{pool}6")],
            });
            let name = format!("{pool}{}", node + 1);
            let pod = Pod::plug_with(&overlay.lab, &overlay.nodes[node], &name, &network)?;
            overlay.pods.push(pod);
        }
    }
    let fabric = &overlay.fabric;
    for (address, range) in JOINED.into_iter().zip(DISABLED) {
        let length = if address.contains(':') { 128 } else { 32 };
        let outside = &fabric.outside;
        outside.ip(&format!("address add {address}/{length} dev eth0 nodad"))?;
        let gateway = e2e::fabric::OUTSIDE[usize::from(length == 128)];
        fabric.route(range, gateway)?;
    }
    for v6 in [false, true] {
        overlay.wait_all_reach(v6)?;
    }
    Ok(())
}

/// Where a packet is looked at.
pub(crate) struct Place<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) interface: &'a str,
}

/// Sends UDP packets to an address until tcpdump sees one at its end; returns source address and
/// port.
pub(crate) fn seen(
    overlay: &Overlay,
    from: &Namespace,
    to: IpAddr,
    at: &Place<'_>,
) -> Result<(IpAddr, u16)> {
    static PORT: AtomicU16 = AtomicU16::new(20000);
    // A port of its own, so that no other packet is meant.
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let capture = Capture::start(
        &overlay.lab,
        at.namespace,
        at.interface,
        &format!("udp dst port {port}"),
    )?;
    let any: IpAddr = if to.is_ipv6() {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = from.inside(|| Ok(UdpSocket::bind(SocketAddr::new(any, 0))?))?;
    let what = format!("a packet from {} to {to}", from.name);
    let (line, _) = wait::until(&what, LIMIT, || {
        socket.send_to(b"who am I", SocketAddr::new(to, port))?;
        let line = capture.lines()?.into_iter().next();
        ensure!(line.is_some(), "tcpdump has seen nothing");
        Ok(line)
    })?;
    source(&line).with_context(|| format!("no source in {line:?}"))
}

/// `21:00:00.0 IP 192.0.2.1.4000 > 198.51.100.1.5000: UDP, length 3`
fn source(line: &str) -> Option<(IpAddr, u16)> {
    let mut words = line.split(' ').skip_while(|word| !word.starts_with("IP"));
    let (address, port) = words.nth(1)?.rsplit_once('.')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// A FelixConfiguration with these fields.
pub(crate) fn felix(overlay: &Overlay, spec: &str) -> Result<()> {
    overlay.apply(
        "felix.yaml",
        &format!(
            "apiVersion: crd.projectcalico.org/v1
kind: FelixConfiguration
metadata: {{name: default}}
spec: {{{spec}}}
"
        ),
    )
}
