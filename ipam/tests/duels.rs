//! A few operations on the same handle or the same block, in random orders: the races that a long history
//! with many blocks rarely meets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "support/stepped.rs"]
mod stepped;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crds::core::ObjectMeta;
use crds::{Cidr, IpPool, IpPoolSpec};
use datastore::create_typed;
use ipam::{AutoAssign, Error, Ipam};
use stepped::{Random, Stepped, Tasks, block_on};
use world::World;

/// Orders per test when nothing else is asked for.
const ORDERS: u64 = 300;
const OPERATIONS: usize = 6;
const MAX_STEPS: usize = 100_000;

type Operation = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

fn block() -> Cidr {
    "10.0.0.0/31".parse().unwrap()
}

fn request(node: &str, handle: &str) -> AutoAssign {
    AutoAssign {
        node: node.to_owned(),
        handle: handle.to_owned(),
        v4: 1,
        ..AutoAssign::default()
    }
}

async fn add(ipam: Ipam, node: &'static str, handle: &'static str) -> Result<(), Error> {
    ipam.auto_assign(&request(node, handle)).await.map(|_| ())
}

async fn repair(ipam: Ipam) -> Result<(), Error> {
    ipam.repair().await.map(|_| ())
}

/// Runs random operations of the list against each other, each in a process of its own or some in one.
fn duel(operations: &[fn(Ipam) -> Operation]) {
    let number = |variable: &str| {
        std::env::var(variable)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seeds = match number("IPAM_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("IPAM_MODEL_CASES").unwrap_or(ORDERS),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one_order(seed, operations))) {
            println!("failed with IPAM_MODEL_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

fn one_order(seed: u64, operations: &[fn(Ipam) -> Operation]) {
    let random = Random::new(seed);
    let store = Stepped::new(random.clone());
    let spec = IpPoolSpec {
        block_size: Some(31),
        ..IpPoolSpec::new(block())
    };
    let metadata = ObjectMeta {
        name: Some("pool".to_owned()),
        ..ObjectMeta::default()
    };
    block_on(create_typed(
        &store.inner,
        &IpPool {
            metadata,
            spec,
            status: None,
        },
    ))
    .unwrap();
    let process = || Ipam::new(Arc::new(store.clone())).with_backoff(Arc::new(|_| Duration::ZERO));
    if random.percent(70) {
        block_on(process().auto_assign(&request("node-1", "net.old"))).unwrap();
    }
    let mut tasks = Tasks::new(random.clone());
    let (shared, share) = (process(), *random.pick(&[0, 50, 100]));
    for index in 0..OPERATIONS {
        let ipam = match random.percent(share) {
            true => shared.clone(),
            false => process(),
        };
        tasks.start(index, random.pick(operations)(ipam));
    }
    for _ in 0..MAX_STEPS {
        if let Some((_, outcome)) = tasks.step() {
            excuse(outcome);
        }
        if store.take_written() {
            World::read(&store.inner);
        }
        if random.percent(1) {
            tasks.abandon(|index| *index == 0);
        }
        if tasks.running.is_empty() {
            block_on(process().repair()).unwrap();
            World::read(&store.inner).check_settled();
            return;
        }
    }
    panic!("operations never end");
}

fn excuse(outcome: Result<(), Error>) {
    match outcome {
        Ok(()) | Err(Error::BlockClaimed { .. } | Error::BlockNotEmpty { .. }) => {}
        Err(error) => panic!("unexpected error: {error}"),
    }
}

#[test]
fn claims_and_releases_of_one_block() {
    duel(&[
        |ipam| Box::pin(async move { ipam.claim_block("node-1", block()).await }),
        |ipam| Box::pin(async move { ipam.claim_block("node-1", block()).await }),
        |ipam| Box::pin(async move { ipam.claim_block("node-2", block()).await }),
        |ipam| Box::pin(async move { ipam.release_affinity("node-1", block()).await }),
        |ipam| Box::pin(async move { ipam.release_affinity("node-1", block()).await }),
        |ipam| Box::pin(async move { ipam.release_empty_affinity("node-1", block()).await }),
        |ipam| Box::pin(add(ipam, "node-1", "net.a")),
        |ipam| Box::pin(async move { ipam.release_handle("net.a").await.map(|_| ()) }),
        |ipam| Box::pin(repair(ipam)),
    ]);
}

#[test]
fn requests_and_releases_of_one_handle() {
    duel(&[
        |ipam| Box::pin(add(ipam, "node-1", "net.a")),
        |ipam| Box::pin(add(ipam, "node-1", "net.a")),
        |ipam| Box::pin(async move { ipam.release_handle("net.a").await.map(|_| ()) }),
        |ipam| Box::pin(async move { ipam.release_handle("net.a").await.map(|_| ()) }),
        |ipam| Box::pin(async move { ipam.release_handle("net.old").await.map(|_| ()) }),
        |ipam| {
            Box::pin(async move {
                let held = ipam.allocations_of_node("node-1").await?;
                ipam.release_dead(held, None, BTreeSet::new())
                    .await
                    .map(|_| ())
            })
        },
        |ipam| Box::pin(repair(ipam)),
    ]);
}
