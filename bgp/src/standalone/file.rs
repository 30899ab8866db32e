//! The configuration file: YAML, unknown fields are errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bgp::{
    AddPathMode, Bfd, Desired, Family, Local, NextHopMode, Originate, PORT, PeerConfig, PeerKey,
    Ttl,
};
use serde::Deserialize;

use super::prefix::{Community, LargeCommunity, StrictPrefix};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    local: LocalSection,
    #[serde(default)]
    peers: Vec<PeerSection>,
    #[serde(default)]
    originate: Vec<OriginateSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalSection {
    asn: u32,
    router_id: Ipv4Addr,
    #[serde(default = "everywhere")]
    listen: Vec<SocketAddr>,
    cluster_id: Option<Ipv4Addr>,
    next_hop_v4: Option<Ipv4Addr>,
    next_hop_v6: Option<Ipv6Addr>,
    /// Subnets of our links, so that external peers on them are told third-party next hops.
    #[serde(default)]
    subnets: Vec<StrictPrefix>,
    multipath: Option<NonZeroU8>,
}

fn everywhere() -> Vec<SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.into_iter()
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerSection {
    name: Option<String>,
    address: IpAddr,
    asn: u32,
    port: Option<u16>,
    #[serde(default)]
    passive: bool,
    source: Option<IpAddr>,
    hold_time: Option<u16>,
    keepalive: Option<u16>,
    families: Option<Vec<FamilyName>>,
    /// Seconds; 0 turns graceful restart off.
    restart_time: Option<u16>,
    add_path: Option<AddPathName>,
    multihop: Option<u8>,
    ttl_security: Option<u8>,
    password: Option<String>,
    #[serde(default)]
    reflector_client: bool,
    next_hop: Option<NextHopName>,
    #[serde(default)]
    allow_own_as: u8,
    bfd: Option<BfdSection>,
}

/// Detection of a lost peer (RFC 5880): 100 ms both ways and 5 packets where nothing else is said.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BfdSection {
    /// Milliseconds.
    min_tx: Option<NonZeroU32>,
    /// Milliseconds.
    min_rx: Option<NonZeroU32>,
    multiplier: Option<NonZeroU8>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FamilyName {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AddPathName {
    Receive,
    Send,
    Both,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NextHopName {
    #[serde(rename = "self")]
    Own,
    Keep,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginateSection {
    prefix: StrictPrefix,
    next_hop: Option<IpAddr>,
    #[serde(default)]
    communities: Vec<Community>,
    #[serde(default)]
    large_communities: Vec<LargeCommunity>,
    local_pref: Option<u32>,
}

/// Reads the file.
///
/// # Errors
/// A file that cannot be read or does not make sense; the error names file and field.
pub(super) fn load(path: &Path) -> Result<Desired> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(name)?;
    let file: File = serde_yaml::from_str(&text).with_context(name)?;
    desired(file).with_context(name)
}

fn desired(file: File) -> Result<Desired> {
    let local = local(file.local)?;
    let mut peers = BTreeMap::new();
    let mut ends = BTreeSet::new();
    for (index, section) in file.peers.into_iter().enumerate() {
        let place = format!("peers[{index}]");
        let name = section
            .name
            .clone()
            .unwrap_or_else(|| section.address.to_string());
        let config = peer(section, &local).with_context(|| place.clone())?;
        ensure!(
            ends.insert((config.address, config.port)),
            "{place}: another peer has address {} and port {} too; remove one of them",
            config.address,
            config.port
        );
        let known = peers.insert(PeerKey::from(name.as_str()), config);
        ensure!(
            known.is_none(),
            "{place}.name: {name} is used twice; names must differ"
        );
    }
    let mut originate = BTreeMap::new();
    for (index, section) in file.originate.into_iter().enumerate() {
        let prefix = section.prefix.0;
        let known = originate.insert(prefix, originated(section));
        ensure!(
            known.is_none(),
            "originate[{index}].prefix: {prefix} is listed twice"
        );
    }
    Ok(Desired {
        dynamic: BTreeMap::new(),
        local,
        peers,
        originate,
    })
}

fn local(section: LocalSection) -> Result<Local> {
    ensure!(
        section.asn != 0,
        "local.asn: AS 0 is reserved; give your AS number"
    );
    ensure!(
        !section.router_id.is_unspecified(),
        "local.router_id: 0.0.0.0 is not allowed; an IPv4 address of this host will do"
    );
    let defaults = Local::new(section.asn, section.router_id);
    Ok(Local {
        listen: section.listen,
        cluster_id: section.cluster_id,
        next_hop_v4: section.next_hop_v4,
        next_hop_v6: section.next_hop_v6,
        subnets: section.subnets.iter().map(|subnet| subnet.0).collect(),
        multipath: section.multipath.unwrap_or(defaults.multipath),
        ..defaults
    })
}

fn peer(section: PeerSection, local: &Local) -> Result<PeerConfig> {
    ensure!(
        section.asn != 0,
        "asn: AS 0 is reserved; give the peer's AS number"
    );
    ensure!(
        !matches!(section.hold_time, Some(1 | 2)),
        "hold_time: 1 and 2 seconds are not allowed (RFC 4271 §4.2); use 0 or at least 3"
    );
    ensure!(
        !section.reflector_client || section.asn == local.asn,
        "reflector_client: only peers in our own AS {} can be clients",
        local.asn
    );
    ensure!(
        section.restart_time.is_none_or(|secs| secs <= 4095),
        "restart_time: at most 4095 seconds (RFC 4724 §3)"
    );
    ensure!(
        section
            .password
            .as_ref()
            .is_none_or(|p| (1..=80).contains(&p.len())),
        "password: must have 1 to 80 octets (TCP MD5)"
    );
    let mut config = PeerConfig::new(section.address, section.asn);
    config.ttl = match (section.multihop, section.ttl_security) {
        (None, None) => Ttl::Default,
        (Some(ttl), None) => Ttl::Multihop(ttl),
        (None, Some(hops)) => Ttl::Security { hops },
        (Some(_), Some(_)) => bail!("multihop: cannot go with ttl_security; remove one of them"),
    };
    config.port = section.port.unwrap_or(PORT);
    config.passive = section.passive;
    config.source = section.source;
    config.hold_time_secs = section.hold_time.unwrap_or(config.hold_time_secs);
    config.keepalive_secs = section.keepalive;
    if let Some(families) = section.families {
        ensure!(
            !families.is_empty(),
            "families: name at least one of ipv4, ipv6"
        );
        config.families = families.into_iter().map(Family::from).collect();
    }
    config.restart_time_secs = match section.restart_time {
        Some(0) => None,
        secs => secs.or(config.restart_time_secs),
    };
    config.add_path = section.add_path.map(AddPathMode::from);
    config.password = section.password.map(|password| password.into());
    config.reflector_client = section.reflector_client;
    config.next_hop = match section.next_hop {
        None => NextHopMode::Default,
        Some(NextHopName::Own) => NextHopMode::OwnAddress,
        Some(NextHopName::Keep) => NextHopMode::Keep,
    };
    config.allow_own_as = section.allow_own_as;
    config.bfd = section.bfd.map(Bfd::from);
    Ok(config)
}

fn originated(section: OriginateSection) -> Originate {
    Originate {
        next_hop: section.next_hop,
        communities: section.communities.iter().map(|c| c.0).collect(),
        large_communities: section.large_communities.iter().map(|c| c.0).collect(),
        local_pref: section.local_pref,
    }
}

impl From<BfdSection> for Bfd {
    fn from(section: BfdSection) -> Self {
        let millis = |given: Option<NonZeroU32>, default| given.map_or(default, NonZeroU32::get);
        Bfd {
            min_tx_ms: millis(section.min_tx, 100),
            min_rx_ms: millis(section.min_rx, 100),
            multiplier: section
                .multiplier
                .unwrap_or(NonZeroU8::MIN.saturating_add(4)),
        }
    }
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Ipv4 => Family::IPV4_UNICAST,
            FamilyName::Ipv6 => Family::IPV6_UNICAST,
        }
    }
}

impl From<AddPathName> for AddPathMode {
    fn from(name: AddPathName) -> Self {
        match name {
            AddPathName::Receive => AddPathMode::Receive,
            AddPathName::Send => AddPathMode::Send,
            AddPathName::Both => AddPathMode::Both,
        }
    }
}

#[cfg(test)]
mod tests;
