//! After `helm uninstall`: what Helm said is kept names the next commands, and these are run as they
//! stand there.

use std::env;

use anyhow::{Context, Result, ensure};
use e2e::command::output;
use e2e::kubernetes::workload::Pod;
use e2e::kubernetes::{Kubernetes, LIMIT, NAMESPACE};
use e2e::wait;

/// While pods are there they talk on their node; when they are gone nothing of ours is left.
pub(crate) fn for_good(cluster: &Kubernetes, pods: &[Pod]) -> Result<()> {
    let text = cluster.kubectl(&format!(
        "get -n {NAMESPACE} configmap/tortie-how-to-clean-up -o jsonpath={{.data.text}}"
    ))?;
    let clean_nodes = commands(&text, "1.")?;
    let said = bash(cluster, &clean_nodes)?;
    eprintln!("{said}");
    ensure!(said.contains("pods are attached by it"), "{said}");
    for machine in &cluster.machines {
        let here: Vec<Pod> = pods
            .iter()
            .filter(|pod| pod.node == machine.name)
            .cloned()
            .collect();
        cluster.all_reach_each_other(&here)?;
        let tables = machine.run("nft list tables")?;
        ensure!(!tables.contains("tortie"), "{}: {tables}", machine.name);
        ensure!(tables.contains("kube-proxy"), "{}: {tables}", machine.name);
    }

    // The runtime takes them down by the plugin, without an agent.
    cluster.kubectl("delete deployment web")?;
    wait::until("the pods and their interfaces to be gone", LIMIT, || {
        let left = cluster.items("pods -n default")?;
        ensure!(left.is_empty(), "{} pods", left.len());
        for machine in &cluster.machines {
            let links = machine.run("ip -br link show")?;
            ensure!(!links.contains("cali"), "{}: {links}", machine.name);
        }
        Ok(Some(()))
    })?;
    let said = bash(cluster, &clean_nodes)?;
    ensure!(said.contains("/host/opt/cni/bin/tortie-cni"), "{said}");
    ensure!(!said.contains("stays"), "{said}");
    for machine in &cluster.machines {
        let routes = machine.run("ip route show proto 80")?;
        ensure!(routes.is_empty(), "{}: {routes}", machine.name);
        let links = machine.run("ip link show")?;
        for ours in ["cali", "vxlan"] {
            ensure!(!links.contains(ours), "{}: {links}", machine.name);
        }
        for path in [
            "/opt/cni/bin/tortie-cni",
            "/etc/cni/net.d/10-tortie.conflist",
            "/var/lib/tortie",
            "/run/tortie",
        ] {
            let path = machine.path(path);
            ensure!(!path.exists(), "{} is left", path.display());
        }
        ensure!(machine.path("/opt/cni/bin/portmap").exists(), "of others");
    }

    bash(cluster, &commands(&text, "2.")?)?;
    let left = cluster.kubectl("get crd -o name")?;
    ensure!(left.is_empty(), "{left}");
    let left = cluster.kubectl("get all,configmaps,leases -n kube-system -o name")?;
    ensure!(!left.contains("tortie"), "{left}");
    let said = bash(cluster, &clean_nodes)?;
    let clean = said.matches("nothing to do").count();
    ensure!(clean == cluster.machines.len(), "{said}");
    Ok(())
}

/// The commands of a step.
fn commands(text: &str, step: &str) -> Result<String> {
    let begin = text.find(step).context("a step")?;
    let mut lines = text[begin..].lines().skip(1);
    let commands: Vec<&str> = lines
        .by_ref()
        .skip_while(|line| !line.starts_with("     "))
        .take_while(|line| line.starts_with("     "))
        .collect();
    ensure!(!commands.is_empty(), "no commands in {text}");
    Ok(commands.join("\n"))
}

fn bash(cluster: &Kubernetes, script: &str) -> Result<String> {
    let mut folders = cluster.tools();
    folders.extend(env::split_paths(&env::var_os("PATH").context("a PATH")?));
    let mut command = cluster.command("bash");
    command
        .env("PATH", env::join_paths(folders)?)
        .args(["-euxo", "pipefail", "-c", script]);
    let said = output(&mut command)?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
