//! A real cluster: etcd, API server, controllers, scheduler, and nodes with containerd and kubelet.
//!
//! ```text
//!   pods   pods   pods
//!    |      |      |
//!  node1  node2  node3    api (etcd, kube-apiserver, kube-controller-manager, kube-scheduler)
//!    |      |      |       |
//!  --+------+------+-------+--  192.0.2.0/24
//! ```
//!
//! Our programs come into it as on any cluster: in an image, by Helm and the chart.
//! [`accounts`] compares who has which address, [`machine`] is a node, [`workload`] what runs on it, [`janitor`] removes everything in the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::apiserver::ApiServer;
use crate::cluster::node_addresses;
use crate::command::{binary, output, run};
use crate::lab::{self, Lab, Namespace};
use crate::wait;

pub mod accounts;
pub mod diagnostics;
pub mod janitor;
pub mod machine;
pub mod workload;

use janitor::Janitor;
use machine::Machine;

/// Address of the API server.
pub const API: &str = "192.0.2.5";
/// Namespace that our release is in.
pub const NAMESPACE: &str = "kube-system";
/// Name of our release.
pub const RELEASE: &str = "tortie";
/// The nodes of a cluster.
pub const NODES: usize = 3;
/// What takes its time where the machine is busy: Helm that waits, pods that start.
pub const LIMIT: Duration = Duration::from_secs(240);

/// A running cluster.
#[derive(Debug)]
pub struct Kubernetes {
    /// The nodes, in order of their names.
    pub machines: Vec<Machine>,
    /// The API server.
    pub api: ApiServer,
    controllers: Vec<Child>,
    host: Namespace,
    helm: PathBuf,
    images: Vec<PathBuf>,
    lab: Lab,
    _janitor: Janitor,
}

impl Kubernetes {
    /// Starts one without any network for pods, so that no node is ready.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_with(name, NODES)
    }

    /// As [`Kubernetes::start`], with so many nodes.
    pub fn start_with(name: &str, nodes: usize) -> Result<Self> {
        crate::command::require(TOOLS)?;
        remove(name)?;
        let janitor = Janitor::start(name)?;
        let lab = Lab::new(name)?;
        let images = images(&lab.folder().join("images"))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/get-helm");
        let helm = run(&script.display().to_string(), &["3"])?.trim().into();
        let host = lab.namespace("api")?;
        lab.plug(&host, "api", &[&format!("{API}/24")])?;
        let api = ApiServer::of_cluster(&lab.folder().join("api"), &host, API.parse()?)?;
        let mut cluster = Self {
            machines: Vec::new(),
            controllers: controllers(&api)?,
            api,
            host,
            helm,
            images,
            lab,
            _janitor: janitor,
        };
        for number in 1..=nodes {
            cluster.add_machine(number)?;
        }
        cluster.wait_for_nodes()?;
        Ok(cluster)
    }

    /// Makes a node and starts its daemons.
    pub fn add_machine(&mut self, number: usize) -> Result<()> {
        let [address, _] = node_addresses(number);
        let name = format!("node{number}");
        let mut machine = Machine::new(&self.lab, &name, &format!("{address}/24"), API)?;
        machine.start(&self.api, &self.images)?;
        self.machines.push(machine);
        Ok(())
    }

    /// Waits until every machine has its Node object.
    fn wait_for_nodes(&self) -> Result<()> {
        let what = "the kubelets to make their Nodes";
        wait::until(what, LIMIT, || {
            let nodes = self.items("nodes")?;
            ensure!(nodes.len() == self.machines.len(), "{} Nodes", nodes.len());
            Ok(Some(()))
        })
        .map(drop)
    }

    /// The lab it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The machine of this name.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        self.machines
            .iter()
            .find(|machine| machine.name == name)
            .with_context(|| format!("there is no {name}"))
    }

    /// Runs kubectl as an administrator; `line` is split at spaces.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        self.api.kubectl(line)
    }

    /// Objects that `kubectl get` answers.
    pub fn items(&self, line: &str) -> Result<Vec<Value>> {
        let list = self.api.kubectl_json(&format!("get {line}"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Runs Helm in the namespace of our release; `line` is split at spaces.
    pub fn helm(&self, line: &str) -> Result<String> {
        let mut command = self.command(&self.helm);
        command.args(["--namespace", NAMESPACE]);
        let output = output(command.args(line.split_whitespace()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Installs the chart with the first image, or upgrades to what these values ask for, and waits
    /// until every agent is the one that was asked for. Returns what Helm said.
    pub fn deploy(&self, verb: &str, values: &str) -> Result<String> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tortie");
        let seconds = LIMIT.as_secs();
        let said = self.helm(&format!(
            "{verb} {RELEASE} {} --wait --timeout {seconds}s --set image.tag=v1,image.pullPolicy=Never {values}",
            chart.canonicalize()?.display(),
        ))?;
        // Helm is content when as many agents as may be away are still to come.
        self.kubectl(&format!(
            "rollout status daemonset/{RELEASE}-agent -n {NAMESPACE} --timeout={seconds}s"
        ))?;
        Ok(said)
    }

    /// A program that finds the API server as kubectl does, on a host beside the nodes.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.host.command(program);
        command
            .env("KUBECONFIG", self.api.file("admin.kubeconfig"))
            .env("HOME", self.lab.folder());
        command
    }

    /// Folders with kubectl and Helm of this cluster.
    pub fn tools(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.api.tools().to_owned()];
        folders.extend(self.helm.parent().map(Path::to_owned));
        folders
    }
}

/// Removes a cluster of this name that an earlier run left. Nothing there is fine.
pub fn remove(name: &str) -> Result<()> {
    lab::remove(name)?;
    remove_cgroups(&cgroup(name))
}

/// The cgroup that everything of this cluster is below, in each hierarchy.
fn cgroup(lab: &str) -> String {
    format!("tortie-{lab}")
}

fn remove_cgroups(name: &str) -> Result<()> {
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let top = hierarchy?.path().join(name);
        if top.is_dir() {
            // A cgroup is empty a moment after its last process has ended.
            wait::until("cgroups to be removed", Duration::from_secs(10), || {
                remove_below(&top)?;
                Ok(Some(()))
            })?;
        }
    }
    Ok(())
}

fn remove_below(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_below(&path)?;
        }
    }
    fs::remove_dir(folder).with_context(|| folder.display().to_string())
}

/// Debian's programs that a cluster is made of.
const TOOLS: &[(&str, &str)] = &[
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("openssl", "openssl"),
    ("pgrep", "procps"),
];

/// Builds the images and returns their archives.
fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/images");
    let felix = binary("tortie-felix")?;
    let programs = felix.parent().context("programs without folder")?;
    run(&script.display().to_string(), &[programs, folder])?;
    let names = ["busybox.tar", "tortie-1.tar", "tortie-2.tar"];
    Ok(names.map(|name| folder.join(name)).to_vec())
}

fn controllers(api: &ApiServer) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let kubeconfig = api.kubeconfig(&format!("system:{name}"), &[])?;
        let file = |name: &str| api.file(name).display().to_string();
        let mut arguments = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        if name == "kube-controller-manager" {
            arguments.extend([
                format!(
                    "--service-account-private-key-file={}",
                    file("service-accounts.key")
                ),
                format!("--root-ca-file={}", file("ca.crt")),
                "--use-service-account-credentials".to_owned(),
            ]);
        }
        let program = api.tools().join(name);
        children.push(api.spawn(&program, &arguments, &format!("{name}.log"))?);
    }
    Ok(children)
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        for child in &mut self.controllers {
            // The lab would end them too; this also takes leave of them.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.machines.clear();
        if let Err(error) = remove_cgroups(&cgroup(self.lab.name())) {
            eprintln!("cgroups of the cluster stay: {error:#}");
        }
    }
}
