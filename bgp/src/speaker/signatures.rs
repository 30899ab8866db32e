//! Which signatures the listening sockets expect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bgp_rib::PeerId;
use bgp_wire::Prefix;
use tokio::time::Instant;

use crate::config::{Password, PeerConfig};
use crate::speaker::{LISTEN_RETRY, Owner};

/// Passwords the listening sockets know, and those that the kernel did not take.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    known: BTreeMap<(SocketAddr, Prefix), Password>,
    refused: BTreeSet<(SocketAddr, Prefix)>,
}

impl Signatures {
    /// A listening socket is closed.
    pub(super) fn forget(&mut self, listener: SocketAddr) {
        self.known.retain(|(at, _), _| *at != listener);
        self.refused.retain(|(at, _)| *at != listener);
    }
}

impl Owner {
    /// Has every listening socket expect the signatures of exactly the peers with a password.
    pub(super) fn expect_signatures(&mut self) {
        let wanted = self.passwords();
        let mut news = Vec::new();
        for (address, listener) in &self.listeners {
            let known = self.signed.known.keys().filter(|(at, _)| at == address);
            let known: BTreeSet<Prefix> = known.map(|(_, peers)| *peers).collect();
            let all: BTreeSet<Prefix> = known.into_iter().chain(wanted.keys().copied()).collect();
            for peers in all {
                let (password, id) = wanted
                    .get(&peers)
                    .map_or((None, None), |(p, id)| (Some(p), *id));
                let place = (*address, peers);
                if self.signed.known.get(&place) == password {
                    continue;
                }
                match (listener.expect_signature(peers, password), password) {
                    (Ok(()), Some(password)) => {
                        self.signed.refused.remove(&place);
                        self.signed.known.insert(place, password.clone());
                    }
                    (Ok(()), None) => {
                        self.signed.known.remove(&place);
                    }
                    (Err(error), _) => {
                        if self.signed.refused.insert(place) {
                            tracing::error!(%peers, %error, "cannot set the TCP MD5 password");
                        }
                        news.extend(id.map(|id| (id, error.to_string())));
                        self.listen_again = Some(Instant::now() + LISTEN_RETRY);
                    }
                }
            }
        }
        for (id, error) in news {
            let error = format!("cannot set the TCP MD5 password: {error}");
            if let Some(task) = self.task(id) {
                task.last_error = Some(error);
            }
            self.news.peer(id);
        }
    }

    /// Passwords by who signs with them. A dynamic peer signs as its range does.
    fn passwords(&self) -> BTreeMap<Prefix, (Password, Option<PeerId>)> {
        let ranges = self.desired.dynamic.values();
        let ranges = ranges.filter_map(|peers| {
            let password = peers.template.password.clone()?;
            Some((peers.range, (password, None)))
        });
        let peers = self.peers.values().filter_map(|id| {
            let task = self.tasks.get(id.0 as usize)?.as_ref()?;
            let password = task.config.password.clone()?;
            let listed = !task.leaving && task.range.is_none();
            let place = place_of(&task.config).filter(|_| listed)?;
            Some((place, (password, Some(*id))))
        });
        ranges.chain(peers).collect()
    }
}

/// Where a listed peer's connections come from.
fn place_of(peer: &PeerConfig) -> Option<Prefix> {
    match peer.address {
        IpAddr::V6(_) if peer.is_unnumbered() => {
            Prefix::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
        }
        IpAddr::V6(address) => Prefix::new(address, 128),
        IpAddr::V4(address) => Prefix::new(address, 32),
    }
}
