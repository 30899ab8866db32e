//! Overlay scenarios that need `tunl0`. Cargo runs this program where the kernel has it,
//! see `e2e/vm/runner`.

use anyhow::Result;

#[path = "../fabric/hand_made.rs"]
mod hand_made;

use hand_made::Tunnel;

#[test]
fn a_hand_made_ipip_joins_pods_over_a_fabric_that_drops_their_addresses() -> Result<()> {
    hand_made::joins("handipip", Tunnel::Ipip)
}
