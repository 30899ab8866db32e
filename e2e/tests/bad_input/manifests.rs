//! Manifests that cannot be used: the last good state stays, and everything else goes on.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, LIMIT, scenario};
use e2e::wait;
use nix::sys::signal::Signal;

use crate::lab::{apply, calico, edit, in_status, restore, told, two_pods, well_again, works};

const POOL: &str = "cidr: 10.245.0.0/16, nodeSelector: all()";

#[test]
fn what_cannot_be_used_is_named_and_harms_nothing_else() -> Result<()> {
    scenario("badfiles", 2, |cluster| {
        two_pods(cluster)?;
        let host_bits = calico("IPPool", "blue", &POOL.replace("10.245.0.0", "10.245.0.7"));
        let block_size = |size: u8| calico("IPPool", "blue", &format!("{POOL}, blockSize: {size}"));
        let cases: [(&str, String, &[&str]); 9] = [
            (
                "broken YAML",
                "kind: IPPool\n  spec: [".to_owned(),
                &["user.yaml", "line 2", "mended"],
            ),
            (
                "unknown kind",
                calico("IPPol", "blue", POOL),
                &["user.yaml", "kind IPPol", "correct its apiVersion and kind"],
            ),
            (
                "kind of another version",
                calico("IPPool", "blue", POOL).replace("crd.projectcalico.org/v1", "v2"),
                &["IPPool", "write apiVersion: crd.projectcalico.org/v1"],
            ),
            (
                "no kind",
                "apiVersion: v1\nmetadata: {name: blue}\n".to_owned(),
                &["user.yaml", "kind", "begin with apiVersion and kind"],
            ),
            (
                "unknown field",
                calico("IPPool", "blue", &format!("{POOL}, blokSize: 26")),
                &["IPPool", "blue", "spec.blokSize", "correct or remove"],
            ),
            (
                "field of another type",
                calico("IPPool", "blue", &format!("{POOL}, blockSize: many")),
                &["IPPool", "blue", "spec.blockSize", "kubectl explain"],
            ),
            (
                "CIDR with host bits",
                host_bits,
                &["IPPool", "blue", "spec.cidr", "write 10.245.0.0/16"],
            ),
            (
                "blocks too small",
                block_size(33),
                &["IPPool", "blue", "spec.blockSize", "choose 20 to 32"],
            ),
            (
                "blocks too large",
                block_size(19),
                &["IPPool", "blue", "spec.blockSize", "choose 20 to 32"],
            ),
        ];
        for (what, text, words) in cases {
            println!("{what}");
            let path = apply(cluster, "user.yaml", &text)?;
            told(&cluster.nodes[0], words)?;
            in_status(cluster, 1, words)?;
            works(cluster)?;
            std::fs::remove_file(path)?;
            well_again(cluster)?;
        }
        a_pod_can_come_meanwhile(cluster)
    })
}

fn a_pod_can_come_meanwhile(cluster: &mut Cluster) -> Result<()> {
    let path = apply(cluster, "user.yaml", "}{")?;
    told(&cluster.nodes[1], &["user.yaml"])?;
    cluster.plug(1, "meanwhile")?;
    works(cluster)?;
    // Another mistake at the same place: the watches of other kinds see it mended.
    let text = calico("IPPool", "blue", &format!("{POOL}, blockSize: 33"));
    std::fs::write(&path, text)?;
    told(&cluster.nodes[0], &["IPPool", "blue", "spec.blockSize"])?;
    works(cluster)?;
    told(&cluster.nodes[0], &["IPPool", "blue", "spec.blockSize"])?;
    std::fs::remove_file(path)?;
    well_again(cluster)
}

#[test]
fn what_was_good_before_stays_in_use_even_over_a_restart() -> Result<()> {
    scenario("badedit", 2, |cluster| {
        two_pods(cluster)?;
        let words = [
            "IPPool",
            "default-ipv4-ippool",
            "spec.cidr",
            "10.244.0.0/16",
        ];
        let before = edit(cluster, "10.244.0.0/16", "10.244.0.9/16")?;
        told(&cluster.nodes[0], &words)?;
        works(cluster)?;
        restore(cluster, &before)?;
        well_again(cluster)?;

        // The whole file at once, with every node, pool and peer in it.
        edit(cluster, "apiVersion", "apiVersion: [")?;
        let broken =
            std::fs::read_to_string(cluster.datastore().join("cluster.yaml"))?.replace("---", "--");
        std::fs::write(cluster.datastore().join("cluster.yaml"), broken)?;
        told(&cluster.nodes[0], &["cluster.yaml"])?;
        cluster.plug(1, "meanwhile")?;
        works(cluster)?;

        // An agent that starts now knows nobody: it says so, and leaves the kernel alone.
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        cluster.nodes[0].start()?;
        wait::until("the agent to say why it is not ready", LIMIT, || {
            let (ready, answer) = cluster.nodes[0].ready()?;
            ensure!(!ready && answer.contains("Node/node1"), "{answer}");
            Ok(Some(()))
        })?;
        told(&cluster.nodes[0], &["cluster.yaml"])?;
        crate::lab::pods_reach_each_other(cluster)?;
        restore(cluster, &before)?;
        cluster.nodes[0].wait_ready(LIMIT)?;
        cluster.wait_converged()?;
        well_again(cluster)
    })
}
