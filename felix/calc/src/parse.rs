//! From objects to facts, with what cannot be followed said as problems.
//!
//! A field this version does not know how to obey is never ignored in silence.
//! If obeying the rest could do harm (a missing password, a missing filter), the object as a whole
//! is left out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crds::block_affinity::{AffinityState, AffinityType};
use crds::ip_pool::EncapMode;
use crds::ipam_block::attribute;
use crds::names::annotation;
use crds::{Asn, BlockAffinity, IpPool, IpamBlock};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Problem;
use crate::facts::{Affinity, Block, Claim, Encap, Node, NodeTunnels, Pool, Tunnel};

pub(crate) use borrowed::borrowed;
pub(crate) use configuration::bgp_defaults;
pub(crate) use felix::felix;
pub(crate) use filter::filter;
pub(crate) use peer::peer;
pub(crate) use secret::passwords;
pub(crate) use unread::unread;

mod borrowed;
mod configuration;
mod felix;
mod filter;
mod peer;
mod secret;
mod unread;

/// Problems of one object under construction.
struct Problems {
    object: String,
    list: Vec<Problem>,
}

impl Problems {
    fn of(kind: &str, name: &str) -> Problems {
        Problems {
            object: format!("{kind}/{name}"),
            list: Vec::new(),
        }
    }

    fn push(&mut self, field: &str, problem: impl Into<String>, remedy: &str) {
        self.list.push(Problem {
            object: self.object.clone(),
            field: field.to_owned(),
            problem: problem.into(),
            remedy: remedy.to_owned(),
        });
    }

    fn unsupported(&mut self, field: &str, consequence: &str) {
        let problem = format!("not supported by this version: {consequence}");
        self.push(field, problem, "remove it");
    }
}

/// A Node; addresses come from Calico's annotations only, because their prefix length matters.
pub(crate) fn node(name: &str, node: &crds::core::Node) -> Node {
    let mut problems = Problems::of("Node", name);
    let annotations = node.metadata.annotations.as_ref();
    let read = |key: &str| -> Option<(String, String)> {
        let text = annotations?.get(key).filter(|text| !text.is_empty())?;
        Some((format!("metadata.annotations[{key}]"), text.clone()))
    };
    let ipv4 = read(annotation::NODE_IPV4_ADDRESS);
    let ipv6 = read(annotation::NODE_IPV6_ADDRESS);
    let asn = read(annotation::NODE_AS_NUMBER);
    let cluster = read(annotation::NODE_ROUTE_REFLECTOR_CLUSTER_ID);
    let ipv4 = ipv4.and_then(|(field, text)| {
        let form = "write it like 192.0.2.10/24";
        parsed::<Ipv4Net>(&mut problems, &field, &with_length(&text, 32), form)
    });
    let ipv6 = ipv6.and_then(|(field, text)| {
        let form = "write it like 2001:db8::10/64";
        parsed::<Ipv6Net>(&mut problems, &field, &with_length(&text, 128), form)
    });
    let asn = asn.and_then(|(field, text)| {
        let form = "write 0 to 4294967295, or dotted like 65000.100";
        parsed::<Asn>(&mut problems, &field, &text, form)
    });
    let tunnels = tunnels(&read, &mut problems);
    let cluster_id = cluster.and_then(|(field, text)| {
        parsed::<Ipv4Addr>(
            &mut problems,
            &field,
            &text,
            "write it like an IPv4 address",
        )
    });
    Node {
        labels: node.metadata.labels.clone().unwrap_or_default(),
        ipv4,
        ipv6,
        asn: asn.map(u32::from),
        cluster_id,
        tunnels,
        problems: problems.list,
    }
}

/// What a Node says of its tunnel devices.
fn tunnels(
    read: &impl Fn(&str) -> Option<(String, String)>,
    problems: &mut Problems,
) -> NodeTunnels {
    fn told<T>(found: Option<(String, String)>, problems: &mut Problems, form: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let (field, text) = found?;
        parsed(problems, &field, &text, form)
    }
    let (v4, v6) = ("write it like 192.0.2.1", "write it like 2001:db8::1");
    let mut mac = |key: &str| {
        let (field, text) = read(key)?;
        let mac = mac(&text);
        if mac.is_none() {
            let what = format!("{text:?} is no MAC address, so the one of the node's name is used");
            problems.push(&field, what, "write it like 66:00:5e:00:53:01");
        }
        mac
    };
    let (mac, mac_v6) = (
        mac(annotation::NODE_VXLAN_MAC),
        mac(annotation::NODE_VXLAN_V6_MAC),
    );
    let addresses = [
        annotation::NODE_IPIP_TUNNEL_ADDRESS,
        annotation::NODE_VXLAN_TUNNEL_ADDRESS,
    ];
    let [ipip, vxlan] = addresses.map(|key| told::<Ipv4Addr>(read(key), problems, v4));
    let vxlan_v6 = read(annotation::NODE_VXLAN_V6_TUNNEL_ADDRESS);
    NodeTunnels {
        ipip,
        vxlan,
        vxlan_v6: told::<Ipv6Addr>(vxlan_v6, problems, v6),
        mac,
        mac_v6,
    }
}

/// A unicast MAC address as text.
fn mac(text: &str) -> Option<[u8; 6]> {
    let octets = text.split([':', '-']).map(|octet| match octet.len() {
        1 | 2 => u8::from_str_radix(octet, 16).ok(),
        _ => None,
    });
    let octets: Vec<u8> = octets.collect::<Option<_>>()?;
    let mac: [u8; 6] = octets.try_into().ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

/// An address without a length means that address alone.
fn with_length(text: &str, length: u8) -> String {
    if text.contains('/') {
        text.to_owned()
    } else {
        format!("{text}/{length}")
    }
}

fn parsed<T>(problems: &mut Problems, field: &str, text: &str, remedy: &str) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(
                field,
                format!("{text:?} is not understood ({error}), so it is ignored"),
                remedy,
            );
            None
        }
    }
}

/// An IPPool.
pub(crate) fn pool(pool: &IpPool) -> Pool {
    let spec = &pool.spec;
    let (mode, tunnel) = match (spec.ipip_mode(), spec.vxlan_mode()) {
        (EncapMode::Never, vxlan) => (vxlan, Tunnel::Vxlan),
        (ipip, _) => (ipip, Tunnel::Ipip),
    };
    Pool {
        cidr: spec.cidr.net(),
        block_size: spec.block_size(),
        encap: encap_of(mode),
        tunnel,
        disabled: spec.disabled(),
        nat: spec.nat_outgoing(),
        export: !spec.disable_bgp_export.unwrap_or(false),
    }
}

fn encap_of(mode: EncapMode) -> Encap {
    match mode {
        EncapMode::Always => Encap::Always,
        EncapMode::CrossSubnet => Encap::CrossSubnet,
        EncapMode::Never => Encap::Never,
    }
}

/// A BlockAffinity, if it is of this node.
pub(crate) fn affinity(this: &str, affinity: &BlockAffinity) -> Option<Affinity> {
    let spec = &affinity.spec;
    let node = match spec.type_.unwrap_or_default() {
        AffinityType::Host => spec.node == this,
        AffinityType::Virtual => false,
    };
    let confirmed = match spec.state {
        AffinityState::Confirmed => !spec.deleted,
        AffinityState::Pending | AffinityState::PendingDeletion => false,
    };
    node.then_some(Affinity {
        cidr: spec.cidr.net(),
        confirmed,
        state: spec.state,
    })
}

/// A confirmed BlockAffinity of another node.
pub(crate) fn claim(this: &str, affinity: &BlockAffinity) -> Option<Claim> {
    let spec = &affinity.spec;
    let host = spec.type_.unwrap_or_default() == AffinityType::Host;
    let confirmed = spec.state == AffinityState::Confirmed && !spec.deleted;
    (host && confirmed && spec.node != this).then(|| Claim {
        cidr: spec.cidr.net(),
        node: spec.node.clone(),
    })
}

/// An IPAMBlock, if it is affine to this node.
pub(crate) fn block(this: &str, block: &IpamBlock) -> Option<Block> {
    let spec = &block.spec;
    if spec.deleted || spec.host() != Some(this) {
        return None;
    }
    let cidr = spec.cidr.net();
    let lent = spec
        .allocations
        .iter()
        .enumerate()
        .filter_map(|(position, index)| {
            let owner = spec.attributes.get(usize::try_from((*index)?).ok()?)?;
            let node = owner.secondary.get(attribute::NODE)?;
            (node != this).then(|| at(cidr, position)).flatten()
        })
        .collect::<BTreeSet<IpAddr>>();
    Some(Block { cidr, lent })
}

/// Addresses in use and left in an IPAMBlock, if it is affine to this node.
pub(crate) fn usage(this: &str, block: &IpamBlock) -> Option<(u32, u32)> {
    let spec = &block.spec;
    let used = u32::try_from(spec.used()).ok()?;
    let free = u32::try_from(spec.unallocated.len()).ok()?;
    (!spec.deleted && spec.host() == Some(this)).then_some((used, free))
}

/// The address at a position of a block.
fn at(cidr: IpNet, position: usize) -> Option<IpAddr> {
    let address = match cidr.network() {
        IpAddr::V4(v4) => {
            Ipv4Addr::from(u32::from(v4).checked_add(u32::try_from(position).ok()?)?).into()
        }
        IpAddr::V6(v6) => {
            let position = u128::try_from(position).ok()?;
            std::net::Ipv6Addr::from(u128::from(v6).checked_add(position)?).into()
        }
    };
    cidr.contains(&address).then_some(address)
}
