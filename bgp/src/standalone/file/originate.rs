//! Prefixes of ours.

use std::net::IpAddr;

use bgp::Originate;
use serde::Deserialize;

use crate::standalone::prefix::{Community, LargeCommunity, StrictPrefix};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginateSection {
    pub(super) prefix: StrictPrefix,
    next_hop: Option<IpAddr>,
    #[serde(default)]
    communities: Vec<Community>,
    #[serde(default)]
    large_communities: Vec<LargeCommunity>,
    local_pref: Option<u32>,
}

impl OriginateSection {
    pub(super) fn originate(self) -> Originate {
        Originate {
            next_hop: self.next_hop,
            communities: self.communities.iter().map(|c| c.0).collect(),
            large_communities: self.large_communities.iter().map(|c| c.0).collect(),
            local_pref: self.local_pref,
        }
    }
}
