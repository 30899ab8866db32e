//! What callers ask for and what they get.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crds::Cidr;
use crds::ip_pool::AllowedUse;

use crate::block::Refusal;
use crate::shortfall::Shortfall;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Family {
        if addr.is_ipv6() {
            Family::V6
        } else {
            Family::V4
        }
    }

    /// The family of a prefix.
    pub fn of_cidr(cidr: Cidr) -> Family {
        if cidr.is_ipv6() {
            Family::V6
        } else {
            Family::V4
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What an address is for; a pool names the uses it allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntendedUse {
    /// A pod.
    #[default]
    Workload,
    /// The overlay device of a node.
    Tunnel,
    /// A service.
    LoadBalancer,
}

impl From<IntendedUse> for AllowedUse {
    fn from(intended: IntendedUse) -> AllowedUse {
        match intended {
            IntendedUse::Workload => AllowedUse::Workload,
            IntendedUse::Tunnel => AllowedUse::Tunnel,
            IntendedUse::LoadBalancer => AllowedUse::LoadBalancer,
        }
    }
}

impl fmt::Display for IntendedUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IntendedUse::Workload => "Workload",
            IntendedUse::Tunnel => "Tunnel",
            IntendedUse::LoadBalancer => "LoadBalancer",
        })
    }
}

/// A request for any addresses.
#[derive(Clone, Debug, Default)]
pub struct AutoAssign {
    /// The node the addresses are for.
    pub node: String,
    /// Who holds them: `<network>.<containerID>` for a pod. Compared without case.
    pub handle: String,
    /// Kept with each address (`secondary` in the block); `node` is added.
    pub attributes: BTreeMap<String, String>,
    /// How many IPv4 addresses.
    pub v4: u32,
    /// How many IPv6 addresses.
    pub v6: u32,
    /// Names or CIDRs of the only IPv4 pools to use, in this order; their selectors are then ignored.
    pub pools_v4: Vec<String>,
    /// Names or CIDRs of the only IPv6 pools to use, in this order; their selectors are then ignored.
    pub pools_v6: Vec<String>,
    /// Labels of the pod's namespace, for `namespaceSelector` of pools.
    pub namespace_labels: BTreeMap<String, String>,
    /// What the addresses are for.
    pub intended_use: IntendedUse,
}

/// The addresses a request got. What was asked for and is missing is explained by `shortfall`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// IPv4 addresses.
    pub v4: Vec<IpAddr>,
    /// IPv6 addresses.
    pub v6: Vec<IpAddr>,
    /// Why there are fewer than asked for; `None` when the request was met.
    pub shortfall: Option<Shortfall>,
}

/// A request for one certain address.
#[derive(Clone, Debug)]
pub struct Assign {
    /// The address.
    pub addr: IpAddr,
    /// The node it is for.
    pub node: String,
    /// Who holds it.
    pub handle: String,
    /// Kept with the address; `node` is added.
    pub attributes: BTreeMap<String, String>,
}

/// A request to free one address, guarded against freeing what somebody else got since.
#[derive(Clone, Debug)]
pub struct Release {
    /// The address.
    pub addr: IpAddr,
    /// The handle that must hold it; `None` = whoever.
    pub handle: Option<String>,
    /// The stamp it must have, from [`Held::sequence`]; `None` = any.
    pub sequence: Option<u64>,
}

impl Release {
    /// Frees whoever's address without a guard.
    pub fn unguarded(addr: IpAddr) -> Release {
        Release {
            addr,
            handle: None,
            sequence: None,
        }
    }
}

/// What became of a list of releases. Every address of the request is in exactly one list, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Freed now.
    pub released: Vec<IpAddr>,
    /// Nobody held them.
    pub not_allocated: Vec<IpAddr>,
    /// The guard did not agree.
    pub refused: Vec<(IpAddr, Refusal)>,
}

/// An address somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub addr: IpAddr,
    /// The block it is in.
    pub block: Cidr,
    /// Who holds it; `None` only in blocks written by other tools.
    pub handle: Option<String>,
    /// What is known about the owner (`secondary` in the block).
    pub attributes: BTreeMap<String, String>,
    /// Stamp of the allocation: guard for [`Release::sequence`].
    pub sequence: Option<u64>,
}

impl From<Held> for Release {
    /// Frees the address if it is still the same allocation.
    fn from(held: Held) -> Release {
        Release {
            addr: held.addr,
            handle: held.handle,
            sequence: held.sequence,
        }
    }
}

/// Handles that are alive, as `release_dead` asks for them.
pub type LiveHandles = BTreeSet<String>;

/// What `repair` found and put right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Handles whose counts disagreed with the blocks.
    pub handles: Vec<String>,
    /// Affinities that were neither confirmed nor gone.
    pub affinities: Vec<String>,
    /// Blocks without owner and addresses that were deleted.
    pub blocks: Vec<Cidr>,
}
