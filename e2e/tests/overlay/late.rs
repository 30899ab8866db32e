//! The order in which nodes and tunnels come up does not matter (Calico issue 1584).

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::traffic::Flow;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::encap::{Encap, PLAIN, a_pod_each, address, ping};

/// The agent of the far node stands still, so it has no tunnel, when its pool begins to ask for
/// one. Nothing is lost meanwhile, and the route uses the tunnel once there is one.
pub(crate) fn issue_1584(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Never");
    scenario(&encap.lab("late"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.route_blocks()?;
        overlay.wait_all_reach(encap.v6())?;
        let late = Pid::from_raw(i32::try_from(overlay.nodes[1].pid()?)?);
        kill(late, Signal::SIGSTOP)?;
        let far = address(overlay, "pod2", encap)?;
        let (from, to) = (overlay.pod("pod1")?, overlay.pod("pod2")?);
        let flow = Flow::start(&from.namespace, &to.namespace, far, 1000)?;
        overlay.pools(&[encap.pool("Always")])?;
        std::thread::sleep(Duration::from_secs(2));
        let hop = overlay.hop(0, far);
        kill(late, Signal::SIGCONT)?;
        let hop = hop?;
        ensure!(
            hop.device == "eth0",
            "the tunnel is used before the other end has one: {hop:?}"
        );
        overlay.wait_device(0, far, encap.device())?;
        overlay.wait_device(1, address(overlay, "pod1", encap)?, encap.device())?;
        std::thread::sleep(Duration::from_secs(1));
        let count = flow.stop()?;
        ensure!(count.sent > 1000 && count.lost() == 0, "{count:?}");
        Ok(())
    })
}

/// Nodes come back as after a loss of power, one after the other: no device, no routes. From the
/// first packet on nothing leaves in the open, and in the end all is as before.
pub(crate) fn cold_start(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("cold"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        let far = address(overlay, "pod2", encap)?;
        for order in [[0, 1], [1, 0]] {
            for node in 0..2 {
                overlay.nodes[node].stop(Signal::SIGKILL)?;
                forget(overlay, node, encap)?;
            }
            let plain = overlay.capture(1, PLAIN)?;
            for node in order {
                overlay.nodes[node].start()?;
                overlay.nodes[node].wait_ready(LIMIT)?;
            }
            overlay.wait_device(0, far, encap.device())?;
            overlay.wait_all_reach(encap.v6())?;
            let plain = plain.stop()?;
            ensure!(plain.is_empty(), "in the open: {plain:#?}");
        }
        ping(overlay.pod("pod1")?, far)
    })
}

/// What a reboot does to the tunnel of a node.
fn forget(overlay: &Overlay, node: usize, encap: Encap) -> Result<()> {
    let namespace = &overlay.nodes[node].namespace;
    let device = encap.device();
    if namespace.ip(&format!("link delete {device}")).is_err()
        || overlay.link(node, device)?.is_some()
    {
        // What the module brings cannot be deleted.
        namespace.ip(&format!("link set {device} down mtu 1480"))?;
        namespace.ip(&format!("address flush dev {device}"))?;
    }
    let family = if encap.v6() { "-6" } else { "-4" };
    namespace.ip(&format!("{family} route flush proto 80"))?;
    Ok(())
}
