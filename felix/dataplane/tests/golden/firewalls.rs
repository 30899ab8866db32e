//! What the golden files are made of; for the tests of the crate and for those in namespaces.

use felix_calc::{Firewall, NatOptions};
use ipnet::IpNet;

fn nets(nets: &[&str]) -> std::collections::BTreeSet<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// Name of the golden file, and the rules that it shows.
pub(crate) fn all() -> Vec<(&'static str, Firewall)> {
    vec![
        ("nothing", Firewall::default()),
        ("pools", pools()),
        ("tunnels", tunnels()),
        ("free_pods", free_pods()),
        ("options", options()),
        ("address6", address6()),
    ]
}

/// Two pools that are translated, of each family one, and two that are not, one of them disabled.
pub(crate) fn pools() -> Firewall {
    Firewall {
        all_pools: nets(&[
            "10.244.0.0/16",
            "10.245.0.0/16",
            "10.248.0.0/17",
            "2001:db8:244::/48",
        ]),
        masq_pools: nets(&["10.244.0.0/16", "2001:db8:244::/48"]),
        hosts: nets(&["192.0.2.1/32", "192.0.2.2/32"]),
        ..Firewall::default()
    }
}

/// Both tunnels, nodes of both families, and others that may send.
pub(crate) fn tunnels() -> Firewall {
    Firewall {
        hosts: nets(&[
            "192.0.2.1/32",
            "192.0.2.2/32",
            "192.0.2.3/32",
            "198.51.100.0/24",
            "198.51.100.7/32",
            "2001:db8::1/128",
        ]),
        ipip: true,
        vxlan: Some(4790),
        vxlan_ends: ["192.0.2.1", "2001:db8::1"]
            .map(|end| end.parse().unwrap())
            .into(),
        tunnels: vec![
            ("tunl0", "10.244.1.1".parse().unwrap()),
            ("vxlan.calico", "10.244.1.2".parse().unwrap()),
        ],
        ..pools()
    }
}

/// Tunnels, and pods that may send their packets: to others, not to this host.
pub(crate) fn free_pods() -> Firewall {
    Firewall {
        workload_ipip: true,
        workload_vxlan: true,
        ..tunnels()
    }
}

/// Every option of outgoing NAT, and pods that may send tunnel packets.
pub(crate) fn options() -> Firewall {
    Firewall {
        nat: NatOptions {
            address: Some("192.0.2.99".parse().unwrap()),
            ports: Some((32000, 32999)),
            out_interface: Some("eth+".to_owned()),
            exclude_hosts: true,
        },
        workload_ipip: true,
        workload_vxlan: true,
        ..pools()
    }
}

/// An IPv6 address and one interface.
pub(crate) fn address6() -> Firewall {
    Firewall {
        nat: NatOptions {
            address: Some("2001:db8::99".parse().unwrap()),
            ports: Some((32000, 32999)),
            out_interface: Some("eth0".to_owned()),
            exclude_hosts: false,
        },
        ..pools()
    }
}
