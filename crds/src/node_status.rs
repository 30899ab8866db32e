//! `NodeStatus`: what a node's agent observes.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::block_affinity::AffinityState;
use crate::resource::custom_resource;
use crate::{Asn, Cidr, Condition, FieldError};

/// What the agent of one node observes. Named after the node and written only by its agent; a summary, at most every
/// few seconds: details come from the agent itself.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "tortie.dev",
    version = "v1alpha1",
    kind = "NodeStatus",
    plural = "nodestatuses",
    singular = "nodestatus",
    category = "tortie",
    status = "NodeStatusStatus",
    derive = "PartialEq",
    doc = "What the agent of one node observes. Named after the node and written only by its agent.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "AS", "type": "string", "jsonPath": ".status.asNumber"}"#,
    printcolumn = r#"{"name": "Up", "type": "integer", "jsonPath": ".status.peersEstablished", "description": "BGP sessions that are established"}"#,
    printcolumn = r#"{"name": "Peers", "type": "integer", "jsonPath": ".status.peersConfigured", "description": "BGP sessions that should be"}"#,
    printcolumn = r#"{"name": "Routes", "type": "integer", "jsonPath": ".status.routes.programmed"}"#,
    printcolumn = r#"{"name": "Failed", "type": "integer", "jsonPath": ".status.routes.failed"}"#,
    printcolumn = r#"{"name": "Used", "type": "integer", "jsonPath": ".status.addresses.used", "description": "Addresses in use, of the blocks of the node"}"#,
    printcolumn = r#"{"name": "Free", "type": "integer", "jsonPath": ".status.addresses.free", "description": "Addresses left in the blocks of the node"}"#,
    printcolumn = r#"{"name": "Observed", "type": "date", "jsonPath": ".status.observedAt"}"#,
    printcolumn = r#"{"name": "Router ID", "type": "string", "jsonPath": ".status.routerID", "priority": 1}"#,
    printcolumn = r#"{"name": "Agent", "type": "string", "jsonPath": ".status.agentVersion", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatusSpec {
    /// The node; the same as the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatusStatus {
    /// When the agent last looked, as RFC 3339 text; old when the agent is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub observed_at: Option<String>,
    /// Version of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// AS number of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// BGP identifier of the node.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// BGP sessions that are established.
    pub peers_established: u32,
    /// BGP sessions that should be.
    pub peers_configured: u32,
    /// Every BGP session.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerStatus>,
    /// Address blocks of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockStatus>,
    /// Addresses of all its blocks together.
    pub addresses: AddressCounts,
    /// Tunnel devices that pools ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelStatus>,
    /// Routes in the kernel.
    pub routes: RouteCounts,
    /// Facts to wait for: `Ready`, `DataplaneProgrammed`, `BGPConverged`, `ConfigurationValid`; and whether the kernel carries all tunnels: `TunnelsInKernel`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One BGP session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    /// What it comes from: a node of the mesh, or a BGPPeer object.
    pub name: String,
    /// The object that asks for it: `BGPPeer/tor`, or `Node/b` in the mesh.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Address of the peer.
    #[serde(rename = "peerIP")]
    pub peer_ip: String,
    /// AS number of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// Why it exists.
    #[serde(rename = "type")]
    pub type_: PeerType,
    /// State of RFC 4271 §8.2.2.
    pub state: PeerState,
    /// Since when it is in that state, as RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Routes held from the peer, all families together.
    pub received: u64,
    /// Of these, routes that were accepted: no loop, not rejected by import policy.
    pub accepted: u64,
    /// Of these, routes that are in use.
    pub best: u64,
    /// Routes the peer is told; what came from itself is not told back.
    pub advertised: u64,
    /// Why the session last ended or does not start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Why a session exists.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum PeerType {
    /// The node-to-node mesh.
    #[default]
    NodeMesh,
    /// A BGPPeer for some nodes.
    NodePeer,
    /// A BGPPeer for all nodes.
    GlobalPeer,
}

/// State of a session (RFC 4271 §8.2.2).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[allow(missing_docs, reason = "the names of RFC 4271")]
pub enum PeerState {
    #[default]
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

/// One address block of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockStatus {
    /// The block.
    pub cidr: Cidr,
    /// State of the claim.
    pub state: AffinityState,
    /// Addresses in use.
    pub used: u32,
    /// Addresses left.
    pub free: u32,
}

/// Addresses of the node's blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AddressCounts {
    /// Addresses in use.
    pub used: u32,
    /// Addresses left.
    pub free: u32,
}

/// A tunnel device of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelStatus {
    /// Name of the device.
    pub device: String,
    /// How it wraps packets.
    pub encapsulation: Encapsulation,
    /// Who moves its packets: the kernel, or this agent in user space, which is much slower. Absent while the device is not in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<TunnelCarrier>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// VXLAN: other nodes that can be sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remotes: Option<u32>,
    /// What the agent carried and dropped, where it carries the packets; as of the last write, which these numbers alone do not bring about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<TunnelCounters>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a tunnel in user space carried and dropped since the agent began to carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelCounters {
    /// Packets sent to other nodes.
    pub sent_packets: u64,
    /// Octets of the packets inside them.
    pub sent_octets: u64,
    /// Packets received from other nodes.
    pub received_packets: u64,
    /// Octets of the packets inside them.
    pub received_octets: u64,
    /// Packets dropped, by reason; reasons that never were are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
}

/// How packets between nodes are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum Encapsulation {
    /// IPv4 in IPv4 (RFC 2003).
    #[serde(rename = "IPIP")]
    Ipip,
    /// Ethernet in UDP (RFC 7348).
    #[serde(rename = "VXLAN")]
    Vxlan,
}

/// Who moves the packets of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum TunnelCarrier {
    /// The kernel.
    Kernel,
    /// The agent, where the kernel cannot.
    UserSpace,
}

/// Routes in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteCounts {
    /// All routes of the agent that are in the kernel as they should be.
    pub programmed: u64,
    /// Of these, routes to pods of this node.
    pub workloads: u64,
    /// Of these, routes that hold the node's own blocks.
    pub blocks: u64,
    /// Of these, routes learned from BGP peers.
    pub learned: u64,
    /// Routes the kernel refuses at present; they are retried.
    pub failed: u64,
}

impl NodeStatusSpec {
    fn check(&self, _: &mut Vec<FieldError>) {}
}

custom_resource!(NodeStatus);
