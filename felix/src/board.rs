//! What each task last knew, for probes, status and people.
//!
//! Every entry has one writer; readers see the newest value and may wait for a change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bgp::{PeerInfo, PeerKey, State};
use crds::Kind;
use datastore::{Key, Outage};
use felix_calc::{
    Bgp, BlockUse, Endpoints, Interface, Overlay, PeerKind, PeerSpec, Problem, RouteNumbers,
    TunnelFacts,
};
use felix_dataplane::{Counters, Failure, TunnelReport};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drain::{Cause, Stage};
use crate::network_unavailable::Stands;
use crate::speaker::quorum::{Lack, Quorum};

/// How long the kernel may refuse something before the agent is not ready.
const STUCK: Duration = Duration::from_secs(15);

/// The board all tasks share.
#[derive(Debug, Default)]
pub struct Board {
    /// Written by the calc task.
    pub calc: watch::Sender<CalcView>,
    /// Written by the dataplane thread.
    pub dataplane: watch::Sender<DataplaneView>,
    /// Written by the dataplane thread: the host's own network.
    pub host: watch::Sender<HostView>,
    /// Written by the speaker task.
    pub speaker: watch::Sender<SpeakerView>,
    /// Written by the watches, each for its kind: what is stored and cannot be used, by place.
    pub stored: watch::Sender<BTreeMap<(Kind, String), Problem>>,
    /// Written by the watches: objects with fields that nobody here knows.
    pub unknown: watch::Sender<BTreeMap<Key, Problem>>,
    /// Written by the node address task.
    pub node: watch::Sender<NodeView>,
    /// Written by the drain task: whether this node leaves.
    pub drain: watch::Sender<Stage>,
    /// Written by the headless task: the datastore is away.
    pub outage: watch::Sender<Option<Outage>>,
    /// Written by the keeper of tunnel addresses: what is wrong with them.
    pub tunnels: watch::Sender<Vec<Problem>>,
    /// Written by the CNI server: what is wrong with its own state.
    pub cni: watch::Sender<CniView>,
}

/// What the calculation last said.
#[derive(Clone, Debug, Default)]
pub struct CalcView {
    /// What is missing before the first output.
    pub waiting_for: Vec<String>,
    /// Generation of the last output, 0 before the first.
    pub generation: u64,
    /// Generation that has all that was learned until BGP converged; nothing before.
    pub learned: Option<u64>,
    /// Local endpoints.
    pub endpoints: Arc<Endpoints>,
    /// Blocks this node claims.
    pub blocks: Vec<BlockUse>,
    /// Routes that shall be.
    pub routes: RouteNumbers,
    /// What is known of this node's tunnels; nothing before the first output.
    pub tunnels: Option<TunnelFacts>,
    /// The tunnels there shall be; nothing before the first output.
    pub overlay: Option<Arc<Overlay>>,
    /// Addresses of blocks of other nodes that these find by the Node only; nothing before the first output.
    pub borrowed: Option<BTreeSet<IpAddr>>,
    /// The BGP section.
    pub bgp: Option<Arc<Bgp>>,
    /// What is wrong with the inputs.
    pub problems: Arc<Vec<Problem>>,
}

/// What the dataplane last did.
#[derive(Clone, Debug, Default)]
pub struct DataplaneView {
    /// Generation of the last output that was taken into account, 0 before the first.
    pub generation: u64,
    /// Generation of the last one after which nothing was left to do, 0 before the first.
    pub settled: u64,
    /// Workload interfaces whose settings and routes are all in the kernel.
    pub ready: Arc<BTreeSet<Arc<str>>>,
    /// Tunnels by the name of their device.
    pub tunnels: Arc<BTreeMap<Arc<str>, TunnelReport>>,
    /// What the kernel refused; retried.
    pub failures: Arc<Vec<Failure>>,
    /// Since when there have been failures without a break.
    pub failing_since: Option<Instant>,
    /// What was done so far.
    pub counters: Counters,
    /// Steps that failed as a whole, since the start.
    pub errors: u64,
}

/// The host's own network as the dataplane last saw it.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// It has been listed.
    pub listed: bool,
    /// Interfaces by index, without those of workloads.
    pub interfaces: Arc<Vec<Interface>>,
}

/// What the speaker last said.
#[derive(Clone, Debug, Default)]
pub struct SpeakerView {
    /// The settings switch BGP off.
    pub off: bool,
    /// The speaker runs.
    pub started: bool,
    /// It came back from a restart and says so to its peers, until it has converged.
    pub restarting: bool,
    /// Every peer that could be reached has told all its routes.
    pub converged: bool,
    /// All configured peers.
    pub peers: BTreeMap<PeerKey, PeerInfo>,
    /// Which of them were up, and whether enough are.
    pub quorum: Quorum,
}

/// What is known of this host's place in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The node object says who we are.
    pub known: bool,
    /// Why not.
    pub problem: Option<Problem>,
    /// The same in a word, for a condition.
    pub reason: &'static str,
    /// MTU of the interface with the node address, 0 when not known.
    pub mtu: u32,
    /// The Node object has been read.
    pub is_read: bool,
    /// Why this node shall leave.
    pub drain: Option<Cause>,
    /// Its condition NetworkUnavailable.
    pub network_unavailable: Option<Stands>,
    /// Its annotation about borrowed addresses.
    pub borrowed: Option<String>,
}

/// What is known of the endpoints' bookkeeping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniView {
    /// Endpoint records.
    pub endpoints: usize,
    /// Deletions that wait for the datastore.
    pub unsettled: usize,
    /// The socket is open.
    pub serving: bool,
}

impl Board {
    /// Why the agent is not ready; empty when it is.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(problem) = &self.node.borrow().problem {
            reasons.push(problem.to_string());
        }
        let calc = self.calc.borrow();
        reasons.extend(
            calc.waiting_for
                .iter()
                .map(|what| format!("waiting for {what}")),
        );
        let dataplane = self.dataplane.borrow();
        if dataplane.settled == 0 {
            reasons.push("nothing is in the kernel yet".to_owned());
        }
        // What is repaired at the next try, such as an interface that was just going away, is none.
        if dataplane
            .failing_since
            .is_some_and(|since| since.elapsed() > STUCK)
        {
            let failures = dataplane.failures.iter();
            reasons.extend(failures.map(|failure| format!("the kernel refuses {failure}")));
        }
        let speaker = self.speaker.borrow();
        if speaker.off {
            // There is nothing to wait for.
        } else if !speaker.started {
            reasons.push("the BGP speaker has not started".to_owned());
        } else if !speaker.converged {
            reasons.push("the BGP speaker waits for the routes of its peers".to_owned());
        } else if calc
            .learned
            .is_none_or(|learned| dataplane.settled < learned)
        {
            reasons.push("learned routes are not in the kernel yet".to_owned());
        }
        let left = matches!(*self.drain.borrow(), Stage::Left(_));
        if let Some(lack) = speaker.quorum.lacks(Instant::now()).filter(|_| !left) {
            let Lack { up, of } = lack;
            reasons.push(format!(
                "only {up} of {of} BGP peers that were up still are"
            ));
        }
        if !self.cni.borrow().serving {
            reasons.push("the CNI socket is not open".to_owned());
        }
        reasons
    }

    /// Everything that was to be done at the start has been done: what BGP told is in the kernel.
    pub fn is_in_kernel(&self) -> bool {
        let calc = self.calc.borrow();
        let settled = self.dataplane.borrow().settled;
        let needed = match self.speaker.borrow().off {
            true => Some(1),
            false => calc.learned.map(|learned| learned.max(1)),
        };
        calc.waiting_for.is_empty() && needed.is_some_and(|needed| settled >= needed)
    }

    /// What is wrong with the objects in the datastore.
    pub fn configuration_problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.calc.borrow().problems.to_vec();
        problems.extend(self.stored.borrow().values().cloned());
        problems.extend(self.unknown.borrow().values().cloned());
        problems.extend(self.node.borrow().problem.clone());
        problems.extend(self.tunnels.borrow().iter().cloned());
        problems.sort();
        problems.dedup();
        problems
    }

    /// Everything that is wrong and that somebody can do something about.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.configuration_problems();
        let section = self.calc.borrow().bgp.clone();
        let speaker = self.speaker.borrow();
        for spec in section.iter().flat_map(|bgp| bgp.peers.values()) {
            if let Some(info) = speaker.peers.get(&crate::speaker::key(spec)) {
                problems.extend(session_problems(spec, info));
            }
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

/// What is wrong with a session, and on whose side to look.
fn session_problems(spec: &PeerSpec, info: &PeerInfo) -> Vec<Problem> {
    let peer = format!(
        "{} port {} in AS {}",
        spec.address, spec.port, spec.remote_as
    );
    let problem = |problem: String, remedy: &str| Problem {
        object: spec.object.clone(),
        field: match spec.kind {
            PeerKind::NodeMesh => "metadata.annotations",
            PeerKind::NodePeer | PeerKind::GlobalPeer => "spec.peerIP",
        }
        .to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let down = info
        .last_error
        .as_ref()
        .filter(|_| info.state != State::Established);
    let down = down.map(|error| {
        problem(
            format!("the session with {peer} is down: {error}"),
            "compare address, port and AS number with what the peer has, and see what the peer says",
        )
    });
    let malformed = info.malformed.as_ref().map(|fault| {
        problem(
            format!("{peer} sends what is malformed, last: {fault}"),
            "mend the peer, or whoever it has the route from; this text goes with the session",
        )
    });
    down.into_iter().chain(malformed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_is_missing() {
        let board = Board::default();
        board
            .calc
            .send_modify(|view| view.waiting_for = vec!["objects of kind Node".to_owned()]);
        let reasons = board.not_ready().join("\n");
        for reason in [
            "kind Node",
            "in the kernel",
            "speaker has not started",
            "CNI socket",
        ] {
            assert!(reasons.contains(reason), "{reason} is not in\n{reasons}");
        }
        board.calc.send_modify(|view| view.waiting_for.clear());
        board.dataplane.send_modify(|view| view.settled = 1);
        board.cni.send_modify(|view| view.serving = true);
        board.speaker.send_modify(|view| view.started = true);
        assert_eq!(
            board.not_ready(),
            ["the BGP speaker waits for the routes of its peers"]
        );
        assert!(!board.is_in_kernel());
        board.speaker.send_modify(|view| view.converged = true);
        let learned = "learned routes are not in the kernel yet";
        assert_eq!(board.not_ready(), [learned]);
        board.calc.send_modify(|view| view.learned = Some(2));
        assert_eq!(board.not_ready(), [learned]);
        assert!(!board.is_in_kernel());
        board.dataplane.send_modify(|view| view.settled = 2);
        assert_eq!(board.not_ready(), [""; 0]);
        assert!(board.is_in_kernel());
        board.outage.send_replace(Some(Outage {
            since: std::time::SystemTime::UNIX_EPOCH,
            problem: "away".to_owned(),
        }));
        assert_eq!(board.not_ready(), [""; 0], "headless is no reason");
        board.speaker.send_replace(SpeakerView {
            off: true,
            ..SpeakerView::default()
        });
        assert_eq!(
            board.not_ready(),
            [""; 0],
            "without BGP there is no peer to wait for"
        );
    }

    #[test]
    fn a_node_of_which_most_peers_are_gone_is_not_ready() {
        let mut quorum = Quorum::default();
        let now = Instant::now();
        quorum.note(&"tor1".into(), true, now);
        quorum.note(&"tor1".into(), false, now);
        let board = Board::default();
        board.speaker.send_modify(|view| view.quorum = quorum);
        let reasons = board.not_ready().join("\n");
        assert!(reasons.contains("only 0 of 1 BGP peers"), "{reasons}");
        board.drain.send_replace(Stage::Left("asked".to_owned()));
        let reasons = board.not_ready().join("\n");
        assert!(!reasons.contains("BGP peers"), "it wants none: {reasons}");
    }

    #[test]
    fn a_refusal_counts_once_it_lasts() {
        let board = Board::default();
        let refused = |since: Instant| {
            board.dataplane.send_modify(|view| {
                let (object, problem) = ("route".to_owned(), "no such device".to_owned());
                view.failures = Arc::new(vec![Failure { object, problem }]);
                view.failing_since = Some(since);
            });
            board
                .not_ready()
                .iter()
                .any(|reason| reason.contains("no such device"))
        };
        assert!(!refused(Instant::now()));
        assert!(refused(Instant::now() - 2 * STUCK));
    }
}
