//! The sets of our table, with Calico's names.

use std::collections::BTreeSet;

use felix_calc::Firewall;
use ipnet::IpNet;
use netlink::Family;
use netlink::nft::{Range, Set};

/// Names of the sets of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Where what leaves for no pool is translated.
    pub(super) masq_pools: &'static str,
    /// What is not translated towards.
    pub(super) all_pools: &'static str,
    /// Who may send tunnel packets.
    pub(super) hosts: &'static str,
}

/// Names of the sets of a family (Calico behaviour).
pub(super) fn names(family: Family) -> Names {
    match family {
        Family::V4 => Names {
            masq_pools: "cali40masq-ipam-pools",
            all_pools: "cali40all-ipam-pools",
            hosts: "cali40all-hosts-net",
        },
        Family::V6 => Names {
            masq_pools: "cali60masq-ipam-pools",
            all_pools: "cali60all-ipam-pools",
            hosts: "cali60all-hosts-net",
        },
    }
}

/// All sets; they are there when they are empty too.
pub(super) fn sets(firewall: &Firewall) -> Vec<Set> {
    let set = |name: &str, family, nets: &BTreeSet<IpNet>| Set {
        name: name.to_owned(),
        family,
        ranges: Range::merge(nets.iter(), family).into_iter().collect(),
    };
    let of_family = |family| {
        let names = names(family);
        [
            set(names.masq_pools, family, &firewall.masq_pools),
            set(names.all_pools, family, &firewall.all_pools),
            set(names.hosts, family, &firewall.hosts),
        ]
    };
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(of_family)
        .collect()
}
