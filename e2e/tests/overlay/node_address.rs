//! The address of a node changes.

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, scenario};
use e2e::{fabric, wait};

use crate::encap::{Encap, a_pod_each, address};

/// A node gets another address: sessions, routes and tunnels follow (Calico's
/// `update_ip_address`).
pub(crate) fn update_ip_address(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("move"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        let node = &overlay.nodes[1].namespace;
        // Else the second address would go with the first.
        node.run("sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1")?;
        let (old, new) = (fabric::addresses(1, 12), fabric::addresses(1, 77));
        for address in &new {
            node.ip(&format!(
                "address add {} dev eth0 nodad",
                fabric::with_length(address)
            ))?;
        }
        overlay.describe(2, 1, 77, "")?;
        for address in &old {
            node.ip(&format!(
                "address delete {} dev eth0",
                fabric::with_length(address)
            ))?;
        }
        // The kernel forgot the way out with the address it belonged to.
        for router in fabric::addresses(1, 1) {
            let _ = node.ip(&format!("route add default via {router}"));
        }
        let far = address(overlay, "pod2", encap)?;
        let outer = new[usize::from(encap.v6())].clone();
        let wire = overlay.capture(1, encap.filter())?;
        wait::until("pings through the new address", LIMIT, || {
            let from = &overlay.pod("pod1")?.namespace;
            let _ = from.run(&format!("ping -n -q -c 1 -W 1 {far}"));
            let lines = wire.lines()?;
            let both = lines
                .iter()
                .any(|line| line.contains(&format!("> {outer}")))
                && lines.iter().any(|line| {
                    line.contains(&format!("{outer} >"))
                        || line.contains(&format!("IP {outer}"))
                        || line.contains(&format!("IP6 {outer}"))
                });
            ensure!(both, "{lines:#?}");
            Ok(Some(()))
        })?;
        overlay.wait_all_reach(encap.v6())
    })
}
