//! Peers and their sessions.

use bgp_api::{Capabilities, Counts, FamilyUse, NotificationCount, Peer, PeerKind, Session};
use bgp_rib::PeerCounts;
use bgp_wire::capability::{AddPathMode, Role};
use bgp_wire::{Family, Notification};

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
        capabilities: Capabilities::default(),
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
