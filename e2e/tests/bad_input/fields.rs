//! Fields that this version does not know survive when its programs write the object.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{LIMIT, scenario};
use e2e::wait;
use serde_json::Value;

use crate::lab::{edit, two_pods, well_again};

#[test]
fn unknown_fields_survive_a_write_by_the_agent() -> Result<()> {
    scenario("badfield", 2, |cluster| {
        two_pods(cluster)?;
        // The address goes from the annotations to the status, where a kubelet puts it: the
        // agent writes the annotation.
        edit(
            cluster,
            "    projectcalico.org/IPv4Address: 192.0.2.11/24
    projectcalico.org/IPv6Address: 2001:db8::11/64
",
            "    example.com/note: kept
  futureMetadata: {a: [1, 2]}
spec: {futureField: {b: true}}
futureSection: kept
status:
  addresses:
    - {type: InternalIP, address: 192.0.2.11, futureKey: kept}
    - {type: InternalIP, address: '2001:db8::11'}
",
        )?;
        let path = cluster.datastore().join("cluster.yaml");
        wait::until("the agent to write its annotations", LIMIT, || {
            let node = document(&std::fs::read_to_string(&path)?, "Node", "node1")?;
            let annotations = &node["metadata"]["annotations"];
            ensure!(
                annotations["projectcalico.org/IPv4Address"] == "192.0.2.11/24"
                    && annotations["projectcalico.org/IPv6Address"] == "2001:db8::11/64",
                "{node}"
            );
            ensure!(
                annotations["example.com/note"] == "kept"
                    && node["metadata"]["futureMetadata"]["a"][1] == 2
                    && node["spec"]["futureField"]["b"] == true
                    && node["futureSection"] == "kept"
                    && node["status"]["addresses"][0]["futureKey"] == "kept",
                "a field is lost: {node}"
            );
            Ok(Some(()))
        })?;
        well_again(cluster)
    })
}

#[test]
fn unknown_fields_survive_a_write_by_address_management() -> Result<()> {
    scenario("badipam", 2, |cluster| {
        edit(
            cluster,
            "blockSize: 26,",
            "blockSize: 26, futureField: kept,",
        )?;
        two_pods_with_a_problem(cluster)?;
        for plural in ["ipamblocks", "blockaffinities", "ipamhandles"] {
            for object in cluster.objects(plural)? {
                let name = object["metadata"]["name"].as_str().context("no name")?;
                let path = cluster
                    .datastore()
                    .join(plural)
                    .join(format!("{name}.yaml"));
                let mut object = object.clone();
                object["spec"]["futureField"] = "kept".into();
                object["futureSection"] = "kept".into();
                std::fs::write(path, serde_yaml::to_string(&object)?)?;
            }
        }
        let before = cluster.objects("ipamblocks")?;
        cluster.plug(0, "third")?;
        cluster.plug(1, "fourth")?;
        let after = cluster.objects("ipamblocks")?;
        ensure!(before != after, "no block was written");
        for plural in ["ipamblocks", "blockaffinities"] {
            for object in cluster.objects(plural)? {
                ensure!(
                    object["spec"]["futureField"] == "kept" && object["futureSection"] == "kept",
                    "a field is lost: {object}"
                );
            }
        }
        let text = std::fs::read_to_string(cluster.datastore().join("cluster.yaml"))?;
        let pool = document(&text, "IPPool", "default-ipv4-ippool")?;
        ensure!(pool["spec"]["futureField"] == "kept", "{pool}");
        crate::lab::works(cluster)
    })
}

/// As `two_pods`, but the unknown field of the pool is told all the while.
fn two_pods_with_a_problem(cluster: &mut e2e::cluster::Cluster) -> Result<()> {
    cluster.plug(0, "pod0")?;
    cluster.plug(1, "pod1")?;
    cluster.wait_converged()?;
    crate::lab::told(
        &cluster.nodes[0],
        &["IPPool/default-ipv4-ippool", "spec.futureField", "remove"],
    )
}

fn document(text: &str, kind: &str, name: &str) -> Result<Value> {
    use serde::Deserialize;
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if value["kind"] == kind && value["metadata"]["name"] == name {
            return Ok(value);
        }
    }
    anyhow::bail!("no {kind} {name}")
}
