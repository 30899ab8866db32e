//! One node: a namespace that runs the real agent.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command::binary;
use crate::lab::{Lab, Namespace};
use crate::wait;

/// Where the agents of the lab listen for probes, each in its own namespace.
pub const ADMIN: &str = "127.0.0.1:9099";

/// Where an agent finds its datastore.
#[derive(Debug)]
enum Datastore {
    Folder(PathBuf),
    Kubernetes { kubeconfig: PathBuf },
}

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    /// Name of the Node object.
    pub name: String,
    /// Where it lives.
    pub namespace: Namespace,
    /// More flags for its agent.
    pub arguments: Vec<String>,
    folder: PathBuf,
    datastore: Datastore,
    agent: Option<Child>,
}

impl Node {
    /// Makes the namespace and its link; starts nothing.
    pub fn new(lab: &Lab, name: &str, addresses: &[&str], datastore: &Path) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        lab.plug(&namespace, name, addresses)?;
        Self::inside(lab, name, namespace, datastore)
    }

    /// Takes a namespace that has its links; starts nothing.
    pub fn inside(lab: &Lab, name: &str, namespace: Namespace, datastore: &Path) -> Result<Self> {
        let folder = lab.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            name: name.to_owned(),
            namespace,
            arguments: Vec::new(),
            folder,
            datastore: Datastore::Folder(datastore.to_path_buf()),
            agent: None,
        })
    }

    /// Lets its agent use an API server instead of a folder.
    pub fn use_kubernetes(&mut self, kubeconfig: PathBuf) {
        self.datastore = Datastore::Kubernetes { kubeconfig };
    }

    /// Socket on which the CNI plugin meets the agent.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("cni.sock")
    }

    /// The agent's own folder on this node.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// File that receives the agent's log; appended to over restarts.
    pub fn log(&self) -> PathBuf {
        self.folder.join("felix.log")
    }

    /// Starts the agent; it must not run already.
    pub fn start(&mut self) -> Result<()> {
        self.start_program(&binary("tortie-felix")?)
    }

    /// Starts another file of the agent's program.
    pub fn start_program(&mut self, program: &Path) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let errors: File = log.try_clone()?;
        let child = self
            .namespace
            .command(program)
            .args(["--node-name", &self.name])
            .args(self.datastore.arguments())
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--cni-socket")
            .arg(self.socket())
            .args(["--admin", ADMIN])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start the agent of {}", self.name))?;
        self.agent = Some(child);
        Ok(())
    }

    /// Process id of the running agent.
    pub fn pid(&self) -> Result<u32> {
        Ok(self
            .agent
            .as_ref()
            .context("the agent is not running")?
            .id())
    }

    /// Sends a signal to the agent and waits until the process is gone.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        let mut child = self.agent.take().context("the agent is not running")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        child.wait()?;
        Ok(())
    }

    /// Whether the agent answers ready; the text says why not.
    pub fn ready(&self) -> Result<(bool, String)> {
        let answer = self.get("/readyz")?;
        Ok((answer.starts_with("HTTP/1.1 200"), answer))
    }

    /// Waits until `/readyz` says 200 and returns the time it took.
    pub fn wait_ready(&self, limit: Duration) -> Result<Duration> {
        let what = format!("the agent of {} to be ready", self.name);
        wait::until(&what, limit, || {
            let (ready, answer) = self.ready()?;
            anyhow::ensure!(ready, "{answer}");
            Ok(Some(()))
        })
        .map(|((), took)| took)
    }

    /// Fetches a page of the agent's loopback server, head and body.
    pub fn get(&self, path: &str) -> Result<String> {
        self.ask("GET", path)
    }

    /// Asks the agent's loopback server, and returns head and body of what it answers.
    pub fn ask(&self, method: &str, path: &str) -> Result<String> {
        use std::io::{Read, Write};
        self.namespace.inside(|| {
            let mut stream = std::net::TcpStream::connect(ADMIN)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Routes of the main table, as `ip -j` gives them. `family` is `-4` or `-6`.
    pub fn routes(&self, family: &str) -> Result<Vec<Value>> {
        let value = self
            .namespace
            .ip_json(&format!("{family} -d route show table main"))?;
        Ok(value.as_array().cloned().unwrap_or_default())
    }

    /// The main-table route to exactly this destination.
    pub fn route(&self, destination: &str) -> Result<Option<Value>> {
        let family = if destination.contains(':') {
            "-6"
        } else {
            "-4"
        };
        Ok(self
            .routes(family)?
            .into_iter()
            .find(|route| route["dst"] == destination))
    }

    /// Names of the pod interfaces present in the kernel.
    pub fn pod_interfaces(&self) -> Result<Vec<String>> {
        let links = self.namespace.ip_json("link show")?;
        Ok(links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["ifname"].as_str())
            .filter(|name| name.starts_with("cali"))
            .map(str::to_owned)
            .collect())
    }
}

impl Datastore {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                vec![
                    "--datastore".to_owned(),
                    format!("file:{}", folder.display()),
                ]
            }
            Self::Kubernetes { kubeconfig } => vec![
                "--datastore=kubernetes".to_owned(),
                format!("--kubeconfig={}", kubeconfig.display()),
            ],
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The lab kills what still runs in the namespace; this only reaps it.
        if let Some(child) = &mut self.agent {
            let _ = child.try_wait();
        }
    }
}
