//! Whether this node leaves, and how far it has got: decided from its Node object.
//!
//! A node that leaves first asks its peers to prefer other ways (RFC 8326), then shuts its sessions
//! down, so that peers forget its routes at once. A cordon alone is none of our business: the pods
//! still run. An agent that is replaced says nothing and is waited for (graceful restart).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crds::core::Node;
use crds::names::annotation;
use tokio::time::{Instant, sleep_until};

use crate::board::Board;
use crate::network_unavailable::{DOWN, Stands};

/// How long peers have to move to other ways.
pub const LEAVING: Duration = Duration::from_secs(5);

/// Set by who knows that the node is off and will not come back by itself.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Set by the cluster autoscaler before it evicts the pods and deletes the node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Why the node leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// For people.
    pub text: String,
    /// Pods are still being moved away, and are served until the last has gone.
    pub waits_for_pods: bool,
}

/// How far the node has got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It stays.
    #[default]
    Stays,
    /// Peers are asked to prefer other ways.
    Leaving(String),
    /// Sessions are shut down.
    Left(String),
}

/// What a Node says about leaving.
pub fn cause(node: &Node) -> Option<Cause> {
    let asked = node.metadata.annotations.as_ref();
    let asked = asked.and_then(|all| all.get(annotation::NODE_DRAIN));
    if asked.is_some_and(|value| value == "true") {
        return Some(Cause {
            text: format!("annotation {}", annotation::NODE_DRAIN),
            waits_for_pods: false,
        });
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let has = |key: &str| taints.into_iter().flatten().any(|taint| taint.key == key);
    let cause = |key: &str, waits_for_pods| Cause {
        text: format!("taint {key}"),
        waits_for_pods,
    };
    if has(OUT_OF_SERVICE) {
        return Some(cause(OUT_OF_SERVICE, false));
    }
    has(TO_BE_DELETED).then(|| cause(TO_BE_DELETED, true))
}

/// How far a node has got that has known for this long why it leaves.
pub fn stage(cause: Option<&Cause>, known_for: Duration, pods: usize) -> Stage {
    match cause {
        None => Stage::Stays,
        Some(cause) if known_for < LEAVING || (cause.waits_for_pods && pods > 0) => {
            Stage::Leaving(cause.text.clone())
        }
        Some(cause) => Stage::Left(cause.text.clone()),
    }
}

/// Keeps the board up to date, for ever. `had_no_sessions` says that the run before ended without
/// any: a node that leaves when it is first read has left by then, and nobody is to be asked.
///
/// # Errors
/// None.
pub async fn run(board: Arc<Board>, had_no_sessions: bool) -> Result<()> {
    let mut node = board.node.subscribe();
    let mut calc = board.calc.subscribe();
    let mut since = None;
    let mut had_no_sessions = had_no_sessions;
    loop {
        let view = node.borrow_and_update().clone();
        let pods = calc.borrow_and_update().endpoints.interfaces.len();
        let now = Instant::now();
        // An earlier run of the agent had left already: sessions need not come up for a moment.
        let says_so = |stands: &Stands| stands.status == "True" && stands.reason == DOWN;
        let left_before = view.network_unavailable.as_ref().is_some_and(says_so) || had_no_sessions;
        let left_before = now.checked_sub(LEAVING).filter(|_| left_before);
        // A reason that comes later is one of a node with sessions.
        had_no_sessions &= !view.is_read;
        since = view
            .drain
            .as_ref()
            .map(|_| since.or(left_before).unwrap_or(now));
        let known_for = since.map_or(Duration::ZERO, |since: Instant| now - since);
        publish(&board, stage(view.drain.as_ref(), known_for, pods));
        let due = since.map(|since| since + LEAVING).filter(|due| *due > now);
        tokio::select! {
            Ok(()) = node.changed() => {}
            Ok(()) = calc.changed(), if view.drain.is_some() => {}
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
        }
    }
}

fn publish(board: &Board, stage: Stage) {
    board.drain.send_if_modified(|before| {
        let changed = *before != stage;
        if changed {
            match &stage {
                Stage::Stays => tracing::info!("this node stays"),
                Stage::Leaving(cause) => {
                    tracing::warn!(cause, "this node leaves, peers shall prefer other ways");
                }
                Stage::Left(cause) => tracing::warn!(cause, "this node left, no sessions"),
            }
        }
        *before = stage;
        changed
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    fn of(node: serde_json::Value) -> Option<(String, bool)> {
        let node: Node = serde_json::from_value(node).unwrap();
        cause(&node).map(|cause| (cause.text, cause.waits_for_pods))
    }

    fn tainted(key: &str) -> serde_json::Value {
        json!({ "spec": { "taints": [{ "key": key, "effect": "NoSchedule" }] } })
    }

    #[test]
    fn a_cordon_is_no_drain() {
        let mut cordoned = tainted("node.kubernetes.io/unschedulable");
        cordoned["spec"]["unschedulable"] = json!(true);
        assert_eq!(of(cordoned), None);
        assert_eq!(of(json!({})), None);
        let off = json!({ "metadata": { "annotations": { "tortie.dev/drain": "false" } } });
        assert_eq!(of(off), None);
    }

    #[test]
    fn annotation_and_taints_are_causes() {
        let asked = json!({ "metadata": { "annotations": { "tortie.dev/drain": "true" } } });
        assert_eq!(
            of(asked),
            Some(("annotation tortie.dev/drain".to_owned(), false))
        );
        let taint = |key: &str, waits| Some((format!("taint {key}"), waits));
        assert_eq!(of(tainted(OUT_OF_SERVICE)), taint(OUT_OF_SERVICE, false));
        assert_eq!(of(tainted(TO_BE_DELETED)), taint(TO_BE_DELETED, true));
    }

    #[test]
    fn peers_are_asked_first_and_pods_that_are_moved_away_are_served_to_the_last() {
        let cause = |waits_for_pods| Cause {
            text: "why".to_owned(),
            waits_for_pods,
        };
        let (leaving, left) = (
            Stage::Leaving("why".to_owned()),
            Stage::Left("why".to_owned()),
        );
        assert_eq!(stage(None, LEAVING, 3), Stage::Stays);
        assert_eq!(stage(Some(&cause(false)), Duration::ZERO, 3), leaving);
        assert_eq!(stage(Some(&cause(false)), LEAVING, 3), left);
        assert_eq!(stage(Some(&cause(true)), LEAVING * 100, 1), leaving);
        assert_eq!(stage(Some(&cause(true)), LEAVING, 0), left);
    }

    #[tokio::test(start_paused = true)]
    async fn stages_follow_the_node_and_the_clock() {
        let board = Arc::<Board>::default();
        let task = tokio::spawn(run(board.clone(), false));
        let mut shown = board.drain.subscribe();
        let cause = Cause {
            text: "why".to_owned(),
            waits_for_pods: false,
        };
        let began = Instant::now();
        board
            .node
            .send_modify(|view| view.drain = Some(cause.clone()));
        let limit = Duration::from_secs(60);
        let mut seen = async |expected: Stage| {
            let seen = timeout(limit, shown.wait_for(|stage| *stage == expected)).await;
            seen.expect("in time").unwrap();
        };
        seen(Stage::Leaving("why".to_owned())).await;
        seen(Stage::Left("why".to_owned())).await;
        assert_eq!(began.elapsed().as_secs(), LEAVING.as_secs());
        board.node.send_modify(|view| view.drain = None);
        seen(Stage::Stays).await;
        task.abort();

        let stands = Stands {
            status: "True".to_owned(),
            reason: DOWN.to_owned(),
        };
        for (network_unavailable, had_no_sessions) in [(Some(stands), false), (None, true)] {
            let restarted = Arc::<Board>::default();
            let task = tokio::spawn(run(restarted.clone(), had_no_sessions));
            // The Node is read a while later.
            tokio::time::sleep(LEAVING).await;
            let began = Instant::now();
            restarted.node.send_modify(|view| {
                view.is_read = true;
                view.drain = Some(cause.clone());
                view.network_unavailable = network_unavailable;
            });
            let mut shown = restarted.drain.subscribe();
            let left = |stage: &Stage| *stage == Stage::Left("why".to_owned());
            timeout(limit, shown.wait_for(left))
                .await
                .expect("in time")
                .unwrap();
            assert_eq!(began.elapsed(), Duration::ZERO, "it had left before");
            task.abort();
        }

        // Told to leave after it was read: peers come first, whatever was before.
        let fresh = Arc::<Board>::default();
        fresh.node.send_modify(|view| view.is_read = true);
        let task = tokio::spawn(run(fresh.clone(), true));
        tokio::time::sleep(LEAVING).await;
        let began = Instant::now();
        fresh
            .node
            .send_modify(|view| view.drain = Some(cause.clone()));
        let mut shown = fresh.drain.subscribe();
        let left = |stage: &Stage| *stage == Stage::Left("why".to_owned());
        timeout(limit, shown.wait_for(left))
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(began.elapsed(), LEAVING);
        task.abort();
    }
}
