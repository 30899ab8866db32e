//! The lab of the overlay tests itself: what its router lets through, and that its forged
//! packets arrive where nothing stops them.

use anyhow::Result;

#[path = "fabric/hand_made.rs"]
mod hand_made;

use hand_made::Tunnel;

#[test]
fn a_hand_made_vxlan_joins_pods_over_a_fabric_that_drops_their_addresses() -> Result<()> {
    hand_made::joins("handvxlan", Tunnel::Vxlan)
}
