//! Three nodes, a top-of-rack router that is BIRD, two pools and some pods.
//!
//! ```text
//!   pods   pods   pods
//!    |      |      |
//!  node1  node2  node3      tor (BIRD, AS 64500)
//!    |      |      |         |
//!  --+------+------+---------+--  192.0.2.0/24, 2001:db8::/64
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bird::{self, Bird};
use crate::lab::Lab;
use crate::node::Node;
use crate::pod::Pod;
use crate::wait;

/// AS number of the cluster: Calico's default.
pub const ASN: u32 = 64512;
/// Address that the router has beyond the cluster.
pub const OUTSIDE: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
/// Default limit for one thing to happen.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Addresses of the router on the link of the nodes.
pub const ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const POOLS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/112"];

/// A running cluster with its router.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in order of their names.
    pub nodes: Vec<Node>,
    /// The router.
    pub tor: Bird,
    /// Pods plugged so far.
    pub pods: Vec<Pod>,
    /// Which node is behind the router, if one is.
    pub far: Option<usize>,
    /// The lab, dropped last: it removes all of the above.
    pub lab: Lab,
}

impl Cluster {
    /// Builds namespaces, manifests and the router, and starts no agent.
    pub fn prepare(name: &str, nodes: usize) -> Result<Self> {
        let lab = Lab::new(name)?;
        let datastore = lab.folder().join("datastore");
        std::fs::create_dir_all(&datastore)?;
        std::fs::write(datastore.join("cluster.yaml"), manifests(nodes))?;
        let tor = Bird::start(
            &lab,
            "tor",
            [&format!("{}/24", ROUTER[0]), &format!("{}/64", ROUTER[1])],
            &["192.0.2.0/24", "203.0.113.0/24"],
            ASN,
        )?;
        tor.namespace
            .ip(&format!("address add {}/32 dev lo", OUTSIDE[0]))?;
        tor.namespace
            .ip(&format!("address add {}/128 dev lo", OUTSIDE[1]))?;
        let nodes = (1..=nodes)
            .map(|number| new_node(&lab, &datastore, number))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            nodes,
            tor,
            pods: Vec::new(),
            far: None,
            lab,
        })
    }

    /// IPv4 address of node number `node`, counted from zero.
    pub fn address(&self, node: usize) -> String {
        if self.far == Some(node) {
            return crate::far::ADDRESSES[0].to_owned();
        }
        node_addresses(node + 1)[0].clone()
    }

    /// Starts every agent and waits until all are ready.
    pub fn start(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.start()?;
        }
        for node in &self.nodes {
            node.wait_ready(LIMIT)?;
        }
        Ok(())
    }

    /// The datastore: a folder of manifests.
    pub fn datastore(&self) -> PathBuf {
        self.lab.folder().join("datastore")
    }

    /// Plugs a pod into node number `node`, counted from zero.
    pub fn plug(&mut self, node: usize, name: &str) -> Result<&Pod> {
        let pod = Pod::plug(&self.lab, &self.nodes[node], name)?;
        self.pods.push(pod);
        self.pods.last().context("the pod that was just added")
    }

    /// The node a pod runs on.
    pub fn node_of(&self, pod: &Pod) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == pod.node)
            .with_context(|| format!("pod {} runs on unknown node {}", pod.name, pod.node))
    }

    /// Objects of a kind that programs wrote, by the plural name of the kind.
    pub fn objects(&self, plural: &str) -> Result<Vec<Value>> {
        let folder = self.datastore().join(plural);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                objects.push(read(&path)?);
            }
        }
        objects.sort_by_key(|object| object["metadata"]["name"].as_str().map(str::to_owned));
        Ok(objects)
    }

    /// Blocks that a node holds, confirmed ones only.
    pub fn blocks(&self, node: &str) -> Result<Vec<String>> {
        Ok(self
            .objects("blockaffinities")?
            .iter()
            .filter(|affinity| {
                affinity["spec"]["node"] == node && affinity["spec"]["state"] == "confirmed"
            })
            .filter_map(|affinity| affinity["spec"]["cidr"].as_str().map(str::to_owned))
            .collect())
    }

    /// Waits until every other node and BIRD route every confirmed block.
    pub fn wait_converged(&self) -> Result<Duration> {
        wait::until("every block on every node and on BIRD", LIMIT, || {
            for node in &self.nodes {
                for block in self.blocks(&node.name)? {
                    anyhow::ensure!(self.tor.knows(&block)?, "BIRD has no route to {block}");
                    for other in self.nodes.iter().filter(|other| other.name != node.name) {
                        let route = other.route(&block)?;
                        anyhow::ensure!(route.is_some(), "{} has no route to {block}", other.name);
                    }
                }
            }
            Ok(Some(()))
        })
        .map(|((), took)| took)
    }
}

/// A node with its addresses and its way out; starts nothing.
pub(crate) fn new_node(lab: &Lab, datastore: &Path, number: usize) -> Result<Node> {
    let [v4, v6] = node_addresses(number);
    let node = Node::new(
        lab,
        &format!("node{number}"),
        &[&format!("{v4}/24"), &format!("{v6}/64")],
        datastore,
    )?;
    node.namespace
        .ip(&format!("route add default via {}", ROUTER[0]))?;
    node.namespace
        .ip(&format!("-6 route add default via {}", ROUTER[1]))?;
    Ok(node)
}

/// Addresses of node number `number`, counted from one.
pub fn node_addresses(number: usize) -> [String; 2] {
    [
        format!("192.0.2.{}", 10 + number),
        format!("2001:db8::{}", 10 + number),
    ]
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn manifests(nodes: usize) -> String {
    let mut text = format!(
        "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: default-ipv4-ippool}}
spec: {{cidr: {}, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: false, nodeSelector: all()}}
---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: default-ipv6-ippool}}
spec: {{cidr: '{}', blockSize: 122, ipipMode: Never, vxlanMode: Never, natOutgoing: false, nodeSelector: all()}}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPConfiguration
metadata: {{name: default}}
spec: {{asNumber: {ASN}, nodeToNodeMeshEnabled: true}}
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {{name: tor}}
spec: {{peerIP: {}, asNumber: {}}}
",
        POOLS[0],
        POOLS[1],
        ROUTER[0],
        bird::ASN
    );
    for number in 1..=nodes {
        let [v4, v6] = node_addresses(number);
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Node
metadata:
  name: node{number}
  labels: {{kubernetes.io/hostname: node{number}}}
  annotations:
    projectcalico.org/IPv4Address: {v4}/24
    projectcalico.org/IPv6Address: {v6}/64
"
        ));
    }
    text
}

/// Runs one test in a cluster of its own: agents started and ready, everything
/// removed afterwards. A failure carries the state of every node, and an ERROR
/// in an agent's log is a failure.
pub fn scenario(
    name: &str,
    nodes: usize,
    test: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let mut cluster = Cluster::prepare(name, nodes)?;
    let outcome = cluster
        .start()
        .and_then(|()| test(&mut cluster))
        .and_then(|()| no_errors_logged(&cluster.nodes));
    outcome.map_err(|error| {
        let state = crate::diagnostics::collect(&cluster.nodes, Some(&cluster.tor));
        error.context(format!("{state}\n{name} failed"))
    })
}

/// Fails on the first ERROR in the log of an agent.
pub fn no_errors_logged(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let log = std::fs::read_to_string(node.log())?;
        if let Some(line) = log.lines().find(|line| line.contains("ERROR")) {
            anyhow::bail!("{} logged an error: {line}", node.name);
        }
    }
    Ok(())
}
