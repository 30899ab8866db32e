//! A handful of policies, each in the RIB's terms and as a plain question.

use std::sync::Arc;

use bgp_rib::{Match, Policy, PrefixSet, Rule, Source, Verdict};
use bgp_wire::Prefix;

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyChoice {
    AcceptAll,
    RejectAll,
    /// Rejects 10.0.0.0/8 and longer.
    NotTen,
    /// Accepts what is originated here, and of the rest only IPv6.
    LocalAndV6,
}

impl PolicyChoice {
    pub(crate) fn accepts(self, prefix: Prefix, is_local: bool) -> bool {
        match self {
            Self::AcceptAll => true,
            Self::RejectAll => false,
            Self::NotTen => !matches!(prefix, Prefix::V4(v4) if v4.addr().octets()[0] == 10),
            Self::LocalAndV6 => is_local || matches!(prefix, Prefix::V6(_)),
        }
    }

    pub(crate) fn policy(self) -> Arc<Policy> {
        let rule = |source, prefixes, verdict| Rule {
            prefixes,
            source,
            ..Rule::new("test", verdict)
        };
        let within = |text: &str| {
            let mut set = PrefixSet::new();
            set.insert_within(text.parse().unwrap());
            Arc::new(set)
        };
        Arc::new(match self {
            Self::AcceptAll => Policy::accept_all(),
            Self::RejectAll => Policy::reject_all(),
            Self::NotTen => Policy {
                rules: vec![rule(
                    Source::Any,
                    Match::In(within("10.0.0.0/8")),
                    Verdict::Reject,
                )],
                otherwise: Verdict::Accept,
            },
            Self::LocalAndV6 => Policy {
                rules: vec![
                    rule(Source::Local, Match::Any, Verdict::Accept),
                    rule(
                        Source::Learned,
                        Match::NotIn(within("::/0")),
                        Verdict::Reject,
                    ),
                ],
                otherwise: Verdict::Accept,
            },
        })
    }
}
