//! `tortie-bgp` beside BIRD, FRR and GoBGP: one session, IPv4 and IPv6, both ways.
//! The foreign speaker's own table is the judge of what it got from us.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::peer::{Kind, Peer, THEIR_PREFIXES};
use e2e::speaker::{PREFIXES, Speaker};
use e2e::wait;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(30);
/// Announced later, by a reload.
const LATE: &str = "10.99.0.0/16";

#[test]
fn bird_exchanges_routes_of_both_families_with_us() -> Result<()> {
    exchange(Kind::Bird, "ibird")
}

#[test]
fn frr_exchanges_routes_of_both_families_with_us() -> Result<()> {
    exchange(Kind::Frr, "ifrr")
}

#[test]
fn gobgp_exchanges_routes_of_both_families_with_us() -> Result<()> {
    exchange(Kind::Gobgp, "igobgp")
}

fn exchange(kind: Kind, name: &str) -> Result<()> {
    let lab = Lab::new(name)?;
    let mut ours = Speaker::new(&lab)?;
    let theirs = Peer::start(&lab, kind)?;
    ours.start(&[])?;
    steps(&mut ours, &theirs).with_context(|| {
        format!(
            "{kind:?} says:\n{}\n{}\ntortie-bgp says:\n{}",
            theirs.sessions().unwrap_or_default(),
            theirs.log(),
            ours.log()
        )
    })
}

fn steps(ours: &mut Speaker, theirs: &Peer) -> Result<()> {
    ours.wait_established(LIMIT)?;
    for prefix in PREFIXES {
        holds(theirs, prefix, true)?;
    }
    for prefix in THEIR_PREFIXES {
        wait::until_true(&format!("{prefix} in our table"), LIMIT, || {
            Ok(ours.show("routes")?.to_string().contains(prefix))
        })?;
    }
    // A reload announces and withdraws without touching the session.
    ours.configure(&[LATE])?;
    ours.signal(Signal::SIGHUP)?;
    holds(theirs, LATE, true)?;
    for prefix in PREFIXES {
        holds(theirs, prefix, false)?;
    }
    ensure!(!ours.log().contains("ERROR"), "an error was logged");
    // A goodbye takes our routes away at once.
    ours.signal(Signal::SIGTERM)?;
    holds(theirs, LATE, false)
}

fn holds(theirs: &Peer, prefix: &str, expected: bool) -> Result<()> {
    let what = format!(
        "{prefix} to be {} their table",
        if expected { "in" } else { "out of" }
    );
    wait::until_true(&what, LIMIT, || {
        Ok(theirs.route(prefix)?.is_empty() != expected)
    })?;
    Ok(())
}
