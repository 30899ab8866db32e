//! Several paths to a prefix over one session (RFC 7911).

use std::num::NonZeroU8;

use bgp::{AddPathMode, PeerConfig, PeerKey};

use crate::node::{Node, options, prefix};

const ASN: u32 = 64512;
const ANYCAST: &str = "10.160.0.0/26";

async fn node(number: u8, prefixes: &[&str]) -> Node {
    Node::start_with(number, ASN, prefixes, |_| {}, options()).await
}

/// Makes a node a client of a reflector; both offer ADD-PATH if so.
async fn client(reflector: &mut Node, client: &mut Node, add_path: bool) -> (PeerKey, PeerKey) {
    let with = |mut config: PeerConfig, mode: AddPathMode| {
        config.add_path = add_path.then_some(mode);
        config
    };
    let mut at_reflector = with(client.as_peer(), AddPathMode::Send);
    at_reflector.reflector_client = true;
    let at_reflector = reflector.add_peer(at_reflector);
    let at_client = client.add_peer(with(reflector.as_peer(), AddPathMode::Receive));
    reflector.established(&at_reflector).await;
    client.established(&at_client).await;
    (at_reflector, at_client)
}

async fn has_next_hops(node: &mut Node, expected: &[&str]) {
    let prefix = prefix(ANYCAST);
    let what = format!("{ANYCAST} via {expected:?}");
    node.until(&what, |node| {
        let mut next_hops: Vec<String> = node
            .learned
            .get(&prefix)
            .map_or(vec![], |n| n.iter().map(ToString::to_string).collect());
        next_hops.sort();
        next_hops == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reflector_tells_all_paths_to_who_asked_for_them() {
    let mut reflector = node(160, &[]).await;
    let mut feeders = [
        node(161, &[ANYCAST]).await,
        node(162, &[ANYCAST]).await,
        node(163, &[ANYCAST]).await,
    ];
    for feeder in &mut feeders {
        client(&mut reflector, feeder, false).await;
    }
    let [mut several, mut too, mut one] = [
        node(164, &[]).await,
        node(165, &[]).await,
        node(166, &[]).await,
    ];
    let (at_reflector, at_several) = client(&mut reflector, &mut several, true).await;
    client(&mut reflector, &mut too, true).await;
    let (one_at_reflector, _) = client(&mut reflector, &mut one, false).await;

    let all = ["192.0.2.161", "192.0.2.162", "192.0.2.163"];
    has_next_hops(&mut several, &all).await;
    has_next_hops(&mut too, &all).await;
    has_next_hops(&mut one, &all[..1]).await;
    let told = |info: bgp::PeerInfo| info.total().advertised;
    assert_eq!(3, told(reflector.peer(&at_reflector).await));
    assert_eq!(1, told(reflector.peer(&one_at_reflector).await));

    // Another limit needs no other session.
    reflector.set(|desired| {
        let peer = desired.peers.get_mut(&at_reflector).unwrap();
        peer.add_path_limit = NonZeroU8::new(2);
    });
    has_next_hops(&mut several, &all[..2]).await;
    feeders[0].set(|desired| desired.originate.clear());
    has_next_hops(&mut several, &all[1..]).await;
    has_next_hops(&mut too, &all[1..]).await;
    has_next_hops(&mut one, &all[1..2]).await;
    assert_eq!(0, several.peer(&at_several).await.flaps);
    // Each path has an answer of its own.
    let why = reflector.handle.why(ANYCAST, Some(at_reflector.as_str()));
    let why = why.await.unwrap();
    assert_eq!(2, why.peers.len());
    assert!(why.peers.iter().all(|path| path.told), "{why:?}");
}
