//! What a session negotiated, as far as it changes how messages are read and written.

use crate::Family;

/// How one session encodes its messages.
///
/// Nothing here is ever guessed from the bytes: the same octets mean different things under different parameters.
/// `Params::default()` is what holds before OPEN messages are exchanged: plain RFC 4271.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Both sides announced 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// Both sides announced messages of up to 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// Both sides announced enhanced route refresh (RFC 7313); else the subtype is a reserved octet and ignored.
    pub enhanced_route_refresh: bool,
    /// Where the peer is; some attributes are only for internal peers (RFC 7606 §7).
    pub peer_type: PeerType,
    /// The families in use. Routes of any other family are read over.
    pub families: Vec<FamilyParams>,
}

/// Where a peer is, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerType {
    /// In another AS.
    External,
    /// In our AS.
    Internal,
    /// In our confederation, whichever its member AS (RFC 5065): the only place confederation segments may come from.
    Confederation,
}

/// How the routes of one family are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FamilyParams {
    /// The family.
    pub family: Family,
    /// The peer's routes carry path identifiers (RFC 7911).
    pub add_path_receive: bool,
    /// Our routes carry path identifiers (RFC 7911).
    pub add_path_send: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
}

impl FamilyParams {
    /// The family without any extension.
    pub const fn plain(family: Family) -> FamilyParams {
        FamilyParams {
            family,
            add_path_receive: false,
            add_path_send: false,
            extended_next_hop: false,
        }
    }
}

impl Params {
    /// How routes of `family` are encoded; `None` when the family is not in use.
    pub fn family(&self, family: Family) -> Option<&FamilyParams> {
        self.families.iter().find(|params| params.family == family)
    }

    /// Greatest length of an UPDATE, NOTIFICATION or ROUTE-REFRESH in octets.
    pub fn max_message_len(&self) -> usize {
        if self.extended_message {
            crate::header::MAX_EXTENDED_LEN
        } else {
            crate::header::MAX_LEN
        }
    }
}

impl Default for Params {
    fn default() -> Params {
        Params {
            four_octet_as: false,
            extended_message: false,
            enhanced_route_refresh: false,
            peer_type: PeerType::External,
            families: vec![FamilyParams::plain(Family::IPV4_UNICAST)],
        }
    }
}
