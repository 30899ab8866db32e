//! The outside of a running speaker.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp_api::{
    Advertised, Cleared, Page, Path, Peer, PeerDetail, Route, RouteAnswer, Summary, Why,
};
use bgp_rib::Reachability;
use bgp_wire::Prefix;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Desired, Options};
use crate::event::{Event, NextHop, PeerInfo, Shutdown, SpeakerInfo};
use crate::metrics::Numbers;
use crate::session::Decode;
use crate::speaker::{self, Owner};

/// Questions wait here while the owner of the routes is busy; who asks more waits.
const COMMANDS: usize = 64;

/// Batches of news; while the outside takes none, changes are merged per prefix in the RIB.
const EVENTS: usize = 16;

/// Prefixes per page at most: a few milliseconds of the owner of the routes.
pub(crate) const LONGEST_PAGE: usize = 256;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The speaker has ended.
    Ended,
    /// No peer has this name or address.
    NoPeer(String),
    /// This is neither a prefix nor an address; and why.
    NoPrefix(String, String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Ended => f.write_str("the speaker has ended"),
            Unanswered::NoPeer(name) => {
                write!(
                    f,
                    "no peer has the name or address {name}; `tortie bgp peers` lists them"
                )
            }
            Unanswered::NoPrefix(text, why) => {
                write!(f, "{text} is neither a prefix nor an address: {why}")
            }
        }
    }
}

/// A prefix, or an address as the longest prefix that holds it; true for the former.
fn parse(asked: &str) -> Result<(Prefix, bool), Unanswered> {
    if let Ok(address) = asked.parse::<IpAddr>() {
        let length = if address.is_ipv4() { 32 } else { 128 };
        if let Some(prefix) = Prefix::new(address, length) {
            return Ok((prefix, false));
        }
    }
    let parsed: Result<Prefix, _> = asked.parse();
    match parsed {
        Ok(prefix) => Ok((prefix, true)),
        Err(error) => Err(Unanswered::NoPrefix(asked.to_owned(), error.to_string())),
    }
}

/// The BGP speaker.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Starts a speaker: sessions on the current tokio runtime, the routes on a thread of their
    /// own. The receiver ends when the speaker does, which without [`Handle::shutdown`] means that
    /// it failed.
    #[must_use]
    pub fn start(desired: Desired, options: Options) -> (Handle, mpsc::Receiver<Event>) {
        Speaker::start_with(desired, options, bgp_wire::decode)
    }

    pub(crate) fn start_with(
        desired: Desired,
        options: Options,
        decode: Decode,
    ) -> (Handle, mpsc::Receiver<Event>) {
        let (desired, desired_receiver) = watch::channel(desired);
        let (next_hops, next_hops_receiver) = watch::channel(Arc::default());
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (events, event_receiver) = mpsc::channel(EVENTS);
        let inputs = speaker::Inputs {
            desired: desired_receiver,
            next_hops: next_hops_receiver,
            commands: command_receiver,
            events,
        };
        speaker::start(inputs, options, decode);
        let handle = Handle {
            desired,
            next_hops,
            commands,
        };
        (handle, event_receiver)
    }
}

/// How a peer is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// Its routes are asked for, if it understands that (RFC 2918), and ours are told again. The
    /// session goes on.
    Soft,
    /// The session ends with Cease, Administrative Reset, and another one begins. A peer whose
    /// session is closed because it sent too many prefixes may come back.
    Hard,
}

/// A running speaker. Clones speak to the same one; it ends when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    desired: watch::Sender<Desired>,
    next_hops: watch::Sender<Arc<BTreeMap<NextHop, Reachability>>>,
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Replaces what shall be. The newest wins; what is between two calls may never happen.
    pub fn set(&self, desired: Desired) {
        self.desired.send_replace(desired);
    }

    /// Says what is known about the way to next hops, as a whole: every other one counts as
    /// reachable at cost 0. The newest wins.
    pub fn set_next_hops(&self, known: Arc<BTreeMap<NextHop, Reachability>>) {
        self.next_hops.send_replace(known);
    }

    /// All configured peers, by name. Empty when the speaker has ended.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Owner::peer_infos).await.unwrap_or_default()
    }

    /// The speaker as a whole; all empty when it has ended.
    pub async fn info(&self) -> SpeakerInfo {
        self.ask(|owner| owner.info()).await.unwrap_or_default()
    }

    /// The speaker and one line for each peer; `None` when it has ended, as below.
    pub async fn summary(&self) -> Option<Summary> {
        self.ask(Owner::summary).await
    }

    /// What is counted, see [`metrics`](crate::metrics).
    pub async fn numbers(&self) -> Option<Numbers> {
        self.ask(Owner::numbers).await
    }

    /// One line for each peer.
    pub async fn lines(&self) -> Option<Vec<Peer>> {
        self.ask(Owner::lines).await
    }

    /// Everything about a peer, by its name or address.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn peer(&self, name: &str) -> Result<PeerDetail, Unanswered> {
        let found = self.about(name, |owner, name| owner.detail(name));
        found.await
    }

    /// Prefixes with all paths to them, at most `max` and those from `offset` on: 0 at first, then
    /// [`Page::next`]. What there is more of is asked for again, so that the owner of the routes
    /// does other things between.
    pub async fn routes_page(&self, offset: u64, max: usize) -> Option<Page<Route>> {
        let max = max.min(LONGEST_PAGE);
        self.ask(move |owner| owner.routes_page(offset, max)).await
    }

    /// What a peer sent, as received, in pages like those of [`Handle::routes_page`].
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn received_page(
        &self,
        name: &str,
        offset: u64,
        max: usize,
    ) -> Result<Page<Path>, Unanswered> {
        let max = max.min(LONGEST_PAGE);
        let page = self.about(name, move |owner, name| {
            owner.received_page(name, offset, max)
        });
        page.await
    }

    /// What a peer is told, as sent, in pages like those of [`Handle::routes_page`].
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn advertised_page(
        &self,
        name: &str,
        offset: u64,
        max: usize,
    ) -> Result<Page<Advertised>, Unanswered> {
        let max = max.min(LONGEST_PAGE);
        let page = self.about(name, move |owner, name| {
            owner.advertised_page(name, offset, max)
        });
        page.await
    }

    /// The paths to a prefix and to those that cover it, or, asked for an address, to the prefixes
    /// that cover it.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn route(&self, asked: &str) -> Result<RouteAnswer, Unanswered> {
        let (prefix, exact) = parse(asked)?;
        let asked = asked.to_owned();
        let answer = self.ask(move |owner| owner.route_answer(&asked, prefix, exact));
        answer.await.ok_or(Unanswered::Ended)
    }

    /// Why a prefix, or the longest one that covers an address, is reached as it is, and why each
    /// peer, or one of them, is told or not.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn why(&self, asked: &str, peer: Option<&str>) -> Result<Why, Unanswered> {
        let (prefix, exact) = parse(asked)?;
        let (asked, peer) = (asked.to_owned(), peer.map(str::to_owned));
        let why = self.ask(move |owner| owner.why(&asked, prefix, exact, peer.as_deref()));
        let why = why.await.ok_or(Unanswered::Ended)?;
        why.map_err(Unanswered::NoPeer)
    }

    /// Clears a peer, by its name or address.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn clear(&self, name: &str, how: Clear) -> Result<Cleared, Unanswered> {
        let cleared = self.about(name, move |owner, name| owner.clear(name, how));
        cleared.await
    }

    async fn about<T: Send + 'static>(
        &self,
        name: &str,
        question: impl FnOnce(&mut Owner, &str) -> Option<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let asked = name.to_owned();
        let answer = self.ask(move |owner| question(owner, &asked)).await;
        let answer = answer.ok_or(Unanswered::Ended)?;
        answer.ok_or_else(|| Unanswered::NoPeer(name.to_owned()))
    }

    /// Where connections are accepted right now.
    pub async fn listening(&self) -> Vec<SocketAddr> {
        self.info().await.listening
    }

    /// Ends the speaker; returns when every connection is closed, within a few seconds.
    pub async fn shutdown(&self, how: Shutdown) {
        let (done, ended) = oneshot::channel();
        if self
            .commands
            .send(Command::Shutdown(how, done))
            .await
            .is_ok()
        {
            // An answer that never comes means the same: there is no speaker any more.
            let _ended = ended.await;
        }
    }

    /// Has the owner of the routes answer; what is asked must not take it long.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Owner) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, receiver) = oneshot::channel();
        let question = Question(Box::new(move |owner| {
            // Who asked may have gone.
            let _gone = answer.send(question(owner));
        }));
        self.commands.send(Command::Ask(question)).await.ok()?;
        receiver.await.ok()
    }
}

/// Something asked of the speaker.
#[derive(Debug)]
pub(crate) enum Command {
    Ask(Question),
    Shutdown(Shutdown, oneshot::Sender<()>),
}

/// What its owner does with the speaker to answer.
pub(crate) struct Question(Box<dyn FnOnce(&mut Owner) + Send>);

impl Question {
    pub(crate) fn answer(self, owner: &mut Owner) {
        (self.0)(owner);
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
