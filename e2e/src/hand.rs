//! Hosts, tunnels and pods as an administrator makes them with `ip`: what ours is held
//! against, and what it has to work with.

use anyhow::Result;

use crate::command::ip_batch;
use crate::fabric::{self, Fabric};
use crate::lab::{Lab, Namespace};

/// Name of the IPIP device: the one that the kernel module brings.
pub const IPIP_DEVICE: &str = "tunl0";
/// Name of the VXLAN device.
pub const VXLAN_DEVICE: &str = "vxlan.hand";
/// Network identifier of the VXLAN: Calico's default.
pub const VNI: u32 = 4096;

/// What IPIP packets are to nftables.
pub const IPIP_PACKETS: &str = "meta l4proto ipencap";
/// What VXLAN packets are to nftables.
pub const VXLAN_PACKETS: &str = "udp dport 4789";

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
    /// Addresses of the pods.
    pub addresses: [String; 2],
    /// What the hosts call the pods' interfaces.
    interfaces: [String; 2],
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

impl Pair {
    /// Makes hosts and pods; no tunnel. The first pair of a lab is number 0; its hosts are `hand1`
    /// and `hand2`, those of the next one `hand3` and `hand4`.
    pub fn new(lab: &Lab, fabric: &Fabric, pair: usize) -> Result<Self> {
        let numbers = [2 * pair + 1, 2 * pair + 2];
        let addresses = numbers.map(|number| format!("10.243.{number}.10"));
        let interfaces = numbers.map(|number| format!("handpod{number}"));
        let make = |end: usize| -> Result<_> {
            let number = numbers[end];
            let host = host(lab, fabric, &format!("hand{number}"), end, 20 + number)?;
            let pod = pod(lab, &host, &interfaces[end], &addresses[end])?;
            Ok((host, pod))
        };
        let (first, second) = (make(0)?, make(1)?);
        let ends = [0, 1].map(|end| {
            let number = numbers[end];
            Remote {
                node: fabric::addresses(end, 20 + number)[0].clone(),
                block: format!("10.243.{number}.0/26"),
                tunnel: format!("10.243.{number}.0"),
                mac: format!("66:00:00:00:00:{number:02x}"),
            }
        });
        Ok(Self {
            hosts: [first.0, second.0],
            pods: [first.1, second.1],
            addresses,
            interfaces,
            ends,
        })
    }

    /// Lets pods leave with the addresses of their hosts.
    pub fn nat(&self) -> Result<()> {
        for host in &self.hosts {
            host.feed("nft -f -", NAT)?;
        }
        Ok(())
    }

    /// Lets pods send from their addresses only and no tunnel packets, and takes those of the
    /// tunnel from the two hosts only; `tunnel` is what nftables calls them.
    pub fn guard(&self, tunnel: Option<&str>) -> Result<()> {
        let nodes = format!("{{ {}, {} }}", self.ends[0].node, self.ends[1].node);
        let strangers = tunnel.map_or_else(String::new, |packets| {
            format!(
                "    chain in {{
        type filter hook input priority filter;
        {packets} ip saddr != {nodes} drop
    }}
"
            )
        });
        for (end, host) in self.hosts.iter().enumerate() {
            let (interface, address) = (&self.interfaces[end], &self.addresses[end]);
            let rules = format!(
                "table ip guard {{
    chain pre {{
        type filter hook prerouting priority raw;
        iifname \"{interface}\" ip saddr != {address} drop
        iifname \"{interface}\" {IPIP_PACKETS} drop
        iifname \"{interface}\" {VXLAN_PACKETS} drop
    }}
{strangers}}}
"
            );
            host.feed("nft -f -", &rules)?;
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
