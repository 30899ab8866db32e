//! CNI plugin to agent, over a Unix stream socket.
//!
//! One connection carries one request and one reply, each a JSON document on one line.
//! The plugin works in the pod's namespace; the agent allocates the address, keeps the
//! endpoint record and programs the host side.
//!
//! An attachment is a container id together with an interface name.
//! ADD is [`Add`], then the plugin builds the veth, then [`Activate`].
//! Every operation may be repeated, because a plugin can be killed at any point:
//!
//! * a second [`Add`] of an attachment returns the record of the first;
//! * [`Del`] of an attachment that is not known answers [`Reply::Done`];
//! * [`Activate`] without a preceding [`Add`] is [`code::UNKNOWN_CONTAINER`].
//!
//! While the agent is away the plugin leaves a [tombstone] for each deletion.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub mod code;
pub mod install;
pub mod tombstone;

#[cfg(test)]
mod tests;

/// Where the agent listens unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tortie/cni.sock";
/// Where agent and plugin keep state that outlives them, unless configured otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tortie";
/// Folder of endpoint records below the state directory.
pub const ENDPOINTS: &str = "endpoints";
/// Longest line either side accepts, in bytes, newline included.
///
/// [`Gc`] is the longest request: about 150 bytes per attachment.
pub const MAX_LINE: usize = 1 << 20;

/// MAC address of every host end, so that a pod's neighbour entry outlives the veth
/// (Calico behaviour).
pub const HOST_MAC: [u8; 6] = [0xee; 6];
/// What a pod uses as its IPv4 gateway; configured nowhere, the host answers ARP for it
/// (Calico behaviour).
pub const GATEWAY_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);
/// What a pod uses as its IPv6 gateway: the link-local address that belongs to [`HOST_MAC`]
/// (RFC 4291 appendix A).
pub const GATEWAY_V6: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// What the alias of each of our host interfaces starts with.
pub const ALIAS_PREFIX: &str = "tortie:";

/// Alias of the host interface of an attachment: the mark by which both sides know it.
pub fn alias(container_id: &str, ifname: &str) -> String {
    format!("{ALIAS_PREFIX}{container_id}/{ifname}")
}

/// The attachment an [`alias`] names; `None` when the alias is not one of ours.
pub fn parse_alias(alias: &str) -> Option<Attachment> {
    let (container_id, ifname) = alias.strip_prefix(ALIAS_PREFIX)?.split_once('/')?;
    Some(Attachment {
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    })
}

/// One request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`crate::VERSION`] of the sender.
    pub version: u32,
    /// What is asked for.
    pub op: Op,
}

impl Request {
    /// A request of this version.
    pub fn new(op: Op) -> Request {
        Request {
            version: crate::VERSION,
            op,
        }
    }
}

/// What the plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Allocate addresses and write the endpoint record; answered by [`Reply::Added`].
    Add(Add),
    /// The veth is complete: program the host side; answered by [`Reply::Done`].
    Activate(Activate),
    /// Forget the endpoint and release its addresses; answered by [`Reply::Done`].
    Del(Del),
    /// Compare the record with the host side; answered by [`Reply::Checked`].
    Check(Check),
    /// Forget every attachment of a network that is not listed; answered by
    /// [`Reply::Collected`].
    Gc(Gc),
    /// Whether an [`Add`] would be served; answered by [`Reply::Done`], or by an error with
    /// code [`code::NOT_AVAILABLE`] or [`code::LIMITED_CONNECTIVITY`].
    Status,
}

/// One reply line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Op::Add`].
    Added(Added),
    /// Done, nothing to say.
    Done,
    /// To [`Op::Check`].
    Checked(Checked),
    /// To [`Op::Gc`].
    Collected(Collected),
    /// Not done; nothing was changed that a repetition or a [`Del`] does not cover.
    Error(Error),
}

/// Why a request was not served; becomes the plugin's CNI error as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// CNI error code, see [`code`].
    pub code: u32,
    /// What is wrong, in one line.
    pub message: String,
    /// Cause and remedy; may be empty.
    #[serde(default)]
    pub details: String,
}

/// A container id and the name of the interface inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// Allocate for one attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Name of the CNI network; the IPAM handle is `<network>.<container_id>`.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// Path of the pod's network namespace as the runtime gave it.
    pub netns: String,
    /// `K8S_POD_NAMESPACE`; absent outside Kubernetes.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `K8S_POD_NAME`; absent outside Kubernetes.
    #[serde(default)]
    pub pod: Option<String>,
    /// `K8S_POD_UID`, where the runtime passes it.
    #[serde(default)]
    pub uid: Option<String>,
    /// An IPv4 address is wanted; the agent gives all wanted families or none.
    pub ipv4: bool,
    /// An IPv6 address is wanted.
    pub ipv6: bool,
    /// Names or CIDRs of the only IPv4 pools to use; empty means every pool.
    #[serde(default)]
    pub ipv4_pools: Vec<String>,
    /// Names or CIDRs of the only IPv6 pools to use; empty means every pool.
    #[serde(default)]
    pub ipv6_pools: Vec<String>,
    /// Exactly these addresses are wanted; empty means the agent chooses.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// MTU from the network configuration; 0 means the agent decides.
    #[serde(default)]
    pub mtu: u32,
}

/// The endpoint record as the plugin needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Name of the host interface.
    pub host_interface: String,
    /// MAC address of the host interface, [`HOST_MAC`] in colon form.
    pub host_mac: String,
    /// MAC address the pod side must have; absent means the kernel's choice.
    #[serde(default)]
    pub pod_mac: Option<String>,
    /// Addresses of the pod, each with the full prefix length.
    pub addresses: Vec<IpNet>,
    /// MTU of both ends.
    pub mtu: u32,
    /// Alias of the host interface, see [`alias`].
    pub alias: String,
}

/// Both ends are there: program sysctls and routes, and answer when they are in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// Name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// Name of the host interface, as [`Added`] gave it.
    pub host_interface: String,
    /// MAC address the pod side has.
    pub pod_mac: String,
}

/// Forget one attachment. Also the content of a [tombstone].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Del {
    /// Name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `K8S_POD_NAMESPACE`; absent outside Kubernetes.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `K8S_POD_NAME`; absent outside Kubernetes.
    #[serde(default)]
    pub pod: Option<String>,
}

/// Compare the record of an attachment with what the host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// The record of an attachment, and what the agent finds wrong about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The record, as it was answered to [`Add`].
    pub record: Added,
    /// One sentence per deviation on the host side: route, sysctl, allocation.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Forget every attachment of `network` that is not in `valid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gc {
    /// Name of the CNI network; attachments of other networks stay.
    pub network: String,
    /// The runtime's list, `cni.dev/valid-attachments`.
    pub valid: Vec<Attachment>,
}

/// What is left after a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Every attachment the agent still has a record of, in all networks.
    ///
    /// The plugin removes host interfaces of ours that are in neither list.
    pub remaining: Vec<Attachment>,
}

/// `message` as one line with its newline.
///
/// # Errors
/// When the line would be longer than [`MAX_LINE`].
pub fn to_line<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(serde::ser::Error::custom(format!(
            "message of {} bytes exceeds the limit of {MAX_LINE}",
            line.len()
        )));
    }
    Ok(line)
}
