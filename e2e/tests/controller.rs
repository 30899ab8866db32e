//! Controllers on a real API server, with the rights that the chart grants and no others.
//!
//! `make e2e-api` runs it; `cargo test` does not, because it needs kube-apiserver, which
//! `e2e/kubernetes/get-tools` builds. There is no agent and no kubelet: objects are written as they would.

#[path = "controller/reflectors.rs"]
mod reflectors;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::apiserver::ApiServer;
use e2e::command::binary;
use e2e::process::Process;
use e2e::{rights, wait};
use nix::sys::signal::Signal;

const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "t-tortie-controller";
const LIMIT: Duration = Duration::from_secs(60);
/// Requests that are granted and need not come in this test.
const SPARED: [(&str, &str); 2] = [
    // A kind that an older version did not know.
    ("create", "customresourcedefinitions"),
    // A block that somebody deletes while an interrupted release of it is taken back.
    ("create", "ipamblocks"),
];

struct Cluster {
    api: ApiServer,
    kubeconfig: PathBuf,
    /// Goes last.
    folder: Folder,
}

struct Folder(PathBuf);

impl Cluster {
    fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("tortie-controller-{}", std::process::id()));
        let folder = Folder(folder);
        let api = ApiServer::on_loopback(&folder.0.join("api"))?;
        api.apply_crds()?;
        let templates = ["templates/controller.yaml", "templates/reflectors.yaml"];
        api.apply(&rights::of_chart(NAMESPACE, &templates)?)?;
        let kubeconfig = api.kubeconfig_of_account(NAMESPACE, ACCOUNT)?;
        Ok(Self {
            api,
            kubeconfig,
            folder,
        })
    }

    /// Names of the objects of a kind.
    fn names(&self, kind: &str) -> Result<BTreeSet<String>> {
        let text = self.api.kubectl(&format!("get {kind} -o name"))?;
        let names = text.lines().filter_map(|line| line.split_once('/'));
        Ok(names.map(|(_, name)| name.to_owned()).collect())
    }

    fn leader(&self) -> Result<String> {
        let lease = self
            .api
            .kubectl_json(&format!("get lease -n {NAMESPACE} tortie-controller"))?;
        let holder = lease["spec"]["holderIdentity"].as_str();
        Ok(holder.context("a holder")?.to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is not removed: {error}", self.0.display());
        }
    }
}

/// A running controller.
struct Controller {
    process: Process,
    name: &'static str,
    address: String,
}

impl Controller {
    fn start(cluster: &Cluster, name: &'static str, number: u8) -> Result<Self> {
        let address = format!("127.0.78.{number}:9094");
        let log = cluster.folder.0.join(format!("{name}.log"));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary("tortie-controller")?)
            .args([
                "--datastore=kubernetes",
                "--interval=1s",
                "--settle-after=1s",
                "--upgrade-crds",
                &format!("--reflectors={}", reflectors::LABELS),
            ])
            .arg(format!("--admin={address}"))
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .env("TORTIE_POD_NAME", name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .context("start tortie-controller")?;
        Ok(Self {
            process: Process::new(child, log),
            name,
            address,
        })
    }

    fn get(&self, page: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    fn leads(&self) -> Result<bool> {
        let page = self.get("/metrics")?;
        Ok(page
            .lines()
            .any(|line| line == "tortie_controller_leader 1"))
    }
}

/// A block of a node with some addresses, and what belongs to it, as an agent writes it.
fn block(node: &str, third: u8, pods: usize) -> String {
    let cidr = format!("10.244.{third}.0/29");
    let name = format!("10-244-{third}-0-29");
    let list = |items: Vec<String>| items.join(", ");
    let allocations = (0..8).map(|ordinal| match ordinal < pods {
        true => ordinal.to_string(),
        false => "null".to_owned(),
    });
    let attributes = (0..pods).map(|pod| {
        format!(
            "{{handle_id: net.{node}-{pod}, secondary: {{namespace: default, node: {node}, pod: {node}-{pod}, \
             timestamp: \"2026-01-02 03:04:05 +0000 UTC\"}}}}"
        )
    });
    let unallocated = (pods..8).map(|ordinal| ordinal.to_string());
    let mut text = format!(
        "---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {{name: {name}}}
spec: {{affinity: \"host:{node}\", cidr: {cidr}, deleted: false, strictAffinity: false, sequenceNumber: 1767323045123456789,
  allocations: [{}], attributes: [{}], unallocated: [{}]}}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {{name: {node}-{name}}}
spec: {{cidr: {cidr}, deleted: \"false\", node: {node}, state: confirmed}}
",
        list(allocations.collect()),
        list(attributes.collect()),
        list(unallocated.collect()),
    );
    for pod in 0..pods {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "---
apiVersion: crd.projectcalico.org/v1
kind: IPAMHandle
metadata: {{name: net.{node}-{pod}}}
spec: {{handleID: net.{node}-{pod}, deleted: false, block: {{{cidr}: 1}}}}
"
        );
    }
    text
}

/// A node with its pods, as a kubelet shows them.
fn node(api: &ApiServer, name: &str, third: u8, pods: usize) -> Result<()> {
    let mut text = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    for pod in 0..pods {
        let _ = write!(
            text,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}-{pod}, namespace: default}}, \
             spec: {{nodeName: {name}, containers: [{{name: c, image: none}}]}}}}\n"
        );
    }
    api.apply(&text)?;
    for pod in 0..pods {
        let address = format!("10.244.{third}.{pod}");
        api.kubectl(&format!(
            "patch pod {name}-{pod} --subresource=status --type=merge \
             -p={{\"status\":{{\"podIP\":\"{address}\",\"podIPs\":[{{\"ip\":\"{address}\"}}]}}}}"
        ))?;
    }
    Ok(())
}

#[test]
fn one_of_two_controllers_leads_and_uses_what_the_chart_grants() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let api = &cluster.api;
    api.apply(
        "{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {name: pool}, \
         spec: {cidr: 10.244.0.0/16, blockSize: 29}}",
    )?;
    for (name, third) in [("node1", 1), ("node3", 3), ("node4", 4)] {
        node(api, name, third, 2)?;
        api.apply(&block(name, third, 2))?;
    }
    // A node that is gone, and what its agent said last.
    api.apply(&block("node2", 2, 3))?;
    api.apply("{apiVersion: tortie.dev/v1alpha1, kind: NodeStatus, metadata: {name: node2}, spec: {node: node2}}")?;
    api.kubectl(
        "patch nodestatus node2 --subresource=status --type=merge \
         -p={\"status\":{\"observedAt\":\"2026-01-01T00:00:00Z\"}}",
    )?;
    api.apply(PEERING)?;
    api.kubectl(
        "patch nodestatus node1 --subresource=status --type=merge \
         -p={\"status\":{\"peers\":[{\"name\":\"Global_192_0_2_1\",\"object\":\"BGPPeer/tor\",\"peerIP\":\"192.0.2.1\",\
         \"type\":\"GlobalPeer\",\"state\":\"Established\",\"received\":0,\"accepted\":0,\"best\":0,\"advertised\":0}]}}",
    )?;
    // What interrupted operations left: a block without claim, addresses without handle.
    api.kubectl("delete blockaffinity node3-10-244-3-0-29")?;
    api.kubectl("delete ipamhandle net.node3-0")?;

    let clients = reflectors::Companion::start(&cluster)?;
    reflectors::annotate(api, "node1", "192.0.2.11")?;
    reflectors::annotate(api, "node3", "192.0.2.13")?;
    clients.wait_for(&["192.0.2.11", "192.0.2.13"])?;

    let mut controllers = [
        Controller::start(&cluster, "one", 1)?,
        Controller::start(&cluster, "two", 2)?,
    ];
    let leader = lead(&cluster, &controllers, LIMIT)?;
    collected(&cluster)?;
    figures_are_shown(api)?;

    // Later: an API server that has just started refuses everybody.
    nothing_is_refused(&cluster, &["one", "two"])?;

    // Cut off, the leader stops; then one leads again, and nothing was freed.
    cluster.api.stop(Signal::SIGKILL)?;
    let start = Instant::now();
    wait::until("nobody to lead without API server", LIMIT, || {
        Ok((!controllers[0].leads()? && !controllers[1].leads()?).then_some(()))
    })?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(13), "it led on for {took:?}");
    clients.wait_for(&["192.0.2.11", "192.0.2.13"])?;
    cluster.api.start_server()?;
    let after = lead(&cluster, &controllers, LIMIT)?;
    eprintln!(
        "{} led, cut off it stopped after {took:?}, then {} led",
        controllers[leader].name, controllers[after].name
    );
    collected(&cluster)?;
    reflectors::annotate(&cluster.api, "node4", "192.0.2.14")?;
    reflectors::annotate(&cluster.api, "node1", "192.0.2.19")?;
    clients.wait_for(&["192.0.2.19", "192.0.2.13", "192.0.2.14"])?;

    // Killed, it is waited for; ended, it is not.
    let start = Instant::now();
    controllers[after].process.end(Signal::SIGKILL)?;
    let other = 1 - after;
    wait::until("the other one to lead", LIMIT, || {
        Ok(controllers[other].leads()?.then_some(()))
    })?;
    let took = start.elapsed();
    ensure!(took > Duration::from_secs(10), "it led after {took:?}");
    eprintln!("killed, replaced after {took:?}");
    controllers[after] = Controller::start(&cluster, "three", 3)?;
    wait::until("it to stand by", LIMIT, || {
        Ok(controllers[after]
            .get("/readyz")?
            .contains("200 OK")
            .then_some(()))
    })?;
    let start = Instant::now();
    controllers[other].process.end(Signal::SIGTERM)?;
    wait::until("the next one to lead", LIMIT, || {
        Ok(controllers[after].leads()?.then_some(()))
    })?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(8), "it led after {took:?}");
    eprintln!("ended, replaced after {took:?}");
    ensure!(cluster.leader()?.starts_with("three_"));

    collected(&cluster)?;
    a_deleted_pool_stays_until_nobody_uses_it(&cluster, &controllers[after])?;
    reflectors::agents_are_led_to_reflectors(&cluster)?;
    nothing_is_refused(&cluster, &["three"])?;
    for account in [ACCOUNT, reflectors::ACCOUNT] {
        rights::are_used(&cluster.api, NAMESPACE, account, &SPARED)?;
    }
    Ok(())
}

/// A peering, and what one node says of it.
const PEERING: &str = "
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.1, asNumber: 64512}
---
apiVersion: tortie.dev/v1alpha1
kind: NodeStatus
metadata: {name: node1}
spec: {node: node1}
";

/// What `kubectl get` shows of pools and peerings.
fn figures_are_shown(api: &ApiServer) -> Result<()> {
    wait::until("pool and peering to have figures", LIMIT, || {
        let pool = &api.kubectl_json("get ippool pool")?["status"];
        ensure!(pool["used"] == 6 && pool["free"] == 65530, "{pool}");
        let peer = &api.kubectl_json("get bgppeer tor")?["status"];
        ensure!(peer["sessions"] == 1 && peer["established"] == 1, "{peer}");
        Ok(Some(()))
    })?;
    eprintln!("{}", api.kubectl("get ippools,bgppeers")?);
    Ok(())
}

/// Which one leads, once exactly one does.
fn lead(cluster: &Cluster, controllers: &[Controller; 2], limit: Duration) -> Result<usize> {
    let (leader, _) = wait::until("one of the two to lead", limit, || {
        let leads = [controllers[0].leads()?, controllers[1].leads()?];
        ensure!(leads != [true, true], "both lead");
        Ok(leads.iter().position(|leads| *leads))
    })?;
    let holder = cluster.leader()?;
    ensure!(
        holder.starts_with(controllers[leader].name),
        "{holder} has the Lease"
    );
    Ok(leader)
}

/// What node2 had is gone, the rest is whole.
fn collected(cluster: &Cluster) -> Result<()> {
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let expected = [
        (
            "ipamblocks",
            set(&["10-244-1-0-29", "10-244-3-0-29", "10-244-4-0-29"]),
        ),
        (
            "blockaffinities",
            set(&[
                "node1-10-244-1-0-29",
                "node3-10-244-3-0-29",
                "node4-10-244-4-0-29",
            ]),
        ),
        (
            "ipamhandles",
            set(&[
                "net.node1-0",
                "net.node1-1",
                "net.node3-0",
                "net.node3-1",
                "net.node4-0",
                "net.node4-1",
            ]),
        ),
        ("nodestatuses", set(&["node1"])),
    ];
    for (kind, names) in expected {
        wait::until(&format!("{kind} to be those in use"), LIMIT, || {
            let there = cluster.names(kind)?;
            ensure!(there == names, "{there:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

fn a_deleted_pool_stays_until_nobody_uses_it(cluster: &Cluster, leader: &Controller) -> Result<()> {
    let api = &cluster.api;
    let pool = api.kubectl_json("get ippool pool")?;
    let finalizers = &pool["metadata"]["finalizers"];
    ensure!(finalizers[0] == "tortie.dev/ippool-in-use", "{finalizers}");
    api.kubectl("delete ippool pool --wait=false")?;
    wait::until("the controller to say who uses the pool", LIMIT, || {
        let page = leader.get("/sweep")?;
        ensure!(page.contains("\"deletedPools\":{\"pool\":6}"), "{page}");
        Ok(Some(()))
    })?;
    // Long enough for a pool that nobody uses.
    std::thread::sleep(Duration::from_secs(12));
    ensure!(cluster.names("ippools")?.contains("pool"));
    // The pods end, and their agents free the addresses.
    for (node, third) in [("node1", 1), ("node3", 3), ("node4", 4)] {
        api.kubectl(&format!(
            "delete --force --grace-period=0 pod/{node}-0 pod/{node}-1"
        ))?;
        api.apply(&block(node, third, 0))?;
        api.kubectl(&format!("delete ipamhandle net.{node}-0 net.{node}-1"))?;
    }
    for kind in ["ipamblocks", "blockaffinities", "ippools"] {
        wait::until(&format!("no {kind} to be there"), LIMIT, || {
            let there = cluster.names(kind)?;
            ensure!(there.is_empty(), "{there:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// Nothing that these have asked for was refused.
fn nothing_is_refused(cluster: &Cluster, names: &[&str]) -> Result<()> {
    for name in names {
        let log = std::fs::read_to_string(cluster.folder.0.join(format!("{name}.log")))?;
        let refused = log.lines().find(|line| line.contains("forbidden"));
        ensure!(refused.is_none(), "{name}: {refused:?}");
    }
    Ok(())
}
