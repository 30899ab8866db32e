//! Several pools with different modes at once.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::overlay::{Overlay, Pool, Setup, scenario};
use e2e::pod::{Pod, configuration};
use serde_json::json;

use crate::encap::Encap;

/// Pods of each pool on three nodes, two of them in a subnet: each destination goes the way that
/// its pool asks for.
pub(crate) fn pools_with_different_modes(encap: Encap) -> Result<()> {
    let pools = [
        Pool::new("never", "10.244.0.0/18"),
        encap.pool_of("always", "10.244.64.0/18", "Always"),
        encap.pool_of("cross", "10.244.128.0/18", "CrossSubnet"),
    ];
    let mut setup = Setup::new(&[0, 0, 1], pools[0].clone());
    setup.pools = pools.to_vec();
    scenario(&encap.lab("modes"), &setup, |overlay| {
        for pool in &pools {
            for node in 0..3 {
                plug(overlay, node, pool)?;
            }
        }
        overlay.route_blocks()?;
        let device = encap.device();
        for (pool, near, far) in [
            ("never", "eth0", "eth0"),
            ("always", device, device),
            ("cross", "eth0", device),
        ] {
            overlay.wait_device(0, pod(overlay, pool, 1)?, near)?;
            overlay.wait_device(1, pod(overlay, pool, 0)?, near)?;
            for node in 0..2 {
                overlay.wait_device(node, pod(overlay, pool, 2)?, far)?;
                overlay.wait_device(2, pod(overlay, pool, node)?, far)?;
            }
        }
        for to in overlay.pods.iter().filter(|pod| pod.name != "never1") {
            overlay.wait_reach("never1", to.address(false)?)?;
        }
        Ok(())
    })
}

fn plug(overlay: &mut Overlay, node: usize, pool: &Pool) -> Result<()> {
    let mut network = configuration(&overlay.nodes[node]);
    network["ipam"] =
        json!({"assign_ipv4": "true", "assign_ipv6": "false", "ipv4_pools": [pool.name]});
    let name = format!("{}{}", pool.name, node + 1);
    let pod = Pod::plug_with(&overlay.lab, &overlay.nodes[node], &name, &network)?;
    let prefix = pool.cidr.split(".0/").next().unwrap_or_default().to_owned();
    let address = pod.address(false)?.to_string();
    let third: u8 = address
        .split('.')
        .nth(2)
        .and_then(|octet| octet.parse().ok())
        .context("no third octet")?;
    let base: u8 = prefix
        .split('.')
        .nth(2)
        .and_then(|octet| octet.parse().ok())
        .unwrap_or(0);
    ensure!(
        (base..=base.saturating_add(63)).contains(&third),
        "{name} got {address}, not one of {}",
        pool.cidr
    );
    overlay.pods.push(pod);
    Ok(())
}

fn pod(overlay: &Overlay, pool: &str, node: usize) -> Result<IpAddr> {
    overlay.pod(&format!("{pool}{}", node + 1))?.address(false)
}
