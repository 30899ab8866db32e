//! One BGP session of the tester: its socket, what is still to be written, what it holds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::link;
use crate::table::Table;
use crate::wire;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No connection.
    Down,
    /// Connecting, or the peer has not confirmed our OPEN yet.
    Opening,
    /// UPDATEs may flow.
    Established,
}

/// What became of an attempt to read or write.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing special.
    Fine,
    /// The connection is gone; the text says how.
    Gone(String),
}

/// A session with the speaker under test.
#[derive(Debug)]
pub struct Session {
    /// Which one.
    pub index: usize,
    asn: u32,
    /// How far it is.
    pub state: State,
    /// Its socket, unless it is down.
    pub stream: Option<TcpStream>,
    connected: bool,
    unsent: VecDeque<(Rc<[u8]>, usize)>,
    partial: Vec<u8>,
    /// When it goes away it is dialled again; else that is an error.
    pub redialled: bool,
    /// It is not dialled again before.
    pub not_before: Instant,
    /// What it holds, when it is looked at.
    pub table: Option<Table>,
    /// Whether the event loop was asked to tell when the socket takes more.
    pub watched_for_room: bool,
    /// When octets were written first since this was cleared.
    pub first_written: Option<Instant>,
}

impl Session {
    /// A session that is down.
    pub fn new(index: usize, asn: u32, table: Option<Table>) -> Self {
        Self {
            index,
            asn,
            state: State::Down,
            stream: None,
            connected: false,
            unsent: VecDeque::new(),
            partial: Vec::new(),
            redialled: false,
            not_before: Instant::now(),
            table,
            watched_for_room: true,
            first_written: None,
        }
    }

    /// Address of this end.
    pub fn address(&self) -> Ipv4Addr {
        link::client(self.index)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// The kernel refuses to make the socket.
    pub fn dial(&mut self, to: SocketAddrV4) -> Result<Outcome> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV4::new(self.address(), 0).into())?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(error) => return Ok(Outcome::Gone(error.to_string())),
        }
        self.stream = Some(socket.into());
        self.state = State::Opening;
        self.connected = false;
        self.watched_for_room = true;
        Ok(Outcome::Fine)
    }

    /// Closes the connection without a word.
    pub fn hang_up(&mut self) {
        self.stream = None;
        self.state = State::Down;
        self.unsent.clear();
        self.partial.clear();
        if let Some(table) = &mut self.table {
            table.clear();
        }
    }

    /// Adds messages to what is to be written.
    pub fn queue(&mut self, messages: Rc<[u8]>) {
        self.unsent.push_back((messages, 0));
    }

    /// Whether something waits until the socket takes more.
    pub fn wants_to_write(&self) -> bool {
        !self.connected || !self.unsent.is_empty()
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The session has no socket.
    pub fn write(&mut self) -> Result<Outcome> {
        let mut stream = self.stream.as_ref().context("no socket to write to")?;
        if !self.connected {
            if let Some(error) = stream.take_error()? {
                return Ok(Outcome::Gone(error.to_string()));
            }
            if stream.peer_addr().is_err() {
                return Ok(Outcome::Fine);
            }
            self.connected = true;
            let open = wire::open(self.asn, link::client(self.index));
            self.unsent.push_front((open.into(), 0));
        }
        while let Some((messages, written)) = self.unsent.front_mut() {
            match stream.write(&messages[*written..]) {
                Ok(octets) => {
                    *written += octets;
                    if *written == messages.len() {
                        self.unsent.pop_front();
                    }
                    if self.state == State::Established && self.first_written.is_none() {
                        self.first_written = Some(Instant::now());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Outcome::Gone(error.to_string())),
            }
        }
        Ok(Outcome::Fine)
    }

    /// Reads once and handles the whole messages. `scratch` has room for a message more than
    /// what is read.
    ///
    /// # Errors
    /// What arrived is wrong; the error names the prefix or the field.
    pub fn read(&mut self, scratch: &mut [u8]) -> Result<Outcome> {
        let mut stream = self.stream.as_ref().context("no socket to read from")?;
        let kept = self.partial.len();
        scratch[..kept].copy_from_slice(&self.partial);
        let octets = match stream.read(&mut scratch[kept..]) {
            Ok(0) => return Ok(Outcome::Gone("it closed the connection".to_owned())),
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Outcome::Fine),
            Err(error) => return Ok(Outcome::Gone(error.to_string())),
        };
        let mut rest = &scratch[..kept + octets];
        while let Some(length) = wire::length(rest)?
            && length <= rest.len()
        {
            let (message, after) = rest.split_at(length);
            rest = after;
            let outcome = self.message(message[18], &message[wire::HEADER..])?;
            if outcome != Outcome::Fine {
                return Ok(outcome);
            }
        }
        self.partial.clear();
        self.partial.extend(rest);
        Ok(Outcome::Fine)
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Result<Outcome> {
        match (kind, self.state) {
            (wire::UPDATE, State::Established) => {
                if let Some(table) = &mut self.table {
                    table.update(body)?;
                }
            }
            (wire::OPEN, State::Opening) => {
                ensure!(body.len() >= 10 && body[0] == 4, "a malformed OPEN");
                self.unsent
                    .push_back((wire::KEEPALIVE_MESSAGE.as_slice().into(), 0));
                return self.write();
            }
            (wire::KEEPALIVE, State::Opening) => {
                self.state = State::Established;
            }
            // Route refreshes of others; there is nothing to send again in a test.
            (wire::KEEPALIVE, State::Established) | (5, _) => {}
            (wire::NOTIFICATION, _) => {
                let (code, subcode) = (body.first(), body.get(1));
                let text = format!("it sent NOTIFICATION {code:?}/{subcode:?}");
                return Ok(Outcome::Gone(text));
            }
            (kind, state) => bail!("message of type {kind} while {state:?}"),
        }
        Ok(Outcome::Fine)
    }
}
