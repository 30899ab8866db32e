//! Metrics: counted where things happen, or read off the board when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use bgp::{Family, PeerInfo, PeerKey};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use felix_calc::RouteNumbers;

use crate::board::Board;

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    cni: HistogramVec,
    session_up: IntGaugeVec,
    session_since: IntGaugeVec,
    session_flaps: IntCounterVec,
    prefixes: IntGaugeVec,
    messages: IntCounterVec,
    routes: IntGaugeVec,
    routes_in_place: IntGaugeVec,
    routes_waiting: IntGauge,
    fib_failures: IntGauge,
    fib_repairs: IntCounter,
    fib_written: IntCounter,
    fib_errors: IntCounter,
    addresses: IntGaugeVec,
    endpoints: IntGauge,
    unsettled: IntGauge,
    problems: IntGauge,
    ready: IntGauge,
    /// Held while values are read off and written: two readers at once must not mix.
    page: Mutex<()>,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When a name is not one, which a test finds.
    pub fn new() -> Result<Metrics> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let vec = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec> {
            let metric = IntGaugeVec::new(Opts::new(format!("tortie_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let metric = IntGauge::new(format!("tortie_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter> {
            let metric = IntCounter::new(format!("tortie_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(format!("tortie_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let buckets = vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];
        let help = "Time to serve a request of the CNI plugin";
        let options = HistogramOpts::new("tortie_cni_operation_seconds", help).buckets(buckets);
        let cni = HistogramVec::new(options, &["op", "result"])?;
        registry.register(Box::new(cni.clone()))?;
        let build = vec("build_info", "Version of the agent", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let peer = &["peer", "asn", "type"];
        Ok(Metrics {
            cni,
            session_up: vec("bgp_session_up", "Whether the session is established", peer)?,
            session_since: vec(
                "bgp_session_established_timestamp_seconds",
                "When the session came up, in seconds since 1970",
                peer,
            )?,
            session_flaps: counters("bgp_session_flaps_total", "Established sessions lost", peer)?,
            prefixes: vec(
                "bgp_prefixes",
                "Routes held from the peer, those of them accepted and in use, and routes told to it",
                &["peer", "direction", "afi", "stage"],
            )?,
            messages: counters(
                "bgp_messages_total",
                "Messages since the start",
                &["peer", "direction"],
            )?,
            routes: vec(
                "fib_routes",
                "Routes that shall be in the kernel",
                &["owner"],
            )?,
            routes_in_place: vec(
                "fib_routes_in_place",
                "Routes that are in the kernel as they shall be",
                &["owner"],
            )?,
            routes_waiting: gauge("fib_routes_waiting", "Routes that wait for their interface")?,
            fib_failures: gauge("fib_failures", "Objects the kernel refuses at present")?,
            fib_repairs: counter(
                "fib_drift_repairs_total",
                "Objects put right after others changed them",
            )?,
            fib_written: counter(
                "fib_routes_written_total",
                "Routes added, replaced or deleted",
            )?,
            fib_errors: counter(
                "fib_errors_total",
                "Steps of the dataplane that failed as a whole",
            )?,
            addresses: vec("ipam_addresses", "Addresses of own blocks", &["state"])?,
            endpoints: gauge("cni_endpoints", "Endpoint records")?,
            unsettled: gauge(
                "cni_deletions_unsettled",
                "Deletions that wait for the datastore",
            )?,
            problems: gauge("config_problems", "Problems with objects")?,
            ready: gauge("ready", "Whether the agent is ready")?,
            registry,
            page: Mutex::default(),
        })
    }

    /// Counts a request of the plugin.
    pub fn cni_operation(&self, op: &str, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.cni
            .with_label_values(&[op, result])
            .observe(took.as_secs_f64());
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// When a metric cannot be written, which a test finds.
    pub fn text(&self, board: &Board, peers: &BTreeMap<PeerKey, PeerInfo>) -> Result<String> {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_bgp(board, peers);
        self.read_dataplane(board);
        let calc = board.calc.borrow().clone();
        set_routes(&self.routes, &calc.routes);
        let used: u32 = calc.blocks.iter().map(|block| block.used).sum();
        let free: u32 = calc.blocks.iter().map(|block| block.free).sum();
        self.addresses.with_label_values(&["used"]).set(used.into());
        self.addresses.with_label_values(&["free"]).set(free.into());
        self.endpoints.set(number(board.cni.borrow().endpoints));
        self.unsettled.set(number(board.cni.borrow().unsettled));
        self.problems.set(number(board.problems().len()));
        self.ready.set(i64::from(board.not_ready().is_empty()));
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    fn read_dataplane(&self, board: &Board) {
        let dataplane = board.dataplane.borrow();
        set_routes(&self.routes_in_place, &dataplane.counters.in_place);
        self.routes_waiting.set(number(dataplane.counters.waiting));
        self.fib_failures.set(number(dataplane.failures.len()));
        for (metric, count) in [
            (&self.fib_repairs, dataplane.counters.drift_repairs),
            (&self.fib_written, dataplane.counters.routes_written),
            (&self.fib_errors, dataplane.errors),
        ] {
            // Counted elsewhere, only shown here.
            metric.reset();
            metric.inc_by(count);
        }
    }

    /// Peers come and go, so these are written anew each time.
    fn read_bgp(&self, board: &Board, peers: &BTreeMap<PeerKey, PeerInfo>) {
        for metric in [&self.session_up, &self.session_since, &self.prefixes] {
            metric.reset();
        }
        self.session_flaps.reset();
        self.messages.reset();
        let section = board.calc.borrow().bgp.clone();
        let Some(section) = section else { return };
        for (name, spec) in &section.peers {
            let info = peers.get(&crate::speaker::key(spec));
            let asn = spec.remote_as.to_string();
            let labels = [name.as_str(), asn.as_str(), spec.kind.name()];
            let up = info.is_some_and(|info| info.state == bgp::State::Established);
            self.session_up
                .with_label_values(&labels)
                .set(i64::from(up));
            let Some(info) = info else { continue };
            if up && let Ok(since) = info.since.duration_since(UNIX_EPOCH) {
                let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
                self.session_since.with_label_values(&labels).set(since);
            }
            self.session_flaps
                .with_label_values(&labels)
                .inc_by(info.flaps);
            self.set_prefixes(name, info);
            for (direction, count) in [("in", info.messages_in), ("out", info.messages_out)] {
                self.messages
                    .with_label_values(&[name.as_str(), direction])
                    .inc_by(count);
            }
        }
    }

    fn set_prefixes(&self, peer: &str, info: &PeerInfo) {
        for (family, counts) in &info.counts {
            for (direction, stage, count) in [
                ("in", "received", counts.received),
                ("in", "accepted", counts.accepted),
                ("in", "best", counts.best),
                ("out", "advertised", counts.advertised),
            ] {
                self.prefixes
                    .with_label_values(&[peer, direction, afi(*family), stage])
                    .set(number(count));
            }
        }
    }
}

fn set_routes(metric: &IntGaugeVec, numbers: &RouteNumbers) {
    for (owner, count) in [
        ("workload", numbers.workloads),
        ("block", numbers.blocks),
        ("bgp", numbers.learned),
    ] {
        metric.with_label_values(&[owner]).set(number(count));
    }
}

fn afi(family: Family) -> &'static str {
    if family == Family::IPV4_UNICAST {
        "ipv4"
    } else {
        "ipv6"
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use bgp::PeerCounts;
    use felix_calc::{Bgp, Local, PeerKind, PeerSpec};

    use super::*;

    fn board() -> Board {
        let policy = std::sync::Arc::new(felix_calc::policy::Policy {
            rules: Vec::new(),
            otherwise: felix_calc::policy::Verdict::Accept,
        });
        let peer = PeerSpec {
            kind: PeerKind::NodeMesh,
            object: "Node/b".to_owned(),
            address: "192.0.2.9".parse().unwrap(),
            port: 179,
            remote_as: 64512,
            ipv4: true,
            ipv6: true,
            passive: false,
            source: None,
            keepalive: None,
            restart_time: None,
            multihop: false,
            ttl_security: None,
            reflector_client: false,
            allow_own_as: 0,
            local_as: None,
            next_hop: felix_calc::NextHopMode::Auto,
            password: None,
            import: policy.clone(),
            export: policy,
        };
        let bgp = Bgp {
            local: Local {
                asn: 64512,
                router_id: "192.0.2.1".parse().unwrap(),
                ipv4: Some("192.0.2.1".parse().unwrap()),
                ipv6: None,
                subnets: Vec::new(),
                listen_port: 179,
                bind: None,
                cluster_id: None,
            },
            peers: [("Mesh_192_0_2_9".to_owned(), peer)].into(),
            refused: BTreeMap::new(),
            originate: BTreeMap::new(),
        };
        let board = Board::default();
        board
            .calc
            .send_modify(|view| view.bgp = Some(Arc::new(bgp)));
        board
    }

    fn peers() -> BTreeMap<PeerKey, PeerInfo> {
        let counts = PeerCounts {
            received: 5,
            accepted: 4,
            best: 3,
            advertised: 2,
        };
        let info = PeerInfo {
            key: "192.0.2.9".into(),
            range: None,
            address: "192.0.2.9".parse().unwrap(),
            port: 179,
            remote_as: 64512,
            state: bgp::State::Established,
            since: SystemTime::now(),
            up_down: SystemTime::now(),
            flaps: 1,
            last_error: None,
            session: None,
            stale: Vec::new(),
            long_lived: Vec::new(),
            warning: None,
            malformed: None,
            bfd: None,
            paths: 5,
            counts: vec![(Family::IPV4_UNICAST, counts)],
            messages_in: 7,
            messages_out: 8,
        };
        [(info.key.clone(), info)].into()
    }

    #[test]
    fn every_metric_can_be_written() {
        let metrics = Metrics::new().unwrap();
        metrics.cni_operation("add", true, Duration::from_millis(3));
        metrics.text(&board(), &peers()).unwrap();
        let text = metrics.text(&board(), &peers()).unwrap();
        let peer = "peer=\"Mesh_192_0_2_9\"";
        for line in [
            "tortie_ready 0".to_owned(),
            "tortie_fib_routes{owner=\"bgp\"} 0".to_owned(),
            format!("tortie_bgp_messages_total{{direction=\"in\",{peer}}} 7"),
            format!(
                "tortie_bgp_prefixes{{afi=\"ipv4\",direction=\"in\",{peer},stage=\"received\"}} 5"
            ),
            format!(
                "tortie_bgp_prefixes{{afi=\"ipv4\",direction=\"in\",{peer},stage=\"accepted\"}} 4"
            ),
            format!("tortie_bgp_prefixes{{afi=\"ipv4\",direction=\"in\",{peer},stage=\"best\"}} 3"),
            format!(
                "tortie_bgp_prefixes{{afi=\"ipv4\",direction=\"out\",{peer},stage=\"advertised\"}} 2"
            ),
            "process_open_fds".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    /// <https://prometheus.io/docs/practices/naming>: what only grows ends in `_total`.
    #[test]
    fn counters_and_only_counters_are_totals() {
        let metrics = Metrics::new().unwrap();
        let text = metrics.text(&board(), &peers()).unwrap();
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let (mut counters, mut others) = (0, 0);
        for (name, kind) in types {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
            match kind {
                "counter" => counters += 1,
                _ => others += 1,
            }
        }
        assert!(counters >= 5 && others >= 10, "{text}");
    }
}
