//! Routes kept for a peer that is away (RFC 4724 §4.2), the receiving speaker's side.

use std::time::Duration;

use bgp_wire::notification::{code, subcode};
use bgp_wire::{Family, Notification};

use crate::action::{Action, Reason};
use crate::config::{Config, Restart};
use crate::event::Time;
use crate::negotiate::{Negotiated, PeerRestart};

/// Families with stale routes, and until when they may stay.
///
/// RFC 4724 §4.2 drops routes that are still stale when the peer goes away again. We keep them,
/// because a peer that crashes twice still forwards, but never longer than `latest`, which is
/// fixed when the first of them became stale.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stale {
    families: Vec<Family>,
    until: Time,
    latest: Time,
}

impl Stale {
    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        (!self.families.is_empty()).then_some(self.until)
    }

    /// An established session is over: which families stay.
    pub(crate) fn session_down(
        &mut self,
        now: Time,
        config: &Config,
        (negotiated, reason): (&Negotiated, &Reason),
    ) -> Vec<Family> {
        let agreed = config.restart.zip(negotiated.restart.as_ref());
        let Some((ours, theirs)) = agreed.filter(|(_, theirs)| survives(reason, theirs)) else {
            self.families.clear();
            return Vec::new();
        };
        let away = Duration::from_secs(theirs.time_secs.into());
        let covered = negotiated.families.iter().copied();
        let kept: Vec<Family> = covered.filter(|family| theirs.covers(*family)).collect();
        if self.families.is_empty() {
            self.latest = now + away + ours.stale_time;
        }
        self.until = (now + away).min(self.latest);
        self.families.clone_from(&kept);
        kept
    }

    /// The peer is back: routes stay only of families it says it kept forwarding.
    pub(crate) fn session_up(
        &mut self,
        now: Time,
        config: &Config,
        negotiated: &Negotiated,
        out: &mut Vec<Action>,
    ) {
        let theirs = negotiated.restart.as_ref();
        let (kept, gone): (Vec<Family>, Vec<Family>) = self
            .families
            .drain(..)
            .partition(|family| theirs.is_some_and(|theirs| theirs.forwarding(*family)));
        self.families = kept;
        if !gone.is_empty() {
            out.push(Action::Forget(gone));
        }
        let wait = config
            .restart
            .map_or(Duration::ZERO, |r: Restart| r.stale_time);
        self.until = (now + wait).min(self.latest);
    }

    /// The peer has sent its end-of-RIB: the RIB sweeps this family itself.
    pub(crate) fn end_of_rib(&mut self, family: Family) {
        self.families.retain(|stale| *stale != family);
    }

    /// Nothing is kept any longer.
    pub(crate) fn forget(&mut self, out: &mut Vec<Action>) {
        if !self.families.is_empty() {
            out.push(Action::Forget(std::mem::take(&mut self.families)));
        }
    }

    pub(crate) fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.until <= now {
            self.forget(out);
        }
    }
}

/// The peer's routes survive this end of the session.
fn survives(reason: &Reason, theirs: &PeerRestart) -> bool {
    let survivable =
        |notification: &Notification| theirs.notification && !is_hard_reset(notification);
    match reason {
        Reason::Closed | Reason::Superseded => true,
        Reason::HoldTimerExpired | Reason::SendHoldTimerExpired => theirs.notification,
        Reason::Sent(notification) | Reason::Received(notification) => survivable(notification),
        Reason::Stopped(_) | Reason::ConnectFailed | Reason::Collision => false,
    }
}

/// RFC 8538 §3: with or without a NOTIFICATION inside.
pub(crate) fn is_hard_reset(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (code::CEASE, subcode::cease::HARD_RESET)
}
