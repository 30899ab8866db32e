//! What a tunnel adds to a packet.

use std::net::IpAddr;

use crate::{Encapsulation, Tunnel};

/// Octets that IPIP adds: an IPv4 header.
pub const IPIP_OVERHEAD: u32 = 20;
/// Octets that VXLAN over IPv4 adds: IPv4, UDP, VXLAN and Ethernet headers.
pub const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;
/// Octets that VXLAN over IPv6 adds.
pub const VXLAN_V6_OVERHEAD: u32 = 40 + 8 + 8 + 14;

/// Octets that this tunnel adds to what it carries.
pub fn overhead(tunnel: &Tunnel) -> u32 {
    match (&tunnel.encapsulation, tunnel.local) {
        (Encapsulation::Ipip, _) => IPIP_OVERHEAD,
        (Encapsulation::Vxlan(_), IpAddr::V4(_)) => VXLAN_OVERHEAD,
        (Encapsulation::Vxlan(_), IpAddr::V6(_)) => VXLAN_V6_OVERHEAD,
    }
}

/// The largest MTU a tunnel can have over a link of this MTU, both in bytes.
pub fn largest(tunnel: &Tunnel, link_mtu: u32) -> u32 {
    link_mtu.saturating_sub(overhead(tunnel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{ipip, vxlan};

    #[test]
    fn the_overheads_are_those_of_calico() {
        assert_eq!(largest(&ipip(), 1500), 1480);
        assert_eq!(largest(&vxlan(), 1500), 1450);
        let mut six = vxlan();
        six.local = "2001:db8::1".parse().unwrap();
        assert_eq!(largest(&six, 1500), 1430);
        assert_eq!(largest(&six, 60), 0);
    }
}
