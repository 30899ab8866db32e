//! Packets on their way out, sorted so that few system calls send them.
//!
//! A lane is a socket with a source port of its own: the packets of a flow keep to one lane, so that
//! routers between the nodes spread flows over their links, as with the kernel's VXLAN.
//! Within a lane neighbours of one size for one node become one message that the kernel cuts
//! (`UDP_SEGMENT`), so that they pass its IP layer once.

use std::net::SocketAddr;

use super::sys::{Message, Span};

/// The area of what was read from the device.
pub(crate) const FRAMES: usize = 0;
/// The area of headers written for segments.
pub(crate) const HEADERS: usize = 1;

/// Most datagrams in a message (`UDP_MAX_SEGMENTS` of older kernels).
const MOST_PIECES: usize = 64;
/// Most bytes in a message; what UDP over IPv4 can carry is a little more.
const MOST_BYTES: usize = 65_000;
/// Most spans waiting in a lane.
const MOST_SPANS: usize = 2048;

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) tos: u8,
    pub(crate) spans: &'a [Span],
    pub(crate) length: usize,
}

/// What waits for one socket.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) spans: Vec<Span>,
    pub(crate) messages: Vec<Message>,
    last: Growing,
}

/// The message at the end of a lane, as long as more may join it.
#[derive(Clone, Copy, Debug, Default)]
struct Growing {
    open: bool,
    size: usize,
    pieces: usize,
    bytes: usize,
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            spans: Vec::with_capacity(MOST_SPANS),
            messages: Vec::with_capacity(MOST_SPANS / 2),
            last: Growing::default(),
        }
    }

    /// Whether one more datagram would need more memory.
    pub(crate) fn is_full(&self) -> bool {
        self.spans.len() + 2 > MOST_SPANS
    }

    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.messages.clear();
        self.last = Growing::default();
    }

    /// Appends a datagram; `together` allows it to join the message before.
    pub(crate) fn push(&mut self, parcel: Parcel<'_>, together: bool) {
        let start = self.spans.len();
        self.spans.extend_from_slice(parcel.spans);
        let end = self.spans.len();
        let last = &mut self.last;
        match self.messages.last_mut() {
            Some(message) if together && last.takes(message, &parcel) => {
                message.spans.end = end;
                message.piece = last.size as u16;
                last.pieces += 1;
                last.bytes += parcel.length;
                last.open = parcel.length == last.size && last.pieces < MOST_PIECES;
            }
            _ => {
                self.messages.push(Message {
                    to: parcel.to,
                    spans: start..end,
                    piece: 0,
                    tos: parcel.tos,
                });
                *last = Growing {
                    open: true,
                    size: parcel.length,
                    pieces: 1,
                    bytes: parcel.length,
                };
            }
        }
    }
}

impl Growing {
    fn takes(&self, message: &Message, parcel: &Parcel<'_>) -> bool {
        self.open
            && parcel.length <= self.size
            && self.bytes + parcel.length <= MOST_BYTES
            && message.to == parcel.to
            && message.tos == parcel.tos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lane: &mut Lane, to: &str, length: usize) {
        let span = Span {
            area: FRAMES,
            start: 0,
            length,
        };
        let parcel = Parcel {
            to: to.parse().unwrap(),
            tos: 0,
            spans: &[span],
            length,
        };
        lane.push(parcel, true);
    }

    fn shape(lane: &Lane) -> Vec<(usize, u16)> {
        let shape = |message: &Message| (message.spans.len(), message.piece);
        lane.messages.iter().map(shape).collect()
    }

    #[test]
    fn datagrams_of_one_size_and_destination_go_together() {
        let mut lane = Lane::new();
        for length in [100, 100, 60, 60] {
            push(&mut lane, "192.0.2.1:4789", length);
        }
        push(&mut lane, "192.0.2.2:4789", 60);
        push(&mut lane, "192.0.2.2:4789", 61);
        assert_eq!(
            shape(&lane),
            [(3, 100), (1, 0), (1, 0), (1, 0)],
            "a shorter one is the last of its message, a longer one starts another"
        );
    }

    #[test]
    fn a_message_has_its_limits() {
        let mut lane = Lane::new();
        for _ in 0..65 {
            push(&mut lane, "192.0.2.1:4789", 10);
        }
        assert_eq!(shape(&lane), [(64, 10), (1, 0)]);
        lane.clear();
        for _ in 0..3 {
            push(&mut lane, "192.0.2.1:4789", 30_000);
        }
        assert_eq!(shape(&lane), [(2, 30_000), (1, 0)]);
    }
}
