//! Frames from the device become packets of the tunnel: which node, which lane, which headers.
//! Payload is not copied: what goes out is a list of places in the buffer that the frames were read to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::answer;
use super::counters::Reason;
use super::outbox::{FRAMES, HEADERS, Lane, Parcel};
use super::packet::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPIP, Packet, UDP, ecn_outside,
};
use super::peers::Peers;
use super::segment::{Cut, finish_checksum};
use super::sys::Span;
use super::vnet::{Offload, VNET, Vnet};
use super::wire::{Outer, VXLAN, Wire, ipip_node};

/// IPv6 fragment header (RFC 8200 §4.5).
const IPV6_FRAGMENT: u8 = 44;
/// Room for written headers; the longest of one segment take some 160 bytes.
const HEADER_ROOM: usize = 128 * 1024;
const LONGEST_HEADERS: usize = 512;
/// See [`Wire::prefix`].
const LONGEST_PREFIX: usize = VXLAN + ETHERNET;

/// This node's end of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) wire: Wire,
    pub(crate) local: IpAddr,
}

/// What is to be done with a frame.
#[derive(Debug)]
pub(crate) enum Task {
    /// Send it, piece by piece.
    Send(Job),
    /// Answer its ARP request for this node.
    Answer(Ipv4Addr),
}

/// A frame to be sent.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) lane: usize,
    to: SocketAddr,
    /// Where its Ethernet header starts.
    frame: usize,
    packet: Packet,
    cut: Option<Cut>,
}

impl Job {
    pub(crate) fn pieces(&self) -> usize {
        self.cut.map_or(1, |cut| cut.pieces())
    }

    /// Bytes of the packet inside.
    pub(crate) fn bytes(&self) -> usize {
        self.packet.total
    }
}

/// Turns frames into what waits in lanes.
pub(crate) struct Encapsulator {
    end: End,
    together: bool,
    pub(crate) lanes: Vec<Lane>,
    headers: Vec<u8>,
}

impl Encapsulator {
    pub(crate) fn new(end: End, lanes: usize) -> Encapsulator {
        Encapsulator {
            end,
            together: matches!(end.wire, Wire::Vxlan { .. }),
            lanes: (0..lanes).map(|_| Lane::new()).collect(),
            headers: Vec::with_capacity(HEADER_ROOM),
        }
    }

    /// No longer lets the kernel cut messages into datagrams.
    pub(crate) fn send_apart(&mut self) {
        self.together = false;
    }

    /// The headers that spans of area [`HEADERS`] point to.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// Whether what waits must be sent before another piece fits.
    pub(crate) fn is_full(&self, lane: usize) -> bool {
        self.headers.len() + LONGEST_HEADERS > HEADER_ROOM || self.lanes[lane].is_full()
    }

    /// Forgets what was sent.
    pub(crate) fn clear(&mut self) {
        self.headers.clear();
        self.lanes.iter_mut().for_each(Lane::clear);
    }

    /// Reads the frame of `length` bytes at `start`, offload header first.
    pub(crate) fn prepare(
        &self,
        frames: &mut [u8],
        (start, length): (usize, usize),
        peers: &Peers,
    ) -> Result<Task, Reason> {
        let bytes = &mut frames[start..start + length];
        let (vnet, frame) = bytes
            .split_first_chunk_mut::<VNET>()
            .ok_or(Reason::Malformed)?;
        let vnet = Vnet::parse(vnet).ok_or(Reason::Malformed)?;
        let (ethernet, ip) = frame
            .split_first_chunk::<ETHERNET>()
            .ok_or(Reason::Malformed)?;
        let v6 = match [ethernet[12], ethernet[13]] {
            ETHERTYPE_IPV4 => false,
            ETHERTYPE_IPV6 if self.end.wire != Wire::Ipip => true,
            ETHERTYPE_ARP => return self.asked(frame, peers),
            _ => return Err(Reason::Ignored),
        };
        if ethernet[0] & 1 != 0 {
            return Err(Reason::Ignored);
        }
        let remote = self.remote(&ethernet[..6], peers)?;
        let packet = Packet::parse(ip).ok_or(Reason::Malformed)?;
        if packet.v6 != v6 {
            return Err(Reason::Malformed);
        }
        if self.loops(&packet, ip, peers) {
            return Err(Reason::Loop);
        }
        let lane = packet.flow(ip) as usize % self.lanes.len();
        let cut = finish(&vnet, packet, &mut frame[..ETHERNET + packet.total])?;
        Ok(Task::Send(Job {
            lane,
            to: self.socket_address(remote),
            frame: start + VNET,
            packet,
            cut,
        }))
    }

    fn asked(&self, frame: &[u8], peers: &Peers) -> Result<Task, Reason> {
        let node = answer::asked_for(frame)
            .filter(|node| self.end.wire == Wire::Ipip && self.is_peer((*node).into(), peers));
        node.map(Task::Answer).ok_or(Reason::Ignored)
    }

    fn is_peer(&self, node: IpAddr, peers: &Peers) -> bool {
        node != self.end.local && peers.contains(node)
    }

    fn remote(&self, mac: &[u8], peers: &Peers) -> Result<IpAddr, Reason> {
        match self.end.wire {
            Wire::Ipip => ipip_node(mac)
                .map(IpAddr::V4)
                .filter(|node| self.is_peer(*node, peers)),
            Wire::Vxlan { .. } => (peers.node(mac)).filter(|node| {
                *node != self.end.local && node.is_ipv4() == self.end.local.is_ipv4()
            }),
        }
        .ok_or(Reason::UnknownDestination)
    }

    fn socket_address(&self, remote: IpAddr) -> SocketAddr {
        match self.end.wire {
            Wire::Ipip => SocketAddr::new(remote, 0),
            Wire::Vxlan { port, .. } => SocketAddr::new(remote, port),
        }
    }

    /// Whether this is a packet of the tunnel that a route has led back into it.
    fn loops(&self, packet: &Packet, ip: &[u8], peers: &Peers) -> bool {
        if packet.source(ip) != self.end.local {
            return false;
        }
        match self.end.wire {
            Wire::Ipip => packet.protocol == IPIP,
            Wire::Vxlan { port, .. } => match packet.protocol {
                // Without ports: what a node sends to a node has no business in the tunnel.
                UDP if packet.fragment => peers.contains(packet.destination(ip)),
                IPV6_FRAGMENT => peers.contains(packet.destination(ip)),
                UDP => ip.get(packet.header + 2..packet.header + 4) == Some(&port.to_be_bytes()),
                _ => false,
            },
        }
    }

    /// Appends one piece of a job to its lane.
    pub(crate) fn push(&mut self, frames: &mut [u8], job: &Job, piece: usize) {
        let prefix = self.end.wire.prefix();
        let at = job.frame + ETHERNET;
        let ip = &frames[at..at + job.packet.total];
        let tos = ecn_outside(job.packet.ecn(ip));
        let outer = Outer {
            local: self.end.local,
            remote: job.to.ip(),
        };
        let ethernet = &frames[job.frame..at];
        let mut head = [0; LONGEST_PREFIX];
        let head = &mut head[..prefix];
        let whole;
        let pieces;
        let spans: &[Span] = match &job.cut {
            None => {
                outer.write(self.end.wire, head, ethernet, (&job.packet, ip, ip.len()));
                // In place: the headers before the packet are not needed any more.
                frames[at - prefix..at].copy_from_slice(head);
                whole = [Span {
                    area: FRAMES,
                    start: at - prefix,
                    length: prefix + job.packet.total,
                }];
                &whole
            }
            Some(cut) => {
                let payload = cut.payload(piece);
                let length = cut.headers() + payload.len();
                outer.write(self.end.wire, head, ethernet, (&job.packet, ip, length));
                let start = self.headers.len();
                self.headers.extend_from_slice(head);
                self.headers.resize(start + prefix + cut.headers(), 0);
                cut.write_headers(piece, ip, &mut self.headers[start + prefix..]);
                pieces = [
                    Span {
                        area: HEADERS,
                        start,
                        length: prefix + cut.headers(),
                    },
                    Span {
                        area: FRAMES,
                        start: at + payload.start,
                        length: payload.len(),
                    },
                ];
                &pieces
            }
        };
        let parcel = Parcel {
            to: job.to,
            tos,
            spans,
            length: spans.iter().map(|span| span.length).sum(),
        };
        self.lanes[job.lane].push(parcel, self.together);
    }
}

/// Does what the kernel left to do for a frame: its checksum, or nothing yet when it is to be cut.
fn finish(vnet: &Vnet, packet: Packet, frame: &mut [u8]) -> Result<Option<Cut>, Reason> {
    match (vnet.offload, vnet.checksum) {
        (Offload::None, None) => Ok(None),
        (Offload::None, Some((start, place))) if finish_checksum(frame, start, place) => Ok(None),
        (Offload::Tcp | Offload::Udp, Some((start, _))) if start >= ETHERNET => {
            let cut = Cut::new(&frame[ETHERNET..], packet, vnet, start - ETHERNET);
            // Headers longer than those of any TCP are no TCP's.
            cut.filter(|cut| cut.headers() + LONGEST_PREFIX <= LONGEST_HEADERS)
                .map(Some)
                .ok_or(Reason::Malformed)
        }
        _ => Err(Reason::Malformed),
    }
}

#[cfg(test)]
mod tests;
