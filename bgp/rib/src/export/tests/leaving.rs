//! Graceful shutdown of a session (RFC 8326).

use super::*;
use crate::testing::Listener;

const LEAVING: Community = Community::GRACEFUL_SHUTDOWN;

fn leaving(kind: PeerKind, number: u8) -> PeerSession {
    PeerSession {
        graceful_shutdown: true,
        ..session(kind, number)
    }
}

/// RFC 8326 §4.2: what the peer is told is tagged; inside the AS LOCAL_PREF says it too.
#[test]
fn the_peer_is_told_to_prefer_others() {
    let sent = AttributesBuilder {
        communities: vec![Community(1)],
        ..fields(&[64501])
    };
    let mut rib = learned_from(PeerKind::Ebgp, &sent);
    let (_, attributes) = told(&mut rib, leaving(PeerKind::Ebgp, 2), P).unwrap();
    assert_eq!(attributes.communities, [Community(1), LEAVING]);
    assert_eq!(attributes.local_pref, None);
    let (_, attributes) = told(&mut rib, leaving(PeerKind::Ibgp, 2), P).unwrap();
    assert_eq!(attributes.communities, [Community(1), LEAVING]);
    assert_eq!(attributes.local_pref, Some(0));
}

#[test]
fn it_has_the_last_word_over_the_policy_and_takes_no_new_session() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    let changes = [
        Change::SetLocalPref(300),
        Change::RemoveCommunity(crate::CommunityMatch::Standard(LEAVING.0)),
    ];
    let staying = PeerSession {
        export: policy(&changes, Verdict::Accept),
        ..session(PeerKind::Ibgp, 2)
    };
    rib.peer_up(PeerId(2), staying.clone());
    let mut listener = Listener::default();
    listener.listen(&mut rib, PeerId(2));
    let local_pref = |listener: &Listener| listener.held[&prefix(P)].1.local_pref();
    assert_eq!(local_pref(&listener), Some(300));
    let leaving = PeerSession {
        graceful_shutdown: true,
        ..staying.clone()
    };
    rib.set_session(PeerId(2), leaving);
    listener.listen(&mut rib, PeerId(2));
    assert_eq!(local_pref(&listener), Some(0));
    let (_, attributes) = &listener.held[&prefix(P)];
    assert!(attributes.communities().any(|c| c == LEAVING));
    rib.set_session(PeerId(2), staying);
    listener.listen(&mut rib, PeerId(2));
    assert_eq!(local_pref(&listener), Some(300));
    assert!(
        !listener.held[&prefix(P)]
            .1
            .communities()
            .any(|c| c == LEAVING)
    );
}

/// RFC 8326 §4.2: paths from the session that is about to go lose against all others, here and
/// inside the AS.
#[test]
fn paths_from_the_peer_are_avoided_too() {
    let mut rib = learned_from(PeerKind::Ebgp, &fields(&[64501]));
    rib.peer_up(PeerId(2), session(PeerKind::Ebgp, 2));
    let longer = announce(&[P], &fields(&[64502, 64510]), "172.16.0.2");
    rib.update(PeerId(2), &longer);
    let from = |rib: &mut Rib| rib.best(prefix(P)).unwrap().peer;
    assert_eq!(from(&mut rib), Some(PeerId(1)));
    rib.set_session(PeerId(1), leaving(PeerKind::Ebgp, 1));
    assert_eq!(from(&mut rib), Some(PeerId(2)));
    rib.peer_down(PeerId(2), &[]);
    let (_, attributes) = told(&mut rib, session(PeerKind::Ibgp, 3), P).unwrap();
    assert_eq!(attributes.local_pref, Some(0));
    assert_eq!(attributes.communities, [LEAVING]);
}
