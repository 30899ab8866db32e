//! The system calls that the standard library lacks: TAP ioctls, socket options, and many datagrams
//! per call. All `unsafe` of this crate is here.
#![allow(
    unsafe_code,
    reason = "ioctl, setsockopt, sendmmsg and recvmmsg have no safe form that reuses its buffers"
)]

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

use libc::{c_int, c_void, cmsghdr, ifreq, iovec, mmsghdr, sockaddr_storage, socklen_t};
use socket2::SockAddr;

/// Room for the control messages of one datagram, aligned as they must be.
type Control = [u64; 8];

/// Attaches a queue to a TAP device, which is made when there is none of that name.
pub(crate) fn attach(file: &File, name: &str, flags: c_int) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(file, libc::TUNSETIFF, &raw mut request)
}

/// Lets the device stay when the last queue goes.
pub(crate) fn persist(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and this request takes a number, no pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) }).map(drop)
}

/// Says what may be left undone in frames that are read (`TUN_F_*`).
pub(crate) fn set_offload(file: &File, flags: u32) -> io::Result<()> {
    let flags = libc::c_ulong::from(flags);
    // SAFETY: the descriptor is open, and this request takes a number, no pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, flags) }).map(drop)
}

/// Sets the length of the header before each frame.
pub(crate) fn set_header_length(file: &File, length: usize) -> io::Result<()> {
    let mut length = length as c_int;
    ioctl(file, libc::TUNSETVNETHDRSZ, &raw mut length)
}

/// Gives the device its hardware address, when it has another.
pub(crate) fn set_mac(file: &File, name: &str, mac: [u8; 6]) -> io::Result<()> {
    let wanted = mac.map(|octet| octet as libc::c_char);
    let mut request = request(name)?;
    ioctl(file, libc::SIOCGIFHWADDR, &raw mut request)?;
    // SAFETY: the kernel filled this variant, and any bytes are valid for it.
    let mut address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_data[..6] == wanted {
        return Ok(());
    }
    address.sa_data[..6].copy_from_slice(&wanted);
    request.ifr_ifru.ifru_hwaddr = address;
    ioctl(file, libc::SIOCSIFHWADDR, &raw mut request)
}

fn request(name: &str) -> io::Result<ifreq> {
    // SAFETY: all zeroes are a valid value of this plain structure.
    let mut request: ifreq = unsafe { zeroed() };
    // One octet is left zero: the name ends there.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl<T>(file: &File, request: libc::Ioctl, argument: *mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open, and every caller passes the structure of its request, which
    // outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) }).map(drop)
}

/// Sets a socket option that is a number.
pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    let (value, length) = (&raw const value, size_of::<c_int>() as socklen_t);
    // SAFETY: the descriptor is open, and the value is a number of the length given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.cast(), length) })
        .map(drop)
}

/// Reads a socket option that is a number.
pub(crate) fn option(socket: &impl AsRawFd, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    let (place, space) = ((&raw mut value).cast(), &raw mut length);
    // SAFETY: the descriptor is open, and the place has the length given.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, space) })?;
    Ok(value)
}

fn check(result: c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Some bytes of one of the areas given to [`Outgoing::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) area: usize,
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// One datagram, or several of one size for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) to: SocketAddr,
    /// Its bytes, as a range of the spans.
    pub(crate) spans: Range<usize>,
    /// When not 0 the kernel cuts the bytes into datagrams of this size (`UDP_SEGMENT`).
    pub(crate) piece: u16,
    /// Of IPv4 the TOS octet, of IPv6 the traffic class.
    pub(crate) tos: u8,
}

/// Most messages per system call.
pub(crate) const MESSAGES: usize = 64;

/// Buffers for sending. Their pointers are written anew for every call.
pub(crate) struct Outgoing {
    headers: Vec<mmsghdr>,
    vectors: Vec<iovec>,
    names: Vec<SockAddr>,
    controls: Vec<Control>,
}

impl Outgoing {
    pub(crate) fn new() -> Outgoing {
        Outgoing {
            headers: Vec::with_capacity(MESSAGES),
            vectors: Vec::new(),
            names: Vec::with_capacity(MESSAGES),
            controls: vec![Control::default(); MESSAGES],
        }
    }

    /// Sends up to [`MESSAGES`] messages; says how many were taken.
    /// An error is that of the first one.
    pub(crate) fn send(
        &mut self,
        socket: &impl AsRawFd,
        areas: [&[u8]; 2],
        spans: &[Span],
        messages: &[Message],
    ) -> io::Result<usize> {
        let messages = &messages[..messages.len().min(MESSAGES)];
        let Some((first, last)) = messages.first().zip(messages.last()) else {
            return Ok(0);
        };
        let base = first.spans.start;
        self.vectors.clear();
        self.vectors
            .extend(spans[base..last.spans.end].iter().map(|span| {
                let bytes = &areas[span.area][span.start..span.start + span.length];
                iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                }
            }));
        self.names.clear();
        self.names
            .extend(messages.iter().map(|message| SockAddr::from(message.to)));
        self.headers.clear();
        for (at, message) in messages.iter().enumerate() {
            let vectors = &mut self.vectors[message.spans.start - base..message.spans.end - base];
            // SAFETY: all zeroes are a valid value of this plain structure.
            let mut header: mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = self.names[at].as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = self.names[at].len();
            header.msg_hdr.msg_iov = vectors.as_mut_ptr();
            header.msg_hdr.msg_iovlen = vectors.len() as _;
            write_control(&mut header.msg_hdr, &mut self.controls[at], message);
            self.headers.push(header);
        }
        let (headers, count) = (self.headers.as_mut_ptr(), self.headers.len() as u32);
        // SAFETY: every header points to buffers of `self`, which do not move until the call is
        // over, and to bytes of `areas`, which the kernel only reads.
        check(unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT as _)
        })
    }
}

fn write_control(header: &mut libc::msghdr, control: &mut Control, message: &Message) {
    if message.piece == 0 && message.tos == 0 {
        return;
    }
    *control = Control::default();
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header names a control buffer of its own length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    let mut used = 0;
    if message.piece != 0 {
        (next, used) = put_control(
            header,
            next,
            used,
            (libc::SOL_UDP, libc::UDP_SEGMENT),
            message.piece,
        );
    }
    if message.tos != 0 {
        let kind = match message.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        (_, used) = put_control(header, next, used, kind, c_int::from(message.tos));
    }
    header.msg_controllen = used as _;
}

/// Appends one control message; gives the place of the next and the bytes used so far.
fn put_control<T>(
    header: &libc::msghdr,
    place: *mut cmsghdr,
    used: usize,
    (level, kind): (c_int, c_int),
    value: T,
) -> (*mut cmsghdr, usize) {
    if place.is_null() {
        return (place, used);
    }
    let size = size_of::<T>() as u32;
    // SAFETY: `place` is inside the zeroed control buffer of `header`, which has room for two
    // messages of up to four octets each; the length is written before the next place is asked for.
    unsafe {
        (*place).cmsg_level = level;
        (*place).cmsg_type = kind;
        (*place).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(place).cast::<T>().write_unaligned(value);
        (
            libc::CMSG_NXTHDR(header, place),
            used + libc::CMSG_SPACE(size) as usize,
        )
    }
}

/// A datagram in an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) source: IpAddr,
    /// Where it starts in the inbox.
    pub(crate) start: usize,
    /// Its bytes.
    pub(crate) length: usize,
    /// Bytes of each of several datagrams that the kernel put together, or 0 (`UDP_GRO`).
    pub(crate) piece: usize,
    /// TOS or traffic class.
    pub(crate) tos: u8,
}

/// The longest datagram.
const SLOT: usize = 65536;

/// Buffers for receiving, set up once.
pub(crate) struct Inbox {
    data: Box<[u8]>,
    headers: Box<[mmsghdr]>,
    _vectors: Box<[iovec]>,
    names: Box<[sockaddr_storage]>,
    _controls: Box<[Control]>,
}

impl Inbox {
    pub(crate) fn new(slots: usize) -> Inbox {
        let mut data = vec![0; slots * SLOT].into_boxed_slice();
        let mut vectors: Box<[iovec]> = data
            .chunks_exact_mut(SLOT)
            .map(|slot| iovec {
                iov_base: slot.as_mut_ptr().cast::<c_void>(),
                iov_len: SLOT,
            })
            .collect();
        // SAFETY: all zeroes are a valid value of these plain structures.
        let (name, header): (sockaddr_storage, mmsghdr) = unsafe { (zeroed(), zeroed()) };
        let mut names = vec![name; slots].into_boxed_slice();
        let mut controls = vec![Control::default(); slots].into_boxed_slice();
        let mut headers = vec![header; slots].into_boxed_slice();
        for (at, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut vectors[at];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut names[at]).cast();
            header.msg_hdr.msg_control = (&raw mut controls[at]).cast();
        }
        let mut inbox = Inbox {
            data,
            headers,
            _vectors: vectors,
            names,
            _controls: controls,
        };
        inbox.empty(slots);
        inbox
    }

    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Receives what is there, without waiting. The caller empties what it has handled.
    pub(crate) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        let (headers, count) = (self.headers.as_mut_ptr(), self.headers.len() as u32);
        let none = std::ptr::null_mut();
        // SAFETY: the headers point to buffers of `self`, which are boxed and never move, with the
        // lengths they have.
        check(unsafe { libc::recvmmsg(socket, headers, count, libc::MSG_DONTWAIT as _, none) })
    }

    /// Makes the first slots ready to be used again.
    pub(crate) fn empty(&mut self, count: usize) {
        for header in &mut self.headers[..count] {
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            header.msg_hdr.msg_flags = 0;
        }
    }

    /// What is in a slot; nothing when it was cut off or its source is no IP address.
    pub(crate) fn datagram(&self, slot: usize) -> Option<Datagram> {
        let header = &self.headers[slot];
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let mut datagram = Datagram {
            source: source(&self.names[slot])?,
            start: slot * SLOT,
            length: header.msg_len as usize,
            piece: 0,
            tos: 0,
        };
        self.read_control(slot, &mut datagram);
        Some(datagram)
    }

    fn read_control(&self, slot: usize, datagram: &mut Datagram) {
        let header = &self.headers[slot].msg_hdr;
        // SAFETY: the kernel wrote whole control messages into the buffer that the header names, and
        // set its length; each value is read with the size that its kind has.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(header);
            while let Some(message) = next.as_ref() {
                let data = libc::CMSG_DATA(next);
                match (message.cmsg_level, message.cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        datagram.piece = data.cast::<c_int>().read_unaligned() as usize;
                    }
                    (libc::IPPROTO_IP, libc::IP_TOS) => datagram.tos = data.read(),
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        datagram.tos = data.cast::<c_int>().read_unaligned() as u8;
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(header, next);
            }
        }
    }

    /// The bytes of all slots; [`Datagram::start`] counts in them.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.data
    }
}

fn source(name: &sockaddr_storage) -> Option<IpAddr> {
    let pointer: *const sockaddr_storage = name;
    match c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure it is; the storage is as big and as aligned.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(name.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}
