//! The condition `NetworkUnavailable` of this Node, which the scheduler goes by.
//!
//! It is cleared once what BGP had to tell is in the kernel, and set when the node leaves for good
//! (see `drain`). Nothing else sets it: a fault that passes would move the pods of every node that
//! has it. The Node is the kubelet's, so a directory of manifests has no such condition.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use crds::Kind;
use crds::core::{Node, time_text};
use datastore::{Datastore, Key};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::Board;
use crate::drain::Stage;

/// Type of the condition.
pub const TYPE: &str = "NetworkUnavailable";
/// Reason of a condition that this agent cleared.
pub const UP: &str = "TortieIsUp";
/// Reason of a condition that this agent set.
pub const DOWN: &str = "TortieIsDown";

/// Between two writes: somebody else may write the same condition and think otherwise.
const PAUSE: Duration = Duration::from_secs(30);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What the condition shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The network works.
    Up,
    /// The node left, and why.
    Down(String),
}

/// The condition as it stands on the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stands {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Who says so.
    pub reason: String,
}

impl Stands {
    /// The condition of a Node, if it has one.
    pub fn on(node: &Node) -> Option<Stands> {
        let conditions = node.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|one| one.type_ == TYPE)?;
        Some(Stands {
            status: condition.status.clone(),
            reason: condition.reason.clone().unwrap_or_default(),
        })
    }
}

/// What the condition shall say; nothing as long as nothing is known. Once the network was there it
/// stays available until the node leaves.
pub fn wanted(before: Option<&Wanted>, stage: &Stage, is_in_kernel: bool) -> Option<Wanted> {
    match (stage, before) {
        (Stage::Left(cause), _) => Some(Wanted::Down(cause.clone())),
        (Stage::Stays | Stage::Leaving(_), Some(Wanted::Up)) => Some(Wanted::Up),
        (Stage::Stays | Stage::Leaving(_), _) => is_in_kernel.then_some(Wanted::Up),
    }
}

/// Whether the Node does not say so yet.
pub fn is_due(wanted: &Wanted, stands: Option<&Stands>) -> bool {
    let (status, reason) = match wanted {
        Wanted::Up => ("False", UP),
        Wanted::Down(_) => ("True", DOWN),
    };
    stands.is_none_or(|stands| stands.status != status || stands.reason != reason)
}

/// The status of a Node with nothing but this condition, to be applied on the server's side.
pub fn status(wanted: &Wanted, now: SystemTime) -> Value {
    let (status, reason, message) = match wanted {
        Wanted::Up => ("False", UP, "routes are in the kernel".to_owned()),
        Wanted::Down(cause) => ("True", DOWN, format!("this node left: {cause}")),
    };
    let now = time_text(now);
    json!({ "conditions": [{
        "type": TYPE,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }] })
}

/// Keeps the condition, for ever.
///
/// # Errors
/// None: what cannot be written is tried again.
pub async fn run(store: Arc<dyn Datastore>, node: String, board: Arc<Board>) -> Result<()> {
    let key = Key::cluster(Kind::Node, node);
    let mut calc = board.calc.subscribe();
    let mut dataplane = board.dataplane.subscribe();
    let mut speaker = board.speaker.subscribe();
    let mut drain = board.drain.subscribe();
    let mut own = board.node.subscribe();
    let mut now_wanted = None;
    // What was written last, and when.
    let mut written: Option<(Wanted, Instant)> = None;
    loop {
        let stage = drain.borrow_and_update().clone();
        let view = own.borrow_and_update().clone();
        now_wanted = wanted(
            now_wanted.as_ref(),
            &stage,
            view.known && board.is_in_kernel(),
        );
        let due = now_wanted
            .clone()
            .filter(|_| view.is_read)
            .filter(|wanted| is_due(wanted, view.network_unavailable.as_ref()));
        let not_before = written
            .as_ref()
            .filter(|(last, _)| due.as_ref() == Some(last));
        let not_before = not_before.map(|(_, at)| *at + PAUSE);
        let may = not_before.is_none_or(|at| at <= Instant::now());
        if let Some(wanted) = due.clone().filter(|_| may) {
            match store
                .patch_status(&key, status(&wanted, SystemTime::now()))
                .await
            {
                Ok(_) => {
                    tracing::info!(?wanted, "condition NetworkUnavailable");
                    written = Some((wanted, Instant::now()));
                }
                Err(error) => {
                    tracing::info!(%error, "condition NetworkUnavailable is not written");
                    sleep(RETRY).await;
                }
            }
            continue;
        }
        let settled = now_wanted == Some(Wanted::Up);
        tokio::select! {
            Ok(()) = drain.changed() => {}
            Ok(()) = own.changed() => {}
            // They change all the time, and matter until the network is there.
            Ok(()) = calc.changed(), if !settled => {}
            Ok(()) = dataplane.changed(), if !settled => {}
            Ok(()) = speaker.changed(), if !settled => {}
            () = sleep_until(not_before.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(status: &str, reason: &str) -> Stands {
        Stands {
            status: status.to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn it_is_cleared_when_routes_are_in_the_kernel_and_stays_so_until_the_node_leaves() {
        let (stays, leaving) = (Stage::Stays, Stage::Leaving("why".to_owned()));
        let left = Stage::Left("why".to_owned());
        let down = Wanted::Down("why".to_owned());
        assert_eq!(wanted(None, &stays, false), None);
        assert_eq!(wanted(None, &stays, true), Some(Wanted::Up));
        assert_eq!(wanted(Some(&Wanted::Up), &stays, false), Some(Wanted::Up));
        assert_eq!(wanted(Some(&Wanted::Up), &leaving, false), Some(Wanted::Up));
        assert_eq!(wanted(Some(&Wanted::Up), &left, true), Some(down.clone()));
        assert_eq!(wanted(Some(&down), &stays, false), None, "not back yet");
        assert_eq!(wanted(Some(&down), &stays, true), Some(Wanted::Up));
    }

    #[test]
    fn it_is_written_where_the_node_says_otherwise() {
        let down = Wanted::Down("why".to_owned());
        assert!(is_due(&Wanted::Up, None));
        assert!(is_due(&Wanted::Up, Some(&stands("True", "NoRouteCreated"))));
        assert!(is_due(&Wanted::Up, Some(&stands("False", "CalicoIsUp"))));
        assert!(!is_due(&Wanted::Up, Some(&stands("False", UP))));
        assert!(is_due(&down, Some(&stands("False", UP))));
        assert!(!is_due(&down, Some(&stands("True", DOWN))));
    }

    #[test]
    fn a_status_has_this_condition_alone() {
        let value = status(&Wanted::Up, SystemTime::UNIX_EPOCH);
        let condition = &value["conditions"][0];
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(value.as_object().unwrap().len(), 1);
        assert_eq!(value["conditions"].as_array().unwrap().len(), 1);
    }
}
