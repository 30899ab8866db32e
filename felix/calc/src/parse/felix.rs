//! FelixConfiguration: what of it decides about tunnels and outgoing NAT.

use std::net::IpAddr;
use std::sync::Arc;

use crds::felix_configuration::PortRange;
use crds::{FelixConfiguration, FelixConfigurationSpec};
use ipnet::IpNet;
use regex::Regex;

use super::{Problems, parsed};
use crate::facts::{Felix, Pattern};

/// A FelixConfiguration, `default` or `node.<name>`.
pub(crate) fn felix(name: &str, configuration: &FelixConfiguration) -> Felix {
    let spec = &configuration.spec;
    let mut problems = Problems::of("FelixConfiguration", name);
    let mtu = |value: Option<u32>| value.filter(|bytes| *bytes != 0);
    Felix {
        ipip_enabled: spec.ipip_enabled,
        vxlan_enabled: spec.vxlan_enabled,
        ipip_mtu: mtu(spec.ipip_mtu),
        vxlan_mtu: mtu(spec.vxlan_mtu),
        vxlan_mtu_v6: mtu(spec.vxlan_mtu_v6),
        vxlan_port: spec.vxlan_port.filter(|port| *port != 0),
        vxlan_vni: spec.vxlan_vni,
        mtu_interfaces: mtu_interfaces(spec, &mut problems),
        nat_address: nat_address(spec, &mut problems),
        nat_ports: nat_ports(spec, &mut problems),
        nat_interface: nat_interface(spec, &mut problems),
        nat_exclude_hosts: nat_exclusions(spec, &mut problems),
        external_nodes: external_nodes(spec, &mut problems),
        workload_ipip: spec.allow_ipip_packets_from_workloads,
        workload_vxlan: spec.allow_vxlan_packets_from_workloads,
        problems: problems.list,
    }
}

fn mtu_interfaces(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<Pattern> {
    let text = spec
        .mtu_iface_pattern
        .as_deref()
        .filter(|t| !t.is_empty())?;
    match Regex::new(text) {
        Ok(pattern) => Some(Pattern(Arc::new(pattern))),
        Err(_) => {
            problems.push(
                "spec.mtuIfacePattern",
                format!("{text:?} is no regular expression, so the interface of the node address decides"),
                "write it like ^(eth|ens).*",
            );
            None
        }
    }
}

fn nat_address(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<IpAddr> {
    let text = spec
        .nat_outgoing_address
        .as_deref()
        .filter(|t| !t.is_empty())?;
    parsed(
        problems,
        "spec.natOutgoingAddress",
        text,
        "write it like 192.0.2.10",
    )
}

/// `32768-60999`, `32768:60999` or one port.
fn nat_ports(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<(u16, u16)> {
    let text = match spec.nat_port_range.as_ref()? {
        PortRange::One(0) => return None,
        PortRange::One(port) => port.to_string(),
        PortRange::Text(text) if text.is_empty() || text == "0" => return None,
        PortRange::Text(text) => text.clone(),
    };
    let (first, last) = text.split_once([':', '-']).unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            problems.push(
                "spec.natPortRange",
                format!("{text:?} is no range of ports, so the kernel chooses them"),
                "write it like 32768:60999",
            );
            None
        }
    }
}

fn nat_interface(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<String> {
    let text = spec
        .iptables_nat_outgoing_interface_filter
        .as_deref()
        .filter(|t| !t.is_empty())?;
    // What the kernel takes as a name, or as the start of one.
    let name = text.strip_suffix('+').unwrap_or(text);
    let legal = name.len() <= 15
        && (!name.is_empty() || text == "+")
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/\"\\*+".contains(&b));
    if !legal {
        problems.push(
            "spec.iptablesNATOutgoingInterfaceFilter",
            format!("{text:?} is no name of an interface, so packets may leave by any"),
            "write it like eth0 or eth+",
        );
        return None;
    }
    Some(text.to_owned())
}

fn nat_exclusions(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<bool> {
    match spec.nat_outgoing_exclusions.as_deref()? {
        "IPPoolsOnly" | "" => Some(false),
        "IPPoolsAndHostIPs" => Some(true),
        other => {
            problems.push(
                "spec.natOutgoingExclusions",
                format!("{other:?} is not known, so only pools are left out"),
                "write IPPoolsOnly or IPPoolsAndHostIPs",
            );
            None
        }
    }
}

/// Addresses and prefixes.
fn external_nodes(spec: &FelixConfigurationSpec, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let listed = spec.external_nodes.as_ref()?;
    let mut nets = Vec::new();
    for (index, text) in listed.iter().enumerate() {
        let field = format!("spec.externalNodesList[{index}]");
        let form = "write it like 192.0.2.10 or 192.0.2.0/24";
        let net = match text.contains('/') {
            true => parsed::<IpNet>(problems, &field, text, form),
            false => parsed::<IpAddr>(problems, &field, text, form).map(IpNet::from),
        };
        nets.extend(net.map(|net| net.trunc()));
    }
    Some(nets)
}
