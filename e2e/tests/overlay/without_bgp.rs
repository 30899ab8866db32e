//! A cluster of tunnels only: BGP is switched off, routes come from BlockAffinity objects.

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, scenario};
use e2e::wait;

use crate::encap::{Encap, a_pod_each, address};

/// Nobody speaks BGP, everybody reaches everybody, new blocks and nodes that go included.
pub(crate) fn routes_come_from_block_affinities(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 0, 1], "CrossSubnet").without_bgp();
    scenario(&encap.lab("nobgp"), &setup, |overlay| {
        let sessions = overlay.capture(2, "tcp port 179")?;
        a_pod_each(overlay)?;
        let (near, far) = (
            address(overlay, "pod2", encap)?,
            address(overlay, "pod3", encap)?,
        );
        overlay.wait_device(0, near, "eth0")?;
        overlay.wait_device(0, far, encap.device())?;
        overlay.wait_all_reach(encap.v6())?;
        for node in &overlay.nodes {
            let sockets = node.namespace.run("ss -H -l -t -n")?;
            ensure!(
                !sockets.contains(":179 "),
                "{} listens: {sockets}",
                node.name
            );
        }
        let sessions = sessions.stop()?;
        ensure!(sessions.is_empty(), "somebody tries BGP: {sessions:#?}");
        // The affinity goes, the route goes.
        let pod = overlay.pods.remove(2);
        pod.unplug(&overlay.lab, &overlay.nodes[2])?;
        for file in std::fs::read_dir(overlay.datastore().join("blockaffinities"))? {
            let path = file?.path();
            if std::fs::read_to_string(&path)?.contains("node: node3") {
                std::fs::remove_file(path)?;
            }
        }
        wait::until_true("the route to go with the affinity", LIMIT, || {
            Ok(overlay
                .hop(0, far)
                .map_or(true, |hop| hop.device != encap.device()))
        })?;
        Ok(())
    })
}
