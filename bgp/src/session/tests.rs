use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bgp_fsm::Stop;
use bgp_rib::PeerId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::*;
use crate::config::{Local, Options, PeerConfig};

#[tokio::test]
async fn session_stopped_before_it_began_ends() {
    let local = Local::new(64500, Ipv4Addr::new(192, 0, 2, 1));
    let mut peer = PeerConfig::new(IpAddr::from([127, 0, 0, 164]), 64501);
    peer.passive = true;
    let settings = Settings::new(&"peer".into(), (&local, &Options::default()), &peer, None);
    let (control, control_in) = watch::channel(Control {
        settings: Arc::new(settings),
        restarting: false,
        closed: None,
        resets: 0,
        forwarding: true,
        stop: None,
    });
    let (_incoming, incoming_in) = mpsc::channel(1);
    let (_routes, routes_in) = mpsc::channel(1);
    let (reports, _reports_in) = mpsc::channel(8);
    let channels = Channels {
        control: control_in,
        incoming: incoming_in,
        routes: routes_in,
        reports,
        shared: Arc::default(),
        bfd: watch::Sender::default().subscribe(),
    };
    control.send_modify(|control| control.stop = Some(Stop::Restart));
    let reporter = Reporter {
        peer: PeerId(0),
        task: 1,
    };
    let session = Session::new(reporter, channels, bgp_wire::decode, 7);
    let ended = timeout(Duration::from_secs(10), session.run()).await;
    ended.expect("the session runs on");
}
