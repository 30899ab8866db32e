//! Nodes without an address, and with the address of another.

use anyhow::Result;
use e2e::cluster::{LIMIT, scenario};
use e2e::wait;

use crate::lab::{
    apply, edit, flaps, in_status, pods_reach_each_other, problems, restore, told, two_pods,
    well_again, works,
};

fn node(name: &str, annotation: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations: {{{annotation}}}\n"
    )
}

#[test]
fn nodes_of_others_without_an_address_or_with_ours_disturb_nobody() -> Result<()> {
    scenario("badnodes", 2, |cluster| {
        two_pods(cluster)?;
        let before = [flaps(&cluster.nodes[0])?, flaps(&cluster.nodes[1])?];
        let address = "projectcalico.org/IPv4Address";
        let cases: [(String, &[&str]); 3] = [
            (
                node("node9", ""),
                &[
                    "Node/node9",
                    "metadata.annotations",
                    "no address",
                    "annotate the node with projectcalico.org/IPv4Address",
                ],
            ),
            (
                node("node9", &format!("{address}: 192.0.2.12/24")),
                &[
                    "Node/node2",
                    "Node/node9",
                    "metadata.annotations",
                    "192.0.2.12",
                    "an address of its own",
                ],
            ),
            (
                node("node9", &format!("{address}: 192.0.2.999/24")),
                &[
                    "Node/node9",
                    "metadata.annotations[projectcalico.org/IPv4Address]",
                    "192.0.2.999",
                    "write it like 192.0.2.10/24",
                ],
            ),
        ];
        for (text, words) in cases {
            let path = apply(cluster, "user.yaml", &text)?;
            told(&cluster.nodes[0], words)?;
            told(&cluster.nodes[1], words)?;
            in_status(cluster, 1, words)?;
            works(cluster)?;
            std::fs::remove_file(path)?;
            well_again(cluster)?;
        }
        let after = [flaps(&cluster.nodes[0])?, flaps(&cluster.nodes[1])?];
        anyhow::ensure!(before == after, "sessions flapped: {before:?}, {after:?}");
        Ok(())
    })
}

#[test]
fn an_agent_whose_node_loses_its_address_says_so_and_comes_back() -> Result<()> {
    scenario("badown", 3, |cluster| {
        two_pods(cluster)?;
        // node3 has no pod: what happens to it must not be felt elsewhere.
        let before = edit(
            cluster,
            "    projectcalico.org/IPv4Address: 192.0.2.13/24
    projectcalico.org/IPv6Address: 2001:db8::13/64
",
            "    example.com/note: none\n",
        )?;
        told(
            &cluster.nodes[2],
            &[
                "Node/node3",
                "metadata.annotations",
                "no address",
                "annotate it with projectcalico.org/IPv4Address",
            ],
        )?;
        told(&cluster.nodes[0], &["Node/node3", "no address"])?;
        not_ready(cluster, 2, "Node/node3")?;
        pods_reach_each_other(cluster)?;
        restore(cluster, &before)?;
        well_again(cluster)?;

        // node3 claims the address of node2, and does not have it.
        edit(cluster, "192.0.2.13/24", "192.0.2.12/24")?;
        for node in &cluster.nodes {
            told(
                node,
                &["Node/node2", "Node/node3", "192.0.2.12", "of its own"],
            )?;
        }
        told(
            &cluster.nodes[2],
            &[
                "Node/node3",
                "metadata.annotations",
                "no interface",
                "correct",
            ],
        )?;
        not_ready(cluster, 2, "no interface of this host")?;
        pods_reach_each_other(cluster)?;
        cluster.plug(0, "meanwhile")?;
        pods_reach_each_other(cluster)?;
        restore(cluster, &before)?;
        well_again(cluster)?;
        cluster.plug(2, "last")?;
        cluster.wait_converged()?;
        anyhow::ensure!(problems(&cluster.nodes[2])?.is_empty(), "problems are left");
        works(cluster)
    })
}

fn not_ready(cluster: &e2e::cluster::Cluster, node: usize, word: &str) -> Result<()> {
    wait::until("the agent not to be ready", LIMIT, || {
        let (ready, answer) = cluster.nodes[node].ready()?;
        anyhow::ensure!(!ready && answer.contains(word), "{answer}");
        Ok(Some(()))
    })?;
    Ok(())
}
