//! What changes in the kernel, as it happens.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::NLM_F_REPLACE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockFilter, SockRef};

use crate::attribute::attributes;
use crate::wire::Answer;
use crate::{Address, Error, Forwarding, Link, Neighbour, Route, Socket};

/// Returned at once at most, so that a flood does not starve the caller.
const MANY_EVENTS: usize = 4096;
/// Where `nlmsg_pid` is in `struct nlmsghdr`.
const PORT_OFFSET: u32 = 12;
/// `struct netconfmsg`, one octet, with its padding.
const NETCONF_BYTES: usize = 4;
/// `NETCONFA_IFINDEX`.
const NETCONFA_IFINDEX: u16 = 1;

/// What to be told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Interfaces.
    Links,
    /// Addresses of both families.
    Addresses,
    /// Routes of both families, all tables.
    Routes,
    /// Neighbours, forwarding entries of bridges included.
    Neighbours,
    /// Forwarding, reverse path filter and proxy ARP of interfaces; of other sysctls the kernel
    /// tells nothing.
    Settings,
}

/// A change in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface is new or different.
    Link(Link),
    /// An interface is gone.
    LinkGone(Link),
    /// An address is new or different.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new or different.
    Route {
        /// How it is now.
        route: Route,
        /// It took the place of the routes with the same destination, metric and type of service.
        replaced: bool,
    },
    /// A route is gone. IPv4 routes also go silently with their interface or source address.
    RouteGone(Route),
    /// A neighbour is new or different.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// A forwarding entry of a tunnel device or of a bridge is new or different.
    Forwarding(Forwarding),
    /// A forwarding entry is gone.
    ForwardingGone(Forwarding),
    /// Forwarding, reverse path filter or proxy ARP is set.
    Settings {
        /// The interface; absent for all of them and for the default of new ones.
        index: Option<u32>,
    },
    /// Events were lost: list everything again.
    Overrun,
}

/// A subscription to changes in the network namespace of the thread that opened it.
///
/// Open it before listing, so that nothing between the list and the first event is missed.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Subscribes to groups of changes.
    pub fn open(groups: &[Group]) -> Result<Monitor, Error> {
        let numbers: Vec<u32> = groups
            .iter()
            .flat_map(|group| group.numbers())
            .copied()
            .collect();
        Ok(Monitor {
            socket: Socket::with_groups(&numbers)?,
        })
    }

    /// Leaves out what is changed through this socket: its owner knows already.
    ///
    /// The kernel drops these events before they take room in the buffer, so that a large batch
    /// does not make its own observer overflow. Of forwarding entries the kernel does not say who
    /// changed them, and some changes of interfaces come without a name too. A later call takes the place of an earlier one.
    pub fn ignore_changes_of(&self, socket: &Socket) -> Result<(), Error> {
        drop_from_port(self.socket.as_fd(), socket.port())
            .map_err(|source| Error::system("filter netlink events", source))
    }

    /// Waits up to `limit` for something to happen, then returns all that can be had at once.
    ///
    /// Nothing within the limit is an empty list; lost events are [`Event::Overrun`].
    pub fn next(&mut self, limit: Duration) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        if !readable(self.socket.as_fd(), limit)? {
            return Ok(events);
        }
        while events.len() < MANY_EVENTS && readable(self.socket.as_fd(), Duration::ZERO)? {
            let received = self.socket.receive("watch for changes", &"", |answer| {
                events.extend(read(answer));
                Ok(())
            });
            match received {
                Ok(()) => {}
                Err(Error::Overrun { .. }) => events.push(Event::Overrun),
                Err(error) => return Err(error),
            }
        }
        Ok(events)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Group {
    fn numbers(self) -> &'static [u32] {
        match self {
            Group::Links => &[libc::RTNLGRP_LINK],
            Group::Addresses => &[libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR],
            Group::Routes => &[libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE],
            Group::Neighbours => &[libc::RTNLGRP_NEIGH],
            Group::Settings => &[libc::RTNLGRP_IPV4_NETCONF, libc::RTNLGRP_IPV6_NETCONF],
        }
    }
}

fn read(answer: &Answer<'_>) -> Option<Event> {
    match answer.kind {
        libc::RTM_NEWLINK => Link::read(answer).map(Event::Link),
        libc::RTM_DELLINK => Link::read(answer).map(Event::LinkGone),
        libc::RTM_NEWADDR => Address::read(answer).map(Event::Address),
        libc::RTM_DELADDR => Address::read(answer).map(Event::AddressGone),
        libc::RTM_NEWROUTE => Route::read(answer.payload).map(|route| Event::Route {
            route,
            replaced: answer.flags & NLM_F_REPLACE != 0,
        }),
        libc::RTM_DELROUTE => Route::read(answer.payload).map(Event::RouteGone),
        libc::RTM_NEWNEIGH => Neighbour::read(answer)
            .map(Event::Neighbour)
            .or_else(|| Forwarding::read(answer).map(Event::Forwarding)),
        libc::RTM_DELNEIGH => Neighbour::read(answer)
            .map(Event::NeighbourGone)
            .or_else(|| Forwarding::read(answer).map(Event::ForwardingGone)),
        libc::RTM_NEWNETCONF => Some(Event::Settings {
            index: settings_of(answer.payload),
        }),
        _ => None,
    }
}

/// The interface in a `struct netconfmsg` with its attributes; negative numbers stand for all
/// interfaces and for the default.
fn settings_of(payload: &[u8]) -> Option<u32> {
    attributes(payload, NETCONF_BYTES)
        .find(|attribute| attribute.kind == NETCONFA_IFINDEX)
        .and_then(|attribute| attribute.u32())
        .filter(|index| i32::try_from(*index).is_ok())
}

/// Drops, inside the kernel, messages whose header names this port.
pub(crate) fn drop_from_port(socket: BorrowedFd<'_>, port: u32) -> std::io::Result<()> {
    let instruction = |code: u32, jump_true, k| SockFilter::new(code as u16, jump_true, 0, k);
    let program = [
        // The load converts from network order, the header is in host order.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, PORT_OFFSET),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, port.to_be()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    SockRef::from(&socket).attach_filter(&program)
}

pub(crate) fn readable(fd: BorrowedFd<'_>, limit: Duration) -> Result<bool, Error> {
    let millis = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(Error::system("wait for netlink events", errno)),
    }
}
