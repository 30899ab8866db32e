//! Settings that change under a running session: most of them without a new one.

use bgp_fsm::{Action, Event, Reason, State, Stop};
use bgp_wire::Notification;
use bgp_wire::notification::{code, subcode};

use crate::session::{Control, Session};

impl Session {
    /// Begins, unless the peer is shut down.
    pub(super) fn begin(&mut self) {
        match self.settings.peer.shut_down.clone() {
            None if self.closed => {}
            None => self.feed(Event::Start),
            Some(text) => self.last_error = Some(shut_down(&text)),
        }
    }

    /// The owner changed its mind, or is gone.
    pub(super) fn control(&mut self) {
        let gone = self.channels.control.has_changed().is_err();
        let control = self.channels.control.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.settings, control.settings.clone());
        self.peer.set_config(self.start.elapsed(), control.fsm());
        let new = control.settings.clone();
        if old.peer.password != new.peer.password {
            self.rotate();
        }
        match (&old.peer.shut_down, &new.peer.shut_down) {
            (None, Some(text)) => {
                let notification = Notification::administrative_shutdown(text);
                self.feed(Event::Stop(Stop::Notify(notification)));
                self.last_error = Some(shut_down(text));
            }
            (Some(_), None) if self.liveness.is_held() || self.closed => {}
            (Some(_), None) => self.feed(Event::Start),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if let Some(notification) = old.farewell(&new) {
            tracing::info!(peer = %new.key, "peer changed, its session starts anew");
            self.feed(Event::Reset(notification));
        }
        self.obey(&control);
        let stop = control.stop.or(gone.then_some(Stop::Restart));
        if let Some(stop) = stop {
            self.feed(Event::Stop(stop));
            self.stopped = true;
        }
    }

    /// Closes the session, opens it again, or has it start anew, if that is new.
    fn obey(&mut self, control: &Control) {
        let was_closed = std::mem::replace(&mut self.closed, control.closed.is_some());
        match &control.closed {
            Some(notification) if !was_closed => {
                self.feed(Event::Stop(Stop::Notify(notification.clone())));
            }
            None if was_closed && !self.liveness.is_held() => self.begin(),
            Some(_) | None => {}
        }
        if std::mem::replace(&mut self.resets, control.resets) != control.resets {
            self.feed(Event::Reset(Notification::administrative_reset("")));
        }
    }

    /// Has every connection use the new password. What the peer signed with the old one on its
    /// way is sent again by its kernel.
    fn rotate(&mut self) {
        let password = self.settings.peer.password.as_ref();
        for connection in &self.connections {
            if let Err(error) = connection.sign(password) {
                let problem = format!("cannot change the TCP MD5 password: {error}");
                tracing::error!(peer = %self.settings.key, problem);
                self.last_error = Some(problem);
            }
        }
        (self.rotated, self.silent) = (true, true);
        if let Some((conn, _)) = self.dialling.take() {
            self.act(Action::Connect(conn));
        }
    }

    /// The peer dials with the new password and has said nothing on the connection from before
    /// it: a peer that ends its session for the change, as BIRD and FRR do, says so with the old
    /// one, and that does not get through.
    pub(super) fn drop_outdated(&mut self) {
        let signed = self.settings.peer.password.is_some();
        let established = self.peer.established().map(|(conn, _)| conn);
        if let Some(conn) = established.filter(|_| signed && self.silent) {
            self.feed(Event::Closed(conn));
        }
    }

    /// Keeps why a connection ended, for people.
    pub(super) fn remember(&mut self, reason: &Reason) {
        let text = match reason {
            Reason::Collision => return,
            Reason::HoldTimerExpired if self.rotated => {
                format!("{reason}; does the peer use the new password?")
            }
            Reason::Received(notification) if lasts(notification) => {
                let text = reason.to_string();
                self.farewell = Some(text.clone());
                text
            }
            Reason::Closed | Reason::ConnectFailed => self.after_farewell(reason.to_string()),
            Reason::HoldTimerExpired
            | Reason::SendHoldTimerExpired
            | Reason::Superseded
            | Reason::Stopped(_)
            | Reason::Sent(_)
            | Reason::Received(_) => reason.to_string(),
        };
        self.last_error = Some(text);
    }

    /// A dial was given up.
    pub(super) fn dial_timed_out(&mut self) {
        if self.peer.state() == State::Established {
            return;
        }
        // The kernel of a peer with another password, or none, drops what we send in silence.
        let hint = if self.settings.peer.password.is_some() {
            "; does the peer use the same password?"
        } else {
            ""
        };
        let error = self.after_farewell(format!("cannot connect: timed out{hint}"));
        self.last_error = Some(error);
    }

    /// An error with what the peer said before: that it is shut down explains why nobody answers.
    pub(super) fn after_farewell(&self, error: String) -> String {
        match &self.farewell {
            Some(farewell) => format!("{error}; before, {farewell}"),
            None => error,
        }
    }
}

fn shut_down(text: &str) -> String {
    if text.is_empty() {
        "shut down by us".to_owned()
    } else {
        format!("shut down by us: {text}")
    }
}

/// The peer will not be back soon.
fn lasts(notification: &Notification) -> bool {
    use subcode::cease;
    let inner = notification.hard_reset();
    let notification = inner.as_ref().unwrap_or(notification);
    notification.code == code::CEASE
        && matches!(
            notification.subcode,
            cease::MAXIMUM_PREFIXES
                | cease::ADMINISTRATIVE_SHUTDOWN
                | cease::PEER_DECONFIGURED
                | cease::CONNECTION_REJECTED
        )
}
