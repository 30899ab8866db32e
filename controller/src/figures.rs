//! What is shown of pools and peerings: counted here, written into their status. Pure.

use std::collections::BTreeMap;

use crds::bgp_peer::BgpPeerStatus;
use crds::ip_pool::IpPoolStatus;
use crds::node_status::PeerState;
use crds::{IpPoolSpec, IpamBlock, NodeStatus};

/// The largest whole number that every reader of JSON takes (RFC 8259 §6).
const MOST: u128 = (1 << 53) - 1;

/// Addresses of a pool, given out and not.
pub(crate) fn of_pool(pool: &IpPoolSpec, blocks: &[IpamBlock]) -> IpPoolStatus {
    let used = pool.used(blocks.iter().map(|block| &block.spec));
    let free = pool.cidr.size().saturating_sub(used.into());
    IpPoolStatus {
        used: Some(used),
        free: u64::try_from(free.min(MOST)).ok(),
        conditions: Vec::new(),
    }
}

/// Sessions of each BGPPeer, by its name, as the agents report them.
pub(crate) fn of_peers<'a>(
    peers: impl Iterator<Item = &'a str>,
    nodes: &[NodeStatus],
) -> BTreeMap<String, BgpPeerStatus> {
    let mut counts: BTreeMap<&str, (u32, u32)> = peers.map(|name| (name, (0, 0))).collect();
    let sessions = nodes.iter().filter_map(|node| node.status.as_ref());
    for session in sessions.flat_map(|status| &status.peers) {
        let name = session.object.strip_prefix("BGPPeer/");
        if let Some((all, up)) = name.and_then(|name| counts.get_mut(name)) {
            *all += 1;
            *up += u32::from(session.state == PeerState::Established);
        }
    }
    let status = |(all, up)| BgpPeerStatus {
        sessions: Some(all),
        established: Some(up),
    };
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), status(count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn block(cidr: &str, allocations: Value) -> IpamBlock {
        from_value(json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock", "metadata": {"name": "b"},
            "spec": {"cidr": cidr, "strictAffinity": false, "allocations": allocations, "attributes": [], "unallocated": []},
        }))
        .unwrap()
    }

    #[test]
    fn addresses_are_those_of_the_blocks_inside() {
        let blocks = [
            block("10.2.0.0/30", json!([0, null, 0, null])),
            block("10.2.0.4/30", json!([0, 0, 0, 0])),
            block("10.3.0.0/30", json!([0, 0, 0, 0])),
        ];
        let shown = |cidr: &str| {
            let status = of_pool(&IpPoolSpec::new(cidr.parse().unwrap()), &blocks);
            (status.used, status.free)
        };
        assert_eq!(shown("10.1.0.0/24"), (Some(0), Some(256)));
        assert_eq!(shown("10.2.0.0/24"), (Some(6), Some(250)));
        assert_eq!(shown("2001:db8::/32"), (Some(0), Some((1 << 53) - 1)));
        assert_eq!(shown("::/0"), (Some(0), Some((1 << 53) - 1)));
    }

    #[test]
    fn sessions_are_counted_by_the_object_that_asks_for_them() {
        let peer = |object: &str, state: &str| json!({"name": "n", "object": object, "peerIP": "192.0.2.1", "type": "NodePeer", "state": state, "received": 0, "accepted": 0, "best": 0, "advertised": 0});
        let node = |peers: Value| -> NodeStatus {
            from_value(json!({
                "apiVersion": "tortie.dev/v1alpha1", "kind": "NodeStatus", "metadata": {"name": "n"},
                "spec": {"node": "n"}, "status": {"peers": peers},
            }))
            .unwrap()
        };
        let nodes = [
            node(json!([
                peer("BGPPeer/tor", "Established"),
                peer("Node/b", "Established")
            ])),
            node(json!([
                peer("BGPPeer/tor", "Active"),
                peer("BGPPeer/gone", "Idle")
            ])),
        ];
        let figures = of_peers(["tor", "nobody"].into_iter(), &nodes);
        let shown = |name: &str| (figures[name].established, figures[name].sessions);
        assert_eq!(shown("tor"), (Some(1), Some(2)));
        assert_eq!(shown("nobody"), (Some(0), Some(0)));
        assert_eq!(figures.len(), 2);
    }
}
