//! Hosts, tunnels and pods as an administrator makes them with `ip`: what ours is held
//! against, and what it has to work with.

use anyhow::Result;

use crate::command::ip_batch;
use crate::fabric::{Fabric, addresses};
use crate::lab::{Lab, Namespace};

/// Name of the IPIP device: the one that the kernel module brings.
pub const IPIP_DEVICE: &str = "tunl0";
/// Name of the VXLAN device.
pub const VXLAN_DEVICE: &str = "vxlan.hand";
/// Network identifier of the VXLAN: Calico's default.
pub const VNI: u32 = 4096;

/// The far end of a tunnel, and the pods behind it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Address of its node.
    pub node: String,
    /// Its pods.
    pub block: String,
    /// VXLAN only: address of its tunnel device.
    pub tunnel: String,
    /// VXLAN only: hardware address of that device.
    pub mac: String,
}

/// A host in a subnet that forwards, without any agent.
pub fn host(
    lab: &Lab,
    fabric: &Fabric,
    name: &str,
    subnet: usize,
    number: usize,
) -> Result<Namespace> {
    let host = lab.namespace(name)?;
    fabric.plug(&host, "eth0", name, subnet, number)?;
    host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    Ok(host)
}

/// A pod of a host: `/32`, link-scope gateway, proxy ARP, as Calico plugs it.
pub fn pod(lab: &Lab, host: &Namespace, name: &str, address: &str) -> Result<Namespace> {
    let pod = lab.namespace(name)?;
    ip_batch(
        host,
        &format!(
            "link add {name} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {}
link set {name} up
route add {address} dev {name} scope link\n",
            pod.name
        ),
    )?;
    host.run(&format!("sysctl -qw net.ipv4.conf.{name}.proxy_arp=1"))?;
    ip_batch(
        &pod,
        &format!(
            "address add {address}/32 dev eth0
link set eth0 up
route add 169.254.1.1 dev eth0 scope link
neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0
route add default via 169.254.1.1 dev eth0\n"
        ),
    )?;
    Ok(pod)
}

/// An IPIP device with one address, and the ways through it.
pub fn ipip(host: &Namespace, address: &str, mtu: u32, remotes: &[Remote]) -> Result<()> {
    // With the module loaded the device is there; where new namespaces get none it is made.
    let made = host.ip(&format!("link show {IPIP_DEVICE}")).is_ok();
    let mut lines = String::new();
    if !made {
        lines += &format!("link add {IPIP_DEVICE} type ipip\n");
    }
    lines += &format!(
        "link set {IPIP_DEVICE} mtu {mtu} up
address add {address}/32 dev {IPIP_DEVICE}\n"
    );
    for Remote { node, block, .. } in remotes {
        lines += &format!("route replace {block} via {node} dev {IPIP_DEVICE} onlink\n");
    }
    ip_batch(host, &lines)
}

/// A VXLAN device with one address, neighbours and forwarding entries for the others, and the
/// ways through it. `local` is the address of the host.
pub fn vxlan(
    host: &Namespace,
    local: &str,
    own: &Remote,
    mtu: u32,
    remotes: &[Remote],
) -> Result<()> {
    let mut lines = format!(
        "link add {VXLAN_DEVICE} address {} mtu {mtu} type vxlan id {VNI} dstport 4789 local {local} dev eth0 nolearning
link set {VXLAN_DEVICE} up
address add {}/32 dev {VXLAN_DEVICE}\n",
        own.mac, own.tunnel
    );
    let mut entries = String::new();
    for remote in remotes {
        lines += &format!(
            "neigh replace {} lladdr {} dev {VXLAN_DEVICE} nud permanent
route replace {} via {} dev {VXLAN_DEVICE} onlink\n",
            remote.tunnel, remote.mac, remote.block, remote.tunnel
        );
        entries += &format!(
            "fdb append {} dev {VXLAN_DEVICE} dst {} self permanent\n",
            remote.mac, remote.node
        );
    }
    ip_batch(host, &lines)?;
    host.feed("bridge -batch -", &entries)?;
    Ok(())
}

/// Two hosts in different subnets with a pod each, to be joined by a tunnel.
#[derive(Debug)]
pub struct Pair {
    /// The hosts, in subnet 0 and 1.
    pub hosts: [Namespace; 2],
    /// Their pods.
    pub pods: [Namespace; 2],
    /// How each is seen by the other.
    pub ends: [Remote; 2],
}

/// Outgoing NAT in one rule.
const NAT: &str = "table ip hand {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 10.243.0.0/16 ip daddr != 10.243.0.0/16 masquerade
    }
}
";

/// Addresses of the pods of a [`Pair`].
pub const PODS: [&str; 2] = ["10.243.1.10", "10.243.2.10"];

impl Pair {
    /// Makes hosts and pods; no tunnel.
    pub fn new(lab: &Lab, fabric: &Fabric) -> Result<Self> {
        let hosts = [
            host(lab, fabric, "hand1", 0, 21)?,
            host(lab, fabric, "hand2", 1, 22)?,
        ];
        let pods = [
            pod(lab, &hosts[0], "handpod1", PODS[0])?,
            pod(lab, &hosts[1], "handpod2", PODS[1])?,
        ];
        let ends = [1, 2].map(|number| Remote {
            node: addresses(number - 1, 20 + number)[0].clone(),
            block: format!("10.243.{number}.0/26"),
            tunnel: format!("10.243.{number}.0"),
            mac: format!("66:00:00:00:00:0{number}"),
        });
        Ok(Self { hosts, pods, ends })
    }

    /// Lets pods leave with the addresses of their hosts.
    pub fn nat(&self) -> Result<()> {
        for host in &self.hosts {
            host.feed("nft -f -", NAT)?;
        }
        Ok(())
    }

    /// Joins them by IPIP.
    pub fn ipip(&self) -> Result<()> {
        for (own, other) in [(0, 1), (1, 0)] {
            let far = std::slice::from_ref(&self.ends[other]);
            ipip(&self.hosts[own], &self.ends[own].tunnel, 1480, far)?;
        }
        Ok(())
    }

    /// Joins them by VXLAN.
    pub fn vxlan(&self) -> Result<()> {
        for (own, other) in [(0, 1), (1, 0)] {
            let far = std::slice::from_ref(&self.ends[other]);
            let end = &self.ends[own];
            vxlan(&self.hosts[own], &end.node, end, 1450, far)?;
        }
        Ok(())
    }
}
