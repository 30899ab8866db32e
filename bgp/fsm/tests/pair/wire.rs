//! Two peers and the connections between them, in virtual time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_fsm::{Action, Config, ConnId, Event, Peer, Reason, Received, Restart, State, Time};
use bgp_wire::{Family, Message};

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// What reaches a side.
enum Arrival {
    Dial(ConnId),
    Answer(ConnId, Option<ConnId>),
    Event(Event),
}

impl Arrival {
    /// The connection of the receiver whose order counts.
    fn conn(&self) -> Option<ConnId> {
        match self {
            Arrival::Answer(conn, _) | Arrival::Event(Event::Closed(conn)) => Some(*conn),
            Arrival::Event(Event::Received(conn, _)) => Some(*conn),
            Arrival::Dial(_) | Arrival::Event(_) => None,
        }
    }
}

pub(crate) struct Pair {
    pub(crate) now: Time,
    peers: [Peer; 2],
    /// A side that is away answers no dial and hears nothing.
    away: [bool; 2],
    latency: [Duration; 2],
    /// Random extra latency of every message up to so many ms; the order on a connection stays.
    pub(crate) jitter: u64,
    random: u64,
    last: BTreeMap<(Side, ConnId), Time>,
    queue: BTreeMap<(Time, u64), (Side, Arrival)>,
    sequence: u64,
    links: BTreeMap<(Side, ConnId), ConnId>,
    /// What happened, per side: `up`, `down: <reason>`, `forget`.
    pub(crate) story: [Vec<String>; 2],
}

pub(crate) fn config(side: Side) -> Config {
    let [local, remote] = match side {
        Side::A => [1, 2],
        Side::B => [2, 1],
    };
    let local_id = Ipv4Addr::new(192, 0, 2, local);
    let mut config = Config::new(
        64500 + u32::from(local),
        local_id,
        64500 + u32::from(remote),
    );
    config.families = vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST];
    config
}

pub(crate) fn graceful(side: Side) -> Config {
    let restart = Some(Restart {
        time_secs: 60,
        restarting: false,
        forwarding: true,
        notification: false,
        stale_time: Duration::from_secs(30),
    });
    Config {
        restart,
        ..config(side)
    }
}

impl Pair {
    pub(crate) fn new(a: Config, b: Config, latency: [Duration; 2]) -> Self {
        Pair {
            now: Duration::ZERO,
            peers: [Peer::new(a, 11), Peer::new(b, 22)],
            away: [false; 2],
            latency,
            jitter: 0,
            random: 1,
            last: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            story: [Vec::new(), Vec::new()],
        }
    }

    pub(crate) fn peer(&self, side: Side) -> &Peer {
        &self.peers[side as usize]
    }

    pub(crate) fn established(&self) -> bool {
        self.peers
            .iter()
            .all(|peer| peer.state() == State::Established)
    }

    pub(crate) fn feed(&mut self, side: Side, event: Event) {
        let mut out = Vec::new();
        self.peers[side as usize].handle(self.now, event, &mut out);
        out.into_iter().for_each(|action| self.act(side, action));
    }

    pub(crate) fn set_config(&mut self, side: Side, config: Config) {
        self.peers[side as usize].set_config(self.now, config);
    }

    /// The process of a side dies; its kernel closes the connections unless the node is off.
    pub(crate) fn die(&mut self, side: Side, kernel_says_so: bool) {
        self.away[side as usize] = true;
        let gone: Vec<_> = self.links.iter().map(|(near, far)| (*near, *far)).collect();
        for ((near, conn), far) in gone {
            if near == side {
                self.links.remove(&(near, conn));
                // What the survivor sends from now on goes nowhere.
                self.links.remove(&(side.other(), far));
                if kernel_says_so {
                    self.send(side, Arrival::Event(Event::Closed(far)));
                }
            }
        }
    }

    /// The side comes back as a new process.
    pub(crate) fn revive(&mut self, side: Side, config: Config) {
        self.away[side as usize] = false;
        self.peers[side as usize] = Peer::new(config, 33);
        self.feed(side, Event::Start);
    }

    /// Runs to a moment.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.now < end {
            let arrival = self.queue.keys().next().map(|(at, _)| *at);
            let deadlines = [Side::A, Side::B].map(|side| {
                let deadline = self.peer(side).next_deadline();
                deadline.filter(|_| !self.away[side as usize])
            });
            let timer = deadlines.iter().flatten().min().copied();
            let Some(next) = arrival
                .into_iter()
                .chain(timer)
                .min()
                .filter(|at| *at < end)
            else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            match self
                .queue
                .first_entry()
                .filter(|entry| entry.key().0 <= next)
            {
                Some(entry) => {
                    let (side, arrival) = entry.remove();
                    self.arrive(side, arrival);
                }
                None => {
                    for (side, deadline) in [Side::A, Side::B].into_iter().zip(deadlines) {
                        if deadline == Some(next) {
                            self.feed(side, Event::Timer);
                        }
                    }
                }
            }
        }
    }

    /// Makes latencies random.
    pub(crate) fn shake(&mut self, jitter: u64, seed: u64) {
        self.jitter = jitter;
        self.random = seed;
    }

    fn send(&mut self, from: Side, arrival: Arrival) {
        self.sequence += 1;
        let mut at = self.now + self.latency[from as usize] + self.extra();
        if let Some(conn) = arrival.conn() {
            let last = self.last.entry((from.other(), conn)).or_default();
            at = at.max(*last);
            *last = at;
        }
        self.queue
            .insert((at, self.sequence), (from.other(), arrival));
    }

    fn extra(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Duration::from_millis(self.random % (self.jitter + 1))
    }

    fn arrive(&mut self, side: Side, arrival: Arrival) {
        let away = self.away[side as usize];
        match arrival {
            Arrival::Dial(dialled) if away => self.send(side, Arrival::Answer(dialled, None)),
            Arrival::Dial(dialled) => self.dialled(side, dialled),
            _ if away => {}
            Arrival::Answer(conn, None) => self.feed(side, Event::ConnectFailed(conn)),
            Arrival::Answer(conn, Some(_)) => self.feed(side, Event::Connected(conn)),
            Arrival::Event(event) => self.feed(side, event),
        }
    }

    /// A dial of the other side arrives.
    fn dialled(&mut self, side: Side, dialled: ConnId) {
        let mut out = Vec::new();
        self.peers[side as usize].handle(self.now, Event::Accepted, &mut out);
        for action in out {
            match action {
                Action::Adopt(conn) => {
                    self.links.insert((side, conn), dialled);
                    self.links.insert((side.other(), dialled), conn);
                    self.send(side, Arrival::Answer(dialled, Some(conn)));
                }
                Action::Refuse => {
                    self.send(side, Arrival::Answer(dialled, Some(ConnId(0))));
                    self.send(side, Arrival::Event(Event::Closed(dialled)));
                }
                other => self.act(side, other),
            }
        }
    }

    fn act(&mut self, side: Side, action: Action) {
        match action {
            Action::Connect(conn) => self.send(side, Arrival::Dial(conn)),
            Action::Send(conn, message) => {
                if let Some(far) = self.links.get(&(side, conn)).copied() {
                    self.send(
                        side,
                        Arrival::Event(Event::Received(far, received(*message))),
                    );
                }
            }
            Action::Close(conn) => {
                if let Some(far) = self.links.remove(&(side, conn)) {
                    self.send(side, Arrival::Event(Event::Closed(far)));
                }
            }
            Action::Up { .. } => self.story[side as usize].push("up".to_owned()),
            Action::Down { reason, keep, .. } => {
                let kept = if keep.is_empty() { "" } else { ", routes kept" };
                self.story[side as usize].push(format!("down: {reason}{kept}"));
            }
            Action::Failed { reason, .. } => {
                if reason != Reason::ConnectFailed {
                    self.story[side as usize].push(format!("failed: {reason}"));
                }
            }
            Action::LongLived(_) => self.story[side as usize].push("long-lived".to_owned()),
            Action::Forget(_) => self.story[side as usize].push("forget".to_owned()),
            Action::Adopt(_) | Action::Refuse => panic!("nothing was accepted"),
        }
    }
}

fn received(message: Message) -> Received {
    match message {
        Message::Open(open) => Received::Open(Box::new(open)),
        Message::Keepalive => Received::Keepalive,
        Message::Notification(notification) => Received::Notification(notification),
        Message::Update(_) | Message::RouteRefresh(_) => panic!("the state machine sent routes"),
    }
}
