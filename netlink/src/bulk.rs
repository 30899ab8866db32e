//! Many route changes in few system calls.
//!
//! Several hundred messages go into one `sendmsg`. Only the last asks for an acknowledgement; the
//! kernel reports errors of the others unasked. An acknowledgement for each would cost a fifth of
//! the throughput and could overflow the receive buffer, which loses one and hangs its waiter.
//!
//! Callers do well not to sort by address: the kernel's trie takes scrambled prefixes faster.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

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
/// Bytes of a route with one gateway; a guess for buffers.
const TYPICAL_BYTES: usize = 64;
/// Chunks that are ready while the kernel works on one.
const CHUNKS_AHEAD: usize = 2;

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
        let mut refused = Vec::new();
        self.apply_each(socket, |position, result| {
            refused.extend(result.err().map(|error| (position, error)));
        })?;
        Ok(refused)
    }

    /// As [`RouteBatch::apply`]; tells what became of each change, in their order, while the
    /// kernel works on the next ones.
    pub fn apply_each(
        &self,
        socket: &mut Socket,
        mut done: impl FnMut(usize, Result<(), Error>),
    ) -> Result<(), Error> {
        let chunks = self.chunks(socket);
        let mut tell = |start: usize, sent: Sent| {
            let mut refused = sent.refused.into_iter().peekable();
            for position in 0..sent.count {
                let refusal = refused.next_if(|(refused, _)| *refused == position);
                done(
                    start + position,
                    refusal.map_or(Ok(()), |(_, error)| Err(error)),
                );
            }
        };
        if chunks.len() <= 1 {
            for chunk in chunks {
                let start = chunk.start;
                tell(start, socket.send_batch(&self.encode(chunk))?);
            }
            return Ok(());
        }
        std::thread::scope(|scope| {
            let (ready, to_send) = sync_channel::<Encoded<'_>>(CHUNKS_AHEAD);
            let (sent, results) = sync_channel(chunks.len());
            scope.spawn(move || {
                for encoded in to_send {
                    let result = socket.send_batch(&encoded);
                    let failed = result.is_err();
                    // Nobody listens any more only after a failure.
                    if sent.send((encoded.start, result)).is_err() || failed {
                        return;
                    }
                }
            });
            for chunk in chunks {
                if ready.send(self.encode(chunk)).is_err() {
                    break;
                }
                for (start, result) in results.try_iter() {
                    tell(start, result?);
                }
            }
            drop(ready);
            for (start, result) in results {
                tell(start, result?);
            }
            Ok(())
        })
    }

    /// What goes into each system call, with its first sequence number.
    fn chunks(&self, socket: &mut Socket) -> Vec<Chunk> {
        let limit = if socket.has_large_buffers() {
            BATCH
        } else {
            SMALL_BATCH
        };
        let mut chunks = Vec::with_capacity(self.changes.len().div_ceil(limit));
        for start in (0..self.changes.len()).step_by(limit) {
            let count = limit.min(self.changes.len() - start);
            let first = socket.reserve_sequences(u32::try_from(count).unwrap_or(u32::MAX));
            chunks.push(Chunk {
                start,
                count,
                first,
            });
        }
        chunks
    }

    fn encode(&self, chunk: Chunk) -> Encoded<'_> {
        let changes = &self.changes[chunk.start..chunk.start + chunk.count];
        let mut bytes = Vec::with_capacity(changes.len() * TYPICAL_BYTES);
        let mut last = 0;
        let mut sequence = chunk.first;
        for change in changes {
            last = bytes.len();
            let (message, flags) = change.message();
            encode(&mut bytes, message, NLM_F_REQUEST | flags, sequence);
            sequence = sequence.wrapping_add(1);
        }
        request_acknowledgement(&mut bytes[last..]);
        Encoded {
            start: chunk.start,
            first: chunk.first,
            changes,
            bytes,
        }
    }
}

impl FromIterator<RouteChange> for RouteBatch {
    fn from_iter<I: IntoIterator<Item = RouteChange>>(changes: I) -> RouteBatch {
        RouteBatch {
            changes: changes.into_iter().collect(),
        }
    }
}

/// The part of a batch that goes into one system call.
#[derive(Clone, Copy)]
struct Chunk {
    start: usize,
    count: usize,
    first: u32,
}

/// A chunk as the kernel takes it.
struct Encoded<'a> {
    start: usize,
    first: u32,
    changes: &'a [RouteChange],
    bytes: Vec<u8>,
}

/// What became of one system call.
struct Sent {
    count: usize,
    refused: Vec<(usize, Error)>,
}

impl Socket {
    /// Sends a chunk and waits for the last one's acknowledgement.
    fn send_batch(&mut self, chunk: &Encoded<'_>) -> Result<Sent, Error> {
        let count = chunk.changes.len();
        self.send(&chunk.bytes, "change routes")?;
        let mut refused = Vec::new();
        let mut finished = false;
        while !finished {
            self.receive(
                "change routes",
                &format_args!("{count} of them"),
                |answer| {
                    let position = answer.sequence.wrapping_sub(chunk.first) as usize;
                    let Some(change) = chunk.changes.get(position) else {
                        return Ok(());
                    };
                    if answer.kind != NLMSG_ERROR {
                        return Ok(());
                    }
                    finished |= position + 1 == count;
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
