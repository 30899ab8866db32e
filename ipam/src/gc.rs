//! Collection of what nobody uses any more: addresses, blocks and claims of nodes that are gone, empty blocks, and what
//! interrupted operations left. Pure: a [`Snapshot`] and a time in, a [`Sweep`] with findings and actions out.
//!
//! The rules are Calico's with one addition. An address leaks when its pod is gone, finished, elsewhere or has other
//! addresses; what is not known to belong to a pod or to a tunnel is never judged. On a node that is there a leak is
//! first a candidate and after the grace period confirmed, and then it is told, not freed: whether the sandbox is gone is
//! known on that node only, so its agent frees it (`Ipam::release_dead`). On a node that is gone a leak is freed at
//! once, all addresses of a handle or none; the node's tunnel addresses and blocks follow when nothing of it is in use.
//! Gone means: there is no Node object and no agent has reported under that name for a while.
//!
//! Nothing at all is freed while the snapshot looks stale ([`Suspicion`]). Whoever acts looks once more before: see
//! [`still_leaked`].

mod empty;
mod guard;
mod judge;
mod leftover;
mod memory;
mod pools;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use crds::Cidr;

pub use guard::Suspicion;
pub use judge::{Reason, still_leaked};
pub(crate) use snapshot::reported;
pub use snapshot::{Lists, Snapshot};

use crate::request::Held;
use judge::Judgement;
use memory::Memory;
use snapshot::node_of;

/// When something counts as gone.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a leak on a node that is there, and an empty block, must be seen; `None` = both are left alone.
    pub grace: Option<Duration>,
    /// For how long the agent of a node without Node object must not have reported.
    pub silence: Duration,
    /// How long an operation may take between two writes; what is half-written for longer is settled.
    pub under_way: Duration,
    /// When more of the nodes with addresses are gone, and more than one, the snapshot is not believed.
    pub max_gone_percent: u8,
    /// Whether a cluster without any Pod object is suspicious.
    pub expect_pods: bool,
    /// Whether pools that somebody deletes stay until they are not in use. Only an API server can hold an object back.
    pub guard_pools: bool,
}

impl Default for Settings {
    /// Calico's grace period; agents report at least every five minutes.
    fn default() -> Self {
        Settings {
            grace: Some(Duration::from_secs(15 * 60)),
            silence: Duration::from_secs(6 * 60),
            under_way: Duration::from_secs(60),
            max_gone_percent: 50,
            expect_pods: true,
            guard_pools: true,
        }
    }
}

/// What to do about an address that is not plainly in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It looks leaked, for less than the grace period.
    Candidate,
    /// It looks leaked for longer; the node is there, so its agent decides.
    Confirmed,
    /// It is freed.
    Free,
    /// Its node is gone and it stays nevertheless.
    Kept,
}

impl State {
    /// The word for it in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Candidate => "candidate",
            State::Confirmed => "confirmed",
            State::Free => "free",
            State::Kept => "kept",
        }
    }
}

/// An address that is not plainly in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The allocation.
    pub held: Held,
    /// Node it is for.
    pub node: String,
    /// What happens to it.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Since when it is seen like this.
    pub since: SystemTime,
}

/// One thing to do, in the order of the list. Each may be repeated and may come too late.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Free an address of a node that is gone; guarded by its handle and its stamp.
    Release(Held),
    /// Give back all blocks of a node that is gone, once its addresses are freed.
    ReleaseNode {
        /// The node.
        node: String,
        /// Its blocks.
        blocks: BTreeSet<Cidr>,
    },
    /// Delete the status that the agent of a node that is gone left.
    ForgetStatus(String),
    /// Give back a block, if it is still empty, that a node has not used for the grace period or whose pool is deleted.
    ReleaseEmptyBlock {
        /// The node.
        node: String,
        /// The block.
        block: Cidr,
    },
    /// See to it that a pool does not go while it is in use.
    GuardPool(String),
    /// Let a pool go that somebody deleted and nobody uses.
    ReleasePool(String),
    /// Finish what an interrupted operation left of an object.
    Settle {
        /// Kind and name.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What a look at the cluster says.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Addresses that are not plainly in use, by node and address.
    pub findings: Vec<Finding>,
    /// What to do.
    pub actions: Vec<Action>,
    /// Why nothing of nodes that are gone is touched although there would be something.
    pub refused: Option<Suspicion>,
    /// Nodes without Node object that are not treated as gone because an agent reports under their name, and until when.
    pub reporting: BTreeMap<String, SystemTime>,
    /// Nodes that are gone, and when their agent reported last.
    pub gone: BTreeMap<String, Option<SystemTime>>,
    /// Pools that somebody deletes, and how many of their addresses are in use.
    pub pools: BTreeMap<String, usize>,
    /// Addresses allocated.
    pub allocated: usize,
    /// Blocks that can be read.
    pub blocks: usize,
    /// When the next look is worth it, if something is due by time alone.
    pub due: Option<SystemTime>,
}

impl Sweep {
    /// How many addresses are in a state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|f| f.state == state).count()
    }
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has a Node object.
    Here,
    /// It has none, but an agent reported; it counts as gone from then on.
    Reporting(SystemTime),
    Gone,
}

/// Who leaked since when, which blocks are empty since when.
pub struct Collector {
    settings: Settings,
    leaks: Memory<LeakKey>,
    empty: Memory<empty::Key>,
    leftovers: Memory<leftover::Key>,
    deleting: Memory<String>,
}

/// An allocation: the same address given out again is another.
type LeakKey = (std::net::IpAddr, Option<String>, Option<u64>);

impl Collector {
    /// A collector that has seen nothing yet.
    pub fn new(settings: Settings) -> Collector {
        Collector {
            settings,
            leaks: Memory::default(),
            empty: Memory::default(),
            leftovers: Memory::default(),
            deleting: Memory::default(),
        }
    }

    /// Judges everything in a snapshot.
    pub fn sweep(&mut self, now: SystemTime, snapshot: &Snapshot) -> Sweep {
        let presence = snapshot.presence(now, self.settings.silence);
        let mut sweep = Sweep {
            allocated: snapshot.held().count(),
            blocks: snapshot.blocks.len(),
            ..Sweep::default()
        };
        for (node, presence) in &presence {
            match presence {
                Presence::Here => {}
                Presence::Reporting(until) => {
                    sweep.reporting.insert(node.clone(), *until);
                    sweep.look_again(*until);
                }
                Presence::Gone => {
                    let reported = snapshot.reports.get(node).copied();
                    sweep.gone.insert(node.clone(), reported);
                }
            }
        }
        self.find_leaks(now, snapshot, &presence, &mut sweep);
        spare_shared_handles(&mut sweep.findings, snapshot);
        spare_tunnels_in_use(&mut sweep.findings);
        sweep
            .findings
            .sort_by(|a, b| (&a.node, a.held.addr).cmp(&(&b.node, b.held.addr)));
        let mut gone = gone_node_actions(&presence, snapshot, &sweep.findings);
        if !gone.is_empty() {
            sweep.refused = guard::judge(&self.settings, &presence, snapshot);
        }
        if sweep.refused.is_some() {
            gone.clear();
        }
        sweep.actions = gone;
        self.release_empty_blocks(now, snapshot, &presence, &mut sweep);
        self.guard_pools(now, snapshot, &presence, &mut sweep);
        self.settle_leftovers(now, snapshot, &presence, &mut sweep);
        sweep
    }

    fn find_leaks(
        &mut self,
        now: SystemTime,
        snapshot: &Snapshot,
        presence: &BTreeMap<String, Presence>,
        sweep: &mut Sweep,
    ) {
        let mut found = Vec::new();
        for held in snapshot.held() {
            let Some(node) = node_of(held) else { continue };
            let is_gone = presence.get(node) == Some(&Presence::Gone);
            let (state, reason) = match judge::judge(held, snapshot) {
                Judgement::Leaked(reason) if is_gone => (State::Free, reason),
                Judgement::Leaked(reason) => (State::Candidate, reason),
                Judgement::Tunnel if is_gone => (State::Free, Reason::NodeGone),
                Judgement::Kept(reason) if is_gone => (State::Kept, reason),
                Judgement::Tunnel | Judgement::Kept(_) | Judgement::OfBlock => continue,
            };
            found.push((held.clone(), node.to_owned(), state, reason));
        }
        let leaked = found
            .iter()
            .filter(|(_, _, state, _)| *state != State::Kept);
        self.leaks
            .look(now, leaked.map(|(held, ..)| leak_key(held)).collect());
        for (held, node, mut state, reason) in found {
            let since = self.leaks.since(&leak_key(&held)).unwrap_or(now);
            if state == State::Candidate {
                let Some(grace) = self.settings.grace else {
                    continue;
                };
                if memory::lasted(since, now, grace) {
                    state = State::Confirmed;
                } else {
                    sweep.look_again(since + grace);
                }
            }
            sweep.findings.push(Finding {
                held,
                node,
                state,
                reason,
                since,
            });
        }
    }
}

impl Sweep {
    fn look_again(&mut self, when: SystemTime) {
        self.due = Some(self.due.map_or(when, |due| due.min(when)));
    }
}

fn leak_key(held: &Held) -> LeakKey {
    (held.addr, held.handle.clone(), held.sequence)
}

/// All addresses of a handle are freed or none: one that is in use proves that its owner is.
fn spare_shared_handles(findings: &mut [Finding], snapshot: &Snapshot) {
    let freed: BTreeSet<LeakKey> = findings
        .iter()
        .filter(|finding| finding.state == State::Free)
        .map(|finding| leak_key(&finding.held))
        .collect();
    let in_use: BTreeSet<String> = snapshot
        .held()
        .filter(|held| !freed.contains(&leak_key(held)))
        .filter_map(|held| Some(held.handle.as_deref()?.to_lowercase()))
        .collect();
    for finding in findings
        .iter_mut()
        .filter(|finding| finding.state == State::Free)
    {
        let id = finding.held.handle.as_deref().map(str::to_lowercase);
        if id.is_some_and(|id| in_use.contains(&id)) {
            (finding.state, finding.reason) = (State::Kept, Reason::HandleInUse);
        }
    }
}

/// A node of which anything is in use may be there after all, so its tunnels are left alone.
fn spare_tunnels_in_use(findings: &mut [Finding]) {
    let in_use: BTreeSet<String> = findings
        .iter()
        .filter(|finding| finding.state == State::Kept)
        .map(|finding| finding.node.clone())
        .collect();
    for finding in findings.iter_mut() {
        if finding.reason == Reason::NodeGone && in_use.contains(&finding.node) {
            (finding.state, finding.reason) = (State::Kept, Reason::NodeInUse);
        }
    }
}

fn gone_node_actions(
    presence: &BTreeMap<String, Presence>,
    snapshot: &Snapshot,
    findings: &[Finding],
) -> Vec<Action> {
    let freed = findings
        .iter()
        .filter(|finding| finding.state == State::Free);
    let mut actions: Vec<Action> = freed.map(|f| Action::Release(f.held.clone())).collect();
    let in_use: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.state == State::Kept)
        .map(|finding| finding.node.as_str())
        .collect();
    for (node, presence) in presence {
        if *presence != Presence::Gone || in_use.contains(node.as_str()) {
            continue;
        }
        let blocks = snapshot.blocks_of(node);
        if !blocks.is_empty() {
            let node = node.clone();
            actions.push(Action::ReleaseNode { node, blocks });
        }
        if snapshot.reports.contains_key(node) {
            actions.push(Action::ForgetStatus(node.clone()));
        }
    }
    actions
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Release(held) => write!(f, "free address {}", held.addr),
            Action::ReleaseNode { node, blocks } => {
                let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "give back blocks {} of node {node}, which is gone",
                    blocks.join(", ")
                )
            }
            Action::ForgetStatus(node) => {
                write!(f, "delete NodeStatus {node}, whose node is gone")
            }
            Action::ReleaseEmptyBlock { node, block } => {
                write!(
                    f,
                    "give back block {block} of node {node}, which does not need it"
                )
            }
            Action::GuardPool(name) => write!(f, "keep IPPool {name} from going while in use"),
            Action::ReleasePool(name) => {
                write!(f, "let IPPool {name} go, which is deleted and not in use")
            }
            Action::Settle { object, problem } => write!(f, "settle {object}: {problem}"),
        }
    }
}
