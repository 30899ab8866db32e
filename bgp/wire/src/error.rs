//! What can be wrong with a message, and what RFC 4271 §6 and RFC 7606 want done about it.

use crate::attribute::AttributeType;
use crate::notification::{Notification, code, subcode};

/// A message that ends the session. [`Error::notification`] is what the peer must be told.
///
/// Faults of an UPDATE that need no session reset are not errors: they are in [`Update::verdicts`](crate::Update).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The marker is not all ones.
    #[error("message header: the marker is not all ones")]
    ConnectionNotSynchronized,
    /// The length is outside what the message type allows.
    #[error("message header: a length of {length} is not allowed for this message")]
    BadMessageLength {
        /// The length field as received.
        length: u16,
    },
    /// No such message type.
    #[error("message header: unknown message type {kind}")]
    BadMessageType {
        /// The type field as received.
        kind: u8,
    },
    /// A BGP version other than 4.
    #[error("OPEN: BGP version {version} is not supported, only 4")]
    UnsupportedVersion {
        /// The version as received.
        version: u8,
    },
    /// AS 0 (RFC 7607).
    #[error("OPEN: AS 0 is not allowed")]
    BadPeerAs,
    /// Router id 0.0.0.0 (RFC 6286).
    #[error("OPEN: BGP identifier 0.0.0.0 is not allowed")]
    BadBgpIdentifier,
    /// An optional parameter that is not Capabilities.
    #[error("OPEN: optional parameter {kind} is not supported")]
    UnsupportedOptionalParameter {
        /// Parameter type as received.
        kind: u8,
    },
    /// A hold time of one or two seconds.
    #[error("OPEN: a hold time of {secs} s is not allowed; it is 0 or at least 3 s")]
    UnacceptableHoldTime {
        /// Seconds as received.
        secs: u16,
    },
    /// Lengths inside the OPEN contradict each other.
    #[error("OPEN: {problem}")]
    MalformedOpen {
        /// What does not fit.
        problem: &'static str,
    },
    /// The three parts of an UPDATE cannot be told apart.
    #[error("UPDATE: {problem}")]
    MalformedAttributeList {
        /// What does not fit.
        problem: &'static str,
    },
    /// Withdrawn Routes or NLRI cannot be read.
    #[error("UPDATE: {field}: {problem}")]
    InvalidNetworkField {
        /// Which of the two fields.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A path attribute whose fault nothing short of a reset can contain.
    #[error("UPDATE: {0}")]
    Attribute(AttributeError),
    /// A route refresh demarcation of the wrong length (RFC 7313 §5).
    #[error("ROUTE-REFRESH: a demarcation message has exactly 23 octets")]
    InvalidRefreshLength {
        /// The whole message, which the peer gets back.
        message: Vec<u8>,
    },
}

impl Error {
    /// What to send before the connection is closed.
    pub fn notification(&self) -> Notification {
        use code::{MESSAGE_HEADER, OPEN_MESSAGE, ROUTE_REFRESH, UPDATE_MESSAGE};
        use subcode::{header, open, refresh, update};
        let (code, subcode, data) = match self {
            Error::ConnectionNotSynchronized => (MESSAGE_HEADER, header::NOT_SYNCHRONIZED, vec![]),
            Error::BadMessageLength { length } => (
                MESSAGE_HEADER,
                header::BAD_LENGTH,
                length.to_be_bytes().to_vec(),
            ),
            Error::BadMessageType { kind } => (MESSAGE_HEADER, header::BAD_TYPE, vec![*kind]),
            Error::UnsupportedVersion { .. } => {
                (OPEN_MESSAGE, open::UNSUPPORTED_VERSION, vec![0, 4])
            }
            Error::BadPeerAs => (OPEN_MESSAGE, open::BAD_PEER_AS, vec![]),
            Error::BadBgpIdentifier => (OPEN_MESSAGE, open::BAD_BGP_IDENTIFIER, vec![]),
            Error::UnsupportedOptionalParameter { .. } => {
                (OPEN_MESSAGE, open::UNSUPPORTED_PARAMETER, vec![])
            }
            Error::UnacceptableHoldTime { .. } => {
                (OPEN_MESSAGE, open::UNACCEPTABLE_HOLD_TIME, vec![])
            }
            Error::MalformedOpen { .. } => (OPEN_MESSAGE, open::UNSPECIFIC, vec![]),
            Error::MalformedAttributeList { .. } => {
                (UPDATE_MESSAGE, update::MALFORMED_LIST, vec![])
            }
            Error::InvalidNetworkField { .. } => (UPDATE_MESSAGE, update::INVALID_NETWORK, vec![]),
            Error::Attribute(error) => return error.notification(),
            Error::InvalidRefreshLength { message } => {
                (ROUTE_REFRESH, refresh::INVALID_LENGTH, message.clone())
            }
        };
        Notification {
            code,
            subcode,
            data,
        }
    }
}

/// What RFC 7606 §2 wants done about a path attribute, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// Attribute discard: go on as if the attribute had not been there.
    Discard,
    /// Treat-as-withdraw: every route the UPDATE announces is taken as withdrawn.
    Withdraw,
    /// Session reset.
    Reset,
}

/// A fault of one path attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attribute {attribute}: {problem}")]
pub struct AttributeError {
    /// Which attribute.
    pub attribute: AttributeType,
    /// What has been done about it.
    pub disposition: Disposition,
    /// Subcode of the UPDATE Message Error (RFC 4271 §6.3) that names the fault.
    pub subcode: u8,
    /// Data of that NOTIFICATION: mostly the attribute as received.
    pub data: Vec<u8>,
    /// The fault in words.
    pub problem: &'static str,
}

impl AttributeError {
    /// The NOTIFICATION that names this fault; sent only when the disposition is [`Disposition::Reset`].
    pub fn notification(&self) -> Notification {
        Notification {
            code: code::UPDATE_MESSAGE,
            subcode: self.subcode,
            data: self.data.clone(),
        }
    }
}

/// Something that has no encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A capability above 255 octets, or capabilities that do not fit into an OPEN.
    #[error("the capabilities do not fit into an OPEN message")]
    CapabilitiesTooLong,
    /// Attributes that leave no room for a route, or one attribute above 65,535 octets.
    #[error("path attributes of {octets} octets do not fit into a message")]
    AttributesTooLong {
        /// Their length.
        octets: usize,
    },
    /// An unknown attribute that has the number of one this package knows.
    #[error("attribute {0} has a field of its own and cannot be carried as unknown")]
    NotUnknown(AttributeType),
    /// The session cannot carry this next hop with this family.
    #[error("next hop {next_hop} cannot be sent with {family} routes on this session")]
    NextHop {
        /// The next hop.
        next_hop: crate::NextHop,
        /// The family of the routes.
        family: crate::Family,
    },
    /// A prefix of another family than the message's, or a family without an encoding.
    #[error("a route is not of family {family}, or that family has no encoding here")]
    WrongFamily {
        /// The family of the message.
        family: crate::Family,
    },
    /// Routes are announced without attributes.
    #[error("routes are announced without path attributes")]
    MissingAttributes,
}
