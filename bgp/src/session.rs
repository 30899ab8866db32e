//! The task of one peer: bytes, state machine, timers, and the way to the routes.
//!
//! It never waits for the owner of the routes without keeping its timers: what cannot be reported
//! yet is held, and nothing more is read until it is gone, so that TCP slows the peer down.

mod act;
mod connection;
mod control;
mod counters;
mod liveness;
mod report;
mod settings;

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bgp_fsm::{ConnId, Event, Peer, Received, State};
use bgp_wire::{Message, Params, header};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::detection::Status;

use crate::socket;
use connection::{Connection, Written};
pub(crate) use counters::{Counted, Counters, Direction, Notifications};
use liveness::Liveness;
pub(crate) use report::{Learned, Report, Reporter, Up};
pub(crate) use settings::{Control, Settings};

/// Routes are taken from the owner while less than this waits to be written.
const OUTPUT_OCTETS: usize = 128 << 10;

/// Reports of routes of one session that may wait to be applied. Peers that say the same, as after
/// a restart of ours, keep in step by it: then each prefix is decided and told about once for all
/// of them, instead of once for each.
const AHEAD: usize = 8;

/// Read at once, and parsed in place.
const READ_OCTETS: usize = 16 << 10;

thread_local! {
    /// One buffer per thread: an idle session has none.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Decodes one message. A parameter so that a test can have a decoder that panics.
pub(crate) type Decode = fn(&[u8], &Params) -> Result<Message, bgp_wire::Error>;

/// What connects the task with the owner of the routes.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) control: watch::Receiver<Control>,
    /// Connections the peer made; when full, more of them are closed.
    pub(crate) incoming: mpsc::Receiver<TcpStream>,
    /// Messages for the peer; when full, the rest stays in the RIB.
    pub(crate) routes: mpsc::Receiver<Chunk>,
    /// Reports of all peers; while it is full, this task reads nothing.
    pub(crate) reports: mpsc::Sender<(Reporter, Report)>,
    pub(crate) shared: Arc<Shared>,
    /// State of the BFD session with the peer.
    pub(crate) bfd: watch::Receiver<Option<Status>>,
}

/// Encoded messages for one established session.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) conn: ConnId,
    pub(crate) messages: Vec<Bytes>,
}

/// What both sides look at without a message.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The owner found `routes` full and wants to hear when it is not.
    pub(crate) starving: AtomicBool,
    pub(crate) counters: Counters,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The task's own state.
pub(crate) struct Session {
    reporter: Reporter,
    channels: Channels,
    decode: Decode,
    settings: Arc<Settings>,
    peer: Peer,
    start: Instant,
    /// State and reason last reported.
    told: State,
    last_error: Option<String>,
    /// What the peer said before it went away for long.
    farewell: Option<String>,
    /// The password changed since the session came up.
    rotated: bool,
    /// Nothing came from the peer since.
    silent: bool,
    dialling: Option<(ConnId, Dialling)>,
    /// A connection the state machine is being asked about.
    offered: Option<TcpStream>,
    connections: Vec<Connection>,
    /// Closed connections that still hand over a NOTIFICATION.
    closing: Vec<Connection>,
    /// What the established session sent and is not reported yet.
    learned: Vec<Learned>,
    reports: VecDeque<Report>,
    /// One for each report of routes that is on its way.
    turns: Arc<Semaphore>,
    liveness: Liveness,
    /// The owner wants no session for a while.
    closed: bool,
    /// Requests to start anew that were obeyed.
    resets: u64,
    stopped: bool,
}

enum Wake {
    Control,
    Timer,
    Liveness,
    Reported,
    Offered(TcpStream),
    Dialled(ConnId, io::Result<TcpStream>),
    Routes(Chunk),
    Ready,
}

impl Session {
    /// A session that begins when [`Session::run`] does.
    pub(crate) fn new(reporter: Reporter, channels: Channels, decode: Decode, seed: u64) -> Self {
        // Not marked as seen: it may have changed before this task began.
        let control = channels.control.borrow();
        let (settings, fsm) = (control.settings.clone(), control.fsm());
        let (closed, resets) = (control.closed.is_some(), control.resets);
        drop(control);
        Session {
            reporter,
            channels,
            decode,
            settings,
            peer: Peer::new(fsm, seed),
            start: Instant::now(),
            told: State::Idle,
            last_error: None,
            farewell: None,
            rotated: false,
            silent: false,
            dialling: None,
            offered: None,
            connections: Vec::new(),
            closing: Vec::new(),
            learned: Vec::new(),
            reports: VecDeque::new(),
            turns: Arc::new(Semaphore::new(AHEAD)),
            liveness: Liveness::default(),
            closed,
            resets,
            stopped: false,
        }
    }

    /// Runs until the session is stopped and its connections are closed.
    pub(crate) async fn run(mut self) {
        self.begin();
        loop {
            self.flush();
            self.report_state();
            if self.stopped && self.closing.is_empty() && self.reports.is_empty() {
                return;
            }
            let wake = self.wait().await;
            self.wake(wake);
        }
    }

    async fn wait(&mut self) -> Wake {
        let deadline = self.deadline();
        let reads = self.reports.is_empty();
        let is_learned = matches!(self.reports.front(), Some(Report::Learned { .. }));
        let turns = is_learned.then_some(&self.turns);
        let takes_routes = self.takes_routes();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let (channels, reports) = (&mut self.channels, &mut self.reports);
        let dialling = &mut self.dialling;
        let connections = &mut self.connections;
        let closing = &mut self.closing;
        tokio::select! {
            biased;
            // An error means that the owner is gone; `wake` sees it too.
            _ = channels.control.changed(), if !self.stopped => Wake::Control,
            // An error means that the owner is gone.
            Ok(()) = channels.bfd.changed(), if !self.stopped => Wake::Liveness,
            () = timer => Wake::Timer,
            Some(stream) = channels.incoming.recv(), if !self.stopped => Wake::Offered(stream),
            (conn, result) = poll_fn(|cx| poll_dial(dialling, cx)) => Wake::Dialled(conn, result),
            room = room(&channels.reports, turns), if !reports.is_empty() => {
                // Without an owner nobody wants to know.
                if let (Some((permit, given)), Some(mut report)) = (room, reports.pop_front()) {
                    if let Report::Learned { turn, .. } = &mut report {
                        *turn = given;
                    }
                    permit.send((self.reporter, report));
                }
                Wake::Reported
            }
            Some(chunk) = channels.routes.recv(), if takes_routes => Wake::Routes(chunk),
            () = poll_fn(|cx| poll_ready(connections, closing, reads, cx)) => Wake::Ready,
        }
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Control => self.control(),
            Wake::Timer => self.timer(),
            Wake::Liveness => self.liveness_changed(),
            Wake::Reported => {}
            Wake::Offered(stream) => {
                if let Err(error) = socket::check_distance(&stream, &self.settings.peer) {
                    self.last_error = Some(error.to_string());
                    return;
                }
                self.drop_outdated();
                self.offered = Some(stream);
                self.feed(Event::Accepted);
                self.offered = None;
            }
            Wake::Dialled(conn, result) => self.dialled(conn, result),
            Wake::Routes(chunk) => self.take(chunk),
            Wake::Ready => self.ready(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let fsm = self.peer.next_deadline().map(|at| self.start + at);
        let closing = self.closing.iter().filter_map(|c| c.until);
        closing.chain(fsm).chain(self.liveness.deadline()).min()
    }

    fn takes_routes(&self) -> bool {
        let established = self.peer.established().map(|(conn, _)| conn);
        let connection =
            established.and_then(|conn| self.connections.iter().find(|c| c.id == conn));
        connection.is_none_or(|connection| connection.octets() < OUTPUT_OCTETS)
    }

    fn timer(&mut self) {
        let now = Instant::now();
        self.end_hold(now);
        self.closing
            .retain(|c| c.until.is_some_and(|until| until > now));
        if !self.reports.is_empty() {
            // We do not read: a peer whose messages wait in the kernel is alive.
            let waiting = self.connections.iter().filter(|c| c.has_input());
            for conn in waiting.map(|c| c.id).collect::<Vec<_>>() {
                self.feed(Event::Heard(conn));
            }
        }
        let dialled = |session: &Session| session.dialling.as_ref().map(|(conn, _)| *conn);
        let before = dialled(self);
        self.feed(Event::Timer);
        if before.is_some() && before != dialled(self) {
            self.dial_timed_out();
        }
    }

    fn dialled(&mut self, conn: ConnId, result: io::Result<TcpStream>) {
        let adopted = result.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match adopted {
            Ok(stream) => {
                self.connections.push(Connection::new(conn, stream));
                self.feed(Event::Connected(conn));
            }
            Err(error) => {
                self.feed(Event::ConnectFailed(conn));
                let error = self.after_farewell(format!("cannot connect: {error}"));
                self.last_error = Some(error);
            }
        }
    }

    /// Takes messages for the peer, unless they are for a session that is over.
    fn take(&mut self, chunk: Chunk) {
        if self.channels.shared.starving.swap(false, Ordering::SeqCst)
            && !self.reports.iter().any(|r| matches!(r, Report::Hungry))
        {
            self.reports.push_back(Report::Hungry);
        }
        if self
            .peer
            .established()
            .is_some_and(|(conn, _)| conn == chunk.conn)
            && let Some(connection) = self.connections.iter_mut().find(|c| c.id == chunk.conn)
        {
            for message in chunk.messages {
                connection.push(message);
            }
        }
    }

    /// Some connection can be read or written; writing is left to [`Session::flush`].
    fn ready(&mut self) {
        self.closing.retain_mut(Connection::drain);
        if !self.reports.is_empty() {
            return;
        }
        // Oldest first: the KEEPALIVE that establishes a session came before the OPEN of a
        // connection that crossed it.
        for conn in self.connections.iter().map(|c| c.id).collect::<Vec<_>>() {
            self.read(conn);
        }
        self.flush_learned();
    }

    /// Reads once and handles every whole message.
    fn read(&mut self, conn: ConnId) {
        let mut scratch = SCRATCH.take();
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == conn) else {
            return;
        };
        scratch.clear();
        scratch.append(&mut connection.rest);
        scratch.reserve(READ_OCTETS);
        let broken = match connection.read(&mut scratch) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => true,
        };
        let used = self.messages(conn, &scratch);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == conn) {
            connection.rest.extend_from_slice(&scratch[used..]);
            if broken {
                self.feed(Event::Closed(conn));
            }
        }
        SCRATCH.set(scratch);
    }

    /// Handles the messages in `bytes`, returns how many octets they had.
    fn messages(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(connection) = self.connections.iter().find(|c| c.id == conn) {
            let rest = &bytes[used..];
            let counters = &self.channels.shared.counters;
            let message = match header::frame(rest, connection.params.max_message_len()) {
                Ok(Some(octets)) if octets <= rest.len() => {
                    used += octets;
                    counters.message(Direction::In, rest);
                    (self.decode)(&rest[..octets], &connection.params)
                }
                Ok(_) => break,
                Err(error) => {
                    counters.message(Direction::In, rest);
                    Err(error)
                }
            };
            match message {
                Ok(message) => self.message(conn, message),
                Err(error) => {
                    self.feed(Event::Malformed(conn, error.notification()));
                    self.last_error = Some(error.to_string());
                }
            }
        }
        used
    }

    fn message(&mut self, conn: ConnId, message: Message) {
        let claimed = if let Message::Open(open) = &message {
            Some(open.asn)
        } else {
            None
        };
        let (received, learned) = match message {
            Message::Open(open) => (Received::Open(Box::new(open)), None),
            Message::Keepalive => (Received::Keepalive, None),
            Message::Notification(notification) => {
                let counters = &self.channels.shared.counters;
                counters.notification(Direction::In, &notification);
                (Received::Notification(notification), None)
            }
            Message::Update(update) => (Received::Update, Some(Learned::from(update))),
            Message::RouteRefresh(refresh) => {
                (Received::RouteRefresh, Some(Learned::Refresh(refresh)))
            }
        };
        self.silent = false;
        self.feed(Event::Received(conn, received));
        let expected = self.peer.config().remote_as;
        if let (Some(error), Some(claimed)) = (&mut self.last_error, claimed)
            && claimed != expected
        {
            error.push_str(&format!(
                ": the peer is in AS {claimed}, AS {expected} is configured"
            ));
        }
        let Some(learned) = learned else { return };
        if self
            .peer
            .established()
            .is_none_or(|(current, _)| current != conn)
        {
            return;
        }
        if let Learned::EndOfRib(family) = learned {
            self.feed(Event::EndOfRib(conn, family));
        }
        self.learned.push(learned);
    }

    /// Writes what can be written.
    fn flush(&mut self) {
        let mut events = Vec::new();
        for connection in &mut self.connections {
            let conn = connection.id;
            match connection.write(&self.channels.shared.counters) {
                Written::Nothing => {}
                Written::Some => events.push(Event::Waiting(conn)),
                Written::All => events.push(Event::Drained(conn)),
                Written::Broken => events.push(Event::Closed(conn)),
            }
        }
        let counters = &self.channels.shared.counters;
        self.closing
            .retain_mut(|connection| connection.say_last_words(counters));
        for event in events {
            self.feed(event);
        }
    }

    fn flush_learned(&mut self) {
        if !self.learned.is_empty() {
            let learned = std::mem::take(&mut self.learned);
            let turn = None;
            self.reports.push_back(Report::Learned { learned, turn });
        }
    }

    fn report(&mut self, report: Report) {
        self.flush_learned();
        self.reports.push_back(report);
    }

    /// Reports the state once per turn; a state nobody has taken yet is replaced.
    fn report_state(&mut self) {
        let state = self.peer.state();
        if state == self.told && self.last_error.is_none() {
            return;
        }
        self.told = state;
        let mut error = self.last_error.take();
        if let Some(Report::State { error: untold, .. }) = self.reports.back_mut() {
            error = error.or(untold.take());
            self.reports.pop_back();
        }
        self.reports.push_back(Report::State { state, error });
    }
}

/// Room for a report, and where turns are given, one of them. None without an owner.
async fn room<'a>(
    reports: &'a mpsc::Sender<(Reporter, Report)>,
    turns: Option<&Arc<Semaphore>>,
) -> Option<(
    mpsc::Permit<'a, (Reporter, Report)>,
    Option<OwnedSemaphorePermit>,
)> {
    let turn = match turns {
        Some(turns) => Some(turns.clone().acquire_owned().await.ok()?),
        None => None,
    };
    Some((reports.reserve().await.ok()?, turn))
}

fn poll_dial(
    dialling: &mut Option<(ConnId, Dialling)>,
    cx: &mut Context<'_>,
) -> Poll<(ConnId, io::Result<TcpStream>)> {
    let Some((conn, dial)) = dialling else {
        return Poll::Pending;
    };
    let conn = *conn;
    dial.as_mut().poll(cx).map(|result| {
        *dialling = None;
        (conn, result)
    })
}

fn poll_ready(
    connections: &mut [Connection],
    closing: &mut [Connection],
    reads: bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut ready = false;
    for connection in connections {
        ready |= connection.poll_ready(reads, cx);
    }
    for connection in closing {
        ready |= connection.poll_ready(true, cx);
    }
    if ready {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
