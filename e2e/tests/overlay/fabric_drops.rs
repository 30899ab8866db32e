//! A fabric that drops what has no address of a node (Calico's `gce` and `gce_rr`): pods reach
//! each other through a tunnel or not at all.

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, Setup, scenario};

use crate::encap::{Encap, PLAIN, a_pod_each, address};

/// Node2 reflects; there is no mesh.
const REFLECTOR: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 64512, nodeToNodeMeshEnabled: false}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: reflector}
spec: {nodeSelector: all(), peerSelector: kubernetes.io/hostname == 'node2'}
";

/// Full mesh between two nodes.
pub(crate) fn gce(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Never");
    works_only_through_a_tunnel(&encap.lab("gce"), encap, &setup)
}

/// A node between them reflects routes.
pub(crate) fn gce_rr(encap: Encap) -> Result<()> {
    let mut setup = encap.setup(&[0, 2, 1], "Never");
    setup.manifests = REFLECTOR.to_owned();
    works_only_through_a_tunnel(&encap.lab("gcerr"), encap, &setup)
}

fn works_only_through_a_tunnel(name: &str, encap: Encap, setup: &Setup) -> Result<()> {
    let reflector = !setup.manifests.is_empty();
    scenario(name, setup, |overlay| {
        if reflector {
            let id = "    projectcalico.org/RouteReflectorClusterID: 198.51.100.1\n";
            overlay.describe(2, 2, 12, id)?;
        }
        overlay.fabric.drop_foreign_addresses()?;
        a_pod_each(overlay)?;
        let last = overlay.pods.len();
        let far = address(overlay, &format!("pod{last}"), encap)?;
        let gateway = overlay.address(last - 1, encap.v6());
        // The route is there, so it is the fabric that drops.
        overlay.wait_device(0, far, "eth0")?;
        let before = overlay.fabric.dropped()?;
        let ping = format!("ping -n -q -c 2 -W 1 {far}");
        ensure!(
            overlay.pod("pod1")?.namespace.run(&ping).is_err(),
            "the fabric passes packets of pods"
        );
        ensure!(overlay.fabric.dropped()? > before, "it dropped nothing");

        overlay.pools(&[encap.pool("Always")])?;
        let hop = overlay.wait_device(0, far, encap.device())?;
        if encap == Encap::Ipip {
            // Behind a reflector too the gateway is the node that has the pod.
            ensure!(hop.gateway.as_deref() == Some(&gateway), "{hop:?}");
        }
        overlay.wait_device(last - 1, address(overlay, "pod1", encap)?, encap.device())?;
        let plain = overlay.capture(last - 1, PLAIN)?;
        let tunnelled = overlay.capture(last - 1, encap.filter())?;
        overlay.wait_all_reach(encap.v6())?;
        tunnelled.wait(LIMIT, |line| line.contains(&gateway))?;
        let plain = plain.stop()?;
        ensure!(plain.is_empty(), "in the open: {plain:#?}");
        Ok(())
    })
}
