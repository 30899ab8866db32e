//! Random histories of several nodes and a controller over one datastore: every call of the datastore is a point where
//! others go on, where the call may fail, and where the operation may be cut off for good, to be repeated or not.
//!
//! After every write `World::read` checks what must always hold; besides, what an operation has returned must be true from
//! then on. In the end everything is settled and must agree exactly. A failure prints its seed; run that one alone with
//! `IPAM_MODEL_SEED=<seed>`, or more of them with `IPAM_MODEL_CASES=<number>`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "support/history.rs"]
mod history;
#[path = "support/stepped.rs"]
mod stepped;
#[path = "support/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use history::{History, Trouble};

/// Histories per test when nothing else is asked for.
const CASES: u64 = 10;

fn run(name: &str, trouble: Trouble) {
    let number = |variable: &str| {
        std::env::var(variable)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seeds = match number("IPAM_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("IPAM_MODEL_CASES").unwrap_or(CASES),
    };
    for seed in seeds {
        let case = || History::new(seed, trouble).run();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(case)) {
            println!("{name} failed with IPAM_MODEL_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn addresses_stay_unique_while_nodes_compete() {
    run(
        "competition",
        Trouble {
            conflict: 0,
            unavailable: 0,
            abandon: 0,
        },
    );
}

#[test]
fn addresses_stay_unique_while_writes_conflict_and_the_store_is_away() {
    run(
        "faults",
        Trouble {
            conflict: 5,
            unavailable: 3,
            abandon: 0,
        },
    );
}

#[test]
fn addresses_stay_unique_while_operations_are_cut_off() {
    run(
        "crashes",
        Trouble {
            conflict: 2,
            unavailable: 1,
            abandon: 4,
        },
    );
}
