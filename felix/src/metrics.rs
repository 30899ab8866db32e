//! Metrics: counted where things happen, or read off the board when somebody asks.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::board::Board;

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    cni: HistogramVec,
    session_up: IntGaugeVec,
    session_since: IntGaugeVec,
    session_flaps: IntCounterVec,
    peer_paths: IntGaugeVec,
    messages: IntCounterVec,
    routes: IntGaugeVec,
    fib_failures: IntGauge,
    fib_repairs: IntCounter,
    fib_written: IntCounter,
    fib_errors: IntCounter,
    addresses: IntGaugeVec,
    endpoints: IntGauge,
    unsettled: IntGauge,
    problems: IntGauge,
    ready: IntGauge,
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
            peer_paths: vec("bgp_peer_paths", "Paths held from the peer", peer)?,
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
    pub fn text(&self, board: &Board) -> Result<String> {
        self.read_bgp(board);
        let calc = board.calc.borrow().clone();
        for (owner, count) in [
            ("workload", calc.routes.workloads),
            ("block", calc.routes.blocks),
            ("bgp", calc.routes.learned),
        ] {
            self.routes.with_label_values(&[owner]).set(number(count));
        }
        let used: u32 = calc.blocks.iter().map(|block| block.used).sum();
        let free: u32 = calc.blocks.iter().map(|block| block.free).sum();
        self.addresses.with_label_values(&["used"]).set(used.into());
        self.addresses.with_label_values(&["free"]).set(free.into());
        {
            let dataplane = board.dataplane.borrow();
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
        self.endpoints.set(number(board.cni.borrow().endpoints));
        self.unsettled.set(number(board.cni.borrow().unsettled));
        self.problems.set(number(board.problems().len()));
        self.ready.set(i64::from(board.not_ready().is_empty()));
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Peers come and go, so these are written anew each time.
    fn read_bgp(&self, board: &Board) {
        for metric in [&self.session_up, &self.session_since, &self.peer_paths] {
            metric.reset();
        }
        self.session_flaps.reset();
        self.messages.reset();
        let section = board.calc.borrow().bgp.clone();
        let Some(section) = section else { return };
        let speaker = board.speaker.borrow();
        for (name, spec) in &section.peers {
            let info = speaker.peers.get(&bgp::PeerKey::from(name.as_str()));
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
            self.peer_paths
                .with_label_values(&labels)
                .set(number(info.paths));
            for (direction, count) in [("in", info.messages_in), ("out", info.messages_out)] {
                self.messages
                    .with_label_values(&[name.as_str(), direction])
                    .inc_by(count);
            }
        }
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
        let text = metrics.text(&Board::default()).unwrap();
        for name in [
            "tortie_ready 0",
            "tortie_fib_routes{owner=\"bgp\"} 0",
            "process_open_fds",
        ] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
    }
}
