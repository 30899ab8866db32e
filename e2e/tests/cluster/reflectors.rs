//! From the mesh to reflectors in pods, to reflectors on nodes, and back, and to those that the
//! controller chooses, as the notes of the chart say it: packets flow all the while, and none is lost.

use anyhow::{Context, Result, ensure};
use e2e::kubernetes::{Kubernetes, LIMIT, NAMESPACE, NODES, RELEASE};
use e2e::wait;

use crate::{nothing_is_lost, nothing_is_refused, scenario};

/// Sessions of each node, by where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sessions {
    mesh: usize,
    objects: usize,
}

/// With every other node.
const MESH: Sessions = Sessions {
    mesh: NODES - 1,
    objects: 0,
};

/// By BGPPeers: with both reflectors, or, on a node that reflects, with the two other nodes.
const REFLECTED: Sessions = Sessions {
    mesh: 0,
    objects: 2,
};

#[test]
fn mesh_and_reflectors_are_exchanged_without_loss() -> Result<()> {
    scenario("k8s-reflect", "", |cluster| {
        let pods = cluster.run_pods("web", NODES)?;
        sessions(cluster, MESH)?;
        nothing_is_lost(cluster, &pods, |cluster| to_deployment(cluster))?;
        nothing_is_lost(cluster, &pods, |cluster| a_reflector_is_killed(cluster))?;
        nothing_is_lost(cluster, &pods, |cluster| to_nodes(cluster))?;
        nothing_is_lost(cluster, &pods, |cluster| to_mesh(cluster))?;
        nothing_is_lost(cluster, &pods, |cluster| to_chosen_nodes(cluster))?;
        nothing_is_lost(cluster, &pods, |cluster| below_the_limit(cluster))?;
        cluster.all_reach_each_other(&pods)?;
        nothing_is_refused(cluster)
    })
}

/// Reflectors on node1 and node2 for all nodes, then the end of the mesh.
fn to_deployment(cluster: &Kubernetes) -> Result<()> {
    cluster.kubectl("label node node1 node2 reflects=yes")?;
    change(cluster, "deployment", true)?;
    sessions(cluster, Sessions { objects: 2, ..MESH })?;
    change(cluster, "deployment", false)?;
    sessions(cluster, REFLECTED)
}

/// Without a goodbye; another takes its place, and everybody finds it.
fn a_reflector_is_killed(cluster: &Kubernetes) -> Result<()> {
    let before = reflectors(cluster)?;
    let killed = before.first().context("a reflector")?;
    cluster.kubectl(&format!(
        "delete pod {killed} -n {NAMESPACE} --grace-period=0 --force"
    ))?;
    cluster.kubectl(&format!(
        "rollout status deployment/{RELEASE}-reflector -n {NAMESPACE} --timeout={}s",
        LIMIT.as_secs()
    ))?;
    ensure!(!reflectors(cluster)?.contains(killed), "{killed} is there");
    sessions(cluster, REFLECTED)
}

fn reflectors(cluster: &Kubernetes) -> Result<Vec<String>> {
    let line = format!("pods -n {NAMESPACE} -l app.kubernetes.io/component=reflector");
    let pods = cluster.items(&line)?;
    let names = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Back over the mesh, because the pods go before the nodes have taken over.
fn to_nodes(cluster: &Kubernetes) -> Result<()> {
    change(cluster, "deployment", true)?;
    sessions(cluster, Sessions { objects: 2, ..MESH })?;
    change(cluster, "none", true)?;
    cluster.kubectl("delete bgppeer -l tortie.dev/made-for=reflector")?;
    sessions(cluster, MESH)?;
    change(cluster, "nodes", true)?;
    for node in ["node2", "node3"] {
        cluster.kubectl(&format!("label node {node} route-reflector=true"))?;
        cluster.kubectl(&format!(
            "annotate node {node} projectcalico.org/RouteReflectorClusterID=198.51.100.1"
        ))?;
    }
    // Who reflects is in no mesh, and one alone has none.
    sessions(cluster, REFLECTED)?;
    change(cluster, "nodes", false)?;
    sessions(cluster, REFLECTED)
}

fn to_mesh(cluster: &Kubernetes) -> Result<()> {
    change(cluster, "none", true)?;
    for node in ["node2", "node3"] {
        cluster.kubectl(&format!(
            "annotate node {node} projectcalico.org/RouteReflectorClusterID-"
        ))?;
        cluster.kubectl(&format!("label node {node} route-reflector-"))?;
    }
    // An agent may hear of the end of the BGPPeer before it hears that nodes reflect no more.
    sessions(cluster, MESH)?;
    cluster.kubectl(&format!("delete bgppeer {RELEASE}-node-reflectors"))?;
    sessions(cluster, MESH)
}

/// More nodes than a mesh may have: the controller makes two of them reflect and ends the mesh.
fn to_chosen_nodes(cluster: &Kubernetes) -> Result<()> {
    choose(cluster, NODES - 1)?;
    sessions(cluster, REFLECTED)
}

/// A mesh may have more than there are: it comes back, and what was made for the reflectors goes.
fn below_the_limit(cluster: &Kubernetes) -> Result<()> {
    choose(cluster, 2 * NODES)?;
    sessions(cluster, MESH)?;
    let left = cluster.items("bgppeers")?;
    ensure!(left.is_empty(), "{left:#?}");
    Ok(())
}

/// Asks Helm for reflectors above so many nodes.
fn choose(cluster: &Kubernetes, limit: usize) -> Result<()> {
    upgrade(
        cluster,
        &format!(
            "reflectors:
  mode: auto
  auto: {{meshLimit: {limit}, count: 2, settle: 10s}}
"
        ),
    )
}

/// Asks Helm for reflectors of this kind, with or without the mesh.
fn change(cluster: &Kubernetes, mode: &str, mesh: bool) -> Result<()> {
    upgrade(
        cluster,
        &format!(
            "bgp: {{mesh: {mesh}}}
reflectors:
  mode: {mode}
  deployment:
    replicas: 2
    nodeSelector: {{reflects: 'yes'}}
"
        ),
    )
}

/// With these values.
fn upgrade(cluster: &Kubernetes, values: &str) -> Result<()> {
    let file = cluster.lab().folder().join("values.yaml");
    std::fs::write(&file, values)?;
    let values = format!("-f {}", file.display());
    cluster.deploy("upgrade", &values).map(drop)
}

/// Waits until every node has these sessions and no other, all established.
fn sessions(cluster: &Kubernetes, expected: Sessions) -> Result<()> {
    let what = format!("{expected:?} on every node");
    wait::until(&what, LIMIT, || {
        let statuses = cluster.items("nodestatuses")?;
        ensure!(statuses.len() == NODES, "{} nodes", statuses.len());
        for status in statuses {
            let peers = status["status"]["peers"].as_array();
            let peers = peers.cloned().unwrap_or_default();
            let up = peers.iter().all(|peer| peer["state"] == "Established");
            let mesh = peers
                .iter()
                .filter(|peer| peer["type"] == "NodeMesh")
                .count();
            let found = Sessions {
                mesh,
                objects: peers.len() - mesh,
            };
            let name = &status["metadata"]["name"];
            ensure!(found == expected && up, "{name}: {peers:#?}");
        }
        Ok(Some(()))
    })
    .map(drop)
}
