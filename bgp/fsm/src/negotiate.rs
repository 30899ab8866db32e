//! What two OPENs agree on (RFC 4271 §6.2, 4724 §3, 4760 §8, 5492, 6286, 6793, 7911, 8654, 8950,
//! 9234, 9494).

use std::net::Ipv4Addr;

use bgp_wire::capability::{AddPathMode, LongLivedFamily, Role};
use bgp_wire::notification::{code, subcode};
use bgp_wire::{Afi, Capability, Family, FamilyParams, Notification, Open, Params, PeerType};

use crate::config::Config;
use crate::event::Origin;

/// The outcome of two OPENs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Who opened the connection.
    pub origin: Origin,
    /// The peer's AS number.
    pub remote_as: u32,
    /// The peer's router id.
    pub remote_id: Ipv4Addr,
    /// Agreed hold time in seconds; 0: no hold timer and no KEEPALIVEs.
    pub hold_time_secs: u16,
    /// Interval between our KEEPALIVEs in seconds, 0: none.
    pub keepalive_secs: u16,
    /// Families both sides offered.
    pub families: Vec<Family>,
    /// How to read and write messages from now on.
    pub params: Params,
    /// The peer understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// The peer's graceful restart capability; absent also when we did not offer ours.
    pub restart: Option<PeerRestart>,
    /// Families of which the peer's routes stay long-lived, and how long: the shorter of its time
    /// and ours. Empty unless both sides offered it, and graceful restart with it (RFC 9494 §3).
    pub long_lived: Vec<LongLivedFamily>,
    /// What the peer says it is to us; absent also when we did not say what we are (RFC 9234).
    pub peer_role: Option<Role>,
    /// The capabilities of our OPEN.
    pub offered: Vec<Capability>,
    /// The capabilities of the peer's OPEN.
    pub received: Vec<Capability>,
}

impl Negotiated {
    /// The peer's routes of this family stay long-lived when it is away (RFC 9494).
    #[must_use]
    pub fn long_lived(&self, family: Family) -> Option<&LongLivedFamily> {
        self.long_lived.iter().find(|entry| entry.family == family)
    }
}

/// What the peer's OPEN said about graceful restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRestart {
    /// The peer comes back from a restart (R bit).
    pub restarting: bool,
    /// NOTIFICATIONs do not end the retention of routes: both sides offered it (RFC 8538).
    pub notification: bool,
    /// How long to keep the peer's routes while it is away, in seconds.
    pub time_secs: u16,
    /// Families it restarts gracefully, and whether it kept forwarding for them (F bit).
    pub families: Vec<(Family, bool)>,
}

impl PeerRestart {
    /// The peer kept forwarding this family.
    #[must_use]
    pub fn forwarding(&self, family: Family) -> bool {
        self.families.contains(&(family, true))
    }

    /// The peer restarts this family gracefully.
    #[must_use]
    pub fn covers(&self, family: Family) -> bool {
        self.families.iter().any(|(covered, _)| *covered == family)
    }
}

/// Checks the peer's OPEN against what we want of it.
///
/// # Errors
/// The NOTIFICATION that answers an OPEN we cannot accept.
pub(crate) fn negotiate(
    config: &Config,
    open: &Open,
    origin: Origin,
) -> Result<Negotiated, Notification> {
    if open.asn != config.remote_as {
        return Err(open_error(subcode::open::BAD_PEER_AS));
    }
    // RFC 6286 §2.2: only inside one AS must router ids differ.
    let same_id = config.is_internal() && open.router_id == config.local_id;
    if open.router_id.is_unspecified() || same_id {
        return Err(open_error(subcode::open::BAD_BGP_IDENTIFIER));
    }
    if open.hold_time == 1 || open.hold_time == 2 {
        return Err(open_error(subcode::open::UNACCEPTABLE_HOLD_TIME));
    }
    let peer_role = peer_role(config, open)?;
    let families = common_families(config, open);
    if families.is_empty() {
        return Err(Notification {
            data: wanted(&config.families),
            ..open_error(subcode::open::UNSUPPORTED_CAPABILITY)
        });
    }
    let hold_time_secs = open.hold_time.min(config.hold_time_secs);
    let restart = peer_restart(config, open, &families);
    Ok(Negotiated {
        origin,
        remote_as: open.asn,
        remote_id: open.router_id,
        hold_time_secs,
        keepalive_secs: keepalive(config.keepalive_secs, hold_time_secs),
        params: params(config, open, &families),
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
        long_lived: match restart {
            Some(_) => long_lived(config, open, &families),
            None => Vec::new(),
        },
        restart,
        peer_role,
        offered: config.capabilities(),
        received: open.capabilities.clone(),
        families,
    })
}

/// Interval of KEEPALIVEs: what is wanted, or a third of the hold time, whichever is shorter.
pub(crate) fn keepalive(wanted: Option<u16>, hold_time_secs: u16) -> u16 {
    let third = hold_time_secs / 3;
    match wanted {
        Some(secs) if secs > 0 => secs.min(third),
        Some(_) | None => third,
    }
}

/// Checks that the two roles are the two ends of one relation (RFC 9234 §4.2).
fn peer_role(config: &Config, open: &Open) -> Result<Option<Role>, Notification> {
    let Some(ours) = config.role.filter(|_| !config.is_internal()) else {
        return Ok(None);
    };
    let mismatch = || open_error(subcode::open::ROLE_MISMATCH);
    let mut theirs = open.capabilities.iter().filter_map(|capability| {
        if let Capability::Role(role) = capability {
            Some(*role)
        } else {
            None
        }
    });
    let Some(first) = theirs.next() else {
        return if config.role_strict {
            Err(mismatch())
        } else {
            Ok(None)
        };
    };
    if first != counterpart(ours) || theirs.any(|role| role != first) {
        return Err(mismatch());
    }
    Ok(Some(first))
}

fn counterpart(role: Role) -> Role {
    match role {
        Role::Provider => Role::Customer,
        Role::Customer => Role::Provider,
        Role::RouteServer => Role::RouteServerClient,
        Role::RouteServerClient => Role::RouteServer,
        Role::Peer => Role::Peer,
    }
}

fn common_families(config: &Config, open: &Open) -> Vec<Family> {
    let mut theirs: Vec<Family> = Vec::new();
    for capability in &open.capabilities {
        if let Capability::MultiProtocol(family) = capability {
            theirs.push(*family);
        }
    }
    // RFC 4760 §8: who says nothing speaks IPv4 unicast.
    if theirs.is_empty() {
        theirs.push(Family::IPV4_UNICAST);
    }
    let ours = config.families.iter().copied();
    ours.filter(|family| theirs.contains(family)).collect()
}

fn open_error(subcode: u8) -> Notification {
    Notification::new(code::OPEN_MESSAGE, subcode)
}

/// Multiprotocol capabilities of the families as they stand in an OPEN (RFC 5492 §5).
fn wanted(families: &[Family]) -> Vec<u8> {
    let mut data = Vec::with_capacity(6 * families.len());
    for family in families {
        let [high, low] = family.afi.0.to_be_bytes();
        data.extend_from_slice(&[1, 4, high, low, 0, family.safi.0]);
    }
    data
}

fn params(config: &Config, open: &Open, families: &[Family]) -> Params {
    let offers = |capability: &Capability| open.capabilities.contains(capability);
    let mut four_octet_as = open.capabilities.iter();
    Params {
        four_octet_as: four_octet_as.any(|c| matches!(c, Capability::FourOctetAs(_))),
        extended_message: config.extended_message && offers(&Capability::ExtendedMessage),
        enhanced_route_refresh: offers(&Capability::EnhancedRouteRefresh),
        peer_type: if config.is_internal() {
            PeerType::Internal
        } else {
            PeerType::External
        },
        families: families
            .iter()
            .map(|f| family_params(config, open, *f))
            .collect(),
    }
}

fn family_params(config: &Config, open: &Open, family: Family) -> FamilyParams {
    let ours = add_path_mode(&config.add_path, family);
    let theirs = open.capabilities.iter().find_map(|capability| {
        if let Capability::AddPath(modes) = capability {
            add_path_mode(modes, family)
        } else {
            None
        }
    });
    let (ours, theirs) = ours.zip(theirs).unzip();
    let both = |one: fn(AddPathMode) -> bool, other: fn(AddPathMode) -> bool| {
        ours.is_some_and(one) && theirs.is_some_and(other)
    };
    FamilyParams {
        add_path_receive: both(AddPathMode::receives, AddPathMode::sends),
        add_path_send: both(AddPathMode::sends, AddPathMode::receives),
        extended_next_hop: config.extended_next_hop && takes_v6_next_hops(open, family),
        ..FamilyParams::plain(family)
    }
}

fn takes_v6_next_hops(open: &Open, family: Family) -> bool {
    open.capabilities.iter().any(|capability| {
        if let Capability::ExtendedNextHop(entries) = capability {
            family == Family::IPV4_UNICAST && entries.contains(&(family, Afi::IPV6))
        } else {
            false
        }
    })
}

fn add_path_mode(modes: &[(Family, AddPathMode)], family: Family) -> Option<AddPathMode> {
    let mut modes = modes.iter();
    modes.find_map(|(covered, mode)| (*covered == family).then_some(*mode))
}

fn peer_restart(config: &Config, open: &Open, families: &[Family]) -> Option<PeerRestart> {
    let ours = config.restart?;
    let theirs = open.capabilities.iter().find_map(|capability| {
        if let Capability::GracefulRestart(theirs) = capability {
            Some(theirs)
        } else {
            None
        }
    })?;
    let covered = theirs.families.iter().copied();
    Some(PeerRestart {
        restarting: theirs.restarting,
        notification: ours.notification && theirs.notification,
        time_secs: theirs.time_secs,
        families: covered.filter(|(f, _)| families.contains(f)).collect(),
    })
}

fn long_lived(config: &Config, open: &Open, families: &[Family]) -> Vec<LongLivedFamily> {
    let Some(ours) = config.long_lived_secs else {
        return Vec::new();
    };
    let theirs = open.capabilities.iter().find_map(|capability| {
        if let Capability::LongLivedGracefulRestart(entries) = capability {
            Some(entries.iter().copied())
        } else {
            None
        }
    });
    let mut agreed: Vec<LongLivedFamily> = Vec::new();
    for entry in theirs.into_iter().flatten() {
        let known = agreed.iter().any(|known| known.family == entry.family);
        if families.contains(&entry.family) && !known {
            agreed.push(LongLivedFamily {
                stale_secs: entry.stale_secs.min(ours),
                ..entry
            });
        }
    }
    agreed
}

#[cfg(test)]
mod tests;
