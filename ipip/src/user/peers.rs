//! Who is at the other ends, shared between the owner of a tunnel and its threads.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The other ends of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    addresses: HashSet<IpAddr>,
    networks: Vec<(IpAddr, u8)>,
    vteps: HashMap<[u8; 6], IpAddr>,
}

impl Peers {
    /// `hosts` are networks as address and prefix length; only they may send tunnel packets, and
    /// IPIP goes to nobody else. `vteps` says which node a hardware address is at, for VXLAN.
    pub fn new(
        hosts: impl IntoIterator<Item = (IpAddr, u8)>,
        vteps: impl IntoIterator<Item = ([u8; 6], IpAddr)>,
    ) -> Peers {
        let mut peers = Peers {
            vteps: vteps.into_iter().collect(),
            ..Peers::default()
        };
        for (address, length) in hosts {
            if length >= bits(address) {
                peers.addresses.insert(address);
            } else {
                peers.networks.push((address, length));
            }
        }
        peers
    }

    /// Whether an address is one of the hosts.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || (self.networks.iter()).any(|(network, length)| covers(*network, *length, address))
    }

    /// The node behind a hardware address.
    pub(crate) fn node(&self, mac: &[u8]) -> Option<IpAddr> {
        self.vteps.get(<&[u8; 6]>::try_from(mac).ok()?).copied()
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn covers(network: IpAddr, length: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

/// Peers that may be replaced while threads use them.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    peers: Mutex<Arc<Peers>>,
    generation: AtomicU64,
}

impl Shared {
    pub(crate) fn replace(&self, peers: Peers) {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(peers);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn load(&self) -> (u64, Arc<Peers>) {
        let generation = self.generation.load(Ordering::Acquire);
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        (generation, Arc::clone(&peers))
    }
}

/// One thread's view of the peers: a comparison per batch, a lock only after a change.
pub(crate) struct View<'a> {
    shared: &'a Shared,
    generation: u64,
    peers: Arc<Peers>,
}

impl<'a> View<'a> {
    pub(crate) fn new(shared: &'a Shared) -> View<'a> {
        let (generation, peers) = shared.load();
        View {
            shared,
            generation,
            peers,
        }
    }

    pub(crate) fn refresh(&mut self) {
        if self.shared.generation.load(Ordering::Acquire) != self.generation {
            (self.generation, self.peers) = self.shared.load();
        }
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_addresses_and_networks() {
        let hosts = [
            ("192.0.2.1", 32),
            ("198.51.100.0", 25),
            ("2001:db8:1::", 64),
        ];
        let peers = Peers::new(hosts.map(|(net, length)| (address(net), length)), []);
        for inside in ["192.0.2.1", "198.51.100.127", "2001:db8:1::9"] {
            assert!(peers.contains(address(inside)), "{inside}");
        }
        for outside in ["192.0.2.2", "198.51.100.128", "2001:db8:2::9", "::"] {
            assert!(!peers.contains(address(outside)), "{outside}");
        }
    }

    #[test]
    fn a_change_is_seen_at_the_next_refresh() {
        let shared = Shared::default();
        let mut view = View::new(&shared);
        assert!(!view.peers().contains(address("192.0.2.1")));
        shared.replace(Peers::new([(address("192.0.2.1"), 32)], []));
        view.refresh();
        assert!(view.peers().contains(address("192.0.2.1")));
    }
}
