//! What a tunnel counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Outer or inner lengths, versions or flags do not add up, or the network identifier is another.
    Malformed,
    /// The outer source is no node of the cluster.
    ForeignSource,
    /// The frame inside is for another device.
    NotForUs,
    /// It was marked for congestion on the way and its sender would not understand (RFC 6040 §4.2).
    Congestion,
    /// No node is known for where it goes.
    UnknownDestination,
    /// The way to the node leads into the tunnel itself.
    Loop,
    /// It does not fit the way to the node.
    TooBig,
    /// The kernel refused to send it.
    SendRefused,
    /// The kernel refused to take it from the device's other side, which is down.
    DeviceRefused,
    /// Nothing for a tunnel: multicast, IPv6 on `tunl0`, ARP for others than nodes.
    Ignored,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 10] = [
        Reason::Malformed,
        Reason::ForeignSource,
        Reason::NotForUs,
        Reason::Congestion,
        Reason::UnknownDestination,
        Reason::Loop,
        Reason::TooBig,
        Reason::SendRefused,
        Reason::DeviceRefused,
        Reason::Ignored,
    ];

    /// For labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::ForeignSource => "foreign_source",
            Reason::NotForUs => "not_for_us",
            Reason::Congestion => "congestion",
            Reason::UnknownDestination => "unknown_destination",
            Reason::Loop => "loop",
            Reason::TooBig => "too_big",
            Reason::SendRefused => "send_refused",
            Reason::DeviceRefused => "device_refused",
            Reason::Ignored => "ignored",
        }
    }
}

const DROPS: usize = Reason::ALL.len();

/// What one thread counted since it last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) drops: [u64; DROPS],
}

impl Tally {
    pub(crate) fn drop(&mut self, reason: Reason) {
        self.drops[reason as usize] += 1;
    }
}

/// Counts of all threads.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    drops: [AtomicU64; DROPS],
}

impl Totals {
    pub(crate) fn add_sent(&self, tally: &mut Tally) {
        self.add(&self.sent, tally);
    }

    pub(crate) fn add_received(&self, tally: &mut Tally) {
        self.add(&self.received, tally);
    }

    fn add(&self, direction: &[AtomicU64; 2], tally: &mut Tally) {
        let Tally {
            packets,
            bytes,
            drops,
        } = std::mem::take(tally);
        direction[0].fetch_add(packets, Ordering::Relaxed);
        direction[1].fetch_add(bytes, Ordering::Relaxed);
        for (total, count) in self.drops.iter().zip(drops) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            sent_packets: get(&self.sent[0]),
            sent_bytes: get(&self.sent[1]),
            received_packets: get(&self.received[0]),
            received_bytes: get(&self.received[1]),
            drops: std::array::from_fn(|at| get(&self.drops[at])),
        }
    }
}

/// What a tunnel did since it was started. Packets are those on the wire, bytes those of the packets
/// inside without tunnel headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sent.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    drops: [u64; DROPS],
}

impl Counters {
    /// Packets dropped for a reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason as usize]
    }
}
