//! The outside of a running speaker.

use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Desired, Options};
use crate::event::{Event, PeerInfo, RouteInfo, Shutdown, SpeakerInfo};
use crate::session::Decode;
use crate::speaker;

/// Questions wait here while the owner of the routes is busy; who asks more waits.
const COMMANDS: usize = 64;

/// Batches of news; while the outside takes none, changes are merged per prefix in the RIB.
const EVENTS: usize = 16;

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
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (events, event_receiver) = mpsc::channel(EVENTS);
        let inputs = speaker::Inputs {
            desired: desired_receiver,
            commands: command_receiver,
            events,
        };
        speaker::start(inputs, options, decode);
        (Handle { desired, commands }, event_receiver)
    }
}

/// A running speaker. Clones speak to the same one; it ends when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    desired: watch::Sender<Desired>,
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Replaces what shall be. The newest wins; what is between two calls may never happen.
    pub fn set(&self, desired: Desired) {
        self.desired.send_replace(desired);
    }

    /// All configured peers, by name. Empty when the speaker has ended.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// All paths to all prefixes, by prefix, best first. Empty when the speaker has ended.
    pub async fn routes(&self) -> Vec<RouteInfo> {
        self.ask(Command::Routes).await.unwrap_or_default()
    }

    /// The speaker as a whole; all empty when it has ended.
    pub async fn info(&self) -> SpeakerInfo {
        self.ask(Command::Info).await.unwrap_or_default()
    }

    /// Where connections are accepted right now.
    pub async fn listening(&self) -> Vec<SocketAddr> {
        self.info().await.listening
    }

    /// Ends the speaker; returns when every connection is closed, within a few seconds.
    pub async fn shutdown(&self, how: Shutdown) {
        // An answer that never comes means the same: there is no speaker any more.
        let _ended = self.ask(|done| Command::Shutdown(how, done)).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(command(answer)).await.ok()?;
        receiver.await.ok()
    }
}

/// Something asked of the speaker.
#[derive(Debug)]
pub(crate) enum Command {
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Routes(oneshot::Sender<Vec<RouteInfo>>),
    Info(oneshot::Sender<SpeakerInfo>),
    Shutdown(Shutdown, oneshot::Sender<()>),
}
