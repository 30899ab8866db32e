//! The settings of a peer that are in force.

use bgp_api::{BfdSettings, PeerSettings, PolicySettings};
use bgp_rib::{Match, NextHopMode, Policy, Rule, Source, Verdict};
use bgp_wire::Family;

use super::peer::{add_path_name, role_name};
use crate::config::{MaxPrefixes, MaxPrefixesAction, PeerConfig, Ttl};

/// Settings in words and numbers; secrets stay here.
pub(crate) fn settings(config: &PeerConfig) -> PeerSettings {
    PeerSettings {
        interface: config.interface.as_ref().map(ToString::to_string),
        shut_down: config.shut_down.as_ref().map(ToString::to_string),
        passive: config.passive,
        source: config.source,
        hold_time_secs: config.hold_time_secs,
        keepalive_secs: config.keepalive_secs,
        connect_retry_secs: config.connect_retry_secs,
        families: config.families.iter().map(Family::to_string).collect(),
        restart_time_secs: config.restart_time_secs,
        long_lived_secs: config.long_lived_secs,
        long_lived_to_all: config.long_lived_to_all,
        add_path: config.add_path.map(|mode| add_path_name(mode).to_owned()),
        add_path_limit: config.add_path_limit.map(Into::into),
        max_prefixes: config.max_prefixes.map(max_prefixes),
        role: config.role.map(|role| role_name(role).to_owned()),
        role_strict: config.role_strict,
        graceful_shutdown: config.graceful_shutdown,
        enforce_first_as: config.enforce_first_as,
        bfd: config.bfd.map(|bfd| BfdSettings {
            min_tx_ms: bfd.min_tx_ms,
            min_rx_ms: bfd.min_rx_ms,
            multiplier: bfd.multiplier.into(),
        }),
        ttl: match config.ttl {
            Ttl::Default => "default".to_owned(),
            Ttl::Multihop(ttl) => format!("multihop, TTL {ttl}"),
            Ttl::Security { hops } => format!("at most {hops} hops (GTSM)"),
        },
        password: config.password.is_some(),
        next_hop: match config.next_hop {
            NextHopMode::Default => "default",
            NextHopMode::OwnAddress => "self",
            NextHopMode::Keep => "keep",
        }
        .to_owned(),
        allow_own_as: config.allow_own_as,
        import: policy(&config.import),
        export: policy(&config.export),
    }
}

fn max_prefixes(max: MaxPrefixes) -> bgp_api::MaxPrefixes {
    let (action, restart_after_secs) = match max.action {
        MaxPrefixesAction::Warn => ("warn", None),
        MaxPrefixesAction::Discard => ("discard", None),
        MaxPrefixesAction::Close { restart_after_secs } => ("close", restart_after_secs),
    };
    bgp_api::MaxPrefixes {
        limit: max.limit.into(),
        warning_percent: max.warning_percent,
        action: action.to_owned(),
        restart_after_secs,
    }
}

fn policy(policy: &Policy) -> PolicySettings {
    PolicySettings {
        rules: policy.rules.iter().map(rule).collect(),
        otherwise: verdict(policy.otherwise).to_owned(),
    }
}

fn rule(rule: &Rule) -> String {
    let mut text = format!("{}: {}", rule.name, verdict(rule.verdict));
    match &rule.prefixes {
        Match::Any => {}
        Match::In(_) => text.push_str(", prefixes of a set"),
        Match::NotIn(_) => text.push_str(", prefixes outside a set"),
    }
    match rule.source {
        Source::Any => {}
        Source::Local => text.push_str(", originated here"),
        Source::Learned => text.push_str(", learned from peers"),
    }
    text
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Next => "next",
    }
}
