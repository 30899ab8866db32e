//! The links driver: settings of the host and of workload interfaces that have an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use felix_calc::{EndpointInterface, Endpoints};

use crate::Failure;
use crate::host::Host;
use crate::sysctl::{self, Outcome, Tree};

/// Strict, for when the kernel does not say what it wants for new interfaces.
const RP_FILTER_STRICT: &str = "1";

/// Endpoints and the settings of their interfaces.
#[derive(Debug)]
pub(crate) struct Workloads {
    tree: Tree,
    forwarding: bool,
    rp_filter: String,
    endpoints: Arc<Endpoints>,
    /// Interfaces to look at.
    dirty: BTreeSet<Arc<str>>,
    /// What is wrong with each; empty if all is well. Absent: not looked at, or not there.
    checked: BTreeMap<Arc<str>, Vec<Failure>>,
    global_failures: Vec<Failure>,
    /// For which answer to "is IPv6 in use" the global settings were looked at, and were right.
    global_checked: Option<bool>,
    global_settled: Option<bool>,
    written: u64,
    repaired: u64,
}

impl Workloads {
    pub(crate) fn new(tree: Tree, forwarding: bool) -> Workloads {
        let rp_filter = tree.read("net/ipv4/conf/default/rp_filter");
        Workloads {
            rp_filter: rp_filter.map_or_else(
                |_| RP_FILTER_STRICT.to_owned(),
                |value| value.trim().to_owned(),
            ),
            tree,
            forwarding,
            endpoints: Arc::default(),
            dirty: BTreeSet::new(),
            checked: BTreeMap::new(),
            global_failures: Vec::new(),
            global_checked: None,
            global_settled: None,
            written: 0,
            repaired: 0,
        }
    }

    /// Says which endpoints there are.
    pub(crate) fn want(&mut self, endpoints: Arc<Endpoints>) {
        for (name, endpoint) in &endpoints.interfaces {
            if self.endpoints.interfaces.get(name) != Some(endpoint) {
                self.dirty.insert(name.clone());
            }
        }
        self.checked
            .retain(|name, _| endpoints.interfaces.contains_key(name));
        self.endpoints = endpoints;
    }

    /// The endpoints, by interface.
    pub(crate) fn endpoints(&self) -> &BTreeMap<Arc<str>, EndpointInterface> {
        &self.endpoints.interfaces
    }

    /// An interface is gone, and its settings with it.
    pub(crate) fn link_gone(&mut self, name: &str) {
        self.checked.remove(name);
    }

    /// An interface, or a setting of it, is new or different.
    pub(crate) fn link_changed(&mut self, name: &str) {
        if let Some((name, _)) = self.endpoints.interfaces.get_key_value(name) {
            self.dirty.insert(name.clone());
        }
    }

    /// A setting of the whole host is not what it was.
    pub(crate) fn settings_changed(&mut self) {
        self.global_checked = None;
    }

    /// Looks at everything again.
    pub(crate) fn audit(&mut self) {
        self.dirty.extend(self.endpoints.interfaces.keys().cloned());
        self.global_checked = None;
    }

    /// Looks again at what did not work.
    pub(crate) fn retry(&mut self) {
        let failed = self
            .checked
            .iter()
            .filter(|(_, failures)| !failures.is_empty());
        self.dirty.extend(failed.map(|(name, _)| name.clone()));
        if !self.global_failures.is_empty() {
            self.global_checked = None;
        }
    }

    /// Makes the settings hold that may not.
    pub(crate) fn apply(&mut self, host: &Host, ipv6: bool) {
        if self.forwarding && self.global_checked != Some(ipv6) {
            let outcome = self.tree.apply(sysctl::global(ipv6));
            if self.global_settled == Some(ipv6) {
                self.repaired += outcome.written;
            }
            self.global_checked = Some(ipv6);
            self.global_settled = outcome.failures.is_empty().then_some(ipv6);
            self.global_failures = self.take(outcome);
        }
        for name in std::mem::take(&mut self.dirty) {
            let Some(endpoint) = self.endpoints.interfaces.get(&name) else {
                continue;
            };
            if host.by_name(&name).is_none() {
                self.checked.remove(&name);
                continue;
            }
            let settings = sysctl::interface(
                &name,
                endpoint.has_ipv4(),
                endpoint.has_ipv6(),
                &self.rp_filter,
            );
            let outcome = self.tree.apply(settings);
            if self.checked.get(&name).is_some_and(Vec::is_empty) {
                self.repaired += outcome.written;
            }
            let failures = self.take(outcome);
            self.checked.insert(name, failures);
        }
    }

    fn take(&mut self, outcome: Outcome) -> Vec<Failure> {
        self.written += outcome.written;
        for (path, problem) in outcome.warnings {
            tracing::warn!(%path, %problem, "a setting does not hold");
        }
        outcome
            .failures
            .into_iter()
            .map(|(path, problem)| Failure {
                object: format!("sysctl {}", path.replace('/', ".")),
                problem,
            })
            .collect()
    }

    /// Whether the settings of an interface hold.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        self.checked.get(name).is_some_and(Vec::is_empty)
    }

    /// What does not work.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.global_failures
            .iter()
            .chain(self.checked.values().flatten())
    }

    /// Settings written so far, and those of them that repaired what others had changed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.written, self.repaired)
    }
}
