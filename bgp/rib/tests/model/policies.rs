//! Random policies, each in the RIB's terms and as something that is done to a path step by step.

use std::net::IpAddr;
use std::sync::Arc;

use bgp_rib::{Change, CommunityMatch, Match, PeerScope, Policy, PrefixSet, Rule, Source, Verdict};
use bgp_wire::attribute::{ExtCommunity, LargeCommunity};
use bgp_wire::{AsPath, AttributesBuilder, Community, Prefix};
use proptest::prelude::*;

use crate::history::next_hop;

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PolicyModel {
    pub(crate) rules: Vec<RuleModel>,
    pub(crate) accepts: bool,
}

/// A rule that can be asked without the RIB.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleModel {
    name: &'static str,
    /// Inside this prefix, or outside of it.
    prefixes: Option<(&'static str, bool)>,
    source: Source,
    peers: PeerScope,
    communities: Vec<CommunityMatch>,
    as_path_prefix: Vec<u32>,
    /// The next hop with this number of either family, or any other.
    next_hop: Option<(u8, bool)>,
    local_pref: Option<u32>,
    changes: Vec<Change>,
    verdict: Verdict,
}

/// A path that a policy is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) prefix: Prefix,
    pub(crate) is_local: bool,
    pub(crate) is_external: bool,
    pub(crate) fields: AttributesBuilder,
    pub(crate) local_pref: u32,
    pub(crate) next_hop: Option<IpAddr>,
}

/// What becomes of it: what is changed, none where it is rejected, and the rule to name.
pub(crate) type Answer = (Option<Vec<Change>>, Option<&'static str>);

impl PolicyModel {
    pub(crate) fn accept_all() -> Self {
        Self {
            rules: Vec::new(),
            accepts: true,
        }
    }

    /// RFC 8212: one that says nothing is none.
    pub(crate) fn is_given(&self) -> bool {
        !self.rules.is_empty() || !self.accepts
    }

    /// Makes each change as soon as its rule matches, so that the next rules see it.
    pub(crate) fn decide(&self, mut asked: Asked) -> Answer {
        let mut changed_by = None;
        let mut changes = Vec::new();
        for rule in &self.rules {
            if !rule.matches(&asked) {
                continue;
            }
            if rule.verdict == Verdict::Reject {
                return (None, Some(rule.name));
            }
            for change in &rule.changes {
                make(change, &mut asked.fields);
                if let Change::SetLocalPref(value) = change {
                    asked.local_pref = *value;
                }
                changes.push(change.clone());
                changed_by = Some(rule.name);
            }
            if rule.verdict == Verdict::Accept {
                return (Some(changes), Some(rule.name));
            }
        }
        if self.accepts {
            (Some(changes), changed_by)
        } else {
            (None, None)
        }
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy {
            rules: self.rules.iter().map(RuleModel::rule).collect(),
            otherwise: if self.accepts {
                Verdict::Accept
            } else {
                Verdict::Reject
            },
        })
    }
}

impl RuleModel {
    fn matches(&self, asked: &Asked) -> bool {
        let fields = &asked.fields;
        let prefixes = self.prefixes.is_none_or(|(text, inside)| {
            let whole: Prefix = text.parse().unwrap();
            let is_inside = whole.family() == asked.prefix.family()
                && whole.contains(asked.prefix.addr())
                && whole.prefix_len() <= asked.prefix.prefix_len();
            is_inside == inside
        });
        let source = match self.source {
            Source::Any => true,
            Source::Local => asked.is_local,
            Source::Learned => !asked.is_local,
        };
        let peers = match self.peers {
            PeerScope::Any => true,
            PeerScope::Internal => !asked.is_external,
            PeerScope::External => asked.is_external,
        };
        let carries = |community: &CommunityMatch| match *community {
            CommunityMatch::Standard(value) => fields.communities.contains(&Community(value)),
            CommunityMatch::Large(value) => fields.large_communities.contains(&large(value)),
            CommunityMatch::Extended(value) => {
                fields.ext_communities.contains(&ExtCommunity(value))
            }
        };
        let next_hop = self.next_hop.is_none_or(|(number, is_it)| {
            let both = [false, true].map(|v6| next_hop(number, v6).addr());
            asked
                .next_hop
                .is_some_and(|address| both.contains(&address) == is_it)
        });
        let asns: Vec<u32> = fields.as_path.view().asns().collect();
        prefixes
            && source
            && peers
            && next_hop
            && (self.communities.is_empty() || self.communities.iter().any(carries))
            && asns.starts_with(&self.as_path_prefix)
            && self
                .local_pref
                .is_none_or(|wanted| wanted == asked.local_pref)
    }

    fn rule(&self) -> Rule {
        let set = |prefixes: &[Prefix]| {
            let mut set = PrefixSet::new();
            prefixes
                .iter()
                .for_each(|prefix| set.insert_within(*prefix));
            Arc::new(set)
        };
        let matching = |prefixes: &[Prefix], is_in: bool| {
            if is_in {
                Match::In(set(prefixes))
            } else {
                Match::NotIn(set(prefixes))
            }
        };
        Rule {
            prefixes: self.prefixes.map_or(Match::Any, |(text, inside)| {
                matching(&[text.parse().unwrap()], inside)
            }),
            source: self.source,
            peers: self.peers,
            communities: self.communities.clone(),
            as_path_prefix: self.as_path_prefix.clone(),
            next_hops: self.next_hop.map_or(Match::Any, |(number, is_it)| {
                let [v4, v6] = [false, true].map(|v6| next_hop(number, v6).addr());
                let whole = [Prefix::new(v4, 32).unwrap(), Prefix::new(v6, 128).unwrap()];
                matching(&whole, is_it)
            }),
            local_pref: self.local_pref,
            changes: self.changes.clone(),
            ..Rule::new(self.name, self.verdict)
        }
    }
}

fn large([global, local1, local2]: [u32; 3]) -> LargeCommunity {
    LargeCommunity {
        global,
        local1,
        local2,
    }
}

pub(crate) fn make(change: &Change, fields: &mut AttributesBuilder) {
    match change {
        Change::AddCommunity(value) => {
            if !fields.communities.contains(&Community(*value)) {
                fields.communities.push(Community(*value));
            }
        }
        Change::AddLargeCommunity(value) => {
            if !fields.large_communities.contains(&large(*value)) {
                fields.large_communities.push(large(*value));
            }
        }
        Change::AddExtendedCommunity(value) => {
            if !fields.ext_communities.contains(&ExtCommunity(*value)) {
                fields.ext_communities.push(ExtCommunity(*value));
            }
        }
        Change::RemoveCommunity(CommunityMatch::Standard(value)) => {
            fields
                .communities
                .retain(|other| *other != Community(*value));
        }
        Change::RemoveCommunity(CommunityMatch::Large(value)) => {
            fields
                .large_communities
                .retain(|other| *other != large(*value));
        }
        Change::RemoveCommunity(CommunityMatch::Extended(value)) => {
            fields
                .ext_communities
                .retain(|other| *other != ExtCommunity(*value));
        }
        Change::PrependAsPath(asns) => {
            let old: Vec<u32> = fields.as_path.view().asns().collect();
            fields.as_path = AsPath::sequence(&[asns.as_slice(), &old].concat());
        }
        Change::SetLocalPref(value) => fields.local_pref = Some(*value),
        Change::SetMed(value) => fields.med = *value,
    }
}

/// Standard, large and extended communities that paths, rules and changes have in common.
const STANDARD: [Community; 5] = [
    Community::new(64500, 1),
    Community::new(64500, 2),
    Community::NO_EXPORT,
    Community::NO_ADVERTISE,
    Community::GRACEFUL_SHUTDOWN,
];
const LARGE: [u32; 3] = [64500, 1, 2];
/// One that may leave the AS, and one that may not.
pub(crate) const EXTENDED: [[u8; 8]; 2] = [[0, 2, 1, 1, 1, 1, 1, 1], [0x40, 4, 2, 2, 2, 2, 2, 2]];

pub(crate) fn policy() -> impl Strategy<Value = PolicyModel> {
    let rules = prop::collection::vec(rule(), 0..4);
    prop_oneof![
        1 => Just(PolicyModel::accept_all()),
        4 => (rules, prop::bool::weighted(0.8)).prop_map(|(mut rules, accepts)| {
            for (rule, name) in rules.iter_mut().zip(["a", "b", "c", "d"]) {
                rule.name = name;
            }
            PolicyModel { rules, accepts }
        }),
    ]
}

fn community() -> impl Strategy<Value = CommunityMatch> {
    prop_oneof![
        4 => prop::sample::select(STANDARD.as_slice()).prop_map(|c| CommunityMatch::Standard(c.0)),
        1 => Just(CommunityMatch::Large(LARGE)),
        1 => prop::sample::select(EXTENDED.as_slice()).prop_map(CommunityMatch::Extended),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => prop::sample::select(STANDARD.as_slice()).prop_map(|c| Change::AddCommunity(c.0)),
        1 => Just(Change::AddLargeCommunity(LARGE)),
        1 => prop::sample::select(EXTENDED.as_slice()).prop_map(Change::AddExtendedCommunity),
        3 => community().prop_map(Change::RemoveCommunity),
        2 => prop::collection::vec(prop::sample::select(vec![64500, 64501, 64510]), 1..3)
            .prop_map(Change::PrependAsPath),
        2 => prop::sample::select(vec![0, 50, 100, 101]).prop_map(Change::SetLocalPref),
        2 => prop::option::of(0..3u32).prop_map(Change::SetMed),
    ]
}

fn rule() -> impl Strategy<Value = RuleModel> {
    let places = vec!["10.0.0.0/8", "192.0.2.0/24", "::/0", "0.0.0.0/0"];
    let prefixes = (prop::sample::select(places), any::<bool>());
    let source = prop::sample::select(vec![
        Source::Any,
        Source::Any,
        Source::Local,
        Source::Learned,
    ]);
    let peers = prop::sample::select(vec![
        PeerScope::Any,
        PeerScope::Any,
        PeerScope::Internal,
        PeerScope::External,
    ]);
    let begins = prop_oneof![
        6 => Just(vec![]),
        1 => Just(vec![64501]),
        1 => Just(vec![64501, 64510]),
        1 => Just(vec![64500]),
    ];
    let what = (
        prop::option::weighted(0.5, prefixes),
        source,
        peers,
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(community(), 1..3)],
        begins,
        prop::option::weighted(0.15, (1..5u8, any::<bool>())),
        prop::option::weighted(0.15, prop::sample::select(vec![0, 50, 100, 101])),
    );
    let verdict = prop::sample::select(vec![
        Verdict::Accept,
        Verdict::Next,
        Verdict::Next,
        Verdict::Reject,
    ]);
    let then = (prop::collection::vec(change(), 0..3), verdict);
    (what, then).prop_map(|(what, (changes, verdict))| {
        let (prefixes, source, peers, communities, as_path_prefix, next_hop, local_pref) = what;
        RuleModel {
            name: "",
            prefixes,
            source,
            peers,
            communities,
            as_path_prefix,
            next_hop,
            local_pref,
            changes,
            verdict,
        }
    })
}
