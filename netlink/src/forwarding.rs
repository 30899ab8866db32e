//! Forwarding entries of VXLAN devices (`bridge fdb`): behind which node a hardware address is.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::attribute::attributes;
use crate::wire::Answer;
use crate::{Error, Socket};

/// Bytes of `struct ndmsg`.
const HEADER_BYTES: usize = 12;

/// An entry of a device's own forwarding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forwarding {
    /// The device.
    pub index: u32,
    /// The hardware address; all zero for what has no other entry.
    pub mac: [u8; 6],
    /// The address of the node that has it; nothing for what is not a tunnel's.
    pub node: Option<IpAddr>,
    /// Set by hand and never aged.
    pub permanent: bool,
}

impl Forwarding {
    /// Only entries of the device itself, not those of the bridge it may belong to.
    pub(crate) fn read(answer: &Answer<'_>) -> Option<Forwarding> {
        let header = NeighbourHeader::parse(answer.payload).ok()?;
        if header.family != AddressFamily::Bridge || !header.flags.contains(NeighbourFlags::Own) {
            return None;
        }
        let mut node = None;
        let mut mac = None;
        for attribute in attributes(answer.payload, HEADER_BYTES) {
            match attribute.kind {
                libc::NDA_DST => node = attribute.address(),
                libc::NDA_LLADDR => mac = attribute.mac(),
                _ => {}
            }
        }
        Some(Forwarding {
            index: header.ifindex,
            mac: mac?,
            node,
            permanent: header.state == NeighbourState::Permanent,
        })
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.index;
        message.header.flags = NeighbourFlags::Own;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(self.mac.into())];
        let node = self.node.map(|node| match node {
            IpAddr::V4(node) => NeighbourAddress::Inet(node),
            IpAddr::V6(node) => NeighbourAddress::Inet6(node),
        });
        message
            .attributes
            .extend(node.map(NeighbourAttribute::Destination));
        message
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.mac.iter().enumerate() {
            let colon = if position > 0 { ":" } else { "" };
            write!(f, "{colon}{octet:02x}")?;
        }
        match self.node {
            Some(node) => write!(f, " dst {node} dev {}", self.index),
            None => write!(f, " dev {}", self.index),
        }
    }
}

impl Socket {
    /// The forwarding table of a device.
    pub fn forwarding(&mut self, index: u32) -> Result<Vec<Forwarding>, Error> {
        let request = || {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.attributes = vec![NeighbourAttribute::IfIndex(index)];
            RouteNetlinkMessage::GetNeighbour(message)
        };
        self.dump(request, "list forwarding entries", |answer| {
            (answer.kind == libc::RTM_NEWNEIGH)
                .then(|| Forwarding::read(answer))
                .flatten()
                .filter(|entry| entry.index == index)
        })
    }

    /// Sets an entry, permanent or not, in place of those for the same hardware address.
    pub fn set_forwarding(&mut self, entry: &Forwarding) -> Result<(), Error> {
        let mut message = entry.message();
        message.header.state = match entry.permanent {
            true => NeighbourState::Permanent,
            false => NeighbourState::Reachable,
        };
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            "set forwarding entry",
            entry,
        )
    }

    /// Removes an entry.
    pub fn delete_forwarding(&mut self, entry: &Forwarding) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::DelNeighbour(entry.message()),
            0,
            "delete forwarding entry",
            entry,
        )
    }
}
