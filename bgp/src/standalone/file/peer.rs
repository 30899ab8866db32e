//! Peers, and ranges of addresses that peers may have.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bgp::{
    AddPathMode, Bfd, DynamicPeers, Family, Local, MaxPrefixes, MaxPrefixesAction, NextHopMode,
    PORT, PeerConfig, Role, Ttl,
};
use serde::Deserialize;
use serde_yaml::Mapping;

use super::rule::{Filters, Last};
use crate::standalone::prefix::StrictPrefix;

/// A peer, a group of peers or what all of them have in common: everything may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerSection {
    pub(super) name: Option<String>,
    /// Already looked at when this is read.
    #[serde(rename = "group")]
    _group: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) interface: Option<String>,
    asn: Option<u32>,
    local_as: Option<u32>,
    port: Option<u16>,
    shut_down: Option<String>,
    passive: Option<bool>,
    source: Option<IpAddr>,
    hold_time: Option<u16>,
    keepalive: Option<u16>,
    connect_retry: Option<u16>,
    families: Option<Vec<FamilyName>>,
    /// Seconds; 0 turns graceful restart off.
    restart_time: Option<u16>,
    long_lived: Option<u32>,
    long_lived_to_all: Option<bool>,
    add_path: Option<AddPathName>,
    add_path_limit: Option<NonZeroU8>,
    max_prefixes: Option<MaxPrefixesSection>,
    role: Option<RoleName>,
    role_strict: Option<bool>,
    graceful_shutdown: Option<bool>,
    enforce_first_as: Option<bool>,
    bfd: Option<BfdSection>,
    multihop: Option<u8>,
    ttl_security: Option<u8>,
    password: Option<String>,
    reflector_client: Option<bool>,
    next_hop: Option<NextHopName>,
    allow_own_as: Option<u8>,
    import: Option<Vec<String>>,
    import_otherwise: Option<Last>,
    export: Option<Vec<String>>,
    export_otherwise: Option<Last>,
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
#[serde(rename_all = "kebab-case")]
enum RoleName {
    Provider,
    RouteServer,
    RouteServerClient,
    Customer,
    Peer,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NextHopName {
    Default,
    #[serde(rename = "self")]
    Own,
    Keep,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BfdSection {
    #[serde(default = "interval")]
    min_tx_ms: NonZeroU32,
    #[serde(default = "interval")]
    min_rx_ms: NonZeroU32,
    #[serde(default = "multiplier")]
    multiplier: NonZeroU8,
}

fn interval() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(299)
}

fn multiplier() -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(2)
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaxPrefixesSection {
    limit: NonZeroU32,
    #[serde(default = "warning")]
    warning_percent: u8,
    #[serde(default)]
    action: ActionName,
    restart_after: Option<u32>,
}

fn warning() -> u8 {
    75
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionName {
    Warn,
    Discard,
    #[default]
    Close,
}

impl PeerSection {
    /// What can be said without knowing the whole peer.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.asn != Some(0),
            "asn: AS 0 is reserved; give the peer's AS number"
        );
        ensure!(
            self.local_as != Some(0),
            "local_as: AS 0 is reserved; give the AS number that the peer shall see"
        );
        ensure!(
            !matches!(self.hold_time, Some(1 | 2)),
            "hold_time: 1 and 2 seconds are not allowed (RFC 4271 §4.2); use 0 or at least 3"
        );
        ensure!(
            self.connect_retry != Some(0),
            "connect_retry: must be at least 1 second"
        );
        ensure!(
            self.restart_time.is_none_or(|secs| secs <= 4095),
            "restart_time: at most 4095 seconds (RFC 4724 §3)"
        );
        ensure!(
            self.long_lived.is_none_or(|secs| secs < 1 << 24),
            "long_lived: at most 16777215 seconds (RFC 9494 §3)"
        );
        ensure!(
            self.password
                .as_ref()
                .is_none_or(|p| (1..=80).contains(&p.len())),
            "password: must have 1 to 80 octets (TCP MD5)"
        );
        ensure!(
            self.families
                .as_ref()
                .is_none_or(|families| !families.is_empty()),
            "families: name at least one of ipv4, ipv6"
        );
        ensure!(
            self.multihop.is_none() || self.ttl_security.is_none(),
            "multihop: cannot go with ttl_security; remove one of them"
        );
        if let Some(max) = &self.max_prefixes {
            ensure!(
                max.warning_percent <= 100,
                "max_prefixes.warning_percent: at most 100"
            );
            ensure!(
                max.restart_after.is_none() || max.action == ActionName::Close,
                "max_prefixes.restart_after: only action: close ends a session; remove it"
            );
        }
        Ok(())
    }

    /// What can be said only with all of it.
    fn check_whole(&self, asn: u32, ours: u32) -> Result<()> {
        let internal = asn == ours;
        ensure!(
            !self.reflector_client.unwrap_or(false) || internal,
            "reflector_client: only peers in our own AS {ours} can be clients"
        );
        ensure!(
            self.role.is_none() || !internal,
            "role: only peers in another AS have one (RFC 9234 §4); remove it"
        );
        ensure!(
            self.role.is_some() || !self.role_strict.unwrap_or(false),
            "role_strict: needs role, which says what we are to the peer"
        );
        ensure!(
            self.long_lived.is_none() || self.restart_time != Some(0),
            "long_lived: needs graceful restart (RFC 9494 §4.1); give restart_time"
        );
        ensure!(
            !self.long_lived_to_all.unwrap_or(false) || internal,
            "long_lived_to_all: only peers in our own AS {ours} are told (RFC 9494 §4.6); remove it"
        );
        let sends = matches!(self.add_path, Some(AddPathName::Send | AddPathName::Both));
        ensure!(
            self.add_path_limit.is_none() || sends,
            "add_path_limit: needs add_path: send or both"
        );
        let link_local = match self.address {
            Some(IpAddr::V6(address)) => address.is_unicast_link_local(),
            Some(IpAddr::V4(_)) | None => false,
        };
        ensure!(
            !link_local || self.interface.is_some(),
            "interface: a link-local address needs one"
        );
        Ok(())
    }

    /// The peer. Without an address it is found on its interface, or by its range.
    pub(super) fn config(self, local: &Local, filters: &Filters) -> Result<PeerConfig> {
        self.check()?;
        let asn = self.asn.context("asn: give the peer's AS number")?;
        self.check_whole(asn, self.local_as.unwrap_or(local.asn))?;
        let address = self.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let new = PeerConfig::new(address, asn);
        let policy = |of: &str, names: &Option<Vec<String>>, last: Option<Last>| {
            filters
                .policy(names.as_deref(), last)
                .with_context(|| of.to_owned())
        };
        Ok(PeerConfig {
            import: policy("import", &self.import, self.import_otherwise)?,
            export: policy("export", &self.export, self.export_otherwise)?,
            port: self.port.unwrap_or(PORT),
            interface: self.interface.map(Arc::from),
            local_as: self.local_as,
            shut_down: self.shut_down.map(Arc::from),
            passive: self.passive.unwrap_or(new.passive),
            source: self.source,
            hold_time_secs: self.hold_time.unwrap_or(new.hold_time_secs),
            keepalive_secs: self.keepalive,
            connect_retry_secs: self.connect_retry,
            families: match self.families {
                Some(names) => names.into_iter().map(Family::from).collect(),
                None => new.families,
            },
            restart_time_secs: match self.restart_time {
                Some(0) => None,
                secs => secs.or(new.restart_time_secs),
            },
            long_lived_secs: self.long_lived,
            long_lived_to_all: self.long_lived_to_all.unwrap_or(new.long_lived_to_all),
            add_path: self.add_path.map(AddPathMode::from),
            add_path_limit: self.add_path_limit,
            max_prefixes: self.max_prefixes.map(MaxPrefixes::from),
            role: self.role.map(Role::from),
            role_strict: self.role_strict.unwrap_or(new.role_strict),
            graceful_shutdown: self.graceful_shutdown.unwrap_or(new.graceful_shutdown),
            enforce_first_as: self.enforce_first_as.unwrap_or(new.enforce_first_as),
            bfd: self.bfd.map(Bfd::from),
            ttl: match (self.multihop, self.ttl_security) {
                (Some(ttl), _) => Ttl::Multihop(ttl),
                (None, Some(hops)) => Ttl::Security { hops },
                (None, None) => Ttl::Default,
            },
            password: self.password.map(|password| password.into()),
            reflector_client: self.reflector_client.unwrap_or(new.reflector_client),
            next_hop: match self.next_hop {
                None | Some(NextHopName::Default) => NextHopMode::Default,
                Some(NextHopName::Own) => NextHopMode::OwnAddress,
                Some(NextHopName::Keep) => NextHopMode::Keep,
            },
            allow_own_as: self.allow_own_as.unwrap_or(new.allow_own_as),
            ..new
        })
    }
}

/// A range of addresses that peers may have; its other fields are those of each peer.
#[derive(Debug, Deserialize)]
pub(super) struct DynamicSection {
    range: StrictPrefix,
    #[serde(default = "limit")]
    limit: NonZeroU32,
}

fn limit() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99)
}

impl DynamicSection {
    /// Takes what is only in ranges out of a mapping; the rest is about each peer.
    pub(super) fn take(mut whole: Mapping, place: &str) -> Result<(Mapping, Self)> {
        let mut own = Mapping::new();
        for field in ["range", "limit"] {
            own.extend(whole.remove_entry(field));
        }
        Ok((whole, super::read(own, place)?))
    }

    pub(super) fn peers(
        self,
        template: PeerSection,
        local: &Local,
        filters: &Filters,
    ) -> Result<(String, DynamicPeers)> {
        let range = self.range.0;
        if template.address.is_some() || template.interface.is_some() {
            bail!("address: peers of a range have any address in it; remove address and interface");
        }
        let name = template.name.clone().unwrap_or_else(|| range.to_string());
        let dynamic = DynamicPeers {
            range,
            limit: self.limit,
            template: template.config(local, filters)?,
        };
        Ok((name, dynamic))
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

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Provider => Role::Provider,
            RoleName::RouteServer => Role::RouteServer,
            RoleName::RouteServerClient => Role::RouteServerClient,
            RoleName::Customer => Role::Customer,
            RoleName::Peer => Role::Peer,
        }
    }
}

impl From<BfdSection> for Bfd {
    fn from(section: BfdSection) -> Self {
        Bfd {
            min_tx_ms: section.min_tx_ms.get(),
            min_rx_ms: section.min_rx_ms.get(),
            multiplier: section.multiplier,
            on_link: false,
        }
    }
}

impl From<MaxPrefixesSection> for MaxPrefixes {
    fn from(section: MaxPrefixesSection) -> Self {
        MaxPrefixes {
            limit: section.limit,
            warning_percent: section.warning_percent,
            action: match section.action {
                ActionName::Warn => MaxPrefixesAction::Warn,
                ActionName::Discard => MaxPrefixesAction::Discard,
                ActionName::Close => MaxPrefixesAction::Close {
                    restart_after_secs: section.restart_after,
                },
            },
        }
    }
}
