//! A peer of a test that says exactly what it is told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp_wire::attribute::AsPath;
use bgp_wire::capability::GracefulRestart;
use bgp_wire::{
    Attributes, Capability, Community, Family, FamilyParams, Message, NextHop, Nlri, Notification,
    Open, Params, PeerType, Reach, Update, decode, header,
};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::node::{Node, PATIENCE, address, prefix};

pub(crate) struct Raw {
    pub(crate) number: u8,
    pub(crate) stream: TcpStream,
    pub(crate) params: Params,
    input: BytesMut,
    /// Octets received.
    pub(crate) octets: usize,
    /// Octets sent.
    pub(crate) sent: usize,
}

impl Raw {
    /// Connects to a node from 127.0.0.`number`.
    pub(crate) async fn connect(number: u8, node: &Node) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address(number), 0)).unwrap();
        let to = SocketAddr::new(address(node.number), node.port);
        let stream = socket.connect(to).await.unwrap();
        let family = FamilyParams::plain(Family::IPV4_UNICAST);
        let params = Params {
            four_octet_as: true,
            peer_type: PeerType::External,
            families: vec![family],
            ..Params::default()
        };
        Raw {
            number,
            stream,
            params,
            input: BytesMut::new(),
            octets: 0,
            sent: 0,
        }
    }

    /// Connects until the node says OPEN: it refuses while it holds the peer after an error.
    pub(crate) async fn connect_after_hold(number: u8, node: &mut Node) -> Raw {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut raw = Raw::connect(number, node).await;
            match raw.receive_or_end().await {
                Some(message) => assert!(matches!(message, Message::Open(_)), "{message:?}"),
                None => {
                    assert!(Instant::now() < end, "the hold does not end");
                    node.idle(Duration::from_millis(50)).await;
                    continue;
                }
            }
            return raw;
        }
    }

    pub(crate) fn asn(&self) -> u32 {
        64500 + u32::from(self.number)
    }

    /// An OPEN that a node accepts, with graceful restart.
    pub(crate) fn open(&self, restarting: bool) -> Open {
        let restart = GracefulRestart {
            restarting,
            notification: false,
            time_secs: 60,
            families: vec![(Family::IPV4_UNICAST, true)],
        };
        Open {
            asn: self.asn(),
            hold_time: 90,
            router_id: Ipv4Addr::new(192, 0, 2, self.number),
            capabilities: vec![
                Capability::MultiProtocol(Family::IPV4_UNICAST),
                Capability::RouteRefresh,
                Capability::FourOctetAs(self.asn()),
                Capability::GracefulRestart(restart),
            ],
        }
    }

    /// Connects and brings the session up; the node's OPEN.
    pub(crate) async fn establish(number: u8, node: &Node, restarting: bool) -> (Raw, Open) {
        let mut raw = Raw::connect(number, node).await;
        let open = raw.open(restarting);
        let open = raw.open_session(open).await;
        (raw, open)
    }

    /// Brings the session up with an OPEN; the node's OPEN.
    pub(crate) async fn open_session(&mut self, open: Open) -> Open {
        self.send(Message::Open(open)).await;
        let Message::Open(open) = self.receive().await else {
            panic!("no OPEN");
        };
        assert_eq!(Message::Keepalive, self.receive().await);
        self.send(Message::Keepalive).await;
        open
    }

    /// Brings the session up after the node's OPEN was read.
    pub(crate) async fn establish_after_open(&mut self) {
        self.send(Message::Open(self.open(false))).await;
        assert_eq!(Message::Keepalive, self.receive().await);
        self.send(Message::Keepalive).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        let mut bytes = BytesMut::new();
        message.encode(&self.params, &mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.sent += bytes.len();
        timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .expect("nobody reads")
            .unwrap();
    }

    /// The next message; panics at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Message {
        self.receive_or_end().await.expect("connection closed")
    }

    /// The next message, `None` at the end of the connection.
    pub(crate) async fn receive_or_end(&mut self) -> Option<Message> {
        loop {
            if let Some(octets) = header::frame(&self.input, header::MAX_LEN).unwrap()
                && octets <= self.input.len()
            {
                let message = decode(&self.input[..octets], &self.params).unwrap();
                self.input.advance(octets);
                return Some(message);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            match read.expect("nothing came") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.octets += count,
            }
        }
    }

    /// The node ends the connection within a moment.
    pub(crate) async fn ends_soon(&mut self) -> bool {
        let end = Instant::now() + Duration::from_millis(300);
        loop {
            let mut ignored = [0; 4096];
            match tokio::time::timeout_at(end, self.stream.read(&mut ignored)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    /// Skips everything up to the NOTIFICATION, after which the connection ends.
    pub(crate) async fn receive_notification(&mut self) -> Notification {
        loop {
            if let Message::Notification(notification) = self.receive().await {
                assert_eq!(
                    None,
                    self.receive_or_end().await,
                    "more after a NOTIFICATION"
                );
                return notification;
            }
        }
    }

    /// Skips everything up to the next UPDATE.
    pub(crate) async fn receive_update(&mut self) -> Update {
        loop {
            if let Message::Update(update) = self.receive().await {
                return update;
            }
        }
    }

    pub(crate) async fn announce(&mut self, prefixes: &[&str]) {
        let message = self.update(prefixes);
        self.send(message).await;
    }

    pub(crate) fn update(&self, prefixes: &[&str]) -> Message {
        let prefixes = prefixes.iter().map(|text| Nlri::from(prefix(text)));
        self.update_with(prefixes.collect(), Vec::new())
    }

    pub(crate) fn update_with(&self, nlri: Vec<Nlri>, communities: Vec<Community>) -> Message {
        let mut attributes = Attributes::builder();
        attributes.communities = communities;
        attributes.as_path = AsPath::sequence(&[self.asn()]);
        let reach = Reach {
            family: Family::IPV4_UNICAST,
            next_hop: NextHop::V4(Ipv4Addr::new(192, 0, 2, self.number)),
            nlri,
        };
        Message::Update(Update {
            reach: vec![reach],
            attributes: Some(attributes.build().unwrap().into()),
            ..Update::default()
        })
    }

    pub(crate) async fn end_of_rib(&mut self) {
        let update = Update::end_of_rib(Family::IPV4_UNICAST);
        self.send(Message::Update(update)).await;
    }

    /// Nothing arrives for a while but KEEPALIVEs.
    pub(crate) async fn hears_nothing(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(message) = tokio::time::timeout_at(end, self.receive()).await {
            assert_eq!(Message::Keepalive, message);
        }
    }
}

/// A node's configuration for a raw peer.
pub(crate) fn expects(number: u8) -> bgp::PeerConfig {
    let mut config = bgp::PeerConfig::new(address(number), 64500 + u32::from(number));
    config.passive = true;
    config
}
