//! The kinds of tunnel, and what is common to all scenarios.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, Overlay, POOL, POOL_V6, Pool, Setup};
use e2e::pod::Pod;
use e2e::wait;

/// What a pool asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test program has its kinds")]
pub(crate) enum Encap {
    Ipip,
    Vxlan,
    VxlanV6,
}

impl Encap {
    /// Name of the device (Calico's).
    pub(crate) fn device(self) -> &'static str {
        match self {
            Encap::Ipip => "tunl0",
            Encap::Vxlan => "vxlan.calico",
            Encap::VxlanV6 => "vxlan-v6.calico",
        }
    }

    /// Annotation of the Node with the address of that device.
    pub(crate) fn annotation(self) -> &'static str {
        match self {
            Encap::Ipip => "IPv4IPIPTunnelAddr",
            Encap::Vxlan => "IPv4VXLANTunnelAddr",
            Encap::VxlanV6 => "IPv6VXLANTunnelAddr",
        }
    }

    /// Octets that the tunnel adds to a packet.
    pub(crate) fn overhead(self) -> u64 {
        match self {
            Encap::Ipip => 20,
            Encap::Vxlan => 50,
            Encap::VxlanV6 => 70,
        }
    }

    /// Packets of the tunnel, for tcpdump.
    pub(crate) fn filter(self) -> &'static str {
        match self {
            Encap::Ipip => "ip proto 4",
            Encap::Vxlan | Encap::VxlanV6 => "udp port 4789",
        }
    }

    pub(crate) fn v6(self) -> bool {
        self == Encap::VxlanV6
    }

    /// The pool that every scenario begins with, in a mode of this kind.
    pub(crate) fn pool(self, mode: &'static str) -> Pool {
        let cidr = if self.v6() { POOL_V6 } else { POOL };
        self.pool_of("pool", cidr, mode)
    }

    /// A pool of this range in a mode of this kind.
    pub(crate) fn pool_of(self, name: &str, cidr: &str, mode: &'static str) -> Pool {
        let pool = Pool::new(name, cidr);
        match self {
            Encap::Ipip => pool.ipip(mode),
            Encap::Vxlan | Encap::VxlanV6 => pool.vxlan(mode),
        }
    }

    /// Nodes in these subnets and this pool.
    pub(crate) fn setup(self, subnets: &[usize], mode: &'static str) -> Setup {
        Setup::new(subnets, self.pool(mode))
    }

    /// A name for a lab.
    pub(crate) fn lab(self, scenario: &str) -> String {
        let kind = match self {
            Encap::Ipip => "i",
            Encap::Vxlan => "v",
            Encap::VxlanV6 => "w",
        };
        format!("{scenario}{kind}")
    }
}

/// Packets that carry an address of a pod in the open, for tcpdump.
pub(crate) const PLAIN: &str = "ip net 10.244.0.0/16 or ip6 net fd00:10:244::/112";

/// Plugs a pod into each node: `pod1` into `node1`, and so on.
pub(crate) fn a_pod_each(overlay: &mut Overlay) -> Result<()> {
    for node in 0..overlay.nodes.len() {
        overlay.plug(node, &format!("pod{}", node + 1))?;
    }
    Ok(())
}

/// Address of a pod, of the family of the tunnel.
pub(crate) fn address(overlay: &Overlay, pod: &str, encap: Encap) -> Result<IpAddr> {
    overlay.pod(pod)?.address(encap.v6())
}

/// A ping that must be answered at once: no retries hide a lost packet.
pub(crate) fn ping(pod: &Pod, target: IpAddr) -> Result<()> {
    pod.namespace
        .run(&format!("ping -n -q -c 1 -W 5 {target}"))
        .map(drop)
}

/// Waits until `device` of a node has exactly one address, and returns it without its length.
pub(crate) fn wait_address(overlay: &Overlay, node: usize, encap: Encap) -> Result<IpAddr> {
    let length = if encap.v6() { "/128" } else { "/32" };
    let what = format!("node{} to have an address on {}", node + 1, encap.device());
    wait::until(&what, LIMIT, || {
        let addresses = overlay.device_addresses(node, encap.device())?;
        ensure!(addresses.len() == 1, "it has {addresses:?}");
        let address = addresses[0].strip_suffix(length);
        ensure!(address.is_some(), "it has {addresses:?}");
        Ok(address.map(str::parse::<IpAddr>).transpose()?)
    })
    .map(|(address, _)| address)
}
