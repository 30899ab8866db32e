//! Overlay scenarios over VXLAN, named after Calico's own where it has one.

use anyhow::Result;

mod addresses;
mod cycle;
mod encap;
mod fabric_drops;
mod hand_peer;
mod host;
mod late;
mod missing;
mod modes;
mod mtu;
mod node_address;
mod repair;
mod spoof;
mod unread;
mod user_space;
mod without_bgp;

use cycle::step;
use encap::Encap::{Ipip, Vxlan, VxlanV6};

const VXLAN_STEPS: [&str; 6] = [
    "Never",
    "Always",
    "CrossSubnet",
    "Always",
    "Never",
    "CrossSubnet",
];

#[test]
fn vxlan_mode_cycle_loses_no_packet() -> Result<()> {
    let steps = VXLAN_STEPS.map(|mode| step(Vxlan, mode));
    cycle::loses_nothing("cyclev", Vxlan, &steps)
}

#[test]
fn vxlan_v6_mode_cycle_loses_no_packet() -> Result<()> {
    let steps = VXLAN_STEPS.map(|mode| step(VxlanV6, mode));
    cycle::loses_nothing("cyclew", VxlanV6, &steps)
}

/// Where the kernel has no IPIP the agents carry it themselves, behind a `tunl0` of theirs.
#[test]
fn ipip_and_vxlan_mode_cycle_loses_no_packet() -> Result<()> {
    cycle::loses_nothing("cyclei", Ipip, &cycle::both_kinds())
}

#[test]
fn vxlan_gce() -> Result<()> {
    fabric_drops::gce(Vxlan)
}

#[test]
fn vxlan_gce_rr() -> Result<()> {
    fabric_drops::gce_rr(Vxlan)
}

#[test]
fn vxlan_v6_gce() -> Result<()> {
    fabric_drops::gce(VxlanV6)
}

#[test]
fn vxlan_issue_1584() -> Result<()> {
    late::issue_1584(Vxlan)
}

#[test]
fn vxlan_cold_start_in_either_order() -> Result<()> {
    late::cold_start(Vxlan)
}

#[test]
fn vxlan_addr_assigned() -> Result<()> {
    addresses::ipip_addr_assigned(Vxlan)
}

#[test]
fn vxlan_v6_addr_assigned() -> Result<()> {
    addresses::ipip_addr_assigned(VxlanV6)
}

#[test]
fn vxlan_update_ip_address() -> Result<()> {
    node_address::update_ip_address(Vxlan)
}

#[test]
fn vxlan_host_and_remote_workload_reach_each_other() -> Result<()> {
    host::host_and_remote_workload_reach_each_other(Vxlan)
}

#[test]
fn vxlan_spoof() -> Result<()> {
    spoof::spoofed_packets_are_dropped(Vxlan)
}

#[test]
fn vxlan_device_that_was_tampered_with_is_repaired() -> Result<()> {
    repair::a_device_that_was_tampered_with_is_repaired(Vxlan)
}

#[test]
fn vxlan_v6_device_that_was_tampered_with_is_repaired() -> Result<()> {
    repair::a_device_that_was_tampered_with_is_repaired(VxlanV6)
}

#[test]
fn vxlan_pool_that_cannot_be_read_opens_nothing() -> Result<()> {
    unread::a_pool_that_cannot_be_read_opens_nothing(Vxlan)
}

#[test]
fn vxlan_between_user_space_and_the_kernel() -> Result<()> {
    user_space::one_end_in_user_space(Vxlan)
}

#[test]
fn vxlan_peer_that_is_plain_linux() -> Result<()> {
    hand_peer::plain_linux_is_a_peer(Vxlan)
}

#[test]
fn vxlan_without_bgp() -> Result<()> {
    without_bgp::routes_come_from_block_affinities(Vxlan)
}

#[test]
fn vxlan_borrowed_addresses_without_bgp() -> Result<()> {
    without_bgp::borrowed_addresses_are_where_their_nodes_say(Vxlan)
}

#[test]
fn vxlan_pools_with_different_modes() -> Result<()> {
    modes::pools_with_different_modes(Vxlan)
}

#[test]
fn vxlan_mtu_follows_the_interface() -> Result<()> {
    mtu::mtu_follows_the_interface(Vxlan)
}

#[test]
fn vxlan_v6_mtu_follows_the_interface() -> Result<()> {
    mtu::mtu_follows_the_interface(VxlanV6)
}

#[test]
fn vxlan_nothing_leaves_in_the_open() -> Result<()> {
    missing::nothing_leaves_in_the_open(Vxlan)
}

#[test]
fn vxlan_v6_nothing_leaves_in_the_open() -> Result<()> {
    missing::nothing_leaves_in_the_open(VxlanV6)
}
