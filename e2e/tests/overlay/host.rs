//! Nodes themselves talk to pods of other nodes.

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, scenario};
use e2e::wait;

use crate::encap::{Encap, a_pod_each, address, wait_address};

/// A node reaches a pod of another node through the tunnel, with the address of its tunnel; the
/// pod reaches the node. The fabric drops addresses of pods, so neither works in the open.
pub(crate) fn host_and_remote_workload_reach_each_other(encap: Encap) -> Result<()> {
    let mut setup = encap.setup(&[0, 1], "Always");
    // The way back to a node is no way to a pool: without NAT the fabric would drop it.
    setup.pools = vec![encap.pool("Always").nat()];
    scenario(&encap.lab("host"), &setup, |overlay| {
        overlay.fabric.drop_foreign_addresses()?;
        a_pod_each(overlay)?;
        let far = address(overlay, "pod2", encap)?;
        let tunnel = wait_address(overlay, 0, encap)?;
        overlay.wait_device(0, far, encap.device())?;
        let seen = e2e::capture::Capture::start(
            &overlay.lab,
            &overlay.pod("pod2")?.namespace,
            "eth0",
            "icmp or icmp6",
        )?;
        wait::until("node1 to reach pod2", LIMIT, || {
            let node = &overlay.nodes[0].namespace;
            node.run(&format!("ping -n -q -c 1 -W 2 {far}")).map(Some)
        })?;
        let line = seen.wait(LIMIT, |line| line.contains("echo request"))?;
        ensure!(
            line.contains(&format!("{tunnel} >")),
            "not from the tunnel's address {tunnel}: {line}"
        );
        let node = overlay.address(0, encap.v6()).parse()?;
        overlay.wait_reach("pod2", node)
    })
}
