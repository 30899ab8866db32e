//! What is shown of pools and peerings: counted here, written into their status. Pure.

use std::collections::BTreeMap;

use crds::bgp_peer::BgpPeerStatus;
use crds::ip_pool::IpPoolStatus;
use crds::node_status::PeerState;
use crds::{IpPool, IpamBlock, NodeStatus};
use ipnet::IpNet;

/// The largest whole number that every reader of JSON takes (RFC 8259 §6).
const MOST: u128 = (1 << 53) - 1;

/// Addresses of each pool, by its name; a pool whose block is in two of them is the one that comes first.
pub(crate) fn of_pools<'a>(
    pools: impl Iterator<Item = (&'a str, &'a IpPool)>,
    blocks: &[IpamBlock],
) -> BTreeMap<String, IpPoolStatus> {
    let mut figures: Vec<(&str, &IpPool, u64)> =
        pools.map(|(name, pool)| (name, pool, 0)).collect();
    for block in blocks {
        let cidr = IpNet::from(block.spec.cidr);
        let pool = figures
            .iter_mut()
            .find(|(_, pool, _)| IpNet::from(pool.spec.cidr).contains(&cidr));
        if let Some((_, _, used)) = pool {
            *used += u64::try_from(block.spec.used()).unwrap_or(u64::MAX);
        }
    }
    let figures = figures.into_iter().map(|(name, pool, used)| {
        let free = size(pool.spec.cidr.into()).saturating_sub(used.into());
        let status = IpPoolStatus {
            used: Some(used),
            free: u64::try_from(free.min(MOST)).ok(),
            conditions: Vec::new(),
        };
        (name.to_owned(), status)
    });
    figures.collect()
}

/// Addresses in a prefix; `u128::MAX` stands for all of IPv6.
fn size(net: IpNet) -> u128 {
    let bits = net.max_prefix_len() - net.prefix_len();
    1u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
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

    fn pool(cidr: &str) -> IpPool {
        IpPool::new("p", crds::IpPoolSpec::new(cidr.parse().unwrap()))
    }

    fn block(cidr: &str, allocations: Value) -> IpamBlock {
        from_value(json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock", "metadata": {"name": "b"},
            "spec": {"cidr": cidr, "strictAffinity": false, "allocations": allocations, "attributes": [], "unallocated": []},
        }))
        .unwrap()
    }

    #[test]
    fn addresses_are_those_of_the_blocks_inside() {
        let pools = [
            ("empty", pool("10.1.0.0/24")),
            ("huge", pool("2001:db8::/32")),
            ("used", pool("10.2.0.0/24")),
            ("whole", pool("::/0")),
        ];
        let blocks = [
            block("10.2.0.0/30", json!([0, null, 0, null])),
            block("10.2.0.4/30", json!([0, 0, 0, 0])),
            block("10.3.0.0/30", json!([0, 0, 0, 0])),
        ];
        let figures = of_pools(pools.iter().map(|(name, pool)| (*name, pool)), &blocks);
        let shown = |name: &str| (figures[name].used, figures[name].free);
        assert_eq!(shown("empty"), (Some(0), Some(256)));
        assert_eq!(shown("used"), (Some(6), Some(250)));
        assert_eq!(shown("huge"), (Some(0), Some((1 << 53) - 1)));
        assert_eq!(shown("whole"), (Some(0), Some((1 << 53) - 1)));
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
