use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp_fsm::Stop;
use bgp_rib::PeerId;
use bgp_wire::capability::GracefulRestart;
use bgp_wire::{Capability, Family, Open};
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::*;
use crate::config::{Local, Options, PeerConfig};

/// A session in AS 64500 with a peer in AS 64501 on this host, what drives it and what it tells.
struct Bench {
    session: Session,
    control: watch::Sender<Control>,
    bfd: watch::Sender<Option<Status>>,
    reports: mpsc::Receiver<(Reporter, Report)>,
    _incoming: mpsc::Sender<TcpStream>,
    _routes: mpsc::Sender<Chunk>,
}

fn bench(peer: &PeerConfig) -> Bench {
    let local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
    let settings = Settings::new(&"peer".into(), (&local, &Options::default()), peer, None);
    let (control, control_in) = watch::channel(Control {
        settings: Arc::new(settings),
        restarting: false,
        closed: None,
        resets: 0,
        forwarding: true,
        stop: None,
    });
    let (incoming, incoming_in) = mpsc::channel(1);
    let (routes, routes_in) = mpsc::channel(1);
    let (reports, reports_in) = mpsc::channel(64);
    let bfd = watch::Sender::default();
    let channels = Channels {
        control: control_in,
        incoming: incoming_in,
        routes: routes_in,
        reports,
        shared: Arc::default(),
        bfd: bfd.subscribe(),
    };
    let reporter = Reporter {
        peer: PeerId(0),
        task: 1,
    };
    Bench {
        session: Session::new(reporter, channels, bgp_wire::decode, 7),
        control,
        bfd,
        reports: reports_in,
        _incoming: incoming,
        _routes: routes,
    }
}

impl Bench {
    /// Runs the session until it is as wanted.
    async fn until(&mut self, what: &str, condition: impl Fn(&Session) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition(&self.session) {
            self.session.flush();
            self.session.report_state();
            let wake = tokio::time::timeout_at(end, self.session.wait()).await;
            let wake = wake.unwrap_or_else(|_| panic!("{what} did not happen"));
            self.session.wake(wake);
            while self.reports.try_recv().is_ok() {}
        }
    }

    /// BFD has lost the peer so often, and says whether that depends on the peer's control plane.
    async fn lose(&mut self, failures: u64, independent: bool) {
        let status = Status {
            failures,
            independent,
            ..Status::new()
        };
        self.bfd.send_replace(Some(status));
        self.until("news of BFD", |session| {
            session.liveness.failures() == Some(failures)
        })
        .await;
    }
}

/// A peer that agrees on graceful restart and then is gone without a word.
async fn gone_for_a_restart() -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = PeerConfig::new(IpAddr::from([127, 0, 0, 1]), 64501);
    peer.port = listener.local_addr().unwrap().port();
    let mut bench = bench(&peer);
    let comes = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let restart = GracefulRestart {
            restarting: false,
            notification: false,
            time_secs: 120,
            families: vec![(Family::IPV4_UNICAST, true)],
        };
        let open = Open {
            asn: 64501,
            hold_time: 90,
            router_id: Ipv4Addr::new(192, 0, 2, 2),
            capabilities: vec![
                Capability::MultiProtocol(Family::IPV4_UNICAST),
                Capability::FourOctetAs(64501),
                Capability::GracefulRestart(restart),
            ],
        };
        let mut bytes = BytesMut::new();
        for message in [Message::Open(open), Message::Keepalive] {
            message.encode(&Params::default(), &mut bytes).unwrap();
        }
        stream.write_all(&bytes).await.unwrap();
        stream
    };
    let comes = tokio::spawn(comes);
    bench.session.begin();
    bench
        .until("a session", |session| session.peer.established().is_some())
        .await;
    drop(comes.await.unwrap());
    bench
        .until("its end", |session| session.peer.established().is_none())
        .await;
    assert!(!bench.session.peer.stale().is_empty(), "routes are kept");
    bench
}

/// RFC 5882 §4.3: the C bit says whether a loss during a restart speaks of forwarding.
#[tokio::test]
async fn what_bfd_loses_during_a_restart_goes_only_if_bfd_is_independent_of_it() {
    let mut dependent = gone_for_a_restart().await;
    dependent.lose(0, false).await;
    dependent.lose(1, false).await;
    assert!(!dependent.session.peer.stale().is_empty(), "they stay");
    assert!(!dependent.session.liveness.is_held());

    let mut independent = gone_for_a_restart().await;
    independent.lose(0, true).await;
    independent.lose(1, true).await;
    assert!(independent.session.peer.stale().is_empty(), "they go");
    assert!(independent.session.liveness.is_held());
}

#[tokio::test]
async fn a_session_does_not_wait_for_bfd_for_ever() {
    let mut peer = PeerConfig::new(IpAddr::from([127, 0, 0, 164]), 64501);
    peer.passive = true;
    let mut bench = bench(&peer);
    bench.session.begin();
    bench.lose(0, false).await;
    let start = Instant::now();
    bench.lose(1, false).await;
    assert_eq!(State::Idle, bench.session.peer.state());
    let until = bench.session.deadline().unwrap();
    assert!(until <= start + Duration::from_secs(40), "{until:?}");
    bench.session.end_hold(until - Duration::from_secs(1));
    assert!(bench.session.liveness.is_held());
    bench.session.end_hold(until);
    assert!(!bench.session.liveness.is_held());
    assert_ne!(State::Idle, bench.session.peer.state());
    // The next loss holds it again.
    bench.lose(2, false).await;
    assert!(bench.session.liveness.is_held());
}

#[tokio::test]
async fn session_stopped_before_it_began_ends() {
    let mut peer = PeerConfig::new(IpAddr::from([127, 0, 0, 164]), 64501);
    peer.passive = true;
    let bench = bench(&peer);
    let stop = |control: &mut Control| control.stop = Some(Stop::Restart);
    bench.control.send_modify(stop);
    let ended = timeout(Duration::from_secs(10), bench.session.run()).await;
    ended.expect("the session runs on");
}
