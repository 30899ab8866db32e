//! Pods that Calico's plugin attached: their host interfaces get our mark, and are then pods of ours whose record is
//! lost. Without it their routes would be taken for leftovers.

use anyhow::{Context, Result};
use crds::ipam_block::attribute;
use felix_api::cni::{Attachment, alias};
use ipam::Held;
use netlink::{Link, LinkChange, Socket};

use super::Server;
use super::add::pod_interface;

/// Name of the interface in a pod (Calico behaviour).
const IFNAME: &str = "eth0";

impl Server {
    /// Marks every interface of a pod that has no mark, where IPAM knows the pod.
    pub(super) async fn mark_strangers(&self) -> Result<()> {
        let prefix = &self.settings.interface_prefix;
        let strangers = strangers(prefix)?;
        if strangers.is_empty() {
            return Ok(());
        }
        let held = self.held().await;
        for link in strangers {
            let Some(attachment) = owner(prefix, &link.name, &held) else {
                tracing::warn!(
                    interface = link.name,
                    "no address of this node belongs to it, left alone"
                );
                continue;
            };
            let change = LinkChange {
                alias: Some(alias(&attachment.container_id, &attachment.ifname)),
                ..LinkChange::default()
            };
            Socket::open()
                .and_then(|mut socket| socket.set_link(link.index, &change))
                .with_context(|| format!("mark interface {}", link.name))?;
            tracing::info!(
                interface = link.name,
                container = attachment.container_id,
                "pod of another plugin taken over"
            );
        }
        Ok(())
    }
}

/// Veths with the name of a pod's and nobody's mark.
fn strangers(prefix: &str) -> Result<Vec<Link>> {
    let links = Socket::open()
        .and_then(|mut socket| socket.links())
        .context("list interfaces")?;
    let is_stranger = |link: &Link| {
        link.name.starts_with(prefix) && link.alias.is_none() && link.peer_index.is_some()
    };
    Ok(links.into_iter().filter(is_stranger).collect())
}

/// Whose interface it is. A pod that was made anew under its name may still hold the addresses of the container
/// before; the last one counts.
fn owner(prefix: &str, interface: &str, held: &[Held]) -> Option<Attachment> {
    let fact = |held: &Held, name: &str| held.attributes.get(name).cloned();
    let is_of_interface = |held: &&Held| {
        let pod = fact(held, attribute::NAMESPACE).zip(fact(held, attribute::POD));
        pod.is_some_and(|(namespace, pod)| pod_interface(prefix, &namespace, &pod) == interface)
    };
    let last = held
        .iter()
        .filter(is_of_interface)
        .max_by_key(|held| (fact(held, attribute::TIMESTAMP), held.sequence))?;
    let (_network, container) = last.handle.as_deref()?.rsplit_once('.')?;
    Some(Attachment {
        container_id: container.to_owned(),
        ifname: IFNAME.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(pod: &str, handle: &str, time: &str) -> Held {
        let facts = [
            (attribute::NAMESPACE, "default"),
            (attribute::POD, pod),
            (attribute::TIMESTAMP, time),
        ];
        Held {
            addr: "10.0.0.1".parse().unwrap(),
            block: "10.0.0.0/26".parse().unwrap(),
            handle: Some(handle.to_owned()),
            attributes: facts
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            sequence: None,
        }
    }

    #[test]
    fn an_interface_belongs_to_the_last_container_of_its_pod() {
        let all = [
            held(
                "web",
                "k8s-pod-network.old",
                "2026-01-02 03:04:05 +0000 UTC",
            ),
            held(
                "web",
                "k8s-pod-network.new",
                "2026-01-03 03:04:05 +0000 UTC",
            ),
            held("db", "k8s-pod-network.db", "2026-01-04 03:04:05 +0000 UTC"),
        ];
        // printf default.web | sha1sum
        let own = owner("cali", "cali68caf03a5f4", &all).unwrap();
        assert_eq!(
            (own.container_id.as_str(), own.ifname.as_str()),
            ("new", "eth0")
        );
        assert_eq!(owner("cali", "cali00000000000", &all), None);
    }
}
