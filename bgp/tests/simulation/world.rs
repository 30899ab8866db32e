//! Everything that happens, in the order of virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp_fsm::{Action, ConnId, Event, Received, Time};
use bgp_rib::PeerId;
use bgp_wire::{Message, decode};
use bytes::BytesMut;

use crate::Random;
use crate::node::Node;
use crate::topology::Topology;
use crate::wire::{End, Payload, Wire};

/// Pieces that may be on their way in one direction; more wait in the table.
const WINDOW: usize = 3;

#[derive(Debug)]
enum Happening {
    /// A dial of a node reaches the other end of the link.
    Dial {
        link: usize,
        from: usize,
        life: u64,
        conn: ConnId,
    },
    /// The answer comes back; without a connection it was refused.
    Answer {
        link: usize,
        to: usize,
        life: u64,
        conn: ConnId,
        wire: Option<usize>,
    },
    Arrival {
        wire: usize,
        side: usize,
        payload: Payload,
    },
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) topology: Topology,
    pub(crate) nodes: Vec<Node>,
    pub(crate) is_cut: Vec<bool>,
    pub(crate) random: Random,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    wires: Vec<Wire>,
    /// How many sessions came up.
    pub(crate) sessions: u64,
}

impl World {
    pub(crate) fn new(topology: Topology, random: Random) -> Self {
        let nodes = (0..topology.nodes).map(|number| Node::new(&topology, number));
        World {
            now: Time::ZERO,
            nodes: nodes.collect(),
            is_cut: vec![false; topology.links.len()],
            topology,
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            wires: Vec::new(),
            sessions: 0,
        }
    }

    pub(crate) fn start(&mut self, node: usize, graceful: bool) {
        self.nodes[node].be_born(&self.topology, self.now, graceful);
        for link in self.links_of(node) {
            self.feed(node, link, Event::Start);
        }
        self.pump(node);
    }

    /// Ends a node as it stands; `clean`: its kernel closes the connections.
    pub(crate) fn kill(&mut self, node: usize, clean: bool) {
        self.nodes[node].is_alive = false;
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                let end = &mut self.wires[wire].ends[side];
                if end.node == node && end.is_open {
                    end.is_open = false;
                    if clean {
                        self.fly(wire, 1 - side, Payload::Closed);
                    }
                }
            }
        }
    }

    pub(crate) fn links_of(&self, node: usize) -> Vec<usize> {
        let links = self.topology.links.iter().enumerate();
        let ours = links.filter(|(_, link)| link.contains(&node));
        ours.map(|(link, _)| link).collect()
    }

    pub(crate) fn cut(&mut self, link: usize) {
        self.is_cut[link] = true;
    }

    /// What was sent over a way that was cut arrives now.
    pub(crate) fn mend(&mut self, link: usize) {
        self.is_cut[link] = false;
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                if self.wires[wire].link == link {
                    let held = std::mem::take(&mut self.wires[wire].ends[side].held);
                    for payload in held {
                        self.schedule(
                            Duration::ZERO,
                            Happening::Arrival {
                                wire,
                                side,
                                payload,
                            },
                        );
                    }
                }
            }
        }
    }

    /// Lets time pass, from happening to happening.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let timers = self.nodes.iter().filter_map(Node::deadline);
            let first = self.queue.keys().next().map(|(at, _)| *at);
            let Some(next) = timers.chain(first).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].deadline().is_some_and(|at| at <= self.now) {
                    for link in self.links_of(node) {
                        self.feed(node, link, Event::Timer);
                    }
                    self.pump(node);
                }
            }
        }
    }

    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now + after, self.sequence), happening);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(1 + self.random.below(40))
    }

    /// Sends something to one end of a connection; what is sent first arrives first.
    fn fly(&mut self, wire: usize, side: usize, payload: Payload) {
        let at = self.now + self.latency();
        let end = &mut self.wires[wire].ends[side];
        end.last = end.last.max(at);
        end.flying += 1;
        let after = end.last - self.now;
        self.schedule(
            after,
            Happening::Arrival {
                wire,
                side,
                payload,
            },
        );
    }

    fn happen(&mut self, happening: Happening) {
        let (node, link) = match &happening {
            Happening::Dial { link, from, .. } => (self.other_end(*link, *from), *link),
            Happening::Answer { link, to, .. } => (*to, *link),
            Happening::Arrival { wire, side, .. } => {
                (self.wires[*wire].ends[*side].node, self.wires[*wire].link)
            }
        };
        let wait = self.nodes[node].paused_until.saturating_sub(self.now);
        if !wait.is_zero() && self.nodes[node].is_alive {
            self.schedule(wait, happening);
            return;
        }
        match happening {
            Happening::Dial { .. } | Happening::Answer { .. } if self.is_cut[link] => {}
            Happening::Dial {
                from, life, conn, ..
            } => self.dialled(node, link, (from, life, conn)),
            Happening::Answer {
                life, conn, wire, ..
            } => self.answered(node, link, (life, conn, wire)),
            Happening::Arrival {
                wire,
                side,
                payload,
            } if self.is_cut[link] => {
                self.wires[wire].ends[side].held.push_back(payload);
            }
            Happening::Arrival {
                wire,
                side,
                payload,
            } => self.arrived(wire, side, payload),
        }
    }

    fn other_end(&self, link: usize, node: usize) -> usize {
        let [a, b] = self.topology.links[link];
        a + b - node
    }

    fn dialled(&mut self, node: usize, link: usize, (from, life, conn): (usize, u64, ConnId)) {
        let mut wire = None;
        if self.nodes[node].is_alive {
            let offered = self.wires.len();
            let ours = End::new(node, self.nodes[node].life, ConnId(0));
            let theirs = End::new(from, life, conn);
            self.wires.push(Wire {
                link,
                ends: [theirs, ours],
            });
            self.end(node, link).offered = Some(offered);
            self.feed(node, link, Event::Accepted);
            if self.end(node, link).offered.take().is_none() {
                wire = Some(offered);
            }
        }
        let after = self.latency();
        self.schedule(
            after,
            Happening::Answer {
                link,
                to: from,
                life,
                conn,
                wire,
            },
        );
        self.pump(node);
    }

    fn answered(
        &mut self,
        node: usize,
        link: usize,
        (life, conn, wire): (u64, ConnId, Option<usize>),
    ) {
        if !self.nodes[node].is_alive || self.nodes[node].life != life {
            return;
        }
        let end = self.end(node, link);
        let is_awaited = end.dialling.take_if(|dialled| *dialled == conn).is_some();
        match wire {
            Some(wire) if is_awaited => {
                end.wires.insert(conn, wire);
                self.feed(node, link, Event::Connected(conn));
            }
            // Given up meanwhile: whatever comes next is answered with a reset.
            Some(wire) => self.wires[wire].ends[0].is_open = false,
            None => self.feed(node, link, Event::ConnectFailed(conn)),
        }
        self.pump(node);
    }

    fn arrived(&mut self, wire: usize, side: usize, payload: Payload) {
        let link = self.wires[wire].link;
        let end = &mut self.wires[wire].ends[side];
        end.flying -= 1;
        let (node, conn) = (end.node, end.conn);
        let is_same = self.nodes[node].life == end.life;
        if !self.nodes[node].is_alive {
            return;
        }
        if !end.is_open || !is_same {
            if let Payload::Octets(_) = payload {
                self.fly(wire, 1 - side, Payload::Closed);
            }
            return;
        }
        // The answer to our dial may still be on its way; what came before it waits.
        if !self.end(node, link).wires.contains_key(&conn) {
            self.wires[wire].ends[side].flying += 1;
            self.schedule(
                Duration::from_millis(5),
                Happening::Arrival {
                    wire,
                    side,
                    payload,
                },
            );
            return;
        }
        match payload {
            Payload::Closed => self.feed(node, link, Event::Closed(conn)),
            Payload::Octets(octets) => {
                self.wires[wire].ends[side].unread.extend(octets);
                self.read(node, link, wire, side);
            }
        }
        self.pump(node);
        let sender = self.wires[wire].ends[1 - side].node;
        self.pump(sender);
    }

    fn read(&mut self, node: usize, link: usize, wire: usize, side: usize) {
        while self.wires[wire].ends[side].is_open
            && let Some(octets) = self.wires[wire].ends[side].message()
        {
            let end = &self.wires[wire].ends[side];
            let (conn, message) = (end.conn, decode(&octets, &end.params).unwrap());
            self.message(node, link, conn, message);
        }
    }

    fn message(&mut self, node: usize, link: usize, conn: ConnId, message: Message) {
        let received = match &message {
            Message::Open(open) => Received::Open(Box::new(open.clone())),
            Message::Keepalive => Received::Keepalive,
            Message::Notification(notification) => Received::Notification(notification.clone()),
            Message::Update(_) => Received::Update,
            Message::RouteRefresh(_) => Received::RouteRefresh,
        };
        self.feed(node, link, Event::Received(conn, received));
        let peer = PeerId(link as u32);
        if self.end(node, link).up != Some(conn) {
            return;
        }
        match message {
            Message::Update(update) => {
                assert!(update.verdicts.is_empty(), "{:?}", update.verdicts);
                if let Some(family) = update.as_end_of_rib() {
                    self.nodes[node].rib.end_of_rib(peer, family);
                    self.feed(node, link, Event::EndOfRib(conn, family));
                } else {
                    self.nodes[node].rib.update(peer, &update);
                }
            }
            Message::RouteRefresh(refresh) => self.nodes[node].rib.refresh(peer, refresh.family),
            Message::Open(_) | Message::Keepalive | Message::Notification(_) => {}
        }
    }

    fn end(&mut self, node: usize, link: usize) -> &mut crate::node::End {
        self.nodes[node].ends.get_mut(&link).unwrap()
    }

    pub(crate) fn feed(&mut self, node: usize, link: usize, event: Event) {
        let (now, mut out) = (self.now, Vec::new());
        self.end(node, link).fsm.handle(now, event, &mut out);
        for action in out {
            self.act(node, link, action);
        }
    }

    fn act(&mut self, node: usize, link: usize, action: Action) {
        let peer = PeerId(link as u32);
        match action {
            Action::Connect(conn) => {
                self.end(node, link).dialling = Some(conn);
                let (after, life) = (self.latency(), self.nodes[node].life);
                self.schedule(
                    after,
                    Happening::Dial {
                        link,
                        from: node,
                        life,
                        conn,
                    },
                );
            }
            Action::Adopt(conn) => {
                let wire = self.end(node, link).offered.take().unwrap();
                self.wires[wire].ends[1].conn = conn;
                self.end(node, link).wires.insert(conn, wire);
            }
            Action::Refuse => {
                let wire = self.end(node, link).offered.unwrap();
                self.wires[wire].ends[1].is_open = false;
            }
            Action::Send(conn, message) => self.send(node, link, conn, &message),
            Action::Close(conn) => {
                let end = self.end(node, link);
                end.dialling.take_if(|dialled| *dialled == conn);
                let Some(wire) = end.wires.remove(&conn) else {
                    return;
                };
                let side = self.side(wire, node);
                if std::mem::take(&mut self.wires[wire].ends[side].is_open) {
                    self.fly(wire, 1 - side, Payload::Closed);
                }
            }
            Action::Up { conn, negotiated } => {
                self.sessions += 1;
                let wire = self.end(node, link).wires[&conn];
                let side = self.side(wire, node);
                self.wires[wire].ends[side].params = negotiated.params.clone();
                let other = self.other_end(link, node);
                let session = self.nodes[node].session(&self.topology, other, &negotiated);
                self.end(node, link).up = Some(conn);
                self.nodes[node].rib.peer_up(peer, session);
            }
            Action::Down { keep, .. } => {
                self.end(node, link).up = None;
                self.nodes[node].rib.peer_down(peer, &keep);
            }
            Action::Forget(families) => {
                for family in families {
                    self.nodes[node].rib.sweep_stale(peer, family);
                }
            }
            Action::LongLived(families) => self.nodes[node].rib.long_lived(peer, &families),
            Action::Failed { .. } => {}
        }
    }

    fn side(&self, wire: usize, node: usize) -> usize {
        usize::from(self.wires[wire].ends[1].node == node)
    }

    fn send(&mut self, node: usize, link: usize, conn: ConnId, message: &Message) {
        let Some(&wire) = self.end(node, link).wires.get(&conn) else {
            return;
        };
        let side = self.side(wire, node);
        let mut octets = BytesMut::new();
        message
            .encode(&self.wires[wire].ends[side].params, &mut octets)
            .unwrap();
        self.fly(wire, 1 - side, Payload::Octets(octets.to_vec()));
    }

    /// Tells the peers of a node what is new, as far as it fits on the way.
    pub(crate) fn pump(&mut self, node: usize) {
        let speaker = &mut self.nodes[node];
        speaker.take_best_changes();
        speaker.set_alarm(self.now);
        if !speaker.is_alive || speaker.quiet_until > self.now {
            return;
        }
        for link in self.links_of(node) {
            let Some(conn) = self.end(node, link).up else {
                continue;
            };
            let wire = self.end(node, link).wires[&conn];
            let side = self.side(wire, node);
            while self.wires[wire].ends[1 - side].flying < WINDOW {
                let octets = 1 + self.random.below(300) as usize;
                let peer = PeerId(link as u32);
                let pieces = self.nodes[node].rib.next_messages(peer, octets);
                if pieces.is_empty() {
                    break;
                }
                self.fly(wire, 1 - side, Payload::Octets(pieces.concat()));
            }
        }
    }
}
