//! What two OPENs agree on (RFC 4271 §6.2, 4724 §3, 4760 §8, 5492, 6286, 6793, 7911, 8654).

use std::net::Ipv4Addr;

use bgp_wire::capability::AddPathMode;
use bgp_wire::notification::{code, subcode};
use bgp_wire::{Capability, Family, FamilyParams, Notification, Open, Params, PeerType};

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
    let internal = config.local_as == config.remote_as;
    // RFC 6286 §2.2: only inside one AS must router ids differ.
    if open.router_id.is_unspecified() || (internal && open.router_id == config.local_id) {
        return Err(open_error(subcode::open::BAD_BGP_IDENTIFIER));
    }
    if open.hold_time == 1 || open.hold_time == 2 {
        return Err(open_error(subcode::open::UNACCEPTABLE_HOLD_TIME));
    }
    let families = common_families(config, open);
    if families.is_empty() {
        return Err(Notification {
            data: wanted(&config.families),
            ..open_error(subcode::open::UNSUPPORTED_CAPABILITY)
        });
    }
    let hold_time_secs = open.hold_time.min(config.hold_time_secs);
    Ok(Negotiated {
        origin,
        remote_as: open.asn,
        remote_id: open.router_id,
        hold_time_secs,
        keepalive_secs: keepalive(config.keepalive_secs, hold_time_secs),
        params: params(config, open, &families),
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
        restart: peer_restart(config, open, &families),
        families,
    })
}

fn keepalive(wanted: Option<u16>, hold_time_secs: u16) -> u16 {
    let third = hold_time_secs / 3;
    match wanted {
        Some(secs) if secs > 0 => secs.min(third),
        Some(_) | None => third,
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
        peer_type: if config.local_as == config.remote_as {
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
        ..FamilyParams::plain(family)
    }
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

#[cfg(test)]
mod tests;
