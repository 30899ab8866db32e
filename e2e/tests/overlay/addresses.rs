//! Addresses of tunnels change.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;
use serde_json::Value;

use crate::encap::{Encap, wait_address};

/// The tunnel has one address of the pool, says so on its Node and in IPAM, gets another one with
/// another pool, and gives it back when no pool needs tunnels (Calico's `ipip_addr_assigned`).
pub(crate) fn ipip_addr_assigned(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("addr"), &setup, |overlay| {
        let old = assigned(overlay, encap)?;
        let other = if encap.v6() {
            "fd00:10:99::/112"
        } else {
            "10.99.0.0/16"
        };
        overlay.pools(&[encap.pool_of("other", other, "Always")])?;
        let what = "an address of the other pool";
        let prefix = other.split("0.0/").next().unwrap_or(other);
        let prefix = prefix.trim_end_matches("/112");
        wait::until_true(what, LIMIT, || {
            let now = wait_address(overlay, 0, encap)?;
            ensure!(now.to_string().starts_with(prefix), "it has {now}");
            Ok(true)
        })?;
        let new = assigned(overlay, encap)?;
        for address in &old {
            ensure!(!new.contains(address), "{address} is still in use");
            wait::until_true("the old address to be free", LIMIT, || {
                Ok(!in_ipam(overlay, *address)?)
            })?;
        }
        overlay.pools(&[encap.pool_of("other", other, "Never")])?;
        for node in 0..2 {
            wait::until_true("the annotation to go", LIMIT, || {
                Ok(overlay.annotation(node, encap.annotation())?.is_none())
            })?;
            // It lingers, for packets of nodes that have not seen the change.
            let what = "the device to be gone or without address";
            wait::until_true(what, 3 * LIMIT, || {
                let link = overlay.link(node, encap.device())?;
                Ok(link.is_none() || overlay.device_addresses(node, encap.device())?.is_empty())
            })?;
        }
        for address in &new {
            wait::until_true("the address to be free", LIMIT, || {
                Ok(!in_ipam(overlay, *address)?)
            })?;
        }
        Ok(())
    })
}

/// The address of each node's tunnel: the same on the device, on the Node and in IPAM.
fn assigned(overlay: &Overlay, encap: Encap) -> Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    for node in 0..overlay.nodes.len() {
        let address = wait_address(overlay, node, encap)?;
        let what = format!("{address} on the Node");
        wait::until_true(&what, LIMIT, || {
            let said = overlay.annotation(node, encap.annotation())?;
            ensure!(said == Some(address.to_string()), "it says {said:?}");
            Ok(true)
        })?;
        ensure!(in_ipam(overlay, address)?, "{address} is not in IPAM");
        all.push(address);
    }
    ensure!(all[0] != all[1], "two nodes have {}", all[0]);
    Ok(all)
}

/// Whether a block has this address in use.
fn in_ipam(overlay: &Overlay, address: IpAddr) -> Result<bool> {
    for block in overlay.objects("ipamblocks")? {
        let spec = &block["spec"];
        let cidr = spec["cidr"].as_str().unwrap_or_default();
        let Some(base) = cidr.split('/').next().and_then(|base| base.parse().ok()) else {
            continue;
        };
        let Some(ordinal) = distance(base, address) else {
            continue;
        };
        let allocations = spec["allocations"].as_array();
        let entry = allocations.and_then(|all| all.get(usize::try_from(ordinal).ok()?));
        if entry.is_some_and(|entry| *entry != Value::Null) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn distance(base: IpAddr, address: IpAddr) -> Option<u128> {
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            Some(u128::from(u32::from(address).checked_sub(u32::from(base))?))
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            u128::from(address).checked_sub(u128::from(base))
        }
        _ => None,
    }
}
