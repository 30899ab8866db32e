//! Whether one address is in use.

use std::fmt;
use std::net::IpAddr;

use crds::Resource;
use crds::ipam_block::attribute;
use datastore::{Object, Typed};

use super::snapshot::{PodFacts, Snapshot, node_of};
use crate::request::Held;

/// Value of the type attribute: address of a WireGuard device, of Calico.
const TYPE_WIREGUARD: &str = "wireguardTunnelAddress";
/// The same, IPv6.
const TYPE_WIREGUARD_V6: &str = "wireguardV6TunnelAddress";
/// Handle of the addresses that Calico for Windows reserves in each block.
const WINDOWS_RESERVED: &str = "windows-reserved-ipam-handle";

/// Why an address is freed, suspected or kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its pod does not exist.
    PodGone,
    /// Its pod has ended.
    PodFinished,
    /// Its pod runs on another node.
    PodElsewhere(String),
    /// Its pod has other addresses.
    PodHasOthers(Vec<IpAddr>),
    /// It is the tunnel address of a node that is gone.
    NodeGone,
    /// Its pod is there, on this node, with this address or with none yet.
    PodAlive,
    /// Other addresses of its handle are in use.
    HandleInUse,
    /// It is the tunnel address of a node of which other addresses are in use.
    NodeInUse,
    /// Nothing says what it is for.
    Unknown,
    /// No handle guards it.
    NoHandle,
}

pub(super) enum Judgement {
    Leaked(Reason),
    /// Address of the node itself.
    Tunnel,
    /// It goes with its block.
    OfBlock,
    Kept(Reason),
}

pub(super) fn judge(held: &Held, snapshot: &Snapshot) -> Judgement {
    let fact = |name: &str| held.attributes.get(name).map(String::as_str);
    let Some(handle) = held.handle.as_deref() else {
        return Judgement::Kept(Reason::NoHandle);
    };
    if handle.eq_ignore_ascii_case(WINDOWS_RESERVED) {
        return Judgement::OfBlock;
    }
    match fact(attribute::TYPE) {
        Some(
            attribute::TYPE_IPIP
            | attribute::TYPE_VXLAN
            | attribute::TYPE_VXLAN_V6
            | TYPE_WIREGUARD
            | TYPE_WIREGUARD_V6,
        ) => return Judgement::Tunnel,
        Some(_) => return Judgement::Kept(Reason::Unknown),
        None => {}
    }
    let (Some(namespace), Some(pod)) = (fact(attribute::NAMESPACE), fact(attribute::POD)) else {
        return Judgement::Kept(Reason::Unknown);
    };
    let pod = snapshot.pods.get(&(namespace.to_owned(), pod.to_owned()));
    // Without a single Pod object nobody keeps them: only the node can tell.
    if snapshot.pods.is_empty() && node_of(held).is_some_and(|node| snapshot.nodes.contains(node)) {
        return Judgement::Kept(Reason::Unknown);
    }
    match leak(held, pod) {
        Some(reason) => Judgement::Leaked(reason),
        None => Judgement::Kept(Reason::PodAlive),
    }
}

/// Why a pod does not use the address, if so.
fn leak(held: &Held, pod: Option<&PodFacts>) -> Option<Reason> {
    let Some(pod) = pod else {
        return Some(Reason::PodGone);
    };
    if let Some(node) = pod.node.as_deref()
        && node_of(held).is_some_and(|own| own != node)
    {
        return Some(Reason::PodElsewhere(node.to_owned()));
    }
    if pod.finished {
        return Some(Reason::PodFinished);
    }
    // Without status it has not been told its address yet.
    if !pod.has_status || pod.addresses.contains(&held.addr) {
        return None;
    }
    Some(Reason::PodHasOthers(
        pod.addresses.iter().copied().collect(),
    ))
}

/// Whether an address that was judged as leaked still is, by its pod as it is now. A pod that cannot be read is alive.
pub fn still_leaked(held: &Held, pod: Option<Object>) -> bool {
    match pod.map(Typed::<crds::core::Pod>::from_object) {
        None => true,
        Some(Ok(pod)) => leak(held, Some(&PodFacts::of(&pod.resource))).is_some(),
        Some(Err(_)) => false,
    }
}

impl PodFacts {
    pub(super) fn of(pod: &crds::core::Pod) -> PodFacts {
        let status = pod.status.as_ref();
        let mut addresses: std::collections::BTreeSet<IpAddr> = status
            .into_iter()
            .flat_map(|status| {
                let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
                listed.chain(status.pod_ip.as_deref())
            })
            .filter_map(|text| text.parse().ok())
            .collect();
        let has_status = !addresses.is_empty();
        addresses.extend(noted_addresses(pod));
        let phase = status.and_then(|status| status.phase.as_deref());
        PodFacts {
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            has_status,
            addresses,
        }
    }
}

/// Addresses that CNI plugins note on a pod; further interfaces (Multus) are told there only.
fn noted_addresses(pod: &crds::core::Pod) -> Vec<IpAddr> {
    const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
    let Some(annotations) = pod.metadata().annotations.as_ref() else {
        return Vec::new();
    };
    let calico = [
        crds::names::annotation::POD_IPS,
        crds::names::annotation::POD_IP,
    ];
    let texts = calico.iter().filter_map(|name| annotations.get(*name));
    let texts = texts.flat_map(|text| text.split([',', '"', '[', ']']));
    let mut addresses: Vec<IpAddr> = texts
        .filter_map(|text| text.split('/').next()?.trim().parse().ok())
        .collect();
    let networks = annotations
        .get(NETWORK_STATUS)
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let ips = networks
        .as_ref()
        .and_then(|networks| networks.as_array())
        .into_iter()
        .flatten();
    let ips = ips.flat_map(|network| network["ips"].as_array().into_iter().flatten());
    addresses.extend(ips.filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok()));
    addresses
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::PodGone => f.write_str("its pod does not exist"),
            Reason::PodFinished => f.write_str("its pod has ended"),
            Reason::PodElsewhere(node) => write!(f, "its pod runs on node {node}"),
            Reason::PodHasOthers(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "its pod has {}", addresses.join(", "))
            }
            Reason::NodeGone => f.write_str("its node is gone"),
            Reason::PodAlive => f.write_str("its pod is alive"),
            Reason::HandleInUse => f.write_str("another address of its handle is in use"),
            Reason::NodeInUse => f.write_str("other addresses of its node are in use"),
            Reason::Unknown => f.write_str("nothing says which pod it is for; release it by hand"),
            Reason::NoHandle => f.write_str("it has no handle; release it by hand"),
        }
    }
}
