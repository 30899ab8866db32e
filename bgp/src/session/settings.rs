//! What the owner wants of a session.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bgp_fsm::{Config, Restart, Stop};
use bgp_rib::Policy;
use tokio::net::TcpStream;

use crate::config::{Local, Options, PeerConfig, PeerKey};
use crate::socket;

/// The newest wish counts.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) settings: Arc<Settings>,
    /// OPENs say that we come back from a restart.
    pub(crate) restarting: bool,
    /// The session shall end for good.
    pub(crate) stop: Option<Stop>,
}

impl Control {
    /// Settings of the state machine.
    pub(crate) fn fsm(&self) -> Config {
        let mut config = self.settings.fsm.clone();
        if let Some(restart) = &mut config.restart {
            restart.restarting = self.restarting;
        }
        config
    }
}

/// What a session must be reset for when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) key: PeerKey,
    pub(crate) fsm: Config,
    pub(crate) peer: PeerConfig,
    /// Told to the peer, and therefore part of the session.
    next_hops: (Option<Ipv4Addr>, Option<Ipv6Addr>),
}

impl Settings {
    pub(crate) fn new(key: &PeerKey, local: &Local, options: &Options, peer: &PeerConfig) -> Self {
        let mut fsm = Config::new(local.asn, local.router_id, peer.remote_as);
        fsm.passive = peer.passive;
        fsm.families.clone_from(&peer.families);
        // One and two seconds are not allowed (RFC 4271 §4.2).
        fsm.hold_time_secs = match peer.hold_time_secs {
            1 | 2 => 3,
            secs => secs,
        };
        fsm.keepalive_secs = peer.keepalive_secs;
        fsm.restart = peer.restart_time_secs.map(|time_secs| Restart {
            time_secs,
            restarting: false,
            forwarding: options.forwarding,
            notification: true,
            stale_time: options.stale_time,
        });
        fsm.long_lived_secs = peer.long_lived_secs;
        fsm.role = peer.role;
        fsm.role_strict = peer.role_strict;
        if let Some(mode) = peer.add_path {
            fsm.add_path = peer.families.iter().map(|family| (*family, mode)).collect();
        }
        // What the owner of the routes obeys changes without a new session.
        let any = Arc::new(Policy::accept_all());
        let peer = PeerConfig {
            import: any.clone(),
            export: any,
            add_path_limit: None,
            max_prefixes: None,
            ..peer.clone()
        };
        Settings {
            key: key.clone(),
            fsm,
            peer,
            next_hops: (local.next_hop_v4, local.next_hop_v6),
        }
    }

    /// The peer is in another AS.
    pub(crate) fn external(&self) -> bool {
        self.fsm.local_as != self.fsm.remote_as
    }

    /// Dials the peer.
    pub(crate) async fn dial(&self) -> io::Result<TcpStream> {
        let socket = socket::dial_from(&self.peer, self.external())?;
        let address = SocketAddr::new(self.peer.address, self.peer.port);
        socket.connect(address).await
    }
}
