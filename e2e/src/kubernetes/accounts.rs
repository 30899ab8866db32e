//! Who has which address: pods, objects of address management, kernels. All three must say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Kubernetes, LIMIT};
use crate::wait;

const TUNNEL: &str = "projectcalico.org/IPv4VXLANTunnelAddr";

/// Addresses by node.
type Held = BTreeMap<String, BTreeSet<IpAddr>>;

impl Kubernetes {
    /// Waits until addresses in use are those of pods and tunnels, each in a block of its node, and
    /// every kernel has an interface and a route for each of its pods and no more.
    pub fn wait_for_accounts(&self) -> Result<()> {
        wait::until(
            "addresses, pods and interfaces to be the same",
            LIMIT,
            || self.accounts().map(Some),
        )
        .map(drop)
    }

    fn accounts(&self) -> Result<()> {
        let pods = self.pods_by_node()?;
        let mut expected = pods.clone();
        let mut tunnels = 0;
        for node in self.items("nodes")? {
            if let Some(address) = node["metadata"]["annotations"][TUNNEL].as_str() {
                let name = text(&node["metadata"]["name"])?;
                expected.entry(name).or_default().insert(address.parse()?);
                tunnels += 1;
            }
        }
        let used = self.used_by_node()?;
        ensure!(used == expected, "in use {used:?}, expected {expected:?}");
        let handles = self.items("ipamhandles")?.len();
        let count: usize = pods.values().map(BTreeSet::len).sum();
        ensure!(handles == count + tunnels, "{handles} handles");
        for machine in &self.machines {
            let own = pods.get(&machine.name).cloned().unwrap_or_default();
            let routed = self.routed(&machine.name)?;
            ensure!(routed == own, "{} routes {routed:?}", machine.name);
            let links = machine.namespace.ip("-o link show")?;
            let links = links.matches(": cali").count();
            ensure!(
                links == own.len(),
                "{} has {links} interfaces",
                machine.name
            );
        }
        Ok(())
    }

    /// Addresses of pods that have a network of their own and have not ended.
    fn pods_by_node(&self) -> Result<Held> {
        let mut held = Held::new();
        for pod in self.items("pods -A")? {
            let (spec, status) = (&pod["spec"], &pod["status"]);
            if spec["hostNetwork"] == true {
                continue;
            }
            // What starts or ends has one or has none.
            let name = &pod["metadata"]["name"];
            ensure!(status["phase"] == "Running", "{name} does not run");
            let leaving = !pod["metadata"]["deletionTimestamp"].is_null();
            ensure!(!leaving, "{name} is being deleted");
            let address = text(&status["podIP"])?.parse()?;
            held.entry(text(&spec["nodeName"])?)
                .or_default()
                .insert(address);
        }
        Ok(held)
    }

    /// Addresses that the blocks say are in use, by the node of the block.
    fn used_by_node(&self) -> Result<Held> {
        let mut held = Held::new();
        let affinities = self.items("blockaffinities")?;
        let blocks = self.items("ipamblocks")?;
        ensure!(
            affinities.len() == blocks.len(),
            "{} blocks and {} affinities",
            blocks.len(),
            affinities.len()
        );
        for block in blocks {
            let spec = &block["spec"];
            let affinity = text(&spec["affinity"])?;
            let node = affinity
                .strip_prefix("host:")
                .context("a block of a host")?;
            let confirmed = affinities.iter().any(|affinity| {
                let own = &affinity["spec"];
                own["cidr"] == spec["cidr"] && own["node"] == node && own["state"] == "confirmed"
            });
            ensure!(
                confirmed,
                "no confirmed affinity of {node} for {}",
                spec["cidr"]
            );
            let cidr = text(&spec["cidr"])?;
            let base: Ipv4Addr = cidr.split('/').next().context("a range")?.parse()?;
            let all = spec["allocations"].as_array().context("allocations")?;
            for (ordinal, _) in all.iter().enumerate().filter(|(_, one)| !one.is_null()) {
                let address = Ipv4Addr::from(u32::from(base) + u32::try_from(ordinal)?);
                held.entry(node.to_owned())
                    .or_default()
                    .insert(address.into());
            }
        }
        held.retain(|_, addresses| !addresses.is_empty());
        Ok(held)
    }

    /// Where the kernel of a node leads into interfaces of pods.
    fn routed(&self, node: &str) -> Result<BTreeSet<IpAddr>> {
        let routes = self.machine(node)?.namespace.ip_json("-4 route show")?;
        let mut addresses = BTreeSet::new();
        for route in routes.as_array().into_iter().flatten() {
            if route["dev"]
                .as_str()
                .is_some_and(|dev| dev.starts_with("cali"))
            {
                addresses.insert(text(&route["dst"])?.parse()?);
            }
        }
        Ok(addresses)
    }
}

fn text(value: &Value) -> Result<String> {
    let text = value
        .as_str()
        .with_context(|| format!("{value} is no text"))?;
    Ok(text.to_owned())
}
