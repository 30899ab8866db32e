//! Packet rules in few words, from which come what the kernel takes and what people read.

use std::net::IpAddr;

use netlink::Family;
use netlink::nft::{AddressSide, Base, NatPorts, Set};

/// Our table, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

/// A chain of our table; what no rule decides about goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// Nothing where only rules of other chains send packets.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// What happens to packets of which all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
    pub(super) comment: Option<&'static str>,
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It came in by such an interface.
    In(Interface),
    /// It leaves by such an interface.
    Out(Interface),
    /// One of its addresses is in a set, or is not.
    Address {
        family: Family,
        side: AddressSide,
        set: &'static str,
        inside: bool,
    },
    /// It goes to this address.
    To(IpAddr),
    /// The protocol above IP.
    Protocol(Protocol),
    /// UDP to this port.
    UdpPort(u16),
    /// The way back to its source does not lead through the interface it came in by.
    NoWayBack,
    /// Its source is an address of this host.
    FromHost,
    /// Its source is no address of the interface it leaves by.
    NotFromOut,
    /// Its destination is an address of this host.
    ToHost,
    /// It is not to be forwarded: it is for this host, if only as one of many.
    NotForwarded,
}

/// Interfaces by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    /// This one.
    Named(String),
    /// Those whose name starts so.
    Prefix(String),
}

/// Protocols above IP that rules know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// IPv4 in IP (RFC 2003).
    Ipip = 4,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is counted and dropped.
    Drop,
    /// It is not tracked, and no rule behind this one looks at it.
    NoTrack,
    /// The rules of this chain say, and none behind this one.
    GoTo(&'static str),
    /// Its flow gets the source address of the interface it leaves by.
    Masquerade(Option<NatPorts>),
    /// Its flow gets this source address.
    SourceNat(IpAddr, Option<NatPorts>),
}

impl Rule {
    pub(super) fn new(conditions: Vec<Condition>, verdict: Verdict) -> Rule {
        Rule {
            conditions,
            verdict,
            comment: None,
        }
    }

    pub(super) fn because(mut self, comment: &'static str) -> Rule {
        self.comment = Some(comment);
        self
    }
}

impl Condition {
    pub(super) fn from(family: Family, set: &'static str) -> Condition {
        Condition::Address {
            family,
            side: AddressSide::Source,
            set,
            inside: true,
        }
    }

    pub(super) fn not_from(family: Family, set: &'static str) -> Condition {
        Condition::Address {
            family,
            side: AddressSide::Source,
            set,
            inside: false,
        }
    }

    pub(super) fn to(family: Family, set: &'static str) -> Condition {
        Condition::Address {
            family,
            side: AddressSide::Destination,
            set,
            inside: true,
        }
    }

    pub(super) fn not_to(family: Family, set: &'static str) -> Condition {
        Condition::Address {
            family,
            side: AddressSide::Destination,
            set,
            inside: false,
        }
    }
}

impl Interface {
    /// A name as iptables has them: a trailing `+` stands for any rest. Nothing if it is all of it.
    pub(super) fn parse(pattern: &str) -> Option<Interface> {
        match pattern.strip_suffix('+') {
            Some("") => None,
            Some(prefix) => Some(Interface::Prefix(prefix.to_owned())),
            None => Some(Interface::Named(pattern.to_owned())),
        }
    }
}
