//! One TCP connection: what is read, what waits to be written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::Context;

use bgp_fsm::{ConnId, Negotiated};
use bgp_wire::{Message, Params, header};
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Password;
use crate::session::Up;
use crate::session::counters::{Counters, Direction};
use crate::socket;

/// Pieces handed to the kernel at once.
const GATHER: usize = 64;

/// A connection as the session sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    stream: TcpStream,
    /// How messages are read and written; plain until the session is established.
    pub(crate) params: Params,
    /// The beginning of a message whose end has not come yet.
    pub(crate) rest: Vec<u8>,
    /// What waits to be written; the first piece may be half written.
    output: VecDeque<Bytes>,
    octets: usize,
    /// Part of the first piece is written.
    begun: bool,
    /// The last write left something.
    blocked: bool,
    last_words: bool,
    ended: bool,
    /// While closing: how long the peer has to take the NOTIFICATION.
    pub(crate) until: Option<Instant>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// There was nothing to write, or no room.
    Nothing,
    /// Some of it, or bytes begin to wait.
    Some,
    /// All of it.
    All,
    /// The connection is broken.
    Broken,
}

impl Connection {
    pub(crate) fn new(id: ConnId, stream: TcpStream) -> Self {
        Connection {
            id,
            stream,
            params: Params::default(),
            rest: Vec::new(),
            output: VecDeque::new(),
            octets: 0,
            begun: false,
            blocked: false,
            last_words: false,
            ended: false,
            until: None,
        }
    }

    /// Octets that wait to be written.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// True when the peer has sent something that is not read yet.
    pub(crate) fn has_input(&self) -> bool {
        socket::has_input(&self.stream)
    }

    /// Changes or takes away the TCP MD5 key.
    pub(crate) fn sign(&self, password: Option<&Password>) -> io::Result<()> {
        socket::sign(&self.stream, password)
    }

    /// A NOTIFICATION was sent to it.
    pub(crate) fn has_last_words(&self) -> bool {
        self.last_words
    }

    /// What is known of it once its session is established.
    pub(crate) fn up(&self, negotiated: Negotiated) -> Up {
        Up {
            conn: self.id,
            negotiated,
            local: self.stream.local_addr().ok(),
            remote: self.stream.peer_addr().ok(),
            link: None,
        }
    }

    pub(crate) fn poll_ready(&self, reads: bool, cx: &mut Context<'_>) -> bool {
        let readable = reads && self.stream.poll_read_ready(cx).is_ready();
        let writable = !self.output.is_empty() && self.stream.poll_write_ready(cx).is_ready();
        readable || writable
    }

    pub(crate) fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.stream.try_read_buf(into)
    }

    /// Queues an OPEN, KEEPALIVE or NOTIFICATION.
    pub(crate) fn send(&mut self, message: &Message) {
        match message {
            Message::Notification(_) => {
                // Nothing else matters any more, but a message that has begun must end.
                self.output.truncate(usize::from(self.begun));
                self.octets = self.output.iter().map(Bytes::len).sum();
                self.last_words = true;
            }
            Message::Keepalive if self.output.back().is_some_and(is_keepalive) => return,
            Message::Keepalive
            | Message::Open(_)
            | Message::Update(_)
            | Message::RouteRefresh(_) => {}
        }
        let mut bytes = BytesMut::new();
        match message.encode(&self.params, &mut bytes) {
            Ok(()) => self.push(bytes.freeze()),
            Err(error) => tracing::error!(connection = %self.id, %error, "cannot encode"),
        }
    }

    /// Queues encoded messages.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.octets += bytes.len();
        self.output.push_back(bytes);
    }

    /// Writes as much as the kernel takes; counts the messages that are through.
    pub(crate) fn write(&mut self, counters: &Counters) -> Written {
        if self.output.is_empty() {
            return Written::Nothing;
        }
        let mut moved = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); GATHER];
            let mut used = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(bytes);
                used += 1;
            }
            match self.stream.try_write_vectored(&slices[..used]) {
                Ok(count) => {
                    moved = true;
                    self.advance(count, counters);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let begins = !std::mem::replace(&mut self.blocked, true);
                    return if moved || begins {
                        Written::Some
                    } else {
                        Written::Nothing
                    };
                }
                Err(_) => return Written::Broken,
            }
        }
        self.blocked = false;
        Written::All
    }

    fn advance(&mut self, mut count: usize, counters: &Counters) {
        self.octets = self.octets.saturating_sub(count);
        while let Some(first) = self.output.front_mut() {
            if !self.begun {
                counters.messages(Direction::Out, first);
            }
            if count < first.len() {
                first.advance(count);
                self.begun |= count > 0;
                return;
            }
            count -= first.len();
            self.output.pop_front();
            self.begun = false;
            if count == 0 {
                return;
            }
        }
    }

    /// Writes the rest and says that nothing follows; false when the connection can go.
    pub(crate) fn say_last_words(&mut self, counters: &Counters) -> bool {
        if self.ended {
            return true;
        }
        match self.write(counters) {
            Written::Broken => false,
            Written::Some | Written::Nothing if !self.output.is_empty() => true,
            Written::Some | Written::Nothing | Written::All => {
                self.ended = true;
                socket::end_output(&self.stream).is_ok()
            }
        }
    }

    /// Throws away what the peer still sends: closing before it is read would make the kernel
    /// reset the connection and the NOTIFICATION with it. False at its end.
    pub(crate) fn drain(&mut self) -> bool {
        let mut scratch = [0; 16 << 10];
        match self.stream.try_read(&mut scratch) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

fn is_keepalive(bytes: &Bytes) -> bool {
    bytes[..] == header::KEEPALIVE
}
