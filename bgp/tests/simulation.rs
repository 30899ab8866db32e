//! Many speakers in virtual time: state machines and tables, real octets between them, no socket
//! and no clock.
//!
//! Each seed makes a topology and a history of cuts, deaths, restarts and pauses. When all is well
//! again, the speakers must agree: everybody reaches everything, nothing loops, nothing is stale,
//! and what each holds is what its peer believes it told.
//!
//! `TORTIE_SIMULATION_SEED` runs one seed, `TORTIE_SIMULATION_SEEDS` sets their number.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/topology.rs"]
mod topology;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/world.rs"]
mod world;

use topology::Kind;

/// Xorshift: the same sequence on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(2);
        random
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn seeds() -> std::ops::Range<u64> {
    match setting("TORTIE_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + setting("TORTIE_SIMULATION_SEEDS").unwrap_or(10),
    }
}

fn simulate(kind: Kind) {
    for seed in seeds() {
        let told = std::panic::catch_unwind(|| history::run(kind, seed));
        if let Err(problem) = told {
            eprintln!("repeat with TORTIE_SIMULATION_SEED={seed}");
            std::panic::resume_unwind(problem);
        }
    }
}

#[test]
fn a_full_mesh_agrees_after_any_history() {
    simulate(Kind::Mesh);
}

#[test]
fn clients_of_two_reflectors_agree_after_any_history() {
    simulate(Kind::Reflectors);
}

#[test]
fn a_graph_of_ases_agrees_after_any_history() {
    simulate(Kind::External);
}
