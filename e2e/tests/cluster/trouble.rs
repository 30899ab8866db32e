//! Daemons that die, an API server that is away, a node that is deleted, pods that come and go:
//! afterwards exactly the pods that run have an address.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::kubernetes::machine::Daemon;
use e2e::kubernetes::workload::Pod;
use e2e::kubernetes::{Kubernetes, LIMIT, NAMESPACE, NODES, RELEASE};
use e2e::wait;
use nix::sys::signal::Signal;

use crate::{nothing_is_lost, scenario};

const PODS: usize = 9;
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(120);
/// Pods that are made and deleted, and how often.
const CROWD: usize = 60;
const TIMES: usize = 5;

#[test]
fn addresses_in_use_are_those_of_pods_after_all_kinds_of_trouble() -> Result<()> {
    scenario("k8s-trouble", "", |cluster| {
        let pods = cluster.run_pods("web", PODS)?;
        cluster.wait_for_accounts()?;
        nothing_is_lost(cluster, &pods, |cluster| daemons_die(cluster, &pods))?;
        nothing_is_lost(cluster, &pods, pods_end_without_api_server)?;
        ensure!(cluster.pods("web")? == pods, "pods were replaced");
        crowds_come_and_go(cluster)?;
        cluster.wait_for_accounts()?;
        a_node_is_deleted(cluster)?;
        cluster.wait_for_accounts()?;
        let pods = cluster.pods("web")?;
        ensure!(pods.len() == PODS, "{pods:#?}");
        cluster.all_reach_each_other(&pods)
    })
}

/// Kubelets and runtimes are killed and come back; pods do not notice.
fn daemons_die(cluster: &mut Kubernetes, pods: &[Pod]) -> Result<()> {
    for daemon in [Daemon::Kubelet, Daemon::Containerd] {
        for machine in &mut cluster.machines {
            machine.stop_daemon(daemon, Signal::SIGKILL)?;
            machine.start_daemon(daemon)?;
        }
    }
    // Whoever asks the runtime for a new pod finds everything working.
    cluster.run_pods("after", NODES)?;
    cluster.kubectl("delete deployment after --wait")?;
    cluster.wait_for_accounts()?;
    ensure!(cluster.pods("web")? == pods, "pods were replaced");
    Ok(())
}

/// Pods are deleted, and before their time is over the API server goes, for two minutes.
fn pods_end_without_api_server(cluster: &mut Kubernetes) -> Result<()> {
    cluster.api.apply(SLOW)?;
    cluster.kubectl(&format!(
        "rollout status deployment/slow --timeout={}s",
        LIMIT.as_secs()
    ))?;
    let before = sandboxes(cluster)?;
    cluster.kubectl("delete deployment slow --wait=false")?;
    wait::until_true("the kubelets to know", LIMIT, || {
        let pods = cluster.items("pods -n default -l app=slow")?;
        let deleted = |pod: &serde_json::Value| !pod["metadata"]["deletionTimestamp"].is_null();
        let events = cluster.items("events -n default --field-selector reason=Killing")?;
        let slow = |event: &&serde_json::Value| {
            let name = event["involvedObject"]["name"].as_str();
            name.is_some_and(|name| name.starts_with("slow-"))
        };
        let known = events.iter().filter(slow).count();
        Ok(pods.iter().all(deleted) && known >= NODES)
    })?;
    cluster.api.stop(Signal::SIGKILL)?;
    let start = Instant::now();
    wait::until("the pods to end without API server", LIMIT, || {
        let now = sandboxes(cluster)?;
        ensure!(now + NODES == before, "{now} of {before} sandboxes");
        Ok(Some(()))
    })?;
    std::thread::sleep(AWAY.saturating_sub(start.elapsed()));
    cluster.api.start_server()?;
    cluster.wait_for_accounts()
}

/// Networks of pods, in all nodes.
fn sandboxes(cluster: &Kubernetes) -> Result<usize> {
    let mut all = 0;
    for machine in &cluster.machines {
        all += machine.sandboxes()?.len();
    }
    Ok(all)
}

/// Three hundred pods.
fn crowds_come_and_go(cluster: &Kubernetes) -> Result<()> {
    for _ in 0..TIMES {
        cluster.run_pods("crowd", CROWD)?;
        cluster.kubectl("delete deployment crowd --wait")?;
    }
    Ok(())
}

/// Its pods go with it; when its kubelet starts anew, it is a node like the others.
fn a_node_is_deleted(cluster: &mut Kubernetes) -> Result<()> {
    let name = format!("node{NODES}");
    cluster.kubectl(&format!("delete node {name}"))?;
    wait::until("the pods of the node to be gone", LIMIT, || {
        let left = cluster.items(&format!("pods -A --field-selector spec.nodeName={name}"))?;
        ensure!(left.is_empty(), "{} pods", left.len());
        Ok(Some(()))
    })?;
    for machine in &mut cluster.machines {
        if machine.name == name {
            machine.stop_daemon(Daemon::Kubelet, Signal::SIGTERM)?;
            machine.start_daemon(Daemon::Kubelet)?;
        }
    }
    wait::until_true("the node to be there again", LIMIT, || {
        Ok(cluster.items("nodes")?.len() == NODES)
    })?;
    let seconds = LIMIT.as_secs();
    for line in [
        format!("wait --for=condition=Ready node/{name} --timeout={seconds}s"),
        format!("rollout status daemonset/{RELEASE}-agent -n {NAMESPACE} --timeout={seconds}s"),
        format!("rollout status deployment/web --timeout={seconds}s"),
    ] {
        cluster.kubectl(&line)?;
    }
    // New pods come to it.
    cluster.run_pods("new", NODES)?;
    Ok(())
}

/// One pod on each node that takes its ten seconds to end.
const SLOW: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: slow, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: slow}}
  template:
    metadata: {labels: {app: slow}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 10
      containers:
        - name: slow
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [/bin/sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]
";
