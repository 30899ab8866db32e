//! Pools that contradict each other, their blocks or their use.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, scenario};
use e2e::pod::Pod;

use crate::cni::refused;
use crate::lab::{apply, calico, edit, in_status, restore, told, two_pods, well_again, works};

/// `NO_ADDRESS` of the plugin.
const NO_ADDRESS: u64 = 102;

#[test]
fn pools_that_overlap_are_named_and_go_on_working() -> Result<()> {
    scenario("badover", 2, |cluster| {
        two_pods(cluster)?;
        let inner = calico(
            "IPPool",
            "inner",
            "cidr: 10.244.0.0/20, nodeSelector: all()",
        );
        let path = apply(cluster, "user.yaml", &inner)?;
        let words = [
            "IPPool/default-ipv4-ippool, IPPool/inner",
            "spec.cidr",
            "10.244.0.0/16",
            "10.244.0.0/20",
            "make the pools disjoint",
        ];
        told(&cluster.nodes[0], &words)?;
        in_status(cluster, 1, &words)?;
        cluster.plug(0, "meanwhile")?;
        works(cluster)?;
        std::fs::remove_file(path)?;
        well_again(cluster)
    })
}

#[test]
fn a_changed_block_size_leaves_the_blocks_as_they_are() -> Result<()> {
    scenario("badsize", 2, |cluster| {
        two_pods(cluster)?;
        let blocks = cluster.blocks("node1")?;
        let before = edit(cluster, "blockSize: 26", "blockSize: 28")?;
        let words = [
            "IPPool/default-ipv4-ippool",
            "spec.blockSize",
            "/26",
            "new ones are /28",
            "former size",
        ];
        told(&cluster.nodes[0], &words)?;
        in_status(cluster, 1, &words)?;
        // The block that is there still has room.
        cluster.plug(0, "meanwhile")?;
        works(cluster)?;
        ensure!(cluster.blocks("node1")? == blocks, "the blocks changed");
        restore(cluster, &before)?;
        well_again(cluster)
    })
}

#[test]
fn a_pool_deleted_in_use_keeps_its_pods() -> Result<()> {
    scenario("badgone", 2, |cluster| {
        two_pods(cluster)?;
        let pool = "apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: default-ipv4-ippool}
";
        let path = cluster.datastore().join("cluster.yaml");
        let before = std::fs::read_to_string(&path)?;
        let (_, rest) = before
            .strip_prefix(pool)
            .and_then(|rest| rest.split_once("---\n"))
            .ok_or_else(|| anyhow::anyhow!("the first document is not the pool"))?;
        std::fs::write(&path, rest)?;
        let words = [
            "IPAMBlock/10-244-",
            "spec.cidr",
            "no IPPool",
            "restore the pool",
        ];
        told(&cluster.nodes[0], &words)?;
        in_status(cluster, 1, &words)?;
        works(cluster)?;
        let error = refused(&cluster.lab, &cluster.nodes[0], "late", &[])?;
        ensure!(error["code"] == NO_ADDRESS, "{error}");
        let details = error["details"].as_str().unwrap_or_default();
        ensure!(
            details.contains("IPPool") && details.contains("create one"),
            "{error}"
        );
        works(cluster)?;
        restore(cluster, &before)?;
        well_again(cluster)?;
        cluster.plug(0, "later")?;
        works(cluster)
    })
}

#[test]
fn a_full_pool_says_so_and_serves_again_when_there_is_room() -> Result<()> {
    scenario("badfull", 2, |cluster| {
        let tiny = calico(
            "IPPool",
            "tiny",
            "cidr: 10.245.0.0/30, blockSize: 30, nodeSelector: all(), assignmentMode: Manual",
        );
        apply(cluster, "tiny.yaml", &tiny)?;
        two_pods(cluster)?;
        for number in 0..5 {
            apply(cluster, &format!("tiny{number}.yaml"), &pod_in_tiny(number))?;
        }
        let tiny = (0..4)
            .map(|number| {
                Pod::plug(
                    &cluster.lab,
                    &cluster.nodes[number % 2],
                    &format!("tiny{number}"),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let error = refused(&cluster.lab, &cluster.nodes[0], "tiny4", &[])?;
        ensure!(error["code"] == NO_ADDRESS, "{error}");
        let details = error["details"].as_str().unwrap_or_default();
        for word in ["0 of 1 IPv4", "IPPool tiny", "add a pool"] {
            ensure!(details.contains(word), "no {word:?} in {error}");
        }
        nothing_is_held_for(cluster, "tiny4")?;
        works(cluster)?;
        cluster.plug(0, "elsewhere")?;
        tiny[0].unplug(&cluster.lab, &cluster.nodes[0])?;
        // The sandbox of the refused pod is still there: the runtime tries it again.
        let pod = Pod {
            namespace: e2e::lab::Namespace {
                name: "badfull-tiny4".to_owned(),
            },
            ..tiny[0].clone()
        };
        let pod = Pod {
            name: "tiny4".to_owned(),
            container_id: "tiny4-sandbox".to_owned(),
            ..pod
        };
        ensure!(pod.cni(&cluster.nodes[0], "ADD")?.is_some(), "no result");
        works(cluster)
    })
}

fn pod_in_tiny(number: u32) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: tiny{number}
  namespace: default
  annotations: {{cni.projectcalico.org/ipv4pools: '[\"tiny\"]'}}
"
    )
}

fn nothing_is_held_for(cluster: &Cluster, pod: &str) -> Result<()> {
    for plural in ["ipamblocks", "ipamhandles"] {
        for object in cluster.objects(plural)? {
            ensure!(!object.to_string().contains(pod), "{plural}: {object}");
        }
    }
    Ok(())
}
