//! Two clusters, joined by BGP and by the manifest that Calico's users apply for it: a disabled
//! pool with the range of the other one.

use anyhow::{Context, Result, ensure};
use e2e::fabric::{OUTSIDE, addresses};
use e2e::node::Node;
use e2e::overlay::{LIMIT, Overlay, POOL, Pool, Setup, scenario};
use e2e::pod::{Pod, configuration};
use e2e::wait;
use serde_json::json;

use crate::lab::{Place, seen};

/// In the cluster `east`; what people apply, with the fields that they leave out.
const JOIN_WEST: &str = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: pod-test-cluster2}
spec: {cidr: 10.235.64.0/18, natOutgoing: false, disabled: true}
";
const WEST_POOL: &str = "10.235.64.0/18";
/// Host number of the node of the cluster `west`.
const WEST: usize = 31;

/// Pods of both reach each other with their own addresses, both ways, and the world outside with
/// that of their node.
pub(crate) fn joined() -> Result<()> {
    let mut setup = Setup::new(&[0, 1], Pool::new("pool", POOL).vxlan("CrossSubnet").nat());
    let west = &addresses(1, WEST)[0];
    let peer = |address: &str, asn: u32| {
        format!(
            "---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {{name: other-cluster-{}}}
spec: {{peerIP: {address}, asNumber: {asn}}}
",
            address.replace('.', "-")
        )
    };
    setup.manifests = format!("{JOIN_WEST}{}", peer(west, 64513));
    scenario("clusters", &setup, |overlay| {
        let mut manifests = format!(
            "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: pool}}
spec: {{cidr: {WEST_POOL}, blockSize: 26, natOutgoing: true}}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: pod-test-cluster1}}
spec: {{cidr: {POOL}, natOutgoing: false, disabled: true}}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPConfiguration
metadata: {{name: default}}
spec: {{asNumber: 64513}}
---
apiVersion: v1
kind: Node
metadata:
  name: west1
  annotations: {{projectcalico.org/IPv4Address: {west}/24}}
"
        );
        for node in 0..2 {
            manifests += &peer(&overlay.address(node, false), 64512);
        }
        let mut west_node = add_west(overlay, &manifests)?;
        west_node.start()?;
        west_node.wait_ready(LIMIT)?;
        // In the subnet of the other cluster's node: routes go straight there.
        overlay.plug(1, "east")?;
        let mut network = configuration(&west_node);
        network["ipam"] = json!({"assign_ipv4": "true", "assign_ipv6": "false"});
        let west_pod = Pod::plug_with(&overlay.lab, &west_node, "west", &network)?;
        let outcome = joined_pods(overlay, &west_node, &west_pod);
        outcome.with_context(|| e2e::diagnostics::collect(std::slice::from_ref(&west_node), None))
    })
}

fn joined_pods(overlay: &Overlay, west_node: &Node, west_pod: &Pod) -> Result<()> {
    let east_pod = overlay.pod("east")?;
    let (east, west) = (east_pod.address(false)?, west_pod.address(false)?);
    wait::until("the clusters to reach each other", LIMIT, || {
        let ping = format!("ping -n -q -c 1 -W 2 {west}");
        east_pod.namespace.run(&ping).map(Some)
    })?;
    let at = |namespace| Place {
        namespace,
        interface: "eth0",
    };
    let (source, _) = seen(overlay, &east_pod.namespace, west, &at(&west_pod.namespace))?;
    ensure!(source == east, "in the west it is {source}, not {east}");
    let (source, _) = seen(overlay, &west_pod.namespace, east, &at(&east_pod.namespace))?;
    ensure!(source == west, "in the east it is {source}, not {west}");
    let outside = at(&overlay.fabric.outside);
    for (pod, node) in [
        (east_pod, overlay.address(1, false)),
        (west_pod, addresses(1, WEST)[0].clone()),
    ] {
        let (source, _) = seen(overlay, &pod.namespace, OUTSIDE[0].parse()?, &outside)?;
        ensure!(
            source.to_string() == node,
            "{} is {source} outside",
            pod.name
        );
    }
    ensure!(
        west_node.route(POOL)?.is_none(),
        "a disabled pool is no route"
    );
    Ok(())
}

fn add_west(overlay: &Overlay, manifests: &str) -> Result<Node> {
    let datastore = overlay.lab.folder().join("west");
    std::fs::create_dir_all(&datastore)?;
    std::fs::write(datastore.join("cluster.yaml"), manifests)?;
    let namespace = overlay.lab.namespace("west1")?;
    overlay.fabric.plug(&namespace, "eth0", "west1", 1, WEST)?;
    Node::inside(&overlay.lab, "west1", namespace, &datastore)
}
