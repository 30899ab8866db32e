//! A cluster of tunnels only: BGP is switched off, routes come from BlockAffinity objects.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::overlay::{LIMIT, Overlay, Setup, scenario};
use e2e::wait;

use crate::encap::{Encap, a_pod_each, address};

/// Nobody speaks BGP, everybody reaches everybody, new blocks and nodes that go included.
pub(crate) fn routes_come_from_block_affinities(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 0, 1], "CrossSubnet").without_bgp();
    scenario(&encap.lab("nobgp"), &setup, |overlay| {
        let sessions = overlay.capture(2, "tcp port 179")?;
        a_pod_each(overlay)?;
        let (near, far) = (
            address(overlay, "pod2", encap)?,
            address(overlay, "pod3", encap)?,
        );
        overlay.wait_device(0, near, "eth0")?;
        overlay.wait_device(0, far, encap.device())?;
        overlay.wait_all_reach(encap.v6())?;
        for node in &overlay.nodes {
            let sockets = node.namespace.run("ss -H -l -t -n")?;
            ensure!(
                !sockets.contains(":179 "),
                "{} listens: {sockets}",
                node.name
            );
        }
        let sessions = sessions.stop()?;
        ensure!(sessions.is_empty(), "somebody tries BGP: {sessions:#?}");
        // The affinity goes, the route goes.
        let pod = overlay.pods.remove(2);
        pod.unplug(&overlay.lab, &overlay.nodes[2])?;
        for file in std::fs::read_dir(overlay.datastore().join("blockaffinities"))? {
            let path = file?.path();
            if std::fs::read_to_string(&path)?.contains("node: node3") {
                std::fs::remove_file(path)?;
            }
        }
        wait::until_true("the route to go with the affinity", LIMIT, || {
            Ok(overlay
                .hop(0, far)
                .map_or(true, |hop| hop.device != encap.device()))
        })?;
        Ok(())
    })
}

/// All addresses are in one block; the nodes that it is not of borrow, for pods and for tunnels.
pub(crate) fn borrowed_addresses_are_where_their_nodes_say(encap: Encap) -> Result<()> {
    let pool = encap.pool_of("pool", "10.244.0.0/26", "CrossSubnet");
    let setup = Setup::new(&[0, 0, 1], pool).without_bgp();
    scenario(&encap.lab("borrow"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        let mut borrowers = Vec::new();
        for index in 0..overlay.nodes.len() {
            let pod = address(overlay, &format!("pod{}", index + 1), encap)?;
            if borrowed(overlay, index)?.contains(&pod) {
                borrowers.push((index, pod));
            }
        }
        let [_, (borrower, pod)] = borrowers[..] else {
            anyhow::bail!("one of three has the block, but these borrow: {borrowers:?}");
        };
        let others = (0..overlay.nodes.len()).filter(|index| *index != borrower);
        let others: Vec<usize> = others.collect();
        let host = pod.to_string();
        for other in &others {
            let route = overlay.nodes[*other].route(&host)?;
            ensure!(route.is_some(), "node{} has no route to {host}", other + 1);
        }
        // The pod ends, its node says so, the routes go.
        let ended = overlay.pods.remove(borrower);
        ended.unplug(&overlay.lab, &overlay.nodes[borrower])?;
        wait::until_true("the routes to go with the pod", LIMIT, || {
            let told = borrowed(overlay, borrower)?;
            ensure!(!told.contains(&pod), "its node has {told:?}");
            for other in &others {
                let route = overlay.nodes[*other].route(&host)?;
                ensure!(route.is_none(), "node{} has {route:?}", other + 1);
            }
            Ok(true)
        })?;
        overlay.wait_all_reach(encap.v6())
    })
}

/// What a Node says that it has borrowed.
fn borrowed(overlay: &Overlay, index: usize) -> Result<Vec<IpAddr>> {
    let file = format!("node{}.yaml", index + 1);
    let text = std::fs::read_to_string(overlay.datastore().join(file))?;
    let line = text
        .lines()
        .find(|line| line.contains("tortie.dev/borrowed-addresses"));
    let Some(line) = line else {
        return Ok(Vec::new());
    };
    let (_, all) = line.split_once(": ").context("a value")?;
    let all = all.trim().trim_matches(['\'', '"']).split(',');
    let all = all.map(|text| text.parse().with_context(|| line.to_owned()));
    all.collect()
}
