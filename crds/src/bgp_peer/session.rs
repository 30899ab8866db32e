//! Fields of a BGPPeer about how its sessions are watched, restarted and bounded.
//!
//! `failureDetectionMode` and `restartMode` are Calico Enterprise's, the words in `bfd` are those of
//! its BFDConfiguration; `maxPrefixes`, `role` and `roleStrict` are of this project alone. Calico
//! knows none of them and leaves them alone; each may be absent.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BgpPeerSpec;
use crate::{FieldError, GoDuration};

/// Intervals below and above this are a mistake.
const INTERVALS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(60)];

/// How a silent peer is noticed before the hold time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum FailureDetectionMode {
    /// It is not.
    #[default]
    None,
    /// By BFD (RFC 5880) where the peer is in a subnet of one of the host's interfaces.
    #[serde(rename = "BFDIfDirectlyConnected")]
    BfdIfDirectlyConnected,
}

/// What becomes of routes while a side of the session restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum RestartMode {
    /// They stay for the restart time (RFC 4724).
    #[default]
    GracefulRestart,
    /// After that they stay as a last resort (RFC 9494).
    LongLivedGracefulRestart,
}

/// Pace of BFD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// Shortest interval between our packets, 1ms to 60s. Default 300ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_send_interval: Option<GoDuration>,
    /// Shortest interval between the peer's packets that we take, 1ms to 60s. Default 300ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_recv_interval: Option<GoDuration>,
    /// How many packets in a row may be missing. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub multiplier: Option<u8>,
}

/// How many prefixes the peer may send, in each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaxPrefixes {
    /// The greatest number that is all right.
    #[schemars(range(min = 1))]
    pub limit: u32,
    /// A warning from this share of the limit on, in percent. Default 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub warning_percent: Option<u8>,
    /// Above the limit: Close (default; ends the session, RFC 4486), Discard (what is too much is not used), Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<MaxPrefixesAction>,
    /// When a session that was ended may come back. Without it: when the peer is changed or cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<GoDuration>,
}

/// What happens above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum MaxPrefixesAction {
    /// The session ends.
    #[default]
    Close,
    /// What is too much is not used.
    Discard,
    /// It is only said.
    Warn,
}

/// What we are to the peer (RFC 9234 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
pub enum Role {
    /// It buys transit from us.
    Provider,
    /// We are a route server, it is a client.
    RouteServer,
    /// It is a route server, we are a client.
    RouteServerClient,
    /// We buy transit from it.
    Customer,
    /// Each tells the other its own and its customers' routes.
    Peer,
}

impl BgpPeerSpec {
    pub(super) fn check_session(&self, errors: &mut Vec<FieldError>) {
        let mut push = |field: &str, problem: &str, remedy: &str| {
            errors.push(FieldError::new(field, problem, remedy))
        };
        if self.role_strict == Some(true) && self.role.is_none() {
            let problem = "refuses peers without a role, and spec.role says nothing of ours";
            push("spec.roleStrict", problem, "set spec.role, or remove it");
        }
        if let Some(bfd) = &self.bfd {
            if self.failure_detection_mode() == FailureDetectionMode::None {
                let remedy =
                    "set spec.failureDetectionMode to BFDIfDirectlyConnected, or remove it";
                push("spec.bfd", "has no effect without BFD", remedy);
            }
            let intervals = [
                ("Send", bfd.minimum_send_interval),
                ("Recv", bfd.minimum_recv_interval),
            ];
            let [least, most] = INTERVALS;
            for (way, interval) in intervals {
                if interval.is_some_and(|given| given.0 < least || given.0 > most) {
                    let field = format!("spec.bfd.minimum{way}Interval");
                    push(&field, "is outside 1ms to 60s", "write one like 300ms");
                }
            }
            if bfd.multiplier == Some(0) {
                push("spec.bfd.multiplier", "0 would lose every peer", "use 3");
            }
        }
        if let Some(max) = &self.max_prefixes {
            if max.limit == 0 {
                let remedy = "write how many prefixes are all right";
                push("spec.maxPrefixes.limit", "0 allows nothing", remedy);
            }
            if max.warning_percent.is_some_and(|percent| percent > 100) {
                let field = "spec.maxPrefixes.warningPercent";
                push(field, "is more than 100", "write a share of the limit");
            }
            if max.restart_after.is_some() && max.action() != MaxPrefixesAction::Close {
                let field = "spec.maxPrefixes.restartAfter";
                push(field, "only Close ends a session", "remove it");
            }
        }
    }

    /// `failureDetectionMode`, None when not set.
    pub fn failure_detection_mode(&self) -> FailureDetectionMode {
        self.failure_detection_mode.unwrap_or_default()
    }
}

impl MaxPrefixes {
    /// `action`, Close when not set.
    pub fn action(&self) -> MaxPrefixesAction {
        self.action.unwrap_or_default()
    }
}
