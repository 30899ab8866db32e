//! Everything of a real cluster, for the reader of a failed run.

use std::fmt::Write;

use super::machine::Daemon;
use super::{Kubernetes, NAMESPACE};

const LOG_LINES: usize = 40;
/// What kubectl is asked for.
const QUESTIONS: [&str; 6] = [
    "get nodes,pods,daemonsets,deployments,services -A -o wide",
    "get nodestatuses,ippools,blockaffinities,bgppeers",
    "get events -A --sort-by=.lastTimestamp",
    "describe nodes",
    "logs -n kube-system -l app.kubernetes.io/part-of=tortie --all-containers --prefix --tail=60",
    "logs -n kube-system -l app.kubernetes.io/part-of=tortie --all-containers --prefix --tail=30 --previous",
];

/// Collects objects, logs, routes and packet rules.
pub fn collect(cluster: &Kubernetes) -> String {
    let mut text = String::new();
    for question in QUESTIONS {
        section(&mut text, "kubectl", question, cluster.kubectl(question));
    }
    let pods = format!("describe pods -n {NAMESPACE}");
    section(&mut text, "kubectl", &pods, cluster.kubectl(&pods));
    for machine in &cluster.machines {
        for line in ["ip -4 route", "ip -d address", "nft list table inet tortie"] {
            section(&mut text, &machine.name, line, machine.run(line));
        }
        for daemon in [Daemon::Containerd, Daemon::Kubelet, Daemon::KubeProxy] {
            let log = std::fs::read_to_string(machine.log(daemon)).unwrap_or_default();
            // klog's first letter is how serious it is; what is normal is too much to read.
            let lines: Vec<_> = log.lines().filter(|line| !line.starts_with('I')).collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            section(&mut text, &machine.name, daemon.program(), Ok(tail));
        }
    }
    text
}

fn section(text: &mut String, place: &str, what: &str, content: anyhow::Result<String>) {
    let content = content.unwrap_or_else(|error| format!("({error:#})"));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "--- {place}: {what}\n{}", content.trim_end());
}
