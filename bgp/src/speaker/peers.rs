//! Which peers there are: their tasks, their connections, their configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bgp_fsm::{State, Stop};
use bgp_rib::{PeerCounts, PeerId};
use bgp_wire::notification::subcode::cease;
use bgp_wire::{Family, Notification};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError};

use crate::config::{Password, PeerConfig, PeerKey};
use crate::listener::Accepted;
use crate::session::{self, Channels, Chunk, Control, Reporter, Session, Settings};
use crate::speaker::end_of_rib::Held;
use crate::speaker::{Owner, random};

const INCOMING: usize = 4;
const CHUNKS: usize = 2;

/// A session that failed with a panic is tried again after this time.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// One peer's task and what is known of it.
#[derive(Debug)]
pub(super) struct PeerTask {
    pub(super) key: PeerKey,
    pub(super) config: PeerConfig,
    /// Its number; those of earlier tasks of the same peer differ.
    pub(super) number: u64,
    control: watch::Sender<Control>,
    incoming: mpsc::Sender<TcpStream>,
    pub(super) routes: mpsc::Sender<Chunk>,
    pub(super) shared: Arc<session::Shared>,
    /// No longer configured; the task is about to end.
    pub(super) leaving: bool,
    pub(super) state: State,
    pub(super) since: SystemTime,
    /// When the session came up or was lost, or the peer was added.
    pub(super) up_down: SystemTime,
    pub(super) flaps: u64,
    /// Faulty attributes received (RFC 7606).
    pub(super) malformed: u64,
    pub(super) last_error: Option<String>,
    /// The last malformed attribute of this session.
    pub(super) fault: Option<String>,
    pub(super) stale: Vec<Family>,
    /// Those of them whose restart time is over (RFC 9494).
    pub(super) long_lived: Vec<Family>,
    /// Numbers of routes that the outside has been told.
    pub(super) told: Vec<(Family, PeerCounts)>,
    /// The established session.
    pub(super) up: Option<Box<session::Up>>,
    /// End-of-RIB marks that wait for the end of the deferral.
    pub(super) held: Held,
}

impl PeerTask {
    /// Asks the task to end.
    pub(super) fn stop(&self, stop: Stop) {
        self.control
            .send_modify(|control| control.stop = Some(stop));
    }

    /// OPENs no longer say that we come back from a restart.
    pub(super) fn restarted(&self) {
        self.control
            .send_modify(|control| control.restarting = false);
    }
}

impl Owner {
    pub(super) fn task(&mut self, id: PeerId) -> Option<&mut PeerTask> {
        self.tasks.get_mut(id.0 as usize)?.as_mut()
    }

    /// Starts a peer.
    pub(super) fn add_peer(&mut self, key: &PeerKey, config: &PeerConfig) {
        let free = self.tasks.iter().position(Option::is_none);
        let index = free.unwrap_or(self.tasks.len());
        if index == self.tasks.len() {
            self.tasks.push(None);
        }
        let id = PeerId(index as u32);
        tracing::info!(peer = %key, address = %config.address, "peer added");
        self.tasks[index] = Some(self.spawn(id, key, config));
        self.peers.insert(key.clone(), id);
        self.deferral.added(id);
        self.news.peer(id);
    }

    fn spawn(&mut self, id: PeerId, key: &PeerKey, config: &PeerConfig) -> PeerTask {
        let settings = Settings::new(key, &self.desired.local, &self.options, config);
        let (control, control_in) = watch::channel(Control {
            settings: Arc::new(settings),
            restarting: self.options.restarting && !self.deferral.is_over(),
            stop: None,
        });
        let (incoming, incoming_in) = mpsc::channel(INCOMING);
        let (routes, routes_in) = mpsc::channel(CHUNKS);
        let mut task = PeerTask {
            key: key.clone(),
            config: config.clone(),
            number: 0,
            control,
            incoming,
            routes,
            shared: Arc::default(),
            leaving: false,
            state: State::Idle,
            since: SystemTime::now(),
            up_down: SystemTime::now(),
            flaps: 0,
            malformed: 0,
            last_error: None,
            fault: None,
            stale: Vec::new(),
            long_lived: Vec::new(),
            told: Vec::new(),
            up: None,
            held: Held::default(),
        };
        let channels = Channels {
            control: control_in,
            incoming: incoming_in,
            routes: routes_in,
            reports: self.reports.clone(),
            shared: task.shared.clone(),
        };
        task.number = self.start_session(id, channels, None);
        task
    }

    fn start_session(&mut self, id: PeerId, channels: Channels, wait: Option<Duration>) -> u64 {
        self.newest += 1;
        let (decode, number) = (self.decode, self.newest);
        let reporter = Reporter {
            peer: id,
            task: number,
        };
        let task = async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            Session::new(reporter, channels, decode, random())
                .run()
                .await;
        };
        let spawned = self.sessions.spawn_on(task, &self.runtime).id();
        self.numbers.insert(spawned, number);
        number
    }

    /// Ends a peer that is no longer configured, or that must start anew.
    pub(super) fn remove_peer(&mut self, key: &PeerKey, deconfigured: bool) {
        let Some(id) = self.peers.remove(key) else {
            return;
        };
        self.session_down(id, &[]);
        self.deferral.removed(id);
        let subcode = if deconfigured {
            tracing::info!(peer = %key, "peer removed");
            self.news.peer_gone(key.clone());
            cease::PEER_DECONFIGURED
        } else {
            cease::CONFIGURATION_CHANGE
        };
        if let Some(task) = self.task(id) {
            task.leaving = true;
            task.stop(Stop::Notify(Notification::cease(subcode)));
        }
    }

    /// Changes a peer; most changes need a new session, which its task sees to.
    pub(super) fn change_peer(&mut self, id: PeerId, old: &PeerConfig, new: &PeerConfig) {
        let local = &self.desired.local;
        let Some(task) = self.tasks.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        task.config = new.clone();
        let settings = Settings::new(&task.key, local, &self.options, new);
        if *task.control.borrow().settings != settings {
            tracing::info!(peer = %task.key, "peer changed, its session starts anew");
            let settings = Arc::new(settings);
            task.control
                .send_modify(|control| control.settings = settings);
            self.news.peer(id);
        }
        if old.add_path_limit != new.add_path_limit {
            self.rib.set_add_path_limit(id, new.add_path_limit);
        }
        if (&old.import, &old.export) != (&new.import, &new.export) {
            let (import, export) = (new.import.clone(), new.export.clone());
            self.rib.set_policies(id, import, export);
            self.news.routes();
        }
    }

    /// A session's task ended: as asked, or by a panic, which must not take the others with it.
    pub(super) fn session_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let (spawned, panicked) = match ended {
            Ok((task, ())) => (task, None),
            // The runtime of the sessions is shut down, and so are we.
            Err(error) if error.is_cancelled() => return,
            Err(error) => (error.id(), Some(error)),
        };
        let Some(number) = self.numbers.remove(&spawned) else {
            return;
        };
        let known = |task: &Option<PeerTask>| task.as_ref().is_some_and(|t| t.number == number);
        let Some(index) = self.tasks.iter().position(known) else {
            return;
        };
        let id = PeerId(index as u32);
        let Some(task) = self.tasks[index].take() else {
            return;
        };
        if task.leaving {
            self.rib.peer_down(id, &[]);
            return;
        }
        tracing::error!(peer = %task.key, error = ?panicked, "session failed, starts anew in 30 s");
        self.tasks[index] = Some(task);
        self.session_down(id, &[]);
        self.restart_session(id);
    }

    fn restart_session(&mut self, id: PeerId) {
        let reports = self.reports.clone();
        let Some(task) = self.task(id) else { return };
        let (incoming, incoming_in) = mpsc::channel(INCOMING);
        let (routes, routes_in) = mpsc::channel(CHUNKS);
        task.incoming = incoming;
        task.routes = routes;
        task.state = State::Idle;
        task.since = SystemTime::now();
        task.last_error = Some("the session failed inside; this is a bug".to_owned());
        task.stale.clear();
        task.long_lived.clear();
        let channels = Channels {
            control: task.control.subscribe(),
            incoming: incoming_in,
            routes: routes_in,
            reports,
            shared: task.shared.clone(),
        };
        let started = self.start_session(id, channels, Some(AFTER_PANIC));
        if let Some(task) = self.task(id) {
            task.number = started;
        }
        self.news.peer(id);
    }

    /// Gives an accepted connection to the peer with its address; among several the one that has
    /// no session yet.
    pub(super) fn match_to_peer(&mut self, accepted: Accepted) {
        let Accepted { stream, from } = accepted;
        let candidates = self
            .peers
            .values()
            .filter_map(|id| self.tasks[id.0 as usize].as_ref());
        let candidates = candidates.filter(|task| task.config.address.to_canonical() == from);
        let Some(task) = candidates.min_by_key(|task| task.state) else {
            self.closed_unmatched(&format!("{from} is no peer's address"));
            return;
        };
        if task.incoming.try_send(stream).is_err() {
            let reason = format!("{} makes too many at once", task.key);
            self.closed_unmatched(&reason);
        }
    }

    /// Counts a connection nobody could take; a scanner must not fill the log.
    fn closed_unmatched(&mut self, reason: &str) {
        self.strangers += 1;
        if self.strangers.is_power_of_two() {
            tracing::warn!(reason, count = self.strangers, "connection closed");
        }
    }

    /// Has every listening socket expect the signatures of exactly the peers with a password.
    pub(super) fn expect_signatures(&mut self) {
        let tasks = self.tasks.iter().flatten().filter(|task| !task.leaving);
        let wanted: BTreeMap<IpAddr, &Password> = tasks
            .filter_map(|task| Some((task.config.address, task.config.password.as_ref()?)))
            .collect();
        for (address, listener) in &self.listeners {
            let known = self.signed.keys().filter(|(at, _)| at == address);
            let known: BTreeSet<IpAddr> = known.map(|(_, peer)| *peer).collect();
            for peer in known
                .into_iter()
                .chain(wanted.keys().copied())
                .collect::<BTreeSet<_>>()
            {
                let password = wanted.get(&peer).copied();
                if self.signed.get(&(*address, peer)) == password {
                    continue;
                }
                match (listener.expect_signature(peer, password), password) {
                    (Ok(()), Some(password)) => {
                        self.signed.insert((*address, peer), password.clone());
                    }
                    (Ok(()), None) => {
                        self.signed.remove(&(*address, peer));
                    }
                    (Err(error), _) => {
                        tracing::error!(%peer, %error, "cannot set the TCP MD5 password");
                    }
                }
            }
        }
    }
}
