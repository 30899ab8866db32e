//! Connections: octets in order, late, and held up while the way is cut.

use std::collections::VecDeque;

use bgp_fsm::{ConnId, Time};
use bgp_wire::{Params, header};

/// One direction of a connection is read at this end.
pub(crate) struct End {
    pub(crate) node: usize,
    /// Which life of the node it belongs to.
    pub(crate) life: u64,
    /// Its name in the state machine of the node.
    pub(crate) conn: ConnId,
    pub(crate) is_open: bool,
    /// How what arrives here is read.
    pub(crate) params: Params,
    pub(crate) unread: Vec<u8>,
    /// When the last thing on its way here arrives.
    pub(crate) last: Time,
    /// How much is on its way here.
    pub(crate) flying: usize,
    /// What arrived while the way was cut.
    pub(crate) held: VecDeque<Payload>,
}

#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Octets(Vec<u8>),
    /// FIN or RST.
    Closed,
}

/// A TCP connection over a link.
pub(crate) struct Wire {
    pub(crate) link: usize,
    pub(crate) ends: [End; 2],
}

impl End {
    pub(crate) fn new(node: usize, life: u64, conn: ConnId) -> Self {
        End {
            node,
            life,
            conn,
            is_open: true,
            params: Params::default(),
            unread: Vec::new(),
            last: Time::ZERO,
            flying: 0,
            held: VecDeque::new(),
        }
    }

    /// The next whole message that has arrived.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        let max = self.params.max_message_len();
        let len = header::frame(&self.unread, max).unwrap()?;
        (len <= self.unread.len()).then(|| self.unread.drain(..len).collect())
    }
}
