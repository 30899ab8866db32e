//! BFD sessions of peers (RFC 5880, RFC 5881, RFC 5883), on a thread of their own: a failure must
//! be noticed, and our own packets must go out, while a million routes are processed.
//!
//! The owner of the peers says which sessions there shall be; each tells its state to the task of
//! its peer directly, so that nothing busy stands between a failure and its consequence.

mod runner;
mod socket;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use bfd::{Config, Diagnostic, Hops, State};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::config::{Local, PeerConfig, PeerKey, Ttl};
use crate::event::BfdInfo;

/// What the neighbours of sessions that end may have to be told may take this long.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the task of a peer and those who ask may know of its session; `None`: there is none.
pub(crate) type Told = watch::Sender<Option<Status>>;

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) since: SystemTime,
    pub(crate) remote_state: State,
    pub(crate) diagnostic: Diagnostic,
    pub(crate) remote_diagnostic: Diagnostic,
    /// 0: none yet.
    pub(crate) discriminator: u32,
    /// 0: the neighbour is not heard.
    pub(crate) remote_discriminator: u32,
    pub(crate) interval: Option<Duration>,
    pub(crate) detection_time: Option<Duration>,
    pub(crate) transitions: u64,
    /// How often the neighbour was lost.
    pub(crate) failures: u64,
    /// Its packets do not depend on its control plane, as it last said.
    pub(crate) independent: bool,
    pub(crate) problem: Option<Problem>,
}

/// What keeps a session from working; the numbers are those of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Listen { port: u16, errno: i32 },
    Interface { errno: i32 },
    Socket { errno: i32 },
    Send { errno: i32 },
}

impl Status {
    pub(crate) fn new() -> Self {
        Status {
            state: State::Down,
            since: SystemTime::now(),
            remote_state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote_diagnostic: Diagnostic::NONE,
            discriminator: 0,
            remote_discriminator: 0,
            interval: None,
            detection_time: None,
            transitions: 0,
            failures: 0,
            independent: false,
            problem: None,
        }
    }

    /// The peer can be reached, or its operator has taken BFD down, which says nothing about
    /// that (RFC 5882 §3.2).
    pub(crate) fn lets_through(&self) -> bool {
        self.state == State::Up || self.remote_state == State::AdminDown
    }

    /// For people.
    pub(crate) fn info(&self) -> BfdInfo {
        BfdInfo {
            state: self.state,
            since: self.since,
            remote_state: self.remote_state,
            diagnostic: self.diagnostic.to_string(),
            remote_diagnostic: self.remote_diagnostic.to_string(),
            discriminator: self.discriminator,
            remote_discriminator: self.remote_discriminator,
            interval: self.interval,
            detection_time: self.detection_time,
            transitions: self.transitions,
            failures: self.failures,
            problem: self.problem.map(Problem::text),
        }
    }
}

impl Problem {
    fn text(self) -> String {
        let error = |errno: i32| std::io::Error::from_raw_os_error(errno);
        match self {
            Problem::Listen { port, errno } => format!(
                "cannot listen on UDP port {port}, does another BFD daemon run? {}",
                error(errno)
            ),
            Problem::Interface { errno } => format!("no such interface: {}", error(errno)),
            Problem::Socket { errno } => format!("cannot make a socket: {}", error(errno)),
            Problem::Send { errno } => format!("cannot send: {}", error(errno)),
        }
    }
}

/// A session that shall be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    way: Way,
    config: Config,
    told: Told,
}

/// The two ends of a session, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    remote: IpAddr,
    local: Option<IpAddr>,
    interface: Option<Arc<str>>,
    hops: Hops,
}

impl Wanted {
    /// The session a peer asks for, if it does and is known to be at `remote`.
    pub(crate) fn of(
        peer: &PeerConfig,
        remote: IpAddr,
        local: &Local,
        told: &Told,
    ) -> Option<Wanted> {
        let bfd = peer.bfd.filter(|_| peer.shut_down.is_none())?;
        if remote.is_unspecified() {
            return None;
        }
        let internal = peer.local_as.unwrap_or(local.asn) == peer.remote_as;
        let micros = |millis: u32| millis.saturating_mul(1000);
        let hops = match peer.ttl {
            _ if bfd.on_link => Hops::One,
            Ttl::Default if internal => Hops::Either,
            Ttl::Default | Ttl::Multihop(0 | 1) | Ttl::Security { hops: 0 | 1 } => Hops::One,
            Ttl::Multihop(_) => Hops::Many { least_ttl: 1 },
            Ttl::Security { hops } => Hops::Many {
                least_ttl: u8::MAX - hops + 1,
            },
        };
        Some(Wanted {
            way: Way {
                remote: remote.to_canonical(),
                local: peer.source,
                interface: peer.interface.as_deref().map(Arc::from),
                hops,
            },
            config: Config {
                min_tx_micros: micros(bfd.min_tx_ms),
                min_rx_micros: micros(bfd.min_rx_ms),
                multiplier: bfd.multiplier,
            },
            told: told.clone(),
        })
    }
}

impl Wanted {
    fn is_like(&self, other: &Wanted) -> bool {
        (&self.way, self.config) == (&other.way, other.config)
            && self.told.same_channel(&other.told)
    }
}

type All = BTreeMap<PeerKey, Wanted>;

/// The sessions there shall be, seen by the owner of the peers.
#[derive(Debug)]
pub(crate) struct Detection {
    wanted: watch::Sender<All>,
    /// Tells the end of the thread, which starts with the first session.
    running: Option<oneshot::Receiver<()>>,
}

impl Detection {
    pub(crate) fn new() -> Self {
        Detection {
            wanted: watch::Sender::new(All::new()),
            running: None,
        }
    }

    /// A session starts, changes or ends.
    pub(crate) fn set(&mut self, key: &PeerKey, wanted: Option<Wanted>) {
        if let Some(wanted) = wanted {
            self.wanted.send_if_modified(|all| {
                let news = all.get(key).is_none_or(|old| !old.is_like(&wanted));
                if news {
                    all.insert(key.clone(), wanted);
                }
                news
            });
            self.start();
        } else if self.wanted.borrow().contains_key(key) {
            self.wanted.send_modify(|all| drop(all.remove(key)));
        }
    }

    /// There is, or shall be, a session with this peer.
    pub(crate) fn has(&self, key: &PeerKey) -> bool {
        self.wanted.borrow().contains_key(key)
    }

    fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (ended, running) = oneshot::channel();
        let wanted = self.wanted.subscribe();
        let work = move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(runner::run(wanted)),
                Err(error) => tracing::error!(%error, "BFD cannot start"),
            }
            // Nobody may be waiting.
            let _nobody = ended.send(());
        };
        match thread::Builder::new()
            .name("bgp-bfd".to_owned())
            .spawn(work)
        {
            Ok(_) => self.running = Some(running),
            Err(error) => tracing::error!(%error, "BFD cannot start"),
        }
    }

    /// Ends all sessions; their neighbours are told that this is no failure.
    pub(crate) async fn end(self) {
        drop(self.wanted);
        if let Some(running) = self.running {
            // Late or gone: either way there is nothing more to wait for.
            let _ended = tokio::time::timeout(FAREWELL, running).await;
        }
    }
}
