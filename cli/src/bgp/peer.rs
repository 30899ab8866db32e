//! Everything about a peer.

use bgp_api::{Bfd, MessageCounts, PeerDetail, PeerSettings, PolicySettings, Session};

use super::peers::kind;
use crate::output::Printed;
use crate::table::{Table, age};

pub(super) fn detail(detail: &PeerDetail) -> Printed {
    let mut text = head(detail);
    if let Some(session) = &detail.session {
        text.push_str(&session_lines(session));
    }
    text.push_str(&routes(detail));
    text.push_str(&restart(detail));
    text.push_str(&settings(&detail.settings));
    text.push_str(&messages(detail));
    Printed { text, note: None }
}

fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("  {name:<22} {value}\n"));
}

fn head(detail: &PeerDetail) -> String {
    let peer = &detail.peer;
    let mut text = format!(
        "{}: {} port {}, AS {}, {}\n",
        peer.name,
        peer.address,
        peer.port,
        peer.asn,
        kind(peer.kind)
    );
    if let Some(range) = &peer.dynamic {
        line(&mut text, "Accepted from range", range);
    }
    line(
        &mut text,
        "State",
        &format!("{} for {}", peer.state, age(peer.up_down_secs)),
    );
    if let Some(reason) = &detail.settings.shut_down {
        line(&mut text, "Shut down by settings", reason);
    }
    if let Some(id) = peer.router_id {
        line(&mut text, "Router id", &id.to_string());
    }
    if peer.local_asn != peer.asn {
        line(&mut text, "Our AS", &peer.local_asn.to_string());
    }
    line(&mut text, "Sessions lost", &peer.flaps.to_string());
    if let Some(error) = &peer.last_error {
        line(&mut text, "Last error", error);
    }
    if let Some(warning) = &peer.warning {
        line(&mut text, "Warning", warning);
    }
    if let Some(malformed) = &peer.malformed {
        line(&mut text, "Malformed attribute", malformed);
    }
    if let Some(bfd) = &detail.bfd {
        bfd_lines(&mut text, bfd);
    }
    text
}

fn bfd_lines(text: &mut String, bfd: &Bfd) {
    let state = format!(
        "{} for {}, a packet every {} ms, {} ms to detect",
        bfd.state,
        age(bfd.age_secs),
        bfd.tx_ms,
        bfd.detect_ms
    );
    line(text, "BFD", &state);
    let discriminators = format!(
        "{} ours, {} theirs",
        bfd.discriminator, bfd.remote_discriminator
    );
    line(text, "BFD discriminators", &discriminators);
    line(text, "BFD losses", &bfd.failures.to_string());
    if let Some(diagnostic) = &bfd.diagnostic {
        line(text, "BFD diagnostic", diagnostic);
    }
    if let Some(problem) = &bfd.problem {
        line(text, "BFD problem", problem);
    }
}

fn session_lines(session: &Session) -> String {
    let mut text = "\nSession\n".to_owned();
    line(
        &mut text,
        "Connection",
        &format!("{} to {}", session.local, session.remote),
    );
    let timers = match session.hold_time_secs {
        0 => "none".to_owned(),
        hold => format!("hold {hold} s, keepalive {} s", session.keepalive_secs),
    };
    line(&mut text, "Timers", &timers);
    for family in &session.families {
        let mut uses = Vec::new();
        for (used, name) in [
            (family.add_path_send, "several paths sent"),
            (family.add_path_receive, "several paths received"),
            (family.extended_next_hop, "IPv6 next hops"),
        ] {
            uses.extend(used.then_some(name));
        }
        let uses = if uses.is_empty() {
            String::new()
        } else {
            format!(": {}", uses.join(", "))
        };
        line(&mut text, "Family", &format!("{}{uses}", family.family));
    }
    if let Some(role) = &session.peer_role {
        line(&mut text, "Peer's role", role);
    }
    let mut agreed = Vec::new();
    for (used, name) in [
        (session.four_octet_as, "4-octet AS numbers"),
        (session.extended_messages, "extended messages"),
        (session.route_refresh, "route refresh"),
        (session.enhanced_route_refresh, "enhanced route refresh"),
    ] {
        agreed.extend(used.then_some(name));
    }
    line(&mut text, "Agreed", &agreed.join(", "));
    let capabilities = &session.capabilities;
    for (name, list) in [
        ("We offered", &capabilities.sent),
        ("Peer offered", &capabilities.received),
    ] {
        for (index, capability) in list.iter().enumerate() {
            line(&mut text, if index == 0 { name } else { "" }, capability);
        }
    }
    text
}

fn routes(detail: &PeerDetail) -> String {
    let mut table = Table::new(&[
        "  Family",
        ">Received",
        ">Accepted",
        ">Filtered",
        ">Best",
        ">Advertised",
    ]);
    for counts in &detail.peer.routes {
        table.row(vec![
            format!("  {}", counts.family),
            counts.received.to_string(),
            counts.accepted.to_string(),
            counts.filtered.to_string(),
            counts.best.to_string(),
            counts.advertised.to_string(),
        ]);
    }
    format!("\nRoutes\n{}", table.text())
}

fn restart(detail: &PeerDetail) -> String {
    let restart = &detail.restart;
    let mut text = "\nGraceful restart\n".to_owned();
    let ours = match detail.settings.restart_time_secs {
        Some(secs) => format!("asked to keep our routes for {secs} s"),
        None => "off".to_owned(),
    };
    line(&mut text, "Peer is", &ours);
    if let Some(secs) = restart.peer_time_secs {
        line(&mut text, "We keep its routes", &format!("for {secs} s"));
    }
    for (now, words) in [
        (restart.restarting, "we come back from a restart"),
        (restart.peer_restarting, "the peer came back from a restart"),
    ] {
        if now {
            line(&mut text, "Restart", words);
        }
    }
    if !restart.long_lived_families.is_empty() {
        let families = restart.long_lived_families.join(", ");
        line(&mut text, "Long-lived stale", &families);
    }
    if !restart.stale_families.is_empty() {
        let stale = format!(
            "{} routes of {}",
            restart.stale_routes,
            restart.stale_families.join(", ")
        );
        line(&mut text, "Stale", &stale);
    }
    text
}

/// What differs from what most peers have, and the policies.
fn settings(settings: &PeerSettings) -> String {
    let mut text = "\nSettings\n".to_owned();
    let some = |value: Option<u32>, unit: &str| value.map(|value| format!("{value} {unit}"));
    line(&mut text, "Families", &settings.families.join(", "));
    line(
        &mut text,
        "Hold time",
        &format!("{} s", settings.hold_time_secs),
    );
    let optional = [
        (
            "Keepalive",
            some(settings.keepalive_secs.map(Into::into), "s"),
        ),
        (
            "Connect retry",
            some(settings.connect_retry_secs.map(Into::into), "s"),
        ),
        ("Long-lived restart", some(settings.long_lived_secs, "s")),
        (
            "Long-lived routes",
            settings
                .long_lived_to_all
                .then(|| "told it in any case".to_owned()),
        ),
        (
            "Our address",
            settings.source.map(|source| source.to_string()),
        ),
        ("Interface", settings.interface.clone()),
        ("ADD-PATH", settings.add_path.clone()),
        (
            "Paths told",
            some(settings.add_path_limit.map(Into::into), "per prefix"),
        ),
        (
            "Role",
            settings.role.clone().map(|role| {
                if settings.role_strict {
                    role + ", strict"
                } else {
                    role
                }
            }),
        ),
        (
            "Own AS allowed",
            (settings.allow_own_as > 0).then(|| format!("{} times", settings.allow_own_as)),
        ),
        (
            "Distance",
            (settings.ttl != "default").then(|| settings.ttl.clone()),
        ),
        (
            "Next hop told",
            (settings.next_hop != "default").then(|| settings.next_hop.clone()),
        ),
        (
            "BFD",
            settings.bfd.as_ref().map(|bfd| {
                format!(
                    "send {} ms, receive {} ms, times {}",
                    bfd.min_tx_ms, bfd.min_rx_ms, bfd.multiplier
                )
            }),
        ),
        (
            "Prefixes",
            settings.max_prefixes.as_ref().map(|max| {
                let restart = max
                    .restart_after_secs
                    .map(|secs| format!(", again after {secs} s"));
                let restart = restart.unwrap_or_default();
                format!(
                    "up to {}, warning at {} %, then {}{restart}",
                    max.limit, max.warning_percent, max.action
                )
            }),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(&mut text, name, &value);
        }
    }
    let flags = [
        (settings.passive, "passive"),
        (settings.password, "password"),
        (settings.graceful_shutdown, "graceful shutdown"),
        (settings.enforce_first_as, "first AS enforced"),
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect();
    if !flags.is_empty() {
        line(&mut text, "Also", &flags.join(", "));
    }
    policy(&mut text, "Import", &settings.import);
    policy(&mut text, "Export", &settings.export);
    text
}

fn policy(text: &mut String, name: &str, policy: &PolicySettings) {
    let mut name = name;
    for rule in &policy.rules {
        line(text, name, rule);
        name = "";
    }
    let last = match &policy.rules[..] {
        [] => format!("{} all", policy.otherwise),
        _ => format!("else {}", policy.otherwise),
    };
    line(text, name, &last);
}

type OfType = fn(&MessageCounts) -> u64;

fn messages(detail: &PeerDetail) -> String {
    let mut table = Table::new(&["  Message", ">In", ">Out"]);
    let kinds: [(&str, OfType); 5] = [
        ("OPEN", |counts| counts.open),
        ("UPDATE", |counts| counts.update),
        ("NOTIFICATION", |counts| counts.notification),
        ("KEEPALIVE", |counts| counts.keepalive),
        ("ROUTE-REFRESH", |counts| counts.route_refresh),
    ];
    for (name, of) in kinds {
        table.row(vec![
            format!("  {name}"),
            of(&detail.messages.received).to_string(),
            of(&detail.messages.sent).to_string(),
        ]);
    }
    let mut text = format!("\nMessages\n{}", table.text());
    for seen in &detail.notifications {
        let way = if seen.direction == "in" {
            "received"
        } else {
            "sent"
        };
        text.push_str(&format!("  {} {way}: {}\n", seen.count, seen.name));
    }
    text
}
