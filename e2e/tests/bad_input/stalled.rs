//! A peer that stops reading: others still hear everything, and the agent's memory stays bounded.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, scenario};
use e2e::node::Node;
use e2e::wait;

use crate::lab::{flaps, two_pods, well_again, works};
use crate::raw::{KEEPALIVE, Raw, good_attributes, host, message, session, update};

const ROUTES: u32 = 50_000;
/// Prefixes of one message.
const TOGETHER: u32 = 200;
/// The routes themselves take about a third of this.
const MOST_KIB: u64 = 200 << 10;
const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_peer_that_stops_reading_delays_nobody() -> Result<()> {
    scenario("badstall", 2, |cluster| {
        two_pods(cluster)?;
        let host = host(cluster, 50, 2)?;
        let calm = flaps(&cluster.nodes[0])?;
        // It takes a few kilobytes and then nothing any more.
        let mut stalled = Raw::connect_with(&host, 50, Some(4096))?;
        stalled.shake_hands(90)?;
        let mut talker = Raw::establish(&host, 51, 90)?;
        let before = memory(&cluster.nodes[0])?;
        flood(&mut talker, true)?;
        heard_by_all(cluster, &mut stalled, &mut talker)?;
        let after = memory(&cluster.nodes[0])?;
        println!("{before} KiB before, {after} KiB with {ROUTES} routes and a peer that stalls");
        ensure!(after < MOST_KIB, "{after} KiB");

        // Changes pile up for it: only the newest state may be kept.
        for _ in 0..3 {
            flood(&mut talker, false)?;
            flood(&mut talker, true)?;
            stalled.send(&message(KEEPALIVE, &[]))?;
        }
        heard_by_all(cluster, &mut stalled, &mut talker)?;
        let later = memory(&cluster.nodes[0])?;
        println!("{later} KiB after three changes of everything");
        ensure!(later < MOST_KIB, "{later} KiB");
        let session_of = session(&cluster.nodes[0], 50)?;
        ensure!(session_of["state"] == "Established", "{session_of}");
        ensure!(flaps(&cluster.nodes[0])? == calm, "another session flapped");
        works(cluster)?;
        reads_again(&mut stalled)?;
        drop((stalled, talker));
        std::fs::remove_file(cluster.datastore().join("raw.yaml"))?;
        well_again(cluster)
    })
}

fn prefix(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 16)
}

/// Announces or withdraws everything.
fn flood(talker: &mut Raw, announce: bool) -> Result<()> {
    let attributes = good_attributes(talker.address());
    for first in (0..ROUTES).step_by(TOGETHER as usize) {
        let prefixes: Vec<_> = (first..first + TOGETHER)
            .map(|number| (prefix(number), 28))
            .collect();
        if announce {
            talker.send(&update(&attributes, &prefixes))?;
        } else {
            let mut body = Vec::new();
            for (address, length) in prefixes {
                body.push(length);
                body.extend(address.octets());
            }
            let length = u16::try_from(body.len())?.to_be_bytes();
            talker.send(&message(2, &[&length[..], &body, &[0, 0]].concat()))?;
        }
    }
    Ok(())
}

/// node1's kernel, node2's kernel and BIRD have every route.
fn heard_by_all(cluster: &Cluster, stalled: &mut Raw, talker: &mut Raw) -> Result<()> {
    let expected = ROUTES as usize;
    wait::until("every route everywhere", LONG, || {
        stalled.send(&message(KEEPALIVE, &[]))?;
        talker.send(&message(KEEPALIVE, &[]))?;
        talker.still_open()?;
        for node in &cluster.nodes {
            let routes = node.namespace.run("ip -4 route show root 10.128.0.0/10")?;
            let count = routes.lines().filter(|line| line.contains("/28")).count();
            ensure!(count == expected, "{} has {count}", node.name);
        }
        let count = cluster
            .tor
            .birdc("show route primary where net ~ [10.128.0.0/10{28,28}] count")?;
        ensure!(count.contains(&format!("{expected} of ")), "BIRD: {count}");
        Ok(Some(()))
    })?;
    Ok(())
}

/// The peer wakes up and finds the newest state: every prefix ends up announced.
fn reads_again(stalled: &mut Raw) -> Result<()> {
    let mut held = std::collections::BTreeSet::new();
    while held.len() < ROUTES as usize {
        let (kind, body) = stalled.receive()?.context("the session is over")?;
        ensure!(kind != 3, "NOTIFICATION {body:?}");
        if kind != 2 {
            continue;
        }
        let withdrawn = usize::from(u16::from_be_bytes([body[0], body[1]]));
        for address in prefixes(&body[2..2 + withdrawn]) {
            held.remove(&address);
        }
        let rest = &body[2 + withdrawn..];
        let attributes = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        held.extend(prefixes(&rest[2 + attributes..]));
    }
    Ok(())
}

/// The /28 among IPv4 prefixes.
fn prefixes(mut bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut found = Vec::new();
    while let [length, rest @ ..] = bytes {
        let octets = usize::from(length.div_ceil(8));
        if *length == 28 {
            found.push([rest[0], rest[1], rest[2], rest[3]]);
        }
        bytes = &rest[octets..];
    }
    found
}

/// Memory of the agent in KiB.
fn memory(node: &Node) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid()?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let number = line.split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}
