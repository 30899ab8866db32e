//! Many route changes in few system calls.
//!
//! Most routes of a node go through few gateways: the message of a [`Pattern`] is built once, and
//! only destination and number differ from route to route.
//! Some hundred messages go into one `sendmsg`. Only the last asks for an acknowledgement; the
//! kernel reports errors of the others unasked. An acknowledgement for each would cost a fifth of
//! the throughput and could overflow the receive buffer, which loses one and hangs its waiter.
//! A [`Pipe`] lets the kernel work while its owner thinks about what comes next.
//!
//! The order of destinations matters to the kernel, see `routes::queue` in `felix-dataplane`.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR,
};
use netlink_packet_route::RouteNetlinkMessage;

use crate::route::message;
use crate::socket::encode;
use crate::{Error, Family, Route, Socket};

mod pipe;

pub use pipe::{Done, Pipe};

/// Messages per system call; the errors of all of them must fit the receive buffer.
const BATCH: usize = 256;
const SMALL_BATCH: usize = 64;

/// Where flags, number, prefix length and destination are in a message (`struct nlmsghdr`,
/// `struct rtmsg`, and the first attribute, which is `RTA_DST`).
const FLAGS: Range<usize> = 6..8;
const SEQUENCE: Range<usize> = 8..12;
const KIND: Range<usize> = 4..6;
const PREFIX_LENGTH: usize = 17;
const PAYLOAD: usize = 16;
const DESTINATION: usize = 32;

/// What is to be done with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// As [`Socket::add_route`].
    Add,
    /// As [`Socket::replace_route`].
    Replace,
    /// As [`Socket::delete_route`].
    Delete,
}

/// What the messages about many routes have in common: everything but the destination.
#[derive(Clone, Debug)]
pub struct Pattern {
    family: Family,
    new: Vec<u8>,
    delete: Vec<u8>,
}

/// Changes that go to the kernel together, in the order they were added.
#[derive(Clone, Debug, Default)]
pub struct RouteBatch {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Pattern {
    /// Messages for routes that are like `route`, and, to delete them, like `named`, which may
    /// leave out next hops; the destinations of both only say which family it is.
    pub fn new(route: &Route, named: &Route) -> Pattern {
        let mut new = Vec::new();
        let mut delete = Vec::new();
        let message = RouteNetlinkMessage::NewRoute(message::new(route));
        encode(&mut new, message, NLM_F_REQUEST, 0);
        let message = RouteNetlinkMessage::DelRoute(message::delete(named));
        encode(&mut delete, message, NLM_F_REQUEST, 0);
        Pattern {
            family: Family::of(route.destination.addr()),
            new,
            delete,
        }
    }
}

impl RouteBatch {
    /// An empty batch.
    pub fn new() -> RouteBatch {
        RouteBatch::default()
    }

    /// Adds a change behind the others.
    ///
    /// # Panics
    /// When the destination is not of the family of the pattern.
    pub fn push(&mut self, operation: Operation, pattern: &Pattern, destination: IpNet) {
        let (bytes, flags) = match operation {
            Operation::Add => (&pattern.new, NLM_F_CREATE | NLM_F_EXCL),
            Operation::Replace => (&pattern.new, NLM_F_CREATE | NLM_F_REPLACE),
            Operation::Delete => (&pattern.delete, 0),
        };
        let address = destination.network();
        assert!(
            Family::of(address) == pattern.family,
            "{destination} is of the other family than its pattern"
        );
        let start = self.bytes.len();
        self.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(bytes);
        let message = &mut self.bytes[start..];
        message[FLAGS].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        message[PREFIX_LENGTH] = destination.prefix_len();
        match address {
            IpAddr::V4(v4) => message[DESTINATION..][..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => message[DESTINATION..][..16].copy_from_slice(&v6.octets()),
        }
    }

    /// Adds a change of one route behind the others.
    pub fn push_route(&mut self, operation: Operation, route: &Route) {
        self.push(operation, &Pattern::new(route, route), route.destination);
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Makes all changes; returns the position and the reason of each that the kernel refused.
    ///
    /// A refusal does not stop the others. An `Err` means that nobody knows how far it went:
    /// list the routes again.
    pub fn apply(mut self, socket: &mut Socket) -> Result<Vec<(usize, Error)>, Error> {
        let mut refused = Vec::new();
        let limit = socket.batch_limit();
        for start in (0..self.len()).step_by(limit) {
            self.send(start..self.len().min(start + limit), socket, &mut refused)?;
        }
        Ok(refused)
    }

    fn message(&self, position: usize) -> Range<usize> {
        let start = |position: usize| self.starts.get(position).map(|start| *start as usize);
        start(position).unwrap_or(self.bytes.len())..start(position + 1).unwrap_or(self.bytes.len())
    }

    /// Sends a part and waits for the acknowledgement of its last message.
    fn send(
        &mut self,
        part: Range<usize>,
        socket: &mut Socket,
        refused: &mut Vec<(usize, Error)>,
    ) -> Result<(), Error> {
        let count = part.len();
        let first = socket.reserve_sequences(u32::try_from(count).unwrap_or(u32::MAX));
        for (position, number) in part.clone().zip(0..) {
            let message = self.message(position);
            let sequence = first.wrapping_add(number);
            self.bytes[message][SEQUENCE].copy_from_slice(&sequence.to_ne_bytes());
        }
        let last = self.message(part.end - 1);
        request_acknowledgement(&mut self.bytes[last.clone()]);
        socket.send(
            &self.bytes[self.message(part.start).start..last.end],
            "change routes",
        )?;
        let mut finished = false;
        while !finished {
            socket.receive(
                "change routes",
                &format_args!("{count} of them"),
                |answer| {
                    let position = answer.sequence.wrapping_sub(first) as usize;
                    if position >= count || answer.kind != NLMSG_ERROR {
                        return Ok(());
                    }
                    finished |= position + 1 == count;
                    let position = part.start + position;
                    if answer.is_error()
                        && let Err(error) = answer.error(
                            operation(&self.bytes[self.message(position)]),
                            &Described(&self.bytes[self.message(position)]),
                        )
                    {
                        refused.push((position, error));
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}

/// The route a message is about, for people.
struct Described<'a>(&'a [u8]);

impl std::fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Route::read(self.0.get(PAYLOAD..).unwrap_or_default()) {
            Some(route) => route.fmt(f),
            None => f.write_str("route"),
        }
    }
}

fn operation(message: &[u8]) -> &'static str {
    let number = |range: Range<usize>| {
        let bytes = message.get(range).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u16::from_ne_bytes)
    };
    if number(KIND) == libc::RTM_DELROUTE {
        "delete route"
    } else if number(FLAGS) & NLM_F_REPLACE != 0 {
        "replace route"
    } else {
        "add route"
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

impl Socket {
    /// Changes per system call whose errors fit the receive buffer.
    fn batch_limit(&self) -> usize {
        if self.has_large_buffers() {
            BATCH
        } else {
            SMALL_BATCH
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nexthop;

    #[test]
    fn a_message_from_a_pattern_is_the_message_of_the_route() {
        let hop = |via: &str| Nexthop {
            via: Some(via.parse().unwrap()),
            device: Some(3),
            onlink: true,
            weight: 1,
        };
        let mut routes = Vec::new();
        for destination in ["10.0.1.0/26", "0.0.0.0/0", "192.0.2.7/32"] {
            let mut route = Route::new(destination.parse().unwrap(), 80);
            route.mtu = Some(1400);
            route.nexthops = vec![hop("192.0.2.1"), hop("192.0.2.2")];
            routes.push(route);
        }
        for destination in ["2001:db8:1::/122", "::/0"] {
            let mut route = Route::new(destination.parse().unwrap(), 80);
            route.nexthops = vec![hop("2001:db8::1")];
            routes.push(route);
        }
        for route in routes {
            let mut shape = route.clone();
            shape.destination = match route.destination {
                IpNet::V4(_) => "203.0.113.0/24".parse().unwrap(),
                IpNet::V6(_) => "2001:db8:9::/64".parse().unwrap(),
            };
            let pattern = Pattern::new(&shape, &shape);
            for operation in [Operation::Add, Operation::Replace, Operation::Delete] {
                let mut batch = RouteBatch::new();
                batch.push(operation, &pattern, route.destination);
                let mut single = RouteBatch::new();
                single.push_route(operation, &route);
                assert_eq!(batch.bytes, single.bytes, "{operation:?} {route}");
            }
            let mut batch = RouteBatch::new();
            batch.push(Operation::Add, &pattern, route.destination);
            assert_eq!(
                Route::read(&batch.bytes[PAYLOAD..]),
                Some(route.canonical())
            );
        }
    }

    #[test]
    fn operations_are_named() {
        let route = Route::new("10.0.1.0/26".parse().unwrap(), 80);
        let mut batch = RouteBatch::new();
        for operation in [Operation::Add, Operation::Replace, Operation::Delete] {
            batch.push_route(operation, &route);
        }
        let names: Vec<_> = (0..3)
            .map(|position| operation(&batch.bytes[batch.message(position)]))
            .collect();
        assert_eq!(names, ["add route", "replace route", "delete route"]);
    }
}
