//! BGP messages: bytes to types and back.
//!
//! - [`header::frame`] finds where a message ends in a stream of bytes.
//! - [`decode`] reads one message under the [`Params`] its session negotiated, [`Message::encode`] writes one.
//! - [`Open`] carries [`Capability`]s; [`Update`] carries [`Nlri`] and [`Attributes`]; [`Notification`] says why a
//!   session ends; [`RouteRefresh`] asks for everything again.
//! - [`Error`] is a fault that ends the session and knows the NOTIFICATION to send. A fault of a single path attribute
//!   that need not end it (RFC 7606) is dealt with while decoding and reported in [`Update::verdicts`].
//!
//! The package is pure: no sockets, clocks, tasks or logging. Whatever bytes come, decoding ends with a message or an
//! error, in time and memory proportional to the length of the message.
//!
//! RFC 4271 §4 and §6, 1997, 2545, 2918, 4360, 4456, 4724, 4760, 5065 (reading), 5492, 6286, 6793, 7313, 7606, 7607,
//! 7911, 8092, 8538, 8654, 8950, 9003, 9072, 9234, 9494, 9687.
#![deny(missing_docs)]

mod error;
mod family;
mod nlri;
mod open;
mod params;
mod prefix;
mod reader;
mod refresh;
mod update;

pub mod attribute;
pub mod capability;
pub mod header;
pub mod notification;

pub use attribute::{AsPath, Attributes, AttributesBuilder, Community, Origin};
pub use capability::Capability;
pub use error::{AttributeError, Disposition, EncodeError, Error};
pub use family::{Afi, Family, Safi};
pub use nlri::{NextHop, Nlri};
pub use notification::Notification;
pub use open::{AS_TRANS, Open};
pub use params::{FamilyParams, Params, PeerType};
pub use prefix::{Prefix, Prefix4, Prefix6, PrefixParseError};
pub use refresh::{RefreshSubtype, RouteRefresh};
pub use update::{MAX_VERDICTS, Reach, ReachBlock, Unreach, Update, pack_end_of_rib, pack_unreach};

use bytes::BytesMut;

/// One BGP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Opens the session.
    Open(Open),
    /// Changes routes.
    Update(Update),
    /// Closes the session.
    Notification(Notification),
    /// Keeps the session alive.
    Keepalive,
    /// Asks for routes again, or marks the answer.
    RouteRefresh(RouteRefresh),
}

/// Reads one message, framed by [`header::frame`], as the session's [`Params`] have it.
///
/// # Errors
/// A fault that ends the session; [`Error::notification`] is what to tell the peer.
pub fn decode(message: &[u8], params: &Params) -> Result<Message, Error> {
    let framed = header::frame(message, params.max_message_len())?;
    if framed != Some(message.len()) {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        return Err(Error::BadMessageLength { length });
    }
    match message[18] {
        header::kind::OPEN => Open::decode(message).map(Message::Open),
        header::kind::UPDATE => Update::decode(message, params).map(Message::Update),
        header::kind::NOTIFICATION => Ok(Message::Notification(Notification::decode(message))),
        header::kind::KEEPALIVE => Ok(Message::Keepalive),
        header::kind::ROUTE_REFRESH => {
            RouteRefresh::decode(message, params).map(Message::RouteRefresh)
        }
        kind => Err(Error::BadMessageType { kind }),
    }
}

impl Message {
    /// Appends the message as the session's [`Params`] have it. An UPDATE becomes as many messages as it needs, which
    /// may be none; see [`ReachBlock`] for many routes with the same attributes.
    ///
    /// # Errors
    /// Something that has no encoding; what is in `out` beyond its old length is then of no use.
    pub fn encode(&self, params: &Params, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Message::Open(open) => open.encode(out)?,
            Message::Update(update) => update.encode(params, out)?,
            Message::Notification(notification) => {
                notification.encode(params.max_message_len(), out)
            }
            Message::Keepalive => out.extend_from_slice(&header::KEEPALIVE),
            Message::RouteRefresh(refresh) => refresh.encode(out),
        }
        Ok(())
    }
}
