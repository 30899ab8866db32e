//! The mode of a pool goes through all values while packets flow (Calico's `ipip` system test,
//! and more: nothing may be lost).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::overlay::{LIMIT, Overlay, Pool, scenario};
use e2e::traffic::Flow;

use crate::encap::{Encap, a_pod_each, address};

/// Packets a second; emulated processors (`e2e/vm/run`) do not get more through.
fn rate() -> u32 {
    match std::env::var_os("TORTIE_VM") {
        Some(_) => 100,
        None => 1000,
    }
}

/// One step: the mode, and the devices towards a node of the same subnet and of another one.
pub(crate) struct Step {
    pub(crate) pool: Pool,
    /// Encapsulation whose packets the wire shows between subnets; nothing: plain packets.
    pub(crate) encap: Option<Encap>,
    pub(crate) near: &'static str,
    pub(crate) far: &'static str,
}

/// A pool in a mode, and what follows.
pub(crate) fn step(encap: Encap, mode: &'static str) -> Step {
    let (near, far) = match mode {
        "Always" => (encap.device(), encap.device()),
        "CrossSubnet" => ("eth0", encap.device()),
        _ => ("eth0", "eth0"),
    };
    Step {
        pool: encap.pool(mode),
        encap: (mode != "Never").then_some(encap),
        near,
        far,
    }
}

/// From one kind of tunnel to the other and back.
pub(crate) fn both_kinds() -> [Step; 7] {
    [
        step(Encap::Ipip, "Never"),
        step(Encap::Ipip, "Always"),
        step(Encap::Ipip, "CrossSubnet"),
        step(Encap::Vxlan, "Always"),
        step(Encap::Vxlan, "CrossSubnet"),
        step(Encap::Ipip, "Always"),
        step(Encap::Ipip, "Never"),
    ]
}

/// Takes the pool through the steps and loses no packet of 1000 a second (100 where processors are
/// emulated): between two nodes of a subnet and across the router, both ways.
pub(crate) fn loses_nothing(name: &str, encap: Encap, steps: &[Step]) -> Result<()> {
    let setup = encap.setup(&[0, 0, 1], "Never");
    scenario(name, &setup, |overlay| {
        a_pod_each(overlay)?;
        // Without a tunnel the fabric has to know the pods.
        overlay.route_blocks()?;
        overlay.wait_all_reach(encap.v6())?;
        let mut flows = Vec::new();
        for (from, to) in [("pod1", "pod2"), ("pod1", "pod3"), ("pod3", "pod1")] {
            let target = address(overlay, to, encap)?;
            let (source, to) = (&overlay.pod(from)?.namespace, overlay.pod(to)?);
            let flow = Flow::start(source, &to.namespace, target, rate())?;
            flows.push((format!("{from} to {}", to.name), flow));
        }
        for step in steps {
            take(overlay, encap, step)
                .with_context(|| format!("ipip {}, vxlan {}", step.pool.ipip, step.pool.vxlan))?;
        }
        for (name, flow) in flows {
            let count = flow.stop()?;
            ensure!(count.sent > 1000, "{name} did not run: {count:?}");
            ensure!(count.lost() == 0, "{name}: {count:?}");
        }
        Ok(())
    })
}

fn take(overlay: &Overlay, encap: Encap, step: &Step) -> Result<()> {
    overlay.pools(std::slice::from_ref(&step.pool))?;
    let pods = ["pod1", "pod2", "pod3"];
    let addresses = pods.map(|pod| address(overlay, pod, encap));
    let [one, two, three] = addresses;
    let (one, two, three) = (one?, two?, three?);
    for (node, target, device) in [
        (0, two, step.near),
        (1, one, step.near),
        (0, three, step.far),
        (1, three, step.far),
        (2, one, step.far),
        (2, two, step.far),
    ] {
        overlay.wait_device(node, target, device)?;
    }
    // The wire says the same: the flow to pod3 on the cable of its node.
    let (filter, outer) = match step.encap {
        Some(encap) => (encap.filter().to_owned(), overlay.address(0, encap.v6())),
        None => (format!("dst host {three}"), one.to_string()),
    };
    let capture = overlay.capture(2, &filter)?;
    capture.wait(LIMIT, |line| line.contains(&outer))?;
    capture.stop()?;
    // Long enough for whatever follows the last route.
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}
