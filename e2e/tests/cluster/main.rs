//! Our image and our chart in a real cluster.
//!
//! `make e2e-kubernetes` runs it; `cargo test` does not, because it needs the programs of
//! Kubernetes, which `e2e/kubernetes/get-tools` builds.

use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use e2e::kubernetes::workload::Pod;
use e2e::kubernetes::{Kubernetes, NAMESPACE, RELEASE, diagnostics};
use e2e::lab::Namespace;
use e2e::traffic::{Count, Flow};

mod install;
mod leaving;
mod reflectors;
mod takeover;
mod trouble;

/// Packets a second.
const RATE: u32 = 1000;

/// One cluster at a time: each has eleven daemons.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs one test in a cluster of its own, with our chart.
fn scenario(
    name: &str,
    values: &str,
    test: impl FnOnce(&mut Kubernetes) -> Result<()>,
) -> Result<()> {
    with_cluster(name, |cluster| {
        cluster.deploy("install", values)?;
        test(cluster)
    })
}

/// Runs one test in a cluster of its own, without any network for pods. A failure carries the state
/// of everything.
fn with_cluster(name: &str, test: impl FnOnce(&mut Kubernetes) -> Result<()>) -> Result<()> {
    let _only = MACHINE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut cluster = Kubernetes::start(name)?;
    test(&mut cluster).map_err(|error| {
        let state = diagnostics::collect(&cluster);
        error.context(format!("{state}\n{name} failed"))
    })
}

/// The chart grants what its programs ask for; what was refused before the API server knew of a right was granted later.
fn nothing_is_refused(cluster: &Kubernetes) -> Result<()> {
    for part in ["agent", "controller"] {
        let account = format!("{RELEASE}-{part}");
        let granted = cluster.api.granted(NAMESPACE, &account)?;
        ensure!(!granted.is_empty(), "{account} asked for nothing");
        let refused = cluster.api.refused(NAMESPACE, &account)?;
        let lacking: Vec<_> = refused.difference(&granted).collect();
        ensure!(lacking.is_empty(), "{account} may not {lacking:?}");
    }
    Ok(())
}

/// Packets flow between two nodes, both ways, while something happens; none is lost.
fn nothing_is_lost(
    cluster: &mut Kubernetes,
    pods: &[Pod],
    happens: impl FnOnce(&mut Kubernetes) -> Result<()>,
) -> Result<()> {
    let [one, two] = pods_of_two_nodes(cluster, pods)?;
    let flows = [(&one, &two), (&two, &one)]
        .map(|((_, from), (pod, to))| Flow::start(from, to, pod.address, RATE));
    let outcome = happens(cluster);
    let counts: Vec<Count> = flows
        .into_iter()
        .map(|flow| flow?.stop())
        .collect::<Result<_>>()?;
    eprintln!("{counts:?}");
    outcome?;
    ensure!(counts.iter().all(|count| count.lost() == 0), "{counts:?}");
    Ok(())
}

fn pods_of_two_nodes(cluster: &Kubernetes, pods: &[Pod]) -> Result<[(Pod, Namespace); 2]> {
    let one = pods.first().context("a pod")?;
    let two = pods.iter().find(|pod| pod.node != one.node);
    let two = two.context("a pod of another node")?;
    let entered = |pod: &Pod| Ok::<_, anyhow::Error>((pod.clone(), cluster.enter(pod)?));
    Ok([entered(one)?, entered(two)?])
}
