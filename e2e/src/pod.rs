//! One pod: a namespace plugged by the real CNI plugin.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::command::binary;
use crate::lab::{Lab, Namespace};
use crate::node::Node;

/// Name of the network in the lab's CNI configuration.
pub const NETWORK: &str = "k8s-pod-network";

/// A pod and what the plugin answered for it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Pod name; the namespace is `default`.
    pub name: String,
    /// Node it runs on.
    pub node: String,
    /// The sandbox.
    pub namespace: Namespace,
    /// Container id given to the plugin.
    pub container_id: String,
    /// Addresses in the plugin's result.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// Makes the sandbox and plugs it.
    pub fn plug(lab: &Lab, node: &Node, name: &str) -> Result<Self> {
        Self::plug_with(lab, node, name, &configuration(node))
    }

    /// As [`Pod::plug`], with a network configuration other than [`configuration`].
    pub fn plug_with(lab: &Lab, node: &Node, name: &str, network: &Value) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        let mut pod = Self {
            name: name.to_owned(),
            node: node.name.clone(),
            namespace,
            container_id: format!("{name}-sandbox"),
            addresses: Vec::new(),
        };
        let output = pod.command(node, "ADD")?.spawn_with(network)?;
        let result = answer(&format!("ADD {name}"), output)?.context("ADD printed no result")?;
        pod.addresses = addresses(&result)?;
        Ok(pod)
    }

    /// Unplugs the pod and removes its sandbox.
    pub fn unplug(&self, lab: &Lab, node: &Node) -> Result<()> {
        self.cni(node, "DEL")?;
        lab.remove_namespace(&self.namespace)
    }

    /// The pod's address of one family.
    pub fn address(&self, v6: bool) -> Result<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == v6)
            .with_context(|| {
                let family = if v6 { "IPv6" } else { "IPv4" };
                format!("pod {} has no {family} address", self.name)
            })
    }

    /// Runs one verb of the plugin and returns the JSON it printed, if any.
    pub fn cni(&self, node: &Node, verb: &str) -> Result<Option<Value>> {
        let output = self.command(node, verb)?.spawn_with(&configuration(node))?;
        answer(&format!("{verb} {}", self.name), output)
    }

    /// The plugin's command line for one verb, to be fed the configuration.
    pub fn command(&self, node: &Node, verb: &str) -> Result<Plugin> {
        let mut command = node.namespace.command(binary("tortie-cni")?);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", self.namespace.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
                    self.name, self.container_id
                ),
            );
        Ok(Plugin(command))
    }
}

/// A plugin call that is ready to run.
#[derive(Debug)]
pub struct Plugin(pub Command);

impl Plugin {
    /// Runs it to its end with `configuration` on standard input.
    pub fn spawn_with(self, configuration: &Value) -> Result<std::process::Output> {
        Ok(self.start(configuration)?.wait_with_output()?)
    }

    /// Starts it with `configuration` on standard input and does not wait.
    pub fn start(mut self, configuration: &Value) -> Result<std::process::Child> {
        use std::io::Write;
        let mut child = self
            .0
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("the plugin has no input")?;
        // A plugin that was killed at once closes its end; its exit tells that.
        let _ = input.write_all(configuration.to_string().as_bytes());
        Ok(child)
    }
}

/// Network configuration of a node's plugin, as a runtime passes it.
pub fn configuration(node: &Node) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": NETWORK,
        "type": "tortie-cni",
        "socket": node.socket(),
        "state_dir": node.state_dir(),
        "ipam": {"assign_ipv4": "true", "assign_ipv6": "true"},
    })
}

fn answer(what: &str, output: std::process::Output) -> Result<Option<Value>> {
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{what}: {}: {}{}",
            output.status,
            text.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(serde_json::from_str(text).with_context(|| {
            format!("{what}: the plugin printed no JSON: {text}")
        })?)),
    }
}

fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    result["ips"]
        .as_array()
        .context("the result has no ips")?
        .iter()
        .map(|ip| {
            let text = ip["address"].as_str().context("an ip has no address")?;
            let address = text.split('/').next().unwrap_or(text);
            Ok(address.parse()?)
        })
        .collect()
}
