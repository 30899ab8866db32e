//! Routes kept for a peer that is away (RFC 4724 §4.2, RFC 9494 §4.2), the receiving speaker's
//! side.

use std::time::Duration;

use bgp_wire::notification::{code, subcode};
use bgp_wire::{Family, Notification};

use crate::action::{Action, Reason};
use crate::config::Config;
use crate::event::Time;
use crate::negotiate::{Negotiated, PeerRestart};

/// Families with stale routes, and until when they may stay.
///
/// RFC 4724 §4.2 drops routes that are still stale when the peer goes away again. We keep them,
/// because a peer that crashes twice still forwards, but never longer than a time that is fixed
/// when the first of them became stale.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stale {
    kept: Vec<Kept>,
    /// The peer is back and has not sent every end-of-RIB.
    back: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    family: Family,
    phase: Phase,
    until: Time,
    /// How long the routes stay once the restart time is over.
    long_lived: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Within the restart time, or the wait for end-of-RIB after it, but not after this.
    Restart { latest: Time },
    /// A consecutive loss of the session does not set this timer again (RFC 9494 §4.2).
    LongLived,
}

impl Stale {
    pub(crate) fn families(&self) -> Vec<Family> {
        self.kept.iter().map(|kept| kept.family).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.kept.iter().map(|kept| kept.until).min()
    }

    /// An established session is over: which families stay.
    pub(crate) fn session_down(
        &mut self,
        now: Time,
        config: &Config,
        (negotiated, reason): (&Negotiated, &Reason),
    ) -> Vec<Family> {
        self.back = false;
        let before = std::mem::take(&mut self.kept);
        let agreed = config.restart.zip(negotiated.restart.as_ref());
        let Some((ours, theirs)) = agreed.filter(|(_, theirs)| survives(reason, theirs)) else {
            return Vec::new();
        };
        for family in &negotiated.families {
            let long_lived = negotiated.long_lived(*family).map(|entry| entry.stale_secs);
            let long_lived = Duration::from_secs(long_lived.unwrap_or_default().into());
            // A family only in the long-lived capability has a restart time of zero (RFC 9494 §4.2).
            let away = match theirs.covers(*family) {
                true => Duration::from_secs(theirs.time_secs.into()),
                false if long_lived.is_zero() => continue,
                false => Duration::ZERO,
            };
            let mut known = before.iter().filter(|kept| kept.family == *family);
            let latest = now + away + ours.stale_time;
            let (phase, until) = match known.next() {
                None => (Phase::Restart { latest }, now + away),
                Some(kept) => match kept.phase {
                    Phase::Restart { latest } => (kept.phase, (now + away).min(latest)),
                    Phase::LongLived => (kept.phase, kept.until),
                },
            };
            self.kept.push(Kept {
                family: *family,
                phase,
                until,
                long_lived,
            });
        }
        self.families()
    }

    /// The peer is back: routes stay only of families it says it kept forwarding.
    pub(crate) fn session_up(
        &mut self,
        now: Time,
        config: &Config,
        negotiated: &Negotiated,
        out: &mut Vec<Action>,
    ) {
        self.back = true;
        let wait = config.restart.map_or(Duration::ZERO, |r| r.stale_time);
        let mut gone = Vec::new();
        self.kept.retain_mut(|kept| {
            let stays = match kept.phase {
                Phase::Restart { latest } => {
                    kept.until = (now + wait).min(latest);
                    let theirs = negotiated.restart.as_ref();
                    theirs.is_some_and(|theirs| theirs.forwarding(kept.family))
                }
                Phase::LongLived => {
                    let theirs = negotiated.long_lived(kept.family);
                    theirs.is_some_and(|theirs| theirs.forwarding)
                }
            };
            if !stays {
                gone.push(kept.family);
            }
            stays
        });
        if !gone.is_empty() {
            out.push(Action::Forget(gone));
        }
    }

    /// The peer has sent its end-of-RIB: the RIB sweeps this family itself.
    pub(crate) fn end_of_rib(&mut self, family: Family) {
        self.kept.retain(|kept| kept.family != family);
    }

    /// Nothing is kept any longer.
    pub(crate) fn forget(&mut self, out: &mut Vec<Action>) {
        if !self.kept.is_empty() {
            out.push(Action::Forget(self.families()));
            self.kept.clear();
        }
    }

    pub(crate) fn timer(&mut self, now: Time, out: &mut Vec<Action>) {
        let (mut long_lived, mut gone) = (Vec::new(), Vec::new());
        let back = self.back;
        self.kept.retain_mut(|kept| {
            if kept.until > now {
                return true;
            }
            if back || kept.phase == Phase::LongLived || kept.long_lived.is_zero() {
                gone.push(kept.family);
                return false;
            }
            kept.phase = Phase::LongLived;
            kept.until = now + kept.long_lived;
            long_lived.push(kept.family);
            true
        });
        if !long_lived.is_empty() {
            out.push(Action::LongLived(long_lived));
        }
        if !gone.is_empty() {
            out.push(Action::Forget(gone));
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
        Reason::Sent(notification)
        | Reason::Received(notification)
        | Reason::Stopped(Some(notification)) => survivable(notification),
        Reason::Stopped(None) | Reason::ConnectFailed | Reason::Collision => false,
    }
}

/// RFC 8538 §3: with or without a NOTIFICATION inside.
pub(crate) fn is_hard_reset(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (code::CEASE, subcode::cease::HARD_RESET)
}

/// The session ends for longer than a restart takes, so that routes kept for it would be wrong:
/// such a NOTIFICATION becomes a Hard Reset (RFC 8538 §5.1, RFC 9384 §4). A changed setting, a
/// lack of resources or a collision are over soon.
pub(crate) fn ends_retention(notification: &Notification) -> bool {
    use subcode::cease;
    let transient = [
        cease::CONFIGURATION_CHANGE,
        cease::COLLISION,
        cease::OUT_OF_RESOURCES,
        cease::HARD_RESET,
    ];
    notification.code == code::CEASE && !transient.contains(&notification.subcode)
}
