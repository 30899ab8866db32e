//! Neighbour entries: which hardware address an IP address has on a link.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::attribute::attributes;
use crate::wire::Answer;
use crate::{Error, Family, Socket};

/// Bytes of `struct ndmsg`.
const HEADER_BYTES: usize = 12;

/// An entry of the ARP or neighbour discovery table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface it is reached by.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, when known.
    pub mac: Option<[u8; 6]>,
    /// Set by hand and never aged.
    pub permanent: bool,
}

/// Which neighbours to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourFilter {
    /// One family, or both.
    pub family: Option<Family>,
    /// One interface, or all.
    pub index: Option<u32>,
}

impl Neighbour {
    pub(crate) fn read(answer: &Answer<'_>) -> Option<Neighbour> {
        let header = NeighbourHeader::parse(answer.payload).ok()?;
        if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
            // Forwarding entries come in the same messages.
            return None;
        }
        let mut address = None;
        let mut mac = None;
        for attribute in attributes(answer.payload, HEADER_BYTES) {
            match attribute.kind {
                libc::NDA_DST => address = attribute.address(),
                libc::NDA_LLADDR => mac = attribute.mac(),
                _ => {}
            }
        }
        Some(Neighbour {
            index: header.ifindex,
            address: address?,
            mac,
            permanent: header.state == NeighbourState::Permanent,
        })
    }
}

impl Socket {
    /// The neighbours that pass the filter.
    pub fn neighbours(&mut self, filter: &NeighbourFilter) -> Result<Vec<Neighbour>, Error> {
        let mut list = Vec::new();
        for family in Family::selected(filter.family) {
            let request = || {
                let mut message = NeighbourMessage::default();
                message.header.family = family.into();
                // A strict listing takes the interface as an attribute.
                message
                    .attributes
                    .extend(filter.index.map(NeighbourAttribute::IfIndex));
                RouteNetlinkMessage::GetNeighbour(message)
            };
            list.extend(self.dump(request, "list neighbours", |answer| {
                (answer.kind == libc::RTM_NEWNEIGH)
                    .then(|| Neighbour::read(answer))
                    .flatten()
                    .filter(|neighbour| Family::of(neighbour.address) == family)
            })?);
        }
        Ok(list)
    }

    /// Sets a permanent entry, replacing whatever is there.
    pub fn set_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), Error> {
        let mut message = neighbour_message(index, address);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.into()));
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            "set neighbour",
            &format_args!("{address} dev {index}"),
        )
    }

    /// Removes an entry.
    pub fn delete_neighbour(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::DelNeighbour(neighbour_message(index, address)),
            0,
            "delete neighbour",
            &format_args!("{address} dev {index}"),
        )
    }
}

fn neighbour_message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = Family::of(address).into();
    message.header.ifindex = index;
    let address = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}
