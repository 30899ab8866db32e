//! The null relay: says OPEN and KEEPALIVE, then hands whatever a client sends to all others.
//!
//! It decides nothing and parses nothing but the lengths of messages, so it shows how fast
//! tester, kernel and machine are without a speaker.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::rc::Rc;

use anyhow::{Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::link;
use crate::wire;

const CHUNK: usize = 256 * 1024;
const BACKLOG: i32 = 4096;
const SLICES: usize = 64;
const LISTENER: u64 = u64::MAX;

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    established: bool,
    partial: Vec<u8>,
    unsent: VecDeque<Rc<[u8]>>,
    /// How much of the first of them is written.
    written: usize,
    watched_for_room: bool,
}

/// Relays until it is killed.
///
/// # Errors
/// The address cannot be listened on, or a client sends no BGP.
pub fn run() -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(link::SPEAKER, link::PORT).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener: TcpListener = socket.into();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = vec![EpollEvent::empty(); 256];
    let mut scratch = vec![0; CHUNK + wire::LARGEST];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut clients)?;
                continue;
            }
            let index = usize::try_from(event.data())?;
            if event.events().intersects(EpollFlags::EPOLLIN) {
                read(index, &mut clients, &mut scratch)?;
            }
        }
        for (index, place) in clients.iter_mut().enumerate() {
            if let Some(client) = place
                && (client.watched_for_room || !client.unsent.is_empty())
                && !client.flush(&epoll, index)?
            {
                *place = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &Epoll, clients: &mut Vec<Option<Client>>) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => bail!("accept: {error}"),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = clients.len();
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        clients.push(Some(Client {
            stream,
            established: false,
            partial: Vec::new(),
            unsent: VecDeque::new(),
            written: 0,
            watched_for_room: false,
        }));
    }
}

fn read(index: usize, clients: &mut [Option<Client>], scratch: &mut [u8]) -> Result<()> {
    let Some(client) = &mut clients[index] else {
        return Ok(());
    };
    let kept = client.partial.len();
    scratch[..kept].copy_from_slice(&client.partial);
    let octets = match client.stream.read(&mut scratch[kept..]) {
        Ok(0) | Err(_) => {
            clients[index] = None;
            return Ok(());
        }
        Ok(octets) => octets,
    };
    let filled = &scratch[..kept + octets];
    let mut whole = 0;
    let mut begin = 0;
    while let Some(length) = wire::length(&filled[whole..])?
        && whole + length <= filled.len()
    {
        if !client.established {
            client.greet(filled[whole + 18]);
            begin = whole + length;
        }
        whole += length;
    }
    client.partial.clear();
    client.partial.extend(&filled[whole..]);
    if begin < whole {
        let messages: Rc<[u8]> = filled[begin..whole].into();
        for (other, client) in clients.iter_mut().enumerate() {
            if let Some(client) = client
                && client.established
                && other != index
            {
                client.unsent.push_back(Rc::clone(&messages));
            }
        }
    }
    Ok(())
}

impl Client {
    fn greet(&mut self, kind: u8) {
        match kind {
            wire::OPEN => {
                let mut greeting = wire::open(crate::daemon::ASN, link::SPEAKER);
                greeting.extend(wire::KEEPALIVE_MESSAGE);
                self.unsent.push_back(greeting.into());
            }
            _ => self.established = true,
        }
    }

    /// Writes what the socket takes; false when the client is gone.
    fn flush(&mut self, epoll: &Epoll, index: usize) -> Result<bool> {
        while !self.unsent.is_empty() {
            let mut slices: Vec<_> = self
                .unsent
                .iter()
                .take(SLICES)
                .map(|one| IoSlice::new(one))
                .collect();
            slices[0].advance(self.written);
            match self.stream.write_vectored(&slices) {
                Ok(octets) => self.advance(octets),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Ok(false),
            }
        }
        let watch = !self.unsent.is_empty();
        if watch != self.watched_for_room {
            self.watched_for_room = watch;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, watch);
            epoll.modify(&self.stream, &mut EpollEvent::new(interest, index as u64))?;
        }
        Ok(true)
    }

    fn advance(&mut self, octets: usize) {
        self.written += octets;
        while let Some(first) = self.unsent.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.unsent.pop_front();
        }
    }
}
