//! AGGREGATOR (RFC 4271 §5.1.7) and AS4_AGGREGATOR (RFC 6793).

use std::fmt;
use std::net::Ipv4Addr;

/// Who aggregated a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// AS number, never 0 (RFC 7607).
    pub asn: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
}

impl Aggregator {
    /// Reads the form with a 4-octet AS number; `None` when `value` has another length.
    pub(crate) fn decode_four(value: &[u8]) -> Option<Aggregator> {
        let &[a, b, c, d, w, x, y, z] = value else {
            return None;
        };
        Some(Aggregator {
            asn: u32::from_be_bytes([a, b, c, d]),
            router_id: Ipv4Addr::new(w, x, y, z),
        })
    }

    /// Reads the form with a 2-octet AS number; `None` when `value` has another length.
    pub(crate) fn decode_two(value: &[u8]) -> Option<Aggregator> {
        let &[a, b, w, x, y, z] = value else {
            return None;
        };
        Some(Aggregator {
            asn: u16::from_be_bytes([a, b]).into(),
            router_id: Ipv4Addr::new(w, x, y, z),
        })
    }

    pub(crate) fn encode_four(self) -> [u8; 8] {
        let [a, b, c, d] = self.asn.to_be_bytes();
        let [w, x, y, z] = self.router_id.octets();
        [a, b, c, d, w, x, y, z]
    }
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.asn, self.router_id)
    }
}
