//! Routes of both families, over every mix of sessions.

use anyhow::{Result, ensure};
use e2e::router::{Announced, Kind, Neighbour, Setup};
use nix::sys::signal::Signal;

use crate::topology::{INSIDE, OURS, OUTSIDE, Pair, THEIRS, v4, v6, wait_paths};

/// Announced later, by a reload.
const LATE: &str = "10.99.0.0/16";

/// One session for both families, routes both ways, a live change, a goodbye.
fn both_families(name: &str, kind: Kind) -> Result<()> {
    Pair::start(name, kind, |_, _| ())?.check(|pair| {
        pair.wait_established()?;
        for (prefix, next_hop) in OURS.into_iter().zip([v4(1), v6(1)]) {
            let paths = wait_paths(&pair.theirs, prefix, 1)?;
            ensure!(paths[0].as_path == [INSIDE], "{paths:?}");
            ensure!(paths[0].next_hop == next_hop, "{paths:?}");
        }
        for (prefix, next_hop) in THEIRS.into_iter().zip([v4(2), v6(2)]) {
            let paths = wait_paths(&pair.ours, prefix, 1)?;
            ensure!(paths[0].as_path == [OUTSIDE], "{paths:?}");
            ensure!(paths[0].next_hop == next_hop, "{paths:?}");
        }
        pair.our_setup.announce = vec![Announced::plain(LATE)];
        pair.ours.configure(&pair.our_setup)?;
        pair.ours.reload()?;
        wait_paths(&pair.theirs, LATE, 1)?;
        for prefix in OURS {
            wait_paths(&pair.theirs, prefix, 0)?;
        }
        pair.ours.stop(Signal::SIGTERM)?;
        wait_paths(&pair.theirs, LATE, 0)?;
        Ok(())
    })
}

/// One session per family, each over its own addresses, as Calico has them.
fn session_per_family(name: &str, kind: Kind) -> Result<()> {
    let split = |setup: &mut Setup, other: u8, asn: u32| {
        let mut over_v4 = Neighbour::new(&v4(other), asn);
        over_v4.v6 = false;
        let mut over_v6 = Neighbour::new(&v6(other), asn);
        over_v6.v4 = false;
        setup.neighbours = vec![over_v4, over_v6];
    };
    let pair = Pair::start(name, kind, |ours, theirs| {
        split(ours, 2, OUTSIDE);
        split(theirs, 1, INSIDE);
    })?;
    pair.check(|pair| {
        pair.wait_established()?;
        for prefix in OURS {
            wait_paths(&pair.theirs, prefix, 1)?;
        }
        for prefix in THEIRS {
            wait_paths(&pair.ours, prefix, 1)?;
        }
        Ok(())
    })
}

/// Inside one AS: LOCAL_PREF goes along and the AS path is empty.
fn internal(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, theirs| {
        theirs.asn = INSIDE;
        ours.neighbours[0].asn = INSIDE;
    })?;
    pair.check(|pair| {
        pair.wait_established()?;
        for prefix in OURS {
            let paths = wait_paths(&pair.theirs, prefix, 1)?;
            ensure!(paths[0].as_path.is_empty(), "{paths:?}");
        }
        for prefix in THEIRS {
            let paths = wait_paths(&pair.ours, prefix, 1)?;
            ensure!(paths[0].as_path.is_empty(), "{paths:?}");
        }
        Ok(())
    })
}

cells! {
    bird_both_families: both_families Bird "xbboth";
    frr_both_families: both_families Frr "xfboth";
    gobgp_both_families: both_families Gobgp "xgboth";
    exabgp_both_families: both_families Exabgp "xeboth";
    bird_session_per_family: session_per_family Bird "xbsplit";
    frr_session_per_family: session_per_family Frr "xfsplit";
    gobgp_session_per_family: session_per_family Gobgp "xgsplit";
    exabgp_session_per_family: session_per_family Exabgp "xesplit";
    bird_internal: internal Bird "xbint";
    frr_internal: internal Frr "xfint";
    gobgp_internal: internal Gobgp "xgint";
    exabgp_internal: internal Exabgp "xeint";
}
