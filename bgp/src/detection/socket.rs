//! UDP sockets as BFD wants them: TTL 255, the TTL of what arrives, one source port per session
//! (RFC 5881 §4, §5).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Packets of control protocols get their own traffic class, as those of BGP.
const TOS_NETWORK_CONTROL: u32 = 0xc0;

/// Longer than any control packet, authentication included.
const OCTETS: usize = 256;

/// Source ports tried before giving up.
const PORTS_TRIED: u16 = 64;

/// Where packets of all sessions of one kind arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ear {
    pub(super) v6: bool,
    pub(super) multihop: bool,
}

impl Ear {
    pub(super) fn port(self) -> u16 {
        if self.multihop {
            bfd::MULTIHOP_PORT
        } else {
            bfd::PORT
        }
    }

    /// Opens it; needs a runtime.
    pub(super) fn open(self) -> io::Result<UdpSocket> {
        let any: IpAddr = if self.v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let socket = socket(self.v6)?;
        if self.v6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        }
        socket.bind(&SockAddr::from(SocketAddr::new(any, self.port())))?;
        UdpSocket::from_std(socket.into())
    }
}

fn socket(v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(bfd::TTL.into())?;
        socket.set_tclass_v6(TOS_NETWORK_CONTROL)?;
    } else {
        socket.set_ttl_v4(bfd::TTL.into())?;
        socket.set_tos_v4(TOS_NETWORK_CONTROL)?;
    }
    Ok(socket)
}

/// What arrived.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) remote: IpAddr,
    pub(super) local: IpAddr,
    pub(super) interface: u32,
    pub(super) ttl: u8,
    octets: [u8; OCTETS],
    len: usize,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Takes one datagram; `None` when it does not say where it came from, and how.
pub(super) fn receive(ear: &UdpSocket) -> io::Result<Option<Datagram>> {
    ear.try_io(Interest::READABLE, || {
        let mut octets = [0; OCTETS];
        let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo, libc::c_int);
        let mut slices = [IoSliceMut::new(&mut octets)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(ear.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let remote = message.address.as_ref().and_then(address);
        let (mut local, mut ttl) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    local = Some((address.into(), info.ipi_ifindex.unsigned_abs()));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    local = Some((address.into(), info.ipi6_ifindex));
                }
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    ttl = u8::try_from(hops).ok();
                }
                _ => {}
            }
        }
        let len = message.bytes.min(OCTETS);
        let (Some(remote), Some((local, interface)), Some(ttl)) = (remote, local, ttl) else {
            return Ok(None);
        };
        Ok(Some(Datagram {
            remote,
            local,
            interface,
            ttl,
            octets,
            len,
        }))
    })
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// Where packets of one session leave.
#[derive(Debug)]
pub(super) struct Mouth {
    socket: Socket,
    remote: IpAddr,
    scope: u32,
}

impl Mouth {
    /// Opens it at `local`, or at any address, and at a port nobody uses, from `first` on.
    pub(super) fn open(
        remote: IpAddr,
        local: Option<IpAddr>,
        interface: Option<u32>,
        first: u64,
    ) -> io::Result<Mouth> {
        let any: IpAddr = if remote.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let socket = socket(remote.is_ipv6())?;
        let (least, most) = (*bfd::SOURCE_PORTS.start(), *bfd::SOURCE_PORTS.end());
        let ports = u64::from(most - least) + 1;
        let scope = interface.unwrap_or(0);
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for attempt in 0..u64::from(PORTS_TRIED) {
            let port = least + (first.wrapping_add(attempt) % ports) as u16;
            let at = endpoint(local.unwrap_or(any), port, scope);
            result = socket.bind(&SockAddr::from(at));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Ok(()) | Err(_) => break,
            }
        }
        result.map(|()| Mouth {
            socket,
            remote,
            scope,
        })
    }

    pub(super) fn send(&self, octets: &[u8], multihop: bool) -> io::Result<()> {
        let port = if multihop {
            bfd::MULTIHOP_PORT
        } else {
            bfd::PORT
        };
        let to = endpoint(self.remote, port, self.scope);
        self.socket.send_to(octets, &SockAddr::from(to)).map(drop)
    }
}

/// The interface counts for link-local addresses only.
fn endpoint(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            std::net::SocketAddrV6::new(v6, port, 0, interface).into()
        }
        other => SocketAddr::new(other, port),
    }
}
