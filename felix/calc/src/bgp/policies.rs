//! What peers may send and are told: the filters of the peer first, then Calico's own rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::interface::behind;
use crate::desired::policy::{Change, Community, Match, Policy, Range, Rule, Source, Verdict};
use crate::facts::{Advertisement, Filter, FilterRule, Pool, Services};
use crate::{HostFacts, Problem};

/// What policies are made of.
#[derive(Clone, Copy)]
pub(crate) struct Ingredients<'a> {
    pub(crate) filters: &'a BTreeMap<String, Filter>,
    pub(crate) pools: &'a [Pool],
    pub(crate) host: Option<&'a HostFacts>,
}

/// Policies of all peers; those with the same filters share one.
pub(super) struct Policies<'a> {
    from: Ingredients<'a>,
    own: Vec<Rule>,
    made: HashMap<&'a [String], Both>,
}

/// Import and export.
#[derive(Clone)]
pub(super) struct Both {
    pub(super) import: Arc<Policy>,
    pub(super) export: Arc<Policy>,
}

impl<'a> Policies<'a> {
    pub(super) fn new(from: Ingredients<'a>, own: Vec<Rule>) -> Policies<'a> {
        Policies {
            from,
            own,
            made: HashMap::new(),
        }
    }

    /// For a peer with these filters; one that does not exist is left out.
    pub(super) fn with(&mut self, names: &'a [String]) -> Both {
        if let Some(made) = self.made.get(names) {
            return made.clone();
        }
        let filters = || names.iter().filter_map(|name| self.from.filters.get(name));
        let import = filters().flat_map(|filter| &filter.import);
        let export = filters().flat_map(|filter| &filter.export);
        let mut told = self.resolved(export);
        told.extend(self.own.iter().cloned());
        let both = Both {
            import: Arc::new(Policy {
                rules: self.resolved(import),
                otherwise: Verdict::Accept,
            }),
            export: Arc::new(Policy {
                rules: told,
                otherwise: Verdict::Reject,
            }),
        };
        self.made.insert(names, both.clone());
        both
    }

    fn resolved<'r>(&self, rules: impl Iterator<Item = &'r FilterRule>) -> Vec<Rule> {
        let resolve = |given: &FilterRule| Rule {
            next_hops: match &given.interface {
                None => Match::Any,
                Some(pattern) => Match::In(behind(self.from.host, pattern).into()),
            },
            ..given.rule.clone()
        };
        rules.map(resolve).collect()
    }

    /// What is wrong with the filters that an object names.
    pub(super) fn check(&self, object: &str, names: &[String], problems: &mut Vec<Problem>) {
        let missing = names.iter().enumerate();
        let missing = missing.filter(|(_, name)| !self.from.filters.contains_key(*name));
        problems.extend(missing.map(|(index, name)| Problem {
            object: object.to_owned(),
            field: format!("spec.filters[{index}]"),
            problem: format!("there is no usable BGPFilter {name}, so it is left out"),
            remedy: "create or mend it, or remove its name".to_owned(),
        }));
    }
}

/// Calico's rules for what is told to every peer, in its order.
///
/// Two of its rules have no counterpart: routes through tunnel devices, which are never learned
/// from the kernel here, and addresses inside own blocks, which are never originated here.
pub(super) fn own_rules(
    pools: &[Pool],
    advertisements: &[Advertisement],
    services: &Services,
    reflector: bool,
) -> Vec<Rule> {
    let inside = |prefixes: Vec<IpNet>| -> Match {
        let distinct: BTreeSet<IpNet> = prefixes.into_iter().collect();
        Match::In(distinct.into_iter().map(Range::within).collect())
    };
    let pools_where = |wanted: fn(&Pool) -> bool| -> Vec<IpNet> {
        let wanted = pools.iter().filter(|pool| wanted(pool));
        wanted.map(|pool| pool.cidr).collect()
    };
    let mut rules = Vec::new();
    let mut add = |prefixes: Vec<IpNet>, rule: Rule| {
        if !prefixes.is_empty() {
            let prefixes = inside(prefixes);
            rules.push(Rule { prefixes, ..rule });
        }
    };
    add(
        pools_where(|pool| !pool.export),
        Rule::new("IPPool disableBGPExport", Verdict::Reject),
    );
    for advertisement in advertisements {
        let add_community = |community: &Community| Change::AddCommunity(*community);
        add(
            vec![advertisement.cidr],
            Rule {
                changes: advertisement
                    .communities
                    .iter()
                    .map(add_community)
                    .collect(),
                ..Rule::new("BGPConfiguration prefixAdvertisements", Verdict::Next)
            },
        );
    }
    rules.push(Rule {
        source: Source::Local,
        ..Rule::new("own blocks and services", Verdict::Accept)
    });
    let mut add = |prefixes: Vec<IpNet>, rule: Rule| {
        if !prefixes.is_empty() {
            let prefixes = inside(prefixes);
            rules.push(Rule { prefixes, ..rule });
        }
    };
    if reflector {
        add(
            services.load_balancers.clone(),
            Rule::new("BGPConfiguration serviceLoadBalancerIPs", Verdict::Accept),
        );
    }
    add(
        pools_where(|pool| !pool.disabled),
        Rule::new("inside an IPPool", Verdict::Accept),
    );
    rules
}
