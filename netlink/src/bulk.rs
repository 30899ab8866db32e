//! Many route changes in few system calls.
//!
//! Several hundred messages go into one `sendmsg`. Only the last asks for an acknowledgement; the
//! kernel reports errors of the others unasked. An acknowledgement for each would cost a fifth of
//! the throughput and could overflow the receive buffer, which loses one and hangs its waiter.
//!
//! Callers do well not to sort by address: the kernel's trie takes scrambled prefixes faster.

use std::sync::Arc;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR,
};
use netlink_packet_route::RouteNetlinkMessage;

use crate::route::message;
use crate::socket::encode;
use crate::{Error, Route, Socket};

/// Messages per system call; the errors of all of them must fit the receive buffer.
const BATCH: usize = 256;
const SMALL_BATCH: usize = 64;
/// Bytes per system call, far below the send buffer.
const BATCH_BYTES: usize = 64 << 10;

/// One change of a batch; the route is shared, so that whoever remembers it need not copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// As [`Socket::add_route`].
    Add(Arc<Route>),
    /// As [`Socket::replace_route`].
    Replace(Arc<Route>),
    /// As [`Socket::delete_route`].
    Delete(Arc<Route>),
}

/// Changes that are sent to the kernel together, in the order they were added.
#[derive(Clone, Debug, Default)]
pub struct RouteBatch {
    changes: Vec<RouteChange>,
}

impl RouteChange {
    /// The route it is about.
    pub fn route(&self) -> &Arc<Route> {
        match self {
            RouteChange::Add(route) | RouteChange::Replace(route) | RouteChange::Delete(route) => {
                route
            }
        }
    }

    fn operation(&self) -> &'static str {
        match self {
            RouteChange::Add(_) => "add route",
            RouteChange::Replace(_) => "replace route",
            RouteChange::Delete(_) => "delete route",
        }
    }

    fn message(&self) -> (RouteNetlinkMessage, u16) {
        match self {
            RouteChange::Add(route) => (
                RouteNetlinkMessage::NewRoute(message::new(route)),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            RouteChange::Replace(route) => (
                RouteNetlinkMessage::NewRoute(message::new(route)),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
            RouteChange::Delete(route) => {
                (RouteNetlinkMessage::DelRoute(message::delete(route)), 0)
            }
        }
    }
}

impl RouteBatch {
    /// An empty batch.
    pub fn new() -> RouteBatch {
        RouteBatch::default()
    }

    /// Adds a change behind the others.
    pub fn push(&mut self, change: RouteChange) {
        self.changes.push(change);
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[RouteChange] {
        &self.changes
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes all changes; returns the position and the reason of each that the kernel refused.
    ///
    /// A refusal does not stop the others. An `Err` means that nobody knows how far it went:
    /// list the routes again.
    pub fn apply(&self, socket: &mut Socket) -> Result<Vec<(usize, Error)>, Error> {
        let limit = if socket.has_large_buffers() {
            BATCH
        } else {
            SMALL_BATCH
        };
        let mut refused = Vec::new();
        let mut bytes = Vec::with_capacity(BATCH_BYTES);
        let mut start = 0;
        while start < self.changes.len() {
            let end = self.changes.len().min(start + limit);
            let sent = socket.send_batch(&self.changes[start..end], &mut bytes)?;
            for (position, error) in sent.refused {
                refused.push((start + position, error));
            }
            start += sent.count;
        }
        Ok(refused)
    }
}

impl FromIterator<RouteChange> for RouteBatch {
    fn from_iter<I: IntoIterator<Item = RouteChange>>(changes: I) -> RouteBatch {
        RouteBatch {
            changes: changes.into_iter().collect(),
        }
    }
}

/// What became of one system call.
struct Sent {
    count: usize,
    refused: Vec<(usize, Error)>,
}

impl Socket {
    /// Sends as many of the changes as fit and waits for the last one's acknowledgement.
    fn send_batch(&mut self, changes: &[RouteChange], bytes: &mut Vec<u8>) -> Result<Sent, Error> {
        bytes.clear();
        let first = self.reserve_sequences(u32::try_from(changes.len()).unwrap_or(u32::MAX));
        let mut count = 0;
        let mut sequence = first;
        let mut last = 0;
        for change in changes {
            if bytes.len() >= BATCH_BYTES {
                break;
            }
            last = bytes.len();
            sequence = first.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
            let (message, flags) = change.message();
            encode(bytes, message, NLM_F_REQUEST | flags, sequence);
            count += 1;
        }
        request_acknowledgement(&mut bytes[last..]);
        self.send(bytes, "change routes")?;

        let mut refused = Vec::new();
        let mut finished = false;
        while !finished {
            self.receive(
                "change routes",
                &format_args!("{count} of them"),
                |answer| {
                    let position = answer.sequence.wrapping_sub(first) as usize;
                    let Some(change) = changes[..count].get(position) else {
                        return Ok(());
                    };
                    if answer.kind != NLMSG_ERROR {
                        return Ok(());
                    }
                    finished |= answer.sequence == sequence;
                    if let Err(error) = answer.error(change.operation(), &**change.route()) {
                        refused.push((position, error));
                    }
                    Ok(())
                },
            )?;
        }
        Ok(Sent { count, refused })
    }
}

/// Sets the flag in the header of a serialised message: the end of a batch is known only when it
/// is full.
fn request_acknowledgement(message: &mut [u8]) {
    if let Some(flags) = message.first_chunk_mut::<8>() {
        let value = u16::from_ne_bytes([flags[6], flags[7]]) | NLM_F_ACK;
        flags[6..].copy_from_slice(&value.to_ne_bytes());
    }
}
