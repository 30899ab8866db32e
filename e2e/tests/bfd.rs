//! BFD of `tortie-bgp` beside BIRD and FRR: what each says of its own session is the judge.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::peer::{Kind, Peer, THEIR_PREFIXES, THEIRS};
use e2e::speaker::{PREFIXES, Speaker};
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
/// The hold time is 90 s. Three packets at the 150 ms of the peer are 450 ms.
const DETECTION: Duration = Duration::from_secs(1);

#[test]
fn bird_and_we_notice_that_the_other_is_silent() -> Result<()> {
    detect(Kind::Bird, "bfdbird")
}

#[test]
fn frr_and_we_notice_that_the_other_is_silent() -> Result<()> {
    detect(Kind::Frr, "bfdfrr")
}

#[test]
fn bird_with_bfd_graceful_keeps_our_routes_over_restarts_and_a_change() -> Result<()> {
    keep(Kind::Bird, "bfdgrb")
}

#[test]
fn frr_with_check_control_plane_failure_keeps_our_routes_over_restarts_and_a_change() -> Result<()>
{
    keep(Kind::Frr, "bfdgrf")
}

fn detect(kind: Kind, name: &str) -> Result<()> {
    let lab = Lab::new(name)?;
    run(kind, &lab, Peer::start(&lab, kind)?, steps)
}

fn keep(kind: Kind, name: &str) -> Result<()> {
    let lab = Lab::new(name)?;
    run(kind, &lab, Peer::start_graceful(&lab, kind)?, restarts)
}

fn run(
    kind: Kind,
    lab: &Lab,
    theirs: Peer,
    test: impl FnOnce(Kind, &mut Speaker, &Peer) -> Result<()>,
) -> Result<()> {
    let mut ours = Speaker::new(lab)?;
    ours.peer_settings = Some("bfd: {min_tx_ms: 120, min_rx_ms: 100, multiplier: 3}".to_owned());
    ours.configure(&PREFIXES)?;
    ours.start(&[])?;
    test(kind, &mut ours, &theirs).with_context(|| {
        format!(
            "{kind:?} says:\n{}\n{}\n{}\ntortie-bgp says:\n{}\n{}",
            theirs.sessions().unwrap_or_default(),
            theirs.bfd().unwrap_or_default(),
            theirs.log(),
            ours.show("peer theirs").unwrap_or_default(),
            ours.log()
        )
    })
}

fn steps(kind: Kind, ours: &mut Speaker, theirs: &Peer) -> Result<()> {
    up(kind, ours, theirs)?;
    // We wanted to send every 120 ms; the peer takes a packet every 150 ms. It may miss three.
    intervals(ours, 150, 300)?;
    ensure!(
        their_interval(kind, theirs, "450", "120")?,
        "{}",
        theirs.bfd()?
    );

    // What the peer sends is lost on its way, what we send is not.
    let drop = format!("INPUT -s {} -j DROP", THEIRS[0]);
    let lost = losses(ours);
    ours.namespace.run(&format!("iptables -I {drop}"))?;
    let took = wait::until_true("the loss to be noticed", LIMIT, || Ok(losses(ours) > lost))?;
    ensure!(took < DETECTION, "noticed after {took:?}");
    down(ours, theirs, "Control Detection Time Expired")?;
    // Nothing brings the session back while the way is cut.
    ensure!(bfd(ours)?["state"] != "Up");
    ours.namespace.run(&format!("iptables -D {drop}"))?;
    up(kind, ours, theirs)?;

    // What we send is lost: the peer notices, and says so.
    let drop = format!("OUTPUT -d {} -j DROP", THEIRS[0]);
    let lost = losses(ours);
    ours.namespace.run(&format!("iptables -I {drop}"))?;
    let took = wait::until_true("the peer to say it", LIMIT, || Ok(losses(ours) > lost))?;
    ensure!(took < DETECTION, "said after {took:?}");
    down(ours, theirs, "Neighbor Signaled Session Down")?;
    ours.namespace.run(&format!("iptables -D {drop}"))?;
    up(kind, ours, theirs)?;
    live(kind, ours, theirs)
}

/// RFC 5882 §4.3: our C bit is clear, so that our restart takes BFD with it is no news of our
/// forwarding. The peer drops nothing, whether we say goodbye, are killed, or switch BFD off.
fn restarts(kind: Kind, ours: &mut Speaker, theirs: &Peer) -> Result<()> {
    for signal in [Signal::SIGUSR1, Signal::SIGKILL] {
        up(kind, ours, theirs)?;
        ours.signal(signal)?;
        held(theirs, "their BFD to notice", || {
            Ok(!their_bfd_is_up(kind, theirs)?)
        })?;
        // As long as nobody is there and then some.
        let back = Instant::now() + DETECTION * 2;
        held(theirs, "a while", || Ok(Instant::now() > back))?;
        ours.start(&["--restarting"])?;
        held(theirs, "our session", || {
            let peers = ours.show("peers").unwrap_or_default();
            Ok(peers.to_string().contains("Established"))
        })?;
    }
    up(kind, ours, theirs)?;
    ours.peer_settings = None;
    ours.configure(&PREFIXES)?;
    ours.signal(Signal::SIGHUP)?;
    held(theirs, "their BFD to be down", || {
        Ok(!their_bfd_is_up(kind, theirs)?)
    })?;
    let after = Instant::now() + DETECTION * 2;
    held(theirs, "a session after that", || {
        Ok(Instant::now() > after && peer(ours)?["state"] == "Established")
    })
}

/// Waits until something holds; they hold our routes all the while.
fn held(theirs: &Peer, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    wait::until(what, LIMIT, || {
        for prefix in PREFIXES {
            if theirs.route(prefix)?.is_empty() {
                return Ok(Some(Err(format!("they lost {prefix} before {what}"))));
            }
        }
        Ok(condition()?.then_some(Ok(())))
    })?
    .0
    .map_err(anyhow::Error::msg)
}

/// Changes of BFD touch neither its session nor that of BGP.
fn live(kind: Kind, ours: &mut Speaker, theirs: &Peer) -> Result<()> {
    let before = (
        peer(ours)?["flaps"].clone(),
        bfd(ours)?["transitions"].clone(),
    );
    ours.peer_settings = Some("bfd: {min_tx_ms: 300, min_rx_ms: 400, multiplier: 5}".to_owned());
    ours.configure(&PREFIXES)?;
    ours.signal(Signal::SIGHUP)?;
    wait::until_true("the new intervals", LIMIT, || {
        Ok(intervals(ours, 300, 1200).is_ok() && their_interval(kind, theirs, "1500", "300")?)
    })?;
    let after = (
        peer(ours)?["flaps"].clone(),
        bfd(ours)?["transitions"].clone(),
    );
    ensure!(before == after, "{before:?} became {after:?}");

    if kind == Kind::Frr {
        // BFD taken down by the operator of the peer is no failure (RFC 5882 §3.2).
        theirs.change_bfd_profile("shutdown")?;
        wait::until_true("the peer to say AdminDown", LIMIT, || {
            Ok(bfd(ours)?["remoteState"] == "AdminDown")
        })?;
        theirs.change_bfd_profile("no shutdown")?;
        wait::until_true("BFD to be up again", LIMIT, || {
            Ok(bfd(ours)?["state"] == "Up")
        })?;
        ensure!(peer(ours)?["flaps"] == before.0, "BGP must not notice");
    }

    // Switched off here, which BIRD 2.0.12 and FRR 8.4 take for a failure: they do not look at
    // the AdminDown we send. The session is back without BFD.
    ours.peer_settings = None;
    ours.configure(&PREFIXES)?;
    ours.signal(Signal::SIGHUP)?;
    wait::until_true("BFD to be off", LIMIT, || Ok(bfd(ours)?.is_null()))?;
    wait::until_true("the peer to see it", LIMIT, || {
        Ok(!their_bfd_is_up(kind, theirs)?)
    })?;
    ours.wait_established(LIMIT)
}

fn peer(ours: &Speaker) -> Result<Value> {
    ours.show("peer theirs")
}

fn bfd(ours: &Speaker) -> Result<Value> {
    Ok(peer(ours)?["bfd"].clone())
}

/// How many losses are in our log, which is read faster than a question is answered.
fn losses(ours: &Speaker) -> usize {
    ours.log().matches("BFD session lost").count()
}

fn intervals(ours: &Speaker, tx: u64, detection: u64) -> Result<()> {
    let bfd = bfd(ours)?;
    ensure!(
        bfd["txMs"] == tx && bfd["detectMs"] == detection,
        "wanted {tx} and {detection}: {bfd}"
    );
    Ok(())
}

fn up(kind: Kind, ours: &Speaker, theirs: &Peer) -> Result<()> {
    wait::until_true("BFD to be up at both", LIMIT, || {
        Ok(bfd(ours)?["state"] == "Up" && their_bfd_is_up(kind, theirs)?)
    })?;
    ours.wait_established(LIMIT)?;
    for prefix in THEIR_PREFIXES {
        wait::until_true(&format!("{prefix} in our table"), LIMIT, || {
            Ok(ours.show("routes")?.to_string().contains(prefix))
        })?;
    }
    for prefix in PREFIXES {
        wait::until_true(&format!("{prefix} in their table"), LIMIT, || {
            Ok(!theirs.route(prefix)?.is_empty())
        })?;
    }
    // The fast pace has been agreed on.
    wait::until_true("the fast pace", LIMIT, || Ok(bfd(ours)?["txMs"] == 150))?;
    Ok(())
}

fn down(ours: &Speaker, theirs: &Peer, why: &str) -> Result<()> {
    for prefix in THEIR_PREFIXES {
        wait::until_true(&format!("{prefix} out of our table"), LIMIT, || {
            Ok(!ours.show("routes")?.to_string().contains(prefix))
        })?;
    }
    for prefix in PREFIXES {
        wait::until_true(&format!("{prefix} out of their table"), LIMIT, || {
            Ok(theirs.route(prefix)?.is_empty())
        })?;
    }
    let peer = peer(ours)?;
    ensure!(peer["state"] == "Idle", "{peer}");
    ensure!(peer["lastError"].to_string().contains(why), "{peer}");
    Ok(())
}

fn their_bfd_is_up(kind: Kind, theirs: &Peer) -> Result<bool> {
    let says = theirs.bfd()?;
    Ok(match kind {
        Kind::Bird => says.contains(" Up "),
        Kind::Frr => says.contains("Status: up"),
    })
}

/// Detection time and our interval as the peer has them, in milliseconds.
fn their_interval(kind: Kind, theirs: &Peer, detection: &str, ours: &str) -> Result<bool> {
    let says = theirs.bfd()?;
    Ok(match kind {
        Kind::Bird => {
            let seconds = detection.parse::<f64>()? / 1000.0;
            says.contains(&format!("{seconds:.3}"))
        }
        Kind::Frr => says.contains(&format!("Transmission interval: {ours}ms")),
    })
}
