//! What to do next. Pure.
//!
//! Each look decides anew from what is there, so a controller that is killed anywhere is followed by one that goes on.
//! What is made comes first; what is taken away waits until everybody is seen to do without it, and has been for a
//! while. The only thing remembered is for how long something has been so: whoever forgets it waits longer.
//!
//! ```text
//!  mesh ─▶ BGPPeers ─ all nodes have sessions by them ─▶ marks ─ all nodes have all routes by them ─▶ no mesh
//!  no mesh ─▶ mesh ─ all nodes have all its sessions ─▶ no marks ─▶ no BGPPeers
//! ```
//!
//! A mark takes its node out of the mesh, so its BGPPeer is there before and goes after it.
//! A reflector is replaced like this too: first the new one, whole, then the mark and the BGPPeer of the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::choose::Choice;
use super::facts::{Facts, Mark, Peering, Target, Via};

/// For how long a reflector is out of reach before it is replaced. An agent that is exchanged is back sooner.
const PATIENCE: Duration = Duration::from_secs(60);
/// Below this share of the limit reflectors are given up, so that nothing flaps around it.
const BACK_PERCENT: usize = 80;

/// What people ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Above so many nodes there are reflectors.
    pub(crate) mesh_limit: usize,
    /// How many.
    pub(crate) count: usize,
    pub(crate) cluster_id: String,
    /// For how long all must be well before something is taken away.
    pub(crate) settle: Duration,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Write down that there shall be reflectors, before there is any.
    Begin,
    CreatePeering(String),
    CorrectPeering(String),
    /// Make this node reflect.
    Mark(String),
    EndMesh,
    Unmark(String),
    /// Of the node of this name.
    DeletePeering(String),
    /// Switch the mesh on, and write down that it shall be.
    BeginMesh,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Mesh,
    Reflectors,
    /// On the way to one of them, or one reflector takes the place of another.
    Changing,
    /// Somebody else has arranged it.
    LeftAlone,
}

impl State {
    pub(crate) const ALL: [State; 4] = [
        State::Mesh,
        State::Reflectors,
        State::Changing,
        State::LeftAlone,
    ];

    /// As metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Mesh => "mesh",
            State::Reflectors => "reflectors",
            State::Changing => "changing",
            State::LeftAlone => "left_alone",
        }
    }
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) state: State,
    pub(crate) actions: Vec<Action>,
    /// What it waits for, or why it does nothing.
    pub(crate) because: Option<String>,
    /// Nodes that reflect.
    pub(crate) reflectors: usize,
}

/// Since when something has been so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    held: BTreeMap<String, Instant>,
    out_of_reach: BTreeMap<String, Instant>,
    /// Nodes with an address.
    known: BTreeMap<String, Instant>,
}

impl Memory {
    /// Nodes that have not been there for long enough to be seen by others; those that have are forgotten with their Node.
    fn newcomers<'a>(&mut self, facts: &'a Facts, now: Instant, settle: Duration) -> Vec<&'a str> {
        let speakers = facts.nodes.iter().filter(|(_, node)| node.has_address);
        let since = |name: &String| self.known.get(name).copied().unwrap_or(now);
        let known: BTreeMap<String, Instant> = speakers
            .map(|(name, _)| (name.clone(), since(name)))
            .collect();
        self.known = known;
        let stay = facts.nodes.iter().filter(|(_, node)| !node.leaves);
        let is_new = |name: &&String| {
            let since = self.known.get(*name);
            since.is_some_and(|since| now.duration_since(*since) < settle)
        };
        let names = stay.map(|(name, _)| name).filter(is_new);
        names.map(String::as_str).collect()
    }
}

/// One look.
struct Look<'a> {
    facts: &'a Facts,
    settings: &'a Settings,
    awaited: BTreeSet<&'a str>,
    /// These, and nodes that may have sessions that nobody has reported yet.
    everybody: BTreeSet<&'a str>,
    now: Instant,
    memory: &'a mut Memory,
    /// What has been so of late; the rest is forgotten.
    held: BTreeMap<String, Instant>,
    actions: Vec<Action>,
    because: Option<String>,
}

/// Decides.
pub(crate) fn plan(facts: &Facts, settings: &Settings, memory: &mut Memory, now: Instant) -> Plan {
    let awaited = facts.awaited();
    let newcomers = memory.newcomers(facts, now, settings.settle);
    let mut look = Look {
        facts,
        settings,
        everybody: awaited.iter().copied().chain(newcomers).collect(),
        awaited,
        now,
        memory,
        held: BTreeMap::new(),
        actions: Vec::new(),
        because: None,
    };
    let state = look.decide();
    let (actions, because, held) = (look.actions, look.because, look.held);
    memory.held = held;
    let marked = facts.nodes.keys().filter(|name| facts.is_marked(name));
    Plan {
        state,
        actions,
        because,
        reflectors: marked.count(),
    }
}

impl<'a> Look<'a> {
    fn decide(&mut self) -> State {
        let target = self.target();
        if let Some(reason) = self.arranged_by_others(target) {
            self.because = Some(reason);
            return State::LeftAlone;
        }
        match target {
            Target::Mesh => self.make_mesh(),
            Target::Reflectors => self.make_reflectors(),
        }
    }

    fn target(&self) -> Target {
        let (nodes, limit) = (self.facts.speakers(), self.settings.mesh_limit);
        if nodes > limit {
            return Target::Reflectors;
        }
        if nodes * 100 < limit * BACK_PERCENT {
            return Target::Mesh;
        }
        self.facts.mesh.target.unwrap_or(Target::Mesh)
    }

    fn arranged_by_others(&self, target: Target) -> Option<String> {
        let foreign = |(_, node): &(&String, &super::facts::NodeFacts)| node.mark == Mark::Foreign;
        if let Some((name, _)) = self.facts.nodes.iter().find(foreign) {
            return Some(format!(
                "Node/{name} metadata.annotations: it is a route reflector that somebody else made; remove \
                 projectcalico.org/RouteReflectorClusterID from all nodes, or set reflectors.mode to nodes"
            ));
        }
        let mesh = &self.facts.mesh;
        if !mesh.is_on && mesh.target != Some(Target::Reflectors) {
            return Some(
                "BGPConfiguration/default spec.nodeToNodeMeshEnabled: somebody else has switched the mesh off; switch \
                 it on, or set another reflectors.mode"
                    .to_owned(),
            );
        }
        if let (Some(field), true, Target::Reflectors) = (mesh.hindered_by, mesh.is_on, target) {
            return Some(format!(
                "BGPConfiguration/default {field}: it goes with a mesh only, which {} nodes would leave; remove it, or \
                 raise the limit of the mesh, {}",
                self.facts.speakers(),
                self.settings.mesh_limit
            ));
        }
        None
    }

    fn make_reflectors(&mut self) -> State {
        if self.facts.mesh.target != Some(Target::Reflectors) {
            self.actions.push(Action::Begin);
            return State::Changing;
        }
        let given_up = self.given_up();
        let choice = Choice {
            facts: self.facts,
            awaited: &self.awaited,
            given_up: &given_up,
            count: self.settings.count,
        };
        let chosen = choice.choose();
        for name in &chosen {
            self.bring_up(name);
        }
        let needed = self.settings.count.min(2);
        if chosen.len() < needed {
            self.wait(format!(
                "{} nodes can be reflectors, {needed} are needed: more must match the selector, have the label \
                 kubernetes.io/hostname and an agent with sessions, and be neither cordoned nor drained",
                chosen.len()
            ));
        }
        if self.because.is_none() {
            self.because = self.why_not_served(&chosen, &self.awaited);
        }
        let all: Vec<&str> = chosen.iter().copied().collect();
        if self.because.is_none() && self.has_settled(format!("served by {}", all.join(","))) {
            self.because = self.why_not_served(&chosen, &self.everybody);
            if self.because.is_some() {
                return State::Changing;
            }
            if self.facts.mesh.is_on {
                self.actions.push(Action::EndMesh);
            } else {
                self.retire(&chosen);
            }
        }
        let is_done = self.because.is_none() && self.actions.is_empty();
        let mut there = self.facts.peerings.keys().map(String::as_str);
        let is_all = there.all(|name| chosen.contains(name));
        match is_done && is_all && !self.facts.mesh.is_on {
            true => State::Reflectors,
            false => State::Changing,
        }
    }

    /// BGPPeer first, then, when all nodes have a session by it, the mark.
    fn bring_up(&mut self, name: &str) {
        let id = &self.settings.cluster_id;
        match self.facts.peerings.get(name) {
            None => self.actions.push(Action::CreatePeering(name.to_owned())),
            Some(Peering::Wrong) => self.actions.push(Action::CorrectPeering(name.to_owned())),
            Some(Peering::Right) => match self.facts.nodes.get(name).map(|node| &node.mark) {
                Some(Mark::Ours(marked)) if marked == id => {}
                Some(Mark::Ours(_)) => self.actions.push(Action::Mark(name.to_owned())),
                Some(Mark::None | Mark::Foreign) | None => self.mark(name),
            },
        }
    }

    /// A report may be some seconds old, and of a BGPPeer of this name that was deleted meanwhile: so it waits as well.
    fn mark(&mut self, name: &str) {
        if let Some(missing) = self.unlinked(name, &self.awaited) {
            self.wait(missing);
        } else if self.has_settled(format!("linked {name}")) {
            match self.unlinked(name, &self.everybody) {
                None => self.actions.push(Action::Mark(name.to_owned())),
                Some(missing) => self.wait(missing),
            }
        }
    }

    /// Somebody who has no session with a node by its BGPPeer.
    fn unlinked(&self, name: &str, nodes: &BTreeSet<&str>) -> Option<String> {
        let by_peering = |via| via == Via::Peering;
        let mut others = nodes.iter().filter(|other| **other != name);
        let other = others.find(|other| !self.facts.has_link(name, other, by_peering))?;
        Some(self.no_session(name, other))
    }

    fn no_session(&self, one: &str, other: &str) -> String {
        let silent = [one, other].into_iter().find(|name| {
            let node = self.facts.nodes.get(*name);
            node.is_some_and(|node| !node.is_fresh)
        });
        match silent {
            Some(silent) => format!(
                "the agent of node {silent} has sessions and has not reported for minutes: does it reach the datastore?"
            ),
            None => format!("nodes {one} and {other} do not both report a session as asked for"),
        }
    }

    /// Why not every node could live on these reflectors alone, if so.
    fn why_not_served(&self, chosen: &BTreeSet<&str>, nodes: &BTreeSet<&str>) -> Option<String> {
        for name in chosen {
            if self.facts.peerings.get(*name) != Some(&Peering::Right)
                || !self.facts.is_marked(name)
            {
                return Some(format!("node {name} is not a reflector yet"));
            }
            if let Some(missing) = self.unlinked(name, nodes) {
                return Some(missing);
            }
            let mut clients = nodes.iter().filter(|client| *client != name);
            let lacks =
                clients.find_map(|client| self.facts.lacks_of_reflector(client, name, nodes));
            if lacks.is_some() {
                return lacks;
            }
        }
        self.why_not_believed()
    }

    /// Why not every node could live on the mesh alone, if so.
    fn why_not_meshed(&self, nodes: &BTreeSet<&str>) -> Option<String> {
        for one in nodes {
            for other in nodes.iter().filter(|other| *other != one) {
                let by_peering = self.reflects(one) || self.reflects(other);
                let right = |via| via == Via::Mesh || by_peering;
                if !self.facts.has_link(one, other, right) {
                    return Some(self.no_session(one, other));
                }
                let lacks = self.facts.lacks_of_neighbour(one, other);
                if lacks.is_some() {
                    return lacks;
                }
            }
        }
        self.why_not_believed()
    }

    /// Of those the sessions come from a BGPPeer.
    fn reflects(&self, name: &str) -> bool {
        self.facts.is_marked(name) || self.facts.peerings.contains_key(name)
    }

    /// What is known of a few nodes says nothing of the others.
    fn why_not_believed(&self) -> Option<String> {
        let (awaited, all) = (self.awaited.len(), self.facts.speakers());
        (awaited * 2 <= all).then(|| {
            format!(
                "sessions are reported of {awaited} of {all} nodes only, more than half is needed"
            )
        })
    }

    /// Takes away what is not chosen: first the mark, later the BGPPeer.
    fn retire(&mut self, chosen: &BTreeSet<&str>) {
        let is_over = |name: &&String| !chosen.contains(name.as_str());
        let mut marked = self
            .facts
            .nodes
            .keys()
            .filter(|name| self.facts.is_marked(name));
        // One by one: each may be the better half of somebody.
        if let Some(name) = marked.find(is_over) {
            self.actions.push(Action::Unmark(name.clone()));
            return;
        }
        let peerings = self.facts.peerings.keys().filter(is_over);
        for name in peerings.collect::<Vec<_>>() {
            self.delete_peering(name);
        }
    }

    fn make_mesh(&mut self) -> State {
        let mesh = &self.facts.mesh;
        if !mesh.is_on || mesh.target == Some(Target::Reflectors) {
            self.actions.push(Action::BeginMesh);
            return State::Changing;
        }
        let marked = self
            .facts
            .nodes
            .keys()
            .filter(|name| self.facts.is_marked(name));
        let marked: Vec<&String> = marked.collect();
        let peerings: Vec<&String> = self.facts.peerings.keys().collect();
        if marked.is_empty() && peerings.is_empty() {
            return State::Mesh;
        }
        self.because = self.why_not_meshed(&self.awaited);
        if self.because.is_none() && self.has_settled("meshed".to_owned()) {
            self.because = self.why_not_meshed(&self.everybody);
            if self.because.is_some() {
                return State::Changing;
            }
            if marked.is_empty() {
                for name in peerings {
                    self.delete_peering(name);
                }
            } else {
                let unmark = |name: &String| Action::Unmark(name.clone());
                self.actions.extend(marked.into_iter().map(unmark));
            }
        }
        State::Changing
    }

    /// Not before all agents have had time to see that the node does not reflect any more.
    fn delete_peering(&mut self, name: &str) {
        if self.has_settled(format!("unmarked {name}")) {
            self.actions.push(Action::DeletePeering(name.to_owned()));
        }
    }

    /// Reflectors, also coming ones, that have been out of reach for a while.
    fn given_up(&mut self) -> BTreeSet<String> {
        let facts = self.facts;
        let current = facts.nodes.keys().filter(|name| self.reflects(name));
        let out: Vec<&String> = current.filter(|name| !self.is_reached(name)).collect();
        let (before, now) = (&self.memory.out_of_reach, self.now);
        let since = |name: &String| before.get(name).copied().unwrap_or(now);
        let out: BTreeMap<String, Instant> = out
            .into_iter()
            .map(|name| (name.clone(), since(name)))
            .collect();
        self.memory.out_of_reach = out;
        let out = self.memory.out_of_reach.iter();
        let long = out.filter(|(_, since)| self.now.duration_since(**since) >= PATIENCE);
        long.map(|(name, _)| name.clone()).collect()
    }

    /// At least half of the others have a session with it.
    fn is_reached(&self, name: &str) -> bool {
        let others = self.awaited.iter().filter(|other| **other != name);
        let others: Vec<&&str> = others.collect();
        let linked = others
            .iter()
            .filter(|other| self.facts.has_link(name, other, |_| true));
        // A node that has only begun has sessions with the reflectors and nobody else.
        let needed = match self.facts.is_marked(name) {
            true => others.len().div_ceil(2),
            false => 1,
        };
        linked.count() >= needed.max(1)
    }

    /// What is so now has been so for as long as it takes.
    fn has_settled(&mut self, what: String) -> bool {
        let since = self.memory.held.get(&what).copied().unwrap_or(self.now);
        self.held.insert(what, since);
        self.now.duration_since(since) >= self.settings.settle
    }

    /// The first reason is told.
    fn wait(&mut self, because: String) {
        self.because.get_or_insert(because);
    }
}

#[cfg(test)]
mod tests;
