//! Overlay scenarios that need `tunl0`, named after Calico's own where it has one. Cargo runs this
//! program where the kernel has it, see `e2e/vm/runner`.

use anyhow::Result;

#[path = "../overlay/addresses.rs"]
mod addresses;
#[path = "../overlay/cycle.rs"]
mod cycle;
#[path = "../overlay/encap.rs"]
mod encap;
#[path = "../overlay/fabric_drops.rs"]
mod fabric_drops;
#[path = "../fabric/hand_made.rs"]
mod hand_made;
#[path = "../overlay/hand_peer.rs"]
mod hand_peer;
#[path = "../overlay/host.rs"]
mod host;
#[path = "../overlay/late.rs"]
mod late;
#[path = "../overlay/missing.rs"]
mod missing;
#[path = "../overlay/modes.rs"]
mod modes;
#[path = "../overlay/mtu.rs"]
mod mtu;
#[path = "../overlay/node_address.rs"]
mod node_address;
#[path = "../overlay/repair.rs"]
mod repair;
#[path = "../overlay/spoof.rs"]
mod spoof;

use encap::Encap::Ipip;
use hand_made::Tunnel;

#[test]
fn a_hand_made_ipip_joins_pods_over_a_fabric_that_drops_their_addresses() -> Result<()> {
    hand_made::joins("handipip", Tunnel::Ipip)
}

#[test]
fn mode_cycle_loses_no_packet() -> Result<()> {
    cycle::loses_nothing("cyclek", Ipip, &cycle::both_kinds())
}

#[test]
fn update_ip_address() -> Result<()> {
    node_address::update_ip_address(Ipip)
}

#[test]
fn pools_with_different_modes() -> Result<()> {
    modes::pools_with_different_modes(Ipip)
}

#[test]
fn gce() -> Result<()> {
    fabric_drops::gce(Ipip)
}

#[test]
fn gce_rr() -> Result<()> {
    fabric_drops::gce_rr(Ipip)
}

#[test]
fn issue_1584() -> Result<()> {
    late::issue_1584(Ipip)
}

#[test]
fn cold_start_in_either_order() -> Result<()> {
    late::cold_start(Ipip)
}

#[test]
fn ipip_addr_assigned() -> Result<()> {
    addresses::ipip_addr_assigned(Ipip)
}

#[test]
fn host_and_remote_workload_reach_each_other() -> Result<()> {
    host::host_and_remote_workload_reach_each_other(Ipip)
}

#[test]
fn ipip_spoof() -> Result<()> {
    spoof::spoofed_packets_are_dropped(Ipip)
}

#[test]
fn a_device_that_was_tampered_with_is_repaired() -> Result<()> {
    repair::a_device_that_was_tampered_with_is_repaired(Ipip)
}

#[test]
fn a_peer_that_is_plain_linux() -> Result<()> {
    hand_peer::plain_linux_is_a_peer(Ipip)
}

#[test]
fn mtu_follows_the_interface() -> Result<()> {
    mtu::mtu_follows_the_interface(Ipip)
}

#[test]
fn nothing_leaves_in_the_open() -> Result<()> {
    missing::nothing_leaves_in_the_open(Ipip)
}
