//! Which peers there are: their tasks, their connections, their configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bgp_fsm::{State, Stop};
use bgp_rib::{PeerCounts, PeerId};
use bgp_wire::notification::subcode::cease;
use bgp_wire::{Family, Notification};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError};
use tokio::time::Instant;

use crate::config::{PeerConfig, PeerKey};
use crate::detection::Told;
use crate::session::{self, Channels, Chunk, Control, Reporter, Session, Settings};
use crate::speaker::end_of_rib::Held;
use crate::speaker::limits::Limits;
use crate::speaker::routes::peer_session;
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
    /// The range that a dynamic peer was accepted from.
    pub(super) range: Option<PeerKey>,
    /// Since when a dynamic peer has had no connection.
    pub(super) lonely: Option<Instant>,
    /// Where an unnumbered peer was found.
    pub(super) neighbour: Option<Ipv6Addr>,
    /// Its number; those of earlier tasks of the same peer differ.
    pub(super) number: u64,
    control: watch::Sender<Control>,
    pub(super) incoming: mpsc::Sender<TcpStream>,
    pub(super) routes: mpsc::Sender<Chunk>,
    pub(super) shared: Arc<session::Shared>,
    /// State of its BFD session.
    pub(super) bfd: Told,
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
    /// What was said of the number of prefixes it sent.
    pub(super) limits: Limits,
    /// Families it is to be asked for again (RFC 2918).
    pub(super) asks: Vec<Family>,
    /// The established session.
    pub(super) up: Option<Box<session::Up>>,
    /// Changes of state.
    pub(super) transitions: u64,
    /// Since when and of which families the established session owes an end-of-RIB.
    pub(super) owes: Option<(Instant, BTreeSet<Family>)>,
    /// End-of-RIB marks that wait for the end of the deferral.
    pub(super) held: Held,
}

impl PeerTask {
    /// The peer's address: of an unnumbered one where it is, or was found.
    pub(super) fn remote(&self) -> IpAddr {
        if !self.config.is_unnumbered() {
            return self.config.address;
        }
        let remote = self.up.as_ref().and_then(|up| up.remote);
        let found = remote.map(|remote| remote.ip());
        let found = found.or(self.neighbour.map(IpAddr::V6));
        found.unwrap_or(self.config.address)
    }

    /// Asks the task to end.
    pub(super) fn stop(&self, stop: Stop) {
        self.control
            .send_modify(|control| control.stop = Some(stop));
    }

    /// Asks for another session in place of the present one.
    pub(super) fn reset(&self) {
        self.control.send_modify(|control| control.resets += 1);
    }

    /// Closes the session with this, or lets it open again.
    pub(super) fn close(&self, with: Option<Notification>) {
        self.control.send_modify(|control| control.closed = with);
    }

    /// OPENs no longer say that we come back from a restart, and what peers keep of us from now
    /// on is forwarded.
    pub(super) fn restarted(&self) {
        self.control.send_modify(|control| {
            control.restarting = false;
            control.forwarding = true;
        });
    }
}

impl Owner {
    pub(super) fn task(&mut self, id: PeerId) -> Option<&mut PeerTask> {
        self.tasks.get_mut(id.0 as usize)?.as_mut()
    }

    /// Starts a peer.
    pub(super) fn add_peer(&mut self, key: &PeerKey, config: &PeerConfig) {
        let id = self.begin_peer(key, config);
        // Who shall not come is not waited for, nor who was not there before.
        let expected = self.options.expected.as_ref();
        let expected = expected.is_none_or(|expected| expected.contains(key));
        if config.shut_down.is_none() && expected {
            self.deferral.added(id);
        }
    }

    /// Starts a peer that no start waits for.
    pub(super) fn begin_peer(&mut self, key: &PeerKey, config: &PeerConfig) -> PeerId {
        let free = self.tasks.iter().position(Option::is_none);
        let index = free.unwrap_or(self.tasks.len());
        if index == self.tasks.len() {
            self.tasks.push(None);
        }
        let id = PeerId(index as u32);
        tracing::info!(peer = %key, address = %config.address, "peer added");
        self.tasks[index] = Some(self.spawn(id, key, config));
        self.peers.insert(key.clone(), id);
        self.detect(id);
        self.news.peer(id);
        id
    }

    fn spawn(&mut self, id: PeerId, key: &PeerKey, config: &PeerConfig) -> PeerTask {
        let neighbour = self.neighbour(config);
        let settings = self.settings(key, config, neighbour);
        let (control, control_in) = watch::channel(Control {
            settings: Arc::new(settings),
            restarting: self.options.restarting && !self.deferral.is_over(),
            closed: None,
            resets: 0,
            forwarding: self.options.forwarding || self.deferral.is_over(),
            stop: None,
        });
        let (incoming, incoming_in) = mpsc::channel(INCOMING);
        let (routes, routes_in) = mpsc::channel(CHUNKS);
        let mut task = PeerTask {
            key: key.clone(),
            config: config.clone(),
            range: None,
            lonely: None,
            neighbour,
            number: 0,
            control,
            incoming,
            routes,
            shared: Arc::default(),
            bfd: Told::default(),
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
            limits: Limits::default(),
            asks: Vec::new(),
            up: None,
            transitions: 0,
            owes: None,
            held: Held::default(),
        };
        let channels = Channels {
            control: control_in,
            incoming: incoming_in,
            routes: routes_in,
            reports: self.reports.clone(),
            shared: task.shared.clone(),
            bfd: task.bfd.subscribe(),
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
        self.detection.set(key, None);
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

    fn settings(
        &self,
        key: &PeerKey,
        config: &PeerConfig,
        neighbour: Option<Ipv6Addr>,
    ) -> Settings {
        let speaker = (&self.desired.local, &self.options);
        Settings::new(key, speaker, config, neighbour)
    }

    /// Tells the task of a peer what it shall be, if that has changed. Whether a session that is
    /// up goes on.
    pub(super) fn update_settings(&mut self, id: PeerId) -> bool {
        self.detect(id);
        let Some(task) = self.tasks.get(id.0 as usize).and_then(Option::as_ref) else {
            return false;
        };
        let settings = self.settings(&task.key, &task.config, task.neighbour);
        let is_same = task.control.borrow().settings.farewell(&settings).is_none();
        if *task.control.borrow().settings != settings {
            let settings = Arc::new(settings);
            task.control
                .send_modify(|control| control.settings = settings);
            self.news.peer(id);
        }
        is_same
    }

    /// Changes a peer. Its task sees to a new session where the change needs one.
    pub(super) fn change_peer(&mut self, id: PeerId, old: &PeerConfig, new: &PeerConfig) {
        let Some(task) = self.task(id) else {
            return;
        };
        task.config = new.clone();
        if old.max_prefixes != new.max_prefixes {
            task.reopen();
        }
        if new.shut_down.is_none() && old.shut_down.is_some() {
            task.last_error = None;
        }
        let is_same = self.update_settings(id);
        let task = self.tasks.get(id.0 as usize).and_then(Option::as_ref);
        let up = task.and_then(|task| task.up.as_ref()).filter(|_| is_same);
        if let Some(up) = up {
            let session = peer_session(&self.desired.local, new, up);
            self.rib.set_session(id, session);
        } else {
            // Paths from the peer may outlive its session.
            let (import, export) = (new.import.clone(), new.export.clone());
            self.rib.set_policies(id, import, export);
        }
        if new.shut_down.is_some() {
            self.deferral.removed(id);
        }
        self.check_limits(id);
        self.news.routes();
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
            self.retired += &task.shared.counters.read();
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
            bfd: task.bfd.subscribe(),
        };
        let started = self.start_session(id, channels, Some(AFTER_PANIC));
        if let Some(task) = self.task(id) {
            task.number = started;
        }
        self.news.peer(id);
    }
}
