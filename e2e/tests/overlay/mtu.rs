//! The MTU of a tunnel follows that of the interface that has the node's address.

use anyhow::{Context, Result, ensure};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;

use crate::encap::{Encap, a_pod_each, address};

/// Live and both ways, and so do routes and new pods; the largest packet passes unfragmented.
pub(crate) fn mtu_follows_the_interface(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("mtu"), &setup, |overlay| {
        a_pod_each(overlay)?;
        let far = address(overlay, "pod2", encap)?;
        for (round, link) in [1500, 1400, 1460].into_iter().enumerate() {
            for node in 0..2 {
                let namespace = &overlay.nodes[node].namespace;
                namespace.ip(&format!("link set eth0 mtu {link}"))?;
            }
            let inside = link - encap.overhead();
            for node in 0..2 {
                let what = format!("{} with an MTU of {inside}", encap.device());
                wait::until_true(&what, LIMIT, || {
                    let device = overlay.link(node, encap.device())?.context("no device")?;
                    ensure!(device["mtu"] == inside, "it has {}", device["mtu"]);
                    Ok(true)
                })?;
            }
            overlay.wait_reach("pod1", far)?;
            largest_packet_passes(overlay, encap, inside)?;
            let pod = format!("late{round}");
            overlay.plug(0, &pod)?;
            let links = overlay.pod(&pod)?.namespace.ip_json("link show eth0")?;
            ensure!(
                links[0]["mtu"] == inside,
                "a new pod has {} instead of {inside}",
                links[0]["mtu"]
            );
        }
        Ok(())
    })
}

fn largest_packet_passes(overlay: &Overlay, encap: Encap, mtu: u64) -> Result<()> {
    let headers = if encap.v6() { 48 } else { 28 };
    let far = address(overlay, "pod2", encap)?;
    let pod = &overlay.pod("pod1")?.namespace;
    // What the pod remembers of the round before holds for ten minutes.
    pod.ip("-4 route flush cache")?;
    pod.ip("-6 route flush cache")?;
    let ping = |size| format!("ping -n -q -c 1 -W 3 -M do -s {size} {far}");
    wait::until("the largest packet to pass", LIMIT, || {
        pod.run(&ping(mtu - headers)).map(Some)
    })?;
    ensure!(
        pod.run(&ping(mtu - headers + 1)).is_err(),
        "a packet of {} octets passed a tunnel of {mtu}",
        mtu + 1
    );
    Ok(())
}
