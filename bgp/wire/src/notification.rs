//! NOTIFICATION: why a session ends (RFC 4271 §4.5, 4486, 8538, 9003, 9687).

use std::fmt;

use bytes::BytesMut;

use crate::header;

mod name;

/// Error codes.
pub mod code {
    /// Message Header Error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN_MESSAGE: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE_MESSAGE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Error subcodes, by error code.
pub mod subcode {
    /// Of [`MESSAGE_HEADER`](super::code::MESSAGE_HEADER).
    pub mod header {
        /// Connection Not Synchronized.
        pub const NOT_SYNCHRONIZED: u8 = 1;
        /// Bad Message Length.
        pub const BAD_LENGTH: u8 = 2;
        /// Bad Message Type.
        pub const BAD_TYPE: u8 = 3;
    }
    /// Of [`OPEN_MESSAGE`](super::code::OPEN_MESSAGE).
    pub mod open {
        /// Unspecific.
        pub const UNSPECIFIC: u8 = 0;
        /// Unsupported Version Number.
        pub const UNSUPPORTED_VERSION: u8 = 1;
        /// Bad Peer AS.
        pub const BAD_PEER_AS: u8 = 2;
        /// Bad BGP Identifier.
        pub const BAD_BGP_IDENTIFIER: u8 = 3;
        /// Unsupported Optional Parameter.
        pub const UNSUPPORTED_PARAMETER: u8 = 4;
        /// Unacceptable Hold Time.
        pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
        /// Unsupported Capability (RFC 5492).
        pub const UNSUPPORTED_CAPABILITY: u8 = 7;
        /// Role Mismatch (RFC 9234).
        pub const ROLE_MISMATCH: u8 = 11;
    }
    /// Of [`UPDATE_MESSAGE`](super::code::UPDATE_MESSAGE).
    pub mod update {
        /// Malformed Attribute List.
        pub const MALFORMED_LIST: u8 = 1;
        /// Unrecognized Well-known Attribute.
        pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
        /// Missing Well-known Attribute.
        pub const MISSING_WELL_KNOWN: u8 = 3;
        /// Attribute Flags Error.
        pub const FLAGS: u8 = 4;
        /// Attribute Length Error.
        pub const LENGTH: u8 = 5;
        /// Invalid ORIGIN Attribute.
        pub const INVALID_ORIGIN: u8 = 6;
        /// Invalid NEXT_HOP Attribute.
        pub const INVALID_NEXT_HOP: u8 = 8;
        /// Optional Attribute Error.
        pub const OPTIONAL_ATTRIBUTE: u8 = 9;
        /// Invalid Network Field.
        pub const INVALID_NETWORK: u8 = 10;
        /// Malformed AS_PATH.
        pub const MALFORMED_AS_PATH: u8 = 11;
    }
    /// Of [`FSM`](super::code::FSM) (RFC 6608).
    pub mod fsm {
        /// Unspecified Error.
        pub const UNSPECIFIED: u8 = 0;
        /// Receive Unexpected Message in OpenSent State.
        pub const OPEN_SENT: u8 = 1;
        /// Receive Unexpected Message in OpenConfirm State.
        pub const OPEN_CONFIRM: u8 = 2;
        /// Receive Unexpected Message in Established State.
        pub const ESTABLISHED: u8 = 3;
    }
    /// Of [`CEASE`](super::code::CEASE) (RFC 4486).
    pub mod cease {
        /// Maximum Number of Prefixes Reached.
        pub const MAXIMUM_PREFIXES: u8 = 1;
        /// Administrative Shutdown.
        pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
        /// Peer De-configured.
        pub const PEER_DECONFIGURED: u8 = 3;
        /// Administrative Reset.
        pub const ADMINISTRATIVE_RESET: u8 = 4;
        /// Connection Rejected.
        pub const CONNECTION_REJECTED: u8 = 5;
        /// Other Configuration Change.
        pub const CONFIGURATION_CHANGE: u8 = 6;
        /// Connection Collision Resolution.
        pub const COLLISION: u8 = 7;
        /// Out of Resources.
        pub const OUT_OF_RESOURCES: u8 = 8;
        /// Hard Reset (RFC 8538).
        pub const HARD_RESET: u8 = 9;
        /// BFD Down (RFC 9384).
        pub const BFD_DOWN: u8 = 10;
    }
    /// Of [`ROUTE_REFRESH`](super::code::ROUTE_REFRESH).
    pub mod refresh {
        /// Invalid Message Length.
        pub const INVALID_LENGTH: u8 = 1;
    }
}

/// Why the sender closes the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code, one of [`code`].
    pub code: u8,
    /// Error subcode, see [`subcode`].
    pub subcode: u8,
    /// Whatever the code calls for.
    pub data: Vec<u8>,
}

impl Notification {
    /// A NOTIFICATION without data.
    pub fn new(code: u8, subcode: u8) -> Notification {
        Notification {
            code,
            subcode,
            data: Vec::new(),
        }
    }

    /// Cease with one of [`subcode::cease`].
    pub fn cease(subcode: u8) -> Notification {
        Notification::new(code::CEASE, subcode)
    }

    /// Nothing was heard from the peer for the hold time.
    pub fn hold_timer_expired() -> Notification {
        Notification::new(code::HOLD_TIMER_EXPIRED, 0)
    }

    /// Nothing could be sent to the peer for the send hold time (RFC 9687).
    pub fn send_hold_timer_expired() -> Notification {
        Notification::new(code::SEND_HOLD_TIMER_EXPIRED, 0)
    }

    /// A message came in a state that does not expect it; one of [`subcode::fsm`].
    pub fn fsm_error(subcode: u8) -> Notification {
        Notification::new(code::FSM, subcode)
    }

    /// Administrative Shutdown with a text for the peer's operator (RFC 9003), cut to 255 octets.
    pub fn administrative_shutdown(text: &str) -> Notification {
        Notification::with_text(subcode::cease::ADMINISTRATIVE_SHUTDOWN, text)
    }

    /// Administrative Reset with a text for the peer's operator (RFC 9003), cut to 255 octets.
    pub fn administrative_reset(text: &str) -> Notification {
        Notification::with_text(subcode::cease::ADMINISTRATIVE_RESET, text)
    }

    fn with_text(subcode: u8, text: &str) -> Notification {
        let text = &text[..text.floor_char_boundary(usize::from(u8::MAX))];
        let mut data = Vec::with_capacity(1 + text.len());
        data.push(text.len() as u8);
        data.extend_from_slice(text.as_bytes());
        Notification {
            code: code::CEASE,
            subcode,
            data,
        }
    }

    /// The text of an administrative shutdown or reset (RFC 9003); invalid UTF-8 is replaced, control characters too.
    ///
    /// `None` when there is none, or its length does not fit the data.
    pub fn text(&self) -> Option<String> {
        use subcode::cease::{ADMINISTRATIVE_RESET, ADMINISTRATIVE_SHUTDOWN};
        if self.code != code::CEASE
            || !matches!(self.subcode, ADMINISTRATIVE_SHUTDOWN | ADMINISTRATIVE_RESET)
        {
            return None;
        }
        let (&len, text) = self.data.split_first()?;
        let text = text
            .get(..usize::from(len))
            .filter(|text| !text.is_empty())?;
        // The peer chooses these octets and an operator's terminal shows them.
        let printable = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        Some(
            String::from_utf8_lossy(text)
                .chars()
                .map(printable)
                .collect(),
        )
    }

    /// Wraps this NOTIFICATION into a Hard Reset, which ends graceful restart too (RFC 8538 §3.1).
    pub fn into_hard_reset(self) -> Notification {
        let mut data = Vec::with_capacity(2 + self.data.len());
        data.extend_from_slice(&[self.code, self.subcode]);
        data.extend_from_slice(&self.data);
        Notification {
            code: code::CEASE,
            subcode: subcode::cease::HARD_RESET,
            data,
        }
    }

    /// The NOTIFICATION inside a Hard Reset; `None` when this is none, or nothing is inside.
    pub fn hard_reset(&self) -> Option<Notification> {
        if self.code != code::CEASE || self.subcode != subcode::cease::HARD_RESET {
            return None;
        }
        let (&[code, subcode], data) = self.data.split_first_chunk()?;
        let data = data.to_vec();
        Some(Notification {
            code,
            subcode,
            data,
        })
    }

    /// `message` is framed: at least 21 octets.
    pub(crate) fn decode(message: &[u8]) -> Notification {
        Notification {
            code: message[header::LEN],
            subcode: message[header::LEN + 1],
            data: message[header::LEN + 2..].to_vec(),
        }
    }

    /// Data that does not fit the message is cut: it informs, it decides nothing.
    pub(crate) fn encode(&self, max_len: usize, out: &mut BytesMut) {
        let room = max_len - header::LEN - 2;
        let at = header::start(out, header::kind::NOTIFICATION);
        out.extend_from_slice(&[self.code, self.subcode]);
        out.extend_from_slice(&self.data[..self.data.len().min(room)]);
        header::finish(out, at);
    }
}

impl Notification {
    /// Without what is inside a Hard Reset: a peer could put one into another a thousand times.
    fn fmt_outside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.code, self.subcode)?;
        if let Some((code, subcode)) = name::of(self.code, self.subcode) {
            write!(f, " {code}")?;
            if !subcode.is_empty() {
                write!(f, ", {subcode}")?;
            }
        }
        if let Some(text) = self.text() {
            write!(f, ": {text:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_outside(f)?;
        if let Some(inner) = self.hard_reset() {
            f.write_str(" (")?;
            inner.fmt_outside(f)?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
