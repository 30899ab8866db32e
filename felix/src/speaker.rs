//! To and from the BGP speaker.
//!
//! The speaker starts with the first BGP section, which the calculation gives out only after the
//! first programmed state, so that its end-of-RIB comes after our blocks, and with an address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::{
    Desired, Event, Family, Handle, Local, Options, Originate, PeerConfig, PeerKey, Prefix,
    Shutdown, Speaker, Ttl,
};
use felix_calc::{Bgp, PeerSpec, SpeakerState, Update};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use crate::board::Board;

/// What the task is started with.
pub struct Ends {
    /// What shall be.
    pub bgp: watch::Receiver<Option<Arc<Bgp>>>,
    /// Learned routes go here.
    pub updates: mpsc::Sender<Update>,
    /// What is known, for everybody.
    pub board: Arc<Board>,
    /// Routes of ours were in the kernel when the agent started; told once it is known.
    pub restarting: oneshot::Receiver<bool>,
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
    let options = Options {
        restarting,
        ..Options::default()
    };
    let (handle, mut events) = Speaker::start(desired(&first, &settings), options);
    tracing::info!(restarting, peers = first.peers.len(), "BGP speaker started");
    ends.handle.send_replace(Some(handle.clone()));
    ends.board.speaker.send_modify(|view| {
        view.started = true;
        view.restarting = restarting;
    });
    loop {
        tokio::select! {
            changed = ends.bgp.changed() => {
                if changed.is_err() {
                    // The calculation ends first when the agent shuts down.
                    return finish(&handle, &mut events, (&mut ends.shutdown).await).await;
                }
                let section = ends.bgp.borrow_and_update().clone();
                if let Some(section) = section {
                    handle.set(desired(&section, &settings));
                }
            }
            event = events.recv() => match event {
                Some(event) => take(event, &ends).await?,
                None => bail!("the BGP speaker has ended"),
            },
            how = &mut ends.shutdown => return finish(&handle, &mut events, how).await,
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
) -> Result<()> {
    let ended = handle.shutdown(how.unwrap_or(Shutdown::Restart));
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            Some(_) = events.recv() => {}
        }
    }
}

async fn take(event: Event, ends: &Ends) -> Result<()> {
    match event {
        Event::Best(changes) => {
            let changes = changes.into_iter();
            let changes = changes.map(|(prefix, hops)| Ok((net_of(prefix)?, hops)));
            send(ends, Update::Learned(changes.collect::<Result<_>>()?)).await?;
        }
        Event::Peer(info) => {
            tracing::debug!(peer = %info.key, state = ?info.state, "peer");
            ends.board.speaker.send_modify(|view| {
                view.peers.insert(info.key.clone(), *info);
            });
        }
        Event::PeerGone(key) => {
            ends.board.speaker.send_modify(|view| {
                view.peers.remove(&key);
            });
        }
        Event::Converged => {
            tracing::info!("BGP has converged");
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

/// The BGP section in the words of the speaker.
fn desired(section: &Bgp, settings: &Settings) -> Desired {
    let local = &section.local;
    let own = local
        .ipv4
        .map(IpAddr::from)
        .into_iter()
        .chain(local.ipv6.map(IpAddr::from));
    let listen: Vec<IpAddr> = settings
        .listen
        .map_or_else(|| own.collect(), |address| vec![address]);
    Desired {
        local: Local {
            listen: listen
                .into_iter()
                .map(|a| SocketAddr::new(a, local.listen_port))
                .collect(),
            cluster_id: local.cluster_id,
            next_hop_v4: local.ipv4,
            next_hop_v6: local.ipv6,
            subnets: local.subnets.iter().filter_map(|s| prefix_of(*s)).collect(),
            ..Local::new(local.asn, local.router_id)
        },
        peers: section
            .peers
            .iter()
            .map(|(name, spec)| (PeerKey::from(name.as_str()), peer(spec, settings)))
            .collect(),
        dynamic: BTreeMap::new(),
        originate: section
            .originate
            .keys()
            .filter_map(|net| Some((prefix_of(*net)?, Originate::default())))
            .collect(),
    }
}

fn peer(spec: &PeerSpec, settings: &Settings) -> PeerConfig {
    let mut config = PeerConfig::new(spec.address, spec.remote_as);
    config.port = spec.port;
    config.passive = spec.passive;
    config.source = spec.source;
    config.families = [
        (spec.ipv4, Family::IPV4_UNICAST),
        (spec.ipv6, Family::IPV6_UNICAST),
    ]
    .into_iter()
    .filter_map(|(wanted, family)| wanted.then_some(family))
    .collect();
    if let Some(keepalive) = spec.keepalive.map(whole_secs) {
        config.keepalive_secs = Some(keepalive);
        config.hold_time_secs = keepalive.saturating_mul(3);
    }
    let restart = spec
        .restart_time
        .map_or(settings.restart_time_secs, whole_secs);
    // Twelve bits (RFC 4724 §3).
    config.restart_time_secs = Some(restart.min(4095));
    config.ttl = match (spec.ttl_security, spec.multihop) {
        (Some(hops), _) => Ttl::Security { hops },
        (None, true) => Ttl::Multihop(u8::MAX),
        (None, false) => Ttl::Default,
    };
    config.reflector_client = spec.reflector_client;
    config.allow_own_as = spec.allow_own_as;
    config
}

/// At least one second: zero would turn the timer off.
fn whole_secs(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX).max(1)
}

fn net_of(prefix: Prefix) -> Result<IpNet> {
    IpNet::new(prefix.addr(), prefix.prefix_len()).context("a prefix of the speaker")
}

fn prefix_of(net: IpNet) -> Option<Prefix> {
    Prefix::new(net.addr(), net.prefix_len())
}

#[cfg(test)]
mod tests {
    use felix_calc::{Local as Ours, Origin, PeerKind};

    use super::*;

    fn section() -> Bgp {
        let peer = PeerSpec {
            object: "BGPPeer/b".to_owned(),
            kind: PeerKind::GlobalPeer,
            address: "192.0.2.9".parse().unwrap(),
            port: 1790,
            remote_as: 64500,
            ipv4: true,
            ipv6: false,
            passive: true,
            source: Some("192.0.2.1".parse().unwrap()),
            keepalive: Some(Duration::from_secs(10)),
            restart_time: Some(Duration::from_secs(10_000)),
            multihop: true,
            ttl_security: None,
            reflector_client: false,
            allow_own_as: 1,
        };
        Bgp {
            local: Ours {
                asn: 64512,
                router_id: "192.0.2.1".parse().unwrap(),
                ipv4: Some("192.0.2.1".parse().unwrap()),
                ipv6: Some("2001:db8::1".parse().unwrap()),
                subnets: vec!["192.0.2.0/24".parse().unwrap()],
                listen_port: 179,
                cluster_id: None,
            },
            peers: [("Global_192_0_2_9".to_owned(), peer)].into(),
            originate: [("10.0.0.0/26".parse().unwrap(), Origin::Block)].into(),
        }
    }

    #[test]
    fn a_section_says_the_same_in_the_words_of_the_speaker() {
        let settings = Settings {
            listen: None,
            restart_time_secs: 120,
        };
        let desired = desired(&section(), &settings);
        let listen: Vec<String> = desired
            .local
            .listen
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(listen, ["192.0.2.1:179", "[2001:db8::1]:179"]);
        assert_eq!(desired.local.subnets.len(), 1);
        let peer = &desired.peers[&PeerKey::from("Global_192_0_2_9")];
        assert_eq!(
            (peer.port, peer.remote_as, peer.passive),
            (1790, 64500, true)
        );
        assert_eq!((peer.keepalive_secs, peer.hold_time_secs), (Some(10), 30));
        assert_eq!(
            peer.restart_time_secs,
            Some(4095),
            "as much as the capability can say"
        );
        assert_eq!(peer.families, [Family::IPV4_UNICAST]);
        assert_eq!((peer.ttl, peer.allow_own_as), (Ttl::Multihop(255), 1));
        let prefixes: Vec<String> = desired.originate.keys().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["10.0.0.0/26"]);
    }

    #[test]
    fn another_listening_address_replaces_those_of_the_node() {
        let any = "0.0.0.0".parse().unwrap();
        let settings = Settings {
            listen: Some(any),
            restart_time_secs: 120,
        };
        let listen = desired(&section(), &settings).local.listen;
        assert_eq!(listen, [SocketAddr::new(any, 179)]);
    }
}
