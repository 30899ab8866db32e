//! Four routers in one AS: two that announce the same prefixes, a hub that
//! reflects, and a receiver behind it. Ours is the hub or the receiver.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::router::{Kind, Neighbour, Path, Router};
use e2e::wait;

use crate::topology::{INSIDE, LIMIT, OURS, router, v4, v6, wait_for};

/// Number of the hub; the two sources are 1 and 2, the receiver is 4.
const HUB: u8 = 3;

struct Star {
    /// Goes last: the lab removes what the routers leave.
    routers: Vec<Router>,
    _lab: Lab,
}

impl Star {
    fn start(name: &str, hub: Kind, receiver: Kind, add_path: bool) -> Result<Self> {
        let lab = Lab::new(name)?;
        let mut setups = vec![
            router(1, INSIDE, &OURS),
            router(2, INSIDE, &OURS),
            router(HUB, INSIDE, &[]),
            router(4, INSIDE, &[]),
        ];
        for number in [1, 2, 4] {
            let mut spoke = Neighbour::new(&v4(HUB), INSIDE);
            spoke.add_path = add_path;
            let mut client = Neighbour::new(&v4(number), INSIDE);
            client.client = true;
            client.add_path = add_path;
            setups[usize::from(number) - 1].neighbours.push(spoke);
            setups[usize::from(HUB) - 1].neighbours.push(client);
        }
        let kinds = [Kind::Tortie, Kind::Tortie, hub, receiver];
        let names = ["source1", "source2", "hub", "receiver"];
        let mut routers = Vec::new();
        for ((kind, name), setup) in kinds.into_iter().zip(names).zip(&setups) {
            routers.push(Router::start(&lab, name, kind, setup)?);
        }
        Ok(Self { routers, _lab: lab })
    }

    fn check(self, steps: impl FnOnce(&Router) -> Result<()>) -> Result<()> {
        let words = || {
            let words: Vec<String> = self.routers[2..].iter().map(Router::words).collect();
            words.join("\n")
        };
        let receiver = &self.routers[3];
        wait::until_true("the receiver's session", LIMIT, || {
            receiver.is_established(&v4(HUB))
        })
        .and_then(|_: Duration| steps(receiver))
        .with_context(words)
    }
}

/// What a reflector adds and what it leaves alone (RFC 4456 §8, §10).
fn is_reflected(path: &Path, next_hops: &[String; 2]) -> bool {
    next_hops.contains(&path.next_hop)
        && path
            .originator
            .as_ref()
            .is_some_and(|id| *id == v4(1) || *id == v4(2))
        && path.clusters == [v4(HUB)]
        && path.as_path.is_empty()
}

fn reflected(name: &str, hub: Kind, receiver: Kind) -> Result<()> {
    Star::start(name, hub, receiver, false)?.check(|receiver| {
        for (prefix, next_hops) in OURS.into_iter().zip([[v4(1), v4(2)], [v6(1), v6(2)]]) {
            wait_for(
                receiver,
                prefix,
                "one reflected path",
                |paths| matches!(paths, [path] if is_reflected(path, &next_hops)),
            )?;
        }
        Ok(())
    })
}

fn several(name: &str, hub: Kind, receiver: Kind) -> Result<()> {
    Star::start(name, hub, receiver, true)?.check(|receiver| {
        for (prefix, next_hops) in OURS.into_iter().zip([[v4(1), v4(2)], [v6(1), v6(2)]]) {
            let paths = wait_for(receiver, prefix, "two reflected paths", |paths| {
                paths.len() == 2 && paths.iter().all(|path| is_reflected(path, &next_hops))
            })?;
            ensure!(paths[0].next_hop != paths[1].next_hop, "{paths:?}");
        }
        Ok(())
    })
}

fn behind_us(name: &str, kind: Kind) -> Result<()> {
    reflected(name, Kind::Tortie, kind)
}

fn as_our_reflector(name: &str, kind: Kind) -> Result<()> {
    reflected(name, kind, Kind::Tortie)
}

fn several_from_us(name: &str, kind: Kind) -> Result<()> {
    several(name, Kind::Tortie, kind)
}

fn several_to_us(name: &str, kind: Kind) -> Result<()> {
    several(name, kind, Kind::Tortie)
}

cells! {
    bird_behind_us: behind_us Bird "xbclient";
    frr_behind_us: behind_us Frr "xfclient";
    gobgp_behind_us: behind_us Gobgp "xgclient";
    exabgp_behind_us: behind_us Exabgp "xeclient";
    bird_as_our_reflector: as_our_reflector Bird "xbrr";
    frr_as_our_reflector: as_our_reflector Frr "xfrr";
    gobgp_as_our_reflector: as_our_reflector Gobgp "xgrr";
    bird_several_paths_from_us: several_from_us Bird "xbaddrx";
    frr_several_paths_from_us: several_from_us Frr "xfaddrx";
    gobgp_several_paths_from_us: several_from_us Gobgp "xgaddrx";
    exabgp_several_paths_from_us: several_from_us Exabgp "xeaddrx";
    bird_several_paths_to_us: several_to_us Bird "xbaddtx";
    frr_several_paths_to_us: several_to_us Frr "xfaddtx";
    gobgp_several_paths_to_us: several_to_us Gobgp "xgaddtx";
}
