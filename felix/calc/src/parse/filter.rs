//! BGPFilter.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crds::bgp_configuration::CommunityValue;
use crds::bgp_filter::{
    Change as Asked, FilterAction, FilterPeerType, FilterRule as Given, FilterSource,
    MatchOperator, PrefixLength,
};
use crds::{BgpFilter, BgpFilterSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::configuration::community;
use crate::desired::policy::{Change, Match, PeerScope, Range, Rule, Source, Verdict};
use crate::facts::{Filter, FilterRule};

/// LOCAL_PREF of priority 0: lower metrics are better, greater LOCAL_PREFs are (Calico behaviour).
const BEST: u32 = 2_147_483_647;

/// A BGPFilter.
pub(crate) fn filter(name: &str, filter: &BgpFilter) -> Filter {
    let BgpFilterSpec {
        export_v4,
        import_v4,
        export_v6,
        import_v6,
    } = &filter.spec;
    let list = |field: &str, rules: &[Given], everything: IpNet| -> Vec<FilterRule> {
        let named = rules.iter().enumerate().map(|(index, rule)| {
            let name = format!("BGPFilter/{name} {field}[{index}]");
            parsed(name.into(), rule, everything)
        });
        named.collect()
    };
    let v4 = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    let v6 = IpNet::from(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
    let both = |one: Vec<FilterRule>, two| one.into_iter().chain(two).collect();
    Filter {
        import: both(
            list("importV4", import_v4, v4),
            list("importV6", import_v6, v6),
        ),
        export: both(
            list("exportV4", export_v4, v4),
            list("exportV6", export_v6, v6),
        ),
    }
}

fn parsed(name: Arc<str>, given: &Given, everything: IpNet) -> FilterRule {
    let verdict = match given.action {
        FilterAction::Accept => Verdict::Accept,
        FilterAction::Reject => Verdict::Reject,
    };
    let value = given.communities.iter().flat_map(|c| &c.values);
    let value = value.filter_map(|text| CommunityValue::parse(text));
    let operations = given.operations.iter();
    let rule = Rule {
        prefixes: Match::In(destinations(given, everything).into()),
        source: match given.source {
            None => Source::Any,
            Some(FilterSource::RemotePeers) => Source::Learned,
        },
        peers: match given.peer_type {
            None => PeerScope::Any,
            Some(FilterPeerType::External) => PeerScope::External,
            Some(FilterPeerType::Internal) => PeerScope::Internal,
        },
        communities: value.map(community).collect(),
        as_path_prefix: given.as_path_prefix.iter().map(|asn| asn.0).collect(),
        local_pref: given.priority.map(local_pref),
        changes: operations
            .filter_map(|operation| operation.change())
            .map(|change| match change {
                Asked::AddCommunity(value) => Change::AddCommunity(community(value)),
                Asked::PrependAsPath(path) => {
                    Change::PrependAsPath(path.into_iter().map(u32::from).collect())
                }
                Asked::SetPriority(priority) => Change::SetLocalPref(local_pref(priority)),
            })
            .collect(),
        ..Rule::new(name, verdict)
    };
    FilterRule {
        rule,
        interface: given.interface.clone().filter(|name| !name.is_empty()),
    }
}

fn local_pref(priority: u32) -> u32 {
    BEST.saturating_sub(priority)
}

/// The destinations that a rule of one family speaks of.
fn destinations(given: &Given, everything: IpNet) -> Vec<Range> {
    let (Some(cidr), Some(operator)) = (given.cidr, given.match_operator) else {
        return vec![Range::within(everything)];
    };
    let within = lengths(cidr.net(), given.prefix_length);
    match operator {
        MatchOperator::In => vec![within],
        MatchOperator::NotIn => others(within, everything),
        MatchOperator::Equal if within.min > within.prefix.prefix_len() => Vec::new(),
        MatchOperator::Equal => vec![Range::exactly(cidr.net())],
        MatchOperator::NotEqual => others(Range::exactly(cidr.net()), everything),
    }
}

/// Calico's reading of the lengths: never shorter than the prefix itself.
fn lengths(prefix: IpNet, given: Option<PrefixLength>) -> Range {
    let given = given.unwrap_or_default();
    let within = Range::within(prefix);
    Range {
        prefix,
        min: given.min.map_or(within.min, |min| min.max(within.min)),
        max: given.max.map_or(within.max, |max| max.min(within.max)),
    }
}

/// Everything that a range does not cover: what is shorter or beside its prefix, and inside it
/// what has another length.
fn others(range: Range, everything: IpNet) -> Vec<Range> {
    let mut others = Vec::new();
    let mut around = range.prefix;
    while let Some(parent) = around.supernet() {
        others.push(Range::exactly(parent));
        let halves = parent.subnets(around.prefix_len()).into_iter().flatten();
        others.extend(halves.filter(|half| *half != around).map(Range::within));
        around = parent;
    }
    let longest = everything.max_prefix_len();
    let own = range.prefix.prefix_len();
    for (min, max) in [
        (Some(own), range.min.checked_sub(1)),
        (range.max.checked_add(1), Some(longest)),
    ] {
        if let (Some(min), Some(max)) = (min, max)
            && min <= max
        {
            others.push(Range {
                prefix: range.prefix,
                min,
                max,
            });
        }
    }
    others.sort();
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn covers(ranges: &[Range], prefix: &str) -> usize {
        let prefix = net(prefix);
        let lengths = |range: &&Range| (range.min..=range.max).contains(&prefix.prefix_len());
        let inside = |range: &&Range| range.prefix.contains(&prefix);
        ranges.iter().filter(lengths).filter(inside).count()
    }

    #[test]
    fn a_range_and_its_others_cover_every_prefix_once() {
        for (range, everything) in [
            (Range::within(net("10.32.0.0/11")), net("0.0.0.0/0")),
            (Range::exactly(net("10.32.0.0/11")), net("0.0.0.0/0")),
            (
                Range {
                    prefix: net("10.0.0.0/8"),
                    min: 16,
                    max: 24,
                },
                net("0.0.0.0/0"),
            ),
            (Range::within(net("0.0.0.0/0")), net("0.0.0.0/0")),
            (Range::exactly(net("192.0.2.1/32")), net("0.0.0.0/0")),
        ] {
            let mut ranges = others(range, everything);
            ranges.push(range);
            for prefix in [
                "0.0.0.0/0",
                "10.0.0.0/8",
                "10.0.0.0/9",
                "10.32.0.0/11",
                "10.32.0.0/12",
                "10.33.0.0/16",
                "10.33.1.0/24",
                "10.33.1.0/25",
                "10.33.1.1/32",
                "10.64.0.0/11",
                "192.0.2.0/24",
                "192.0.2.1/32",
                "192.0.2.0/32",
                "128.0.0.0/1",
            ] {
                assert_eq!(covers(&ranges, prefix), 1, "{range:?} {prefix}");
            }
        }
        let six = others(Range::within(net("fd00::/48")), net("::/0"));
        assert_eq!(
            (
                covers(&six, "fd00::/48"),
                covers(&six, "fd00:0:1::/48"),
                covers(&six, "::/0")
            ),
            (0, 1, 1)
        );
    }
}
