//! Messages of the kernel's packet filter (nfnetlink), octet by octet.
//!
//! Written here and not with a crate: what exists carries half of the expressions and of
//! connection tracking as bytes anyway, and rules are compared with what the kernel shows as
//! attributes, which needs them as they are on the wire.

use std::net::IpAddr;

use netlink_packet_core::{NLA_F_NESTED, NLM_F_DUMP, NLM_F_REQUEST};

use crate::Family;

/// `struct nlmsghdr`.
const MESSAGE_HEADER_BYTES: usize = 16;
/// `struct nfgenmsg`: family, version, resource id.
pub(crate) const HEADER_BYTES: usize = 4;
/// Flags of a request that lists.
pub(crate) const LISTING: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// What a message is about, in its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// `NFNL_SUBSYS_*` and the message of that part; below 0x100 a message of nfnetlink itself.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// `NFPROTO_*`.
    pub(crate) family: u8,
    /// Only in the messages around a batch: whom the batch is for.
    pub(crate) resource: u16,
}

/// Messages one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Adds a message with the attributes that `fill` writes.
    pub(crate) fn message(&mut self, head: Head, fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(head.kind.to_ne_bytes());
        self.bytes.extend(head.flags.to_ne_bytes());
        self.bytes.extend(head.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        debug_assert_eq!(self.bytes.len() - start, MESSAGE_HEADER_BYTES);
        self.bytes.extend([head.family, 0]);
        self.bytes.extend(head.resource.to_be_bytes());
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute; values are short, see [`crate::nft`] for lists.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.fill(kind, |writer| writer.bytes.extend(value));
    }

    /// Adds a number in network order.
    pub(crate) fn big_u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds a string with its NUL.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.fill(kind, |writer| {
            writer.bytes.extend(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// Adds an attribute that holds those `fill` writes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        self.fill(kind | NLA_F_NESTED, fill);
    }

    /// Adds attributes that were written before.
    pub(crate) fn written(&mut self, attributes: &[u8]) {
        self.bytes.extend(attributes);
    }

    fn fill(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(crate) fn protocol_of(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The octets of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::attributes;

    #[test]
    fn lengths_cover_what_is_inside_and_values_are_aligned() {
        let mut writer = Writer::default();
        let head = Head {
            kind: 0x0a09,
            flags: 5,
            sequence: 7,
            family: 1,
            resource: 10,
        };
        writer.message(head, |message| {
            message.string(1, "abc1");
            message.nested(2, |inner| inner.big_u32(3, 0x0102_0304));
        });
        let bytes = writer.bytes();
        assert_eq!(
            bytes[..4],
            u32::try_from(bytes.len()).unwrap().to_ne_bytes()
        );
        assert_eq!(bytes[16..20], [1, 0, 0, 10]);
        let found: Vec<_> = attributes(&bytes[16..], HEADER_BYTES).collect();
        assert_eq!((found[0].kind, found[0].nested), (1, false));
        assert_eq!(found[0].value, b"abc1\0");
        assert_eq!((found[1].kind, found[1].nested), (2, true));
        let inner = attributes(found[1].value, 0).next().unwrap();
        assert_eq!((inner.kind, inner.u32_be()), (3, Some(0x0102_0304)));
    }
}
