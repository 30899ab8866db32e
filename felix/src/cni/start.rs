//! What is done once at the start: finish deletions, find out which recorded containers are
//! still there, tell the endpoints, and later release what leaked.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use felix_api::cni::{Attachment, Del, parse_alias};
use felix_calc::Update;
use netlink::Socket;

use super::Server;
use super::record::Record;

/// How often deletions that are written down are looked for.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the first search for leaked addresses waits: containers made while no agent was
/// there are reported by then.
const RECLAIM_AFTER: Duration = Duration::from_secs(10);
const RECLAIM_RETRY: Duration = Duration::from_secs(30);

impl Server {
    /// Tells the endpoints of this node; nothing here waits for the datastore.
    ///
    /// # Errors
    /// When the kernel or the state directory cannot be read.
    pub async fn start(&self) -> Result<()> {
        let veths = containers_with_veth(&self.settings.interface_prefix)?;
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
        let ids: Vec<_> = self.records().iter().map(Record::endpoint_id).collect();
        for id in ids {
            self.tell(id).await;
        }
        if self.updates.send(Update::EndpointsInSync).await.is_err() {
            bail!("the calculation has ended");
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
fn is_gone(record: &Record, veths: &[Attachment], boot: &str) -> bool {
    let rebooted = record.boot != boot;
    let abandoned = record.active && !Path::new(&record.netns).exists();
    !veths.contains(&record.attachment()) && (rebooted || abandoned)
}

/// The attachments whose host interface is in this network namespace.
pub(super) fn containers_with_veth(prefix: &str) -> Result<Vec<Attachment>> {
    let links = Socket::open()
        .and_then(|mut socket| socket.links())
        .context("list interfaces")?;
    let ours = links
        .into_iter()
        .filter(|link| link.name.starts_with(prefix));
    Ok(ours.filter_map(|link| parse_alias(&link.alias?)).collect())
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

    #[test]
    fn a_container_is_gone_without_veth_after_a_reboot_or_without_its_namespace() {
        let none: &[Attachment] = &[];
        let veth = [record(true, "/", "old").attachment()];
        for (record, veths, gone) in [
            (record(true, "/", "now"), none, false),
            (record(true, "/nowhere", "now"), none, true),
            (record(true, "/nowhere", "now"), &veth, false),
            (record(false, "/nowhere", "now"), none, false),
            (record(false, "/nowhere", "old"), none, true),
            (record(true, "/", "old"), none, true),
            (record(true, "/", "old"), &veth, false),
        ] {
            assert_eq!(is_gone(&record, veths, "now"), gone, "{record:?} {veths:?}");
        }
    }
}
