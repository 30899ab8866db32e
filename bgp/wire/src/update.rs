//! UPDATE: routes that go and routes that come (RFC 4271 §4.3, 4760, 7606).

use std::sync::Arc;

mod decode;
mod mp;
mod pack;

pub(crate) use decode::Verdicts;
pub use pack::{ReachBlock, pack_end_of_rib, pack_unreach};

use crate::{AttributeError, Attributes, Disposition, Family, NextHop, Nlri};

/// Routes that go and routes that come.
///
/// What RFC 7606 asks for has been done already when an `Update` comes out of [`decode`](crate::decode):
/// discarded attributes are not there, and where a fault means treat-as-withdraw the routes stand in `unreach`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Routes that go, at most one entry per family and field of the message. Apply these before `reach`.
    pub unreach: Vec<Unreach>,
    /// Routes that come, at most one entry per family and field of the message.
    pub reach: Vec<Reach>,
    /// Attributes of all routes in `reach`; `None` when there are none.
    pub attributes: Option<Arc<Attributes>>,
    /// Faults found and dealt with, for logs and counters; at most [`MAX_VERDICTS`].
    pub verdicts: Vec<AttributeError>,
}

/// More faults than this are dealt with but not listed, so that a message cannot grow in memory.
pub const MAX_VERDICTS: usize = 16;

/// Routes of one family that go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreach {
    /// The family.
    pub family: Family,
    /// The routes; none in an End-of-RIB.
    pub nlri: Vec<Nlri>,
}

/// Routes of one family that come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The family.
    pub family: Family,
    /// Where packets for the routes go.
    pub next_hop: NextHop,
    /// The routes.
    pub nlri: Vec<Nlri>,
}

impl Update {
    /// The mark that a peer has sent all routes of a family (RFC 4724 §2).
    pub fn end_of_rib(family: Family) -> Update {
        let nlri = Vec::new();
        Update {
            unreach: vec![Unreach { family, nlri }],
            ..Update::default()
        }
    }

    /// The family, when this is an End-of-RIB.
    pub fn as_end_of_rib(&self) -> Option<Family> {
        match self.unreach.as_slice() {
            [Unreach { family, nlri }]
                if nlri.is_empty() && self.reach.is_empty() && self.verdicts.is_empty() =>
            {
                Some(*family)
            }
            _ => None,
        }
    }

    /// True when a fault made announced routes into withdrawn ones.
    pub fn is_treated_as_withdraw(&self) -> bool {
        self.verdicts
            .iter()
            .any(|verdict| verdict.disposition == Disposition::Withdraw)
    }
}
