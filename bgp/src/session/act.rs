//! The state machine of a session: feeding it, and doing what it says.

use std::time::Duration;

use bgp_fsm::{Action, ConnId, Event};
use bgp_wire::Message;
use tokio::time::Instant;

use crate::session::connection::Connection;
use crate::session::{Direction, Report, Session};
use crate::socket;

/// How long a closed connection may take to hand over its NOTIFICATION.
const LINGER: Duration = Duration::from_secs(2);

/// Closed connections that may linger at once; the oldest makes room.
const LINGERING: usize = 4;

impl Session {
    /// Tells the state machine what happened.
    pub(super) fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.peer.handle(self.start.elapsed(), event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Connect(conn) => {
                let settings = self.settings.clone();
                self.dialling = Some((conn, Box::pin(async move { settings.dial().await })));
            }
            Action::Adopt(conn) => {
                if let Some(stream) = self.offered.take() {
                    if let Err(error) =
                        socket::adopt(&stream, &self.settings.peer, self.settings.external())
                    {
                        tracing::warn!(peer = %self.settings.key, %error, "cannot set up a connection");
                    }
                    self.connections.push(Connection::new(conn, stream));
                }
            }
            Action::Refuse => self.offered = None,
            Action::Send(conn, message) => {
                if let Some(connection) = self.connections.iter_mut().find(|c| c.id == conn) {
                    connection.send(&message);
                    if let Message::Notification(notification) = &*message {
                        let counters = &self.channels.shared.counters;
                        counters.notification(Direction::Out, notification);
                    }
                }
            }
            Action::Close(conn) => self.close(conn),
            Action::Up { conn, negotiated } => {
                let Some(connection) = self.connections.iter_mut().find(|c| c.id == conn) else {
                    return;
                };
                connection.params = negotiated.params.clone();
                let up = connection.up(*negotiated);
                (self.farewell, self.rotated, self.silent) = (None, false, false);
                self.report(Report::Up(Box::new(up)));
            }
            Action::Down { reason, keep, .. } => {
                self.remember(&reason);
                let reason = self.last_error.clone();
                let reason = reason.unwrap_or_else(|| "unknown".to_owned());
                self.report(Report::Down { keep, reason });
            }
            Action::Failed { reason, .. } => self.remember(&reason),
            Action::LongLived(families) => self.report(Report::LongLived(families)),
            Action::Forget(families) => self.report(Report::Forget(families)),
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.dialling.take_if(|(dialled, _)| *dialled == conn);
        let Some(index) = self.connections.iter().position(|c| c.id == conn) else {
            return;
        };
        let mut connection = self.connections.remove(index);
        if connection.has_last_words() {
            connection.until = Some(Instant::now() + LINGER);
            if self.closing.len() == LINGERING {
                self.closing.remove(0);
            }
            self.closing.push(connection);
        }
    }
}
