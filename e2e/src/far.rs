//! A node of the cluster behind the router: layer 3 lies between it and the others.
//!
//! ```text
//!  node1  node2  node3     tor      node4
//!    |      |      |      |   |       |
//!  --+------+------+------+   +-------+--
//!       192.0.2.0/24           203.0.113.0/24
//! ```

use anyhow::{Result, ensure};

use crate::bird;
use crate::cluster::{Cluster, ROUTER};
use crate::command::ip_batch;
use crate::node::Node;

/// Interface of the router towards the node.
pub const PORT: &str = "far";
/// Addresses of the router there.
const GATEWAY: [&str; 2] = ["203.0.113.1", "2001:db8:0:3::1"];
/// Addresses of the node.
pub const ADDRESSES: [&str; 2] = ["203.0.113.14", "2001:db8:0:3::14"];

/// What carries packets between the subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// UDP 4789, both families.
    Vxlan,
    /// Protocol 4; IPv6, for which there is no IPIP, goes by VXLAN.
    Ipip,
}

impl Tunnel {
    /// What carries one family.
    pub fn of(self, v6: bool) -> Self {
        if v6 { Tunnel::Vxlan } else { self }
    }

    /// Its packets, for tcpdump.
    pub fn filter(self) -> &'static str {
        match self {
            Tunnel::Vxlan => "udp port 4789",
            Tunnel::Ipip => "ip proto 4",
        }
    }

    /// The device on each node (Calico's names).
    pub fn device(self, v6: bool) -> &'static str {
        match (self.of(v6), v6) {
            (Tunnel::Vxlan, false) => "vxlan.calico",
            (Tunnel::Vxlan, true) => "vxlan-v6.calico",
            (Tunnel::Ipip, _) => "tunl0",
        }
    }

    /// Modes of an IPv4 and an IPv6 pool.
    fn modes(self) -> [&'static str; 2] {
        [false, true].map(|v6| match self.of(v6) {
            Tunnel::Vxlan => "ipipMode: Never, vxlanMode: CrossSubnet",
            Tunnel::Ipip => "ipipMode: CrossSubnet, vxlanMode: Never",
        })
    }
}

impl Cluster {
    /// Adds a node behind the router, with a session to it, and makes the pools use tunnels
    /// between subnets. To be called before the agents start.
    pub fn add_far_node(&mut self, tunnel: Tunnel) -> Result<()> {
        let number = self.nodes.len() + 1;
        let name = format!("node{number}");
        let namespace = self.lab.namespace(&name)?;
        let mut router = format!(
            "link add {PORT} type veth peer name eth0 netns {}\nlink set {PORT} up\n",
            namespace.name
        );
        let mut node = "link set eth0 up\n".to_owned();
        for (length, (gateway, address)) in [24, 64].into_iter().zip(GATEWAY.iter().zip(ADDRESSES))
        {
            router += &format!("address add {gateway}/{length} dev {PORT} nodad\n");
            node += &format!("address add {address}/{length} dev eth0 nodad\n");
            node += &format!("route add default via {gateway}\n");
        }
        ip_batch(&self.tor.namespace, &router)?;
        ip_batch(&namespace, &node)?;

        self.edit_manifests(tunnel)?;
        std::fs::write(self.datastore().join("far.yaml"), manifests(&name))?;
        let datastore = self.datastore();
        self.nodes
            .push(Node::inside(&self.lab, &name, namespace, &datastore)?);
        self.far = Some(number - 1);
        Ok(())
    }

    fn edit_manifests(&self, tunnel: Tunnel) -> Result<()> {
        let path = self.datastore().join("cluster.yaml");
        let mut text = std::fs::read_to_string(&path)?;
        for (size, mode) in [26, 122].into_iter().zip(tunnel.modes()) {
            let never = format!("blockSize: {size}, ipipMode: Never, vxlanMode: Never");
            ensure!(text.contains(&never), "cluster.yaml has no {never}");
            text = text.replacen(&never, &format!("blockSize: {size}, {mode}"), 1);
        }
        let peer = format!("peerIP: {}", ROUTER[0]);
        ensure!(text.contains(&peer), "cluster.yaml has no {peer}");
        text = text.replacen(&peer, &format!("nodeSelector: '!has(far)', {peer}"), 1);
        Ok(std::fs::write(path, text)?)
    }
}

fn manifests(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels: {{kubernetes.io/hostname: {name}, far: 'true'}}
  annotations:
    projectcalico.org/IPv4Address: {}/24
    projectcalico.org/IPv6Address: {}/64
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {{name: far-tor}}
spec: {{node: {name}, peerIP: {}, asNumber: {}}}
",
        ADDRESSES[0],
        ADDRESSES[1],
        GATEWAY[0],
        bird::ASN
    )
}
