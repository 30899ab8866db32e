//! Addresses of interfaces, IPv4 and IPv6.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};

use crate::attribute::attributes;
use crate::wire::Answer;
use crate::{Error, Family, Scope, Socket};

/// Bytes of `struct ifaddrmsg`.
const HEADER_BYTES: usize = 8;

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address with the prefix length of its network; host bits are kept.
    pub net: IpNet,
    /// Reach of the address.
    pub scope: Scope,
    /// Not usable yet or not at all: duplicate detection is running or has failed (IPv6).
    pub tentative: bool,
    /// Kept for existing connections only, or an IPv4 secondary address.
    pub secondary_or_deprecated: bool,
}

/// Which addresses to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressFilter {
    /// One family, or both.
    pub family: Option<Family>,
    /// One interface, or all.
    pub index: Option<u32>,
}

/// How an address is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressOptions {
    /// Skip duplicate address detection, so that an IPv6 address is usable at once.
    pub no_dad: bool,
    /// Do not create the route to the address's network.
    pub no_prefix_route: bool,
    /// Accept that the address is there already.
    pub replace: bool,
}

impl Address {
    pub(crate) fn read(answer: &Answer<'_>) -> Option<Address> {
        let header = AddressHeader::parse(answer.payload).ok()?;
        let mut flags = u32::from(header.flags.bits());
        let mut address = None;
        let mut local = None;
        for attribute in attributes(answer.payload, HEADER_BYTES) {
            match attribute.kind {
                libc::IFA_ADDRESS => address = attribute.address(),
                // On point-to-point links IFA_ADDRESS is the other end.
                libc::IFA_LOCAL => local = attribute.address(),
                libc::IFA_FLAGS => flags = attribute.u32().unwrap_or(flags),
                _ => {}
            }
        }
        let flags = AddressFlags::from_bits_retain(flags);
        Some(Address {
            index: header.index,
            net: IpNet::new(local.or(address)?, header.prefix_len).ok()?,
            scope: Scope::from(u8::from(header.scope)),
            tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
            secondary_or_deprecated: flags
                .intersects(AddressFlags::Secondary | AddressFlags::Deprecated),
        })
    }
}

impl Socket {
    /// The addresses that pass the filter.
    pub fn addresses(&mut self, filter: &AddressFilter) -> Result<Vec<Address>, Error> {
        let mut list = Vec::new();
        for family in Family::selected(filter.family) {
            let request = || {
                let mut message = AddressMessage::default();
                message.header.family = family.into();
                message.header.index = filter.index.unwrap_or(0);
                RouteNetlinkMessage::GetAddress(message)
            };
            list.extend(self.dump(request, "list addresses", |answer| {
                // Without IPv6 in the kernel, a question for its addresses returns the others.
                (answer.kind == libc::RTM_NEWADDR)
                    .then(|| Address::read(answer))
                    .flatten()
                    .filter(|address| Family::of(address.net.addr()) == family)
            })?);
        }
        Ok(list)
    }

    /// Adds an address with the prefix length of its network.
    pub fn add_address(
        &mut self,
        index: u32,
        net: IpNet,
        options: AddressOptions,
    ) -> Result<(), Error> {
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, options.no_dad);
        flags.set(AddressFlags::Noprefixroute, options.no_prefix_route);
        let mut message = address_message(index, net);
        message.attributes.push(AddressAttribute::Flags(flags));
        let existing = if options.replace {
            NLM_F_REPLACE
        } else {
            NLM_F_EXCL
        };
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | existing,
            "add address",
            &format_args!("{net} dev {index}"),
        )
    }

    /// Removes an address.
    pub fn delete_address(&mut self, index: u32, net: IpNet) -> Result<(), Error> {
        self.request(
            RouteNetlinkMessage::DelAddress(address_message(index, net)),
            0,
            "delete address",
            &format_args!("{net} dev {index}"),
        )
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = Family::of(net.addr()).into();
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    let loopback = matches!(net.addr(), IpAddr::V4(addr) if addr.is_loopback());
    message.header.scope = if loopback {
        AddressScope::Host
    } else {
        AddressScope::Universe
    };
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    message
}
