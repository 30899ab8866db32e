//! Routers on one link.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::router::{Announced, Kind, Neighbour, Path, Router, Setup};
use e2e::wait;

/// How long anything may take: sessions that collide try again after a while.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// AS number of our speaker, and of every router inside its AS.
pub(crate) const INSIDE: u32 = 64512;
/// AS number of an external peer: one that needs four octets.
pub(crate) const OUTSIDE: u32 = 4_200_000_001;

/// What our speaker announces.
pub(crate) const OURS: [&str; 2] = ["203.0.113.0/24", "2001:db8:200::/48"];
/// What the other one announces.
pub(crate) const THEIRS: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];

pub(crate) fn v4(number: u8) -> String {
    format!("192.0.2.{number}")
}

pub(crate) fn v6(number: u8) -> String {
    format!("2001:db8::{number:x}")
}

/// A router of that number that announces these prefixes and has no neighbour yet.
pub(crate) fn router(number: u8, asn: u32, announce: &[&str]) -> Setup {
    Setup {
        asn,
        v4: v4(number),
        v6: v6(number),
        announce: announce
            .iter()
            .map(|prefix| Announced::plain(prefix))
            .collect(),
        neighbours: Vec::new(),
        multipath: false,
    }
}

/// Our speaker and one of another kind.
pub(crate) struct Pair {
    pub(crate) ours: Router,
    pub(crate) theirs: Router,
    pub(crate) our_setup: Setup,
    /// Goes last: it removes what the routers leave.
    _lab: Lab,
}

impl Pair {
    /// Starts both, after `change` had its way with the two setups, ours first. They begin with
    /// one external session over IPv4 for both families.
    pub(crate) fn start(
        name: &str,
        kind: Kind,
        change: impl FnOnce(&mut Setup, &mut Setup),
    ) -> Result<Self> {
        let mut ours = router(1, INSIDE, &OURS);
        let mut theirs = router(2, OUTSIDE, &THEIRS);
        ours.neighbours.push(Neighbour::new(&theirs.v4, theirs.asn));
        theirs.neighbours.push(Neighbour::new(&ours.v4, ours.asn));
        change(&mut ours, &mut theirs);
        let lab = Lab::new(name)?;
        let their_router = Router::start(&lab, "theirs", kind, &theirs)?;
        let our_router = Router::start(&lab, "ours", Kind::Tortie, &ours)?;
        Ok(Self {
            _lab: lab,
            ours: our_router,
            theirs: their_router,
            our_setup: ours,
        })
    }

    /// Runs a check; an error comes with everything the two say.
    pub(crate) fn check(mut self, steps: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let result = steps(&mut self);
        result.with_context(|| format!("{}\n{}", self.theirs.words(), self.ours.words()))
    }

    /// Waits until both say that the session is established.
    pub(crate) fn wait_established(&self) -> Result<()> {
        let (to_them, to_us) = (&self.our_setup.neighbours[0].address, v4(1));
        let to_us = if to_them.contains(':') { v6(1) } else { to_us };
        wait::until_true("our session to be established", LIMIT, || {
            self.ours.is_established(to_them)
        })?;
        wait::until_true("their session to be established", LIMIT, || {
            self.theirs.is_established(&to_us)
        })?;
        Ok(())
    }
}

/// Waits until a router holds so many paths to a prefix.
pub(crate) fn wait_paths(router: &Router, prefix: &str, count: usize) -> Result<Vec<Path>> {
    wait_for(router, prefix, &format!("{count} paths"), |paths| {
        paths.len() == count
    })
}

/// Waits until the paths that a router holds to a prefix are as they should be.
pub(crate) fn wait_for(
    router: &Router,
    prefix: &str,
    what: &str,
    right: impl Fn(&[Path]) -> bool,
) -> Result<Vec<Path>> {
    let name = router.kind.name();
    let (paths, _) = wait::until(&format!("{what} to {prefix} in {name}"), LIMIT, || {
        let paths = router.paths(prefix)?;
        ensure!(right(&paths), "{paths:?}");
        Ok(Some(paths))
    })?;
    Ok(paths)
}
