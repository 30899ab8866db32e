//! Whoever changes what the agent owns of a tunnel sees it changed back within a second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;
use serde_json::Value;

use crate::encap::{Encap, a_pod_each, address, ping, wait_address};

/// Emulated, it is a few seconds: one look takes a fifth of a second there, and all agents share
/// a slow processor.
const DEADLINE: Duration = Duration::from_secs(1);

/// Device down, other MTU, other address, another address beside it, route gone; VXLAN: device
/// gone, neighbour and forwarding entry gone, other port.
pub(crate) fn a_device_that_was_tampered_with_is_repaired(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("tamper"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        let device = encap.device();
        let own = wait_address(overlay, 0, encap)?;
        let block = overlay.blocks(1)?;
        let block = block
            .iter()
            .find(|block| block.contains(':') == encap.v6())
            .context("node2 has no block")?;
        let (length, foreign, family) = if encap.v6() {
            (128, "2001:db8:9::9/128", "-6")
        } else {
            (32, "203.0.113.99/32", "-4")
        };
        let mut tricks = vec![
            format!("link set {device} down"),
            format!("link set {device} mtu 1300"),
            format!("address delete {own}/{length} dev {device}"),
            format!("address add {foreign} dev {device}"),
            format!("{family} route delete {block} proto 80"),
        ];
        if encap != Encap::Ipip {
            let neighbour = address_of_tunnel(overlay, encap)?;
            tricks.push(format!("neigh delete {neighbour} dev {device}"));
            tricks.push(format!("link set {device} address 66:00:00:00:00:99"));
            tricks.push(format!("link delete {device}"));
        }
        for trick in &tricks {
            repaired(overlay, encap, |overlay| {
                overlay.nodes[0].namespace.ip(trick).map(drop)
            })
            .with_context(|| format!("after `ip {trick}`"))?;
        }
        if encap != Encap::Ipip {
            repaired(overlay, encap, |overlay| {
                let entries = overlay.nodes[0]
                    .namespace
                    .run(&format!("bridge fdb show dev {device}"))?;
                let entry = entries.lines().find(|line| line.contains(" dst "));
                let entry = entry.context("no forwarding entry")?;
                let mac = entry.split(' ').next().unwrap_or_default();
                overlay.nodes[0]
                    .namespace
                    .run(&format!("bridge fdb delete {mac} dev {device} self"))
                    .map(drop)
            })
            .context("after a forwarding entry was deleted")?;
        }
        let far = address(overlay, "pod2", encap)?;
        ping(overlay.pod("pod1")?, far)
    })
}

fn repaired(
    overlay: &Overlay,
    encap: Encap,
    trick: impl FnOnce(&Overlay) -> Result<()>,
) -> Result<()> {
    let before = settled(overlay, encap)?;
    trick(overlay)?;
    wait::until_true("all to be as before", DEADLINE, || {
        let now = state(overlay, encap)?;
        ensure!(now == before, "before {before:#?}, now {now:#?}");
        Ok(true)
    })?;
    Ok(())
}

/// The state once two looks in a row are the same.
fn settled(overlay: &Overlay, encap: Encap) -> Result<Vec<Value>> {
    let mut last = state(overlay, encap)?;
    wait::until("the tunnel to be at rest", LIMIT, || {
        let now = state(overlay, encap)?;
        let same = now == last;
        last.clone_from(&now);
        Ok(same.then_some(now))
    })
    .map(|(state, _)| state)
}

/// What the kernel of node1 has of the tunnel: device, addresses, neighbours, forwarding entries,
/// routes.
fn state(overlay: &Overlay, encap: Encap) -> Result<Vec<Value>> {
    let device = encap.device();
    let mut link = overlay.link(0, device)?.context("no device")?;
    // A device that was made anew has another number.
    for field in ["ifindex", "link_index"] {
        link[field] = Value::Null;
    }
    let node = &overlay.nodes[0].namespace;
    let family = if encap.v6() { "-6" } else { "-4" };
    let routes = node.ip_json(&format!("{family} route show dev {device}"))?;
    let mut state = vec![addresses_only(link), routes];
    if encap != Encap::Ipip {
        state.push(node.ip_json(&format!("neigh show dev {device} nud permanent"))?);
        let entries = node.run(&format!("bridge -j fdb show dev {device}"))?;
        state.push(serde_json::from_str(&entries)?);
    }
    for part in &mut state {
        if let Some(list) = part.as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
    }
    Ok(state)
}

/// IPv6 link-local addresses come and go with the device and are nobody's.
fn addresses_only(mut link: Value) -> Value {
    if let Some(addresses) = link["addr_info"].as_array_mut() {
        addresses.retain(|address| address["scope"] != "link");
    }
    link
}

fn address_of_tunnel(overlay: &Overlay, encap: Encap) -> Result<String> {
    let said = overlay.annotation(1, encap.annotation())?;
    said.context("node2 does not say what address its tunnel has")
}
