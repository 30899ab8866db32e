//! From a full mesh to route reflectors, by editing manifests while everything runs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, LIMIT, new_node, node_addresses};
use crate::node::Node;
use crate::wait;

/// Cluster id of all reflectors.
const CLUSTER_ID: &str = "198.51.100.1";

/// Every node peers with every node that carries the label; those peer back.
const PEERINGS: &str = "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: route-reflectors}
spec: {nodeSelector: all(), peerSelector: route-reflector == 'true'}
";

impl Cluster {
    /// Adds nodes that reflect routes: first their manifests and one BGPPeer, then their agents.
    /// The mesh between the other nodes stays.
    pub fn add_reflectors(&mut self, count: usize) -> Result<()> {
        let datastore = self.datastore();
        let first = self.nodes.len() + 1;
        let mut manifests = PEERINGS.to_owned();
        for number in first..first + count {
            manifests.push_str(&reflector(number));
            self.nodes.push(new_node(&self.lab, &datastore, number)?);
        }
        write(self, "reflectors.yaml", &manifests)?;
        for node in &mut self.nodes[first - 1..] {
            node.start()?;
        }
        for node in &self.nodes[first - 1..] {
            node.wait_ready(LIMIT)?;
        }
        Ok(())
    }

    /// Turns the mesh off.
    pub fn end_mesh(&self) -> Result<()> {
        let manifest = self.datastore().join("cluster.yaml");
        let text = std::fs::read_to_string(&manifest)?;
        let (on, off) = (
            "nodeToNodeMeshEnabled: true",
            "nodeToNodeMeshEnabled: false",
        );
        ensure!(text.contains(on), "the mesh is not on");
        write(self, "cluster.yaml", &text.replace(on, off))
    }

    /// Waits until a node has exactly these sessions with other nodes, all of them up.
    pub fn wait_sessions(&self, node: usize, others: &[usize]) -> Result<()> {
        let all: Vec<String> = (0..self.nodes.len()).map(|n| self.address(n)).collect();
        let node = &self.nodes[node];
        let mut wanted: Vec<String> = others.iter().map(|other| self.address(*other)).collect();
        wanted.sort();
        let what = format!("{} to have sessions with {wanted:?} only", node.name);
        wait::until(&what, LIMIT, || {
            let mut seen = Vec::new();
            for peer in sessions(node)? {
                let address = peer["address"].as_str().context("a peer without address")?;
                // Routers and reflectors that are no nodes are not meant.
                if all.iter().any(|node| node == address) {
                    ensure!(peer["state"] == "Established", "{peer}");
                    seen.push(address.to_owned());
                }
            }
            seen.sort();
            ensure!(seen == wanted, "it has {seen:?}");
            Ok(Some(()))
        })?;
        Ok(())
    }
}

/// The peers that an agent shows.
pub fn sessions(node: &Node) -> Result<Vec<Value>> {
    let answer = node.get("/state")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let state: Value = serde_json::from_str(body)?;
    let peers = state["bgp"]["peers"].as_array();
    Ok(peers.context("no BGP section")?.clone())
}

fn reflector(number: usize) -> String {
    let [v4, v6] = node_addresses(number);
    format!(
        "---
apiVersion: v1
kind: Node
metadata:
  name: node{number}
  labels: {{kubernetes.io/hostname: node{number}, route-reflector: 'true'}}
  annotations:
    projectcalico.org/IPv4Address: {v4}/24
    projectcalico.org/IPv6Address: {v6}/64
    projectcalico.org/RouteReflectorClusterID: {CLUSTER_ID}
"
    )
}

/// Replaces a manifest in one step, as an editor does.
fn write(cluster: &Cluster, name: &str, text: &str) -> Result<()> {
    let new = cluster.lab.folder().join(name);
    std::fs::write(&new, text)?;
    std::fs::rename(&new, cluster.datastore().join(name))
        .with_context(|| format!("replace the manifest {name}"))
}
