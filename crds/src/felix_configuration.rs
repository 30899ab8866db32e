//! `FelixConfiguration`: agent settings of the cluster or of one node.

use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bgp_configuration::Toggle;
use crate::resource::custom_resource;
use crate::{FieldError, GoDuration};

/// Settings of the node agent. The object named `default` holds for the cluster, `node.<name>` overrides it for one node.
///
/// Fields not listed here are kept and ignored: Calico has some that have no meaning in this agent.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "crd.projectcalico.org",
    version = "v1",
    kind = "FelixConfiguration",
    plural = "felixconfigurations",
    singular = "felixconfiguration",
    shortname = "felixconfig",
    shortname = "felixconfigs",
    category = "tortie",
    derive = "PartialEq",
    doc = "Settings of the node agent. The object named default holds for the cluster; node.<name> overrides it for one node.",
    printcolumn = r#"{"name": "Log", "type": "string", "jsonPath": ".spec.logSeverityScreen"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct FelixConfigurationSpec {
    /// Prefixes of the names of pod interfaces on the host, separated by commas. Default cali.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// Interfaces the agent does not look at, names or /regular expressions/, separated by commas. Default kube-ipvs0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_exclude: Option<String>,
    /// How often all interfaces are listed again, 0 for never. Default 90s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_refresh_interval: Option<GoDuration>,
    /// How often all routes are compared with what they should be, 0 for never. Default 90s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_refresh_interval: Option<GoDuration>,
    /// How often packet filter rules are compared with what they should be, 0 for never. Default 180s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables_refresh_interval: Option<GoDuration>,
    /// Longest wait for an answer of the kernel. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netlink_timeout: Option<GoDuration>,
    /// How long the dataplane may be busy before the agent counts as stuck. Default 90s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_watchdog_timeout: Option<GoDuration>,
    /// Protocol number on routes the agent writes, by which it knows its own. Default 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub device_route_protocol: Option<u8>,
    /// Source address on IPv4 routes to pods. Default: the kernel chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_route_source_address: Option<String>,
    /// Source address on IPv6 routes to pods. Default: the kernel chooses.
    #[serde(
        rename = "deviceRouteSourceAddressIPv6",
        skip_serializing_if = "Option::is_none"
    )]
    pub device_route_source_address_ipv6: Option<String>,
    /// Whether unexpected routes on pod interfaces are removed. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_external_routes: Option<bool>,
    /// Stops all writing of routes. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_sync_disabled: Option<bool>,
    /// Where routes to other nodes come from: CalicoIPAM (default) blocks, WorkloadIPs single pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_source: Option<String>,
    /// Whether the agent turns on forwarding of packets. Default Enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_forwarding: Option<Toggle>,
    /// Whether IPv6 is programmed. Default true.
    #[serde(rename = "ipv6Support", skip_serializing_if = "Option::is_none")]
    pub ipv6_support: Option<bool>,
    /// Metric of ordinary IPv4 pod routes. Default 1024.
    #[serde(
        rename = "ipv4NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_normal_route_priority: Option<u32>,
    /// Metric of ordinary IPv6 pod routes. Default 1024.
    #[serde(
        rename = "ipv6NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_normal_route_priority: Option<u32>,
    /// Read for compatibility and without effect here: one process programs all routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<String>,
    /// Whether the IPIP device exists. Default: when a pool uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_enabled: Option<bool>,
    /// MTU of the IPIP device, 0 (default) to derive it from the network card.
    #[serde(rename = "ipipMTU", skip_serializing_if = "Option::is_none")]
    pub ipip_mtu: Option<u32>,
    /// Whether the VXLAN device exists. Default: when a pool uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_enabled: Option<bool>,
    /// MTU of the IPv4 VXLAN device, 0 (default) to derive it from the network card.
    #[serde(rename = "vxlanMTU", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu: Option<u32>,
    /// MTU of the IPv6 VXLAN device, 0 (default) to derive it from the network card.
    #[serde(rename = "vxlanMTUV6", skip_serializing_if = "Option::is_none")]
    pub vxlan_mtu_v6: Option<u32>,
    /// UDP port of VXLAN. Default 4789.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub vxlan_port: Option<u16>,
    /// Network identifier of VXLAN. Default 4096.
    #[serde(rename = "vxlanVNI", skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16777215))]
    pub vxlan_vni: Option<u32>,
    /// Network cards the MTU is derived from, as a regular expression over their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_iface_pattern: Option<String>,
    /// Address that packets leaving the pools get instead of the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_address: Option<String>,
    /// What natOutgoing leaves alone: IPPoolsOnly (default) or IPPoolsAndHostIPs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_outgoing_exclusions: Option<String>,
    /// Source ports of packets leaving the pools, such as 32768-60999 or 32768:60999. Default: the kernel chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port_range_schema")]
    pub nat_port_range: Option<PortRange>,
    /// Interface by which packets must leave to be given another source, a trailing + for any rest of the name. Default: any.
    #[serde(
        rename = "iptablesNATOutgoingInterfaceFilter",
        skip_serializing_if = "Option::is_none"
    )]
    pub iptables_nat_outgoing_interface_filter: Option<String>,
    /// What happens to packets from pods to their node: Drop (default), Accept, Return.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_endpoint_to_host_action: Option<String>,
    /// Addresses outside the cluster that may send tunnel packets.
    #[serde(rename = "externalNodesList", skip_serializing_if = "Option::is_none")]
    pub external_nodes: Option<Vec<String>>,
    /// Whether pods may send IPIP packets of their own. Default false.
    #[serde(
        rename = "allowIPIPPacketsFromWorkloads",
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_ipip_packets_from_workloads: Option<bool>,
    /// Whether pods may send VXLAN packets of their own. Default false.
    #[serde(
        rename = "allowVXLANPacketsFromWorkloads",
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_vxlan_packets_from_workloads: Option<bool>,
    /// Whether health is served over HTTP. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_enabled: Option<bool>,
    /// Address health is served on. Default localhost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_host: Option<String>,
    /// Port health is served on. Default 9099.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub health_port: Option<u16>,
    /// Whether metrics are served over HTTP. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_enabled: Option<bool>,
    /// Address metrics are served on. Default: every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_host: Option<String>,
    /// Port metrics are served on. Default 9091.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub prometheus_metrics_port: Option<u16>,
    /// How often the agent writes its status, 0 for never. Default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporting_interval: Option<GoDuration>,
    /// Level of log messages: Debug, Info, Warning, Error, Fatal. Default Info.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<LogSeverity>,
}

/// Ports as Calico writes them: a number, or text with one number or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRange {
    /// One port; 0 is the same as none.
    One(u32),
    /// `32768:60999`.
    Text(String),
}

fn port_range_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-int-or-string": true, "nullable": true })
}

/// Least severe message that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum LogSeverity {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What changes.
    #[default]
    Info,
    /// What may become a fault.
    #[serde(alias = "Warn")]
    Warning,
    /// Faults.
    Error,
    /// Faults that end the agent.
    Fatal,
}

impl FelixConfigurationSpec {
    /// Prefixes of the names of pod interfaces.
    pub fn interface_prefixes(&self) -> Vec<&str> {
        let text = self
            .interface_prefix
            .as_deref()
            .filter(|t| !t.trim().is_empty())
            .unwrap_or("cali");
        text.split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .collect()
    }

    /// `routeRefreshInterval`: `None` when switched off with 0, 90 s when not set.
    pub fn route_refresh_interval(&self) -> Option<Duration> {
        interval(self.route_refresh_interval, 90)
    }

    /// `interfaceRefreshInterval`: `None` when switched off with 0, 90 s when not set.
    pub fn interface_refresh_interval(&self) -> Option<Duration> {
        interval(self.interface_refresh_interval, 90)
    }

    /// `reportingInterval`: `None` when switched off with 0, 30 s when not set.
    pub fn reporting_interval(&self) -> Option<Duration> {
        interval(self.reporting_interval, 30)
    }

    /// `deviceRouteProtocol`, 80 when not set: routes of Calico's own programming are then adopted.
    pub fn device_route_protocol(&self) -> u8 {
        self.device_route_protocol.unwrap_or(80)
    }

    /// `removeExternalRoutes`, true when not set.
    pub fn remove_external_routes(&self) -> bool {
        self.remove_external_routes.unwrap_or(true)
    }

    /// `ipForwarding`, on when not set.
    pub fn ip_forwarding(&self) -> bool {
        self.ip_forwarding != Some(Toggle::Disabled)
    }

    /// `ipv6Support`, true when not set.
    pub fn ipv6_support(&self) -> bool {
        self.ipv6_support.unwrap_or(true)
    }

    /// `logSeverityScreen`, Info when not set.
    pub fn log_severity(&self) -> LogSeverity {
        self.log_severity_screen.unwrap_or_default()
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        // An interface name has 15 characters, of which 11 are the hash.
        if let Some(prefix) = self.interface_prefixes().into_iter().find(|p| p.len() > 4) {
            let problem = format!(
                "{prefix:?} is longer than 4 characters, which leaves no room for the name of the pod"
            );
            errors.push(FieldError::new(
                "spec.interfacePrefix",
                problem,
                "choose up to 4 characters, such as cali",
            ));
        }
        if self.device_route_protocol == Some(0) {
            let problem = "0 marks routes of unknown origin, so the agent would not know its own";
            errors.push(FieldError::new(
                "spec.deviceRouteProtocol",
                problem,
                "choose 5 to 255, or remove it for 80",
            ));
        }
        for (field, port) in [
            ("spec.vxlanPort", self.vxlan_port),
            ("spec.healthPort", self.health_port),
            ("spec.prometheusMetricsPort", self.prometheus_metrics_port),
        ] {
            if port == Some(0) {
                errors.push(FieldError::new(
                    field,
                    "0 is not a port",
                    "choose 1 to 65535",
                ));
            }
        }
        if let Some(vni) = self.vxlan_vni.filter(|vni| *vni >= 1 << 24) {
            let problem = format!("{vni} does not fit into 24 bits");
            errors.push(FieldError::new(
                "spec.vxlanVNI",
                problem,
                "choose 0 to 16777215",
            ));
        }
    }
}

fn interval(value: Option<GoDuration>, default_secs: u64) -> Option<Duration> {
    let duration = value.map_or(Duration::from_secs(default_secs), Duration::from);
    (!duration.is_zero()).then_some(duration)
}

custom_resource!(FelixConfiguration);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Resource, decode};

    #[test]
    fn a_calico_manifest_with_fields_we_do_not_have_is_accepted() {
        let manifest = json!({
            "metadata": { "name": "default" },
            "spec": { "bpfEnabled": false, "routeRefreshInterval": "1m30s", "reportingInterval": "0s", "ipipMTU": 1440 },
        });
        let configuration: FelixConfiguration = decode(&manifest).unwrap();
        assert_eq!(configuration.validate(), Ok(()));
        assert_eq!(
            configuration.spec.route_refresh_interval(),
            Some(Duration::from_secs(90))
        );
        assert_eq!(configuration.spec.reporting_interval(), None);
        assert_eq!(configuration.spec.interface_prefixes(), ["cali"]);
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let spec = FelixConfigurationSpec {
            interface_prefix: Some("cali,toolong".into()),
            device_route_protocol: Some(0),
            vxlan_port: Some(0),
            vxlan_vni: Some(1 << 24),
            ..Default::default()
        };
        let errors = FelixConfiguration::new("default", spec)
            .validate()
            .unwrap_err();
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.interfacePrefix",
                "spec.deviceRouteProtocol",
                "spec.vxlanPort",
                "spec.vxlanVNI"
            ]
        );
    }
}
