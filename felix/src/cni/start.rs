//! What is done once at the start: finish deletions, find out which recorded containers are
//! still there, take up those whose record is lost, tell the endpoints. What leaked is released
//! later, and from then on from time to time: whether a sandbox is gone is known here only.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::Kind;
use crds::ipam_block::attribute;
use datastore::Key;
use felix_api::cni::{Attachment, Del, parse_alias};
use felix_calc::Update;
use ipam::Held;
use netlink::Socket;

use super::Server;
use super::record::Record;

/// How often deletions that are written down are looked for.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the first search for leaked addresses waits: containers made while no agent was
/// there are reported by then.
const RECLAIM_AFTER: Duration = Duration::from_secs(10);
/// How soon to ask again for the addresses of pods without record.
const ADOPT_RETRY: Duration = Duration::from_secs(2);
const RECLAIM_RETRY: Duration = Duration::from_secs(30);
/// How often it is searched again: for sandboxes that ended without a DEL, and for what an
/// addition that failed could not give back.
const RECLAIM_EVERY: Duration = Duration::from_secs(300);
/// How often what is borrowed is looked at too, at most: that needs every block of the cluster.
const RECLAIM_BORROWED_EVERY: Duration = Duration::from_secs(2 * 3600);

/// Which addresses of this node are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Those of its own blocks.
    Own,
    /// Borrowed ones too.
    Borrowed,
}

impl Server {
    /// Tells the endpoints of this node. Waits for the datastore only when a record is lost, or another plugin's pods
    /// are there.
    ///
    /// # Errors
    /// When the kernel or the state directory cannot be read.
    pub async fn start(&self) -> Result<()> {
        self.mark_strangers().await?;
        let veths = veths(&self.settings.interface_prefix)?;
        self.bury_gone(&veths).await?;
        self.forget_buried().await?;
        self.adopt(veths).await?;
        let ids: Vec<_> = self.records().iter().map(Record::endpoint_id).collect();
        for id in ids {
            self.tell(id).await;
        }
        if self.updates.send(Update::EndpointsInSync).await.is_err() {
            bail!("the calculation has ended");
        }
        Ok(())
    }

    /// Writes records for pods that have a veth of ours and none: without it a lost state
    /// directory would cost every pod of the node its routes.
    async fn adopt(&self, veths: Vec<Veth>) -> Result<()> {
        let buried = self.buried_attachments();
        let unknown = |veth: &Veth| {
            self.records().get(&veth.attachment).is_none() && !buried.contains(&veth.attachment)
        };
        let lost: Vec<Veth> = veths.into_iter().filter(unknown).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let held = self.held().await;
        for veth in lost {
            let Some(record) = adopted(&veth, &held, &self.settings.boot) else {
                tracing::warn!(
                    interface = veth.name,
                    "a veth of ours without record or addresses"
                );
                continue;
            };
            tracing::warn!(interface = veth.name, addresses = ?record.addresses, "record restored");
            self.records().put(record)?;
        }
        Ok(())
    }

    /// Addresses of this node; waits for the datastore.
    pub(super) async fn held(&self) -> Vec<Held> {
        loop {
            match self.ipam.allocations_of_node(&self.settings.node).await {
                Ok(held) => return held,
                Err(error) => tracing::warn!(%error, "pods without record wait for the datastore"),
            }
            tokio::time::sleep(ADOPT_RETRY).await;
        }
    }

    /// Writes down the deletion of every container that is gone for good.
    async fn bury_gone(&self, veths: &[Veth]) -> Result<()> {
        let is_gone = |record: &Record| is_gone(record, veths, &self.settings.boot);
        let gone: Vec<Attachment> = self
            .records()
            .iter()
            .filter(|record| is_gone(record))
            .map(Record::attachment)
            .collect();
        for attachment in gone {
            let _exclusive = self.exclusive(&attachment.container_id).await;
            // Deleted, or made anew, while others worked on it.
            let current = self.records().get(&attachment).cloned();
            let Some(record) = current.filter(is_gone) else {
                continue;
            };
            tracing::info!(
                container = record.container_id,
                "container is gone for good"
            );
            self.bury(&Del {
                network: record.network,
                container_id: record.container_id,
                ifname: record.ifname,
                namespace: record.namespace,
                pod: record.pod,
            })?;
        }
        Ok(())
    }

    /// Settles deletions, and from time to time what leaked.
    ///
    /// # Errors
    /// None so far.
    pub async fn housekeep(&self) -> Result<()> {
        let mut reclaim_at = tokio::time::Instant::now() + RECLAIM_AFTER;
        let mut borrowed_at = tokio::time::Instant::now() + until_borrowed();
        loop {
            let now = tokio::time::Instant::now();
            if reclaim_at <= now {
                let search = match borrowed_at <= now {
                    true => Search::Borrowed,
                    false => Search::Own,
                };
                let wait = match self.collect_own(search).await {
                    Ok(()) => {
                        if search == Search::Borrowed {
                            borrowed_at = now + until_borrowed();
                        }
                        RECLAIM_EVERY
                    }
                    Err(error) => {
                        tracing::warn!(error, "leaked addresses are searched for later");
                        RECLAIM_RETRY
                    }
                };
                reclaim_at = tokio::time::Instant::now() + wait;
            }
            self.settle().await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Buries containers that ended without a DEL, and releases addresses nobody remembers.
    pub(super) async fn collect_own(&self, search: Search) -> Result<(), String> {
        let veths = veths(&self.settings.interface_prefix).map_err(|error| format!("{error:#}"))?;
        let buried = self.bury_gone(&veths).await;
        buried.map_err(|error| format!("{error:#}"))?;
        let held = self.search(search).await?;
        let alive = self.unknown_but_alive(&held).await?;
        self.reclaim(held, None, alive).await
    }

    /// Addresses of this node.
    pub(super) async fn search(&self, search: Search) -> Result<Vec<Held>, String> {
        let node = &self.settings.node;
        let held = match search {
            Search::Own => self.ipam.allocations_in_own_blocks(node).await,
            Search::Borrowed => self.ipam.allocations_of_node(node).await,
        };
        held.map_err(|error| error.to_string())
    }

    /// Handles without record whose pod is there with the address, as its Pod object says: of
    /// another plugin that this agent takes over from.
    async fn unknown_but_alive(&self, held: &[Held]) -> Result<ipam::LiveHandles, String> {
        let known: BTreeSet<String> = self
            .records()
            .iter()
            .map(|record| record.handle().to_lowercase())
            .collect();
        let mut alive = ipam::LiveHandles::new();
        for held in held {
            let Some(handle) = held.handle.as_deref().map(str::to_lowercase) else {
                continue;
            };
            let fact = |name: &str| held.attributes.get(name).cloned();
            let pod = fact(attribute::NAMESPACE).zip(fact(attribute::POD));
            let Some((namespace, pod)) = pod.filter(|_| !known.contains(&handle)) else {
                continue;
            };
            let key = Key::namespaced(Kind::Pod, namespace, pod);
            let pod = match self.store.get(&key).await {
                Ok(pod) => Some(pod),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.to_string()),
            };
            if !ipam::gc::still_leaked(held, pod) {
                alive.insert(handle);
            }
        }
        Ok(alive)
    }
}

/// At a time of its own: the agents of a cluster that were started together shall not ask together.
fn until_borrowed() -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    RECLAIM_BORROWED_EVERY.mul_f64(0.25 + 0.75 * random as f64 / 1000.0)
}

/// Without veth, and either of another boot, or complete once and without its namespace.
/// A record whose veth was not there yet belongs to a plugin that may still be at work.
fn is_gone(record: &Record, veths: &[Veth], boot: &str) -> bool {
    let rebooted = record.boot != boot;
    let abandoned = record.active && !Path::new(&record.netns).exists();
    let attachment = record.attachment();
    !veths.iter().any(|veth| veth.attachment == attachment) && (rebooted || abandoned)
}

/// The record of a pod as IPAM and the kernel tell it; nothing when it holds no address.
fn adopted(veth: &Veth, held: &[Held], boot: &str) -> Option<Record> {
    let suffix = format!(".{}", veth.attachment.container_id.to_lowercase());
    let network = |held: &Held| {
        let handle = held.handle.as_ref()?.to_lowercase();
        Some(handle.strip_suffix(&suffix)?.to_owned())
    };
    let own: Vec<&Held> = held.iter().filter(|held| network(held).is_some()).collect();
    let first = own.first()?;
    Some(Record {
        network: network(first)?,
        container_id: veth.attachment.container_id.clone(),
        ifname: veth.attachment.ifname.clone(),
        netns: String::new(),
        namespace: first.attributes.get(attribute::NAMESPACE).cloned(),
        pod: first.attributes.get(attribute::POD).cloned(),
        host_interface: veth.name.clone(),
        addresses: own.iter().map(|held| held.addr).collect(),
        mtu: veth.mtu,
        pod_mac: None,
        active: true,
        boot: boot.to_owned(),
        created: 0,
    })
}

/// A host interface of ours.
pub(super) struct Veth {
    pub(super) attachment: Attachment,
    name: String,
    mtu: u32,
}

/// The host interfaces of ours in this network namespace.
pub(super) fn veths(prefix: &str) -> Result<Vec<Veth>> {
    let links = Socket::open()
        .and_then(|mut socket| socket.links())
        .context("list interfaces")?;
    let ours = links
        .into_iter()
        .filter(|link| link.name.starts_with(prefix));
    let veths = ours.filter_map(|link| {
        Some(Veth {
            attachment: parse_alias(&link.alias?)?,
            name: link.name,
            mtu: link.mtu,
        })
    });
    Ok(veths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(active: bool, netns: &str, boot: &str) -> Record {
        Record {
            network: "net".to_owned(),
            container_id: "c".to_owned(),
            ifname: "eth0".to_owned(),
            netns: netns.to_owned(),
            namespace: None,
            pod: None,
            host_interface: "calic".to_owned(),
            addresses: Vec::new(),
            mtu: 1500,
            pod_mac: None,
            active,
            boot: boot.to_owned(),
            created: 0,
        }
    }

    fn veth() -> Veth {
        Veth {
            attachment: record(true, "/", "old").attachment(),
            name: "calic".to_owned(),
            mtu: 1400,
        }
    }

    fn held(address: &str, handle: &str) -> Held {
        Held {
            addr: address.parse().unwrap(),
            block: "10.0.0.0/26".parse().unwrap(),
            handle: Some(handle.to_owned()),
            attributes: [(attribute::POD.to_owned(), "web".to_owned())].into(),
            sequence: None,
        }
    }

    #[test]
    fn a_lost_record_is_restored_from_interface_and_allocation() {
        let all = [
            held("10.0.0.1", "a.net.C"),
            held("fd00::1", "a.net.c"),
            held("10.0.0.2", "net.cc"),
        ];
        let record = adopted(&veth(), &all, "now").unwrap();
        assert_eq!((record.network.as_str(), record.mtu), ("a.net", 1400));
        assert_eq!(record.addresses, [all[0].addr, all[1].addr]);
        assert_eq!(record.pod.as_deref(), Some("web"));
        assert_eq!(adopted(&veth(), &all[2..], "now"), None);
    }

    #[test]
    fn a_container_is_gone_without_veth_after_a_reboot_or_without_its_namespace() {
        let none: &[Veth] = &[];
        let veth = [veth()];
        for (record, veths, gone) in [
            (record(true, "/", "now"), none, false),
            (record(true, "/nowhere", "now"), none, true),
            (record(true, "/nowhere", "now"), &veth, false),
            (record(false, "/nowhere", "now"), none, false),
            (record(false, "/nowhere", "old"), none, true),
            (record(true, "/", "old"), none, true),
            (record(true, "/", "old"), &veth, false),
        ] {
            assert_eq!(is_gone(&record, veths, "now"), gone, "{record:?}");
        }
    }
}
