//! Peers and their sessions.

use bgp_api::{Capabilities, Counts, FamilyUse, NotificationCount, Peer, PeerKind, Session};
use bgp_rib::PeerCounts;
use bgp_wire::capability::{AddPathMode, Role};
use bgp_wire::{Capability, Family, Notification};

use super::moment;
use crate::config::{Local, PeerConfig};
use crate::event::PeerInfo;
use crate::session::{Notifications, Up};

/// What a peer is to us.
pub(crate) fn kind(local: &Local, config: &PeerConfig) -> PeerKind {
    let ours = config.local_as.unwrap_or(local.asn);
    match (config.remote_as == ours, config.reflector_client) {
        (false, _) => PeerKind::External,
        (true, false) => PeerKind::Internal,
        (true, true) => PeerKind::Client,
    }
}

/// One peer in one line.
pub(crate) fn line(local: &Local, config: &PeerConfig, info: PeerInfo) -> Peer {
    let (since, age_secs) = moment(info.since);
    Peer {
        kind: kind(local, config),
        name: info.key.to_string(),
        address: info.address,
        port: info.port,
        asn: info.remote_as,
        local_asn: config.local_as.unwrap_or(local.asn),
        dynamic: info.range.map(|range| range.to_string()),
        state: info.state.to_string(),
        since,
        age_secs,
        up_down_secs: moment(info.up_down).1,
        router_id: info.session.map(|session| session.router_id),
        routes: info.counts.iter().map(counts).collect(),
        flaps: info.flaps,
        messages_in: info.messages_in,
        messages_out: info.messages_out,
        last_error: info.last_error,
        malformed: info.malformed,
        warning: info.warning,
        stale_families: info.stale.iter().map(Family::to_string).collect(),
    }
}

/// Numbers of routes of a family.
pub(crate) fn counts((family, counts): &(Family, PeerCounts)) -> Counts {
    Counts {
        family: family.to_string(),
        received: counts.received,
        accepted: counts.accepted,
        filtered: counts.received.saturating_sub(counts.accepted),
        best: counts.best,
        advertised: counts.advertised,
    }
}

/// An established session.
pub(crate) fn session(up: &Up) -> Option<Session> {
    let negotiated = &up.negotiated;
    let params = &negotiated.params;
    let families = params.families.iter().map(|family| FamilyUse {
        family: family.family.to_string(),
        add_path_send: family.add_path_send,
        add_path_receive: family.add_path_receive,
        extended_next_hop: family.extended_next_hop,
    });
    Some(Session {
        local: up.local?,
        remote: up.remote?,
        hold_time_secs: negotiated.hold_time_secs,
        keepalive_secs: negotiated.keepalive_secs,
        families: families.collect(),
        four_octet_as: params.four_octet_as,
        extended_messages: params.extended_message,
        route_refresh: negotiated.route_refresh,
        enhanced_route_refresh: params.enhanced_route_refresh,
        peer_role: negotiated.peer_role.map(|role| role_name(role).to_owned()),
        capabilities: Capabilities {
            sent: negotiated.offered.iter().map(capability).collect(),
            received: negotiated.received.iter().map(capability).collect(),
        },
    })
}

/// NOTIFICATIONs with their names.
pub(crate) fn notifications(counted: &Notifications) -> Vec<NotificationCount> {
    let counted = counted.iter();
    let counts = counted.map(|(&(direction, code, subcode), &count)| NotificationCount {
        direction: direction.name().to_owned(),
        code,
        subcode,
        name: Notification::new(code, subcode).to_string(),
        count,
    });
    counts.collect()
}

/// A capability in words (RFC 5492).
fn capability(capability: &Capability) -> String {
    match capability {
        Capability::MultiProtocol(family) => format!("multiprotocol {family}"),
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::ExtendedNextHop(entries) => {
            let entries = entries
                .iter()
                .map(|(family, afi)| format!("{family} by AFI {}", afi.0));
            format!("extended next hop: {}", list(entries))
        }
        Capability::ExtendedMessage => "extended messages".to_owned(),
        Capability::Role(role) => format!("role {}", role_name(*role)),
        Capability::GracefulRestart(restart) => {
            let kept = |kept: bool| if kept { ", forwarding kept" } else { "" };
            let families = restart.families.iter();
            let families =
                families.map(|(family, forwarding)| format!("{family}{}", kept(*forwarding)));
            let flags = match (restart.restarting, restart.notification) {
                (true, true) => ", restarting, survives NOTIFICATIONs",
                (true, false) => ", restarting",
                (false, true) => ", survives NOTIFICATIONs",
                (false, false) => "",
            };
            format!(
                "graceful restart {} s{flags}: {}",
                restart.time_secs,
                list(families)
            )
        }
        Capability::FourOctetAs(asn) => format!("4-octet AS {asn}"),
        Capability::AddPath(modes) => {
            let modes = modes.iter();
            let modes = modes.map(|(family, mode)| format!("{family} {}", add_path_name(*mode)));
            format!("ADD-PATH: {}", list(modes))
        }
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::LongLivedGracefulRestart(families) => {
            let families = families.iter();
            let families = families.map(|f| format!("{} {} s", f.family, f.stale_secs));
            format!("long-lived graceful restart: {}", list(families))
        }
        Capability::Unknown { code, data } => format!("code {code}, {} octets", data.len()),
    }
}

/// The word of an ADD-PATH mode.
pub(crate) fn add_path_name(mode: AddPathMode) -> &'static str {
    match mode {
        AddPathMode::Receive => "receive",
        AddPathMode::Send => "send",
        AddPathMode::Both => "both",
    }
}

/// The word of a role (RFC 9234 §3.1).
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::RouteServer => "route-server",
        Role::RouteServerClient => "route-server-client",
        Role::Customer => "customer",
        Role::Peer => "peer",
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
