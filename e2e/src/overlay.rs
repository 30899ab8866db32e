//! A cluster over a [`Fabric`]: nodes in several subnets, pools that ask for tunnels.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::capture::Capture;
use crate::fabric::{Fabric, addresses};
use crate::lab::Lab;
use crate::node::Node;
use crate::pod::{Pod, configuration};
use crate::wait;

/// Range of the pool that every scenario begins with.
pub const POOL: &str = "10.244.0.0/16";
/// The same for IPv6.
pub const POOL_V6: &str = "fd00:10:244::/112";
/// Host number of the first node in its subnet.
const FIRST_HOST: usize = 11;

/// How long one thing may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// An IPPool.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: String,
    /// `ipipMode`.
    pub ipip: &'static str,
    /// `vxlanMode`.
    pub vxlan: &'static str,
    /// `natOutgoing`.
    pub nat: bool,
    /// `disabled`.
    pub disabled: bool,
    /// `nodeSelector`.
    pub nodes: &'static str,
}

impl Pool {
    /// A pool for all nodes without tunnels and NAT.
    pub fn new(name: &str, cidr: &str) -> Self {
        Self {
            name: name.to_owned(),
            cidr: cidr.to_owned(),
            ipip: "Never",
            vxlan: "Never",
            nat: false,
            disabled: false,
            nodes: "all()",
        }
    }

    /// The same with `ipipMode`.
    pub fn ipip(self, mode: &'static str) -> Self {
        Self { ipip: mode, ..self }
    }

    /// The same with `vxlanMode`.
    pub fn vxlan(self, mode: &'static str) -> Self {
        Self {
            vxlan: mode,
            ..self
        }
    }

    /// The same with `natOutgoing`.
    pub fn nat(self) -> Self {
        Self { nat: true, ..self }
    }

    /// The same with `disabled`.
    pub fn disabled(self) -> Self {
        Self {
            disabled: true,
            ..self
        }
    }

    fn manifest(&self) -> String {
        let size = if self.cidr.contains(':') { 122 } else { 26 };
        format!(
            "---
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {{name: {}}}
spec: {{cidr: '{}', blockSize: {size}, ipipMode: {}, vxlanMode: {}, natOutgoing: {}, disabled: {}, nodeSelector: {}}}
",
            self.name, self.cidr, self.ipip, self.vxlan, self.nat, self.disabled, self.nodes
        )
    }
}

/// Where a node sends a packet next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Interface it leaves by.
    pub device: String,
    /// The gateway; nothing for what is on the link.
    pub gateway: Option<String>,
}

/// A running cluster over a fabric.
#[derive(Debug)]
pub struct Overlay {
    /// The nodes, `node1` first.
    pub nodes: Vec<Node>,
    /// Pods plugged so far.
    pub pods: Vec<Pod>,
    /// The subnets and what joins them.
    pub fabric: Fabric,
    /// Subnet of each node.
    subnets: Vec<usize>,
    /// The lab, dropped last: it removes all of the above.
    pub lab: Lab,
}

/// Where the nodes are and what they are told.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Subnet of each node.
    pub subnets: Vec<usize>,
    /// The pools to begin with.
    pub pools: Vec<Pool>,
    /// Other manifests.
    pub manifests: String,
    /// Whether the nodes speak BGP.
    pub bgp: bool,
    /// More flags of the first node's agent.
    pub first: Vec<String>,
}

impl Setup {
    /// Nodes in these subnets, one pool.
    pub fn new(subnets: &[usize], pool: Pool) -> Self {
        Self {
            subnets: subnets.to_vec(),
            pools: vec![pool],
            manifests: String::new(),
            bgp: true,
            first: Vec::new(),
        }
    }

    /// The same with more flags of the first node's agent.
    pub fn first_node_with(self, flags: &[&str]) -> Self {
        let first = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { first, ..self }
    }

    /// The same with BGP switched off.
    pub fn without_bgp(self) -> Self {
        Self { bgp: false, ..self }
    }
}

impl Overlay {
    /// Builds fabric, nodes and manifests; starts no agent.
    pub fn prepare(name: &str, setup: &Setup) -> Result<Self> {
        let lab = Lab::new(name)?;
        let count = setup.subnets.iter().max().map_or(0, |last| last + 1);
        let fabric = Fabric::new(&lab, count)?;
        let mut overlay = Self {
            nodes: Vec::new(),
            pods: Vec::new(),
            fabric,
            subnets: setup.subnets.clone(),
            lab,
        };
        std::fs::create_dir_all(overlay.datastore())?;
        overlay.pools(&setup.pools)?;
        overlay.apply("setup.yaml", &setup.manifests)?;
        for (index, subnet) in setup.subnets.iter().enumerate() {
            overlay.add_node(index + 1, *subnet)?;
            if !setup.bgp {
                overlay.nodes[index]
                    .arguments
                    .push("--bgp=false".to_owned());
            }
        }
        if let Some(first) = overlay.nodes.first_mut() {
            first.arguments.extend(setup.first.iter().cloned());
        }
        Ok(overlay)
    }

    fn add_node(&mut self, number: usize, subnet: usize) -> Result<()> {
        let name = format!("node{number}");
        let namespace = self.lab.namespace(&name)?;
        let host = FIRST_HOST + number - 1;
        self.fabric.plug(&namespace, "eth0", &name, subnet, host)?;
        self.describe(number, subnet, host, "")?;
        let node = Node::inside(&self.lab, &name, namespace, &self.datastore())?;
        self.nodes.push(node);
        Ok(())
    }

    /// Writes the Node object of a node: its address in a subnet, and more lines of annotations.
    pub fn describe(&self, number: usize, subnet: usize, host: usize, more: &str) -> Result<()> {
        let name = format!("node{number}");
        let [v4, v6] = addresses(subnet, host);
        self.edit(&format!("{name}.yaml"), |old| {
            // What the agents wrote beside the address stays.
            let mut kept = String::new();
            for line in old.lines().filter(|line| line.contains("TunnelAddr")) {
                kept += &format!("    {}\n", line.trim());
            }
            format!(
                "apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels: {{kubernetes.io/hostname: {name}}}
  annotations:
    projectcalico.org/IPv4Address: {v4}/24
    projectcalico.org/IPv6Address: {v6}/64
{kept}{more}"
            )
        })
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

    /// Replaces a manifest in one step, as an editor does.
    pub fn apply(&self, file: &str, text: &str) -> Result<()> {
        let new = self.lab.folder().join(file);
        std::fs::write(&new, text)?;
        std::fs::rename(&new, self.datastore().join(file))
            .with_context(|| format!("replace the manifest {file}"))
    }

    fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
        let old = std::fs::read_to_string(self.datastore().join(file)).unwrap_or_default();
        self.apply(file, &change(&old))
    }

    /// Replaces all pools.
    pub fn pools(&self, pools: &[Pool]) -> Result<()> {
        let text: String = pools.iter().map(Pool::manifest).collect();
        self.apply("pools.yaml", &text)
    }

    /// Plugs a pod into node number `node`, counted from zero.
    /// It gets an address of each family that has a pool.
    pub fn plug(&mut self, node: usize, name: &str) -> Result<&Pod> {
        let pools = std::fs::read_to_string(self.datastore().join("pools.yaml"))?;
        let wanted = |v6| {
            let mut pools = pools.lines().filter(|line| line.contains("cidr:"));
            pools.any(|line| line.contains("::") == v6).to_string()
        };
        let mut network = configuration(&self.nodes[node]);
        network["ipam"] = json!({"assign_ipv4": wanted(false), "assign_ipv6": wanted(true)});
        let pod = Pod::plug_with(&self.lab, &self.nodes[node], name, &network)?;
        self.pods.push(pod);
        self.pods.last().context("the pod that was just added")
    }

    /// A pod by its name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let pod = self.pods.iter().find(|pod| pod.name == name);
        pod.with_context(|| format!("no pod {name}"))
    }

    /// Address of node number `node`, counted from zero, in its subnet.
    pub fn address(&self, node: usize, v6: bool) -> String {
        let addresses = addresses(self.subnets[node], FIRST_HOST + node);
        addresses[usize::from(v6)].clone()
    }

    /// Where node number `node` sends what is for `destination`.
    pub fn hop(&self, node: usize, destination: IpAddr) -> Result<Hop> {
        hop(&self.nodes[node], destination)
    }

    /// Waits until a node sends what is for `destination` out of `device`.
    pub fn wait_device(&self, node: usize, destination: IpAddr, device: &str) -> Result<Hop> {
        let what = format!("node{} to reach {destination} by {device}", node + 1);
        wait::until(&what, LIMIT, || {
            let hop = self.hop(node, destination)?;
            ensure!(hop.device == device, "now by {hop:?}");
            Ok(Some(hop))
        })
        .map(|(hop, _)| hop)
    }

    /// Waits until a pod reaches an address.
    pub fn wait_reach(&self, pod: &str, target: IpAddr) -> Result<()> {
        let from = &self.pod(pod)?.namespace;
        wait::until(&format!("{pod} to reach {target}"), LIMIT, || {
            from.run(&format!("ping -n -q -c 1 -W 2 {target}"))
                .map(Some)
        })?;
        Ok(())
    }

    /// Waits until every pod reaches every other one, one family.
    pub fn wait_all_reach(&self, v6: bool) -> Result<()> {
        for from in &self.pods {
            for to in self.pods.iter().filter(|to| to.name != from.name) {
                self.wait_reach(&from.name, to.address(v6)?)?;
            }
        }
        Ok(())
    }

    /// Captures what passes the cable of node number `node` at its router's end.
    pub fn capture(&self, node: usize, filter: &str) -> Result<Capture> {
        let port = format!("node{}", node + 1);
        Capture::start(&self.lab, &self.fabric.router, &port, filter)
    }

    /// Confirmed blocks of node number `node`.
    pub fn blocks(&self, node: usize) -> Result<Vec<String>> {
        let name = format!("node{}", node + 1);
        let mut blocks = Vec::new();
        for affinity in self.objects("blockaffinities")? {
            let spec = &affinity["spec"];
            if spec["node"] == name.as_str() && spec["state"] == "confirmed" {
                blocks.extend(spec["cidr"].as_str().map(str::to_owned));
            }
        }
        blocks.sort();
        Ok(blocks)
    }

    /// Tells the router the way to every block of every node, as a fabric that speaks BGP.
    pub fn route_blocks(&self) -> Result<()> {
        for node in 0..self.nodes.len() {
            for block in self.blocks(node)? {
                let gateway = self.address(node, block.contains(':'));
                self.fabric.route(&block, &gateway)?;
            }
        }
        Ok(())
    }

    /// Objects of a kind that programs wrote, by the plural name of the kind.
    pub fn objects(&self, plural: &str) -> Result<Vec<Value>> {
        let Ok(entries) = std::fs::read_dir(self.datastore().join(plural)) else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "yaml") {
                objects.push(serde_yaml::from_str(&std::fs::read_to_string(&path)?)?);
            }
        }
        Ok(objects)
    }

    /// An annotation of the Node object of node number `node`, as it is in the datastore.
    pub fn annotation(&self, node: usize, name: &str) -> Result<Option<String>> {
        let path = self.datastore().join(format!("node{}.yaml", node + 1));
        let object: Value = serde_yaml::from_str(&std::fs::read_to_string(path)?)?;
        let key = format!("projectcalico.org/{name}");
        let value = object["metadata"]["annotations"][key].as_str();
        Ok(value.map(str::to_owned))
    }

    /// Link of a node as `ip -d -j` gives it, nothing when there is none.
    pub fn link(&self, node: usize, device: &str) -> Result<Option<Value>> {
        let links = self.nodes[node].namespace.ip_json("-d address show")?;
        let mut links = links.as_array().into_iter().flatten();
        Ok(links.find(|link| link["ifname"] == device).cloned())
    }

    /// IPv4 and global IPv6 addresses of a device with their lengths.
    pub fn device_addresses(&self, node: usize, device: &str) -> Result<Vec<String>> {
        let Some(link) = self.link(node, device)? else {
            bail!("node{} has no {device}", node + 1);
        };
        let addresses = link["addr_info"].as_array().into_iter().flatten();
        Ok(addresses
            .filter(|address| address["scope"] != "link")
            .filter_map(|address| {
                let local = address["local"].as_str()?;
                Some(format!("{local}/{}", address["prefixlen"]))
            })
            .collect())
    }
}

/// Where a node sends what is for `destination`.
pub fn hop(node: &Node, destination: IpAddr) -> Result<Hop> {
    let answer = node
        .namespace
        .ip_json(&format!("route get {destination}"))?;
    let route = answer.get(0).context("ip route get said nothing")?;
    let device = route["dev"].as_str().context("a route without device")?;
    Ok(Hop {
        device: device.to_owned(),
        gateway: route["gateway"].as_str().map(str::to_owned),
    })
}

/// Runs one test in a cluster of its own: agents started and ready, everything removed
/// afterwards. A failure carries the state of every node, and an ERROR in an agent's log is a
/// failure.
pub fn scenario(
    name: &str,
    setup: &Setup,
    test: impl FnOnce(&mut Overlay) -> Result<()>,
) -> Result<()> {
    let mut overlay = Overlay::prepare(name, setup)?;
    let outcome = overlay
        .start()
        .and_then(|()| test(&mut overlay))
        .and_then(|()| crate::cluster::no_errors_logged(&overlay.nodes));
    outcome.map_err(|error| {
        let state = crate::diagnostics::collect(&overlay.nodes, None);
        error.context(format!("{state}\n{name} failed"))
    })
}
