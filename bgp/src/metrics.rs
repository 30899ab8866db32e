//! What a speaker counts, for Prometheus.
//!
//! Numbers are read off the speaker when somebody asks and become metric families of their own, so
//! nothing is kept twice and a peer that is gone leaves no series. Whoever has other metrics puts
//! them beside these: `prometheus::TextEncoder` takes both.
//!
//! Peers have labels only below [`Options::metrics_peers`](crate::Options::metrics_peers) peers;
//! above, `peer` and `asn` are empty and the numbers are sums. No label ever names a route.

mod family;

use std::collections::BTreeMap;

use bgp_api::{Counts, MessageCounts, Peer, PeerKind};
use bgp_fsm::State;
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use crate::session::{Counted, Direction};
use family::Family;

/// Upper bounds of the buckets of convergence, in seconds.
const BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 240.0];

/// Everything a speaker counts, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    pub(crate) peers: Vec<OfPeer>,
    /// Messages of all peers, those that are gone included.
    pub(crate) messages: Counted,
    pub(crate) convergence: Convergence,
    /// Prefixes with a path, IPv4 and IPv6.
    pub(crate) prefixes: [usize; 2],
    /// Peers have labels.
    pub(crate) labels: bool,
}

/// One peer's numbers.
#[derive(Clone, Debug)]
pub(crate) struct OfPeer {
    pub(crate) line: Peer,
    pub(crate) state: State,
    pub(crate) transitions: u64,
}

/// How long sessions took from being established to their last end-of-RIB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Convergence {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

impl Convergence {
    pub(crate) fn observe(&mut self, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}

/// All metrics as text.
///
/// # Errors
/// When a metric cannot be written, which a test finds.
pub fn text(numbers: &Numbers) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&families(numbers))
}

/// All metrics as `prometheus` has them.
#[must_use]
pub fn families(numbers: &Numbers) -> Vec<MetricFamily> {
    let mut all = sessions(numbers);
    all.push(prefixes(numbers));
    all.push(stale(numbers));
    all.push(messages(&numbers.messages));
    all.push(notifications(&numbers.messages));
    let mut table = Family::gauge("bgp_table_prefixes", "Prefixes with a path, usable or not");
    for (afi, count) in ["ipv4", "ipv6"].into_iter().zip(numbers.prefixes) {
        table.add(&[("afi", afi)], count as f64);
    }
    all.push(table);
    let mut convergence = Family::histogram(
        "bgp_convergence_seconds",
        "From an established session to the end-of-RIB of its last family",
    );
    let Convergence {
        buckets,
        sum,
        count,
    } = &numbers.convergence;
    convergence.observed(&BUCKETS, buckets, *sum, *count);
    all.push(convergence);
    all.into_iter().filter_map(Family::finish).collect()
}

/// Number of a state as BGP4-MIB has it (RFC 4273, bgpPeerState).
fn state_number(state: State) -> f64 {
    match state {
        State::Idle => 1.0,
        State::Connect => 2.0,
        State::Active => 3.0,
        State::OpenSent => 4.0,
        State::OpenConfirm => 5.0,
        State::Established => 6.0,
    }
}

fn kind(peer: &Peer) -> &'static str {
    match peer.kind {
        PeerKind::External => "external",
        PeerKind::Internal => "internal",
        PeerKind::Client => "client",
    }
}

fn sessions(numbers: &Numbers) -> Vec<Family> {
    let mut up = Family::gauge(
        "bgp_session_up",
        "Established sessions: 0 or 1, or their number without labels of peers",
    );
    let mut state = Family::gauge(
        "bgp_session_state",
        "State of the session: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established",
    );
    let mut transitions = Family::counter("bgp_session_transitions_total", "Changes of state");
    let mut flaps = Family::counter("bgp_session_flaps_total", "Established sessions lost");
    let mut since = Family::gauge(
        "bgp_session_established_timestamp_seconds",
        "When the session came up, in seconds since 1970",
    );
    let mut peers = Family::gauge("bgp_peers", "Peers by state");
    for OfPeer {
        line,
        state: now,
        transitions: changes,
    } in &numbers.peers
    {
        let asn = line.asn.to_string();
        let (name, asn) = if numbers.labels {
            (line.name.as_str(), asn.as_str())
        } else {
            ("", "")
        };
        let labels = [("peer", name), ("asn", asn), ("type", kind(line))];
        let is_up = *now == State::Established;
        up.add(&labels, f64::from(u8::from(is_up)));
        transitions.add(&labels, *changes as f64);
        flaps.add(&labels, line.flaps as f64);
        peers.add(&[("type", kind(line)), ("state", &now.to_string())], 1.0);
        // Neither makes sense as a sum.
        if numbers.labels {
            state.add(&labels, state_number(*now));
            if is_up {
                since.add(&labels, line.since as f64);
            }
        }
    }
    vec![up, state, transitions, flaps, since, peers]
}

fn afi(family: &str) -> &str {
    family.trim_end_matches("-unicast")
}

fn prefixes(numbers: &Numbers) -> Family {
    let help = "Routes held from the peer, those of them accepted, filtered and in use, and routes told to it";
    let mut prefixes = Family::gauge("bgp_prefixes", help);
    for OfPeer { line, .. } in &numbers.peers {
        let name = if numbers.labels {
            line.name.as_str()
        } else {
            ""
        };
        for counts in &line.routes {
            for (direction, stage, count) in stages(counts) {
                let labels = [
                    ("peer", name),
                    ("direction", direction),
                    ("afi", afi(&counts.family)),
                    ("stage", stage),
                ];
                prefixes.add(&labels, count as f64);
            }
        }
    }
    prefixes
}

fn stages(counts: &Counts) -> [(&'static str, &'static str, usize); 5] {
    [
        ("in", "received", counts.received),
        ("in", "accepted", counts.accepted),
        ("in", "filtered", counts.filtered),
        ("in", "best", counts.best),
        ("out", "advertised", counts.advertised),
    ]
}

fn stale(numbers: &Numbers) -> Family {
    let help = "Routes of families that are kept for peers that are away, or back and not done yet";
    let mut stale = Family::gauge("bgp_gr_stale_routes", help);
    let mut sums: BTreeMap<&str, usize> = [("ipv4", 0), ("ipv6", 0)].into();
    for OfPeer { line, .. } in &numbers.peers {
        let kept = line.routes.iter();
        for counts in kept.filter(|counts| line.stale_families.contains(&counts.family)) {
            *sums.entry(afi(&counts.family)).or_default() += counts.received;
        }
    }
    for (afi, sum) in sums {
        stale.add(&[("afi", afi)], sum as f64);
    }
    stale
}

fn messages(counted: &Counted) -> Family {
    let mut messages = Family::counter(
        "bgp_messages_total",
        "Messages of all peers since the start",
    );
    for direction in [Direction::In, Direction::Out] {
        let MessageCounts {
            open,
            update,
            notification,
            keepalive,
            route_refresh,
        } = counted.by_type(direction);
        for (kind, count) in [
            ("open", open),
            ("update", update),
            ("notification", notification),
            ("keepalive", keepalive),
            ("route_refresh", route_refresh),
        ] {
            let labels = [("type", kind), ("direction", direction.name())];
            messages.add(&labels, count as f64);
        }
    }
    messages
}

fn notifications(counted: &Counted) -> Family {
    let help = "NOTIFICATIONs of all peers since the start";
    let mut notifications = Family::counter("bgp_notifications_total", help);
    for (&(direction, code, subcode), &count) in &counted.notifications {
        let (code, subcode) = (code.to_string(), subcode.to_string());
        let labels = [
            ("code", code.as_str()),
            ("subcode", subcode.as_str()),
            ("direction", direction.name()),
        ];
        notifications.add(&labels, count as f64);
    }
    notifications
}

#[cfg(test)]
mod tests;
