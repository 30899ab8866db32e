//! The other end of the tunnel is plain Linux, configured by hand with `ip`.

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::hand::{self, Remote};
use e2e::lab::Namespace;
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::{fabric, wait};

use crate::encap::{Encap, PLAIN, a_pod_each, wait_address};

const BLOCK: &str = "10.244.200.0/26";
const POD: &str = "10.244.200.10";
const TUNNEL: &str = "10.244.200.0";
const MAC: &str = "66:00:00:00:00:c8";

/// What the cluster is told of the host: its address, its tunnel, its block.
fn manifests() -> String {
    let address = &fabric::addresses(1, 21)[0];
    format!(
        "apiVersion: v1
kind: Node
metadata:
  name: hand
  annotations:
    projectcalico.org/IPv4Address: {address}/24
    projectcalico.org/IPv4IPIPTunnelAddr: {TUNNEL}
    projectcalico.org/IPv4VXLANTunnelAddr: {TUNNEL}
    projectcalico.org/VXLANTunnelMACAddr: {MAC}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {{name: hand-10-244-200-0-26}}
spec: {{cidr: {BLOCK}, node: hand, state: confirmed, deleted: 'false'}}
"
    )
}

/// Pods of two nodes, in the subnet of the host and in another one, and a pod of the host reach
/// each other, with packets of full size, and nothing goes in the open.
pub(crate) fn plain_linux_is_a_peer(encap: Encap) -> Result<()> {
    let mut setup = encap.setup(&[0, 1], "Always").without_bgp();
    setup.manifests = manifests();
    scenario(&encap.lab("hand"), &setup, |overlay| {
        a_pod_each(overlay)?;
        let host = hand::host(&overlay.lab, &overlay.fabric, "hand", 1, 21)?;
        let pod = hand::pod(&overlay.lab, &host, "handpod", POD)?;
        let remotes = (0..2)
            .map(|node| end(overlay, node, encap))
            .collect::<Result<Vec<_>>>()?;
        match encap {
            Encap::Ipip => hand::ipip(&host, TUNNEL, 1480, &remotes)?,
            Encap::Vxlan | Encap::VxlanV6 => {
                let own = Remote {
                    node: fabric::addresses(1, 21)[0].clone(),
                    block: BLOCK.to_owned(),
                    tunnel: TUNNEL.to_owned(),
                    mac: MAC.to_owned(),
                };
                hand::vxlan(&host, &own.node, &own, 1450, &remotes)?;
            }
        }
        for node in 0..2 {
            overlay.wait_device(node, POD.parse()?, encap.device())?;
        }
        let router = &overlay.fabric.router;
        let plain = Capture::start(&overlay.lab, router, "hand", PLAIN)?;
        let tunnelled = Capture::start(&overlay.lab, router, "hand", encap.filter())?;
        for node in 0..2 {
            let ours = overlay.pods[node].address(false)?;
            reaches(&overlay.pods[node].namespace, POD, encap)?;
            reaches(&pod, &ours.to_string(), encap)?;
            let outer = overlay.address(node, false);
            tunnelled.wait(LIMIT, |line| line.contains(&outer))?;
        }
        let plain = plain.stop()?;
        ensure!(plain.is_empty(), "in the open: {plain:#?}");
        Ok(())
    })
}

/// With the largest packet that the tunnel takes.
fn reaches(from: &Namespace, target: &str, encap: Encap) -> Result<()> {
    let size = 1500 - encap.overhead() - 28;
    wait::until(&format!("{} to reach {target}", from.name), LIMIT, || {
        from.run(&format!("ping -n -q -c 1 -W 2 -M do -s {size} {target}"))
            .map(Some)
    })?;
    Ok(())
}

/// How the host has to see a node of ours.
fn end(overlay: &Overlay, node: usize, encap: Encap) -> Result<Remote> {
    let tunnel = wait_address(overlay, node, encap)?.to_string();
    let link = overlay.link(node, encap.device())?.context("no device")?;
    let blocks = overlay.blocks(node)?;
    let block = blocks.iter().find(|block| !block.contains(':'));
    Ok(Remote {
        node: overlay.address(node, false),
        block: block.context("no block")?.clone(),
        tunnel,
        mac: link["address"].as_str().unwrap_or_default().to_owned(),
    })
}
