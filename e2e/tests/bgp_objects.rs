//! BGP objects edited while the agents run: filters and passwords.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, LIMIT, ROUTER, scenario};
use e2e::reflectors::sessions;
use e2e::wait;
use serde_json::Value;

#[test]
fn a_filter_hides_blocks_from_the_router_and_no_session_is_touched() -> Result<()> {
    scenario("filters", 2, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.wait_converged()?;
        let block = v4_block(cluster)?;
        let before = flaps(cluster)?;
        let filter = cluster.datastore().join("filter.yaml");
        let hide = format!(
            "apiVersion: crd.projectcalico.org/v1
kind: BGPFilter
metadata: {{name: hide}}
spec: {{exportV4: [{{action: Reject, matchOperator: Equal, cidr: {block}}}]}}
"
        );
        std::fs::write(&filter, hide)?;
        let manifest = cluster.datastore().join("cluster.yaml");
        let open = std::fs::read_to_string(&manifest)?;
        let peer = format!("peerIP: {}, asNumber", ROUTER[0]);
        ensure!(open.contains(&peer), "{open}");
        let filtered = open.replace(
            &peer,
            &format!("filters: [hide], peerIP: {}, asNumber", ROUTER[0]),
        );
        std::fs::write(&manifest, filtered)?;
        wait::until_true("the block to go from BIRD", LIMIT, || {
            Ok(!cluster.tor.knows(&block)?)
        })?;
        let route = cluster.nodes[1].route(&block)?;
        ensure!(route.is_some(), "the mesh has no filters");
        std::fs::remove_file(&filter)?;
        wait::until_true("the block to be back", LIMIT, || cluster.tor.knows(&block))?;
        ensure!(flaps(cluster)? == before, "a session was lost");
        Ok(())
    })
}

#[test]
fn the_mesh_waits_for_its_password_and_changes_it() -> Result<()> {
    scenario("passwords", 2, |cluster| {
        cluster.plug(0, "pod0")?;
        cluster.wait_converged()?;
        let block = v4_block(cluster)?;
        let manifest = cluster.datastore().join("cluster.yaml");
        let open = std::fs::read_to_string(&manifest)?;
        let mesh = "nodeToNodeMeshEnabled: true";
        let secret =
            format!("{mesh}, nodeMeshPassword: {{secretKeyRef: {{name: bgp, key: mesh}}}}");
        std::fs::write(&manifest, open.replace(mesh, &secret))?;
        wait::until_true("the mesh to wait for its password", LIMIT, || {
            Ok(cluster.nodes[1].route(&block)?.is_none())
        })?;
        ensure!(cluster.tor.knows(&block)?, "others run all the same");
        wait::until("the status to say why", LIMIT, || {
            let status = status(cluster)?;
            let peers = status["peers"].as_array().context("no peers")?;
            let waits = |peer: &Value| {
                let error = peer["lastError"].as_str().unwrap_or_default();
                peer["state"] == "Idle" && error.contains("Secret kube-system/bgp")
            };
            Ok(peers.iter().any(waits).then_some(()))
        })?;
        let path = cluster.datastore().join("secret.yaml");
        for password in ["sesame-one", "sesame-two"] {
            let secret = format!(
                "apiVersion: v1
kind: Secret
metadata: {{name: bgp, namespace: kube-system}}
stringData: {{mesh: {password}}}
"
            );
            std::fs::write(&path, secret)?;
            cluster.wait_sessions(0, &[1])?;
            cluster.wait_converged()?;
        }
        for node in &cluster.nodes {
            let log = std::fs::read_to_string(node.log())?;
            let shown = [log, node.get("/state")?, node.get("/bgp/peers")?];
            let told = shown.iter().any(|text| text.contains("sesame"));
            ensure!(!told, "{} shows the password", node.name);
        }
        Ok(())
    })
}

fn v4_block(cluster: &Cluster) -> Result<String> {
    let blocks = cluster.blocks("node1")?;
    let mut v4 = blocks.into_iter().filter(|block| block.contains('.'));
    v4.next().context("node1 has no IPv4 block")
}

fn flaps(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        all.extend(sessions(node)?.iter().map(|peer| peer["flaps"].clone()));
    }
    Ok(all)
}

fn status(cluster: &Cluster) -> Result<Value> {
    let objects = cluster.objects("nodestatuses")?;
    let mut named = objects.iter();
    let found = named.find(|object| object["metadata"]["name"] == "node1");
    Ok(found.context("no NodeStatus of node1")?["status"].clone())
}
