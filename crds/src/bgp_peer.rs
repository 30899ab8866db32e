//! `BGPPeer`: a BGP peering outside the mesh.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use std::net::{IpAddr, SocketAddr};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::custom_resource;
use crate::selector::check_selector;
use crate::{Asn, FieldError, GoDuration};

pub use session::{Bfd, FailureDetectionMode, MaxPrefixes, MaxPrefixesAction, RestartMode, Role};

mod session;

/// A BGP peering outside the node-to-node mesh: which nodes peer, and with whom.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "BGPPeer",
    root = "BgpPeer",
    plural = "bgppeers",
    singular = "bgppeer",
    category = "tortie",
    status = "BgpPeerStatus",
    derive = "PartialEq",
    doc = "A BGP peering outside the node-to-node mesh: which nodes peer, and with whom.",
    printcolumn = r#"{"name": "Peer IP", "type": "string", "jsonPath": ".spec.peerIP"}"#,
    printcolumn = r#"{"name": "AS", "type": "string", "jsonPath": ".spec.asNumber"}"#,
    printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "string", "jsonPath": ".spec.nodeSelector"}"#,
    printcolumn = r#"{"name": "Peers", "type": "string", "jsonPath": ".spec.peerSelector"}"#,
    printcolumn = r#"{"name": "Up", "type": "integer", "jsonPath": ".status.established"}"#,
    printcolumn = r#"{"name": "Sessions", "type": "integer", "jsonPath": ".status.sessions"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.node) && self.node != '' && has(self.nodeSelector) && self.nodeSelector != '')")
        .message("node and nodeSelector are both set; keep one of them"),
    validation = Rule::new("!(has(self.peerIP) && self.peerIP != '' && has(self.peerSelector) && self.peerSelector != '')")
        .message("peerIP and peerSelector are both set; keep one of them"),
    validation = Rule::new(
        "(has(self.peerIP) && self.peerIP != '') || (has(self.peerSelector) && self.peerSelector != '') || (has(self.localWorkloadSelector) && self.localWorkloadSelector != '')"
    )
    .message("nobody to peer with; set peerIP, peerSelector or localWorkloadSelector"),
    validation = Rule::new("!(has(self.peerSelector) && self.peerSelector != '' && has(self.asNumber))")
        .message("peers chosen by peerSelector have their own AS numbers; remove asNumber"),
    validation = Rule::new(
        "!(has(self.localWorkloadSelector) && self.localWorkloadSelector != '') || (!(has(self.peerIP) && self.peerIP != '') && !(has(self.peerSelector) && self.peerSelector != '') && has(self.asNumber))"
    )
    .message("localWorkloadSelector needs asNumber and excludes peerIP and peerSelector"),
    validation = Rule::new("!(has(self.reachableBy) && self.reachableBy != '') || (has(self.peerIP) && self.peerIP != '')")
        .message("reachableBy is the way to peerIP; set peerIP or remove reachableBy"),
    validation = Rule::new(
        r"!has(self.peerIP) || self.peerIP == '' || isIP(self.peerIP) || (self.peerIP.matches('^([0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$') && (self.peerIP.startsWith('[') ? isIP(self.peerIP.substring(1, self.peerIP.indexOf(']'))) : isIP(self.peerIP.substring(0, self.peerIP.indexOf(':')))) && int(self.peerIP.substring(self.peerIP.lastIndexOf(':') + 1)) >= 1 && int(self.peerIP.substring(self.peerIP.lastIndexOf(':') + 1)) <= 65535)"
    )
    .message("peerIP is not an address with an optional port; write 192.0.2.1, 192.0.2.1:1790, 2001:db8::1 or [2001:db8::1]:1790"),
    validation = Rule::new("!has(self.reachableBy) || self.reachableBy == '' || isIP(self.reachableBy)")
        .message("reachableBy is not an address; write that of the gateway"),
    validation = Rule::new("!(has(self.keepOriginalNextHop) && self.keepOriginalNextHop && has(self.nextHopMode))")
        .message("keepOriginalNextHop and nextHopMode are both set; keep nextHopMode"),
    validation = Rule::new("!has(self.bfd) || (has(self.failureDetectionMode) && self.failureDetectionMode == 'BFDIfDirectlyConnected')")
        .message("bfd has no effect without failureDetectionMode: BFDIfDirectlyConnected; set it or remove bfd"),
    validation = Rule::new("!(has(self.roleStrict) && self.roleStrict) || has(self.role)")
        .message("roleStrict refuses peers without a role; set role, or remove roleStrict"),
    validation = Rule::new("!has(self.maxPrefixes) || !has(self.maxPrefixes.restartAfter) || !has(self.maxPrefixes.action) || self.maxPrefixes.action == 'Close'")
        .message("only the action Close ends a session; remove maxPrefixes.restartAfter")
)]
pub struct BgpPeerSpec {
    /// Name of the one node that peers. Without node and nodeSelector every node does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,

    /// Nodes that peer, as a selector over node labels: `rack == 'r1'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub node_selector: Option<String>,

    /// Address of the peer, with a port if not 179: 192.0.2.1, 192.0.2.1:1790, [2001:db8::1]:1790.
    #[serde(default, rename = "peerIP", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub peer_ip: Option<String>,

    /// Nodes of this cluster to peer with, as a selector over node labels: `route-reflector == 'true'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub peer_selector: Option<String>,

    /// Pods on the same node that peer with it, as a selector over pod labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub local_workload_selector: Option<String>,

    /// AS number of the peer, 0 to 4294967295 or dotted in quotes ("65000.100"). Default: the AS of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,

    /// AS number shown to this peer instead of the node's own.
    #[serde(
        default,
        rename = "localASNumber",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_as_number: Option<Asn>,

    /// Deprecated, use nextHopMode: Keep. Leaves the next hop alone on routes sent to a peer of another AS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_original_next_hop: Option<bool>,

    /// Next hop of routes sent: Auto (default; as RFC 4271 has it), Self (always this node), Keep (never changed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,

    /// TCP MD5 password (RFC 2385), from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,

    /// UseNodeIP (default): the session uses the node's own address. None: whatever address the kernel takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,

    /// How long the peer keeps our routes while we restart (RFC 4724). Default 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<GoDuration>,

    /// Interval between KEEPALIVE messages; the hold time is three times as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<GoDuration>,

    /// How often our own AS may appear in the path of a route we accept. Default 0.
    #[serde(
        default,
        rename = "numAllowedLocalASNumbers",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_allowed_local_as_numbers: Option<u32>,

    /// Most hops to the peer; packets from further away are dropped (RFC 5082). Off when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,

    /// Names of BGPFilter objects, applied in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,

    /// Gateway through which peerIP is reached, so that the way to the peer cannot be learned from the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub reachable_by: Option<String>,

    /// Auto (default): nodes chosen by peerSelector also peer back. Manual: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,

    /// None (default), or BFDIfDirectlyConnected: BFD (RFC 5880) watches a peer in a subnet of an interface of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_detection_mode: Option<FailureDetectionMode>,

    /// Pace of BFD. Not in Calico.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,

    /// GracefulRestart (default), or LongLivedGracefulRestart (RFC 9494): maxRestartTime is then how long routes stay as a last resort, 1h when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_mode: Option<RestartMode>,

    /// How many prefixes the peer may send. Any number when not set. Not in Calico.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<MaxPrefixes>,

    /// What this node is to a peer of another AS (RFC 9234): Provider, RouteServer, RouteServerClient, Customer or Peer. Not in Calico.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,

    /// Refuse a peer that does not say its role. Not in Calico.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_strict: Option<bool>,
}

/// Next hop of routes sent to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum NextHopMode {
    /// This node towards other ASes, unchanged within the AS (RFC 4271 §5.1.3).
    #[default]
    Auto,
    /// Always this node.
    #[serde(rename = "Self")]
    OwnAddress,
    /// Never changed.
    Keep,
}

/// Where a session starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum SourceAddress {
    /// The node's own address.
    #[default]
    UseNodeIP,
    /// What the kernel chooses.
    None,
}

/// Whether the chosen nodes peer back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum ReversePeering {
    /// They do.
    #[default]
    Auto,
    /// They do not.
    Manual,
}

/// A password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BgpPassword {
    /// Where it is stored, in the namespace of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Key in it.
    pub key: String,
    /// Whether the Secret may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What agents report of the sessions that the object asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BgpPeerStatus {
    /// Sessions on all nodes together, as the controller counted them last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Of these, sessions in state Established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<u32>,
}

impl BgpPeerSpec {
    /// Address and, if given, port of `peerIP`.
    pub fn peer_address(&self) -> Option<Result<(IpAddr, Option<u16>), FieldError>> {
        let text = self.peer_ip.as_deref().filter(|text| !text.is_empty())?;
        Some(parse_peer_address(text).ok_or_else(|| {
            let remedy = "write an address, 192.0.2.1:1790, or [2001:db8::1]:1790";
            FieldError::new(
                "spec.peerIP",
                format!("{text:?} is not an address with an optional port"),
                remedy,
            )
        }))
    }

    /// `nextHopMode`, or what the deprecated `keepOriginalNextHop` says.
    pub fn next_hop_mode(&self) -> NextHopMode {
        let keep = self.keep_original_next_hop.unwrap_or(false);
        self.next_hop_mode.unwrap_or(if keep {
            NextHopMode::Keep
        } else {
            NextHopMode::Auto
        })
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        let mut push = |field: &str, problem: &str, remedy: &str| {
            errors.push(FieldError::new(field, problem, remedy))
        };
        let set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        let (peer_ip, peers, pods) = (
            set(&self.peer_ip),
            set(&self.peer_selector),
            set(&self.local_workload_selector),
        );
        if set(&self.node) && set(&self.node_selector) {
            push(
                "spec.node",
                "set together with spec.nodeSelector",
                "keep one of them",
            );
        }
        if peer_ip && peers {
            push(
                "spec.peerIP",
                "set together with spec.peerSelector",
                "keep one of them",
            );
        }
        if !peer_ip && !peers && !pods {
            push(
                "spec.peerIP",
                "nobody to peer with",
                "set spec.peerIP, spec.peerSelector or spec.localWorkloadSelector",
            );
        }
        if peers && self.as_number.is_some() {
            push(
                "spec.asNumber",
                "peers chosen by spec.peerSelector have their own AS numbers",
                "remove it",
            );
        }
        if pods && (peer_ip || peers) {
            push(
                "spec.localWorkloadSelector",
                "set together with another choice of peers",
                "keep one of them",
            );
        }
        if pods && self.as_number.is_none() {
            push(
                "spec.asNumber",
                "not set, but spec.localWorkloadSelector needs it",
                "write the AS number of the pods",
            );
        }
        if self.keep_original_next_hop == Some(true) && self.next_hop_mode.is_some() {
            push(
                "spec.keepOriginalNextHop",
                "set together with spec.nextHopMode",
                "keep spec.nextHopMode",
            );
        }
        if set(&self.reachable_by) && !peer_ip {
            push(
                "spec.reachableBy",
                "is the way to spec.peerIP, which is not set",
                "set spec.peerIP or remove it",
            );
        }
        self.check_values(errors);
        self.check_session(errors);
    }

    fn check_values(&self, errors: &mut Vec<FieldError>) {
        if let Some(Err(error)) = self.peer_address() {
            errors.push(error);
        }
        if let Some(gateway) = self
            .reachable_by
            .as_deref()
            .filter(|g| !g.is_empty() && g.parse::<IpAddr>().is_err())
        {
            let problem = format!("{gateway:?} is not an address");
            errors.push(FieldError::new(
                "spec.reachableBy",
                problem,
                "write the address of the gateway",
            ));
        }
        check_selector("spec.nodeSelector", self.node_selector.as_deref(), errors);
        check_selector("spec.peerSelector", self.peer_selector.as_deref(), errors);
        check_selector(
            "spec.localWorkloadSelector",
            self.local_workload_selector.as_deref(),
            errors,
        );
    }
}

custom_resource!(BgpPeer);

fn parse_peer_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, None));
    }
    let socket: SocketAddr = text.parse().ok()?;
    (socket.port() != 0).then_some((socket.ip(), Some(socket.port())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Resource, decode};

    fn peer(spec: Value) -> BgpPeer {
        let api = "crd.projectcalico.org/v1";
        decode(&json!({ "apiVersion": api, "kind": "BGPPeer", "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    fn with(mut fields: Value) -> Value {
        fields["peerIP"] = "192.0.2.1".into();
        fields
    }

    fn watched(bfd: Value) -> Value {
        with(json!({ "failureDetectionMode": "BFDIfDirectlyConnected", "bfd": bfd }))
    }

    #[test]
    fn calico_manifests_are_accepted() {
        for spec in [
            json!({ "peerIP": "192.0.2.1", "asNumber": 64512 }),
            json!({ "peerIP": "192.0.2.1:1790", "asNumber": "65000.100", "node": "n1" }),
            json!({ "nodeSelector": "all()", "peerSelector": "route-reflector == 'true'", "filters": [] }),
            json!({ "localWorkloadSelector": "app == 'router'", "asNumber": 65001 }),
            json!({ "peerIP": "2001:db8::1", "reachableBy": "2001:db8:1::1", "nextHopMode": "Self", "maxRestartTime": "4m" }),
            json!({ "peerIP": "192.0.2.1", "password": { "secretKeyRef": { "name": "bgp", "key": "tor" } } }),
            json!({ "peerIP": "192.0.2.1", "sourceAddress": "None", "failureDetectionMode": "BFDIfDirectlyConnected", "restartMode": "LongLivedGracefulRestart" }),
            json!({ "peerIP": "192.0.2.1", "failureDetectionMode": "None", "restartMode": "GracefulRestart" }),
        ] {
            assert_eq!(peer(spec.clone()).validate(), Ok(()), "{spec}");
        }
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        for (spec, field) in [
            (json!({}), "spec.peerIP"),
            (
                json!({ "peerIP": "192.0.2.1", "node": "a", "nodeSelector": "all()" }),
                "spec.node",
            ),
            (
                json!({ "peerIP": "192.0.2.1", "peerSelector": "all()" }),
                "spec.peerIP",
            ),
            (
                json!({ "peerSelector": "all()", "asNumber": 1 }),
                "spec.asNumber",
            ),
            (json!({ "localWorkloadSelector": "all()" }), "spec.asNumber"),
            (json!({ "peerIP": "192.0.2.1:0" }), "spec.peerIP"),
            (json!({ "peerIP": "tor-1" }), "spec.peerIP"),
            (
                json!({ "peerSelector": "all()", "reachableBy": "192.0.2.9" }),
                "spec.reachableBy",
            ),
            (
                json!({ "peerIP": "192.0.2.1", "nextHopMode": "Keep", "keepOriginalNextHop": true }),
                "spec.keepOriginalNextHop",
            ),
            (json!({ "peerSelector": "a ==" }), "spec.peerSelector"),
            (with(json!({ "bfd": {} })), "spec.bfd"),
            (with(json!({ "roleStrict": true })), "spec.roleStrict"),
            (
                with(json!({ "maxPrefixes": { "limit": 0 } })),
                "spec.maxPrefixes.limit",
            ),
            (
                with(json!({ "maxPrefixes": { "limit": 1, "warningPercent": 101 } })),
                "spec.maxPrefixes.warningPercent",
            ),
            (
                with(
                    json!({ "maxPrefixes": { "limit": 1, "action": "Warn", "restartAfter": "5m" } }),
                ),
                "spec.maxPrefixes.restartAfter",
            ),
            (watched(json!({ "multiplier": 0 })), "spec.bfd.multiplier"),
            (
                watched(json!({ "minimumSendInterval": "0s" })),
                "spec.bfd.minimumSendInterval",
            ),
            (
                watched(json!({ "minimumRecvInterval": "2m" })),
                "spec.bfd.minimumRecvInterval",
            ),
        ] {
            let fields: Vec<_> = peer(spec.clone())
                .validate()
                .unwrap_err()
                .into_iter()
                .map(|e| e.field)
                .collect();
            assert_eq!(fields, [field], "{spec}");
        }
    }

    #[test]
    fn peer_addresses_have_an_optional_port() {
        let parse = |text: &str| parse_peer_address(text).map(|(ip, port)| (ip.to_string(), port));
        assert_eq!(parse("192.0.2.1"), Some(("192.0.2.1".into(), None)));
        assert_eq!(
            parse("192.0.2.1:1790"),
            Some(("192.0.2.1".into(), Some(1790)))
        );
        assert_eq!(parse("2001:db8::1"), Some(("2001:db8::1".into(), None)));
        assert_eq!(
            parse("[2001:db8::1]:1790"),
            Some(("2001:db8::1".into(), Some(1790)))
        );
        assert_eq!(parse("192.0.2.1:"), None);
    }
}
