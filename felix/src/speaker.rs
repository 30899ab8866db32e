//! To and from the BGP speaker.
//!
//! The speaker starts with the first BGP section, which the calculation gives out only after the
//! first programmed state, so that its end-of-RIB comes after our blocks, and with an address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::{Event, Handle, Options, Prefix, Shutdown, Speaker};
use felix_calc::{Bgp, NextHop, NextHops, SpeakerState, Update};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::board::Board;

pub(crate) use desired::{farewell, key};

pub use earlier::Earlier;

use desired::{desired, reachability};

mod desired;
mod earlier;
mod policy;
pub mod quorum;

/// How long peers may take to come back after a restart: those that dial us wait up to 15 s between
/// two tries when we were away for long, and what they sent must not be removed before.
const RETURN: Duration = Duration::from_secs(20);

/// What the task is started with.
pub struct Ends {
    /// What shall be.
    pub bgp: watch::Receiver<Option<Arc<Bgp>>>,
    /// How the next hops that it told are reached.
    pub next_hops: watch::Receiver<Arc<NextHops>>,
    /// Learned routes go here.
    pub updates: mpsc::Sender<Update>,
    /// What is known, for everybody.
    pub board: Arc<Board>,
    /// Routes of ours were in the kernel when the agent started; told once it is known.
    pub restarting: oneshot::Receiver<bool>,
    /// Who had a session before.
    pub earlier: Earlier,
    /// How to end; the task answers by ending.
    pub shutdown: oneshot::Receiver<Shutdown>,
    /// Handle for questions, once there is one.
    pub handle: watch::Sender<Option<Handle>>,
}

/// Settings that do not come from the datastore.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listen here instead of on the node's addresses.
    pub listen: Option<IpAddr>,
    /// How long peers keep our routes while we restart, where no object says so.
    pub restart_time_secs: u16,
}

/// Runs the speaker until it is told to end.
///
/// # Errors
/// When the speaker ends on its own.
pub async fn run(settings: Settings, mut ends: Ends) -> Result<()> {
    let restarting = tokio::select! {
        restarting = &mut ends.restarting => restarting.unwrap_or(false),
        _ = &mut ends.shutdown => return Ok(()),
    };
    let first = tokio::select! {
        first = first_section(&mut ends.bgp) => first,
        _ = &mut ends.shutdown => return Ok(()),
    };
    let Some(first) = first else { return Ok(()) };
    let mut drain = ends.board.drain.subscribe();
    let mut stage = drain.borrow_and_update().clone();
    let options = Options {
        settle: if restarting {
            RETURN
        } else {
            Options::default().settle
        },
        restarting,
        // After a reboot peers must not send to routes that are no longer there.
        forwarding: restarting,
        expected: ends.earlier.expected(),
        ..Options::default()
    };
    let (handle, mut events) = Speaker::start(desired(&first, &settings, &stage), options);
    let awaited = ends.earlier.expected().map(|peers| peers.len());
    tracing::info!(
        restarting,
        peers = first.peers.len(),
        ?awaited,
        "BGP speaker started"
    );
    ends.handle.send_replace(Some(handle.clone()));
    ends.board.speaker.send_modify(|view| {
        view.started = true;
        view.restarting = restarting;
    });
    let mut current = first;
    loop {
        let due = ends.earlier.due();
        tokio::select! {
            () = at(due) => ends.earlier.write(),
            changed = ends.bgp.changed() => {
                if changed.is_err() {
                    // The calculation ends first when the agent shuts down.
                    let how = (&mut ends.shutdown).await;
                    return finish(&handle, &mut events, how, &mut ends.earlier).await;
                }
                let section = ends.bgp.borrow_and_update().clone();
                if let Some(section) = section {
                    handle.set(desired(&section, &settings, &stage));
                    current = section;
                }
            }
            Ok(()) = drain.changed() => {
                stage = drain.borrow_and_update().clone();
                handle.set(desired(&current, &settings, &stage));
            }
            Ok(()) = ends.next_hops.changed() => {
                let known = ends.next_hops.borrow_and_update().clone();
                handle.set_next_hops(reachability(&known));
            }
            event = events.recv() => match event {
                Some(event) => take(event, &mut ends).await?,
                None => bail!("the BGP speaker has ended"),
            },
            how = &mut ends.shutdown => return finish(&handle, &mut events, how, &mut ends.earlier).await,
        }
    }
}

async fn first_section(bgp: &mut watch::Receiver<Option<Arc<Bgp>>>) -> Option<Arc<Bgp>> {
    let has_address = |bgp: &Bgp| bgp.local.ipv4.is_some() || bgp.local.ipv6.is_some();
    let section = bgp
        .wait_for(|bgp| bgp.as_deref().is_some_and(has_address))
        .await
        .ok()?
        .clone();
    bgp.mark_unchanged();
    section
}

/// Events are taken until the end, or a speaker that waits for room would never end.
async fn finish(
    handle: &Handle,
    events: &mut mpsc::Receiver<Event>,
    how: Result<Shutdown, oneshot::error::RecvError>,
    earlier: &mut Earlier,
) -> Result<()> {
    let how = how.unwrap_or(Shutdown::Restart);
    if matches!(how, Shutdown::Cease { .. }) {
        earlier.said_goodbye();
    }
    let ended = handle.shutdown(how);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            Some(_) = events.recv() => {}
        }
    }
}

/// Waits for a moment, for ever without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn take(event: Event, ends: &mut Ends) -> Result<()> {
    match event {
        Event::Best(changes) => {
            let changes = changes.into_iter();
            let changes = changes.map(|(prefix, hops)| {
                let hops = hops.map(|hops| hops.into_iter().map(next_hop).collect());
                Ok((net_of(prefix)?, hops))
            });
            send(ends, Update::Learned(changes.collect::<Result<_>>()?)).await?;
        }
        Event::NextHops(changes) => {
            let changes = changes.into_iter();
            let changes = changes.map(|(hop, in_use)| (next_hop(hop), in_use));
            send(ends, Update::NextHops(changes.collect())).await?;
        }
        Event::Peer(info) => {
            tracing::debug!(peer = %info.key, state = ?info.state, "peer");
            ends.earlier.saw(&info);
            ends.board.speaker.send_modify(|view| {
                view.quorum.saw(&info, Instant::now());
                view.peers.insert(info.key.clone(), *info);
            });
        }
        Event::PeerGone(key) => {
            ends.earlier.gone(&key);
            ends.board.speaker.send_modify(|view| {
                view.peers.remove(&key);
                view.quorum.gone(&key);
            });
        }
        Event::Converged => {
            tracing::info!("BGP has converged");
            ends.earlier.converged();
            // The calculation learns it first: whoever sees us ready finds the routes on their way.
            send(ends, Update::Speaker(SpeakerState { converged: true })).await?;
            ends.board.speaker.send_modify(|view| {
                view.converged = true;
                view.restarting = false;
            });
        }
    }
    Ok(())
}

async fn send(ends: &Ends, update: Update) -> Result<()> {
    if ends.updates.send(update).await.is_err() {
        bail!("the calculation has ended");
    }
    Ok(())
}

fn next_hop(hop: bgp::NextHop) -> NextHop {
    NextHop {
        address: hop.address,
        interface: hop.interface,
    }
}

fn net_of(prefix: Prefix) -> Result<IpNet> {
    IpNet::new(prefix.addr(), prefix.prefix_len()).context("a prefix of the speaker")
}
