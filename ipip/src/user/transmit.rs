//! The thread that reads frames from the device and sends them to nodes.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::poll::PollFlags;
use socket2::Socket;

use super::answer;
use super::counters::{Reason, Tally};
use super::encapsulate::{Encapsulator, Task};
use super::outbox::HEADERS;
use super::packet::{ETHERNET, IPV4, Packet};
use super::peers::View;
use super::socket::route_mtu;
use super::sys::{Message, Outgoing, Span};
use super::vnet::VNET;
use super::wait::{Quit, Woken};
use super::wire::ipip_mac;
use super::worker::Context;

/// Bytes for frames that are read before what they became is sent.
const FRAME_ROOM: usize = 256 * 1024;
/// The longest frame with its headers.
const LONGEST_FRAME: usize = VNET + ETHERNET + 65536;
/// Frames per round, so that the first does not wait long for the last.
const FRAMES_PER_ROUND: usize = 128;

/// See the module.
pub(crate) struct Transmitter<'a> {
    context: &'a Context,
    device: &'a File,
    sockets: &'a [Socket],
    view: View<'a>,
    encapsulator: Encapsulator,
    outgoing: Outgoing,
    frames: Vec<u8>,
    tally: Tally,
}

impl<'a> Transmitter<'a> {
    pub(crate) fn new(
        context: &'a Context,
        device: &'a File,
        sockets: &'a [Socket],
    ) -> Transmitter<'a> {
        Transmitter {
            context,
            device,
            sockets,
            view: View::new(&context.shared.peers),
            encapsulator: Encapsulator::new(context.end, sockets.len()),
            outgoing: Outgoing::new(),
            frames: vec![0; FRAME_ROOM],
            tally: Tally::default(),
        }
    }

    /// Works until told to end.
    pub(crate) fn run(mut self, quit: &Quit) -> io::Result<()> {
        loop {
            let waiting = self.round()?;
            self.send_all();
            self.context.shared.totals.add_sent(&mut self.tally);
            let woken = if waiting {
                quit.rung()?
            } else {
                quit.wait(self.device.as_fd(), PollFlags::POLLIN)?
            };
            if woken == Woken::Quit {
                return Ok(());
            }
        }
    }

    /// Reads what is there, up to a round's worth; whether there may be more.
    fn round(&mut self) -> io::Result<bool> {
        self.view.refresh();
        let mut used = 0;
        for _ in 0..FRAMES_PER_ROUND {
            let Some(room) = self.frames.get_mut(used..used + LONGEST_FRAME) else {
                return Ok(true);
            };
            match self.device.read(room) {
                Ok(length) => {
                    self.take(used, length);
                    // The next frame starts where the cache does not share a line.
                    used = (used + length).next_multiple_of(64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take(&mut self, start: usize, length: usize) {
        let peers = self.view.peers();
        let task = (self.encapsulator).prepare(&mut self.frames, (start, length), peers);
        match task {
            Ok(Task::Send(job)) => {
                for piece in 0..job.pieces() {
                    if self.encapsulator.is_full(job.lane) {
                        self.send_all();
                    }
                    self.encapsulator.push(&mut self.frames, &job, piece);
                }
                self.tally.packets += job.pieces() as u64;
                self.tally.bytes += job.bytes() as u64;
            }
            Ok(Task::Answer(node)) => {
                let answer = answer::arp(&self.frames[start + VNET..], node);
                self.tell_device(&answer);
            }
            Err(reason) => self.tally.drop(reason),
        }
    }

    fn send_all(&mut self) {
        for lane in 0..self.sockets.len() {
            let mut done = 0;
            let mut again = true;
            while done < self.encapsulator.lanes[lane].messages.len() {
                match self.send(lane, done) {
                    Ok(sent) => {
                        done += sent;
                        again = true;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock && again => {
                        again = self.context.wait_for_room(&self.sockets[lane]);
                    }
                    Err(error) => {
                        let message = self.encapsulator.lanes[lane].messages[done].clone();
                        // What is reported may be the fate of an earlier packet: once more.
                        if again && message.piece == 0 {
                            again = false;
                            continue;
                        }
                        self.unsent(lane, &message, &error);
                        done += 1;
                        again = true;
                    }
                }
            }
        }
        self.encapsulator.clear();
    }

    fn send(&mut self, lane: usize, done: usize) -> io::Result<usize> {
        let waiting = &self.encapsulator.lanes[lane];
        let areas = [&self.frames[..], self.encapsulator.headers()];
        let messages = &waiting.messages[done..];
        (self.outgoing).send(&self.sockets[lane], areas, &waiting.spans, messages)
    }

    /// The kernel did not take a message: in pieces, if it can be, or it is lost.
    fn unsent(&mut self, lane: usize, message: &Message, error: &io::Error) {
        if message.piece != 0 {
            if error.raw_os_error() == Some(libc::EIO) {
                // This way cannot cut UDP, and will not learn it.
                self.encapsulator.send_apart();
            }
            self.send_apart(lane, message);
            return;
        }
        let too_big = error.raw_os_error() == Some(libc::EMSGSIZE);
        match message.to {
            SocketAddr::V4(to) if too_big => {
                self.tally.drop(Reason::TooBig);
                if to.port() == 0 {
                    self.tell_too_big(lane, message, *to.ip());
                }
            }
            _ if too_big => self.tally.drop(Reason::TooBig),
            _ => self.tally.drop(Reason::SendRefused),
        }
    }

    fn send_apart(&mut self, lane: usize, message: &Message) {
        let mut start = message.spans.start;
        let mut length = 0;
        for at in message.spans.clone() {
            let waiting = &self.encapsulator.lanes[lane];
            length += waiting.spans[at].length;
            if length < usize::from(message.piece) && at + 1 < message.spans.end {
                continue;
            }
            let single = Message {
                to: message.to,
                spans: start..at + 1,
                piece: 0,
                tos: message.tos,
            };
            let areas = [&self.frames[..], self.encapsulator.headers()];
            let socket = &self.sockets[lane];
            let mut send = || {
                let single = std::slice::from_ref(&single);
                (self.outgoing).send(socket, areas, &waiting.spans, single)
            };
            let mut sent = send();
            if matches!(&sent, Err(error) if error.kind() == ErrorKind::WouldBlock)
                && self.context.wait_for_room(socket)
            {
                sent = send();
            }
            if let Err(error) = sent {
                self.unsent(lane, &single, &error);
            }
            start = at + 1;
            length = 0;
        }
    }

    /// Tells the sender of an IPIP packet that it has to make smaller ones, as the kernel does.
    fn tell_too_big(&mut self, lane: usize, message: &Message, node: std::net::Ipv4Addr) {
        let mut bytes = [0; 160];
        let length = self.copy(lane, message, &mut bytes);
        let bytes = &bytes[..length];
        let inner = bytes.get(IPV4..).unwrap_or(&[]);
        // The copy may be shorter than the packet, which its header does not know.
        let Some(packet) = Packet::parse_start(inner) else {
            return;
        };
        let mtu = route_mtu(node).unwrap_or(0).saturating_sub(IPV4 as u32);
        if packet.v6 || !packet.dont_fragment(inner) || mtu == 0 {
            return;
        }
        let addresses = (&self.context.mac[..], &ipip_mac(node)[..]);
        let (frame, length) = answer::fragmentation_needed(inner, &packet, mtu, addresses);
        self.tell_device(&frame[..length]);
    }

    /// The start of a message; as many bytes as fit.
    fn copy(&self, lane: usize, message: &Message, out: &mut [u8]) -> usize {
        let waiting = &self.encapsulator.lanes[lane];
        let mut used = 0;
        for Span {
            area,
            start,
            length,
        } in &waiting.spans[message.spans.clone()]
        {
            let area = if *area == HEADERS {
                self.encapsulator.headers()
            } else {
                &self.frames
            };
            let length = (*length).min(out.len() - used);
            out[used..used + length].copy_from_slice(&area[*start..start + length]);
            used += length;
        }
        used
    }

    fn tell_device(&mut self, frame: &[u8]) {
        let mut device = self.device;
        let head = [0; VNET];
        let slices = [IoSlice::new(&head), IoSlice::new(frame)];
        if device.write_vectored(&slices).is_err() {
            self.tally.drop(Reason::DeviceRefused);
        }
    }
}
