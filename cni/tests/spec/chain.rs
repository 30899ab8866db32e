//! Chained with the reference plugins `portmap` and `bandwidth`, run as a runtime runs them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, Pod, lab};

const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// A runtime: passes results along and hands out capabilities.
struct Runtime<'a> {
    lab: &'a Lab,
    conflist: Value,
    capabilities: Value,
}

impl Runtime<'_> {
    /// What one plugin of the list gets on stdin.
    fn conf(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut conf = plugin.clone();
        for key in ["cniVersion", "name"] {
            conf[key] = self.conflist[key].clone();
        }
        let wanted = conf["capabilities"].take();
        conf.as_object_mut().unwrap().remove("capabilities");
        for (name, _) in wanted.as_object().into_iter().flatten() {
            conf["runtimeConfig"][name] = self.capabilities[name].clone();
        }
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        conf
    }

    fn call(&self, verb: &str, pod: &Pod, plugin: &Value, previous: Option<&Value>) -> Value {
        let call = self.lab.pod_call(verb, pod, &self.conf(plugin, previous));
        let kind = plugin["type"].as_str().unwrap();
        if kind == "tortie-cni" {
            return call.succeed();
        }
        let program = PathBuf::from(REFERENCE_PLUGINS).join(kind);
        assert!(
            program.exists(),
            "{} is missing: containernetworking-plugins",
            program.display()
        );
        call.program(program).succeed()
    }

    fn plugins(&self) -> &[Value] {
        self.conflist["plugins"].as_array().unwrap()
    }

    fn add(&self, pod: &Pod) -> Value {
        let mut result = None;
        for plugin in self.plugins() {
            result = Some(self.call("ADD", pod, plugin, result.as_ref()));
        }
        result.unwrap()
    }

    fn check(&self, pod: &Pod, result: &Value) {
        // portmap 1.1.1 looks for its IPv4 rules in ip6tables too and fails wherever that works.
        for plugin in self
            .plugins()
            .iter()
            .filter(|plugin| plugin["type"] != "portmap")
        {
            self.call("CHECK", pod, plugin, Some(result));
        }
    }

    fn del(&self, pod: &Pod, result: &Value) {
        for plugin in self.plugins().iter().rev() {
            self.call("DEL", pod, plugin, Some(result));
        }
    }
}

fn runtime<'a>(lab: &'a Lab, version: &str) -> Runtime<'a> {
    let mut own = lab.conf(version, json!({}));
    own.as_object_mut()
        .unwrap()
        .retain(|key, _| key != "cniVersion" && key != "name");
    Runtime {
        lab,
        conflist: json!({
            "cniVersion": version,
            "name": "pods",
            "plugins": [
                own,
                {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
                {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            ],
        }),
        capabilities: json!({
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {
                "ingressRate": 80_000_000, "ingressBurst": 80_000_000,
                "egressRate": 80_000_000, "egressBurst": 80_000_000,
            },
        }),
    }
}

/// The queueing disciplines of an interface of the host.
fn disciplines(lab: &Lab, interface: &str) -> Vec<Value> {
    let text = lab
        .host
        .run("tc", &["-j", "qdisc", "show", "dev", interface]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn portmap_and_bandwidth_work_on_our_result() {
    let Some(lab) = lab() else { return };
    // The reference plugins of the distribution end at 1.0.0.
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let runtime = runtime(&lab, version);
        let (server, client) = (lab.pod(), lab.pod());
        let result = runtime.add(&server);
        assert_eq!(result["cniVersion"], version);
        lab.add(&client);

        let rules = lab.host.run("iptables", &["-t", "nat", "-S"]);
        assert!(rules.contains("--to-destination 10.65.0.1:80"), "{rules}");
        let interface = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
        let kinds: Vec<Value> = disciplines(&lab, &interface)
            .iter()
            .map(|found| found["kind"].clone())
            .collect();
        assert!(kinds.contains(&json!("tbf")), "{kinds:?}");
        assert!(kinds.contains(&json!("ingress")), "{kinds:?}");
        assert_eq!(through_host_port(&lab, &server, &client), "hello");

        if version != "0.3.1" {
            runtime.check(&server, &result);
        }
        runtime.del(&server, &result);
        lab.assert_detached(&server);
        lab.del(&client);
        let rules = lab.host.run("iptables", &["-t", "nat", "-S"]);
        assert!(!rules.contains("10.65.0.1"), "{rules}");
        let links = lab.host.ip(&["link", "show", "type", "ifb"]);
        assert_eq!(links.as_array().map_or(0, Vec::len), 0, "{links}");
        // Kubelet repeats DEL.
        runtime.del(&server, &result);
    }
}

/// What the client reads from the server by way of the host's port 8080.
fn through_host_port(lab: &Lab, server: &Pod, client: &Pod) -> String {
    lab.host
        .ip(&["address", "replace", "192.0.2.1/32", "dev", "lo"]);
    let listener = server
        .namespace
        .enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
        });
        let address: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let mut stream = client.namespace.enter(|| {
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("host port")
        });
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serving.join().unwrap();
        text
    })
}

#[test]
fn an_interface_made_before_ours_stays_in_the_result() {
    let Some(lab) = lab() else { return };
    let pod = lab.pod();
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net0", "sandbox": pod.namespace.path()}],
        "ips": [{"address": "192.0.2.9/24", "gateway": "192.0.2.1", "interface": 0}],
        "routes": [],
        "dns": {},
    });
    let conf = lab.conf("1.0.0", json!({"prevResult": previous, "ipam": {}}));
    let result = lab.pod_call("ADD", &pod, &conf).succeed();
    assert_eq!(result["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(result["ips"][0], previous["ips"][0]);
    assert_eq!(
        result["ips"][1],
        json!({"address": "10.65.0.1/32", "interface": 2})
    );
    let check = lab.conf("1.0.0", json!({"prevResult": result, "ipam": {}}));
    lab.pod_call("CHECK", &pod, &check).succeed();
}
