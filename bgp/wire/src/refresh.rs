//! ROUTE-REFRESH (RFC 2918) and the demarcation of its answer (RFC 7313).

use bytes::BytesMut;

use crate::header;
use crate::reader::Reader;
use crate::{Error, Family, Params};

/// A request to send all routes of a family again, or a mark around the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// Which routes.
    pub family: Family,
    /// Request, or which mark.
    pub subtype: RefreshSubtype,
}

/// The subtypes of RFC 7313.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshSubtype {
    /// Please send everything again.
    Request,
    /// BoRR: the answer starts here.
    BeginningOfRib,
    /// EoRR: the answer ends here; what has not been repeated is gone.
    EndOfRib,
    /// A subtype that RFC 7313 §5 has the receiver ignore.
    Unknown(u8),
}

impl RefreshSubtype {
    fn from_octet(octet: u8) -> RefreshSubtype {
        match octet {
            0 => RefreshSubtype::Request,
            1 => RefreshSubtype::BeginningOfRib,
            2 => RefreshSubtype::EndOfRib,
            other => RefreshSubtype::Unknown(other),
        }
    }

    fn octet(self) -> u8 {
        match self {
            RefreshSubtype::Request => 0,
            RefreshSubtype::BeginningOfRib => 1,
            RefreshSubtype::EndOfRib => 2,
            RefreshSubtype::Unknown(octet) => octet,
        }
    }
}

impl RouteRefresh {
    pub(crate) fn decode(message: &[u8], params: &Params) -> Result<RouteRefresh, Error> {
        let mut reader = Reader::new(&message[header::LEN..]);
        let (Some(afi), Some(reserved), Some(safi)) = (reader.u16(), reader.u8(), reader.u8())
        else {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            return Err(Error::BadMessageLength { length });
        };
        let subtype = if params.enhanced_route_refresh {
            RefreshSubtype::from_octet(reserved)
        } else {
            RefreshSubtype::Request
        };
        // A request may end in outbound filters (RFC 5291), which we never offer and read over.
        let is_mark = matches!(
            subtype,
            RefreshSubtype::BeginningOfRib | RefreshSubtype::EndOfRib
        );
        if is_mark && !reader.is_empty() {
            let message = message.to_vec();
            return Err(Error::InvalidRefreshLength { message });
        }
        let family = Family::new(afi, safi);
        Ok(RouteRefresh { family, subtype })
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        let at = header::start(out, header::kind::ROUTE_REFRESH);
        out.extend_from_slice(&self.family.afi.0.to_be_bytes());
        out.extend_from_slice(&[self.subtype.octet(), self.family.safi.0]);
        header::finish(out, at);
    }
}
