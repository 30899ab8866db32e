use super::*;
use crate::testing::*;
use crate::{Outcome, PeerId, Rib};

const P: &str = "203.0.113.0/24";
const Q: &str = "198.51.100.0/24";

/// RFC 4456 §6.
#[test]
fn who_hears_of_whom() {
    use PeerKind::{Ebgp, Ibgp, IbgpClient};
    let passed =
        [Ebgp, Ibgp, IbgpClient].map(|from| [Ebgp, Ibgp, IbgpClient].map(|to| passes(from, to)));
    assert_eq!(
        passed,
        [[true, true, true], [true, false, true], [true, true, true]]
    );
}

/// RFC 4456 §8: who reflects first names the originator, everyone adds its cluster in front.
#[test]
fn reflected_paths_are_marked() {
    let mut rib = Rib::new(RibConfig {
        cluster_id: Some(Ipv4Addr::new(192, 0, 2, 50)),
        ..config()
    });
    rib.peer_up(PeerId(1), session(PeerKind::IbgpClient, 1));
    let update = announce(&[P], &fields(&[64501]), "172.16.0.1");
    rib.update(PeerId(1), &update);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(attributes.originator_id, Some(Ipv4Addr::new(172, 16, 0, 1)));
    assert_eq!(attributes.cluster_list, [Ipv4Addr::new(192, 0, 2, 50)]);

    let reflected = AttributesBuilder {
        originator_id: Some(Ipv4Addr::new(172, 16, 0, 77)),
        cluster_list: vec![Ipv4Addr::new(192, 0, 2, 51)],
        ..fields(&[64501])
    };
    rib.update(PeerId(1), &announce(&[P], &reflected, "172.16.0.1"));
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(
        attributes.originator_id,
        Some(Ipv4Addr::new(172, 16, 0, 77))
    );
    assert_eq!(
        attributes.cluster_list,
        [Ipv4Addr::new(192, 0, 2, 50), Ipv4Addr::new(192, 0, 2, 51)]
    );

    let (_, attributes) = told(&mut rib, session(PeerKind::Ebgp, 3), P).unwrap();
    assert_eq!(attributes.originator_id, None);
    assert!(attributes.cluster_list.is_empty());
}

/// Who becomes a reflector, or of another cluster, forgets nothing and tells again what it reflects.
#[test]
fn a_new_cluster_is_told_and_recognised_without_a_new_session() {
    let other = Ipv4Addr::new(192, 0, 2, 50);
    let mut rib = Rib::new(config());
    rib.peer_up(PeerId(1), session(PeerKind::IbgpClient, 1));
    rib.peer_up(PeerId(2), session(PeerKind::Ibgp, 2));
    rib.update(PeerId(1), &announce(&[P], &fields(&[64501]), "172.16.0.1"));
    let looping = AttributesBuilder {
        cluster_list: vec![other],
        ..fields(&[64501])
    };
    rib.update(PeerId(1), &announce(&[Q], &looping, "172.16.0.1"));
    assert!(!rib.next_messages(PeerId(2), 1 << 16).is_empty());
    assert!(rib.best(Q.parse().unwrap()).is_some());

    rib.set_cluster_id(Some(other));
    assert!(rib.has_pending(PeerId(2)), "it is told the new cluster");
    assert!(rib.best(P.parse().unwrap()).is_some());
    assert!(rib.best(Q.parse().unwrap()).is_none(), "it has been here");
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 3), P).unwrap();
    assert_eq!(attributes.cluster_list, [other]);

    rib.set_cluster_id(None);
    assert!(rib.best(Q.parse().unwrap()).is_some());
}

/// RFC 4456 §8: what has been here before is ignored.
#[test]
fn loops_are_recognised() {
    let own = config().router_id;
    let rows = [
        (Some(own), vec![], Some(Ineligible::OriginatorLoop)),
        (
            None,
            vec![Ipv4Addr::new(192, 0, 2, 9), own],
            Some(Ineligible::ClusterLoop),
        ),
        (None, vec![Ipv4Addr::new(192, 0, 2, 9)], None),
    ];
    for (originator_id, cluster_list, expected) in rows {
        let mut rib = Rib::new(config());
        rib.peer_up(PeerId(1), session(PeerKind::Ibgp, 1));
        let said = AttributesBuilder {
            originator_id,
            cluster_list,
            ..fields(&[])
        };
        rib.update(PeerId(1), &announce(&[P], &said, "172.16.0.1"));
        let outcome = rib.explain(prefix(P)).unwrap().paths[0].outcome;
        let ineligible = match outcome {
            Outcome::Ineligible(reason) => Some(reason),
            Outcome::Best(_) | Outcome::Shares(_) | Outcome::Lost(_) => None,
        };
        assert_eq!(ineligible, expected);
    }
}
