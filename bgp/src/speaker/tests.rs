use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use bgp_fsm::State;
use bgp_rib::PeerCounts;
use bgp_wire::{
    AsPath, Attributes, Capability, Family, Message, NextHop, Open, Params, Reach, RefreshSubtype,
    RouteRefresh, Update, decode, header,
};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Bfd;
use crate::speaker::detect;
use crate::{Desired, Event, Handle, Local, Options, Originate, PeerConfig, Speaker};

const PATIENCE: Duration = Duration::from_secs(20);

fn panics_at_route_refresh(bytes: &[u8], params: &Params) -> Result<Message, bgp_wire::Error> {
    assert!(bytes[18] != 5, "a bug in the decoder");
    decode(bytes, params)
}

async fn establish(number: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let own = IpAddr::from([127, 0, 0, number]);
    socket.bind(SocketAddr::new(own, 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let open = Open {
        asn: 64501,
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, number),
        capabilities: vec![
            Capability::MultiProtocol(Family::IPV4_UNICAST),
            Capability::FourOctetAs(64501),
        ],
    };
    send(&mut stream, &Message::Open(open)).await;
    send(&mut stream, &Message::Keepalive).await;
    stream
}

async fn send(stream: &mut TcpStream, message: &Message) {
    let mut bytes = BytesMut::new();
    let params = Params {
        four_octet_as: true,
        ..Params::default()
    };
    message.encode(&params, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
}

async fn announce(stream: &mut TcpStream, prefixes: &[&str], as_path: &[u32]) {
    let mut attributes = Attributes::builder();
    attributes.as_path = AsPath::sequence(as_path);
    let nlri = prefixes.iter().map(|text| text.parse().unwrap());
    let reach = Reach {
        family: Family::IPV4_UNICAST,
        next_hop: NextHop::V4(Ipv4Addr::new(192, 0, 2, 9)),
        nlri: nlri.map(|prefix: bgp_wire::Prefix| prefix.into()).collect(),
    };
    let update = Update {
        reach: vec![reach],
        attributes: Some(attributes.build().unwrap().into()),
        ..Update::default()
    };
    send(stream, &Message::Update(update)).await;
}

async fn until(handle: &Handle, condition: impl Fn(&crate::PeerInfo) -> bool) {
    let wait = async {
        while !handle.peers().await.iter().all(&condition) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("peers are not as wanted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_in_one_session_ends_neither_the_speaker_nor_another_session() {
    let mut local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
    local.listen = vec![SocketAddr::from(([127, 0, 0, 161], 0))];
    let peer = |number| {
        let mut config = PeerConfig::new(IpAddr::from([127, 0, 0, number]), 64501);
        config.passive = true;
        (number.to_string().into(), config)
    };
    let desired = Desired {
        local,
        peers: [peer(162), peer(163)].into(),
        dynamic: Default::default(),
        originate: Default::default(),
    };
    let options = Options::default();
    let (handle, _events) = Speaker::start_with(desired, options, panics_at_route_refresh);
    let to = handle.listening().await[0];
    let mut sane = establish(162, to).await;
    let mut deadly = establish(163, to).await;
    until(&handle, |peer| peer.state == State::Established).await;
    let refresh = RouteRefresh {
        family: Family::IPV4_UNICAST,
        subtype: RefreshSubtype::Request,
    };
    send(&mut deadly, &Message::RouteRefresh(refresh)).await;
    until(&handle, |peer| match peer.key.as_str() {
        "163" => peer.state == State::Idle && peer.last_error.is_some(),
        _ => peer.state == State::Established && peer.flaps == 0,
    })
    .await;
    // The other session still answers: a wrong message gets its NOTIFICATION.
    let mut wrong = header::KEEPALIVE;
    wrong[18] = 99;
    sane.write_all(&wrong).await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, sane.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!([1, 3, 99], heard[heard.len() - 3..]);
}

/// Nothing but routes changes, and still the outside learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_routes_are_told_when_they_change() {
    let mut local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
    local.listen = vec![SocketAddr::from(([127, 0, 0, 164], 0))];
    local.next_hop_v4 = Some(Ipv4Addr::new(192, 0, 2, 1));
    let mut config = PeerConfig::new(IpAddr::from([127, 0, 0, 165]), 64501);
    config.passive = true;
    config.families = vec![Family::IPV4_UNICAST];
    let own = [
        "10.0.0.0/26".parse().unwrap(),
        "10.0.1.0/26".parse().unwrap(),
    ];
    let desired = Desired {
        local,
        peers: [("165".into(), config)].into(),
        dynamic: Default::default(),
        originate: own.map(|prefix| (prefix, Originate::default())).into(),
    };
    let (handle, mut events) = Speaker::start(desired, Options::default());
    let to = handle.listening().await[0];
    let mut peer = establish(165, to).await;
    until(&handle, |peer| peer.state == State::Established).await;
    announce(
        &mut peer,
        &["198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/26"],
        &[64501],
    )
    .await;
    announce(&mut peer, &["192.0.2.0/24"], &[64501, 64500]).await;
    let expected = PeerCounts {
        received: 4,
        accepted: 3,
        // Of one prefix we have a path of our own.
        best: 2,
        advertised: 2,
    };
    let told = async {
        while let Some(event) = events.recv().await {
            if let Event::Peer(info) = event
                && info.counts == [(Family::IPV4_UNICAST, expected)]
            {
                return info;
            }
        }
        panic!("the speaker has ended");
    };
    let info = timeout(PATIENCE, told).await.expect("no news");
    assert_eq!((expected, 4), (info.total(), info.paths));
}

/// BFD that comes up before the session has FRR end both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_bfd_waits_for_the_session_but_not_for_long() {
    let mut local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
    local.listen = vec![SocketAddr::from(([127, 0, 0, 166], 0))];
    let peer = |number| {
        let mut config = PeerConfig::new(IpAddr::from([127, 0, 0, number]), 64501);
        config.passive = true;
        config.bfd = Some(Bfd {
            min_tx_ms: 300,
            min_rx_ms: 300,
            multiplier: NonZeroU8::MIN,
            on_link: true,
        });
        (number.to_string().into(), config)
    };
    let desired = Desired {
        local,
        peers: [peer(167), peer(168)].into(),
        dynamic: Default::default(),
        originate: Default::default(),
    };
    let options = Options {
        restarting: true,
        ..Options::default()
    };
    let begun = Instant::now();
    let (handle, _events) = Speaker::start(desired, options);
    let to = handle.listening().await[0];
    assert!(handle.peers().await.iter().all(|peer| peer.bfd.is_none()));
    let _up = establish(167, to).await;
    until(&handle, |peer| {
        let is_up = peer.state == State::Established;
        is_up == (peer.key.as_str() == "167") && is_up == peer.bfd.is_some()
    })
    .await;
    until(&handle, |peer| peer.bfd.is_some()).await;
    assert!(begun.elapsed() >= detect::WAIT);
}
