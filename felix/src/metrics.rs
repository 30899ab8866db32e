//! Metrics: counted where things happen, or read off the board when somebody asks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bgp::metrics::Numbers;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use felix_calc::RouteNumbers;
use felix_dataplane::{TunnelCounters, TunnelDrop};

use crate::board::Board;

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    cni: HistogramVec,
    routes: IntGaugeVec,
    routes_in_place: IntGaugeVec,
    routes_waiting: IntGauge,
    fib_failures: IntGauge,
    fib_repairs: IntCounter,
    fib_written: IntCounter,
    fib_errors: IntCounter,
    tunnels: IntGaugeVec,
    tunnel_mtu: IntGaugeVec,
    tunnel_remotes: IntGaugeVec,
    tunnel_packets: IntCounterVec,
    tunnel_bytes: IntCounterVec,
    tunnel_drops: IntCounterVec,
    addresses: IntGaugeVec,
    endpoints: IntGauge,
    unsettled: IntGauge,
    problems: IntGauge,
    ready: IntGauge,
    headless: IntGauge,
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
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(format!("tortie_{name}"), help), labels)?;
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
        let buckets = vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];
        let help = "Time to serve a request of the CNI plugin";
        let options = HistogramOpts::new("tortie_cni_operation_seconds", help).buckets(buckets);
        let cni = HistogramVec::new(options, &["op", "result"])?;
        registry.register(Box::new(cni.clone()))?;
        let build = vec("build_info", "Version of the agent", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Metrics {
            cni,
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
            tunnels: vec(
                "tunnel_in_place",
                "Whether the tunnel device is in place, by who moves its packets",
                &["device", "carrier"],
            )?,
            tunnel_mtu: vec("tunnel_mtu_bytes", "MTU of the tunnel device", &["device"])?,
            tunnel_remotes: vec(
                "tunnel_remotes",
                "Other ends the tunnel device knows",
                &["device"],
            )?,
            tunnel_packets: counters(
                "tunnel_user_packets_total",
                "Packets on the wire of tunnels in user space",
                &["device", "direction"],
            )?,
            tunnel_bytes: counters(
                "tunnel_user_bytes_total",
                "Bytes of the packets inside, of tunnels in user space",
                &["device", "direction"],
            )?,
            tunnel_drops: counters(
                "tunnel_user_dropped_packets_total",
                "Packets that tunnels in user space dropped",
                &["device", "reason"],
            )?,
            addresses: vec("ipam_addresses", "Addresses of own blocks", &["state"])?,
            endpoints: gauge("cni_endpoints", "Endpoint records")?,
            unsettled: gauge(
                "cni_deletions_unsettled",
                "Deletions that wait for the datastore",
            )?,
            problems: gauge("config_problems", "Problems with objects")?,
            ready: gauge("ready", "Whether the agent is ready")?,
            headless: gauge(
                "datastore_headless",
                "Whether the datastore is away and the agent goes on with what it knows",
            )?,
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

    /// All metrics as text, those of the speaker included once it runs.
    ///
    /// # Errors
    /// When a metric cannot be written, which a test finds.
    pub fn text(&self, board: &Board, speaker: Option<&Numbers>) -> Result<String> {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_dataplane(board);
        self.read_tunnels(board);
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
        let headless = board.outage.borrow().is_some();
        self.headless.set(i64::from(headless));
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        if let Some(numbers) = speaker {
            text.push_str(&bgp::metrics::text(numbers)?);
        }
        Ok(text)
    }

    fn read_tunnels(&self, board: &Board) {
        self.tunnels.reset();
        self.tunnel_mtu.reset();
        self.tunnel_remotes.reset();
        self.tunnel_packets.reset();
        self.tunnel_bytes.reset();
        self.tunnel_drops.reset();
        for tunnel in crate::tunnels::all(board) {
            let carrier = tunnel.carrier.map(crate::tunnels::carrier_name);
            let labels = [tunnel.device, carrier.unwrap_or("none")];
            let in_place = i64::from(tunnel.carrier.is_some());
            self.tunnels.with_label_values(&labels).set(in_place);
            let mtu = self.tunnel_mtu.with_label_values(&[tunnel.device]);
            mtu.set(tunnel.mtu.into());
            if let Some(remotes) = tunnel.remotes {
                let metric = self.tunnel_remotes.with_label_values(&[tunnel.device]);
                metric.set(number(remotes));
            }
            if let Some(counters) = tunnel.counters {
                self.count_tunnel(tunnel.device, &counters);
            }
        }
    }

    /// Counted elsewhere, only shown here.
    fn count_tunnel(&self, device: &str, counters: &TunnelCounters) {
        for (direction, packets, bytes) in [
            ("sent", counters.sent_packets, counters.sent_bytes),
            (
                "received",
                counters.received_packets,
                counters.received_bytes,
            ),
        ] {
            let labels = [device, direction];
            self.tunnel_packets
                .with_label_values(&labels)
                .inc_by(packets);
            self.tunnel_bytes.with_label_values(&labels).inc_by(bytes);
        }
        for reason in TunnelDrop::ALL {
            let metric = self
                .tunnel_drops
                .with_label_values(&[device, reason.name()]);
            metric.inc_by(counters.dropped(reason));
        }
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

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_written() {
        let metrics = Metrics::new().unwrap();
        metrics.cni_operation("add", true, Duration::from_millis(3));
        let board = Board::default();
        let before = metrics.text(&board, None).unwrap();
        assert!(!before.contains("tortie_bgp"), "{before}");
        let text = metrics.text(&board, Some(&Numbers::default())).unwrap();
        for line in [
            "tortie_ready 0",
            "tortie_fib_routes{owner=\"bgp\"} 0",
            "tortie_bgp_table_prefixes{afi=\"ipv4\"} 0",
            "process_open_fds",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_tunnel_counts_is_shown_each_time_anew() {
        let metrics = Metrics::new().unwrap();
        metrics.count_tunnel("tunl0", &TunnelCounters::default());
        let text = TextEncoder::new()
            .encode_to_string(&metrics.registry.gather())
            .unwrap();
        for line in [
            "tortie_tunnel_user_packets_total{device=\"tunl0\",direction=\"sent\"} 0",
            "tortie_tunnel_user_dropped_packets_total{device=\"tunl0\",reason=\"foreign_source\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let text = metrics.text(&Board::default(), None).unwrap();
        assert!(
            !text.contains("tunnel_user"),
            "a tunnel that is gone counts nothing: {text}"
        );
    }

    /// <https://prometheus.io/docs/practices/naming>: what only grows ends in `_total`.
    /// The exposition format allows a name once.
    #[test]
    fn names_stand_once_and_counters_and_only_counters_are_totals() {
        let metrics = Metrics::new().unwrap();
        let board = Board::default();
        let text = metrics.text(&board, Some(&Numbers::default())).unwrap();
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let (mut counters, mut others) = (0, 0);
        let mut seen = std::collections::BTreeSet::new();
        for (name, kind) in types {
            assert!(seen.insert(name), "{name} stands twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
            match kind {
                "counter" => counters += 1,
                _ => others += 1,
            }
        }
        assert!(counters >= 4 && others >= 10, "{text}");
    }
}
