//! What the owner wants of a session.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_wire::capability::{AddPathMode, GracefulRestart, LongLivedFamily, Role};

use bgp_wire::{Afi, Capability, Family, Open};

/// Settings of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our AS number.
    pub local_as: u32,
    /// Our router id.
    pub local_id: Ipv4Addr,
    /// The AS number the peer must have.
    pub remote_as: u32,
    /// Never dial, only accept.
    pub passive: bool,
    /// Families we offer.
    pub families: Vec<Family>,
    /// Hold time we offer in seconds: 0 (none) or at least 3.
    pub hold_time_secs: u16,
    /// Keepalive interval in seconds; a third of the agreed hold time when absent or longer.
    pub keepalive_secs: Option<u16>,
    /// Shortest wait between two dials; doubled up to `connect_retry_max`.
    pub connect_retry: Duration,
    /// Longest wait between two dials.
    pub connect_retry_max: Duration,
    /// How long one dial may take.
    pub connect_timeout: Duration,
    /// Shortest hold in Idle after an error; doubled up to `idle_hold_max`.
    pub idle_hold: Duration,
    /// Longest hold in Idle.
    pub idle_hold_max: Duration,
    /// Send hold time; the larger of 8 minutes and twice the hold time when absent (RFC 9687).
    pub send_hold: Option<Duration>,
    /// Graceful restart, in both roles; absent: not offered, not honoured.
    pub restart: Option<Restart>,
    /// Long-lived graceful restart (RFC 9494): how long the peer shall keep our routes after the
    /// restart time, and how long at most we keep its, in seconds up to 16,777,215. Without
    /// `restart` it is not offered.
    pub long_lived_secs: Option<u32>,
    /// ADD-PATH modes we offer (RFC 7911).
    pub add_path: Vec<(Family, AddPathMode)>,
    /// Offer to take IPv4 routes with IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// What we are to the peer (RFC 9234); neither offered nor looked at inside one AS.
    pub role: Option<Role>,
    /// Refuse a peer that does not say its role; needs `role`.
    pub role_strict: bool,
    /// Offer messages up to 65535 octets (RFC 8654).
    pub extended_message: bool,
}

/// Graceful restart settings (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// How long peers shall keep our routes while we are away, in seconds, up to 4095.
    pub time_secs: u16,
    /// We come back from a restart: the R bit.
    pub restarting: bool,
    /// Our kernel kept forwarding: the F bit of every family.
    pub forwarding: bool,
    /// Offer to survive NOTIFICATIONs (RFC 8538).
    pub notification: bool,
    /// How long stale routes wait for end-of-RIB once the peer is back.
    pub stale_time: Duration,
}

impl Config {
    /// Settings for a peer, everything else at its default: hold time 90 s, dials 1 s to 15 s
    /// apart, holds of 1 s to 30 s after errors, no graceful restart.
    #[must_use]
    pub fn new(local_as: u32, local_id: Ipv4Addr, remote_as: u32) -> Self {
        Config {
            local_as,
            local_id,
            remote_as,
            passive: false,
            families: vec![Family::IPV4_UNICAST],
            hold_time_secs: 90,
            keepalive_secs: None,
            connect_retry: Duration::from_secs(1),
            connect_retry_max: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            idle_hold: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(30),
            send_hold: None,
            restart: None,
            long_lived_secs: None,
            add_path: Vec::new(),
            extended_next_hop: false,
            role: None,
            role_strict: false,
            extended_message: true,
        }
    }

    /// The peer is in our AS.
    pub(crate) fn is_internal(&self) -> bool {
        self.local_as == self.remote_as
    }

    /// The OPEN we send.
    pub(crate) fn open(&self) -> Open {
        Open {
            asn: self.local_as,
            hold_time: self.hold_time_secs,
            router_id: self.local_id,
            capabilities: self.capabilities(),
        }
    }

    /// What we offer.
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities: Vec<Capability> = self
            .families
            .iter()
            .map(|family| Capability::MultiProtocol(*family))
            .collect();
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::EnhancedRouteRefresh);
        capabilities.push(Capability::FourOctetAs(self.local_as));
        if self.extended_message {
            capabilities.push(Capability::ExtendedMessage);
        }
        if !self.add_path.is_empty() {
            capabilities.push(Capability::AddPath(self.add_path.clone()));
        }
        if self.extended_next_hop {
            let entry = (Family::IPV4_UNICAST, Afi::IPV6);
            capabilities.push(Capability::ExtendedNextHop(vec![entry]));
        }
        if let Some(role) = self.role.filter(|_| !self.is_internal()) {
            capabilities.push(Capability::Role(role));
        }
        if let Some(restart) = self.restart {
            let families = self.families.iter();
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting: restart.restarting,
                notification: restart.notification,
                time_secs: restart.time_secs.min(4095),
                families: families.map(|f| (*f, restart.forwarding)).collect(),
            }));
        }
        if let Some((restart, stale_secs)) = self.restart.zip(self.long_lived_secs) {
            let entry = |family: &Family| LongLivedFamily {
                family: *family,
                forwarding: restart.forwarding,
                stale_secs,
            };
            let entries = self.families.iter().map(entry).collect();
            capabilities.push(Capability::LongLivedGracefulRestart(entries));
        }
        capabilities
    }
}
