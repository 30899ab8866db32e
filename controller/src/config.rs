//! Settings: flags, and the environment under `TORTIE_…`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use crds::GoDuration;
use crds::selector::Selector;
use datastore::kubernetes::PodSelection;
use ipam::gc;

use crate::clients::{self, Reflector};
use crate::place::{Place, PlaceFlags};
use crate::{reflectors, topology};

/// Collects addresses and blocks of nodes that are gone, and empty blocks.
///
/// Several may run: one of them leads and works, the others stand by.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tortie-controller",
    version,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    place: PlaceFlags,
    /// With --datastore kubernetes: namespace of the Lease by which controllers agree on one, and of reflectors
    #[arg(
        long,
        value_name = "NAME",
        env = "TORTIE_NAMESPACE",
        default_value = "kube-system"
    )]
    namespace: String,
    /// With --datastore kubernetes: labels of pods that are reflectors, for each of which a BGPPeer is kept
    #[arg(long, value_name = "LABELS", env = "TORTIE_REFLECTORS")]
    reflectors: Option<String>,
    /// Port that reflectors listen on
    #[arg(
        long,
        value_name = "PORT",
        env = "TORTIE_REFLECTOR_PORT",
        default_value_t = 1790
    )]
    reflector_port: u16,
    /// Keep the mesh between up to so many nodes, and make some nodes route reflectors for more; 0: always reflectors
    #[arg(
        long,
        value_name = "NODES",
        env = "TORTIE_MESH_LIMIT",
        conflicts_with = "reflectors"
    )]
    mesh_limit: Option<usize>,
    /// With --mesh-limit: how many nodes reflect
    #[arg(long, value_name = "COUNT", env = "TORTIE_REFLECTOR_COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    reflector_count: u8,
    /// With --mesh-limit: which nodes may reflect, as a selector over their labels
    #[arg(
        long,
        value_name = "SELECTOR",
        env = "TORTIE_REFLECTOR_SELECTOR",
        default_value = "all()"
    )]
    reflector_selector: String,
    /// With --mesh-limit: cluster id of the reflectors
    #[arg(
        long,
        value_name = "ID",
        env = "TORTIE_REFLECTOR_CLUSTER_ID",
        default_value = "198.51.100.1"
    )]
    reflector_cluster_id: Ipv4Addr,
    /// With --mesh-limit: how long all must be well before the mesh, or a reflector, is taken away
    #[arg(
        long,
        value_name = "TIME",
        env = "TORTIE_TOPOLOGY_SETTLE",
        default_value = "30s"
    )]
    topology_settle: GoDuration,
    /// Address of metrics, probes and the last look
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "TORTIE_ADMIN",
        default_value = "127.0.0.1:9094"
    )]
    admin: SocketAddr,
    /// Address of metrics and nothing else, for scrapers from elsewhere [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TORTIE_METRICS")]
    metrics: Option<SocketAddr>,
    /// Log filter: error, warn, info, debug, trace, or per module
    #[arg(
        long,
        value_name = "FILTER",
        env = "TORTIE_LOG",
        default_value = "info"
    )]
    log: String,
    /// How long a leak on a node that is there, and an empty block, is looked at before it counts; 0 leaves both alone
    #[arg(
        long,
        value_name = "TIME",
        env = "TORTIE_LEAK_GRACE_PERIOD",
        default_value = "15m"
    )]
    leak_grace_period: GoDuration,
    /// How long the agent of a node without Node object must be silent; agents report at least every five minutes
    #[arg(
        long,
        value_name = "TIME",
        env = "TORTIE_AGENT_SILENCE",
        default_value = "6m"
    )]
    agent_silence: GoDuration,
    /// How long something must look half-written before it is settled
    #[arg(
        long,
        value_name = "TIME",
        env = "TORTIE_SETTLE_AFTER",
        default_value = "1m"
    )]
    settle_after: GoDuration,
    /// Free nothing while a larger share of the nodes with addresses is gone, and more than one
    #[arg(long, value_name = "PERCENT", env = "TORTIE_MAX_GONE_PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    max_gone_percent: u8,
    /// Longest time between two looks [default: half of the grace period, 5m without one]
    #[arg(long, value_name = "TIME", env = "TORTIE_INTERVAL")]
    interval: Option<GoDuration>,
    /// With --datastore kubernetes: bring the CRDs to those of this version when beginning to lead
    #[arg(long, env = "TORTIE_UPGRADE_CRDS")]
    upgrade_crds: bool,
    /// Look once, act, print what was found and done, and end
    #[arg(long)]
    once: bool,
    /// Change nothing: only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// What --once prints
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Agents write what changed at most five seconds later.
const LEAST_SETTLE: Duration = Duration::from_secs(10);

impl Flags {
    fn topology(&self) -> Result<Option<topology::Settings>> {
        let Some(mesh_limit) = self.mesh_limit else {
            return Ok(None);
        };
        let selector = Selector::parse(&self.reflector_selector);
        let selector = selector.context("--reflector-selector")?;
        let settle = self.topology_settle.0;
        if settle < LEAST_SETTLE {
            bail!(
                "--topology-settle: less than 10s, in which agents may not have reported; write one like 30s"
            );
        }
        Ok(Some(topology::Settings {
            plan: topology::PlanSettings {
                mesh_limit,
                count: self.reflector_count.into(),
                cluster_id: self.reflector_cluster_id.to_string(),
                settle,
            },
            selector,
        }))
    }
}

/// What else this program does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Beside a reflector: keeps the file of tortie-bgp, with every node as a client
    Clients(ClientsFlags),
}

/// Flags of `clients`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientsFlags {
    #[command(flatten)]
    place: PlaceFlags,
    /// The file to write; tortie-bgp takes up what changes in it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Address of the node that the reflector is on
    #[arg(long, value_name = "ADDRESS")]
    address: IpAddr,
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 1790)]
    port: u16,
    /// Cluster id of all reflectors
    #[arg(long, value_name = "ID")]
    cluster_id: Ipv4Addr,
    /// How long clients keep routes while the reflector restarts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u16).range(0..=4095))]
    restart_time: u16,
    /// Log filter: error, warn, info, debug, trace, or per module
    #[arg(
        long,
        value_name = "FILTER",
        env = "TORTIE_LOG",
        default_value = "info"
    )]
    pub(crate) log: String,
    /// End when there is a file, be it one of before
    #[arg(long)]
    once: bool,
}

impl ClientsFlags {
    /// # Errors
    /// When a value has the wrong form.
    pub(crate) fn resolve(self) -> Result<clients::Config> {
        Ok(clients::Config {
            place: self.place.resolve()?,
            reflector: Reflector {
                address: self.address,
                port: self.port,
                cluster_id: self.cluster_id,
                restart_time_secs: self.restart_time,
            },
            output: self.output,
            once: self.once,
        })
    }
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) place: Place,
    /// Of the Lease.
    pub(crate) namespace: String,
    pub(crate) reflectors: Option<reflectors::Settings>,
    pub(crate) topology: Option<topology::Settings>,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) log: String,
    pub(crate) collection: gc::Settings,
    pub(crate) interval: Duration,
    pub(crate) upgrade_crds: bool,
    pub(crate) once: bool,
    pub(crate) dry_run: bool,
    pub(crate) output: Output,
}

/// Between two looks when there is no grace period.
const INTERVAL: Duration = Duration::from_secs(300);

impl Config {
    /// # Errors
    /// When a value has the wrong form; the text names the flag.
    pub(crate) fn resolve(flags: Flags) -> Result<Config> {
        let topology = flags.topology()?;
        let place = flags.place.resolve()?;
        let is_cluster = place.is_cluster();
        let reflectors = flags.reflectors.map(|labels| reflectors::Settings {
            pods: PodSelection {
                namespace: flags.namespace.clone(),
                labels,
            },
            port: flags.reflector_port,
        });
        if reflectors.is_some() && !is_cluster {
            bail!("--reflectors: pods are known to an API server only; add --datastore kubernetes");
        }
        if flags.upgrade_crds && !is_cluster {
            bail!("--upgrade-crds: there are none in a directory; add --datastore kubernetes");
        }
        let grace = Some(flags.leak_grace_period.0).filter(|grace| !grace.is_zero());
        let interval = flags.interval.map(|interval| interval.0);
        if interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
            bail!("--interval: less than a second; write one like 5m");
        }
        Ok(Config {
            admin: flags.admin,
            metrics: flags.metrics,
            log: flags.log.to_lowercase(),
            collection: gc::Settings {
                grace,
                silence: flags.agent_silence.0,
                under_way: flags.settle_after.0,
                max_gone_percent: flags.max_gone_percent,
                // A directory of manifests need not have Pods.
                expect_pods: is_cluster,
                guard_pools: is_cluster,
            },
            place,
            namespace: flags.namespace,
            reflectors,
            topology,
            interval: interval.unwrap_or_else(|| grace.map_or(INTERVAL, |grace| grace / 2)),
            upgrade_crds: flags.upgrade_crds,
            once: flags.once,
            dry_run: flags.dry_run,
            output: flags.output,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[&str]) -> Result<Config> {
        let program = ["tortie-controller"].iter();
        Config::resolve(Flags::try_parse_from(program.chain(flags))?)
    }

    #[test]
    fn times_follow_from_the_grace_period() {
        let config = resolve(&[]).unwrap();
        assert_eq!(config.collection.grace, Some(Duration::from_secs(900)));
        assert_eq!(config.interval, Duration::from_secs(450));
        let config = resolve(&["--leak-grace-period", "0"]).unwrap();
        assert_eq!((config.collection.grace, config.interval), (None, INTERVAL));
        let config = resolve(&["--interval", "1m30s"]).unwrap();
        assert_eq!(config.interval, Duration::from_secs(90));
    }

    #[test]
    fn pods_are_expected_and_pools_guarded_where_there_is_an_api_server() {
        let config = resolve(&["--datastore=file:/etc/x"]).unwrap();
        assert_eq!(config.place, Place::Directory("/etc/x".into()));
        assert!(!config.collection.expect_pods && !config.collection.guard_pools);
        let flags = [
            "--datastore=kubernetes",
            "--kubeconfig=/root/k",
            "--namespace=net",
        ];
        let config = resolve(&flags).unwrap();
        let kubeconfig = Some("/root/k".into());
        assert_eq!(config.place, Place::Cluster { kubeconfig });
        assert_eq!(config.namespace, "net");
        assert!(config.collection.expect_pods && config.collection.guard_pools);
    }

    #[test]
    fn the_topology_is_kept_where_there_is_a_limit() {
        assert_eq!(resolve(&[]).unwrap().topology, None);
        let flags = [
            "--mesh-limit=50",
            "--reflector-count=2",
            "--reflector-selector=has(rack)",
        ];
        let kept = resolve(&flags).unwrap().topology.unwrap();
        assert_eq!((kept.plan.mesh_limit, kept.plan.count), (50, 2));
        assert_eq!(kept.plan.settle, Duration::from_secs(30));
        assert!(!kept.selector.is_all());
        let error = resolve(&["--mesh-limit=50", "--reflectors=a=b"]).unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (flags, text) in [
            (
                ["--datastore", "etcd:x"],
                "--datastore: \"etcd:x\" is neither file:DIR nor kubernetes",
            ),
            (
                ["--interval", "10ms"],
                "--interval: less than a second; write one like 5m",
            ),
            (["--agent-silence", "long"], "--agent-silence"),
            (["--reflectors", "a=b"], "add --datastore kubernetes"),
            (
                ["--upgrade-crds", "--once"],
                "--upgrade-crds: there are none",
            ),
            (["--max-gone-percent", "101"], "--max-gone-percent"),
            (
                ["--mesh-limit=1", "--reflector-selector=a ="],
                "--reflector-selector",
            ),
            (
                ["--mesh-limit=1", "--topology-settle=1s"],
                "--topology-settle: less than 10s",
            ),
            (
                ["--mesh-limit=1", "--reflector-count=0"],
                "--reflector-count",
            ),
        ] {
            let error = resolve(&flags).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
