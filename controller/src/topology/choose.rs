//! Which nodes are to reflect. Pure.
//!
//! Who reflects goes on as long as it can; new ones are taken where the zones have fewest, and among equals by a hash of
//! the name, so that every controller takes the same. Only reflectors that are all in one zone, while another zone has
//! candidates, make one of them move.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::facts::Facts;

/// What is to be chosen from.
pub(crate) struct Choice<'a, 'b> {
    pub(crate) facts: &'a Facts,
    pub(crate) awaited: &'b BTreeSet<&'a str>,
    /// Reflectors that have been out of reach for a while.
    pub(crate) given_up: &'b BTreeSet<String>,
    pub(crate) count: usize,
}

/// The lower, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Reflects,
    /// Its BGPPeer is there.
    Begun,
    New,
}

impl<'a> Choice<'a, '_> {
    /// The names, at most `count`.
    pub(crate) fn choose(&self) -> BTreeSet<&'a str> {
        let mut candidates: Vec<(&str, Class)> = self.candidates().collect();
        let mut chosen: Vec<&str> = Vec::new();
        while chosen.len() < self.count {
            let mut used: BTreeMap<&str, usize> = BTreeMap::new();
            for name in &chosen {
                *used.entry(self.zone(name)).or_default() += 1;
            }
            let rank = |(name, class): &(&str, Class)| {
                let in_zone = used.get(self.zone(name)).copied().unwrap_or_default();
                (*class, in_zone, hash(name))
            };
            let best = (0..candidates.len()).min_by_key(|at| rank(&candidates[*at]));
            let Some(best) = best else { break };
            chosen.push(candidates.swap_remove(best).0);
        }
        let zones: BTreeSet<&str> = chosen.iter().map(|name| self.zone(name)).collect();
        if chosen.len() > 1 && zones.len() == 1 {
            candidates.retain(|(name, _)| !zones.contains(self.zone(name)));
            let elsewhere = candidates
                .iter()
                .min_by_key(|(name, class)| (*class, hash(name)));
            if let Some((elsewhere, _)) = elsewhere {
                chosen.pop();
                chosen.push(elsewhere);
            }
        }
        chosen.into_iter().collect()
    }

    fn candidates(&self) -> impl Iterator<Item = (&'a str, Class)> {
        self.facts.nodes.iter().filter_map(|(name, node)| {
            let class = match (
                self.facts.is_marked(name),
                self.facts.peerings.contains_key(name),
            ) {
                (true, _) => Class::Reflects,
                (false, true) => Class::Begun,
                (false, false) => Class::New,
            };
            let may = node.may_reflect && node.has_address && !node.leaves;
            let may = may && !self.given_up.contains(name);
            // One that is not there yet, or is about to be emptied, is no good start.
            let is_good = node.is_fresh && !node.is_cordoned && self.awaited.contains(&**name);
            (may && (class != Class::New || is_good)).then_some((name.as_str(), class))
        })
    }

    /// Nodes without zone are in one of their own.
    fn zone(&self, name: &str) -> &'a str {
        let zone = self
            .facts
            .nodes
            .get(name)
            .and_then(|node| node.zone.as_deref());
        zone.unwrap_or_default()
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Mark, Mesh, NodeFacts, Peering};
    use super::*;

    const CLUSTER_ID: &str = "198.51.100.1";

    fn facts(nodes: &[(&str, &str)]) -> Facts {
        let node = |(name, zone): &(&str, &str)| {
            let node = NodeFacts {
                zone: Some((*zone).to_owned()),
                may_reflect: true,
                has_address: true,
                is_fresh: true,
                ..NodeFacts::default()
            };
            ((*name).to_owned(), node)
        };
        Facts {
            nodes: nodes.iter().map(node).collect(),
            peerings: BTreeMap::new(),
            mesh: Mesh {
                is_on: true,
                target: None,
                hindered_by: None,
            },
        }
    }

    fn mark(facts: &mut Facts, names: &[&str]) {
        for name in names {
            facts.nodes.get_mut(*name).unwrap().mark = Mark::Ours(CLUSTER_ID.to_owned());
            facts.peerings.insert((*name).to_owned(), Peering::Right);
        }
    }

    fn choose<'a>(facts: &'a Facts, given_up: &[&str], count: usize) -> BTreeSet<&'a str> {
        let awaited: BTreeSet<&str> = facts.nodes.keys().map(String::as_str).collect();
        let given_up = given_up.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice {
            facts,
            awaited: &awaited,
            given_up: &given_up,
            count,
        };
        choice.choose()
    }

    fn zones(facts: &Facts, chosen: &BTreeSet<&str>) -> Vec<String> {
        let zone = |name: &&str| facts.nodes[*name].zone.clone().unwrap();
        let mut zones: Vec<String> = chosen.iter().map(zone).collect();
        zones.sort();
        zones
    }

    const NINE: [(&str, &str); 9] = [
        ("n1", "a"),
        ("n2", "a"),
        ("n3", "a"),
        ("n4", "a"),
        ("n5", "a"),
        ("n6", "b"),
        ("n7", "b"),
        ("n8", "c"),
        ("n9", "c"),
    ];

    #[test]
    fn zones_are_balanced() {
        let facts = facts(&NINE);
        assert_eq!(zones(&facts, &choose(&facts, &[], 3)), ["a", "b", "c"]);
        let five = choose(&facts, &[], 5);
        let per_zone = ["a", "b", "c"].map(|zone| {
            let all = zones(&facts, &five);
            all.iter().filter(|one| *one == zone).count()
        });
        assert_eq!(per_zone.iter().sum::<usize>(), 5);
        assert!(per_zone.iter().all(|count| *count <= 2), "{per_zone:?}");
        assert_eq!(choose(&facts, &[], 20).len(), 9);
    }

    #[test]
    fn who_reflects_goes_on() {
        let mut facts = facts(&NINE);
        mark(&mut facts, &["n1", "n2", "n8"]);
        assert_eq!(choose(&facts, &[], 3), ["n1", "n2", "n8"].into());
        let four = choose(&facts, &[], 4);
        assert_eq!(zones(&facts, &four), ["a", "a", "b", "c"]);
        // Cordoned is not drained.
        facts.nodes.get_mut("n8").unwrap().is_cordoned = true;
        assert_eq!(choose(&facts, &[], 3), ["n1", "n2", "n8"].into());
        // One too many: of the zone that has two.
        let two = choose(&facts, &[], 2);
        assert_eq!(zones(&facts, &two), ["a", "c"]);
    }

    #[test]
    fn who_cannot_go_on_is_replaced_alone() {
        let mut facts = facts(&NINE);
        mark(&mut facts, &["n1", "n6", "n8"]);
        let given_up = choose(&facts, &["n8"], 3);
        assert_eq!(given_up, ["n1", "n6", "n9"].into());
        facts.nodes.get_mut("n6").unwrap().leaves = true;
        assert_eq!(choose(&facts, &["n8"], 3), ["n1", "n7", "n9"].into());
        facts.nodes.get_mut("n1").unwrap().may_reflect = false;
        let three = choose(&facts, &[], 3);
        assert!(!three.contains("n1"), "{three:?}");
        assert_eq!(zones(&facts, &three), ["a", "b", "c"]);
        facts.nodes.remove("n8");
        assert!(choose(&facts, &[], 3).contains("n9"));
    }

    #[test]
    fn not_all_are_in_one_zone() {
        let mut facts = facts(&NINE);
        mark(&mut facts, &["n1", "n2", "n3"]);
        let three = choose(&facts, &[], 3);
        assert_eq!(zones(&facts, &three)[..2], ["a", "a"]);
        assert_ne!(zones(&facts, &three)[2], "a");
        for name in ["n6", "n7", "n8", "n9"] {
            facts.nodes.get_mut(name).unwrap().is_cordoned = true;
        }
        assert_eq!(choose(&facts, &[], 3), ["n1", "n2", "n3"].into());
    }

    #[test]
    fn cordoned_silent_and_unknown_nodes_are_not_begun_with() {
        let mut facts = facts(&[("n1", "a"), ("n2", "a"), ("n3", "a"), ("n4", "a")]);
        facts.nodes.get_mut("n1").unwrap().is_cordoned = true;
        facts.nodes.get_mut("n2").unwrap().is_fresh = false;
        facts.nodes.get_mut("n3").unwrap().has_address = false;
        assert_eq!(choose(&facts, &[], 3), ["n4"].into());
    }
}
