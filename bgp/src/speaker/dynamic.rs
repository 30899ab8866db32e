//! Peers that are known by the range of their address: made when they dial, forgotten when they
//! have been gone for a while.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp_fsm::State;
use bgp_rib::PeerId;
use tokio::time::Instant;

use crate::config::{Desired, DynamicPeers, PeerConfig, PeerKey};
use crate::listener::Accepted;
use crate::speaker::Owner;
use crate::speaker::peers::PeerTask;

/// How long a peer without a connection, and without routes kept for it, is remembered: its last
/// error can be read, and who fails at once and dials again is no new peer each time.
const LINGER: Duration = Duration::from_secs(10);

impl Owner {
    /// Makes a peer of whoever dialled, if its address is in a range.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) fn add_dynamic(&mut self, accepted: &Accepted) -> Result<PeerId, String> {
        let from = accepted.from;
        let Some((range, peers)) = range_of(&self.desired, from, accepted.interface.as_deref())
        else {
            return Err(format!("{from} is no peer's address"));
        };
        let of_range = |task: &&PeerTask| task.range.as_ref() == Some(range);
        let count = self.tasks.iter().flatten().filter(of_range).count();
        if count >= peers.limit.get() as usize {
            return Err(format!(
                "range {range} has its {count} peers, {from} is too many"
            ));
        }
        let key = match &accepted.interface {
            Some(interface) => PeerKey::from(format!("{range}/{from}%{interface}")),
            None => PeerKey::from(format!("{range}/{from}")),
        };
        if self.peers.contains_key(&key) {
            return Err(format!("another peer than {from} has the name {key}"));
        }
        let config = member(peers, from, accepted.interface.as_deref());
        let range = range.clone();
        let id = self.begin_peer(&key, &config);
        if let Some(task) = self.task(id) {
            task.range = Some(range);
            task.lonely = Some(Instant::now());
        }
        Ok(id)
    }

    /// Settings of a dynamic peer; none when it is not wanted any more, or when it is no dynamic
    /// peer.
    pub(super) fn dynamic_config(&self, key: &PeerKey) -> Option<PeerConfig> {
        let id = self.peers.get(key)?;
        let task = self.tasks.get(id.0 as usize)?.as_ref()?;
        let range = task.range.as_ref()?;
        let (address, interface) = (task.config.address, task.config.interface.as_deref());
        let listed = self.desired.peers.iter().any(|(name, peer)| {
            name == key || peer.address == address && peer.interface.as_deref() == interface
        });
        let (longest, peers) = range_of(&self.desired, address, interface)?;
        (!listed && longest == range).then(|| member(peers, address, interface))
    }

    /// Gives all dynamic peers what their templates say now.
    pub(super) fn change_dynamic(&mut self) {
        for (key, id) in self.peers.clone() {
            let Some(new) = self.dynamic_config(&key) else {
                continue;
            };
            if let Some(old) = self.task(id).map(|task| task.config.clone()) {
                self.change_peer(id, &old, &new);
            }
        }
    }

    /// Keeps since when a dynamic peer is without a connection.
    pub(super) fn note_lonely(&mut self, id: PeerId) {
        let Some(task) = self.task(id).filter(|task| task.range.is_some()) else {
            return;
        };
        match task.state {
            State::Idle | State::Connect | State::Active => {
                task.lonely.get_or_insert_with(Instant::now);
            }
            State::OpenSent | State::OpenConfirm | State::Established => task.lonely = None,
        }
    }

    /// When the next dynamic peer is to be forgotten.
    pub(super) fn forget_at(&self) -> Option<Instant> {
        self.tasks.iter().flatten().filter_map(forgotten_at).min()
    }

    /// Forgets dynamic peers that are gone.
    pub(super) fn forget_dynamic(&mut self, now: Instant) {
        let is_due = |task: &&PeerTask| forgotten_at(task).is_some_and(|at| at <= now);
        let due = self.tasks.iter().flatten().filter(is_due);
        for key in due.map(|task| task.key.clone()).collect::<Vec<_>>() {
            self.remove_peer(&key, true);
        }
    }
}

fn forgotten_at(task: &PeerTask) -> Option<Instant> {
    let waits = !task.leaving && task.stale.is_empty();
    task.lonely.filter(|_| waits).map(|since| since + LINGER)
}

/// The longest range that holds an address.
fn range_of<'a>(
    desired: &'a Desired,
    address: IpAddr,
    interface: Option<&str>,
) -> Option<(&'a PeerKey, &'a DynamicPeers)> {
    let holds = |peers: &DynamicPeers| {
        let link = peers.template.interface.as_deref();
        peers.range.contains(address) && (link.is_none() || link == interface)
    };
    let ranges = desired.dynamic.iter().filter(|(_, peers)| holds(peers));
    ranges.max_by_key(|(_, peers)| peers.range.prefix_len())
}

/// Settings of one peer of a range.
fn member(peers: &DynamicPeers, address: IpAddr, interface: Option<&str>) -> PeerConfig {
    PeerConfig {
        address,
        interface: interface.map(Arc::from),
        passive: true,
        ..peers.template.clone()
    }
}
