//! The life of a node on a real Kubernetes API server: address, condition, drain, deletion, Events,
//! and passwords that change.
//!
//! `make e2e-api` runs it; `cargo test` does not, because it needs kube-apiserver, which
//! `e2e/kubernetes/get-tools` builds. What a kubelet or a cloud would write, the test writes; see
//! [`e2e::agents`].

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::agents::Agents;
use e2e::apiserver::ApiServer;
use e2e::cluster::{LIMIT, node_addresses};
use e2e::diagnostics;
use e2e::lab::Lab;
use e2e::node::Node;
use e2e::reflectors::sessions;
use e2e::wait;
use serde_json::Value;

const POOL: &str = "{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {name: pool}, \
                    spec: {cidr: 10.244.0.0/16, ipipMode: Never, vxlanMode: Never}}";
/// An address that vanished is waited for before another takes its place.
const MOVE: Duration = Duration::from_secs(60);
/// Well below the restart time of two minutes.
const AT_ONCE: Duration = Duration::from_secs(10);

struct Cluster {
    nodes: Vec<Node>,
    api: ApiServer,
    /// Dropped last: it removes all of the above.
    _lab: Lab,
}

impl Cluster {
    fn start(name: &str) -> Result<Self> {
        let Agents { nodes, api, lab } = Agents::prepare(name, POOL)?;
        Ok(Self {
            nodes,
            api,
            _lab: lab,
        })
    }

    /// What a kubelet and a cloud say of a node before its network is there.
    fn register(&self, node: usize, address: &str) -> Result<()> {
        let name = &self.nodes[node].name;
        self.api.kubectl(&format!(
            "patch node {name} --subresource=status --type=merge -p={{\"status\":{{\
             \"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{address}\"}}],\
             \"conditions\":[{{\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"KubeletReady\"}},\
             {{\"type\":\"NetworkUnavailable\",\"status\":\"True\",\"reason\":\"NoRouteCreated\"}}]}}}}"
        ))?;
        Ok(())
    }

    fn annotate(&self, node: &str, annotation: &str) -> Result<()> {
        let line = format!("annotate --overwrite node {node} {annotation}");
        self.api.kubectl(&line).map(drop)
    }

    fn address(&self, node: &str) -> Result<Value> {
        let node = self.api.kubectl_json(&format!("get node {node}"))?;
        Ok(node["metadata"]["annotations"]["projectcalico.org/IPv4Address"].clone())
    }

    fn wait_address(&self, node: &str, address: &str, limit: Duration) -> Result<()> {
        wait::until(
            &format!("{node} to have the address {address}"),
            limit,
            || {
                let found = self.address(node)?;
                ensure!(found == address, "{found}");
                Ok(Some(()))
            },
        )
        .map(drop)
    }

    /// A condition of an object as `status/reason`.
    fn condition(&self, object: &str, type_: &str) -> Result<String> {
        let object = self.api.kubectl_json(&format!("get {object}"))?;
        let conditions = object["status"]["conditions"]
            .as_array()
            .context("conditions")?;
        let found = conditions.iter().find(|one| one["type"] == type_);
        let text = |field: &str| {
            let value = found.map_or(&Value::Null, |one| &one[field]);
            value.as_str().unwrap_or_default().to_owned()
        };
        Ok(format!("{}/{}", text("status"), text("reason")))
    }

    fn wait_condition(&self, object: &str, type_: &str, expected: &str) -> Result<()> {
        wait::until(
            &format!("{type_} of {object} to be {expected}"),
            LIMIT,
            || {
                let found = self.condition(object, type_)?;
                ensure!(found == expected, "{found}");
                Ok(Some(()))
            },
        )
        .map(drop)
    }

    fn wait_session(&self, up: bool, limit: Duration) -> Result<()> {
        let what = format!(
            "the session of node1 to be {}",
            if up { "up" } else { "gone" }
        );
        wait::until(&what, limit, || {
            let all = sessions(&self.nodes[0])?;
            let count = all
                .iter()
                .filter(|one| one["state"] == "Established")
                .count();
            ensure!(count == usize::from(up), "{all:?}");
            Ok(Some(()))
        })
        .map(drop)
    }

    fn flaps(&self) -> Result<Value> {
        let all = sessions(&self.nodes[0])?;
        Ok(all.first().context("a session")?["flaps"].clone())
    }

    /// Waits for an Event about a node that says so.
    fn wait_event(&self, reason: &str, word: &str) -> Result<()> {
        wait::until(&format!("an Event {reason}"), LIMIT, || {
            let line = format!("get events -n default --field-selector reason={reason}");
            let events = self.api.kubectl_json(&line)?;
            let events = events["items"].as_array().context("a list")?;
            let says = |one: &Value| {
                one["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(word))
            };
            ensure!(events.iter().any(says), "{events:#?}");
            Ok(Some(()))
        })
        .map(drop)
    }
}

fn scenario(name: &str, test: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    scenario_with(name, &[], test)
}

/// With these flags for the agent of node1.
fn scenario_with(
    name: &str,
    arguments: &[&str],
    test: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let mut cluster = Cluster::start(name)?;
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    cluster.nodes[0].arguments.extend(arguments);
    let outcome = start(&mut cluster).and_then(|()| test(&mut cluster));
    outcome.map_err(|error| {
        let state = diagnostics::collect(&cluster.nodes, None);
        error.context(format!("{state}\n{name} failed"))
    })
}

fn start(cluster: &mut Cluster) -> Result<()> {
    for node in 0..cluster.nodes.len() {
        let [v4, _] = node_addresses(node + 1);
        cluster.register(node, &v4)?;
        cluster.nodes[node].start()?;
    }
    for node in &cluster.nodes {
        node.wait_ready(LIMIT)?;
    }
    cluster.wait_session(true, LIMIT)
}

#[test]
fn the_condition_follows_the_routes_and_the_drain() -> Result<()> {
    scenario("life1", |cluster| {
        for node in ["node/node1", "node/node2"] {
            cluster.wait_condition(node, "NetworkUnavailable", "False/TortieIsUp")?;
            let ready = cluster.condition(node, "Ready")?;
            ensure!(
                ready == "True/KubeletReady",
                "the kubelet's condition: {ready}"
            );
        }
        let node = cluster.api.kubectl_json("get node node1")?;
        let addresses = &node["status"]["addresses"];
        ensure!(
            addresses.as_array().is_some_and(|all| all.len() == 1),
            "{addresses}"
        );

        cluster.annotate("node1", "tortie.dev/drain=true")?;
        cluster.wait_condition("node/node1", "NetworkUnavailable", "True/TortieIsDown")?;
        cluster.wait_condition("nodestatus/node1", "InService", "False/Left")?;
        cluster.wait_session(false, AT_ONCE)?;
        cluster.wait_event("BGPSessionDown", "192.0.2.1")?;
        cluster.annotate("node1", "tortie.dev/drain-")?;
        cluster.wait_condition("node/node1", "NetworkUnavailable", "False/TortieIsUp")?;
        cluster.wait_session(true, LIMIT)?;

        // Somebody else's opinion is put right, and an agent that ends says nothing.
        cluster.register(0, &node_addresses(1)[0])?;
        cluster.wait_condition("node/node1", "NetworkUnavailable", "False/TortieIsUp")?;
        cluster.nodes[0].stop(nix::sys::signal::Signal::SIGTERM)?;
        let stays = cluster.condition("node/node1", "NetworkUnavailable")?;
        ensure!(stays == "False/TortieIsUp", "{stays}");
        Ok(())
    })
}

#[test]
fn the_address_follows_the_node() -> Result<()> {
    scenario("life2", |cluster| {
        cluster.wait_address("node1", "192.0.2.11/24", LIMIT)?;
        let namespace = &cluster.nodes[0].namespace;
        namespace.run("sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1")?;
        namespace.ip("address add 192.0.2.77/24 dev eth0")?;
        cluster.register(0, "192.0.2.77")?;
        namespace.ip("address delete 192.0.2.11/24 dev eth0")?;
        cluster.wait_address("node1", "192.0.2.77/24", MOVE)?;
        wait::until("node2 to talk to the new address", LIMIT, || {
            let all = sessions(&cluster.nodes[1])?;
            let new = all.iter().find(|one| one["address"] == "192.0.2.77");
            ensure!(
                new.is_some_and(|one| one["state"] == "Established"),
                "{all:?}"
            );
            Ok(Some(()))
        })?;
        cluster.nodes[0].wait_ready(LIMIT)?;
        Ok(())
    })
}

#[test]
fn an_address_of_another_node_is_not_taken() -> Result<()> {
    let method = ["--ip-autodetection-method", "kubernetes-internal-ip"];
    scenario_with("life5", &method, |cluster| {
        let ghost = "{apiVersion: v1, kind: Node, metadata: {name: ghost, annotations: \
                     {projectcalico.org/IPv4Address: 192.0.2.88/24}}}";
        cluster.api.apply(ghost)?;
        let namespace = &cluster.nodes[0].namespace;
        namespace.ip("address add 192.0.2.88/24 dev eth0")?;
        cluster.register(0, "192.0.2.88")?;
        cluster.wait_condition("nodestatus/node1", "NodeAddressKnown", "False/Conflict")?;
        cluster.wait_event("AddressConflict", "Node/ghost")?;
        let stays = cluster.address("node1")?;
        ensure!(stays == "192.0.2.11/24", "{stays}");
        cluster.api.kubectl("delete node ghost")?;
        cluster.wait_address("node1", "192.0.2.88/24", LIMIT)?;
        cluster.wait_condition("nodestatus/node1", "NodeAddressKnown", "True/Known")?;
        cluster.nodes[0].wait_ready(LIMIT)?;
        cluster.wait_session(true, LIMIT)
    })
}

#[test]
fn a_deleted_node_is_forgotten_and_comes_back_when_it_is_made_again() -> Result<()> {
    scenario("life3", |cluster| {
        cluster.api.kubectl("delete node node2")?;
        cluster.wait_session(false, AT_ONCE)?;
        wait::until("the agent of the node to say so", LIMIT, || {
            let (ready, answer) = cluster.nodes[1].ready()?;
            ensure!(!ready && answer.contains("Node/node2"), "{answer}");
            Ok(Some(()))
        })?;
        cluster
            .api
            .apply("{apiVersion: v1, kind: Node, metadata: {name: node2}}")?;
        cluster.register(1, &node_addresses(2)[0])?;
        cluster.wait_address("node2", "192.0.2.12/24", LIMIT)?;
        cluster.wait_session(true, LIMIT)?;
        cluster.wait_condition("node/node2", "NetworkUnavailable", "False/TortieIsUp")
    })
}

#[test]
fn a_password_in_a_secret_changes_without_a_lost_session() -> Result<()> {
    scenario("life4", |cluster| {
        let secret = |password: &str| {
            format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: bgp, namespace: kube-system}}, \
                 stringData: {{mesh: {password}}}}}"
            )
        };
        cluster.api.apply(&secret("sesame-one"))?;
        cluster.api.apply(
            "{apiVersion: crd.projectcalico.org/v1, kind: BGPConfiguration, metadata: {name: default}, \
             spec: {nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}}}",
        )?;
        cluster.wait_session(true, LIMIT)?;
        let keys = || -> Result<()> {
            // The kernel counts segments without a signature where one is expected.
            for node in &cluster.nodes {
                let counted = node.namespace.run("nstat -asz TcpExtTCPMD5NotFound")?;
                eprintln!("{}: {}", node.name, counted.trim().replace('\n', " "));
            }
            Ok(())
        };
        let before = cluster.flaps()?;
        for password in ["sesame-two", "sesame-three"] {
            cluster.api.apply(&secret(password))?;
            // Longer than the hold time would let a session with two keys live in silence.
            std::thread::sleep(Duration::from_secs(5));
            cluster.wait_session(true, LIMIT)?;
        }
        let after = cluster.flaps()?;
        ensure!(
            before == after,
            "sessions lost: {before} before, {after} after"
        );
        keys()?;

        // A Secret elsewhere is none of its business; one that goes leaves the peer without session.
        cluster.api.kubectl("delete secret bgp -n kube-system")?;
        let elsewhere = secret("sesame-four").replace("kube-system", "default");
        cluster.api.apply(&elsewhere)?;
        wait::until("the agent to miss its Secret", LIMIT, || {
            let state = cluster.nodes[0].get("/state")?;
            ensure!(state.contains("Secret kube-system/bgp"), "{state}");
            ensure!(!state.contains("sesame"), "{state}");
            Ok(Some(()))
        })?;
        refused_objects_say_so_where_people_look(cluster)?;
        cluster.api.apply(&secret("sesame-five"))?;
        cluster.wait_session(true, LIMIT)
    })
}

/// What an agent does not obey, and a pool that is nearly full, is shown with the object by kubectl.
fn refused_objects_say_so_where_people_look(cluster: &mut Cluster) -> Result<()> {
    cluster.api.apply(
        "{apiVersion: crd.projectcalico.org/v1, kind: BGPPeer, metadata: {name: role}, \
         spec: {node: node1, peerIP: 192.0.2.99, asNumber: 64512, role: Customer}}\n---\n\
         {apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {name: full}, \
         spec: {cidr: 10.246.0.0/26, ipipMode: Never, vxlanMode: Never}}\n",
    )?;
    // As the controller counts.
    cluster.api.kubectl(
        "patch ippool full --subresource=status --type=merge -p={\"status\":{\"used\":60,\"free\":4}}",
    )?;
    // An agent looks at its start, and every five minutes.
    cluster.nodes[0].stop(nix::sys::signal::Signal::SIGTERM)?;
    cluster.nodes[0].start()?;
    for (object, reason) in [
        ("bgppeer role", "ConfigurationRefused"),
        ("ippool full", "PoolNearlyFull"),
    ] {
        let what = format!("kubectl to show {reason} with {object}");
        wait::until(&what, LIMIT, || {
            let shown = cluster.api.kubectl(&format!("describe {object}"))?;
            let (_, events) = shown.split_once("Events:").context("no Events")?;
            ensure!(events.contains(reason), "{events}");
            Ok(Some(()))
        })?;
    }
    for object in ["bgppeer/role", "ippool/full"] {
        cluster.api.kubectl(&format!("delete {object}"))?;
    }
    Ok(())
}
