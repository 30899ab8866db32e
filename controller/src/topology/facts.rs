//! What is known of nodes, sessions and settings, and what follows from it about who reaches whom. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// How nodes exchange their routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Mesh,
    Reflectors,
}

impl Target {
    /// As it stands in the annotation of BGPConfiguration `default`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::Mesh => "mesh",
            Target::Reflectors => "reflectors",
        }
    }
}

/// BGPConfiguration `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mesh {
    pub(crate) is_on: bool,
    /// What an earlier look aimed at.
    pub(crate) target: Option<Target>,
    /// Fields that hinder the end of the mesh.
    pub(crate) hindered_by: Option<&'static str>,
}

/// Whether a node reflects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    #[default]
    None,
    /// With this cluster id, because we said so.
    Ours(String),
    /// Somebody else said so.
    Foreign,
}

/// What a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Mesh,
    /// A BGPPeer that we made.
    Peering,
}

/// A session with another node, as an agent reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) via: Via,
    pub(crate) is_up: bool,
    pub(crate) received: u64,
    pub(crate) advertised: u64,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) zone: Option<String>,
    /// The selector chooses it, a BGPPeer can name it, and nobody else has a BGPPeer of that name.
    pub(crate) may_reflect: bool,
    pub(crate) has_address: bool,
    pub(crate) mark: Mark,
    /// It leaves the routing of the cluster.
    pub(crate) leaves: bool,
    /// No pods are put there.
    pub(crate) is_cordoned: bool,
    /// Its agent has reported lately.
    pub(crate) is_fresh: bool,
    /// That it announces.
    pub(crate) blocks: u64,
    /// By the name of the other node.
    pub(crate) sessions: BTreeMap<String, Session>,
}

/// A BGPPeer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peering {
    Right,
    /// Somebody has changed it.
    Wrong,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) nodes: BTreeMap<String, NodeFacts>,
    /// By the node that it leads to.
    pub(crate) peerings: BTreeMap<String, Peering>,
    pub(crate) mesh: Mesh,
}

impl Facts {
    /// Nodes that speak BGP, or will.
    pub(crate) fn speakers(&self) -> usize {
        let nodes = self.nodes.values();
        nodes.filter(|node| node.has_address).count()
    }

    /// Nodes that somebody who has reported lately has a session with, and that do not leave. One that nobody sees is
    /// dead or has not come up yet. One that is seen and does not report itself is cut off from the datastore: it
    /// learns of no change, so that nothing may be taken away from it.
    pub(crate) fn awaited(&self) -> BTreeSet<&str> {
        let fresh = self.nodes.values().filter(|node| node.is_fresh);
        let sessions = fresh.flat_map(|node| &node.sessions);
        let seen = sessions.filter(|(_, session)| session.is_up);
        let stays = |name: &&str| self.nodes.get(*name).is_some_and(|node| !node.leaves);
        seen.map(|(name, _)| name.as_str()).filter(stays).collect()
    }

    pub(crate) fn is_marked(&self, name: &str) -> bool {
        let node = self.nodes.get(name);
        node.is_some_and(|node| matches!(node.mark, Mark::Ours(_)))
    }

    /// What `one` says of its session with `other`.
    fn session(&self, one: &str, other: &str) -> Option<&Session> {
        self.nodes.get(one)?.sessions.get(other)
    }

    /// Both ends say that they have a session: what an agent that died said last counts for nothing.
    pub(crate) fn has_link(&self, one: &str, other: &str, via: impl Fn(Via) -> bool) -> bool {
        let has = |one, other| {
            let session = self.session(one, other);
            session.is_some_and(|session| session.is_up && via(session.via))
        };
        has(one, other) && has(other, one)
    }

    /// Why the peer `from` may not have told `to` all that it has of its own, if so.
    pub(crate) fn lacks_of_neighbour(&self, to: &str, from: &str) -> Option<String> {
        let expected = self.told(from, to);
        let received = self.session(to, from)?.received;
        (received < expected).then(|| {
            format!("node {to} has {received} routes of node {from}, {expected} or more are told")
        })
    }

    /// Why a reflector may not have told `to` all that it was told, if so. Who reflects itself asks everybody.
    pub(crate) fn lacks_of_reflector(
        &self,
        to: &str,
        reflector: &str,
        awaited: &BTreeSet<&str>,
    ) -> Option<String> {
        if self.is_marked(to) {
            return None;
        }
        let others = awaited
            .iter()
            .filter(|other| **other != to && **other != reflector);
        let expected: u64 = others.map(|other| self.told(other, reflector)).sum();
        let received = self.session(to, reflector)?.received;
        (received < expected).then(|| {
            format!("node {to} has {received} routes of the reflector {reflector}, {expected} or more are there")
        })
    }

    /// At least so many routes of its own a node tells another. A pool may be kept out of BGP.
    fn told(&self, from: &str, to: &str) -> u64 {
        let blocks = self.nodes.get(from).map_or(0, |node| node.blocks);
        let session = self.session(from, to);
        session.map_or(0, |session| session.advertised.min(blocks))
    }
}
