//! Cutting a datagram into messages, and reading acknowledgements.

use std::fmt::Display;

use netlink_packet_core::{NLMSG_ERROR, NetlinkBuffer};

use crate::Error;
use crate::attribute::attributes;

/// `NLM_F_ACK_TLVS`: the acknowledgement carries attributes.
const ACK_HAS_ATTRIBUTES: u16 = 0x200;
/// `NLM_F_CAPPED`: the acknowledgement repeats the header of the request only.
const ACK_IS_CAPPED: u16 = 0x100;
/// `NLMSGERR_ATTR_MSG`: the kernel's words.
const ACK_MESSAGE: u16 = 1;
const HEADER_BYTES: usize = 16;

/// One message from the kernel.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of one datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Answer<'_>, String>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = match NetlinkBuffer::new_checked(rest) {
            Ok(message) => message,
            Err(problem) => {
                rest = &[];
                return Some(Err(problem.to_string()));
            }
        };
        let length = message.length() as usize;
        let answer = Answer {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: message.payload(),
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(answer))
    })
}

impl Answer<'_> {
    /// Whether an acknowledgement says that something went wrong.
    pub(crate) fn is_error(&self) -> bool {
        self.code() < 0
    }

    fn code(&self) -> i32 {
        match self.payload.get(..4).map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) => i32::from_ne_bytes(bytes),
            _ => 0,
        }
    }

    /// Reads an acknowledgement, an error, or the end of a dump (which carries one too).
    pub(crate) fn error(&self, operation: &'static str, object: &dyn Display) -> Result<(), Error> {
        let code = self.code();
        if code >= 0 {
            return Ok(());
        }
        let errno = code.saturating_neg();
        Err(Error::from_errno(errno, operation, object, self.detail()))
    }

    /// The kernel's words behind an error number.
    fn detail(&self) -> Option<String> {
        if self.flags & ACK_HAS_ATTRIBUTES == 0 {
            return None;
        }
        let skip = if self.kind != NLMSG_ERROR {
            4
        } else if self.flags & ACK_IS_CAPPED != 0 {
            4 + HEADER_BYTES
        } else {
            let echoed = NetlinkBuffer::new(self.payload.get(4..)?);
            4 + (echoed.length() as usize).next_multiple_of(4)
        };
        attributes(self.payload, skip)
            .find(|attribute| attribute.kind == ACK_MESSAGE)
            .map(|attribute| attribute.string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message header of the given length, type and flags, followed by `payload`.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn splits_a_datagram_at_aligned_lengths() {
        let mut datagram = message(24, 0, &[1, 2, 3, 4, 5]);
        datagram.extend(message(25, 0, &[]));
        let kinds: Vec<u16> = messages(&datagram).map(|m| m.unwrap().kind).collect();
        assert_eq!(kinds, [24, 25]);
    }

    #[test]
    fn a_length_beyond_the_datagram_is_an_error_and_ends_it() {
        let mut datagram = message(24, 0, &[0; 8]);
        datagram.truncate(20);
        let all: Vec<_> = messages(&datagram).collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].is_err());
    }

    #[test]
    fn the_kernels_words_are_part_of_the_error() {
        let mut payload = (-libc::ENETUNREACH).to_ne_bytes().to_vec();
        payload.extend([0; HEADER_BYTES]);
        let words = b"Nexthop has invalid gateway\0";
        payload.extend(u16::try_from(4 + words.len()).unwrap().to_ne_bytes());
        payload.extend(ACK_MESSAGE.to_ne_bytes());
        payload.extend(words);
        let bytes = message(NLMSG_ERROR, ACK_HAS_ATTRIBUTES | ACK_IS_CAPPED, &payload);
        let answer = messages(&bytes).next().unwrap().unwrap();
        let error = answer.error("add route", &"10.0.1.0/26").unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)));
        assert_eq!(
            error.to_string(),
            "add route 10.0.1.0/26: Network is unreachable (os error 101) (Nexthop has invalid gateway)"
        );
    }

    #[test]
    fn a_zero_code_is_an_acknowledgement() {
        let bytes = message(NLMSG_ERROR, 0, &[0; 20]);
        let answer = messages(&bytes).next().unwrap().unwrap();
        assert!(answer.error("add route", &"10.0.1.0/26").is_ok());
    }
}
