//! A host namespace with an agent, pods, and calls of the plugin as a runtime makes them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use felix_api::cni::tombstone;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{Agent, Memory};
use crate::namespace::Namespace;

/// Every version and what CHECK, GC and STATUS need at least.
pub(crate) const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const PLUGIN: &str = env!("CARGO_BIN_EXE_tortie-cni");

/// One node.
pub(crate) struct Lab {
    // First, because it is stopped by way of its socket in the directory.
    agent: Option<Agent>,
    pub(crate) host: Namespace,
    pub(crate) directory: TempDir,
    memory: Arc<Mutex<Memory>>,
}

/// A sandbox and the names the runtime knows it by.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) container_id: String,
    pub(crate) name: String,
}

/// One call of the plugin.
pub(crate) struct Call<'a> {
    lab: &'a Lab,
    program: PathBuf,
    variables: BTreeMap<&'static str, String>,
    input: String,
}

/// What came of a call.
#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    /// Standard output; null when there was none.
    pub(crate) json: Value,
    pub(crate) stderr: String,
}

/// A lab, or nothing where tests without root are meant to be skipped.
pub(crate) fn lab() -> Option<Lab> {
    let skip = std::env::var("SKIP_PRIVILEGED").is_ok_and(|value| value == "1");
    if skip && !nix::unistd::geteuid().is_root() {
        return None;
    }
    let host = Namespace::new();
    host.sysctl("ipv4/ip_forward", "1");
    for address in ["192.0.2.1/32", "fd00:1::1/128"] {
        host.ip(&["address", "add", address, "dev", "lo"]);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut lab = Lab {
        host,
        directory,
        agent: None,
        memory: Arc::default(),
    };
    lab.start_agent();
    Some(lab)
}

impl Lab {
    pub(crate) fn start_agent(&mut self) {
        let memory = Arc::clone(&self.memory);
        memory.lock().unwrap().state_dir = self.state_dir();
        self.agent = Some(Agent::start(&self.socket(), self.host.path(), memory));
    }

    pub(crate) fn stop_agent(&mut self) {
        self.agent = None;
    }

    pub(crate) fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    /// Waits until the agent has served what a killed plugin asked of it.
    pub(crate) fn settle(&mut self) {
        self.stop_agent();
        self.start_agent();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("cni.sock")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn tombstone(&self, pod: &Pod) -> PathBuf {
        tombstone::path(&self.state_dir(), &pod.container_id, "eth0")
    }

    /// A pod of a name of its own.
    pub(crate) fn pod(&self) -> Pod {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.pod_named(&format!("front-{number}"))
    }

    /// A new sandbox for the pod `name`.
    pub(crate) fn pod_named(&self, name: &str) -> Pod {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Pod {
            namespace: Namespace::new(),
            container_id: format!("{:032x}", 0x0af3_0000 + number),
            name: name.to_owned(),
        }
    }

    /// A network configuration; `keys` are added or replaced.
    pub(crate) fn conf(&self, version: &str, keys: Value) -> Value {
        let mut conf = json!({
            "cniVersion": version,
            "name": "pods",
            "type": "tortie-cni",
            "socket": self.socket(),
            "state_dir": self.state_dir(),
            "ipam": {"assign_ipv6": true},
        });
        for (key, value) in keys.as_object().cloned().unwrap_or_default() {
            conf[key] = value;
        }
        conf
    }

    /// A call without an attachment.
    pub(crate) fn call(&self, verb: &str, conf: &Value) -> Call<'_> {
        Call {
            lab: self,
            program: PLUGIN.into(),
            variables: BTreeMap::from([
                ("CNI_COMMAND", verb.to_owned()),
                ("CNI_PATH", "/usr/lib/cni".to_owned()),
            ]),
            input: conf.to_string(),
        }
    }

    /// A call for a pod.
    pub(crate) fn pod_call(&self, verb: &str, pod: &Pod, conf: &Value) -> Call<'_> {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            pod.name, pod.container_id
        );
        self.call(verb, conf)
            .set("CNI_CONTAINERID", &pod.container_id)
            .set("CNI_IFNAME", "eth0")
            .set("CNI_NETNS", &pod.namespace.path())
            .set("CNI_ARGS", &args)
    }

    /// ADD that must succeed; its result.
    pub(crate) fn add(&self, pod: &Pod) -> Value {
        self.pod_call("ADD", pod, &self.conf("1.1.0", json!({})))
            .succeed()
    }

    /// DEL that must succeed.
    pub(crate) fn del(&self, pod: &Pod) {
        assert_eq!(
            self.pod_call("DEL", pod, &self.conf("1.1.0", json!({})))
                .succeed(),
            Value::Null
        );
    }

    /// Fails unless the pod has exactly what ADD promises.
    #[track_caller]
    pub(crate) fn assert_attached(&self, pod: &Pod) {
        let alias = format!("tortie:{}/eth0", pod.container_id);
        let veths = self.host.veths();
        let ours: Vec<_> = veths
            .iter()
            .filter(|link| link["ifalias"] == alias.as_str())
            .collect();
        assert_eq!(ours.len(), 1, "host interfaces of {}: {veths:?}", pod.name);
        let (host, inside) = (ours[0], pod.namespace.veths());
        assert_eq!(inside.len(), 1, "{inside:?}");
        assert_eq!(
            inside[0]["link_index"], host["ifindex"],
            "ends of different pairs"
        );
        let records = self.memory.lock().unwrap();
        let (_, record) = records
            .records
            .iter()
            .find(|(key, _)| key.container_id == pod.container_id)
            .map(|(_, value)| value)
            .expect("the agent has no record");
        assert_eq!(host["ifname"], record.host_interface.as_str());
        let expected: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(global_addresses(&inside[0]), expected);
    }

    /// Fails if anything is left of the pod: interfaces, record, temporary files.
    #[track_caller]
    pub(crate) fn assert_detached(&self, pod: &Pod) {
        assert_eq!(pod.namespace.veths(), Vec::<Value>::new(), "in the pod");
        let alias = format!("tortie:{}/eth0", pod.container_id);
        let left: Vec<_> = self
            .host
            .veths()
            .into_iter()
            .filter(|link| link["ifalias"] == alias.as_str())
            .collect();
        assert_eq!(left, Vec::<Value>::new(), "on the host");
        let records = &self.memory.lock().unwrap().records;
        let known = records
            .keys()
            .any(|key| key.container_id == pod.container_id);
        assert!(
            !known,
            "the agent still has a record of {}",
            pod.container_id
        );
    }
}

/// The addresses of an interface that `ip -j address` describes, but for link-local ones.
pub(crate) fn global_addresses(link: &Value) -> Vec<String> {
    let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
    infos
        .iter()
        .filter(|info| info["scope"] == "global")
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
        .collect()
}

impl Call<'_> {
    pub(crate) fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub(crate) fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    pub(crate) fn input(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Starts the plugin; it has its input.
    pub(crate) fn spawn(self) -> Child {
        let mut child = self
            .lab
            .host
            .command(&self.program)
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin that does not want its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        child
    }

    pub(crate) fn run(self) -> Outcome {
        let Output {
            status,
            stdout,
            stderr,
        } = self.spawn().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let json = match stdout.as_slice() {
            [] => Value::Null,
            text => serde_json::from_slice(text)
                .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(text))),
        };
        Outcome {
            success: status.success(),
            json,
            stderr,
        }
    }

    /// The output of a call that must succeed.
    #[track_caller]
    pub(crate) fn succeed(self) -> Value {
        let outcome = self.run();
        assert!(outcome.success, "{outcome:?}");
        outcome.json
    }

    /// The error of a call that must fail with `code`.
    #[track_caller]
    pub(crate) fn fail(self, code: u32) -> Value {
        let outcome = self.run();
        assert!(!outcome.success, "{outcome:?}");
        assert_eq!(outcome.json["code"], code, "{outcome:?}");
        assert!(
            outcome.json["msg"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{outcome:?}"
        );
        assert!(outcome.json["cniVersion"].is_string(), "{outcome:?}");
        outcome.json
    }
}
