//! Outgoing NAT, judged by tcpdump where the packets arrive.

use anyhow::Result;

mod clusters;
mod foreign;
mod lab;
mod table;

use foreign::Proxy;

#[test]
fn who_is_translated() -> Result<()> {
    table::outgoing()
}

#[test]
fn options_take_effect_while_the_agent_runs() -> Result<()> {
    table::options()
}

#[test]
fn rules_of_kube_proxy_in_iptables_nft_stay_and_work() -> Result<()> {
    foreign::stay_and_work(Proxy::IptablesNft)
}

#[test]
fn rules_of_kube_proxy_in_iptables_legacy_stay_and_work() -> Result<()> {
    foreign::stay_and_work(Proxy::IptablesLegacy)
}

#[test]
fn rules_of_kube_proxy_in_nftables_stay_and_work() -> Result<()> {
    foreign::stay_and_work(Proxy::Nftables)
}

#[test]
fn two_clusters_joined_by_disabled_pools() -> Result<()> {
    clusters::joined()
}
