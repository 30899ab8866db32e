//! Which packets are translated, seen where they arrive.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::fabric::OUTSIDE;
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;

use crate::lab::{self, JOINED, Place, felix, seen};

/// Out of a pool with `natOutgoing` and into no pool: translated. All else: not.
pub(crate) fn outgoing() -> Result<()> {
    scenario("nat", &lab::setup(), |overlay| {
        lab::pods(overlay)?;
        for v6 in [false, true] {
            for row in rows(overlay, v6)? {
                row.holds(overlay)?;
            }
        }
        Ok(())
    })
}

/// One line of the table: a packet of `from` to `to`, and the source it must have there.
struct Row {
    from: String,
    to: IpAddr,
    /// Where it arrives: `outside`, a node or a pod.
    at: String,
    source: IpAddr,
}

impl Row {
    fn holds(&self, overlay: &Overlay) -> Result<()> {
        let namespace = match self.at.as_str() {
            "outside" => &overlay.fabric.outside,
            "node2" => &overlay.nodes[1].namespace,
            pod => &overlay.pod(pod)?.namespace,
        };
        let at = Place {
            namespace,
            interface: "eth0",
        };
        let from = match self.from.as_str() {
            "node1" => &overlay.nodes[0].namespace,
            pod => &overlay.pod(pod)?.namespace,
        };
        let (source, _) = seen(overlay, from, self.to, &at)?;
        ensure!(
            source == self.source,
            "{} to {} ({}) came from {source} instead of {}",
            self.from,
            self.to,
            self.at,
            self.source
        );
        Ok(())
    }
}

fn rows(overlay: &Overlay, v6: bool) -> Result<Vec<Row>> {
    let family = usize::from(v6);
    let outside: IpAddr = OUTSIDE[family].parse()?;
    let joined: IpAddr = JOINED[family].parse()?;
    let node1: IpAddr = overlay.address(0, v6).parse()?;
    let node2: IpAddr = overlay.address(1, v6).parse()?;
    let pod = |name: &str| overlay.pod(name)?.address(v6);
    let row = |from: &str, to: IpAddr, at: &str, source: IpAddr| Row {
        from: from.to_owned(),
        to,
        at: at.to_owned(),
        source,
    };
    Ok(vec![
        row("nat1", outside, "outside", node1),
        row("nat1", node2, "node2", node1),
        row("nat1", joined, "outside", pod("nat1")?),
        row("nat1", pod("nat2")?, "nat2", pod("nat1")?),
        row("nat1", pod("plain2")?, "plain2", pod("nat1")?),
        row("nat1", pod("plain1")?, "plain1", pod("nat1")?),
        row("plain1", outside, "outside", pod("plain1")?),
        row("plain1", node2, "node2", pod("plain1")?),
        row("plain1", pod("nat2")?, "nat2", pod("plain1")?),
        row("node1", outside, "outside", node1),
    ])
}

/// `natOutgoingExclusions`, `natOutgoingAddress`, `natPortRange`, the interface filter and
/// `natOutgoing` itself, changed while the agent runs.
pub(crate) fn options() -> Result<()> {
    scenario("natopt", &lab::setup(), |overlay| {
        lab::pods(overlay)?;
        let (node1, node2) = (overlay.address(0, false), overlay.address(1, false));
        let outside = OUTSIDE[0];
        let pod = overlay.pod("nat1")?.address(false)?.to_string();
        let changes = |spec: &str, to: &str, at: &str, source: &str| -> Result<u16> {
            felix(overlay, spec)?;
            comes_from(overlay, to, at, source).with_context(|| format!("with {spec}"))
        };
        changes("", outside, "outside", &node1)?;

        changes(
            "natOutgoingExclusions: IPPoolsAndHostIPs",
            &node2,
            "node2",
            &pod,
        )?;
        comes_from(overlay, outside, "outside", &node1)?;
        changes(
            "natOutgoingExclusions: IPPoolsOnly",
            &node2,
            "node2",
            &node1,
        )?;

        overlay.nodes[0]
            .namespace
            .ip("address add 192.0.2.99/32 dev eth0")?;
        changes(
            "natOutgoingAddress: 192.0.2.99",
            outside,
            "outside",
            "192.0.2.99",
        )?;

        let port = changes("natPortRange: '30000:30009'", outside, "outside", &node1)?;
        ensure!((30000..=30009).contains(&port), "source port {port}");

        let filter = |name: &str| format!("iptablesNATOutgoingInterfaceFilter: {name}");
        changes(&filter("nothing0"), outside, "outside", &pod)?;
        changes(&filter("eth+"), outside, "outside", &node1)?;

        let mut pools = lab::pools();
        pools[0].nat = false;
        overlay.pools(&pools)?;
        comes_from(overlay, outside, "outside", &pod)?;
        overlay.pools(&lab::pools())?;
        comes_from(overlay, outside, "outside", &node1)?;
        Ok(())
    })
}

/// Waits until packets of `nat1` come from `source`; returns the port of the first.
fn comes_from(overlay: &Overlay, to: &str, at: &str, source: &str) -> Result<u16> {
    let namespace = match at {
        "outside" => &overlay.fabric.outside,
        _ => &overlay.nodes[1].namespace,
    };
    let place = Place {
        namespace,
        interface: "eth0",
    };
    let from = &overlay.pod("nat1")?.namespace;
    let what = format!("packets to {to} to come from {source}");
    wait::until(&what, LIMIT, || {
        let (address, port) = seen(overlay, from, to.parse()?, &place)?;
        ensure!(address.to_string() == source, "they come from {address}");
        Ok(Some(port))
    })
    .map(|(port, _)| port)
}
