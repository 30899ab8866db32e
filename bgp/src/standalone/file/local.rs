//! Ourselves, and what we know about next hops.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;

use anyhow::{Result, bail, ensure};
use bgp::{Local, PORT, Reachability};
use serde::Deserialize;

use crate::standalone::prefix::StrictPrefix;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalSection {
    asn: u32,
    router_id: Ipv4Addr,
    #[serde(default = "everywhere")]
    listen: Vec<SocketAddr>,
    cluster_id: Option<Ipv4Addr>,
    next_hop_v4: Option<Ipv4Addr>,
    next_hop_v6: Option<Ipv6Addr>,
    #[serde(default)]
    subnets: Vec<StrictPrefix>,
    multipath: Option<NonZeroU8>,
    #[serde(default)]
    require_policy: bool,
    #[serde(default)]
    always_compare_med: bool,
    #[serde(default)]
    missing_med_is_worst: bool,
}

fn everywhere() -> Vec<SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.into_iter()
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

impl LocalSection {
    pub(super) fn local(self) -> Result<Local> {
        ensure!(
            self.asn != 0,
            "local.asn: AS 0 is reserved; give your AS number"
        );
        ensure!(
            !self.router_id.is_unspecified(),
            "local.router_id: 0.0.0.0 is not allowed; an IPv4 address of this host will do"
        );
        let defaults = Local::new(self.asn, self.router_id);
        Ok(Local {
            listen: self.listen,
            cluster_id: self.cluster_id,
            next_hop_v4: self.next_hop_v4,
            next_hop_v6: self.next_hop_v6,
            subnets: self.subnets.iter().map(|subnet| subnet.0).collect(),
            multipath: self.multipath.unwrap_or(defaults.multipath),
            require_policy: self.require_policy,
            always_compare_med: self.always_compare_med,
            missing_med_is_worst: self.missing_med_is_worst,
            ..defaults
        })
    }
}

/// What is known about the way to a next hop.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextHopSection {
    address: IpAddr,
    metric: Option<u32>,
    #[serde(default)]
    unreachable: bool,
}

impl NextHopSection {
    pub(super) fn said(self) -> Result<(IpAddr, Reachability)> {
        let said = match (self.metric, self.unreachable) {
            (Some(metric), false) => Reachability::Reachable { metric },
            (None, true) => Reachability::Unreachable,
            (Some(_), true) => bail!("metric: cannot go with unreachable; remove one of them"),
            (None, false) => bail!("metric: give the cost of the way, or unreachable: true"),
        };
        Ok((self.address, said))
    }
}
