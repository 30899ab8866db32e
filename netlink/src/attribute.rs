//! Reading attributes one by one.
//!
//! Messages are built with `netlink-packet-route`, but read here: its parser gives up on a whole
//! message when one attribute surprises it, and a node must not lose its list of interfaces to an
//! alias that is not UTF-8 or to an attribute of a newer kernel.

use std::net::IpAddr;

use netlink_packet_core::{NLA_TYPE_MASK, NlasIterator};

/// Bytes of `struct nlattr`.
const HEADER_BYTES: usize = 4;

/// One attribute: its type without flag bits, and its value.
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    /// Its value is said to be attributes; the kernel does not always say so.
    pub(crate) nested: bool,
    pub(crate) value: &'a [u8],
}

/// The attributes behind a fixed header of `header` bytes; stops at the first broken one.
pub(crate) fn attributes(message: &[u8], header: usize) -> impl Iterator<Item = Attribute<'_>> {
    let bytes = message.get(header..).unwrap_or_default();
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        Some(Attribute {
            kind: attribute.kind() & NLA_TYPE_MASK,
            nested: attribute.nested_flag(),
            value: attribute
                .into_inner()
                .get(HEADER_BYTES..usize::from(attribute.length()))?,
        })
    })
}

impl Attribute<'_> {
    pub(crate) fn u32(&self) -> Option<u32> {
        let bytes = self.value.get(..4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(crate) fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// A number in network order.
    pub(crate) fn u16_be(&self) -> Option<u16> {
        let bytes = self.value.get(..2)?;
        bytes.try_into().ok().map(u16::from_be_bytes)
    }

    /// A number in network order, as netfilter has them.
    pub(crate) fn u32_be(&self) -> Option<u32> {
        let bytes = self.value.get(..4)?;
        bytes.try_into().ok().map(u32::from_be_bytes)
    }

    /// A string up to its first NUL; bytes that are not UTF-8 are replaced.
    pub(crate) fn string(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.value[..end.unwrap_or(self.value.len())]).into_owned()
    }

    pub(crate) fn mac(&self) -> Option<[u8; 6]> {
        self.value.try_into().ok()
    }

    /// An address whose family follows from its length.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        if let Ok(octets) = <[u8; 4]>::try_from(self.value) {
            return Some(IpAddr::from(octets));
        }
        <[u8; 16]>::try_from(self.value).ok().map(IpAddr::from)
    }
}
