//! Why a request got fewer addresses than it asked for. Pure.

use std::fmt;
use std::time::SystemTime;

use crds::Cidr;
use crds::core::time_text;

use crate::block::BrokenBlock;
use crate::request::{Family, IntendedUse};

/// Everything that stood in the way of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shortfall {
    /// One entry per family that came short.
    pub families: Vec<FamilyShortfall>,
}

/// What stood in the way for one family.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyShortfall {
    /// The family.
    pub family: Family,
    /// How many addresses were asked for.
    pub wanted: u32,
    /// How many there are.
    pub got: u32,
    /// Why, most important first; never empty.
    pub reasons: Vec<Reason>,
}

/// One thing in the way, with object, field and remedy in its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// There is no pool of this family at all.
    NoPool(Family),
    /// Pools exist, and each was passed over.
    NoPoolFits {
        /// The node that asked.
        node: String,
        /// Pool and why not.
        passed_over: Vec<(String, PassedOver)>,
    },
    /// Every block there can be in these pools exists, and no address is free in those this node may use.
    PoolsExhausted(Vec<String>),
    /// The node has as many blocks as it may have.
    BlockLimit {
        /// The node.
        node: String,
        /// The limit in force.
        limit: u32,
    },
    /// No new block may be claimed.
    BlocksNotAllocated,
    /// No address of another node's block may be borrowed.
    StrictAffinity,
    /// Free addresses that are reserved.
    Reserved(u32),
    /// Free addresses that still rest.
    Cooling {
        /// How many.
        count: u32,
        /// For how long an address rests.
        cooldown_secs: u64,
    },
    /// The pool's block size changed after blocks had been made.
    BlockSize {
        /// The pool.
        pool: String,
        /// Its block size now.
        block_size: u8,
        /// A block of another size.
        existing: Cidr,
    },
    /// A block could not be used.
    Broken(BrokenBlock),
    /// The other reasons are those of an earlier look at all blocks.
    Remembered {
        /// When that was.
        looked: SystemTime,
        /// From when on they are looked at again.
        again: SystemTime,
    },
}

/// Why a pool was not used.
#[derive(Clone, Debug, PartialEq)]
pub enum PassedOver {
    /// `spec.disabled`.
    Disabled,
    /// It is being deleted.
    Deleting,
    /// `spec.assignmentMode: Manual`.
    Manual,
    /// `spec.nodeSelector` does not match.
    NodeSelector(String),
    /// `spec.namespaceSelector` does not match.
    NamespaceSelector(String),
    /// `spec.allowedUses` lacks the use.
    Use(IntendedUse),
    /// The object cannot be read.
    Broken(String),
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, family) in self.families.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{family}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FamilyShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} {} addresses assigned: ",
            self.got, self.wanted, self.family
        )?;
        for (index, reason) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoPool(family) => write!(f, "there is no {family} IPPool: create one"),
            Reason::NoPoolFits { node, passed_over } => {
                write!(f, "no IPPool serves node {node:?}")?;
                for (index, (pool, why)) in passed_over.iter().enumerate() {
                    let separator = if index == 0 { ": " } else { ", " };
                    write!(f, "{separator}{pool} ({why})")?;
                }
                Ok(())
            }
            Reason::PoolsExhausted(pools) => {
                write!(f, "no free address or block is left in IPPool {}: add a pool", pools.join(", "))
            }
            Reason::BlockLimit { node, limit } => write!(
                f,
                "node {node:?} has {limit} blocks, the limit of IPAMConfig default spec.maxBlocksPerHost: raise it"
            ),
            Reason::BlocksNotAllocated => {
                f.write_str("IPAMConfig default spec.autoAllocateBlocks is false: claim a block for the node or set it")
            }
            Reason::StrictAffinity => {
                f.write_str("IPAMConfig default spec.strictAffinity is true, so no address is borrowed from other nodes")
            }
            Reason::Reserved(count) => {
                write!(f, "{count} free addresses are held back by IPReservation spec.reservedCIDRs: narrow it")
            }
            Reason::Cooling { count, cooldown_secs } => write!(
                f,
                "{count} released addresses rest for IPAMConfig default spec.ipCooldownSeconds of {cooldown_secs}: try later"
            ),
            Reason::BlockSize { pool, block_size, existing } => write!(
                f,
                "IPPool {pool} has spec.blockSize {block_size}, but block {existing} of another size exists and is kept: \
                 give the pool its former size, or use a new pool for the new one"
            ),
            Reason::Broken(broken) => broken.fmt(f),
            Reason::Remembered { looked, again } => write!(
                f,
                "so it was when all blocks were looked at, at {}; they are again from {} on",
                time_text(*looked),
                time_text(*again)
            ),
        }
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassedOver::Disabled => f.write_str("spec.disabled is true"),
            PassedOver::Deleting => f.write_str("it is being deleted"),
            PassedOver::Manual => f.write_str("spec.assignmentMode is Manual"),
            PassedOver::NodeSelector(selector) => {
                write!(
                    f,
                    "spec.nodeSelector {selector:?} does not match the labels of the node"
                )
            }
            PassedOver::NamespaceSelector(selector) => {
                write!(
                    f,
                    "spec.namespaceSelector {selector:?} does not match the labels of the namespace"
                )
            }
            PassedOver::Use(intended) => write!(f, "spec.allowedUses lacks {intended}"),
            PassedOver::Broken(problem) => f.write_str(problem),
        }
    }
}
