//! A speaker of a test, its news collected; and the waiting for what it shall come to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bgp::api::Path;
use bgp::{
    Desired, Event, Handle, Local, Options, Originate, PeerConfig, PeerInfo, PeerKey, Prefix,
    Shutdown, Speaker, State,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) handle: Handle,
    pub(crate) desired: Desired,
    pub(crate) port: u16,
    events: mpsc::Receiver<Event>,
    /// Next hops told.
    pub(crate) learned: BTreeMap<Prefix, Vec<IpAddr>>,
    /// Every change of routes and the convergence, in order.
    pub(crate) story: Vec<String>,
    pub(crate) converged: bool,
}

pub(crate) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn options() -> Options {
    Options {
        settle: Duration::from_secs(3),
        deferral: Duration::from_secs(5),
        ..Options::default()
    }
}

impl Node {
    /// A speaker at 127.0.0.`number` in AS 64500 + `number` that originates these prefixes.
    pub(crate) async fn start(number: u8, prefixes: &[&str]) -> Node {
        Node::start_with(
            number,
            64500 + u32::from(number),
            prefixes,
            |_| {},
            options(),
        )
        .await
    }

    pub(crate) async fn start_with(
        number: u8,
        asn: u32,
        prefixes: &[&str],
        change: impl FnOnce(&mut Desired),
        options: Options,
    ) -> Node {
        let mut desired = Desired {
            local: Local {
                listen: vec![SocketAddr::new(address(number), 0)],
                next_hop_v4: Some(Ipv4Addr::new(192, 0, 2, number)),
                next_hop_v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())),
                ..Local::new(asn, Ipv4Addr::new(192, 0, 2, number))
            },
            peers: BTreeMap::new(),
            dynamic: Default::default(),
            originate: prefixes
                .iter()
                .map(|p| (prefix(p), Originate::default()))
                .collect(),
        };
        change(&mut desired);
        let (handle, events) = Speaker::start(desired.clone(), options);
        let listening = handle.listening().await;
        Node {
            number,
            port: listening.first().map_or(0, SocketAddr::port),
            handle,
            desired,
            events,
            learned: BTreeMap::new(),
            story: Vec::new(),
            converged: false,
        }
    }

    pub(crate) fn asn(&self) -> u32 {
        self.desired.local.asn
    }

    /// How others reach this node.
    pub(crate) fn as_peer(&self) -> PeerConfig {
        let mut config = PeerConfig::new(address(self.number), self.asn());
        config.port = self.port;
        config
    }

    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired);
        self.handle.set(self.desired.clone());
    }

    pub(crate) fn add_peer(&mut self, mut config: PeerConfig) -> PeerKey {
        config.source = Some(address(self.number));
        let key = PeerKey::from(config.address.to_string());
        self.set(|desired| {
            desired.peers.insert(key.clone(), config);
        });
        key
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Best(changes) => {
                for (prefix, next_hops) in changes {
                    match next_hops {
                        Some(next_hops) => {
                            let next_hops = next_hops.into_iter().map(|hop| hop.address);
                            let next_hops: Vec<IpAddr> = next_hops.collect();
                            self.story.push(format!("{prefix} via {next_hops:?}"));
                            self.learned.insert(prefix, next_hops);
                        }
                        None => {
                            if self.learned.remove(&prefix).is_some() {
                                self.story.push(format!("{prefix} gone"));
                            }
                        }
                    }
                }
            }
            Event::Converged => {
                assert!(!self.converged, "converged twice");
                self.converged = true;
            }
            Event::NextHops(_) | Event::Peer(_) | Event::PeerGone(_) => {}
        }
    }

    /// Takes news until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Node) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            let event = tokio::time::timeout_at(end, self.events.recv()).await;
            let Ok(event) = event else {
                panic!("{what} did not happen; story: {:#?}", self.story);
            };
            self.take(event.expect("the speaker has ended"));
        }
    }

    /// Takes all news there is within some time.
    pub(crate) async fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            self.take(event);
        }
    }

    pub(crate) async fn learns(&mut self, text: &str, next_hop: &str) {
        let prefix = prefix(text);
        let next_hop: IpAddr = next_hop.parse().unwrap();
        self.until(&format!("{text} via {next_hop}"), |node| {
            node.learned.get(&prefix).is_some_and(|n| *n == [next_hop])
        })
        .await;
    }

    pub(crate) async fn loses(&mut self, text: &str) {
        let prefix = prefix(text);
        self.until(&format!("loss of {text}"), |node| {
            !node.learned.contains_key(&prefix)
        })
        .await;
    }

    /// The paths to a prefix, those in use first.
    pub(crate) async fn paths(&self, text: &str) -> Vec<Path> {
        let answer = self.handle.route(text).await.unwrap();
        answer.exact.map_or(Vec::new(), |route| route.paths)
    }

    /// Asks for the best path to a prefix until it is as wanted.
    pub(crate) async fn path_until(&mut self, text: &str, condition: impl Fn(&Path) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let paths = self.paths(text).await;
            if paths.first().is_some_and(&condition) {
                return;
            }
            assert!(Instant::now() < end, "not so: {paths:#?}");
            self.idle(Duration::from_millis(10)).await;
        }
    }

    async fn find_peer(&self, key: &PeerKey) -> Option<PeerInfo> {
        let peers = self.handle.peers().await;
        peers.into_iter().find(|peer| peer.key == *key)
    }

    pub(crate) async fn peer(&self, key: &PeerKey) -> PeerInfo {
        self.find_peer(key).await.expect("no such peer")
    }

    /// Asks for a peer until it is there and as wanted.
    pub(crate) async fn peer_until(
        &mut self,
        key: &PeerKey,
        what: &str,
        condition: impl Fn(&PeerInfo) -> bool,
    ) -> PeerInfo {
        let end = Instant::now() + PATIENCE;
        loop {
            // What was asked for a moment ago may not be listed yet.
            let info = self.find_peer(key).await;
            if let Some(info) = info.as_ref().filter(|info| condition(info)) {
                return info.clone();
            }
            assert!(Instant::now() < end, "{what} did not happen: {info:#?}");
            self.idle(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn established(&mut self, key: &PeerKey) -> PeerInfo {
        self.peer_until(key, "session", |info| info.state == State::Established)
            .await
    }

    pub(crate) async fn shutdown(&mut self, how: Shutdown) {
        let done = self.handle.shutdown(how);
        timeout(PATIENCE, done)
            .await
            .expect("the speaker did not end");
    }
}

/// Makes two nodes peers of each other and waits for their session.
pub(crate) async fn connect(a: &mut Node, b: &mut Node) -> (PeerKey, PeerKey) {
    let at_a = a.add_peer(b.as_peer());
    let at_b = b.add_peer(a.as_peer());
    a.established(&at_a).await;
    b.established(&at_b).await;
    (at_a, at_b)
}
