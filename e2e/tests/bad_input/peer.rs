//! Peers that break the protocol: each gets the NOTIFICATION it deserves, an attribute that can
//! be ignored or withdrawn costs no session, and nobody else notices.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, LIMIT, scenario};
use e2e::lab::Namespace;
use e2e::wait;

use crate::lab::{flaps, sessions_are_up, told, two_pods, well_again, works};
use crate::raw::{
    ASN, KEEPALIVE, OPEN, Raw, UPDATE, attribute, good_attributes, host, message, name, open,
    session, update,
};

const FIRST: u8 = 50;

/// Octets to send, the code, subcode and data that answer them, and how the agent puts it.
struct Offence {
    octets: Vec<u8>,
    answer: (u8, u8, Vec<u8>),
    shown: &'static str,
}

fn offence(octets: Vec<u8>, answer: (u8, u8, &[u8]), shown: &'static str) -> Offence {
    Offence {
        octets,
        answer: (answer.0, answer.1, answer.2.to_vec()),
        shown,
    }
}

fn before_the_session() -> Vec<Offence> {
    let garbage = b"GET / HTTP/1.1\r\nHost: node1\r\n\r\n".to_vec();
    let edited = |at: usize, bytes: &[u8]| {
        let mut open = open(FIRST, ASN, 90);
        open[at..at + bytes.len()].copy_from_slice(bytes);
        open
    };
    let long = edited(16, &5000u16.to_be_bytes());
    let short = edited(16, &18u16.to_be_bytes());
    vec![
        offence(garbage, (1, 1, &[]), "the marker is not all ones"),
        offence(edited(3, &[0]), (1, 1, &[]), "the marker is not all ones"),
        offence(long, (1, 2, &[0x13, 0x88]), "a length of 5000"),
        offence(short, (1, 2, &[0, 18]), "a length of 18"),
        offence(edited(18, &[77]), (1, 3, &[77]), "unknown message type 77"),
        offence(edited(19, &[3]), (2, 1, &[0, 4]), "BGP version 3"),
        offence(
            open(FIRST, 64999, 90),
            (2, 2, &[]),
            "the peer is in AS 64999",
        ),
        offence(edited(24, &[0; 4]), (2, 3, &[]), "identifier 0.0.0.0"),
        offence(edited(22, &[0, 1]), (2, 6, &[]), "a hold time of 1 s"),
        offence(edited(28, &[200]), (2, 0, &[]), "OPEN: "),
        offence(message(KEEPALIVE, &[]), (5, 1, &[]), "we sent 5/1"),
    ]
}

fn in_the_session() -> Vec<Offence> {
    let mut marker = message(KEEPALIVE, &[]);
    marker[0] = 0;
    let mut long = message(UPDATE, &[0; 4]);
    long[16..18].copy_from_slice(&4097u16.to_be_bytes());
    let overrun = message(UPDATE, &[0xff, 0xff, 0, 0]);
    let good = good_attributes(Ipv4Addr::new(192, 0, 2, FIRST));
    let prefix = update(&good, &[(Ipv4Addr::UNSPECIFIED, 33)]);
    vec![
        offence(marker, (1, 1, &[]), "the marker is not all ones"),
        offence(long, (1, 2, &[0x10, 0x01]), "a length of 4097"),
        offence(message(KEEPALIVE, &[0]), (1, 2, &[0, 20]), "a length of 20"),
        offence(overrun, (3, 1, &[]), "do not end within the message"),
        offence(prefix, (3, 10, &[]), "UPDATE: NLRI"),
        offence(open(FIRST, ASN, 90), (5, 3, &[]), "we sent 5/3"),
    ]
}

#[test]
fn what_breaks_the_protocol_is_answered_and_disturbs_nobody_else() -> Result<()> {
    scenario("badpeer", 2, |cluster| {
        two_pods(cluster)?;
        let (early, late) = (before_the_session(), in_the_session());
        let count = u8::try_from(early.len() + late.len())? + 2;
        let raw = host(cluster, FIRST, count)?;
        let calm = flaps(&cluster.nodes[0])?;
        let peers = (FIRST..).zip(early.into_iter().map(|o| (o, false)));
        let peers = peers.chain((FIRST + 11..).zip(late.into_iter().map(|o| (o, true))));
        for (last, (offence, in_session)) in peers {
            println!("{last}: {}", offence.shown);
            let mut peer = Raw::connect(&raw, last)?;
            if in_session {
                peer.shake_hands(90)?;
            }
            let _quiet = keep_dials_quiet(&raw, last)?;
            peer.send(&offence.octets)?;
            let answer = peer.notification()?;
            let expected = offence.answer;
            ensure!(answer == expected, "{answer:?} instead of {expected:?}");
            shown(cluster, last, offence.shown)?;
        }
        truncated(cluster, &raw, FIRST + count - 2)?;
        silent_in_a_message(cluster, &raw, FIRST + count - 1)?;
        works(cluster)?;
        ensure!(flaps(&cluster.nodes[0])? == calm, "another session flapped");
        mended(cluster, &raw)
    })
}

/// Lets the agent connect and never answers, so that its next dial does not fail at once and
/// hide the error before it.
fn keep_dials_quiet(raw: &Namespace, last: u8) -> Result<TcpListener> {
    raw.inside(|| Ok(TcpListener::bind((Ipv4Addr::new(192, 0, 2, last), 179))?))
}

/// Half a message, then the end of the connection.
fn truncated(cluster: &Cluster, raw: &Namespace, last: u8) -> Result<()> {
    let mut peer = Raw::establish(raw, last, 90)?;
    let _quiet = keep_dials_quiet(raw, last)?;
    peer.send(&message(UPDATE, &[0; 40])[..30])?;
    drop(peer);
    shown(cluster, last, "closed by the peer")
}

/// Half a message, then silence: the hold timer ends it.
fn silent_in_a_message(cluster: &Cluster, raw: &Namespace, last: u8) -> Result<()> {
    let mut peer = Raw::establish(raw, last, 3)?;
    let _quiet = keep_dials_quiet(raw, last)?;
    peer.send(&message(OPEN, &[0; 40])[..30])?;
    let answer = peer.notification()?;
    ensure!(answer == (4, 0, vec![]), "{answer:?} instead of 4/0");
    shown(cluster, last, "hold timer expired")
}

/// The agent names the object, the peer's address, what happened, and what to do.
fn shown(cluster: &Cluster, last: u8, error: &str) -> Result<()> {
    let object = format!("BGPPeer/raw-{last} spec.peerIP");
    let address = format!("192.0.2.{last} port 179 in AS {ASN}");
    let words = [&*object, &*address, error, "compare address, port and AS"];
    told(&cluster.nodes[0], &words)
}

/// Everyone of them may come back and behave.
fn mended(cluster: &Cluster, raw: &Namespace) -> Result<()> {
    let (mut peer, _) = wait::until("the first peer to be let in again", LIMIT, || {
        Raw::establish(raw, FIRST, 90).map(Some)
    })?;
    let prefix = (Ipv4Addr::new(203, 0, 113, 0), 24);
    peer.send(&update(&good_attributes(peer.address()), &[prefix]))?;
    for node in &cluster.nodes {
        wait::until("the route of the peer", LIMIT, || {
            node.route("203.0.113.0/24")
        })?;
    }
    peer.still_open()?;
    let session = session(&cluster.nodes[0], FIRST)?;
    ensure!(
        session["name"] == name(FIRST) && session["state"] == "Established",
        "{session}"
    );
    std::fs::remove_file(cluster.datastore().join("raw.yaml"))?;
    well_again(cluster)
}

/// What is done about a malformed attribute (RFC 7606).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Withdraw,
    Discard,
}

/// Attributes that replace or follow the good ones.
fn malformed(next_hop: Ipv4Addr) -> Vec<(&'static str, Vec<Vec<u8>>, Fate)> {
    use Fate::{Discard, Withdraw};
    let [origin, as_path, hop] = good_attributes(next_hop);
    let good = [origin.clone(), as_path.clone(), hop.clone()];
    let plus = |more: Vec<u8>| [&good[..], &[more]].concat();
    let instead = |at: usize, other: Vec<u8>| {
        let mut all = good.to_vec();
        all[at] = other;
        all
    };
    let segment = [&[7, 1][..], &ASN.to_be_bytes()].concat();
    vec![
        ("ORIGIN 7", instead(0, attribute(0x40, 1, &[7])), Withdraw),
        (
            "ORIGIN of two octets",
            instead(0, attribute(0x40, 1, &[0, 0])),
            Withdraw,
        ),
        (
            "ORIGIN flagged optional",
            instead(0, attribute(0xc0, 1, &[0])),
            Withdraw,
        ),
        ("no ORIGIN", vec![as_path.clone(), hop.clone()], Withdraw),
        (
            "segment of unknown type",
            instead(1, attribute(0x40, 2, &segment)),
            Withdraw,
        ),
        (
            "segment that overruns",
            instead(1, attribute(0x40, 2, &[2, 9, 0, 0])),
            Withdraw,
        ),
        (
            "NEXT_HOP of three octets",
            instead(2, attribute(0x40, 3, &[192, 0, 2])),
            Withdraw,
        ),
        (
            "NEXT_HOP 0.0.0.0",
            instead(2, attribute(0x40, 3, &[0; 4])),
            Withdraw,
        ),
        (
            "MED of three octets",
            plus(attribute(0x80, 4, &[0; 3])),
            Withdraw,
        ),
        (
            "communities of five octets",
            plus(attribute(0xc0, 8, &[0; 5])),
            Withdraw,
        ),
        (
            "large communities of five octets",
            plus(attribute(0xc0, 32, &[0; 5])),
            Withdraw,
        ),
        (
            "an attribute that overruns the rest",
            plus(vec![0xc0, 8, 200, 0]),
            Withdraw,
        ),
        (
            "ATOMIC_AGGREGATE with a value",
            plus(attribute(0x40, 6, &[1])),
            Discard,
        ),
        (
            "AGGREGATOR of three octets",
            plus(attribute(0xc0, 7, &[0; 3])),
            Discard,
        ),
        (
            "LOCAL_PREF from another AS",
            plus(attribute(0x40, 5, &[0; 3])),
            Discard,
        ),
        (
            "ORIGINATOR_ID from another AS",
            plus(attribute(0x80, 9, &[0; 3])),
            Discard,
        ),
        ("ORIGIN twice", plus(origin), Discard),
    ]
}

#[test]
fn malformed_attributes_never_reset_a_session() -> Result<()> {
    scenario("badattr", 2, |cluster| {
        two_pods(cluster)?;
        let raw = host(cluster, FIRST, 1)?;
        let calm = flaps(&cluster.nodes[0])?;
        let mut peer = Raw::establish(&raw, FIRST, 90)?;
        let good = good_attributes(peer.address());
        let steady = (Ipv4Addr::new(198, 51, 100, 128), 25);
        peer.send(&update(&good, &[steady]))?;
        for (number, (what, attributes, fate)) in malformed(peer.address()).iter().enumerate() {
            println!("{what}");
            let address = Ipv4Addr::new(203, 0, 113, u8::try_from(number * 8)?);
            let text = format!("{address}/29");
            peer.send(&update(&good, &[(address, 29)]))?;
            routed(cluster, &text, true)?;
            peer.send(&update(attributes, &[(address, 29)]))?;
            // What follows is handled in order, so the fault has been when this one is there.
            let after = Ipv4Addr::new(198, 51, 100, u8::try_from(16 + number * 4)?);
            peer.send(&update(&good, &[(after, 30)]))?;
            routed(cluster, &format!("{after}/30"), true)?;
            routed(cluster, &text, *fate == Fate::Discard)?;
            peer.still_open()?;
            told(
                &cluster.nodes[0],
                &[
                    &format!("BGPPeer/raw-{FIRST}"),
                    "spec.peerIP",
                    "attribute",
                    "RFC 7606",
                ],
            )?;
        }
        routed(cluster, "198.51.100.128/25", true)?;
        let session = session(&cluster.nodes[0], FIRST)?;
        ensure!(
            session["state"] == "Established" && session["flaps"] == 0,
            "{session}"
        );
        sessions_are_up(cluster)?;
        works(cluster)?;
        ensure!(flaps(&cluster.nodes[0])? == calm, "another session flapped");
        std::fs::remove_file(cluster.datastore().join("raw.yaml"))?;
        well_again(cluster)
    })
}

/// Whether both nodes route the prefix: the second one has it from the first.
fn routed(cluster: &Cluster, prefix: &str, expected: bool) -> Result<()> {
    for node in &cluster.nodes {
        let what = format!("{} to route {prefix}: {expected}", node.name);
        wait::until_true(&what, LIMIT, || {
            Ok(node.route(prefix)?.is_some() == expected)
        })?;
    }
    Ok(())
}
