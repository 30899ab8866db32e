//! All sessions of a system: whose packet is it (RFC 5880 §6.3, RFC 5881 §3, RFC 5883 §4).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::packet::{Malformed, Packet, State};
use crate::session::{Config, Output, Session};
use crate::{TTL, Time};

/// Our discriminator of a session, unique among those that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU32);

impl SessionId {
    /// The discriminator.
    #[must_use]
    pub fn discriminator(self) -> NonZeroU32 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {:#010x}", self.0)
    }
}

/// How far away a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hops {
    /// On our link (RFC 5881).
    One,
    /// Somewhere (RFC 5883); packets with a smaller TTL are dropped.
    Many {
        /// Least TTL a packet may arrive with.
        least_ttl: u8,
    },
    /// As the neighbour has it, which is found out by trying both: speakers disagree on what a
    /// neighbour inside the AS is.
    Either,
}

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The neighbour's address.
    pub remote: IpAddr,
    /// Our address; any when absent.
    pub local: Option<IpAddr>,
    /// Index of the interface it is on; any when absent.
    pub interface: Option<u32>,
    /// How far away it is.
    pub hops: Hops,
}

/// What came from the network.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Source address.
    pub remote: IpAddr,
    /// Destination address.
    pub local: IpAddr,
    /// Index of the interface it came in on.
    pub interface: u32,
    /// TTL or hop limit it came with.
    pub ttl: u8,
    /// It came to the port of multihop sessions.
    pub multihop: bool,
    /// The UDP payload.
    pub octets: &'a [u8],
}

/// Why something that came is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is no packet that may be used.
    Malformed(Malformed),
    /// Its TTL says that it came from further away than it may (RFC 5881 §5).
    Ttl(u8),
    /// No session is meant.
    NoSession,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dropped::Malformed(malformed) => malformed.fmt(f),
            Dropped::Ttl(ttl) => write!(f, "TTL {ttl}: it comes from too far away"),
            Dropped::NoSession => f.write_str("no session"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a packet of this session.
    Send {
        /// The session.
        session: SessionId,
        /// The packet.
        packet: Packet,
        /// To the port of multihop sessions.
        multihop: bool,
    },
    /// The state of the session, or what is known of the neighbour's, changed.
    Changed {
        /// The session.
        session: SessionId,
        /// State before.
        from: State,
        /// State now.
        to: State,
    },
    /// A removed session has said goodbye and is gone.
    Gone(SessionId),
}

#[derive(Clone, Debug)]
struct Entry {
    path: Path,
    /// Packets go to and are expected at the port of multihop sessions.
    multihop: bool,
    session: Session,
    /// Its place in the queue of deadlines.
    deadline: Option<Time>,
}

/// All sessions, by our discriminator.
#[derive(Clone, Debug)]
pub struct Sessions {
    entries: BTreeMap<SessionId, Entry>,
    /// By the neighbour's address.
    remotes: BTreeSet<(IpAddr, SessionId)>,
    deadlines: BTreeSet<(Time, SessionId)>,
    random: u64,
    outputs: Vec<Output>,
}

impl Sessions {
    /// None yet. `seed` is the source of discriminators and jitter; one that nobody can guess
    /// makes it hard to forge packets of a session.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Sessions {
            entries: BTreeMap::new(),
            remotes: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            random: seed | 1,
            outputs: Vec::new(),
        }
    }

    /// Adds a session; its first packet is due at once. One to the same neighbour that still says
    /// goodbye falls silent, which would contradict it.
    pub fn add(&mut self, path: Path, config: Config, out: &mut Vec<Action>) -> SessionId {
        let leaving: Vec<SessionId> = self
            .with(path.remote)
            .filter(|id| self.state(*id) == Some(State::AdminDown))
            .collect();
        for id in leaving {
            self.forget(id, out);
        }
        let id = loop {
            let low = (self.next_random() >> 16) as u32;
            match NonZeroU32::new(low).map(SessionId) {
                Some(id) if !self.entries.contains_key(&id) => break id,
                Some(_) | None => {}
            }
        };
        let seed = self.next_random();
        let entry = Entry {
            path,
            multihop: matches!(path.hops, Hops::Many { .. }),
            session: Session::new(config, id.0, seed),
            deadline: None,
        };
        self.entries.insert(id, entry);
        self.remotes.insert((path.remote, id));
        self.settle(id, out);
        id
    }

    /// Changes the settings of a session without taking it down.
    pub fn configure(&mut self, now: Time, id: SessionId, config: Config, out: &mut Vec<Action>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.session.configure(now, config, &mut self.outputs);
            self.settle(id, out);
        }
    }

    /// Takes a session down. It says so for a while, then [`Action::Gone`] comes.
    pub fn remove(&mut self, now: Time, id: SessionId, out: &mut Vec<Action>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.session.shut_down(now, &mut self.outputs);
            self.settle(id, out);
        }
    }

    /// A session that lives.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.entries.get(&id).map(|entry| &entry.session)
    }

    /// How many there are, those that say goodbye included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When [`Sessions::timer`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Something came from the network.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn receive(
        &mut self,
        now: Time,
        arrival: &Arrival<'_>,
        out: &mut Vec<Action>,
    ) -> Result<SessionId, Dropped> {
        if !arrival.multihop && arrival.ttl != TTL {
            return Err(Dropped::Ttl(arrival.ttl));
        }
        let packet = Packet::decode(arrival.octets).map_err(Dropped::Malformed)?;
        let id = self.find(arrival, &packet).ok_or(Dropped::NoSession)?;
        let entry = self.entries.get_mut(&id).ok_or(Dropped::NoSession)?;
        if let Hops::Many { least_ttl } = entry.path.hops
            && arrival.ttl < least_ttl
        {
            return Err(Dropped::Ttl(arrival.ttl));
        }
        if entry.path.hops == Hops::Either {
            // Two who adapt to each other come to an end, as their jitter differs.
            entry.multihop = arrival.multihop;
        }
        entry.session.receive(now, &packet, &mut self.outputs);
        self.settle(id, out);
        Ok(id)
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            let Some(entry) = self.entries.get_mut(&id) else {
                self.deadlines.pop_first();
                continue;
            };
            entry.session.timer(now, &mut self.outputs);
            self.settle(id, out);
        }
    }

    /// Passes on what a session wants done, and looks after its deadline.
    fn settle(&mut self, id: SessionId, out: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let session = id;
        for output in self.outputs.drain(..) {
            out.push(match output {
                Output::Send(packet) => Action::Send {
                    session,
                    packet,
                    multihop: entry.say(),
                },
                Output::Changed { from, to } => Action::Changed { session, from, to },
            });
        }
        let deadline = entry.session.next_deadline();
        if deadline != entry.deadline {
            if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
                self.deadlines.remove(&(old, id));
            }
            self.deadlines.extend(deadline.map(|at| (at, id)));
        }
        if entry.session.is_over() {
            self.forget(id, out);
        }
    }

    fn forget(&mut self, id: SessionId, out: &mut Vec<Action>) {
        if let Some(entry) = self.entries.remove(&id) {
            self.remotes.remove(&(entry.path.remote, id));
            if let Some(deadline) = entry.deadline {
                self.deadlines.remove(&(deadline, id));
            }
            out.push(Action::Gone(id));
        }
    }

    /// Sessions with this neighbour.
    fn with(&self, remote: IpAddr) -> impl Iterator<Item = SessionId> {
        let (least, most) = (SessionId(NonZeroU32::MIN), SessionId(NonZeroU32::MAX));
        let with = self.remotes.range((remote, least)..=(remote, most));
        with.map(|(_, id)| *id)
    }

    fn state(&self, id: SessionId) -> Option<State> {
        self.get(id).map(Session::state)
    }

    /// The session a packet is for: by our discriminator, or by its way when the neighbour does
    /// not know that yet. The way must be right in both cases.
    fn find(&self, arrival: &Arrival<'_>, packet: &Packet) -> Option<SessionId> {
        match packet.your_discriminator {
            Some(ours) => {
                let id = SessionId(ours);
                let entry = self.entries.get(&id)?;
                entry.accepts(arrival).then_some(id)
            }
            None => {
                // A session on its way out makes room for its successor.
                self.with(arrival.remote).find(|id| {
                    let entry = self.entries.get(id).filter(|entry| entry.accepts(arrival));
                    entry.is_some_and(|entry| entry.session.state() != State::AdminDown)
                })
            }
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Entry {
    /// The port of the next packet. Who may do either tries both in turn until it hears something.
    fn say(&mut self) -> bool {
        let multihop = self.multihop;
        if self.path.hops == Hops::Either && self.session.remote_discriminator().is_none() {
            self.multihop = !multihop;
        }
        multihop
    }

    fn accepts(&self, arrival: &Arrival<'_>) -> bool {
        let port = match self.path.hops {
            Hops::One => !arrival.multihop,
            Hops::Many { .. } => arrival.multihop,
            // What is up is not for one who is further away to take down.
            Hops::Either => arrival.multihop == self.multihop || self.session.state() != State::Up,
        };
        port && self.path.remote == arrival.remote
            && self.path.local.is_none_or(|local| local == arrival.local)
            && self.path.interface.is_none_or(|at| at == arrival.interface)
    }
}
