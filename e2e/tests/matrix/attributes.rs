//! Communities of both sizes, and messages longer than 4096 octets.

use anyhow::{Result, ensure};
use e2e::router::{Announced, Kind};
use e2e::wait;

use crate::topology::{INSIDE, LIMIT, OURS, OUTSIDE, Pair, THEIRS, wait_paths};

fn coloured(prefix: &str, asn: u32, count: usize) -> Announced {
    // A four-octet AS has no standard communities of its own.
    let high = asn.min(65_000);
    Announced {
        prefix: prefix.to_owned(),
        communities: vec![format!("{high}:1"), format!("{high}:65535")],
        large: (0..count)
            .map(|number| format!("{asn}:{number}:7"))
            .collect(),
        ..Announced::default()
    }
}

fn communities(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, theirs| {
        ours.announce = OURS.map(|prefix| coloured(prefix, INSIDE, 2)).into();
        theirs.announce = THEIRS.map(|prefix| coloured(prefix, OUTSIDE, 2)).into();
    })?;
    pair.check(|pair| {
        pair.wait_established()?;
        for prefix in OURS {
            let path = &wait_paths(&pair.theirs, prefix, 1)?[0];
            ensure!(path.communities == ["64512:1", "64512:65535"], "{path:?}");
            ensure!(path.large == ["64512:0:7", "64512:1:7"], "{path:?}");
        }
        for prefix in THEIRS {
            let path = &wait_paths(&pair.ours, prefix, 1)?[0];
            ensure!(path.communities == ["65000:1", "65000:65535"], "{path:?}");
            ensure!(
                path.large == ["4200000001:0:7", "4200000001:1:7"],
                "{path:?}"
            );
        }
        Ok(())
    })
}

/// Enough large communities, 12 octets each, for a message of about 12,000 octets (RFC 8654).
const MANY: usize = 1000;

fn large_messages(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, _| {
        ours.announce = vec![coloured(OURS[0], INSIDE, MANY), Announced::plain(OURS[1])];
    })?;
    pair.check(|pair| {
        pair.wait_established()?;
        wait::until_true("every community in their table", LIMIT, || {
            pair.theirs.has_large_communities(OURS[0], MANY)
        })?;
        wait_paths(&pair.theirs, OURS[1], 1)?;
        Ok(())
    })
}

/// Where only 4096 octets go, a route whose attributes are longer is not told, and the others are.
fn too_large_for_the_peer(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, _| {
        ours.announce = vec![coloured(OURS[0], INSIDE, MANY), Announced::plain(OURS[1])];
    })?;
    pair.check(|pair| {
        pair.wait_established()?;
        wait_paths(&pair.theirs, OURS[1], 1)?;
        ensure!(
            pair.theirs.paths(OURS[0])?.is_empty(),
            "it has no room for that"
        );
        ensure!(
            pair.ours.is_established("192.0.2.2")?,
            "the session is gone"
        );
        Ok(())
    })
}

cells! {
    bird_communities: communities Bird "xbcom";
    frr_communities: communities Frr "xfcom";
    gobgp_communities: communities Gobgp "xgcom";
    exabgp_communities: communities Exabgp "xecom";
    bird_large_messages: large_messages Bird "xblarge";
    frr_large_messages: large_messages Frr "xflarge";
    exabgp_large_messages: large_messages Exabgp "xelarge";
    gobgp_too_large_for_the_peer: too_large_for_the_peer Gobgp "xglarge";
}
