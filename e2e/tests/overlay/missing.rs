//! Where a tunnel is required, no packet leaves without one: not while the device is missing,
//! not while the agent is away, not while things are repaired.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, scenario};
use e2e::traffic::Flow;
use e2e::wait;
use nix::sys::signal::Signal;

use crate::encap::{Encap, PLAIN, a_pod_each, address};

/// The device is broken again and again under a flow of 1000 packets a second, with the agent and
/// without it.
pub(crate) fn nothing_leaves_in_the_open(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("open"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(encap.v6())?;
        let device = encap.device();
        let far = address(overlay, "pod2", encap)?;
        let (from, to) = (overlay.pod("pod1")?, overlay.pod("pod2")?);
        let plain = overlay.capture(0, PLAIN)?;
        let flow = Flow::start(&from.namespace, &to.namespace, far, 1000)?;
        let break_it = match encap {
            // What the module brings cannot be deleted.
            Encap::Ipip => format!("link set {device} down"),
            Encap::Vxlan | Encap::VxlanV6 => format!("link delete {device}"),
        };
        let node = overlay.nodes[0].namespace.clone();
        std::thread::sleep(Duration::from_secs(1));
        for _ in 0..3 {
            node.ip(&break_it)?;
            wait::until_true("the tunnel to be back", LIMIT, || {
                Ok(overlay.hop(0, far).is_ok_and(|hop| hop.device == device))
            })?;
        }
        // Nobody repairs it now.
        overlay.nodes[0].stop(Signal::SIGKILL)?;
        node.ip(&break_it)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            let hop = overlay.hop(0, far);
            ensure!(
                !hop.as_ref().is_ok_and(|hop| hop.device == "eth0"),
                "without a tunnel and without an agent: {hop:?}"
            );
        }
        overlay.nodes[0].start()?;
        overlay.wait_device(0, far, device)?;
        overlay.wait_reach("pod1", far)?;
        let count = flow.stop()?;
        ensure!(count.received > 100, "the flow did not run: {count:?}");
        let plain = plain.stop()?;
        ensure!(
            plain.is_empty(),
            "{} packets in the open, the first: {:?}",
            plain.len(),
            plain.first()
        );
        Ok(())
    })
}
