//! Metrics: counted after each look.

use std::time::UNIX_EPOCH;

use anyhow::Result;
use ipam::gc::State;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::board::Look;
use crate::topology;

/// Everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    leader: IntGauge,
    looks: IntCounterVec,
    last: Gauge,
    took: Gauge,
    allocated: IntGauge,
    blocks: IntGauge,
    addresses: IntGaugeVec,
    refused: IntGauge,
    collected: IntCounterVec,
    spared: IntCounter,
    topology: IntGaugeVec,
    node_reflectors: IntGauge,
}

const STATES: [State; 4] = [State::Candidate, State::Confirmed, State::Free, State::Kept];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When a name is not one, which a test finds.
    pub(crate) fn new() -> Result<Metrics> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let metric = IntGauge::new(format!("tortie_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let seconds = |name: &str, help: &str| -> Result<Gauge> {
            let metric = Gauge::new(format!("tortie_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec> {
            let metric = IntGaugeVec::new(Opts::new(format!("tortie_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(format!("tortie_{name}"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let spared = IntCounter::new(
            "tortie_ipam_gc_spared_total",
            "Addresses that were to be freed and were in use again",
        )?;
        registry.register(Box::new(spared.clone()))?;
        gauges(
            "controller_build_info",
            "Version of the controller",
            &["version"],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        Ok(Metrics {
            leader: gauge("controller_leader", "1 when this controller leads")?,
            looks: counters("ipam_gc_looks_total", "Looks at all addresses", &["result"])?,
            last: seconds(
                "ipam_gc_last_look_timestamp_seconds",
                "When all addresses were last looked at",
            )?,
            took: seconds(
                "ipam_gc_last_look_seconds",
                "How long the last look and what followed took",
            )?,
            allocated: gauge("ipam_allocated_addresses", "Addresses that are allocated")?,
            blocks: gauge("ipam_blocks", "Address blocks")?,
            addresses: gauges(
                "ipam_gc_addresses",
                "Addresses that are not plainly in use: candidate and confirmed on nodes that are there, free and kept on others",
                &["state"],
            )?,
            refused: gauge(
                "ipam_gc_refused",
                "1 when nothing is freed because the datastore looks stale",
            )?,
            collected: counters(
                "ipam_gc_collected_total",
                "What was freed or given back",
                &["kind"],
            )?,
            spared,
            topology: gauges(
                "topology_state",
                "1 for what the topology of the nodes is, where the controller keeps it",
                &["state"],
            )?,
            node_reflectors: gauge(
                "node_reflectors",
                "Nodes that the controller made route reflectors",
            )?,
            registry,
        })
    }

    pub(crate) fn looked(&self, look: &Look) {
        let result = if look.error.is_some() {
            "incomplete"
        } else {
            "done"
        };
        self.looks.with_label_values(&[result]).inc();
        let at = look.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.set(at.as_secs_f64());
        self.took.set(look.took.as_secs_f64());
        self.allocated.set(signed(look.sweep.allocated));
        self.blocks.set(signed(look.sweep.blocks));
        for state in STATES {
            let count = look.sweep.count(state);
            self.addresses
                .with_label_values(&[state.name()])
                .set(signed(count));
        }
        self.refused.set(look.sweep.refused.is_some().into());
        let done = &look.done;
        for (kind, count) in [
            ("address", done.freed.len()),
            ("node", done.nodes.len()),
            ("block", done.blocks.len()),
            ("status", done.statuses.len()),
        ] {
            self.collected
                .with_label_values(&[kind])
                .inc_by(count as u64);
        }
        self.spared.inc_by(done.spared.len() as u64);
    }

    pub(crate) fn failed(&self) {
        self.looks.with_label_values(&["failed"]).inc();
    }

    pub(crate) fn topology(&self, state: topology::State, reflectors: usize) {
        for one in topology::State::ALL {
            let metric = self.topology.with_label_values(&[one.name()]);
            metric.set((one == state).into());
        }
        self.node_reflectors.set(signed(reflectors));
    }

    /// Of one that stands by, others know.
    pub(crate) fn stands_by(&self) {
        self.topology.reset();
        self.node_reflectors.set(0);
    }

    /// The page.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(crate) fn text(&self, leading: bool) -> Result<String> {
        self.leader.set(leading.into());
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name() {
        let metrics = Metrics::new().unwrap();
        metrics.failed();
        metrics.topology(topology::State::Changing, 2);
        let text = metrics.text(true).unwrap();
        assert!(
            text.lines()
                .any(|line| line == "tortie_controller_leader 1"),
            "{text}"
        );
        assert!(
            text.contains("tortie_ipam_gc_looks_total{result=\"failed\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("tortie_topology_state{state=\"changing\"} 1")
                && text.contains("tortie_topology_state{state=\"mesh\"} 0")
                && text.contains("tortie_node_reflectors 2"),
            "{text}"
        );
    }
}
