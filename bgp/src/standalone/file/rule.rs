//! Filters: named lists of rules that peers refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bgp::{Change, Match, PeerScope, Policy, PrefixSet, Rule, Source, Verdict};
use serde::Deserialize;

use crate::standalone::prefix::{
    AnyCommunity, Community, ExtendedCommunity, LargeCommunity, PrefixRange,
};

/// One rule; what is left out matches everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSection {
    name: Option<String>,
    prefixes: Option<Vec<PrefixRange>>,
    not_prefixes: Option<Vec<PrefixRange>>,
    source: Option<SourceName>,
    peers: Option<ScopeName>,
    #[serde(default)]
    communities: Vec<AnyCommunity>,
    #[serde(default)]
    as_path_prefix: Vec<u32>,
    next_hops: Option<Vec<PrefixRange>>,
    not_next_hops: Option<Vec<PrefixRange>>,
    local_pref: Option<u32>,
    #[serde(default)]
    change: Vec<ChangeSection>,
    then: VerdictName,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SourceName {
    Local,
    Learned,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScopeName {
    Internal,
    External,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerdictName {
    Accept,
    Reject,
    Next,
}

/// What happens to what no rule decides about.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Last {
    Accept,
    Reject,
}

/// One change: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChangeSection {
    add_community: Option<Community>,
    add_large_community: Option<LargeCommunity>,
    add_extended_community: Option<ExtendedCommunity>,
    remove_community: Option<AnyCommunity>,
    prepend: Option<Vec<u32>>,
    set_local_pref: Option<u32>,
    set_med: Option<u32>,
    remove_med: Option<bool>,
}

/// All filters of a file, by name.
pub(super) struct Filters(BTreeMap<String, Vec<Rule>>);

impl Filters {
    pub(super) fn new(sections: BTreeMap<String, Vec<RuleSection>>) -> Result<Self> {
        let mut filters = BTreeMap::new();
        for (name, sections) in sections {
            let mut rules = Vec::new();
            for (index, section) in sections.into_iter().enumerate() {
                let rule = section.rule(&format!("{name}[{index}]"));
                rules.push(rule.with_context(|| format!("filters.{name}[{index}]"))?);
            }
            filters.insert(name, rules);
        }
        Ok(Filters(filters))
    }

    /// The rules of these filters in their order; what none of them decides about is accepted
    /// unless something else is said.
    pub(super) fn policy(
        &self,
        names: Option<&[String]>,
        last: Option<Last>,
    ) -> Result<Arc<Policy>> {
        let mut rules = Vec::new();
        for name in names.unwrap_or_default() {
            let filter = self.0.get(name).with_context(|| {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                format!("there is no filter {name} in filters, only {known:?}")
            })?;
            rules.extend(filter.iter().cloned());
        }
        let otherwise = match last {
            Some(Last::Reject) => Verdict::Reject,
            Some(Last::Accept) | None => Verdict::Accept,
        };
        Ok(Arc::new(Policy { rules, otherwise }))
    }
}

impl RuleSection {
    /// The rule; shown as `place` where it has no name.
    fn rule(self, place: &str) -> Result<Rule> {
        let verdict = match self.then {
            VerdictName::Accept => Verdict::Accept,
            VerdictName::Reject => Verdict::Reject,
            VerdictName::Next => Verdict::Next,
        };
        ensure!(
            verdict != Verdict::Reject || self.change.is_empty(),
            "change: what is rejected is not changed; remove it"
        );
        let mut changes = Vec::new();
        for (index, section) in self.change.into_iter().enumerate() {
            changes.push(
                section
                    .change()
                    .with_context(|| format!("change[{index}]"))?,
            );
        }
        Ok(Rule {
            prefixes: matched("prefixes", self.prefixes, self.not_prefixes)?,
            source: match self.source {
                None => Source::Any,
                Some(SourceName::Local) => Source::Local,
                Some(SourceName::Learned) => Source::Learned,
            },
            peers: match self.peers {
                None => PeerScope::Any,
                Some(ScopeName::Internal) => PeerScope::Internal,
                Some(ScopeName::External) => PeerScope::External,
            },
            communities: self.communities.into_iter().map(|c| c.0).collect(),
            as_path_prefix: self.as_path_prefix,
            next_hops: matched("next_hops", self.next_hops, self.not_next_hops)?,
            local_pref: self.local_pref,
            changes,
            ..Rule::new(self.name.unwrap_or_else(|| place.to_owned()), verdict)
        })
    }
}

fn matched(
    field: &str,
    inside: Option<Vec<PrefixRange>>,
    outside: Option<Vec<PrefixRange>>,
) -> Result<Match> {
    let set = |ranges: Vec<PrefixRange>| {
        let mut set = PrefixSet::new();
        for range in ranges {
            set.insert_range(range.prefix, range.min, range.max);
        }
        Arc::new(set)
    };
    ensure!(
        inside.is_none() || outside.is_none(),
        "{field}: cannot go with not_{field}; remove one of them"
    );
    Ok(match (inside, outside) {
        (Some(ranges), _) => Match::In(set(ranges)),
        (None, Some(ranges)) => Match::NotIn(set(ranges)),
        (None, None) => Match::Any,
    })
}

impl ChangeSection {
    fn change(self) -> Result<Change> {
        let all = [
            self.add_community.map(|c| Change::AddCommunity(c.0)),
            self.add_large_community
                .map(|c| Change::AddLargeCommunity(c.0)),
            self.add_extended_community
                .map(|c| Change::AddExtendedCommunity(c.0)),
            self.remove_community.map(|c| Change::RemoveCommunity(c.0)),
            self.prepend.map(Change::PrependAsPath),
            self.set_local_pref.map(Change::SetLocalPref),
            self.set_med.map(|med| Change::SetMed(Some(med))),
            self.remove_med
                .filter(|remove| *remove)
                .map(|_| Change::SetMed(None)),
        ];
        let mut given: Vec<Change> = all.into_iter().flatten().collect();
        ensure!(
            given.len() == 1,
            "each change has exactly one field; write `- set_med: 10` and `- prepend: [64500]` as two"
        );
        Ok(given.remove(0))
    }
}
