//! From what is shown and what is wanted to changes. Pure.

use netlink::nft::{Change, Ruleset, Shown};

/// The least that makes the table right: nothing, elements of sets, rules of chains, or, where
/// sets and chains are not those that are wanted, all of it.
pub(super) fn plan<'a>(wanted: &'a Ruleset, shown: Option<&Shown>) -> Vec<Change<'a>> {
    let Some(shown) = shown.filter(|shown| shown.has_shape_of(wanted)) else {
        return vec![Change::Rebuild(wanted)];
    };
    let sets = wanted.sets.iter().filter_map(|set| {
        let (remove, add) = shown.difference(set);
        let differs = !remove.is_empty() || !add.is_empty();
        differs.then(|| Change::Ranges {
            table: &wanted.table,
            set: &set.name,
            remove,
            add,
        })
    });
    let chains = wanted.chains.iter().filter_map(|chain| {
        (!shown.has_rules_of(chain)).then_some(Change::Rules {
            table: &wanted.table,
            chain,
        })
    });
    sets.chain(chains).collect()
}
