//! The task that owns the routes and everything that peers share.

use tokio::sync::{mpsc, watch};

use crate::config::{Desired, Options};
use crate::event::Event;
use crate::handle::Command;

/// What the outside gives to the task.
pub(crate) struct Inputs {
    pub(crate) desired: watch::Receiver<Desired>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Runs the speaker until it is told to end.
pub(crate) async fn run(mut inputs: Inputs, options: Options) {
    tracing::info!(?options, desired = ?*inputs.desired.borrow_and_update(), "speaker started");
    while let Some(command) = inputs.commands.recv().await {
        match command {
            Command::Peers(answer) => drop(answer.send(Vec::new())),
            Command::Routes(answer) => drop(answer.send(Vec::new())),
            Command::Listening(answer) => drop(answer.send(Vec::new())),
            Command::Shutdown(how, done) => {
                tracing::info!(?how, "speaker ends");
                drop(inputs.events);
                let _asker_gone = done.send(());
                return;
            }
        }
    }
}
