//! What the objects say, read without the code under test, and what must hold of them at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::{Cidr, Kind};
use datastore::Datastore;
use datastore::memory::MemoryStore;
use serde_json::Value;

use crate::stepped::block_on;

/// Everything the store knows about addresses.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Address to handle.
    pub(crate) held: BTreeMap<IpAddr, String>,
    pub(crate) cooling: BTreeSet<IpAddr>,
    /// What handles say they have.
    pub(crate) counted: BTreeMap<String, BTreeMap<Cidr, u64>>,
    /// What they have.
    pub(crate) actual: BTreeMap<String, BTreeMap<Cidr, u64>>,
    /// Block to owner.
    pub(crate) owners: BTreeMap<Cidr, Option<String>>,
    /// Node, block, state.
    pub(crate) affinities: Vec<(String, Cidr, String)>,
    /// Objects marked as deleted that are still there.
    pub(crate) leftovers: Vec<String>,
}

impl World {
    /// Reads the store and checks what must hold between any two writes.
    pub(crate) fn read(store: &MemoryStore) -> World {
        let mut world = World::default();
        for spec in world.live(store, Kind::IpamBlock) {
            world.read_block(&spec);
        }
        for spec in world.live(store, Kind::IpamHandle) {
            let counts = spec["block"].as_object().unwrap().iter();
            let counts =
                counts.map(|(block, count)| (block.parse().unwrap(), count.as_u64().unwrap()));
            let id = spec["handleID"].as_str().unwrap().to_owned();
            assert!(
                world.counted.insert(id, counts.collect()).is_none(),
                "two objects of one handle"
            );
        }
        for spec in world.live(store, Kind::BlockAffinity) {
            let text = |field: &str| spec[field].as_str().unwrap().to_owned();
            world
                .affinities
                .push((text("node"), text("cidr").parse().unwrap(), text("state")));
        }
        world.check();
        world
    }

    fn live(&mut self, store: &MemoryStore, kind: Kind) -> Vec<Value> {
        let mut live = Vec::new();
        for object in block_on(store.list(kind)).unwrap() {
            let deleted = &object.value["spec"]["deleted"];
            if deleted == true || deleted == "true" {
                self.leftovers.push(object.key.to_string());
            } else {
                live.push(object.value["spec"].clone());
            }
        }
        live
    }

    fn read_block(&mut self, spec: &Value) {
        let cidr: Cidr = spec["cidr"].as_str().unwrap().parse().unwrap();
        assert!(
            !self.owners.keys().any(|other| other.overlaps(&cidr)),
            "block {cidr} overlaps another"
        );
        self.owners
            .insert(cidr, spec["affinity"].as_str().map(str::to_owned));
        let allocations = spec["allocations"].as_array().unwrap();
        let free: Vec<u64> = spec["unallocated"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o.as_u64().unwrap())
            .collect();
        assert_eq!(
            free.iter().collect::<BTreeSet<_>>().len(),
            free.len(),
            "block {cidr} lists an address twice"
        );
        for (ordinal, allocation) in allocations.iter().enumerate() {
            let is_free = free.contains(&(ordinal as u64));
            assert_eq!(
                allocation.is_null(),
                is_free,
                "address {ordinal} of {cidr} is lost, or free and held"
            );
            let Some(index) = allocation.as_u64() else {
                continue;
            };
            let addr = nth(cidr, ordinal);
            let attribute = &spec["attributes"][index as usize];
            if attribute.get("releasedAt").is_some() {
                self.cooling.insert(addr);
                continue;
            }
            let handle = attribute["handle_id"].as_str().unwrap().to_owned();
            *self
                .actual
                .entry(handle.clone())
                .or_default()
                .entry(cidr)
                .or_default() += 1;
            self.held.insert(addr, handle);
        }
    }

    fn check(&self) {
        for (handle, blocks) in &self.actual {
            for (block, count) in blocks {
                let counted = self
                    .counted
                    .get(handle)
                    .and_then(|counts| counts.get(block))
                    .copied()
                    .unwrap_or(0);
                assert!(
                    counted >= *count,
                    "{handle} has {count} addresses of {block} and counts {counted}"
                );
            }
        }
        let mut confirmed = BTreeSet::new();
        for (node, cidr, state) in &self.affinities {
            if state == "confirmed" {
                assert!(confirmed.insert(cidr), "{cidr} is confirmed twice");
                let owner = self.owners.get(cidr);
                assert_eq!(
                    owner,
                    Some(&Some(format!("host:{node}"))),
                    "{cidr} is confirmed for {node}"
                );
            }
        }
    }

    /// Checks what must hold when everything has been settled.
    pub(crate) fn check_settled(&self) {
        assert_eq!(
            self.counted, self.actual,
            "counts of handles and addresses in blocks"
        );
        assert_eq!(self.leftovers, [""; 0], "objects marked as deleted");
        let confirmed: BTreeMap<Cidr, String> = self
            .affinities
            .iter()
            .map(|(node, cidr, state)| {
                assert_eq!(state, "confirmed", "affinity of {node} for {cidr}");
                (*cidr, format!("host:{node}"))
            })
            .collect();
        for (cidr, owner) in &self.owners {
            assert_eq!(owner.as_ref(), confirmed.get(cidr), "owner of {cidr}");
            let in_use = |addr: &IpAddr| cidr.contains(addr);
            let used = self.held.keys().any(in_use) || self.cooling.iter().any(in_use);
            assert!(
                owner.is_some() || used,
                "{cidr} has neither owner nor addresses"
            );
        }
    }
}

fn nth(cidr: Cidr, ordinal: usize) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(v4) => IpAddr::from((v4.to_bits() + ordinal as u32).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() + ordinal as u128).to_be_bytes()),
    }
}
