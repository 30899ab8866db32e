//! What befalls the speakers.

use std::time::Duration;

use bgp_fsm::{Event, Stop};
use bgp_wire::Notification;
use bgp_wire::Prefix;
use bgp_wire::notification::subcode::cease;

use crate::Random;
use crate::check::{check, is_calm};
use crate::node::HOLD;
use crate::topology::{Kind, Topology};
use crate::world::World;

/// Longer than every sleep, hold, restart and stale timer together.
const LIMIT: Duration = Duration::from_secs(240);

/// Prefixes of a node, and the one that any node may have.
fn prefixes(node: usize) -> Vec<Prefix> {
    let own = (0..4).map(|count| format!("10.{}.{count}.0/24", node + 1));
    let own = own.chain([
        format!("2001:db8:{:x}::/48", node + 1),
        "198.51.100.0/24".to_owned(),
    ]);
    own.map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn run(kind: Kind, seed: u64) {
    let mut random = Random::new(seed);
    let topology = Topology::new(kind, &mut random);
    let mut world = World::new(topology, random.clone());
    for node in 0..world.nodes.len() {
        for prefix in prefixes(node) {
            if random.one_in(2) {
                world.nodes[node].originate(prefix, true);
            }
        }
        world.start(node, false);
    }
    for _ in 0..3 {
        for _ in 0..2 + random.below(8) {
            blow(&mut world, &mut random);
            // Now and then longer than a restart may take.
            let longest = if random.one_in(6) { 80_000 } else { 8_000 };
            world.run(Duration::from_millis(random.below(longest)));
        }
        heal(&mut world);
        let (begun, mut calm) = (world.now, 0);
        while calm < HOLD + 2 && world.now - begun < LIMIT {
            world.run(Duration::from_secs(1));
            calm = if is_calm(&world) { calm + 1 } else { 0 };
        }
        check(&mut world);
    }
    assert!(world.sessions as usize >= 2 * world.topology.links.len());
}

fn blow(world: &mut World, random: &mut Random) {
    let node = random.below(world.nodes.len() as u64) as usize;
    let link = random.below(world.topology.links.len() as u64) as usize;
    let end = world.topology.links[link][random.below(2) as usize];
    match random.below(10) {
        0..3 => {
            let prefixes = prefixes(node);
            let prefix = prefixes[random.below(prefixes.len() as u64) as usize];
            let wanted = !world.nodes[node].originated.contains(&prefix);
            world.nodes[node].originate(prefix, wanted);
            world.pump(node);
        }
        3 => world.cut(link),
        4 => world.mend(link),
        5 if world.nodes[node].is_alive => world.kill(node, !random.one_in(3)),
        5 | 6 if !world.nodes[node].is_alive => world.start(node, random.one_in(2)),
        // The machine sleeps; its clock has jumped when it wakes.
        7 => {
            let sleep = Duration::from_millis(random.below(60_000));
            // Who sleeps already sleeps on: what waits for it has its order.
            let until = &mut world.nodes[node].paused_until;
            if *until <= world.now {
                *until = world.now + sleep;
            }
        }
        8 if world.nodes[end].is_alive => {
            let reset = Notification::cease(cease::ADMINISTRATIVE_RESET);
            world.feed(end, link, Event::Reset(reset));
            world.pump(end);
        }
        9 if world.nodes[end].is_alive => {
            let stop = match random.one_in(2) {
                true => Stop::Restart,
                false => Stop::Notify(Notification::administrative_shutdown("")),
            };
            world.feed(end, link, Event::Stop(stop));
            world.pump(end);
        }
        _ => {}
    }
}

/// All is well again.
fn heal(world: &mut World) {
    for link in 0..world.topology.links.len() {
        world.mend(link);
    }
    for node in 0..world.nodes.len() {
        if !world.nodes[node].is_alive {
            world.start(node, false);
        }
        for link in world.links_of(node) {
            world.feed(node, link, Event::Start);
        }
    }
}
