//! Graceful restart (RFC 4724) in both roles: ours restarts and theirs keeps
//! the routes, theirs restarts and we keep them. Packets over such a restart are
//! counted in the tests with agents.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::router::{Kind, Setup};
use nix::sys::signal::Signal;

use crate::topology::{OURS, Pair, THEIRS, v4, wait_for, wait_paths};

/// How long the routes are watched while their owner is away.
const AWAY: Duration = Duration::from_secs(3);

fn graceful(ours: &mut Setup, theirs: &mut Setup) {
    ours.neighbours[0].restart = true;
    theirs.neighbours[0].restart = true;
}

/// We are killed, twice in a row, and come back: they never lose a route.
fn we_restart(name: &str, kind: Kind) -> Result<()> {
    Pair::start(name, kind, graceful)?.check(|pair| {
        pair.wait_established()?;
        for prefix in OURS {
            wait_paths(&pair.theirs, prefix, 1)?;
        }
        for _ in 0..2 {
            pair.ours.stop(Signal::SIGKILL)?;
            let back = Instant::now() + AWAY;
            while Instant::now() < back {
                they_hold_ours(pair)?;
            }
            pair.ours.run(&["--restarting"])?;
            while !pair.ours.is_established(&v4(2)).unwrap_or(false) {
                they_hold_ours(pair)?;
                ensure!(
                    Instant::now() < back + Duration::from_secs(30),
                    "we do not come back"
                );
            }
        }
        for prefix in OURS {
            wait_for(
                &pair.theirs,
                prefix,
                "a fresh path",
                |paths| matches!(paths, [path] if !path.stale),
            )?;
        }
        Ok(())
    })
}

fn they_hold_ours(pair: &Pair) -> Result<()> {
    for prefix in OURS {
        ensure!(!pair.theirs.paths(prefix)?.is_empty(), "they lost {prefix}");
    }
    Ok(())
}

/// They are killed: we keep their routes, say that they are stale, and take the fresh ones.
fn they_restart(name: &str, kind: Kind) -> Result<()> {
    Pair::start(name, kind, graceful)?.check(|pair| {
        pair.wait_established()?;
        for prefix in THEIRS {
            wait_paths(&pair.ours, prefix, 1)?;
        }
        pair.theirs.stop(Signal::SIGKILL)?;
        for prefix in THEIRS {
            wait_for(
                &pair.ours,
                prefix,
                "a stale path",
                |paths| matches!(paths, [path] if path.stale),
            )?;
        }
        pair.theirs.run(&[]).context("start them again")?;
        for prefix in THEIRS {
            wait_for(
                &pair.ours,
                prefix,
                "a fresh path",
                |paths| matches!(paths, [path] if !path.stale),
            )?;
        }
        Ok(())
    })
}

cells! {
    bird_we_restart: we_restart Bird "xbgrus";
    frr_we_restart: we_restart Frr "xfgrus";
    gobgp_we_restart: we_restart Gobgp "xggrus";
    bird_they_restart: they_restart Bird "xbgrth";
    frr_they_restart: they_restart Frr "xfgrth";
    exabgp_they_restart: they_restart Exabgp "xegrth";
}
