//! The owner of the routes and of everything that peers share.
//!
//! It runs on a thread of its own: deciding about a full burst takes longer than a session may
//! wait for its timers, and a busy tokio worker looks at timers only now and then.
//!
//! It never waits for a session: connections and messages that do not fit are left in the kernel
//! or in the RIB. Sessions wait for it, and the outside may take its news as slowly as it likes.
//!
//! | channel | capacity | when full |
//! |---|---|---|
//! | reports of all sessions | 64 of what 16 KiB say | sessions stop reading, TCP pushes back |
//! | reports of routes of one session | 8 | it stops reading; the others go on |
//! | routes to a session | 2 chunks of 64 KiB | the rest stays in the RIB, each prefix once |
//! | accepted connections | 64 | the kernel's backlog holds them |
//! | accepted connections of one peer | 4 | more are closed and counted |
//! | dynamic peers | the limit of their range | connections are closed and counted |
//! | neighbours found on links | 16 | who looks for them waits |
//! | questions | 64 | who asks waits |
//! | news | 16 | merged per prefix in the RIB, per peer here |

mod accept;
mod answers;
mod deferral;
mod detect;
mod dynamic;
mod end_of_rib;
mod limits;
mod news;
mod next_hops;
mod pace;
mod peers;
mod questions;
mod refresh;
mod routes;
mod signatures;
mod unnumbered;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bgp_fsm::Stop;
use bgp_rib::{PeerId, Reachability, Rib};
use bgp_wire::Notification;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::config::{Desired, Options, PeerKey};
use crate::detection::Detection;
use crate::discovery::Discovered;
use crate::event::{Event, NextHop, Shutdown};
use crate::handle::Command;
use crate::listener::{Accepted, Listener};
use crate::metrics::Convergence;
use crate::session::{Counted, Decode, Report, Reporter};

use deferral::Deferral;
use news::News;
use next_hops::NextHops;
use pace::Pace;
use peers::PeerTask;
use refresh::Refreshes;
use signatures::Signatures;
use unnumbered::WatchedLinks;

const REPORTS: usize = 64;
const ACCEPTED: usize = 64;
const DISCOVERED: usize = 16;

/// Reports are applied this long before anything else is looked at.
const BURST: Duration = Duration::from_millis(5);

/// Wait before listening on an address again that could not be listened on.
const LISTEN_RETRY: Duration = Duration::from_secs(2);

/// What sessions may take to close their connections in the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the outside gives to the task.
pub(crate) struct Inputs {
    pub(crate) desired: watch::Receiver<Desired>,
    pub(crate) next_hops: watch::Receiver<Arc<BTreeMap<NextHop, Reachability>>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Where sessions, listeners and links tell the task what happens.
type Senders = (
    mpsc::Sender<(Reporter, Report)>,
    mpsc::Sender<Accepted>,
    mpsc::Sender<Discovered>,
);

/// Everything the task owns.
pub(crate) struct Owner {
    options: Options,
    decode: Decode,
    /// Where sessions and listeners run.
    runtime: Handle,
    desired: Desired,
    rib: Rib,
    /// Configured peers by name.
    peers: BTreeMap<PeerKey, PeerId>,
    /// All peers whose task runs, those about to end included.
    tasks: Vec<Option<PeerTask>>,
    sessions: JoinSet<()>,
    /// Number of the newest task.
    newest: u64,
    numbers: HashMap<task::Id, u64>,
    reports: mpsc::Sender<(Reporter, Report)>,
    listeners: BTreeMap<SocketAddr, Listener>,
    listen_again: Option<Instant>,
    /// Addresses that cannot be listened on, said once.
    unheard: BTreeSet<SocketAddr>,
    accepted: mpsc::Sender<Accepted>,
    deferral: Deferral,
    detection: Detection,
    /// Until then a BFD session waits for the BGP session of its peer.
    detect_at: Option<Instant>,
    refreshes: Refreshes,
    news: News,
    pace: Pace,
    /// Sessions that are established.
    established: usize,
    signed: Signatures,
    /// Interfaces of link-local sessions, numbered for the RIB.
    links: Vec<Arc<str>>,
    links_watched: WatchedLinks,
    /// Connections from addresses that are no peer's, or that nobody could take.
    strangers: u64,
    /// Messages of peers that are gone.
    retired: Counted,
    next_hops: NextHops,
    convergence: Convergence,
}

/// Starts the owner; its sessions run on the current tokio runtime.
pub(crate) fn start(inputs: Inputs, options: Options, decode: Decode) {
    let sessions = Handle::current();
    let owner = move || {
        let runtime = Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(inputs, options, decode, sessions)),
            Err(error) => tracing::error!(%error, "the speaker cannot start"),
        }
    };
    // Whoever waits for news learns of a failure by their end.
    if let Err(error) = thread::Builder::new()
        .name("bgp-routes".to_owned())
        .spawn(owner)
    {
        tracing::error!(%error, "the speaker cannot start");
    }
}

/// Runs the speaker until it is told to end.
async fn run(inputs: Inputs, options: Options, decode: Decode, runtime: Handle) {
    let Inputs {
        mut desired,
        mut next_hops,
        mut commands,
        events,
    } = inputs;
    let (reports, mut reports_in) = mpsc::channel(REPORTS);
    let (accepted, mut accepted_in) = mpsc::channel(ACCEPTED);
    let (discovered, mut discovered_in) = mpsc::channel(DISCOVERED);
    let first = desired.borrow_and_update().clone();
    let mut owner = Owner::new(
        first,
        options,
        (decode, runtime),
        (reports, accepted, discovered),
    );
    owner.start();
    let (how, done) = loop {
        owner.settle();
        let timer = owner.timer();
        // What is not told to peers yet is not told to the outside either: asking what it is
        // would end the burst.
        let has_news = owner.pace.due().is_none() && owner.has_news();
        tokio::select! {
            // In this order: who asks after `set` sees what it did, and reports, of which there
            // may be no end, come last.
            biased;
            // An error means that the last handle is gone; `commands` says so too.
            Ok(()) = desired.changed() => {
                let desired = desired.borrow_and_update().clone();
                owner.apply(desired).await;
                owner.changed();
            }
            Ok(()) = next_hops.changed() => {
                let said = next_hops.borrow_and_update().clone();
                owner.set_next_hops(said);
                owner.changed();
            }
            command = commands.recv() => match command {
                Some(Command::Shutdown(how, done)) => break (how, Some(done)),
                Some(Command::Ask(question)) => {
                    question.answer(&mut owner);
                    // Who asks without end must not keep peers from being heard.
                    if let Ok(report) = reports_in.try_recv() {
                        owner.burst(report, &mut reports_in);
                    }
                }
                None => break (Shutdown::Restart, None),
            },
            () = timer => {}
            Some(ended) = owner.sessions.join_next_with_id() => {
                owner.session_ended(ended);
                owner.changed();
            }
            Some(accepted) = accepted_in.recv() => owner.match_to_peer(accepted),
            Some(discovered) = discovered_in.recv() => owner.discovered(&discovered),
            Ok(permit) = events.reserve(), if has_news => {
                if let Some(event) = owner.next_news() {
                    permit.send(event);
                }
            }
            Some(report) = reports_in.recv() => owner.burst(report, &mut reports_in),
        }
    };
    owner.farewell(how, reports_in).await;
    drop(events);
    if let Some(done) = done {
        // Whoever asked may have gone.
        let _gone = done.send(());
    }
}

impl Owner {
    fn new(
        desired: Desired,
        options: Options,
        (decode, runtime): (Decode, Handle),
        (reports, accepted, discovered): Senders,
    ) -> Self {
        let now = Instant::now();
        let deferral = Deferral::new(now, options.settle, options.deferral);
        let restarting = options.restarting;
        Owner {
            rib: Rib::new(routes::rib_config(&desired.local, &options)),
            options,
            decode,
            runtime,
            desired,
            peers: BTreeMap::new(),
            tasks: Vec::new(),
            sessions: JoinSet::new(),
            newest: 0,
            numbers: HashMap::new(),
            reports,
            listeners: BTreeMap::new(),
            listen_again: None,
            unheard: BTreeSet::new(),
            accepted,
            deferral,
            detection: Detection::new(),
            detect_at: restarting.then(|| now + detect::WAIT),
            refreshes: Refreshes::default(),
            news: News::default(),
            pace: Pace::default(),
            established: 0,
            signed: Signatures::default(),
            links: Vec::new(),
            links_watched: WatchedLinks::new(discovered),
            strangers: 0,
            retired: Counted::default(),
            next_hops: NextHops::default(),
            convergence: Convergence::default(),
        }
    }

    fn start(&mut self) {
        let desired = self.desired.clone();
        self.originate(&desired.originate);
        for (key, config) in &desired.peers {
            self.add_peer(key, config);
        }
        self.watch_links();
        self.listen();
        self.changed();
    }

    /// Replaces what shall be, touching only what differs.
    async fn apply(&mut self, desired: Desired) {
        let old = std::mem::replace(&mut self.desired, desired.clone());
        let anew = routes::needs_new_rib(&old.local, &desired.local);
        let gone = self.peers.keys().filter(|key| anew || !self.stays(key));
        for key in gone.cloned().collect::<Vec<_>>() {
            let told = !desired.peers.contains_key(&key);
            self.remove_peer(&key, told);
        }
        if anew {
            tracing::info!("own AS, router id or a rule of choice changed: everything starts anew");
            if self.options.best_paths {
                self.news.orphan(&mut self.rib);
            }
            self.rib = Rib::new(routes::rib_config(&desired.local, &self.options));
            self.begin_next_hops();
            self.originate(&desired.originate);
        } else {
            self.change_originated(&old.originate, &desired.originate);
            self.rib.set_cluster_id(desired.local.cluster_id);
        }
        for (key, config) in &desired.peers {
            match (self.peers.get(key), old.peers.get(key)) {
                (Some(id), Some(known)) if known != config || old.local != desired.local => {
                    self.change_peer(*id, known, config);
                }
                (Some(_), Some(_)) => {}
                (_, None) | (None, Some(_)) => self.add_peer(key, config),
            }
        }
        self.change_dynamic();
        self.watch_links();
        let unwanted = |address: &SocketAddr| !desired.local.listen.contains(address);
        let unwanted: Vec<SocketAddr> = self.listeners.keys().copied().filter(unwanted).collect();
        for address in unwanted {
            if let Some(listener) = self.listeners.remove(&address) {
                listener.stop().await;
                self.signed.forget(address);
            }
        }
        self.listen();
    }

    /// A peer that runs is still wanted, with whatever settings.
    fn stays(&self, key: &PeerKey) -> bool {
        let id = self.peers.get(key);
        let task = id.and_then(|id| self.tasks.get(id.0 as usize)?.as_ref());
        match task.and_then(|task| task.range.as_ref()) {
            Some(_) => self.dynamic_config(key).is_some(),
            None => self.desired.peers.contains_key(key),
        }
    }

    /// Listens where it shall and does not yet.
    fn listen(&mut self) {
        self.listen_again = None;
        // Sockets belong to the runtime that is current when they are made.
        let runtime = self.runtime.clone();
        let _current = runtime.enter();
        for address in &self.desired.local.listen {
            if self.listeners.contains_key(address) {
                continue;
            }
            match Listener::start(*address, self.accepted.clone()) {
                Ok(listener) => {
                    tracing::info!(%address, "listening");
                    self.unheard.remove(address);
                    self.listeners.insert(*address, listener);
                }
                Err(error) => {
                    if self.unheard.insert(*address) {
                        tracing::warn!(%address, %error, "cannot listen, will try again");
                    }
                    self.listen_again = Some(Instant::now() + LISTEN_RETRY);
                }
            }
        }
        self.expect_signatures();
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let now = Instant::now();
        let deadlines = [
            self.listen_again,
            self.deferral.deadline(now),
            self.detect_at,
            self.news.count_at(),
            self.pace.due(),
            self.forget_at(),
            self.refreshes.deadline(),
            self.reopen_at(),
        ];
        let next = deadlines.into_iter().flatten().min();
        async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Does what is due after any event.
    fn settle(&mut self) {
        let now = Instant::now();
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen();
        }
        if self.deferral.ends(now) {
            self.converged();
            self.changed();
        }
        self.detect_all(now);
        self.end_refreshes(now);
        self.reopen(now);
        if self.pace.due().is_some_and(|due| due <= now) {
            self.tell_peers();
            self.pace.told(now);
        }
        self.forget_dynamic(now);
        self.count(now);
    }

    /// Peers may have to be told something.
    fn changed(&mut self) {
        self.pace.changed(Instant::now(), self.established);
    }

    /// Applies a report and those that wait behind it.
    fn burst(&mut self, first: (Reporter, Report), more: &mut mpsc::Receiver<(Reporter, Report)>) {
        let begun = Instant::now();
        let mut next = Some(first);
        while let Some((reporter, report)) = next {
            self.report(reporter, report);
            next = None;
            if begun.elapsed() < BURST {
                next = more.try_recv().ok();
            }
        }
        self.pace.more(!more.is_empty());
    }

    /// Ends all sessions.
    async fn farewell(mut self, how: Shutdown, reports: mpsc::Receiver<(Reporter, Report)>) {
        tracing::info!(?how, "speaker ends");
        // Sessions may still report; nobody listens.
        drop(reports);
        let stop = match how {
            Shutdown::Restart => Stop::Restart,
            Shutdown::Cease { text } => Stop::Notify(Notification::administrative_shutdown(&text)),
        };
        // Before the connections close: what follows is no failure.
        self.detection.end().await;
        for (_, listener) in std::mem::take(&mut self.listeners) {
            listener.stop().await;
        }
        for task in self.tasks.iter().flatten() {
            task.stop(stop.clone());
        }
        let all = async { while self.sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("some sessions did not end in time");
            self.sessions.shutdown().await;
        }
    }
}

/// A number nobody can predict.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
