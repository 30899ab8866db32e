//! Pools, and the blocks of this node.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::Problem;
use crate::facts::{Affinity, Block, Pool};
use crate::routes::pool_of;

/// The blocks this node owns: the affinity is confirmed and the block says the same.
///
/// A pending affinity is no ownership, and one without its block once led to a bogus drop route
/// and announcement (projectcalico/calico#4471).
pub(crate) fn owned(
    affinities: &BTreeMap<String, Affinity>,
    blocks: &BTreeMap<String, Block>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<IpNet, Block> {
    let by_cidr: BTreeMap<IpNet, &Block> = blocks.values().map(|b| (b.cidr, b)).collect();
    let mut owned = BTreeMap::new();
    for (name, affinity) in affinities.iter().filter(|(_, a)| a.confirmed) {
        match by_cidr.get(&affinity.cidr) {
            Some(block) => {
                owned.insert(affinity.cidr, (*block).clone());
            }
            None => problems.push(Problem {
                object: format!("BlockAffinity/{name}"),
                field: "spec.state".to_owned(),
                problem: format!(
                    "the affinity is confirmed but no block {} of this node exists, so it is neither dropped nor announced",
                    affinity.cidr
                ),
                remedy: "delete the affinity".to_owned(),
            }),
        }
    }
    owned
}

/// What is wrong with the pools, and with the blocks in view of the pools.
pub(crate) fn check(
    pools: &BTreeMap<String, Pool>,
    owned: &BTreeMap<IpNet, Block>,
    problems: &mut Vec<Problem>,
) {
    for (name, pool) in pools {
        for (other, later) in pools.range(name.clone()..).skip(1) {
            if pool.cidr.contains(&later.cidr) || later.cidr.contains(&pool.cidr) {
                problems.push(overlap(name, pool.cidr, other, later.cidr));
            }
        }
    }
    for cidr in owned.keys() {
        problems.extend(other_size(pools, *cidr));
    }
    let all: Vec<Pool> = pools.values().cloned().collect();
    for cidr in owned.keys().filter(|cidr| pool_of(&all, **cidr).is_none()) {
        problems.push(Problem {
            object: format!(
                "IPAMBlock/{}",
                cidr.to_string().replace(['.', ':', '/'], "-")
            ),
            field: "spec.cidr".to_owned(),
            problem: format!(
                "the block {cidr} lies in no IPPool; it stays announced, without encapsulation"
            ),
            remedy: "restore the pool, or delete the workloads that still have its addresses"
                .to_owned(),
        });
    }
}

/// A block of another size than its pool says now.
fn other_size(pools: &BTreeMap<String, Pool>, cidr: IpNet) -> Option<Problem> {
    let holding = pools.iter().filter(|(_, pool)| pool.cidr.contains(&cidr));
    let (name, pool) = holding.max_by_key(|(_, pool)| pool.cidr.prefix_len())?;
    (pool.block_size != cidr.prefix_len()).then(|| Problem {
        object: format!("IPPool/{name}"),
        field: "spec.blockSize".to_owned(),
        problem: format!(
            "it is {}, but block {cidr} was made before; it stays as it is, new ones are /{}",
            pool.block_size, pool.block_size
        ),
        remedy: "give the pool its former size, or use a new pool for the new one".to_owned(),
    })
}

fn overlap(name: &str, cidr: IpNet, other: &str, other_cidr: IpNet) -> Problem {
    Problem {
        object: format!("IPPool/{name}, IPPool/{other}"),
        field: "spec.cidr".to_owned(),
        problem: format!("{cidr} of {name} and {other_cidr} of {other} overlap"),
        remedy: "make the pools disjoint; until then the most specific one decides".to_owned(),
    }
}
