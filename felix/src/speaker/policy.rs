//! Policies in the words of the speaker.

use std::collections::HashMap;
use std::sync::Arc;

use bgp::{Change, CommunityMatch, Match, PeerScope, Policy, PrefixSet, Rule, Source, Verdict};
use felix_calc::policy;

use super::desired::prefix_of;

/// Policies that were translated; peers that share one share its translation.
#[derive(Default)]
pub(super) struct Policies<'a> {
    known: HashMap<*const policy::Policy, Arc<Policy>>,
    /// What the pointers point to stays as long as they are compared.
    section: std::marker::PhantomData<&'a policy::Policy>,
}

impl<'a> Policies<'a> {
    pub(super) fn of(&mut self, policy: &'a Arc<policy::Policy>) -> Arc<Policy> {
        let translate = || {
            Arc::new(Policy {
                rules: policy.rules.iter().map(rule).collect(),
                otherwise: verdict(policy.otherwise),
            })
        };
        let known = self.known.entry(Arc::as_ptr(policy));
        known.or_insert_with(translate).clone()
    }
}

fn rule(rule: &policy::Rule) -> Rule {
    Rule {
        prefixes: matches(&rule.prefixes),
        source: match rule.source {
            policy::Source::Any => Source::Any,
            policy::Source::Local => Source::Local,
            policy::Source::Learned => Source::Learned,
        },
        peers: match rule.peers {
            policy::PeerScope::Any => PeerScope::Any,
            policy::PeerScope::Internal => PeerScope::Internal,
            policy::PeerScope::External => PeerScope::External,
        },
        communities: rule.communities.iter().map(community).collect(),
        as_path_prefix: rule.as_path_prefix.clone(),
        next_hops: matches(&rule.next_hops),
        local_pref: rule.local_pref,
        changes: rule.changes.iter().map(change).collect(),
        ..Rule::new(rule.name.clone(), verdict(rule.verdict))
    }
}

fn verdict(verdict: policy::Verdict) -> Verdict {
    match verdict {
        policy::Verdict::Accept => Verdict::Accept,
        policy::Verdict::Reject => Verdict::Reject,
        policy::Verdict::Next => Verdict::Next,
    }
}

fn matches(given: &policy::Match) -> Match {
    let policy::Match::In(ranges) = given else {
        return Match::Any;
    };
    let mut set = PrefixSet::new();
    for range in ranges.iter() {
        if let Some(prefix) = prefix_of(range.prefix) {
            set.insert_range(prefix, range.min, range.max);
        }
    }
    Match::In(Arc::new(set))
}

fn community(community: &policy::Community) -> CommunityMatch {
    match *community {
        policy::Community::Standard(value) => CommunityMatch::Standard(value),
        policy::Community::Large(value) => CommunityMatch::Large(value),
    }
}

fn change(change: &policy::Change) -> Change {
    match change {
        policy::Change::AddCommunity(policy::Community::Standard(value)) => {
            Change::AddCommunity(*value)
        }
        policy::Change::AddCommunity(policy::Community::Large(value)) => {
            Change::AddLargeCommunity(*value)
        }
        policy::Change::PrependAsPath(path) => Change::PrependAsPath(path.clone()),
        policy::Change::SetLocalPref(preference) => Change::SetLocalPref(*preference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_and_change_is_carried_over_and_policies_stay_shared() {
        let given = policy::Rule {
            prefixes: policy::Match::In(
                [policy::Range {
                    prefix: "10.0.0.0/8".parse().unwrap(),
                    min: 16,
                    max: 24,
                }]
                .into(),
            ),
            source: policy::Source::Learned,
            peers: policy::PeerScope::External,
            communities: vec![
                policy::Community::Standard(7),
                policy::Community::Large([1, 2, 3]),
            ],
            as_path_prefix: vec![64500],
            next_hops: policy::Match::In([].into()),
            local_pref: Some(200),
            changes: vec![
                policy::Change::AddCommunity(policy::Community::Standard(8)),
                policy::Change::AddCommunity(policy::Community::Large([4, 5, 6])),
                policy::Change::PrependAsPath(vec![1, 2]),
                policy::Change::SetLocalPref(300),
            ],
            ..policy::Rule::new("one", policy::Verdict::Next)
        };
        let shared = Arc::new(policy::Policy {
            rules: vec![given],
            otherwise: policy::Verdict::Reject,
        });
        let mut policies = Policies::default();
        let translated = policies.of(&shared);
        assert!(Arc::ptr_eq(&translated, &policies.of(&shared)));
        let mut ten = PrefixSet::new();
        ten.insert_range("10.0.0.0/8".parse().unwrap(), 16, 24);
        let expected = Rule {
            prefixes: Match::In(Arc::new(ten)),
            source: Source::Learned,
            peers: PeerScope::External,
            communities: vec![
                CommunityMatch::Standard(7),
                CommunityMatch::Large([1, 2, 3]),
            ],
            as_path_prefix: vec![64500],
            next_hops: Match::In(Arc::default()),
            local_pref: Some(200),
            changes: vec![
                Change::AddCommunity(8),
                Change::AddLargeCommunity([4, 5, 6]),
                Change::PrependAsPath(vec![1, 2]),
                Change::SetLocalPref(300),
            ],
            ..Rule::new("one", Verdict::Next)
        };
        assert_eq!(translated.rules, [expected]);
        assert_eq!(translated.otherwise, Verdict::Reject);
    }
}
