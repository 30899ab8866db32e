//! From objects to facts, with what cannot be followed said as problems.
//!
//! A field this version does not know how to obey is never ignored in silence.
//! If obeying the rest could do harm (a missing password, a missing filter), the object as a whole
//! is left out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crds::block_affinity::{AffinityState, AffinityType};
use crds::ip_pool::EncapMode;
use crds::ipam_block::attribute;
use crds::names::annotation;
use crds::{Asn, BlockAffinity, IpPool, IpamBlock};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Problem;
use crate::facts::{Affinity, Block, Encap, Node, Pool};

pub(crate) use configuration::bgp_defaults;
pub(crate) use filter::filter;
pub(crate) use peer::peer;
pub(crate) use secret::passwords;

mod configuration;
mod filter;
mod peer;
mod secret;

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
        problems: problems.list,
    }
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
    let (mode, encap_field) = match (spec.ipip_mode(), spec.vxlan_mode()) {
        (EncapMode::Never, vxlan) => (vxlan, "spec.vxlanMode"),
        (ipip, _) => (ipip, "spec.ipipMode"),
    };
    Pool {
        cidr: spec.cidr.net(),
        block_size: spec.block_size(),
        encap: match mode {
            EncapMode::Always => Encap::Always,
            EncapMode::CrossSubnet => Encap::CrossSubnet,
            EncapMode::Never => Encap::Never,
        },
        encap_field,
        disabled: spec.disabled(),
        export: !spec.disable_bgp_export.unwrap_or(false),
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
