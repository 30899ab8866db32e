//! What is kept of FelixConfiguration.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use regex::Regex;

use crate::Problem;

/// The settings of one FelixConfiguration, or of both that concern a node; absent ones are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Felix {
    pub(crate) ipip_enabled: Option<bool>,
    pub(crate) vxlan_enabled: Option<bool>,
    pub(crate) ipip_mtu: Option<u32>,
    pub(crate) vxlan_mtu: Option<u32>,
    pub(crate) vxlan_mtu_v6: Option<u32>,
    pub(crate) vxlan_port: Option<u16>,
    pub(crate) vxlan_vni: Option<u32>,
    /// Names of the interfaces whose MTU counts.
    pub(crate) mtu_interfaces: Option<Pattern>,
    pub(crate) nat_address: Option<IpAddr>,
    pub(crate) nat_ports: Option<(u16, u16)>,
    pub(crate) nat_interface: Option<String>,
    pub(crate) nat_exclude_hosts: Option<bool>,
    pub(crate) external_nodes: Option<Vec<IpNet>>,
    pub(crate) workload_ipip: Option<bool>,
    pub(crate) workload_vxlan: Option<bool>,
    pub(crate) problems: Vec<Problem>,
}

impl Felix {
    /// These settings, and where they say nothing those of another object.
    pub(crate) fn over(&self, below: &Felix) -> Felix {
        let (own, below) = (self.clone(), below.clone());
        Felix {
            ipip_enabled: own.ipip_enabled.or(below.ipip_enabled),
            vxlan_enabled: own.vxlan_enabled.or(below.vxlan_enabled),
            ipip_mtu: own.ipip_mtu.or(below.ipip_mtu),
            vxlan_mtu: own.vxlan_mtu.or(below.vxlan_mtu),
            vxlan_mtu_v6: own.vxlan_mtu_v6.or(below.vxlan_mtu_v6),
            vxlan_port: own.vxlan_port.or(below.vxlan_port),
            vxlan_vni: own.vxlan_vni.or(below.vxlan_vni),
            mtu_interfaces: own.mtu_interfaces.or(below.mtu_interfaces),
            nat_address: own.nat_address.or(below.nat_address),
            nat_ports: own.nat_ports.or(below.nat_ports),
            nat_interface: own.nat_interface.or(below.nat_interface),
            nat_exclude_hosts: own.nat_exclude_hosts.or(below.nat_exclude_hosts),
            external_nodes: own.external_nodes.or(below.external_nodes),
            workload_ipip: own.workload_ipip.or(below.workload_ipip),
            workload_vxlan: own.workload_vxlan.or(below.workload_vxlan),
            problems: Vec::new(),
        }
    }
}

/// A regular expression over names, compared by its text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Arc<Regex>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}
