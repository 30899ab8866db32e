//! Two pods that want one address, and two that would have one interface name.

use anyhow::{Context, Result, ensure};
use e2e::cluster::scenario;
use e2e::pod::{Pod, configuration};

use crate::cni::{error_of, refused};
use crate::lab::{apply, two_pods, well_again, works};

#[test]
fn an_address_is_given_to_one_pod_only() -> Result<()> {
    scenario("badaddr", 2, |cluster| {
        two_pods(cluster)?;
        let taken = cluster.pods[0].address(false)?;
        let pod = |address: &str| {
            format!(
                "apiVersion: v1
kind: Pod
metadata:
  name: twin
  namespace: default
  annotations: {{cni.projectcalico.org/ipAddrs: '[\"{address}\"]'}}
"
            )
        };
        let path = apply(cluster, "user.yaml", &pod(&taken.to_string()))?;
        for node in 0..2 {
            let name = ["twin", "twin2"][node];
            let error = match node {
                0 => refused(&cluster.lab, &cluster.nodes[0], "twin", &[])?,
                // The other node must not give it away either.
                _ => {
                    let pod = sandbox(cluster, 1, name)?;
                    let pod = Pod {
                        name: "twin".to_owned(),
                        ..pod
                    };
                    let input = configuration(&cluster.nodes[1]).to_string();
                    error_of(&pod, &cluster.nodes[1], "ADD", &[], &input)?
                }
            };
            let details = error["details"].as_str().unwrap_or_default();
            for word in [
                &*taken.to_string(),
                "held by handle",
                "pod0-sandbox",
                "ask for another",
            ] {
                ensure!(details.contains(word), "no {word:?} in {error}");
            }
            works(cluster)?;
        }
        std::fs::write(&path, pod("10.244.7.7"))?;
        let twin = Pod {
            name: "twin".to_owned(),
            container_id: "twin-sandbox".to_owned(),
            namespace: e2e::lab::Namespace {
                name: "badaddr-twin".to_owned(),
            },
            ..cluster.pods[0].clone()
        };
        let result = twin.cni(&cluster.nodes[0], "ADD")?.context("no result")?;
        ensure!(result["ips"][0]["address"] == "10.244.7.7/32", "{result}");
        well_again(cluster)
    })
}

#[test]
fn an_interface_name_is_given_to_one_pod_only() -> Result<()> {
    scenario("badname", 2, |cluster| {
        two_pods(cluster)?;
        // Outside Kubernetes the first eleven characters of the container id make the name.
        let node = &cluster.nodes[0];
        let mut first = sandbox(cluster, 0, "first")?;
        first.container_id = "abcdefghijk-1".to_owned();
        let mut second = sandbox(cluster, 0, "second")?;
        second.container_id = "abcdefghijk-2".to_owned();
        let result = plain(&first, node, "ADD")?.context("no result")?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        let address = address.split('/').next().unwrap_or(address).to_owned();
        let input = configuration(node).to_string();
        let error = error_of(&second, node, "ADD", &[("CNI_ARGS", "")], &input)?;
        let text = error.to_string();
        for word in ["caliabcdefghijk", "abcdefghijk-1", "another container id"] {
            ensure!(text.contains(word), "no {word:?} in {error}");
        }
        let reach = || {
            cluster.pods[1]
                .namespace
                .run(&format!("ping -n -q -c 2 -i 0.2 -W 1 {address}"))
        };
        reach()?;
        // What the runtime does after a failed ADD must not hurt the first one either.
        plain(&second, node, "DEL")?;
        reach()?;
        works(cluster)?;
        plain(&first, node, "DEL")?;
        plain(&second, node, "ADD")?.context("no result")?;
        plain(&second, node, "DEL")?;
        well_again(cluster)
    })
}

/// A verb of a container that is no pod.
fn plain(pod: &Pod, node: &e2e::node::Node, verb: &str) -> Result<Option<serde_json::Value>> {
    let mut plugin = pod.command(node, verb)?;
    plugin.0.env_remove("CNI_ARGS");
    let output = plugin.spawn_with(&configuration(node))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{verb} {}: {text}", pod.name);
    Ok(serde_json::from_str(&text).ok())
}

fn sandbox(cluster: &e2e::cluster::Cluster, node: usize, name: &str) -> Result<Pod> {
    Ok(Pod {
        name: name.to_owned(),
        node: cluster.nodes[node].name.clone(),
        namespace: cluster.lab.namespace(name)?,
        container_id: format!("{name}-sandbox"),
        addresses: Vec::new(),
    })
}
