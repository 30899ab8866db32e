//! Names of objects, annotations and labels as Calico writes them; every tool that shares the data depends on them.

use sha2::{Digest, Sha256};

use crate::Cidr;

/// Longest name Kubernetes accepts (RFC 1123 subdomain).
const MAX_NAME: usize = 253;
/// Characters of the hash appended to a shortened name.
const HASH_CHARS: usize = 11;

/// Finalizer by which a pool that is being deleted stays until nothing of it is in use.
pub const POOL_FINALIZER: &str = "tortie.dev/ippool-in-use";

/// Name of the object that applies to the whole cluster.
pub const DEFAULT: &str = "default";

/// Annotations on nodes, pods and namespaces.
pub mod annotation {
    /// Node: its IPv4 address with prefix length, `192.0.2.10/24`.
    pub const NODE_IPV4_ADDRESS: &str = "projectcalico.org/IPv4Address";
    /// Node: its IPv6 address with prefix length.
    pub const NODE_IPV6_ADDRESS: &str = "projectcalico.org/IPv6Address";
    /// Node: address of its IPIP tunnel device.
    pub const NODE_IPIP_TUNNEL_ADDRESS: &str = "projectcalico.org/IPv4IPIPTunnelAddr";
    /// Node: address of its IPv4 VXLAN device.
    pub const NODE_VXLAN_TUNNEL_ADDRESS: &str = "projectcalico.org/IPv4VXLANTunnelAddr";
    /// Node: address of its IPv6 VXLAN device.
    pub const NODE_VXLAN_V6_TUNNEL_ADDRESS: &str = "projectcalico.org/IPv6VXLANTunnelAddr";
    /// Node: MAC address of its IPv4 VXLAN device, when it is not derived from the node's name.
    pub const NODE_VXLAN_MAC: &str = "projectcalico.org/VXLANTunnelMACAddr";
    /// Node: MAC address of its IPv6 VXLAN device, when it is not derived from the node's name.
    pub const NODE_VXLAN_V6_MAC: &str = "projectcalico.org/VXLANTunnelMACAddrV6";
    /// Node: its AS number when it differs from the cluster's.
    pub const NODE_AS_NUMBER: &str = "projectcalico.org/ASNumber";
    /// Node: cluster id that makes it a route reflector, written as an IPv4 address.
    pub const NODE_ROUTE_REFLECTOR_CLUSTER_ID: &str = "projectcalico.org/RouteReflectorClusterID";
    /// Node: `true` while it shall leave the routing of the cluster (our own).
    pub const NODE_DRAIN: &str = "tortie.dev/drain";
    /// Node: addresses that it has of blocks of other nodes, `10.0.1.5,fd00::5` (our own).
    pub const NODE_BORROWED: &str = "tortie.dev/borrowed-addresses";
    /// Pod: JSON list with the address it has, `["10.0.1.5/32"]`.
    pub const POD_IPS: &str = "cni.projectcalico.org/podIPs";
    /// Pod: the first address it has.
    pub const POD_IP: &str = "cni.projectcalico.org/podIP";
    /// Pod: id of the sandbox that has the addresses.
    pub const POD_CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
    /// Pod: JSON list of exactly the addresses it must get.
    pub const POD_IP_ADDRS: &str = "cni.projectcalico.org/ipAddrs";
    /// Pod: JSON list of addresses it must get, without address management.
    pub const POD_IP_ADDRS_NO_IPAM: &str = "cni.projectcalico.org/ipAddrsNoIpam";
    /// Pod or namespace: JSON list of IPv4 pools (names or CIDRs) to take the address from.
    pub const IPV4_POOLS: &str = "cni.projectcalico.org/ipv4pools";
    /// Pod or namespace: JSON list of IPv6 pools (names or CIDRs) to take the address from.
    pub const IPV6_POOLS: &str = "cni.projectcalico.org/ipv6pools";
    /// Pod: MAC address of its interface.
    pub const POD_HARDWARE_ADDRESS: &str = "cni.projectcalico.org/hwAddr";
}

/// Handle of the address of a node's IPIP device.
pub fn ipip_tunnel_handle(node: &str) -> String {
    format!("ipip-tunnel-addr-{node}")
}

/// Handle of the address of a node's IPv4 VXLAN device.
pub fn vxlan_tunnel_handle(node: &str) -> String {
    format!("vxlan-tunnel-addr-{node}")
}

/// Handle of the address of a node's IPv6 VXLAN device.
pub fn vxlan_v6_tunnel_handle(node: &str) -> String {
    format!("vxlan-v6-tunnel-addr-{node}")
}

/// Name of the block of a CIDR: `10.0.1.0/26` is `10-0-1-0-26`.
pub fn block_name(cidr: Cidr) -> String {
    cidr.to_string().replace(['.', ':', '/'], "-")
}

/// Name of the affinity of a node for a block: `<node>-<block name>`, shortened with a hash above 253 characters.
pub fn affinity_name(node: &str, cidr: Cidr) -> String {
    shorten(format!("{node}-{}", block_name(cidr)))
}

/// Name of the object of a handle: its id in lower case, shortened with a hash above 253 characters.
pub fn handle_name(id: &str) -> String {
    shorten(id.to_lowercase())
}

fn shorten(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let hash: String = Sha256::digest(name.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut end = MAX_NAME - HASH_CHARS;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &name[..end], &hash[..HASH_CHARS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_and_affinity_names_are_calicos() {
        let v4: Cidr = "10.0.1.0/26".parse().unwrap();
        let v6: Cidr = "fd00:1::/122".parse().unwrap();
        assert_eq!(block_name(v4), "10-0-1-0-26");
        assert_eq!(block_name(v6), "fd00-1---122");
        assert_eq!(affinity_name("node-1", v4), "node-1-10-0-1-0-26");
    }

    #[test]
    fn long_names_stay_distinct_and_legal() {
        let long = "n".repeat(260);
        let a = affinity_name(&long, "10.0.1.0/26".parse().unwrap());
        let b = affinity_name(&long, "10.0.2.0/26".parse().unwrap());
        assert_eq!(a.len(), MAX_NAME);
        assert_ne!(a, b);
    }

    #[test]
    fn handle_names_are_lower_case() {
        assert_eq!(handle_name("k8s-pod-network.ABC"), "k8s-pod-network.abc");
    }
}
