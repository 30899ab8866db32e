//! One request, its answers, and nothing left over.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Error;
use crate::wire::{Answer, messages};

/// How long the kernel may take; it is slow only while somebody else holds the RTNL lock.
const TIMEOUT_SECS: u64 = 10;
/// Room for the errors of many batched requests, and for bursts of events.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// What the kernel counts besides the message itself, generously.
const SEND_OVERHEAD_BYTES: usize = 64 << 10;
/// The kernel fills at most 32 KiB per datagram of a dump.
const DATAGRAM_BYTES: usize = 64 << 10;
/// How often a listing is repeated when the table changes under it.
const DUMP_ATTEMPTS: u32 = 10;

/// A connection to the kernel's routing subsystem, bound to the network namespace of the thread
/// that opened it.
///
/// Kernel-side filters are strict, answers are matched by sequence number, a listing that changed
/// under way is repeated, and every wait has an end.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    forced: bool,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Socket, Error> {
        Socket::with_groups(&[])
    }

    /// Opens a socket that also receives the events of multicast groups.
    pub(crate) fn with_groups(groups: &[u32]) -> Result<Socket, Error> {
        Socket::of_protocol(NETLINK_ROUTE, groups)
    }

    /// Opens a socket to another part of the kernel (`NETLINK_*` number).
    pub(crate) fn of_protocol(protocol: isize, groups: &[u32]) -> Result<Socket, Error> {
        let fail = |call: &'static str| move |source: io::Error| Error::system(call, source);
        let mut inner =
            netlink_sys::Socket::new(protocol).map_err(fail("open a netlink socket"))?;
        let forced = size_buffers(&inner)?;
        inner
            .set_netlink_get_strict_chk(true)
            .map_err(fail("ask for strict netlink checks"))?;
        inner
            .set_ext_ack(true)
            .map_err(fail("ask for extended acknowledgements"))?;
        inner
            .set_cap_ack(true)
            .map_err(fail("ask for short acknowledgements"))?;
        let limit = TimeVal::seconds(TIMEOUT_SECS as i64);
        setsockopt(&inner, sockopt::ReceiveTimeout, &limit)
            .and_then(|()| setsockopt(&inner, sockopt::SendTimeout, &limit))
            .map_err(|errno| Error::system("set netlink timeouts", errno))?;
        let port = inner
            .bind_auto()
            .map_err(fail("bind a netlink socket"))?
            .port_number();
        for group in groups {
            inner
                .add_membership(*group)
                .map_err(fail("subscribe to netlink events"))?;
        }
        Ok(Socket {
            inner,
            port,
            sequence: 0,
            buffer: vec![0; DATAGRAM_BYTES],
            forced,
        })
    }

    /// The address the kernel knows this socket by; events caused through it carry this number.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Whether the kernel granted the large receive buffer (it needs CAP_NET_ADMIN on the host).
    pub(crate) fn has_large_buffers(&self) -> bool {
        self.forced
    }

    /// Sends one change and waits until the kernel has made it.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &'static str,
        object: &dyn Display,
    ) -> Result<(), Error> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        encode(
            &mut bytes,
            message,
            NLM_F_REQUEST | NLM_F_ACK | flags,
            sequence,
        );
        self.send(&bytes, operation)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(operation, object, |answer| {
                if answer.sequence == sequence && answer.kind == NLMSG_ERROR {
                    outcome = Some(answer.error(operation, object));
                }
                Ok(())
            })?;
        }
        outcome.unwrap_or(Ok(()))
    }

    /// Asks for one object and reads it from the answer.
    pub(crate) fn get<T>(
        &mut self,
        message: RouteNetlinkMessage,
        operation: &'static str,
        object: &dyn Display,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        encode(&mut bytes, message, NLM_F_REQUEST | NLM_F_ACK, sequence);
        self.get_encoded(&bytes, sequence, operation, object, read)
    }

    /// As [`Socket::get`], with a request that asks for an acknowledgement.
    pub(crate) fn get_encoded<T>(
        &mut self,
        request: &[u8],
        sequence: u32,
        operation: &'static str,
        object: &dyn Display,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.send(request, operation)?;
        let mut found = None;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(operation, object, |answer| {
                if answer.sequence != sequence {
                    return Ok(());
                }
                if answer.kind == NLMSG_ERROR {
                    outcome = Some(answer.error(operation, object));
                } else {
                    found = read(answer);
                }
                Ok(())
            })?;
        }
        outcome.unwrap_or(Ok(())).map(|()| found)
    }

    /// Lists a table; entries that `read` declines are left out.
    ///
    /// `message` builds the request, because it is repeated when the table changed under way.
    pub(crate) fn dump<T>(
        &mut self,
        message: impl Fn() -> RouteNetlinkMessage,
        operation: &'static str,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let encoded = |sequence| {
            let mut bytes = Vec::new();
            encode(&mut bytes, message(), NLM_F_REQUEST | NLM_F_DUMP, sequence);
            bytes
        };
        self.dump_encoded(encoded, operation, read)
    }

    /// As [`Socket::dump`]; `request` serialises the request with a sequence number.
    pub(crate) fn dump_encoded<T>(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        operation: &'static str,
        read: impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            if let Some(list) = self.dump_once(&request(sequence), sequence, operation, &read)? {
                return Ok(list);
            }
        }
        Err(Error::Interrupted {
            operation,
            attempts: DUMP_ATTEMPTS,
        })
    }

    /// One attempt; nothing when the kernel says that the listing is not consistent.
    fn dump_once<T>(
        &mut self,
        request: &[u8],
        sequence: u32,
        operation: &'static str,
        read: &impl Fn(&Answer<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        self.send(request, operation)?;
        let mut list = Vec::new();
        let mut consistent = true;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(operation, &"", |answer| {
                if answer.sequence != sequence {
                    return Ok(());
                }
                consistent &= answer.flags & NLM_F_DUMP_INTR == 0;
                match answer.kind {
                    NLMSG_DONE | NLMSG_ERROR => outcome = Some(answer.error(operation, &"")),
                    NLMSG_NOOP => {}
                    _ => list.extend(read(answer)),
                }
                Ok(())
            })?;
        }
        match outcome.unwrap_or(Ok(())) {
            Err(Error::Kernel(refusal)) if refusal.errno == libc::EINTR => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(consistent.then_some(list)),
        }
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub(crate) fn reserve_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn next_sequence(&mut self) -> u32 {
        self.reserve_sequences(1)
    }

    /// Makes room for a message of this size; only with CAP_NET_ADMIN beyond the usual.
    pub(crate) fn make_room(&self, bytes: usize) {
        if bytes + SEND_OVERHEAD_BYTES > SEND_BUFFER_BYTES {
            let size = bytes + SEND_OVERHEAD_BYTES;
            // Without room the send fails, and says so.
            let _ = setsockopt(&self.inner, sockopt::SndBufForce, &size);
        }
    }

    pub(crate) fn send(&self, bytes: &[u8], operation: &'static str) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.inner.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(receive_error(error, operation, &"")),
            }
        }
    }

    /// Reads one datagram and hands over each message in it.
    pub(crate) fn receive(
        &mut self,
        operation: &'static str,
        object: &dyn Display,
        mut each: impl FnMut(&Answer<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (length, from) = loop {
            match self
                .inner
                .recv_from(&mut &mut self.buffer[..], libc::MSG_TRUNC)
            {
                Ok(received) => break received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(receive_error(error, operation, object)),
            }
        };
        if from.port_number() != 0 {
            // Any process may send to a netlink socket; only the kernel is believed.
            return Ok(());
        }
        if length > self.buffer.len() {
            return Err(Error::Malformed {
                operation,
                problem: format!("a datagram of {length} bytes was cut off"),
            });
        }
        for answer in messages(&self.buffer[..length]) {
            let answer = answer.map_err(|problem| Error::Malformed { operation, problem })?;
            if answer.kind == NLMSG_OVERRUN {
                return Err(Error::Overrun { operation });
            }
            each(&answer)?;
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Serialises one message behind what `bytes` holds already.
pub(crate) fn encode(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..start + message.buffer_len()]);
}

/// Asks for large buffers past the system limit, or up to it without the right to do so.
fn size_buffers(socket: &netlink_sys::Socket) -> Result<bool, Error> {
    let forced = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_ok()
        && setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_ok();
    if !forced {
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)
            .and_then(|()| setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER_BYTES))
            .map_err(|errno| Error::system("size netlink buffers", errno))?;
    }
    Ok(forced)
}

fn receive_error(error: io::Error, operation: &'static str, object: &dyn Display) -> Error {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Error::Timeout {
            operation,
            object: object.to_string(),
            seconds: TIMEOUT_SECS,
        },
        Some(libc::ENOBUFS) => Error::Overrun { operation },
        _ => Error::system(operation, error),
    }
}
