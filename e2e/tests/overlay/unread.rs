//! A pool that became unreadable while its agent was away.

use anyhow::{Context, Result, ensure};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;
use nix::sys::signal::Signal;

use crate::encap::{Encap, PLAIN, a_pod_each, address};

/// The agent starts with a pool that is invalid, of which range and mode can be read: packets go
/// through the tunnel. It starts with one that is no YAML: they go nowhere, above all not in the
/// open, and the tunnel stays until the pool is mended.
pub(crate) fn a_pool_that_cannot_be_read_opens_nothing(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("unread"), &setup, |overlay| {
        a_pod_each(overlay)?;
        // Whatever leaves the node in the open would arrive.
        overlay.route_blocks()?;
        overlay.wait_all_reach(encap.v6())?;
        let pools = overlay.datastore().join("pools.yaml");
        let good = std::fs::read_to_string(&pools)?;
        let far = address(overlay, "pod2", encap)?;
        let tunnel = overlay.device_addresses(0, encap.device())?;
        let plain = overlay.capture(0, PLAIN)?;

        let invalid = good.replace("blockSize: ", "blockSize: 1");
        restart_with(overlay, &invalid, "range and mode can be read")?;
        overlay.wait_device(0, far, encap.device())?;
        overlay.wait_reach("pod1", far)?;

        let garbled = good.replace("spec: {", "spec: [");
        restart_with(overlay, &garbled, "nothing of it can be read")?;
        let from = &overlay.pod("pod1")?.namespace;
        let answered = from.run(&format!("ping -n -q -c 10 -i 0.2 -W 1 {far}"));
        ensure!(answered.is_err(), "the mode of the pool is not known");
        let kept = overlay.device_addresses(0, encap.device())?;
        ensure!(kept == tunnel, "{kept:?} instead of {tunnel:?}");

        overlay.apply("pools.yaml", &good)?;
        overlay.wait_reach("pod1", far)?;
        let plain = plain.stop()?;
        ensure!(plain.is_empty(), "in the open: {plain:#?}");
        Ok(())
    })
}

fn restart_with(overlay: &mut Overlay, pools: &str, said: &str) -> Result<()> {
    overlay.nodes[0].stop(Signal::SIGKILL)?;
    overlay.apply("pools.yaml", pools)?;
    overlay.nodes[0].start()?;
    overlay.nodes[0].wait_ready(LIMIT)?;
    wait::until_true("the state to say so", LIMIT, || {
        let state = overlay.nodes[0].get("/state")?;
        let body = state.split_once("\r\n\r\n").context("no body")?.1;
        ensure!(body.contains(said), "{body}");
        Ok(true)
    })?;
    Ok(())
}
