use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp_fsm::State;
use bgp_wire::{
    Capability, Family, Message, Open, Params, RefreshSubtype, RouteRefresh, decode, header,
};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::{Desired, Handle, Local, Options, PeerConfig, Speaker};

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
    message.encode(&Params::default(), &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
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
