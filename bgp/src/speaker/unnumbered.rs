//! Peers whose address is whoever is found on a link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use bgp_rib::PeerId;
use tokio::sync::mpsc;

use crate::config::PeerConfig;
use crate::discovery::{Discovered, Discovery};
use crate::speaker::Owner;

/// Links on which a neighbour is looked for, and who was found.
#[derive(Debug)]
pub(super) struct WatchedLinks {
    links: BTreeMap<Arc<str>, (Discovery, Option<Ipv6Addr>)>,
    news: mpsc::Sender<Discovered>,
}

impl WatchedLinks {
    pub(super) fn new(news: mpsc::Sender<Discovered>) -> Self {
        WatchedLinks {
            links: BTreeMap::new(),
            news,
        }
    }
}

impl Owner {
    /// Looks for neighbours on exactly the links of unnumbered peers.
    pub(super) fn watch_links(&mut self) {
        let unnumbered = self.desired.peers.values().filter(|p| p.is_unnumbered());
        let active = unnumbered.filter(|peer| peer.shut_down.is_none());
        let wanted: BTreeSet<Arc<str>> = active.filter_map(|p| p.interface.clone()).collect();
        let watched = &mut self.links_watched;
        watched.links.retain(|link, _| wanted.contains(link));
        for link in wanted {
            let (runtime, news) = (&self.runtime, &watched.news);
            watched.links.entry(link).or_insert_with_key(|link| {
                let discovery = Discovery::start(runtime, link.clone(), news.clone());
                (discovery, None)
            });
        }
    }

    /// Where an unnumbered peer was found.
    pub(super) fn neighbour(&self, config: &PeerConfig) -> Option<Ipv6Addr> {
        let link = config.interface.as_ref().filter(|_| config.is_unnumbered());
        self.links_watched.links.get(link?)?.1
    }

    /// Tells the peers of a link where their neighbour is, or why it cannot be found.
    pub(super) fn discovered(&mut self, discovered: &Discovered) {
        let interface = &discovered.interface;
        let Some((_, neighbour)) = self.links_watched.links.get_mut(interface) else {
            return;
        };
        if let Ok(found) = discovered.found {
            tracing::info!(%interface, neighbour = %found, "neighbour found");
            *neighbour = Some(found);
        }
        for id in self.peers.values().copied().collect::<Vec<PeerId>>() {
            let Some(task) = self.task(id) else { continue };
            let is_here = task.config.interface.as_ref() == Some(interface);
            if !is_here || !task.config.is_unnumbered() {
                continue;
            }
            match &discovered.found {
                Ok(found) => {
                    task.neighbour = Some(*found);
                    self.update_settings(id);
                }
                Err(error) => task.last_error = Some(error.clone()),
            }
            self.news.peer(id);
        }
    }
}
