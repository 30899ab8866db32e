//! What can be configured, with Calico's defaults.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the dataplane; all of them hold for its lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces whose name starts so lead to pods (`interfacePrefix`).
    pub workload_prefixes: Vec<String>,
    /// Marks our routes (`RTPROT_*` number).
    pub route_protocol: u8,
    /// Remove routes of others out of workload interfaces (`removeExternalRoutes`).
    pub remove_external_routes: bool,
    /// How long such routes may stay on a workload interface that has just been seen: whoever
    /// made it may be faster than the news about its pod.
    pub external_route_grace: Duration,
    /// Turn on forwarding for the host (`ipForwarding`).
    pub ip_forwarding: bool,
    /// How often everything is listed and compared (`routeRefreshInterval`).
    pub audit_interval: Duration,
    /// How often what failed is tried again without a reason.
    pub retry_interval: Duration,
    /// How long a tunnel device that is not wanted any more goes on taking packets: other nodes
    /// may hear later than this one that they need it no more. As long a route stays that is to lead
    /// through a tunnel whose other end is not ready: it may lead through such a device.
    pub tunnel_linger: Duration,
    /// When tunnels are carried by this process.
    pub user_tunnels: UserTunnels,
    /// Where sysctls are; another directory only in tests.
    pub sysctl_root: PathBuf,
}

/// When tunnels are carried by this process instead of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTunnels {
    /// Where the kernel has no such devices.
    Fallback,
    /// Whether it has or not.
    Always,
    /// Not at all: a tunnel that the kernel lacks is a failure, and its routes wait.
    Never,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workload_prefixes: vec!["cali".to_owned()],
            route_protocol: 80,
            remove_external_routes: true,
            external_route_grace: Duration::from_secs(10),
            ip_forwarding: true,
            audit_interval: Duration::from_secs(90),
            retry_interval: Duration::from_secs(10),
            tunnel_linger: Duration::from_secs(60),
            user_tunnels: UserTunnels::Fallback,
            sysctl_root: PathBuf::from("/proc/sys"),
        }
    }
}
