//! What is done once at the start: finish deletions, find out which recorded containers are
//! still there, take up those whose record is lost, tell the endpoints, and later release what
//! leaked.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::ipam_block::attribute;
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

impl Server {
    /// Tells the endpoints of this node. Waits for the datastore only when a record is lost.
    ///
    /// # Errors
    /// When the kernel or the state directory cannot be read.
    pub async fn start(&self) -> Result<()> {
        let veths = veths(&self.settings.interface_prefix)?;
        let gone: Vec<Record> = self
            .records()
            .iter()
            .filter(|record| is_gone(record, &veths, &self.settings.boot))
            .cloned()
            .collect();
        for record in gone {
            tracing::info!(
                container = record.container_id,
                "container is gone for good"
            );
            self.bury(&Del {
                network: record.network.clone(),
                container_id: record.container_id.clone(),
                ifname: record.ifname.clone(),
                namespace: record.namespace.clone(),
                pod: record.pod.clone(),
            })?;
        }
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
        let node = &self.settings.node;
        let held = loop {
            match self.ipam.allocations_of_node(node).await {
                Ok(held) => break held,
                Err(error) => tracing::warn!(%error, "pods without record wait for the datastore"),
            }
            tokio::time::sleep(ADOPT_RETRY).await;
        };
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

    /// Settles deletions from time to time, and once what leaked.
    ///
    /// # Errors
    /// None so far.
    pub async fn housekeep(&self) -> Result<()> {
        let mut reclaim_at = Some(tokio::time::Instant::now() + RECLAIM_AFTER);
        loop {
            self.settle().await;
            if reclaim_at.is_some_and(|when| when <= tokio::time::Instant::now()) {
                reclaim_at = match self.reclaim(None, ipam::LiveHandles::new()).await {
                    Ok(()) => None,
                    Err(error) => {
                        tracing::warn!(error, "leaked addresses are searched for later");
                        Some(tokio::time::Instant::now() + RECLAIM_RETRY)
                    }
                };
            }
            tokio::time::sleep(SETTLE).await;
        }
    }
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
