//! Reflectors in pods: their clients come from the API server, and agents are led to them.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::apiserver::ApiServer;
use e2e::command::{binary, run};
use e2e::wait;
use serde_json::Value;

use crate::{Cluster, LIMIT, NAMESPACE};

/// Account of the pods with reflectors.
pub(crate) const ACCOUNT: &str = "t-tortie-reflector";
pub(crate) const LABELS: &str =
    "app.kubernetes.io/instance=t,app.kubernetes.io/component=reflector";

/// The companion of one reflector.
pub(crate) struct Companion {
    child: Child,
    file: PathBuf,
}

impl Companion {
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let kubeconfig = cluster.api.kubeconfig_of_account(NAMESPACE, ACCOUNT)?;
        let file = cluster.folder.0.join("bgp.yaml");
        let log = File::create(cluster.folder.0.join("clients.log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary("tortie-controller")?)
            .args(["clients", "--datastore=kubernetes", "--address=192.0.2.23"])
            .args(["--cluster-id=198.51.100.1", "--output"])
            .arg(&file)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start the companion")?;
        Ok(Self { child, file })
    }

    /// Waits until the clients are exactly these, and tortie-bgp takes the file.
    pub(crate) fn wait_for(&self, clients: &[&str]) -> Result<()> {
        let what = format!("the clients to be {clients:?}");
        wait::until(&what, LIMIT, || {
            let file: Value = serde_json::from_str(&self.text()?)?;
            let peers = file["peers"].as_array().context("peers")?;
            let there: Vec<&str> = peers.iter().filter_map(|p| p["address"].as_str()).collect();
            ensure!(there == clients, "{there:?}");
            Ok(Some(()))
        })?;
        let speaker = binary("tortie-bgp")?.display().to_string();
        run(&speaker, &["check", &self.file.display().to_string()]).map(drop)
    }

    pub(crate) fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.file).context("the file of the reflector")
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An agent writes where its node is.
pub(crate) fn annotate(api: &ApiServer, node: &str, address: &str) -> Result<()> {
    let line =
        format!("annotate --overwrite node {node} projectcalico.org/IPv4Address={address}/24");
    api.kubectl(&line).map(drop)
}

/// A reflector that is ready on a node, as scheduler and kubelet show it.
fn start(api: &ApiServer, node: &str, address: &str) -> Result<()> {
    let labels = LABELS.replace('=', ": ").replace(',', ", ");
    api.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: reflector-{node}, namespace: {NAMESPACE}, labels: {{{labels}}}}}, \
         spec: {{nodeName: {node}, hostNetwork: true, containers: [{{name: c, image: none}}]}}}}"
    ))?;
    api.kubectl(&format!(
        "patch pod -n {NAMESPACE} reflector-{node} --subresource=status --type=merge \
         -p={{\"status\":{{\"phase\":\"Running\",\"hostIP\":\"{address}\",\"hostIPs\":[{{\"ip\":\"{address}\"}}],\
         \"conditions\":[{{\"type\":\"Ready\",\"status\":\"True\"}}]}}}}"
    ))
    .map(drop)
}

fn name(last: u8) -> String {
    format!("tortie-reflector-192-0-2-{last}-1790")
}

fn wait_for_peers(cluster: &Cluster, last: &[u8]) -> Result<()> {
    let names: Vec<String> = last.iter().map(|last| name(*last)).collect();
    wait::until(&format!("the BGPPeers to be {names:?}"), LIMIT, || {
        let mut there = cluster.names("bgppeers")?;
        there.remove("tor");
        ensure!(there.iter().eq(&names), "{there:?}");
        Ok(Some(()))
    })
    .map(drop)
}

/// First the BGPPeer of the new one, then, when all agents have another, that of the old one goes.
pub(crate) fn agents_are_led_to_reflectors(cluster: &Cluster) -> Result<()> {
    let api = &cluster.api;
    start(api, "node3", "192.0.2.23")?;
    start(api, "node4", "192.0.2.24")?;
    wait_for_peers(cluster, &[23, 24])?;
    let spec = &api.kubectl_json(&format!("get bgppeer {}", name(23)))?["spec"];
    ensure!(
        spec["peerIP"] == "192.0.2.23:1790"
            && spec["asNumber"] == 64512
            && spec["nodeSelector"] == "all()",
        "{spec}"
    );
    // One moves. The agent of node1 has no session with a reflector that is left.
    api.kubectl(&format!(
        "delete --force --grace-period=0 -n {NAMESPACE} pod/reflector-node3"
    ))?;
    start(api, "node1", "192.0.2.21")?;
    wait_for_peers(cluster, &[21, 23, 24])?;
    let wrong = format!(
        "patch bgppeer {} --type=merge -p={{\"spec\":{{\"asNumber\":64513}}}}",
        name(24)
    );
    api.kubectl(&wrong)?;
    wait::until("the AS number to be right again", LIMIT, || {
        let spec = &api.kubectl_json(&format!("get bgppeer {}", name(24)))?["spec"];
        ensure!(spec["asNumber"] == 64512, "{spec}");
        Ok(Some(()))
    })?;
    wait_for_peers(cluster, &[21, 23, 24])?;
    api.kubectl(&format!(
        "patch nodestatus node1 --subresource=status --type=merge \
         -p={{\"status\":{{\"peers\":[{{\"name\":\"Global_192_0_2_24\",\"object\":\"BGPPeer/{}\",\"peerIP\":\"192.0.2.24\",\
         \"type\":\"GlobalPeer\",\"state\":\"Established\",\"received\":0,\"accepted\":0,\"best\":0,\"advertised\":0}}]}}}}",
        name(24)
    ))?;
    wait_for_peers(cluster, &[21, 24])
}
