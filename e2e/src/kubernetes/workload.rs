//! Pods that answer, and what reaches them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Kubernetes, LIMIT};
use crate::command::ip;
use crate::lab::Namespace;
use crate::wait;

/// Port on which every pod says its name.
pub const PORT: u16 = 8080;
const TIMEOUT: Duration = Duration::from_secs(10);

/// A pod that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its name, which it also says.
    pub name: String,
    /// Node it runs on.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
}

/// A Deployment of pods that say their name, spread over the nodes, and a Service for them.
pub fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{matchLabels: {{app: {name}}}}}
      containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'busybox mkdir /w && busybox hostname >/w/index.html && exec busybox httpd -f -p {PORT} -h /w']
          ports: [{{containerPort: {PORT}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: {PORT}}}]
"
    )
}

impl Kubernetes {
    /// Makes a Deployment and waits until its pods are ready.
    pub fn run_pods(&self, name: &str, replicas: usize) -> Result<Vec<Pod>> {
        self.api.apply(&deployment(name, replicas))?;
        self.kubectl(&format!(
            "rollout status deployment/{name} --timeout={}s",
            LIMIT.as_secs()
        ))?;
        let pods = self.pods(name)?;
        ensure!(pods.len() == replicas, "{pods:#?}");
        Ok(pods)
    }

    /// The pods of a Deployment that run and have an address.
    pub fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let pods = self.items(&format!("pods -n default -l app={name}"))?;
        let mut found: Vec<Pod> = pods.iter().filter_map(running).collect();
        found.sort();
        Ok(found)
    }

    /// Address of a Service.
    pub fn service(&self, name: &str) -> Result<IpAddr> {
        let service = self.api.kubectl_json(&format!("get service {name}"))?;
        let address = service["spec"]["clusterIP"].as_str();
        Ok(address.context("a Service has an address")?.parse()?)
    }

    /// The network of a pod, as a namespace of the lab.
    pub fn enter(&self, pod: &Pod) -> Result<Namespace> {
        let machine = self.machine(&pod.node)?;
        let processes = processes_by_network()?;
        for inode in machine.sandboxes()? {
            let Some(process) = processes.get(&inode) else {
                continue;
            };
            let name = format!("{}-pod{inode}", self.lab.name());
            let namespace = Namespace { name };
            if !namespace.path().exists() {
                ip(&format!("netns attach {} {process}", namespace.name))?;
            }
            let addresses = namespace.ip("-o -4 address show dev eth0");
            if addresses.is_ok_and(|text| text.contains(&format!(" {}/", pod.address))) {
                return Ok(namespace);
            }
        }
        anyhow::bail!("no network on {} has {}", pod.node, pod.address)
    }

    /// Every pod asks every other for its name.
    pub fn all_reach_each_other(&self, pods: &[Pod]) -> Result<()> {
        for pod in pods {
            let from = self.enter(pod)?;
            for to in pods {
                let name = ask(&from, SocketAddr::new(to.address, PORT))
                    .with_context(|| format!("{} on {} asks {to:?}", pod.name, pod.node))?;
                ensure!(name == to.name, "{} answered as {name}", to.name);
            }
        }
        Ok(())
    }

    /// Every pod asks through the Service until more than one of the others has answered.
    pub fn all_reach_the_service(&self, service: &str, pods: &[Pod]) -> Result<()> {
        let address = SocketAddr::new(self.service(service)?, 80);
        for pod in pods {
            let from = self.enter(pod)?;
            let mut seen = BTreeSet::new();
            let what = format!("{} to reach the Service at {address}", pod.name);
            wait::until(&what, TIMEOUT, || {
                seen.insert(ask(&from, address)?);
                Ok((seen.len() > 1).then_some(()))
            })?;
            let foreign = seen
                .iter()
                .find(|name| !pods.iter().any(|p| p.name == **name));
            ensure!(foreign.is_none(), "{foreign:?} answered");
        }
        Ok(())
    }
}

fn running(pod: &Value) -> Option<Pod> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    // A pod that is being deleted has its address until the end.
    let leaving = !pod["metadata"]["deletionTimestamp"].is_null();
    if leaving || pod["status"]["phase"] != "Running" {
        return None;
    }
    Some(Pod {
        name: text(&pod["metadata"]["name"])?,
        node: text(&pod["spec"]["nodeName"])?,
        address: pod["status"]["podIP"].as_str()?.parse().ok()?,
    })
}

/// Asks for a name from inside a namespace.
pub fn ask(from: &Namespace, address: SocketAddr) -> Result<String> {
    from.inside(|| {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        Ok(body.trim().to_owned())
    })
}

/// One process of each network namespace of this machine, by inode.
fn processes_by_network() -> Result<BTreeMap<u64, u32>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(process) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // It may have ended.
        if let Ok(metadata) = fs::metadata(entry.path().join("ns/net")) {
            found.entry(metadata.ino()).or_insert(process);
        }
    }
    Ok(found)
}
