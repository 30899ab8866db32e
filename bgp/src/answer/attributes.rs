//! Path attributes.

use bgp_wire::{Attributes, Community};

/// Attributes in words and numbers.
pub(crate) fn attributes(set: &Attributes) -> bgp_api::Attributes {
    bgp_api::Attributes {
        origin: set.origin().to_string(),
        as_path: set.as_path().to_string(),
        as_path_length: set.hops(),
        local_pref: set.local_pref(),
        med: set.med(),
        communities: set.communities().map(community).collect(),
        large_communities: set.large_communities().map(|c| c.to_string()).collect(),
        extended_communities: set.ext_communities().map(|c| c.to_string()).collect(),
        originator_id: set.originator_id(),
        cluster_list: set.cluster_list().collect(),
        atomic_aggregate: set.atomic_aggregate(),
        aggregator: set.aggregator().map(|a| a.to_string()),
        only_to_customer: set.only_to_customer(),
        unknown: set.unknown().map(|a| a.attribute.0).collect(),
    }
}

/// Its name where everybody knows it (IANA, BGP Well-known Communities), else two numbers.
fn community(community: Community) -> String {
    let name = match community {
        Community::GRACEFUL_SHUTDOWN => "graceful-shutdown",
        Community::NO_EXPORT => "no-export",
        Community::NO_ADVERTISE => "no-advertise",
        Community::NO_EXPORT_SUBCONFED => "no-export-subconfed",
        other => return other.to_string(),
    };
    name.to_owned()
}
