//! What is measured: one module per kind of work.

mod best;
mod full_table;
mod kernel;
mod reflector;
mod sessions;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::daemon::Kind;
use crate::run::Measured;

/// A full table of this size, for curves.
///
/// # Errors
/// As [`Scenario::run`].
pub fn full_table(kind: Kind, prefixes: usize, limit: Duration) -> Result<Measured> {
    full_table::run(kind, prefixes, 1, limit)
}

/// A reflector with so many clients, for curves.
///
/// # Errors
/// As [`Scenario::run`].
pub fn reflector(kind: Kind, clients: usize, limit: Duration) -> Result<Measured> {
    reflector::announce(kind, clients, limit)
}

/// A scenario: one daemon, some clients, some phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// A million prefixes in 159,000 attribute sets from one client to another, between ASes.
    #[value(name = "1m")]
    FullTable,
    /// Ten clients with the same 100,000 prefixes, one that is told the best.
    #[value(name = "best")]
    Best,
    /// A route reflector with 500 clients, each with four blocks.
    #[value(name = "rr500")]
    Reflector500,
    /// A route reflector with 1,000 clients, each with four blocks; 100 of them go and return.
    #[value(name = "rr1000")]
    Reflector1000,
    /// 500 sessions that are dialled at once.
    #[value(name = "storm500")]
    Storm,
    /// A mesh of 500 neighbours in which nothing happens for ten seconds.
    #[value(name = "mesh500")]
    Idle,
    /// 500,000 prefixes from one client into the kernel.
    #[value(name = "kernel500k")]
    Kernel,
}

impl Scenario {
    /// Title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::FullTable => "1M prefixes in 159k attribute sets, 1 sender → 1 receiver",
            Self::Best => "10 senders × the same 100k prefixes → 1 receiver",
            Self::Reflector500 => "reflector, 500 clients × 4 blocks",
            Self::Reflector1000 => "reflector, 1000 clients × 4 blocks",
            Self::Storm => "500 sessions dialled at once",
            Self::Idle => "mesh of 500 idle sessions, 10 s",
            Self::Kernel => "500k routes into the kernel and out again",
        }
    }

    /// Whether its wall time says anything.
    pub fn is_timed(self) -> bool {
        self != Self::Idle
    }

    /// Whether it says anything about this speaker, in a time that is bearable.
    pub fn concerns(self, kind: Kind) -> bool {
        match kind {
            // A relay announces what a mesh does not, and has no kernel routes.
            Kind::Relay => !matches!(self, Self::Idle | Self::Kernel),
            // It needs minutes for what takes others seconds.
            Kind::Gobgp => matches!(self, Self::Reflector500 | Self::Storm | Self::Idle),
            Kind::Tortie | Kind::Bird | Kind::Frr => true,
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// The daemon does not start, ends, or breaks the protocol.
    pub fn run(self, kind: Kind, limit: Duration) -> Result<Measured> {
        match self {
            Self::FullTable => full_table::run(kind, 1_000_000, 3, limit),
            Self::Best => best::run(kind, limit),
            Self::Reflector500 => reflector::run(kind, 500, 0, limit),
            Self::Reflector1000 => reflector::run(kind, 1000, 100, limit),
            Self::Storm => sessions::storm(kind, limit),
            Self::Idle => sessions::idle(kind, limit),
            Self::Kernel => kernel::run(kind, 500_000, limit),
        }
    }
}
