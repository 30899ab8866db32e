//! The thread of the BFD sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bfd::{Action, Arrival, Hops, Path, SessionId, Sessions, State, Time};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::PeerKey;
use crate::detection::socket::{Ear, Mouth, receive};
use crate::detection::{All, Problem, Status, Wanted};

/// What could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_secs(2);

/// Packets taken from one socket before the timers get their turn.
const PACKETS: usize = 256;

/// Runs the sessions that are wanted until nobody can want any.
pub(super) async fn run(mut wanted: watch::Receiver<All>) {
    let mut runner = Runner::new();
    let first = wanted.borrow_and_update().clone();
    runner.apply(&first);
    loop {
        let timer = runner.timer();
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                if changed.is_err() {
                    runner.apply(&All::new());
                    return;
                }
                let all = wanted.borrow_and_update().clone();
                runner.apply(&all);
            }
            () = poll_fn(|cx| runner.poll_ears(cx)) => {}
            () = timer => {}
        }
        runner.turn();
    }
}

/// A session that is wanted.
struct Entry {
    wanted: Wanted,
    /// Absent while a socket or an interface is missing.
    id: Option<SessionId>,
    interface: Option<u32>,
    status: Status,
}

struct Runner {
    start: Instant,
    random: RandomState,
    sessions: Sessions,
    entries: BTreeMap<PeerKey, Entry>,
    keys: BTreeMap<SessionId, PeerKey>,
    /// Those of sessions that say goodbye included.
    mouths: BTreeMap<SessionId, Mouth>,
    ears: BTreeMap<Ear, UdpSocket>,
    deaf: BTreeMap<Ear, i32>,
    retry_at: Option<Instant>,
    dropped: u64,
}

impl Runner {
    fn new() -> Self {
        let random = RandomState::new();
        Runner {
            start: Instant::now(),
            sessions: Sessions::new(random.build_hasher().finish()),
            random,
            entries: BTreeMap::new(),
            keys: BTreeMap::new(),
            mouths: BTreeMap::new(),
            ears: BTreeMap::new(),
            deaf: BTreeMap::new(),
            retry_at: None,
            dropped: 0,
        }
    }

    fn now(&self) -> Time {
        self.start.elapsed()
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let next = self.sessions.next_deadline().map(|at| self.start + at);
        let next = next.into_iter().chain(self.retry_at).min();
        async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    fn poll_ears(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = false;
        for ear in self.ears.values() {
            // An error shows when it is read.
            ready |= ear.poll_recv_ready(cx).is_ready();
        }
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Reads first: a packet that waits was in time, however late we are.
    fn turn(&mut self) {
        let ears: Vec<Ear> = self.ears.keys().copied().collect();
        for ear in ears {
            self.listen_to(ear);
        }
        let (now, mut out) = (self.now(), Vec::new());
        self.sessions.timer(now, &mut out);
        self.act(out);
        if self.retry_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.retry();
        }
    }

    fn listen_to(&mut self, ear: Ear) {
        for _ in 0..PACKETS {
            let Some(socket) = self.ears.get(&ear) else {
                return;
            };
            let datagram = match receive(socket) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let arrival = Arrival {
                remote: datagram.remote,
                local: datagram.local,
                interface: datagram.interface,
                ttl: datagram.ttl,
                multihop: ear.multihop,
                octets: datagram.octets(),
            };
            let (now, mut out) = (self.now(), Vec::new());
            match self.sessions.receive(now, &arrival, &mut out) {
                Ok(id) => {
                    self.act(out);
                    self.publish(id);
                }
                Err(reason) => self.drop_packet(datagram.remote, reason),
            }
        }
    }

    /// Counts a packet nobody can use; a scanner must not fill the log.
    fn drop_packet(&mut self, remote: std::net::IpAddr, reason: bfd::Dropped) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(%remote, %reason, count = self.dropped, "BFD packet dropped");
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send {
                    session,
                    packet,
                    multihop,
                } => {
                    let mouth = self.mouths.get(&session);
                    let sent = mouth.map(|mouth| mouth.send(&packet.encode(), multihop));
                    let problem = sent.and_then(Result::err).map(|error| Problem::Send {
                        errno: errno(&error),
                    });
                    if let Some(entry) = self
                        .keys
                        .get(&session)
                        .and_then(|k| self.entries.get_mut(k))
                    {
                        entry.status.problem = problem;
                    }
                    self.publish(session);
                }
                Action::Changed { session, from, to } => self.changed(session, from, to),
                Action::Gone(session) => drop(self.mouths.remove(&session)),
            }
        }
    }

    fn changed(&mut self, id: SessionId, from: State, to: State) {
        let (Some(key), Some(session)) = (self.keys.get(&id), self.sessions.get(id)) else {
            return;
        };
        let (why, remote) = (session.diagnostic(), session.remote_state());
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if from != to {
            entry.status.since = SystemTime::now();
            entry.status.transitions += 1;
        }
        // A neighbour whose operator takes BFD down is no neighbour lost (RFC 5882 §3.2).
        if (from, to) == (State::Up, State::Down) && remote != State::AdminDown {
            entry.status.failures += 1;
            tracing::warn!(peer = %key, reason = %why, "BFD session lost");
        } else if from != to {
            tracing::info!(peer = %key, state = %to, "BFD session");
        }
        self.publish(id);
    }

    /// Tells the peer's task what is new.
    fn publish(&mut self, id: SessionId) {
        let (Some(key), Some(session)) = (self.keys.get(&id), self.sessions.get(id)) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let number = |discriminator: Option<std::num::NonZeroU32>| {
            discriminator.map_or(0, std::num::NonZeroU32::get)
        };
        entry.status = Status {
            state: session.state(),
            remote_state: session.remote_state(),
            diagnostic: session.diagnostic(),
            remote_diagnostic: session.remote_diagnostic(),
            discriminator: number(Some(session.discriminator())),
            remote_discriminator: number(session.remote_discriminator()),
            interval: session.interval(),
            detection_time: session.detection_time(),
            independent: session.remote_independent(),
            ..entry.status
        };
        entry.tell();
    }

    /// Makes the sessions those that are wanted.
    fn apply(&mut self, all: &All) {
        let other = |(key, entry): &(&PeerKey, &Entry)| {
            all.get(*key)
                .is_none_or(|wanted| wanted.way != entry.wanted.way)
        };
        let gone: Vec<PeerKey> = self
            .entries
            .iter()
            .filter(other)
            .map(|(k, _)| k.clone())
            .collect();
        for key in gone {
            if let Some(entry) = self.entries.remove(&key) {
                self.remove(&entry);
                entry.wanted.told.send_replace(None);
            }
        }
        for (key, wanted) in all {
            let now = self.now();
            if let Some(entry) = self.entries.get_mut(key) {
                entry.wanted = wanted.clone();
                let (id, config) = (entry.id, wanted.config);
                entry.tell();
                if let Some(id) = id {
                    let mut out = Vec::new();
                    self.sessions.configure(now, id, config, &mut out);
                    self.act(out);
                    self.publish(id);
                }
                continue;
            }
            let entry = Entry {
                wanted: wanted.clone(),
                id: None,
                interface: None,
                status: Status::new(),
            };
            self.entries.insert(key.clone(), entry);
        }
        self.open_ears();
        self.retry();
    }

    fn remove(&mut self, entry: &Entry) {
        let Some(id) = entry.id else { return };
        let (now, mut out) = (self.now(), Vec::new());
        self.sessions.remove(now, id, &mut out);
        self.act(out);
        self.keys.remove(&id);
    }

    /// Opens what was missing, and follows interfaces that were made anew.
    fn retry(&mut self) {
        if !self.deaf.is_empty() {
            self.open_ears();
        }
        for key in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.start_session(&key);
        }
        let waits = |entry: &Entry| {
            entry.id.is_none()
                || entry.wanted.way.interface.is_some() && entry.status.state != State::Up
        };
        if !self.deaf.is_empty() || self.entries.values().any(waits) {
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }

    /// Starts a session that is not running, or runs on an interface that is gone.
    fn start_session(&mut self, key: &PeerKey) {
        let Some(mut entry) = self.entries.remove(key) else {
            return;
        };
        let started = self.try_start(key, &mut entry);
        if let Err(problem) = started {
            self.remove(&entry);
            entry.id = None;
            entry.status.problem = Some(problem);
        }
        entry.tell();
        let id = entry.id;
        self.entries.insert(key.clone(), entry);
        if let Some(id) = id {
            self.keys.insert(id, key.clone());
            self.publish(id);
        }
    }

    fn try_start(&mut self, key: &PeerKey, entry: &mut Entry) -> Result<(), Problem> {
        let way = &entry.wanted.way;
        let interface =
            match way.interface.as_deref() {
                None => None,
                Some(name) => Some(nix::net::if_::if_nametoindex(name).map_err(|error| {
                    Problem::Interface {
                        errno: error as i32,
                    }
                })?),
            };
        if entry.id.is_some() && entry.interface == interface {
            return Ok(());
        }
        for ear in ears(entry) {
            if let Some(errno) = self.deaf.get(&ear) {
                let (port, errno) = (ear.port(), *errno);
                return Err(Problem::Listen { port, errno });
            }
        }
        let first = self.random.hash_one(key);
        let mouth = Mouth::open(way.remote, way.local, interface, first).map_err(|error| {
            Problem::Socket {
                errno: errno(&error),
            }
        })?;
        self.remove(entry);
        let path = Path {
            remote: way.remote,
            local: way.local,
            interface,
            hops: way.hops,
        };
        let mut out = Vec::new();
        let id = self.sessions.add(path, entry.wanted.config, &mut out);
        self.act(out);
        self.mouths.insert(id, mouth);
        (entry.id, entry.interface, entry.status.problem) = (Some(id), interface, None);
        Ok(())
    }

    /// Listens where sessions need it, and nowhere else.
    fn open_ears(&mut self) {
        let needed: BTreeSet<Ear> = self.entries.values().flat_map(ears).collect();
        self.ears.retain(|ear, _| needed.contains(ear));
        let before = std::mem::take(&mut self.deaf);
        for ear in needed {
            if self.ears.contains_key(&ear) {
                continue;
            }
            match ear.open() {
                Ok(socket) => drop(self.ears.insert(ear, socket)),
                Err(error) => {
                    if !before.contains_key(&ear) {
                        let port = ear.port();
                        tracing::warn!(port, %error, "BFD cannot listen, will try again");
                    }
                    self.deaf.insert(ear, errno(&error));
                }
            }
        }
    }
}

impl Entry {
    fn tell(&self) {
        let status = Some(self.status);
        self.wanted.told.send_if_modified(|told| {
            let news = *told != status;
            *told = status;
            news
        });
    }
}

/// Where the packets of a session may arrive.
fn ears(entry: &Entry) -> Vec<Ear> {
    let way = &entry.wanted.way;
    let v6 = way.remote.is_ipv6();
    let ear = |multihop| Ear { v6, multihop };
    match way.hops {
        Hops::One => vec![ear(false)],
        Hops::Many { .. } => vec![ear(true)],
        Hops::Either => vec![ear(false), ear(true)],
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EADDRINUSE)
}
