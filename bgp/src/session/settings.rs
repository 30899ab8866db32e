//! What the owner wants of a session.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp_fsm::{Config, Restart, Stop};
use bgp_rib::Policy;
use bgp_wire::notification::subcode::cease;
use bgp_wire::{Family, Notification};
use tokio::net::TcpStream;

use crate::config::{Local, Options, PeerConfig, PeerKey};
use crate::socket;

/// The newest wish counts.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) settings: Arc<Settings>,
    /// OPENs say that we come back from a restart.
    pub(crate) restarting: bool,
    /// The session shall be closed with this until it is gone: the peer has sent too much.
    pub(crate) closed: Option<Notification>,
    /// How often the session was asked to start anew.
    pub(crate) resets: u64,
    /// OPENs say that the kernel forwards with our routes.
    pub(crate) forwarding: bool,
    /// The session shall end for good.
    pub(crate) stop: Option<Stop>,
}

impl Control {
    /// Settings of the state machine.
    pub(crate) fn fsm(&self) -> Config {
        let mut config = self.settings.fsm.clone();
        if let Some(restart) = &mut config.restart {
            restart.restarting = self.restarting;
            restart.forwarding = self.forwarding;
        }
        config
    }
}

/// What a session obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) key: PeerKey,
    pub(crate) fsm: Config,
    pub(crate) peer: PeerConfig,
    /// Where an unnumbered peer was found.
    neighbour: Option<Ipv6Addr>,
    /// Told to the peer, and therefore part of the session.
    next_hops: (Option<Ipv4Addr>, Option<Ipv6Addr>),
}

impl Settings {
    pub(crate) fn new(
        key: &PeerKey,
        (local, options): (&Local, &Options),
        peer: &PeerConfig,
        neighbour: Option<Ipv6Addr>,
    ) -> Self {
        let mut fsm = Config::new(peer.own_as(local), local.router_id, peer.remote_as);
        fsm.passive = peer.passive || (peer.is_unnumbered() && neighbour.is_none());
        fsm.families.clone_from(&peer.families);
        // One and two seconds are not allowed (RFC 4271 §4.2).
        fsm.hold_time_secs = match peer.hold_time_secs {
            1 | 2 => 3,
            secs => secs,
        };
        fsm.keepalive_secs = peer.keepalive_secs;
        if let Some(secs) = peer.connect_retry_secs {
            let wait = Duration::from_secs(secs.max(1).into());
            (fsm.connect_retry, fsm.connect_retry_max) = (wait, wait);
        }
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
        // Where an IPv4 next hop can be told, the peer may stay with it.
        fsm.extended_next_hop = peer.families.contains(&Family::IPV4_UNICAST)
            && peer.address.is_ipv6()
            && (peer.is_on_link() || local.next_hop_v4.is_none());
        // What the owner of the routes obeys changes without a new session.
        let any = Arc::new(Policy::accept_all());
        let peer = PeerConfig {
            import: any.clone(),
            export: any,
            add_path_limit: None,
            long_lived_to_all: false,
            max_prefixes: None,
            ..peer.clone()
        };
        Settings {
            key: key.clone(),
            fsm,
            peer,
            neighbour,
            next_hops: (local.next_hop_v4, local.next_hop_v6),
        }
    }

    /// The peer is in another AS.
    pub(crate) fn external(&self) -> bool {
        self.fsm.local_as != self.fsm.remote_as
    }

    /// Dials the peer.
    pub(crate) async fn dial(&self) -> io::Result<TcpStream> {
        let address = match self.neighbour {
            Some(neighbour) if self.peer.is_unnumbered() => IpAddr::V6(neighbour),
            Some(_) | None => self.peer.address,
        };
        socket::dial(&self.peer, address, self.external()).await
    }

    /// What the peer is told when a session with these settings must end for the new ones; none
    /// when it can obey them as it is.
    pub(crate) fn farewell(&self, new: &Settings) -> Option<Notification> {
        if self.fixed() == new.fixed() {
            return None;
        }
        let who = |s: &Settings| (s.peer.address, s.peer.interface.clone(), s.fsm.remote_as);
        let ours = |s: &Settings| (s.fsm.local_as, s.fsm.local_id);
        let subcode = if who(self) == who(new) && ours(self) == ours(new) {
            cease::CONFIGURATION_CHANGE
        } else {
            // Somebody else is meant: nobody shall keep routes for this one.
            cease::PEER_DECONFIGURED
        };
        Some(Notification::cease(subcode))
    }

    /// These settings with everything at its default that a running session can change.
    fn fixed(&self) -> Settings {
        let mut fixed = self.clone();
        let any = Config::new(0, Ipv4Addr::UNSPECIFIED, 0);
        fixed.neighbour = None;
        fixed.fsm.passive = any.passive;
        fixed.fsm.keepalive_secs = any.keepalive_secs;
        fixed.fsm.connect_retry = any.connect_retry;
        fixed.fsm.connect_retry_max = any.connect_retry_max;
        let any = PeerConfig::new(self.peer.address, self.peer.remote_as);
        fixed.peer = PeerConfig {
            shut_down: any.shut_down,
            passive: any.passive,
            keepalive_secs: any.keepalive_secs,
            connect_retry_secs: any.connect_retry_secs,
            password: any.password,
            add_path_limit: any.add_path_limit,
            long_lived_to_all: any.long_lived_to_all,
            max_prefixes: any.max_prefixes,
            graceful_shutdown: any.graceful_shutdown,
            enforce_first_as: any.enforce_first_as,
            allow_own_as: any.allow_own_as,
            next_hop: any.next_hop,
            reflector_client: any.reflector_client,
            bfd: any.bfd,
            import: any.import,
            export: any.export,
            ..fixed.peer
        };
        fixed
    }
}

#[cfg(test)]
mod tests {
    use bgp_rib::NextHopMode;

    use super::*;
    use crate::config::{MaxPrefixes, MaxPrefixesAction, Ttl};

    fn settings(change: impl FnOnce(&mut PeerConfig)) -> Settings {
        let local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
        let mut peer = PeerConfig::new(IpAddr::from([192, 0, 2, 2]), 64501);
        change(&mut peer);
        Settings::new(&"peer".into(), (&local, &Options::default()), &peer, None)
    }

    fn farewell(change: impl FnOnce(&mut PeerConfig)) -> Option<u8> {
        let farewell = settings(|_| {}).farewell(&settings(change));
        farewell.map(|notification| notification.subcode)
    }

    #[test]
    fn what_a_session_can_obey_as_it_is_does_not_end_it() {
        let limit = MaxPrefixes {
            limit: std::num::NonZeroU32::MIN,
            warning_percent: 75,
            action: MaxPrefixesAction::Warn,
        };
        assert_eq!(None, farewell(|peer| peer.password = Some("new".into())));
        assert_eq!(None, farewell(|peer| peer.keepalive_secs = Some(5)));
        assert_eq!(None, farewell(|peer| peer.connect_retry_secs = Some(5)));
        assert_eq!(None, farewell(|peer| peer.max_prefixes = Some(limit)));
        assert_eq!(None, farewell(|peer| peer.long_lived_to_all = true));
        assert_eq!(None, farewell(|peer| peer.graceful_shutdown = true));
        assert_eq!(None, farewell(|peer| peer.enforce_first_as = true));
        assert_eq!(None, farewell(|peer| peer.allow_own_as = 1));
        assert_eq!(None, farewell(|peer| peer.next_hop = NextHopMode::Keep));
        assert_eq!(None, farewell(|peer| peer.reflector_client = true));
        assert_eq!(None, farewell(|peer| peer.shut_down = Some("why".into())));
        assert_eq!(None, farewell(|peer| peer.passive = true));
    }

    #[test]
    fn what_an_open_says_needs_a_new_one_and_another_peer_is_no_restart() {
        let change = Some(cease::CONFIGURATION_CHANGE);
        assert_eq!(change, farewell(|peer| peer.hold_time_secs = 30));
        assert_eq!(change, farewell(|peer| peer.long_lived_secs = Some(60)));
        assert_eq!(change, farewell(|peer| peer.ttl = Ttl::Multihop(4)));
        let other = Some(cease::PEER_DECONFIGURED);
        assert_eq!(other, farewell(|peer| peer.remote_as = 64502));
        assert_eq!(other, farewell(|peer| peer.local_as = Some(64510)));
        let address = IpAddr::from([192, 0, 2, 3]);
        assert_eq!(other, farewell(|peer| peer.address = address));
    }

    #[test]
    fn ipv6_next_hops_are_offered_where_no_ipv4_one_can_be_told() {
        let offers = |address: &str, next_hop: Option<Ipv4Addr>| {
            let mut local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
            local.next_hop_v4 = next_hop;
            let mut peer = PeerConfig::new(address.parse().unwrap(), 64501);
            peer.interface = Some("eth0".into());
            let options = Options::default();
            let settings = Settings::new(&"peer".into(), (&local, &options), &peer, None);
            settings.fsm.extended_next_hop
        };
        let known = Some(Ipv4Addr::new(192, 0, 2, 1));
        assert!(!offers("192.0.2.2", None));
        assert!(!offers("2001:db8::2", known));
        assert!(offers("2001:db8::2", None));
        assert!(offers("fe80::2", known));
        assert!(offers("::", known));
    }
}
