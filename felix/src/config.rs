//! Settings of the agent: built-in defaults, then the file, then the environment, then flags.
//!
//! The environment is read under our names (`TORTIE_STATE_DIR`) and, where Calico has the same
//! setting, under Calico's (`FELIX_INTERFACEPREFIX`); ours win.
//! All of these take a restart to change; what may change while running lives in the datastore.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use felix_calc::RouterIdRule;
use felix_dataplane::UserTunnels;
use serde::{Deserialize, Deserializer};

use crate::node_address::detect::{Unasked, Wish};

/// Where the file is looked for when no flag names one; there need not be one.
pub const DEFAULT_FILE: &str = "/etc/tortie/felix.yaml";

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the Node object of this host.
    pub node_name: String,
    /// Where desired state lives.
    pub datastore: DatastoreKind,
    /// What outlives the agent: endpoint records, tombstones.
    pub state_dir: PathBuf,
    /// Where the CNI plugin finds the agent.
    pub cni_socket: PathBuf,
    /// Address of /metrics, /livez, /readyz and /state.
    pub admin: SocketAddr,
    /// Address of /metrics alone, for scrapers from elsewhere.
    pub metrics: Option<SocketAddr>,
    /// Log filter, such as `info` or `info,bgp=debug`.
    pub log: String,
    /// What the names of workload interfaces start with.
    pub interface_prefix: String,
    /// MTU of workload interfaces; 0 takes it from the interface of the node address.
    pub mtu: u32,
    /// Install a default route learned from a BGP peer.
    pub allow_default_route: bool,
    /// Where the BGP identifier comes from.
    pub router_id: RouterIdRule,
    /// Speak BGP; without it routes come from the objects of address management.
    pub bgp: bool,
    /// When the agent carries tunnels itself.
    pub user_tunnels: UserTunnels,
    /// Where the kernel's settings are written.
    pub sysctl_root: PathBuf,
    /// Address the BGP speaker listens on; the node's addresses when absent.
    pub bgp_listen: Option<IpAddr>,
    /// How long peers shall keep our routes while we restart, in seconds.
    pub restart_time_secs: u16,
    /// Namespace of the Secrets with BGP passwords.
    pub namespace: String,
    /// Which IPv4 address is the node's.
    pub ipv4: Wish,
    /// Which IPv6 address is the node's.
    pub ipv6: Wish,
}

/// Where desired state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatastoreKind {
    /// A directory of manifests.
    File(PathBuf),
    /// A Kubernetes API server.
    Kubernetes {
        /// Kubeconfig; the service account of the pod when absent.
        kubeconfig: Option<PathBuf>,
    },
}

/// The node agent of Tortie.
///
/// Every flag but --config is also a key of the file (in camelCase: stateDir) and a variable of
/// the environment (TORTIE_STATE_DIR).
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "tortie-felix", version)]
pub struct Flags {
    /// File with settings [default: /etc/tortie/felix.yaml, if it exists]
    #[arg(long, value_name = "FILE", env = "TORTIE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: Layer,
}

/// One layer of settings, everything optional.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Layer {
    /// Name of the Node object of this host [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where desired state lives: file:DIR or kubernetes [default: file:/etc/tortie/manifests]
    #[arg(long, value_name = "WHERE")]
    datastore: Option<String>,
    /// With --datastore kubernetes: how to reach the API server [default: as the pod's service
    /// account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Directory for what outlives the agent [default: /var/lib/tortie]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Unix socket of the CNI plugin [default: /run/tortie/cni.sock]
    #[arg(long, value_name = "PATH")]
    cni_socket: Option<PathBuf>,
    /// Address of metrics, probes and state [default: 127.0.0.1:9099]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// Address of metrics and nothing else, for scrapers from elsewhere [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<String>,
    /// Log filter: error, warn, info, debug, trace, or per module [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// What the names of workload interfaces start with [default: cali]
    #[arg(long, value_name = "PREFIX")]
    interface_prefix: Option<String>,
    /// MTU of workload interfaces, 0 = that of the node's interface [default: 0]
    #[arg(long, value_name = "BYTES")]
    #[serde(default, deserialize_with = "scalar")]
    mtu: Option<String>,
    /// Install a default route learned from a BGP peer: true or false [default: false]
    #[arg(long, value_name = "BOOL")]
    #[serde(default, deserialize_with = "scalar")]
    allow_default_route: Option<String>,
    /// BGP identifier: address, hash, or an IPv4 address [default: address]
    #[arg(long, value_name = "RULE")]
    router_id: Option<String>,
    /// Speak BGP; without it routes come from blocks and Nodes: true or false [default: true]
    #[arg(long, value_name = "BOOL")]
    #[serde(default, deserialize_with = "scalar")]
    bgp: Option<String>,
    /// Carry tunnels in the agent: fallback (where the kernel cannot), always, never
    /// [default: fallback]
    #[arg(long, value_name = "WHEN")]
    user_tunnels: Option<String>,
    /// Where the kernel's settings are written, where /proc/sys is read-only [default: /proc/sys]
    #[arg(long, value_name = "DIR")]
    sysctl_root: Option<PathBuf>,
    /// Address the BGP speaker listens on [default: the node's addresses]
    #[arg(long, value_name = "ADDRESS")]
    bgp_listen: Option<String>,
    /// Seconds peers keep our routes while we restart [default: 120]
    #[arg(long, value_name = "SECONDS")]
    #[serde(default, deserialize_with = "scalar")]
    restart_time: Option<String>,
    /// Namespace of the Secrets with BGP passwords [default: kube-system]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// IPv4 address of the node: autodetect, none or an address [default: what is annotated, else
    /// the InternalIP of the Node]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// The same for IPv6
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// How to find the IPv4 address, whatever is annotated: kubernetes-internal-ip, first-found,
    /// can-reach=DESTINATION, interface=REGEX, skip-interface=REGEX or cidr=CIDR
    #[arg(long, value_name = "METHOD")]
    ip_autodetection_method: Option<String>,
    /// The same for IPv6
    #[arg(long, value_name = "METHOD")]
    ip6_autodetection_method: Option<String>,
}

impl Config {
    /// The settings from all layers.
    ///
    /// # Errors
    /// When a layer cannot be read or a value has the wrong form; the text names the setting.
    pub fn load(flags: Flags, variable: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let file = match &flags.config {
            Some(path) => Layer::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Layer::read(Path::new(DEFAULT_FILE))?,
            None => Layer::default(),
        };
        let environment = Layer::from_environment(variable);
        flags.layer.over(environment).over(file).resolve()
    }
}

impl Layer {
    fn read(path: &Path) -> Result<Layer> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read settings from {}", path.display()))?;
        if text.trim().is_empty() {
            return Ok(Layer::default());
        }
        serde_yaml::from_str(&text).with_context(|| format!("settings in {}", path.display()))
    }

    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Layer {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| variable(name))
                .filter(|value| !value.is_empty())
        };
        Layer {
            node_name: first(&["TORTIE_NODE_NAME", "FELIX_FELIXHOSTNAME", "NODENAME"]),
            datastore: first(&["TORTIE_DATASTORE", "FELIX_DATASTORETYPE", "DATASTORE_TYPE"]),
            kubeconfig: first(&["TORTIE_KUBECONFIG", "KUBECONFIG"]).map(PathBuf::from),
            state_dir: first(&["TORTIE_STATE_DIR"]).map(PathBuf::from),
            cni_socket: first(&["TORTIE_CNI_SOCKET"]).map(PathBuf::from),
            admin: first(&["TORTIE_ADMIN"]),
            metrics: first(&["TORTIE_METRICS"]),
            log: first(&["TORTIE_LOG", "FELIX_LOGSEVERITYSCREEN"]),
            interface_prefix: first(&["TORTIE_INTERFACE_PREFIX", "FELIX_INTERFACEPREFIX"]),
            mtu: first(&["TORTIE_MTU"]),
            allow_default_route: first(&["TORTIE_ALLOW_DEFAULT_ROUTE"]),
            router_id: first(&["TORTIE_ROUTER_ID", "CALICO_ROUTER_ID"]),
            bgp: first(&["TORTIE_BGP"]).or_else(|| backend(variable("CALICO_NETWORKING_BACKEND"))),
            user_tunnels: first(&["TORTIE_USER_TUNNELS"]),
            sysctl_root: first(&["TORTIE_SYSCTL_ROOT"]).map(PathBuf::from),
            bgp_listen: first(&["TORTIE_BGP_LISTEN"]),
            restart_time: first(&["TORTIE_RESTART_TIME"]),
            namespace: first(&["TORTIE_NAMESPACE"]),
            ip: first(&["TORTIE_IP", "IP"]),
            ip6: first(&["TORTIE_IP6", "IP6"]),
            ip_autodetection_method: first(&[
                "TORTIE_IP_AUTODETECTION_METHOD",
                "IP_AUTODETECTION_METHOD",
            ]),
            ip6_autodetection_method: first(&[
                "TORTIE_IP6_AUTODETECTION_METHOD",
                "IP6_AUTODETECTION_METHOD",
            ]),
        }
    }

    /// This layer, with another below it.
    fn over(self, below: Layer) -> Layer {
        Layer {
            node_name: self.node_name.or(below.node_name),
            datastore: self.datastore.or(below.datastore),
            kubeconfig: self.kubeconfig.or(below.kubeconfig),
            state_dir: self.state_dir.or(below.state_dir),
            cni_socket: self.cni_socket.or(below.cni_socket),
            admin: self.admin.or(below.admin),
            metrics: self.metrics.or(below.metrics),
            log: self.log.or(below.log),
            interface_prefix: self.interface_prefix.or(below.interface_prefix),
            mtu: self.mtu.or(below.mtu),
            allow_default_route: self.allow_default_route.or(below.allow_default_route),
            router_id: self.router_id.or(below.router_id),
            bgp: self.bgp.or(below.bgp),
            user_tunnels: self.user_tunnels.or(below.user_tunnels),
            sysctl_root: self.sysctl_root.or(below.sysctl_root),
            bgp_listen: self.bgp_listen.or(below.bgp_listen),
            restart_time: self.restart_time.or(below.restart_time),
            namespace: self.namespace.or(below.namespace),
            ip: self.ip.or(below.ip),
            ip6: self.ip6.or(below.ip6),
            ip_autodetection_method: self
                .ip_autodetection_method
                .or(below.ip_autodetection_method),
            ip6_autodetection_method: self
                .ip6_autodetection_method
                .or(below.ip6_autodetection_method),
        }
    }

    fn resolve(self) -> Result<Config> {
        let datastore = datastore(
            self.datastore
                .as_deref()
                .unwrap_or("file:/etc/tortie/manifests"),
            self.kubeconfig,
        )?;
        let wish = |address: &Option<String>, method: &Option<String>, is_ipv6| {
            wish(address.as_deref(), method.as_deref(), is_ipv6, &datastore)
        };
        Ok(Config {
            ipv4: wish(&self.ip, &self.ip_autodetection_method, false)?,
            ipv6: wish(&self.ip6, &self.ip6_autodetection_method, true)?,
            datastore,
            node_name: self.node_name.map_or_else(host_name, Ok)?,
            state_dir: self
                .state_dir
                .unwrap_or_else(|| felix_api::cni::DEFAULT_STATE_DIR.into()),
            cni_socket: self
                .cni_socket
                .unwrap_or_else(|| felix_api::cni::DEFAULT_SOCKET.into()),
            admin: value(
                "admin",
                self.admin,
                "an address and a port, such as 127.0.0.1:9099",
            )?
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9099))),
            metrics: value(
                "metrics",
                self.metrics,
                "an address and a port, such as 192.0.2.11:9091",
            )?,
            log: self.log.unwrap_or_else(|| "info".to_owned()).to_lowercase(),
            interface_prefix: interface_prefix(self.interface_prefix)?,
            mtu: value("mtu", self.mtu, "a number of bytes")?.unwrap_or(0),
            allow_default_route: value(
                "allowDefaultRoute",
                self.allow_default_route,
                "true or false",
            )?
            .unwrap_or(false),
            router_id: router_id(self.router_id)?,
            bgp: value("bgp", self.bgp, "true or false")?.unwrap_or(true),
            user_tunnels: user_tunnels(self.user_tunnels.as_deref())?,
            sysctl_root: self.sysctl_root.unwrap_or_else(|| "/proc/sys".into()),
            bgp_listen: value("bgpListen", self.bgp_listen, "an address")?,
            restart_time_secs: restart_time(self.restart_time)?,
            namespace: self
                .namespace
                .unwrap_or_else(|| felix_calc::DEFAULT_NAMESPACE.to_owned()),
        })
    }
}

/// Numbers and booleans need no quotes in the file.
fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Number(u64),
        Boolean(bool),
        Text(String),
    }
    let scalar = Option::<Scalar>::deserialize(deserializer)?;
    Ok(scalar.map(|scalar| match scalar {
        Scalar::Number(number) => number.to_string(),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::Text(text) => text,
    }))
}

fn value<T: std::str::FromStr>(name: &str, text: Option<String>, form: &str) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.trim().parse();
    parsed
        .map(Some)
        .map_err(|_| anyhow!("setting {name}: {text:?} is not {form}"))
}

fn host_name() -> Result<String> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host name")?;
    // Kubernetes object names are lower case (RFC 1123).
    Ok(name.trim().to_lowercase())
}

fn datastore(text: &str, kubeconfig: Option<PathBuf>) -> Result<DatastoreKind> {
    match text.split_once(':') {
        None if text == "kubernetes" => Ok(DatastoreKind::Kubernetes { kubeconfig }),
        Some(("file", directory)) if !directory.is_empty() => {
            Ok(DatastoreKind::File(directory.into()))
        }
        Some(_) | None => bail!("setting datastore: {text:?} is neither file:DIR nor kubernetes"),
    }
}

/// The first of a list, as Calico takes it; the rest would be names the plugin never makes.
fn interface_prefix(text: Option<String>) -> Result<String> {
    let text = text.unwrap_or_else(|| "cali".to_owned());
    let prefix = text.split(',').next().unwrap_or_default().trim();
    // 11 characters of a hash must fit behind it into the 15 of an interface name.
    if prefix.is_empty() || prefix.len() > 4 {
        bail!("setting interfacePrefix: {text:?} does not start with one to four characters");
    }
    Ok(prefix.to_owned())
}

/// In a directory of manifests the Node is somebody's work and says what it shall; on Kubernetes it
/// is the kubelet's.
fn wish(
    address: Option<&str>,
    method: Option<&str>,
    is_ipv6: bool,
    datastore: &DatastoreKind,
) -> Result<Wish> {
    let is_kubernetes = matches!(datastore, DatastoreKind::Kubernetes { .. });
    let unasked = Unasked {
        heal: is_kubernetes,
        first_found: is_kubernetes && !is_ipv6,
    };
    let (ip, ip_method) = match is_ipv6 {
        true => ("ip6", "ip6AutodetectionMethod"),
        false => ("ip", "ipAutodetectionMethod"),
    };
    Wish::parse(address, method, is_ipv6, unasked)
        .with_context(|| format!("settings {ip} and {ip_method}"))
}

fn user_tunnels(text: Option<&str>) -> Result<UserTunnels> {
    match text {
        None | Some("" | "fallback") => Ok(UserTunnels::Fallback),
        Some("always") => Ok(UserTunnels::Always),
        Some("never") => Ok(UserTunnels::Never),
        Some(text) => bail!("setting userTunnels: {text:?} is not fallback, always or never"),
    }
}

fn router_id(text: Option<String>) -> Result<RouterIdRule> {
    match text.as_deref() {
        None | Some("" | "address") => Ok(RouterIdRule::NodeAddress),
        Some("hash") => Ok(RouterIdRule::Hash),
        Some(_) => Ok(value("routerId", text, "address, hash or an IPv4 address")?
            .map_or(RouterIdRule::NodeAddress, RouterIdRule::Fixed)),
    }
}

/// Calico's word for it: `bird`, or `vxlan`, which has no BGP.
fn backend(text: Option<String>) -> Option<String> {
    let bgp = text.filter(|text| !text.is_empty())? != "vxlan";
    Some(bgp.to_string())
}

fn restart_time(text: Option<String>) -> Result<u16> {
    let secs = value("restartTime", text, "a number of seconds")?.unwrap_or(120);
    // Twelve bits of the capability (RFC 4724 §3).
    if secs > 4095 {
        bail!("setting restartTime: {secs} is more than 4095 seconds");
    }
    Ok(secs)
}

#[cfg(test)]
mod tests;
