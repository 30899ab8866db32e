//! Whether somebody changed a table of ours.

use std::os::fd::{AsFd, BorrowedFd};

use super::{INET, NETFILTER, Nftables, OBJECT_TABLE, SUBSYSTEM};
use crate::attribute::attributes;
use crate::monitor::{drop_from_port, readable};
use crate::netfilter::HEADER_BYTES;
use crate::wire::Answer;
use crate::{Error, Socket};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Datagrams read at once at most, so that a flood does not starve the caller.
const MANY: usize = 256;

/// A subscription to the changes of one table, in the network namespace of the thread that opened
/// it.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    table: String,
}

impl Monitor {
    /// Subscribes; what `own` changes is left out.
    pub fn open(table: &str, own: &Nftables) -> Result<Monitor, Error> {
        let socket = Socket::of_protocol(NETFILTER, &[GROUP])?;
        drop_from_port(socket.as_fd(), own.socket.port())
            .map_err(|source| Error::system("filter nftables events", source))?;
        Ok(Monitor {
            socket,
            table: table.to_owned(),
        })
    }

    /// Whether the table was changed, or may have been because events were lost, since the last
    /// call. Does not wait.
    pub fn was_changed(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        for _ in 0..MANY {
            if !readable(self.socket.as_fd(), std::time::Duration::ZERO)? {
                break;
            }
            let table = &self.table;
            let received = self.socket.receive("watch nftables", &"", |answer| {
                changed |= concerns(answer, table);
                Ok(())
            });
            match received {
                Ok(()) => {}
                Err(Error::Overrun { .. }) => changed = true,
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The first attribute of every event but the one that ends a transaction is the table's name.
fn concerns(answer: &Answer<'_>, table: &str) -> bool {
    answer.kind >> 8 == SUBSYSTEM
        && answer.payload.first() == Some(&INET)
        && attributes(answer.payload, HEADER_BYTES)
            .next()
            .is_some_and(|first| first.kind == OBJECT_TABLE && first.string() == table)
}
