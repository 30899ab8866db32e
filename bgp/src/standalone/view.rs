//! Answers as they go over the socket: JSON.

use std::net::IpAddr;
use std::time::SystemTime;

use bgp::{Family, PeerCounts, PeerInfo, RouteInfo};
use serde::{Deserialize, Serialize};

/// One peer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct PeerView {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) asn: u32,
    pub(super) state: String,
    /// Seconds in this state.
    pub(super) since_secs: u64,
    pub(super) router_id: Option<String>,
    pub(super) local: Option<String>,
    pub(super) families: Vec<String>,
    pub(super) hold_time_secs: Option<u16>,
    pub(super) graceful_restart: bool,
    pub(super) stale_families: Vec<String>,
    /// Numbers of routes, by family.
    pub(super) routes: Vec<CountsView>,
    pub(super) flaps: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) last_error: Option<String>,
    /// The last malformed attribute of this session.
    pub(super) malformed: Option<String>,
}

/// Numbers of routes of one family.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct CountsView {
    pub(super) family: String,
    pub(super) received: usize,
    pub(super) accepted: usize,
    pub(super) best: usize,
    pub(super) advertised: usize,
}

/// One path.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct RouteView {
    pub(super) prefix: String,
    pub(super) next_hop: Option<IpAddr>,
    pub(super) peer: Option<String>,
    pub(super) as_path: String,
    pub(super) best: bool,
    pub(super) stale: bool,
    pub(super) reason: String,
}

impl From<PeerInfo> for PeerView {
    fn from(info: PeerInfo) -> Self {
        let names = |families: &[bgp::Family]| families.iter().map(ToString::to_string).collect();
        let since = SystemTime::now().duration_since(info.since);
        let session = info.session.as_ref();
        PeerView {
            name: info.key.to_string(),
            address: info.address,
            port: info.port,
            asn: info.remote_as,
            state: info.state.to_string(),
            since_secs: since.map_or(0, |since| since.as_secs()),
            router_id: session.map(|s| s.router_id.to_string()),
            local: session.map(|s| s.local.to_string()),
            families: session.map_or_else(Vec::new, |s| names(&s.families)),
            hold_time_secs: session.map(|s| s.hold_time_secs),
            graceful_restart: session.is_some_and(|s| s.graceful_restart),
            stale_families: names(&info.stale),
            routes: info.counts.into_iter().map(CountsView::from).collect(),
            flaps: info.flaps,
            messages_in: info.messages_in,
            messages_out: info.messages_out,
            last_error: info.last_error,
            malformed: info.malformed,
        }
    }
}

impl From<(Family, PeerCounts)> for CountsView {
    fn from((family, counts): (Family, PeerCounts)) -> Self {
        CountsView {
            family: family.to_string(),
            received: counts.received,
            accepted: counts.accepted,
            best: counts.best,
            advertised: counts.advertised,
        }
    }
}

impl From<RouteInfo> for RouteView {
    fn from(info: RouteInfo) -> Self {
        RouteView {
            prefix: info.prefix.to_string(),
            next_hop: info.next_hop,
            peer: info.peer.map(|key| key.to_string()),
            as_path: info.as_path,
            best: info.best,
            stale: info.stale,
            reason: info.reason,
        }
    }
}
