//! What keeps a tunnel from being as it should.

use std::sync::Arc;

use netlink::TunnelKind;

/// Why a tunnel is not, or not wholly, as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The kernel has no such devices, nor a module for them.
    #[error("the kernel has no {kind} devices: load or install its module {kind}")]
    Unsupported {
        /// What it lacks.
        kind: TunnelKind,
    },
    /// The name belongs to something else, which is left alone.
    #[error(
        "the name belongs to a device of kind {found}, which is left alone: rename or remove it"
    )]
    OtherKind {
        /// What the device is.
        found: String,
    },
    /// The interface that the tunnel should send by is not there.
    #[error("its interface {parent} is not there")]
    NoParent {
        /// Name of that interface.
        parent: Arc<str>,
    },
    /// Two other ends claim the same hardware address; the first one has it.
    #[error(
        "nodes {first} and {second} have the same tunnel hardware address: change the annotation \
         of one"
    )]
    SharedMac {
        /// Address of the node that is reached.
        first: std::net::IpAddr,
        /// Address of the node that is not.
        second: std::net::IpAddr,
    },
    /// The kernel refuses something.
    #[error("{0}")]
    Refused(String),
    /// The tunnel in user space does not work.
    #[error("the user-space tunnel: {0}")]
    User(String),
    /// It was put right again and again, and is still not right.
    #[error("somebody else keeps changing it")]
    Contested,
}
