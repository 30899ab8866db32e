//! What can go wrong: object, field and remedy are in each text.

use std::net::IpAddr;

use crds::Cidr;

use crate::block::BrokenBlock;

/// An operation that did not do what was asked.
///
/// What it had written by then is settled by the next operation on the same handle, or by `repair`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The datastore refused or is away; with `Unavailable` a write may or may not have happened.
    #[error(transparent)]
    Datastore(#[from] datastore::Error),
    /// Somebody else changed the object first, each time.
    #[error("{object} changed under us {attempts} times in a row: try again")]
    TooManyConflicts {
        /// The contended object.
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A pool that was asked for cannot serve the request.
    #[error("requested pool {requested:?} {problem}: {remedy}")]
    RequestedPool {
        /// As the request named it.
        requested: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Pools select nodes by label, and the node's labels are unknown.
    #[error(
        "node {node:?} has no Node object, and IPPool {pool} selects nodes by label: create the Node or clear spec.nodeSelector"
    )]
    UnknownNode {
        /// The node.
        node: String,
        /// A pool with a node selector.
        pool: String,
    },
    /// An address outside all pools was asked for.
    #[error(
        "address {0} lies in no enabled IPPool: ask for an address of a pool, or create one that contains it"
    )]
    OutsidePools(IpAddr),
    /// An address that is taken was asked for.
    #[error(
        "address {addr} is held by handle {holder:?}: ask for another address or release that one"
    )]
    AddressInUse {
        /// The address.
        addr: IpAddr,
        /// Who holds it; empty when the holder has no handle.
        holder: String,
    },
    /// An address of another node's block was asked for and may not be borrowed.
    #[error(
        "address {addr} belongs to block {block} of {owner:?}, and IPAMConfig default spec.strictAffinity forbids borrowing: \
         ask for an address of the node's own blocks or clear spec.strictAffinity"
    )]
    StrictAffinity {
        /// The address.
        addr: IpAddr,
        /// Its block.
        block: Cidr,
        /// The owner of the block.
        owner: String,
    },
    /// A block is somebody else's.
    #[error("block {block} belongs to {owner:?}")]
    BlockClaimed {
        /// The block.
        block: Cidr,
        /// Its owner.
        owner: String,
    },
    /// A block still has addresses.
    #[error("block {block} is not empty, {held} addresses are held or resting: release them first")]
    BlockNotEmpty {
        /// The block.
        block: Cidr,
        /// How many are not free.
        held: u32,
    },
    /// A block that was asked for is not one a pool can have.
    #[error("block {block} is not one of IPPool {pool}, whose blocks are /{block_size}")]
    NotABlock {
        /// The block.
        block: Cidr,
        /// The pool it lies in; empty when it lies in none.
        pool: String,
        /// Block size of the pool.
        block_size: u8,
    },
    /// A block would share addresses with one of another size.
    #[error(
        "block {block} would overlap block {existing}, which has another size: give the pool that spec.blockSize"
    )]
    Overlap {
        /// The block that was to be made.
        block: Cidr,
        /// The block that exists.
        existing: Cidr,
    },
    /// A block object contradicts itself.
    #[error(transparent)]
    BrokenBlock(#[from] BrokenBlock),
    /// An object cannot be read.
    #[error("{kind} {name:?} cannot be read: {problem}")]
    BrokenObject {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Field, problem and remedy.
        problem: String,
    },
    /// A request lacks something.
    #[error("the request has no {0}: name one")]
    Incomplete(&'static str),
}
