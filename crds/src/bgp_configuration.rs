//! `BGPConfiguration`: BGP settings of the cluster or of one node.

#![allow(
    unreachable_pub,
    reason = "`KubeSchema` derives through a second struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bgp_peer::BgpPassword;
use crate::resource::custom_resource;
use crate::{Asn, Cidr, FieldError, GoDuration};

/// BGP settings. The object named `default` holds for the cluster, `node.<name>` overrides listenPort,
/// prefixAdvertisements and logSeverityScreen for one node.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "BGPConfiguration",
    root = "BgpConfiguration",
    plural = "bgpconfigurations",
    singular = "bgpconfiguration",
    shortname = "bgpconfig",
    shortname = "bgpconfigs",
    category = "tortie",
    derive = "PartialEq",
    doc = "BGP settings. The object named default holds for the cluster; node.<name> overrides listenPort, prefixAdvertisements and logSeverityScreen for one node.",
    printcolumn = r#"{"name": "AS", "type": "string", "jsonPath": ".spec.asNumber"}"#,
    printcolumn = r#"{"name": "Mesh", "type": "boolean", "jsonPath": ".spec.nodeToNodeMeshEnabled"}"#,
    printcolumn = r#"{"name": "Port", "type": "integer", "jsonPath": ".spec.listenPort"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(has(self.nodeToNodeMeshEnabled) && !self.nodeToNodeMeshEnabled && (has(self.nodeMeshPassword) || has(self.nodeMeshMaxRestartTime)))"
    )
    .message("nodeMeshPassword and nodeMeshMaxRestartTime have no effect without the mesh; remove them or set nodeToNodeMeshEnabled to true"),
    validation = Rule::new("!has(self.communities) || self.communities.size() == 0 || has(self.prefixAdvertisements)")
        .message("communities are named for use in prefixAdvertisements; add one that uses them or remove communities")
)]
pub struct BgpConfigurationSpec {
    /// AS number of nodes that have none of their own, 0 to 4294967295 or dotted in quotes. Default 64512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,

    /// Whether every node peers with every other; turn it off once route reflectors are in place. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,

    /// TCP MD5 password (RFC 2385) of mesh sessions, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,

    /// How long mesh peers keep the routes of a node that restarts (RFC 4724). Default 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<GoDuration>,

    /// TCP port for BGP. Default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub listen_port: Option<u16>,

    /// Where to listen: None (default) on every address, NodeIP only on the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,

    /// Names for communities, for use in prefixAdvertisements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub communities: Vec<Community>,

    /// Communities added to routes inside a prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,

    /// Ranges of cluster IPs of services that are advertised.
    #[serde(
        default,
        rename = "serviceClusterIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_cluster_ips: Vec<ServiceRange>,

    /// Ranges of external IPs of services that are advertised.
    #[serde(
        default,
        rename = "serviceExternalIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_external_ips: Vec<ServiceRange>,

    /// Ranges of load balancer IPs of services that are advertised.
    #[serde(
        default,
        rename = "serviceLoadBalancerIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_load_balancer_ips: Vec<ServiceRange>,

    /// Enabled (default): load balancer ranges are advertised whole. Disabled: each address on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Toggle>,

    /// Interfaces whose networks are not advertised; `*` at the end stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,

    /// IPv4 address at which pods reach the speaker of their node.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV4",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ipv4: Option<String>,

    /// IPv6 address at which pods reach the speaker of their node.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV6",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_workload_peering_ipv6: Option<String>,

    /// Metric of ordinary IPv4 pod routes. Default 1024.
    #[serde(
        default,
        rename = "ipv4NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_normal_route_priority: Option<u32>,

    /// Metric of ordinary IPv6 pod routes. Default 1024.
    #[serde(
        default,
        rename = "ipv6NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_normal_route_priority: Option<u32>,

    /// Read for compatibility and without effect here: one process programs all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<String>,

    /// Level of log messages of the speaker: Debug, Info, Warning, Error, Fatal, Panic, None. Default Info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
}

/// Where the speaker listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum BindMode {
    /// On every address.
    #[default]
    None,
    /// Only on the node's own.
    NodeIP,
}

/// On or off, as Calico writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum Toggle {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

/// A name for a community.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Community {
    /// Name to use in prefixAdvertisements.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Standard 65000:100 (RFC 1997) or large 65000:100:200 (RFC 8092).
    #[serde(default)]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+:[0-9]+(:[0-9]+)?$"))]
    pub value: String,
}

/// Communities of routes inside a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixAdvertisement {
    /// The prefix.
    pub cidr: Cidr,
    /// Names from communities, or values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
}

/// A range of service addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceRange {
    /// The range.
    pub cidr: Cidr,
}

/// Value of a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityValue {
    /// RFC 1997: AS and value, two octets each.
    Standard(u16, u16),
    /// RFC 8092: global administrator and two local parts, four octets each.
    Large(u32, u32, u32),
}

impl CommunityValue {
    /// Reads `65000:100` or `65000:100:200`.
    pub fn parse(text: &str) -> Option<CommunityValue> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = text.split(':').collect();
        if !parts.iter().all(|part| digits(part)) {
            return None;
        }
        match parts[..] {
            [a, b] => Some(CommunityValue::Standard(a.parse().ok()?, b.parse().ok()?)),
            [a, b, c] => Some(CommunityValue::Large(
                a.parse().ok()?,
                b.parse().ok()?,
                c.parse().ok()?,
            )),
            _ => None,
        }
    }
}

impl BgpConfigurationSpec {
    /// `asNumber`, 64512 when not set.
    pub fn as_number(&self) -> Asn {
        self.as_number.unwrap_or(Asn(64512))
    }

    /// `nodeToNodeMeshEnabled`, true when not set.
    pub fn mesh_enabled(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    /// `listenPort`, 179 when not set.
    pub fn listen_port(&self) -> u16 {
        self.listen_port.unwrap_or(179)
    }

    /// The value a name in `prefixAdvertisements` stands for: a named community or a value itself.
    pub fn community(&self, name: &str) -> Option<CommunityValue> {
        let named = self.communities.iter().find(|c| c.name == name);
        CommunityValue::parse(named.map_or(name, |c| &c.value))
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        if !self.mesh_enabled() {
            let remedy = "remove it or set spec.nodeToNodeMeshEnabled to true";
            if self.node_mesh_password.is_some() {
                errors.push(FieldError::new(
                    "spec.nodeMeshPassword",
                    "has no effect without the mesh",
                    remedy,
                ));
            }
            if self.node_mesh_max_restart_time.is_some() {
                errors.push(FieldError::new(
                    "spec.nodeMeshMaxRestartTime",
                    "has no effect without the mesh",
                    remedy,
                ));
            }
        }
        if self.listen_port == Some(0) {
            errors.push(FieldError::new(
                "spec.listenPort",
                "0 is not a port",
                "choose 1 to 65535, or remove it for 179",
            ));
        }
        self.check_communities(errors);
    }

    fn check_communities(&self, errors: &mut Vec<FieldError>) {
        let form = "write 65000:100 or 65000:100:200";
        if !self.communities.is_empty() && self.prefix_advertisements.is_empty() {
            let remedy = "add a prefix advertisement that uses them, or remove them";
            errors.push(FieldError::new(
                "spec.communities",
                "named but not used in spec.prefixAdvertisements",
                remedy,
            ));
        }
        for (i, community) in self.communities.iter().enumerate() {
            if CommunityValue::parse(&community.value).is_none() {
                let problem = format!("{:?} is not a community", community.value);
                errors.push(FieldError::new(
                    format!("spec.communities[{i}].value"),
                    problem,
                    form,
                ));
            }
        }
        for (i, advertisement) in self.prefix_advertisements.iter().enumerate() {
            for (j, name) in advertisement.communities.iter().enumerate() {
                let named = self.communities.iter().any(|c| c.name == *name);
                if !named && CommunityValue::parse(name).is_none() {
                    let field = format!("spec.prefixAdvertisements[{i}].communities[{j}]");
                    let problem =
                        format!("{name:?} is neither a name in spec.communities nor a community");
                    errors.push(FieldError::new(
                        field,
                        problem,
                        format!("add it to spec.communities or {form}"),
                    ));
                }
            }
        }
    }
}

custom_resource!(BgpConfiguration);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Resource, decode};

    fn fields(spec: Value) -> Vec<String> {
        let manifest = json!({ "metadata": { "name": "default" }, "spec": spec });
        let configuration: BgpConfiguration = decode(&manifest).unwrap();
        configuration
            .validate()
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|e| e.field)
            .collect()
    }

    #[test]
    fn a_calico_manifest_reads_and_writes_unchanged() {
        let manifest = json!({
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "BGPConfiguration",
            "metadata": { "name": "default" },
            "spec": {
                "asNumber": 64512, "bindMode": "NodeIP", "ignoredInterfaces": ["docker*"], "listenPort": 178,
                "communities": [{ "name": "blue", "value": "65000:100" }],
                "prefixAdvertisements": [{ "cidr": "10.0.0.0/16", "communities": ["blue", "65000:1:2"] }],
                "nodeToNodeMeshEnabled": true, "serviceClusterIPs": [{ "cidr": "10.96.0.0/12" }],
                "logSeverityScreen": "Info", "nodeMeshMaxRestartTime": "90s",
            },
        });
        let configuration: BgpConfiguration = decode(&manifest).unwrap();
        assert_eq!(configuration.validate(), Ok(()));
        assert_eq!(
            configuration.spec.community("blue"),
            Some(CommunityValue::Standard(65000, 100))
        );
        assert_eq!(configuration.to_value().unwrap(), manifest);
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let used = json!([{ "cidr": "10.0.0.0/16", "communities": ["blue"] }]);
        for (spec, field) in [
            (
                json!({ "nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "1m" }),
                "spec.nodeMeshMaxRestartTime",
            ),
            (
                json!({ "communities": [{ "name": "blue", "value": "1:1" }] }),
                "spec.communities",
            ),
            (
                json!({ "prefixAdvertisements": used }),
                "spec.prefixAdvertisements[0].communities[0]",
            ),
            (
                json!({ "communities": [{ "name": "blue", "value": "65536:1" }], "prefixAdvertisements": used }),
                "spec.communities[0].value",
            ),
            (json!({ "listenPort": 0 }), "spec.listenPort"),
        ] {
            assert_eq!(fields(spec.clone()), [field], "{spec}");
        }
    }

    #[test]
    fn unset_fields_mean_calicos_defaults() {
        let spec = BgpConfigurationSpec::default();
        assert_eq!(
            (spec.as_number(), spec.mesh_enabled(), spec.listen_port()),
            (Asn(64512), true, 179)
        );
    }
}
