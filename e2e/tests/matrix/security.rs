//! Sessions that only the right neighbour may have: TCP MD5 and GTSM.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::router::Kind;
use e2e::wait;

use crate::topology::{LIMIT, OURS, Pair, THEIRS, v4, wait_paths};

/// Longer than the first dials of both sides.
const WATCHED: Duration = Duration::from_secs(5);

fn same_password(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, theirs| {
        ours.neighbours[0].password = Some("hill-of-howth".to_owned());
        theirs.neighbours[0].password = Some("hill-of-howth".to_owned());
    })?;
    pair.check(exchanged)
}

fn another_password(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, theirs| {
        ours.neighbours[0].password = Some("hill-of-howth".to_owned());
        theirs.neighbours[0].password = Some("hill-of-tara".to_owned());
    })?;
    pair.check(never_established)
}

fn both_one_hop_away(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, theirs| {
        ours.neighbours[0].ttl_security = true;
        theirs.neighbours[0].ttl_security = true;
    })?;
    pair.check(exchanged)
}

/// A neighbour whose packets could come from anywhere is not heard.
fn distance_unknown(name: &str, kind: Kind) -> Result<()> {
    let pair = Pair::start(name, kind, |ours, _| {
        ours.neighbours[0].ttl_security = true;
    })?;
    pair.check(never_established)
}

fn exchanged(pair: &mut Pair) -> Result<()> {
    pair.wait_established()?;
    for prefix in OURS {
        wait_paths(&pair.theirs, prefix, 1)?;
    }
    for prefix in THEIRS {
        wait_paths(&pair.ours, prefix, 1)?;
    }
    Ok(())
}

fn never_established(pair: &mut Pair) -> Result<()> {
    wait::until("both to answer", LIMIT, || {
        pair.ours.is_established(&v4(2))?;
        pair.theirs.paths(OURS[0]).map(Some)
    })?;
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        ensure!(
            !pair.ours.is_established(&v4(2))?,
            "we say it is established"
        );
        // A session it has given up may not be there to be asked about.
        let theirs = pair.theirs.is_established(&v4(1)).unwrap_or(false);
        ensure!(!theirs, "they say it is established");
    }
    Ok(())
}

cells! {
    bird_same_password: same_password Bird "xbmd5";
    frr_same_password: same_password Frr "xfmd5";
    gobgp_same_password: same_password Gobgp "xgmd5";
    exabgp_same_password: same_password Exabgp "xemd5";
    bird_another_password: another_password Bird "xbmd5no";
    frr_another_password: another_password Frr "xfmd5no";
    gobgp_another_password: another_password Gobgp "xgmd5no";
    exabgp_another_password: another_password Exabgp "xemd5no";
    bird_both_one_hop_away: both_one_hop_away Bird "xbgtsm";
    frr_both_one_hop_away: both_one_hop_away Frr "xfgtsm";
    gobgp_both_one_hop_away: both_one_hop_away Gobgp "xggtsm";
    exabgp_both_one_hop_away: both_one_hop_away Exabgp "xegtsm";
    bird_distance_unknown: distance_unknown Bird "xbfar";
    frr_distance_unknown: distance_unknown Frr "xffar";
    gobgp_distance_unknown: distance_unknown Gobgp "xgfar";
    exabgp_distance_unknown: distance_unknown Exabgp "xefar";
}
