//! Who talks to whom.

use bgp_rib::PeerKind;

use crate::Random;

/// What the nodes are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One AS, everybody talks to everybody.
    Mesh,
    /// One AS, two reflectors and their clients.
    Reflectors,
    /// An AS each, on a random connected graph.
    External,
}

pub(crate) struct Topology {
    pub(crate) kind: Kind,
    pub(crate) nodes: usize,
    pub(crate) links: Vec<[usize; 2]>,
}

impl Topology {
    pub(crate) fn new(kind: Kind, random: &mut Random) -> Self {
        let nodes = 3 + random.below(4) as usize;
        let all = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| [a, b]));
        let links = match kind {
            Kind::Mesh => all.collect(),
            Kind::Reflectors => all.filter(|[a, _]| *a < 2).collect(),
            Kind::External => {
                // A tree keeps it connected; every third of the other links makes circles.
                let mut links: Vec<[usize; 2]> = Vec::new();
                for node in 1..nodes {
                    links.push([random.below(node as u64) as usize, node]);
                }
                let more: Vec<[usize; 2]> = all.filter(|_| random.one_in(3)).collect();
                links.extend(more);
                links.sort_unstable();
                links.dedup();
                links
            }
        };
        Topology { kind, nodes, links }
    }

    pub(crate) fn asn(&self, node: usize) -> u32 {
        match self.kind {
            Kind::Mesh | Kind::Reflectors => 64500,
            Kind::External => 64501 + node as u32,
        }
    }

    /// What the node at the other end is to this one.
    pub(crate) fn peer_kind(&self, node: usize, peer: usize) -> PeerKind {
        match self.kind {
            Kind::Mesh => PeerKind::Ibgp,
            Kind::Reflectors if node < 2 && peer >= 2 => PeerKind::IbgpClient,
            Kind::Reflectors => PeerKind::Ibgp,
            Kind::External => PeerKind::Ebgp,
        }
    }
}
