//! BGPConfiguration.

use std::time::Duration;

use crds::bgp_configuration::{BindMode, CommunityValue, ServiceRange, Toggle};
use crds::bgp_peer::BgpPassword;
use crds::{BgpConfiguration, BgpConfigurationSpec};
use ipnet::IpNet;

use super::Problems;
use crate::Bind;
use crate::desired::policy::Community;
use crate::facts::{Advertisement, BgpDefaults, SecretKey, Services};
use crate::routes::is_host;

/// A BGPConfiguration; one of a node overrides the port and the communities only.
pub(crate) fn bgp_defaults(name: &str, configuration: &BgpConfiguration) -> BgpDefaults {
    let spec = &configuration.spec;
    let mut problems = Problems::of("BGPConfiguration", name);
    let level = spec.log_severity_screen.as_deref();
    if level.is_some_and(|level| level != "Info") {
        let consequence = "the agent logs what its setting log says";
        problems.unsupported("spec.logSeverityScreen", consequence);
    }
    if name != crds::names::DEFAULT {
        check_override(spec, &mut problems);
        return BgpDefaults {
            listen_port: spec.listen_port,
            advertisements: advertisements(spec),
            problems: problems.list,
            ..BgpDefaults::default()
        };
    }
    check_default(spec, &mut problems);
    let mesh_password = spec.node_mesh_password.as_ref();
    BgpDefaults {
        asn: spec.as_number.map(u32::from),
        mesh: spec.node_to_node_mesh_enabled,
        mesh_restart: spec.node_mesh_max_restart_time.map(Duration::from),
        mesh_password: mesh_password.map(secret_key),
        listen_port: spec.listen_port,
        bind: spec.bind_mode.map(|mode| match mode {
            BindMode::None => Bind::Everywhere,
            BindMode::NodeIP => Bind::NodeAddresses,
        }),
        advertisements: advertisements(spec),
        services: services(spec, &mut problems),
        problems: problems.list,
    }
}

/// What a password refers to; a reference that says nothing finds nothing.
pub(super) fn secret_key(password: &BgpPassword) -> SecretKey {
    let reference = password.secret_key_ref.clone().unwrap_or_default();
    SecretKey {
        name: reference.name.unwrap_or_default(),
        key: reference.key,
    }
}

/// Calico takes three fields from the object of a node and does not look at the others.
fn check_override(spec: &BgpConfigurationSpec, problems: &mut Problems) {
    let services = [
        &spec.service_cluster_ips,
        &spec.service_external_ips,
        &spec.service_load_balancer_ips,
    ];
    for (present, field) in [
        (spec.as_number.is_some(), "asNumber"),
        (
            spec.node_to_node_mesh_enabled.is_some(),
            "nodeToNodeMeshEnabled",
        ),
        (spec.node_mesh_password.is_some(), "nodeMeshPassword"),
        (
            spec.node_mesh_max_restart_time.is_some(),
            "nodeMeshMaxRestartTime",
        ),
        (spec.bind_mode.is_some(), "bindMode"),
        (
            services.iter().any(|ranges| !ranges.is_empty()),
            "serviceClusterIPs",
        ),
    ] {
        if present {
            problems.push(
                &format!("spec.{field}"),
                "has no effect in the object of one node",
                "set it in BGPConfiguration/default; the AS number of a node is an annotation of its Node",
            );
        }
    }
}

fn check_default(spec: &BgpConfigurationSpec, problems: &mut Problems) {
    let workloads =
        spec.local_workload_peering_ipv4.is_some() || spec.local_workload_peering_ipv6.is_some();
    let metric =
        spec.ipv4_normal_route_priority.is_some() || spec.ipv6_normal_route_priority.is_some();
    for (present, field, consequence) in [
        (
            workloads,
            "localWorkloadPeeringIPV4",
            "pods cannot peer with their node",
        ),
        (
            metric,
            "ipv4NormalRoutePriority",
            "routes have the default metric of the kernel",
        ),
    ] {
        if present {
            problems.unsupported(&format!("spec.{field}"), consequence);
        }
    }
}

fn advertisements(spec: &BgpConfigurationSpec) -> Option<Vec<Advertisement>> {
    let listed = spec.prefix_advertisements.iter().map(|listed| {
        let names = listed.communities.iter();
        Advertisement {
            cidr: listed.cidr.net(),
            communities: names
                .filter_map(|name| Some(community(spec.community(name)?)))
                .collect(),
        }
    });
    let listed: Vec<Advertisement> = listed.collect();
    (!listed.is_empty()).then_some(listed)
}

pub(super) fn community(value: CommunityValue) -> Community {
    match value {
        CommunityValue::Standard(high, low) => {
            Community::Standard(u32::from(high) << 16 | u32::from(low))
        }
        CommunityValue::Large(global, one, two) => Community::Large([global, one, two]),
    }
}

/// Ranges of load balancers are announced as a whole unless that is turned off or the range is one
/// address: then each address follows its Service (Calico behaviour), and there are none here.
fn services(spec: &BgpConfigurationSpec, problems: &mut Problems) -> Services {
    let ranges = |ranges: &[ServiceRange]| -> Vec<IpNet> {
        ranges.iter().map(|range| range.cidr.net()).collect()
    };
    let aggregate = match spec.service_load_balancer_aggregation {
        None | Some(Toggle::Enabled) => true,
        Some(Toggle::Disabled) => false,
    };
    let load_balancers = ranges(&spec.service_load_balancer_ips);
    let (whole, single): (Vec<IpNet>, Vec<IpNet>) = load_balancers
        .iter()
        .partition(|range| aggregate && !is_host(**range));
    if !single.is_empty() {
        problems.unsupported(
            "spec.serviceLoadBalancerIPs",
            "addresses of single Services are not announced, because there are no Service objects in this datastore",
        );
    }
    let mut announced = ranges(&spec.service_cluster_ips);
    announced.extend(ranges(&spec.service_external_ips));
    let mut all = announced.clone();
    all.extend(&load_balancers);
    announced.extend(whole);
    Services {
        all,
        announced,
        load_balancers,
    }
}
