//! What speakers answer over HTTP.

use std::time::Duration;

use bgp::api::{Advertised, Page, Path, Peer, PeerDetail, Route, RouteAnswer, Summary, Why};
use bgp::http;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, connect, prefix};

/// Status and body of a page.
async fn get(node: &Node, page: &str) -> (u16, String) {
    request(node, "GET", page).await
}

async fn request(node: &Node, method: &str, page: &str) -> (u16, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::router(node.handle.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {page} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(PATIENCE, read).await.expect("no answer").unwrap();
    server.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) async fn ask<T: DeserializeOwned>(node: &Node, page: &str) -> T {
    let (status, body) = get(node, page).await;
    assert_eq!(200, status, "{page}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{page}: {error}: {body}"))
}

/// The marks at the end of what peers tell come after the routes that tests wait for.
async fn until_metrics(node: &Node, line: &str) {
    let wait = async {
        while !get(node, "/metrics").await.1.contains(line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{line} does not come"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_answers_with_what_its_type_says() {
    let mut a = Node::start(70, &["10.70.0.0/26", "2001:db8:70::/64"]).await;
    let mut b = Node::start(71, &["10.71.0.0/26"]).await;
    let (b_at_a, _) = connect(&mut a, &mut b).await;
    a.learns("10.71.0.0/26", "192.0.2.71").await;
    b.learns("10.70.0.0/26", "192.0.2.70").await;
    b.learns("2001:db8:70::/64", "2001:db8::46").await;

    let summary: Summary = ask(&a, "/summary").await;
    assert_eq!((64570, 1), (summary.asn, summary.peers.len()));
    assert_eq!((2, 1), (summary.prefixes_ipv4, summary.prefixes_ipv6));
    let peers: Vec<Peer> = ask(&a, "/peers").await;
    let (name, v4) = (&peers[0].name, &peers[0].routes[0]);
    assert_eq!(
        (b_at_a.as_str(), "Established"),
        (name.as_str(), peers[0].state.as_str())
    );
    assert_eq!(
        (1, 1, 0, 1, 1),
        (
            v4.received,
            v4.accepted,
            v4.filtered,
            v4.best,
            v4.advertised
        )
    );

    let detail: PeerDetail = ask(&a, &format!("/peers/{name}")).await;
    assert_eq!(90, detail.session.unwrap().hold_time_secs);
    assert!(detail.messages.sent.open >= 1 && detail.messages.received.update >= 1);
    assert_eq!(Some(120), detail.restart.peer_time_secs);

    let routes: Page<Route> = ask(&a, "/routes").await;
    assert_eq!((3, None), (routes.items.len(), routes.next));
    let v6: Page<Route> = ask(&a, "/routes?family=ipv6-unicast").await;
    assert_eq!(1, v6.items.len());
    let received: Page<Path> = ask(&a, &format!("/peers/{name}/received")).await;
    assert_eq!(
        ("64571", Some(name)),
        (
            received.items[0].attributes.as_path.as_str(),
            received.items[0].peer.as_ref()
        )
    );
    let told: Page<Advertised> =
        ask(&a, &format!("/peers/{name}/advertised?family=ipv4-unicast")).await;
    assert_eq!(1, told.items.len(), "{told:?}");
    assert_eq!(
        ("64570", None),
        (
            told.items[0].attributes.as_path.as_str(),
            told.items[0].from.as_ref()
        )
    );
    assert_eq!("192.0.2.70", told.items[0].next_hop.to_string());

    let up = format!("tortie_bgp_session_up{{asn=\"64571\",peer=\"{name}\",type=\"external\"}} 1");
    until_metrics(&a, &up).await;
    until_metrics(&a, "tortie_bgp_convergence_seconds_count 1").await;

    let exact: RouteAnswer = ask(&a, "/routes/10.71.0.0/26").await;
    assert_eq!(Some(name), exact.exact.unwrap().paths[0].peer.as_ref());
    let covering: RouteAnswer = ask(&a, "/routes/10.71.0.9").await;
    assert_eq!((None, 1), (covering.exact, covering.covering.len()));
    let why: Why = ask(&a, "/why/10.70.0.1").await;
    assert_eq!("10.70.0.0/26", why.prefix.unwrap().to_string());
    assert!(why.peers[0].told, "{why:?}");
    assert!(why.text[0].contains("originated here"), "{why:?}");
    let nothing: Why = ask(&a, "/why/198.51.100.1").await;
    assert!(nothing.prefix.is_none() && nothing.text.len() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_are_told_what_is_wrong() {
    let node = Node::start(72, &[]).await;
    for (page, status, text) in [
        (
            "/peers/nobody",
            404,
            "no peer has the name or address nobody",
        ),
        (
            "/why/10.0.0.0/8?peer=nobody",
            404,
            "`tortie bgp peers` lists them",
        ),
        ("/routes/10.0.0.1/8", 400, "neither a prefix nor an address"),
        ("/peers/192.0.2.99/received", 404, "192.0.2.99"),
        ("/routes?family=ipx", 400, "ipx"),
    ] {
        let (found, body) = get(&node, page).await;
        assert!(
            found == status && body.contains(text),
            "{page}: {found} {body}"
        );
    }
}

/// Pages make the whole, and an answer of many parts is one JSON text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_come_in_pages_and_in_one_piece() {
    let prefixes: Vec<String> = (0..1500)
        .map(|i| format!("10.{}.{}.0/24", i / 256, i % 256))
        .collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let node = Node::start(73, &prefixes).await;
    let whole: Page<Route> = ask(&node, "/routes?limit=1000000").await;
    assert_eq!((1500, None), (whole.items.len(), whole.next));
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let page: Page<Route> = ask(&node, &format!("/routes?limit=700&offset={offset}")).await;
        assert!(page.items.len() <= 700);
        found.extend(page.items);
        let Some(next) = page.next else { break };
        offset = next;
    }
    assert_eq!(whole.items, found);
    assert!(
        whole
            .items
            .iter()
            .any(|route| route.prefix.to_string() == prefix("10.5.219.0/24").to_string())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clearing_a_peer_softly_keeps_its_session_and_hard_does_not() {
    let mut a = Node::start(74, &["10.74.0.0/26"]).await;
    let mut b = Node::start(75, &[]).await;
    let (at_a, _) = connect(&mut a, &mut b).await;
    let page = format!("/peers/{at_a}/clear");
    let (status, body) = request(&a, "POST", &page).await;
    assert!(status == 400 && body.contains("say how"), "{status} {body}");
    let (status, body) = request(&a, "POST", &format!("{page}?soft")).await;
    assert!(
        status == 200 && body.contains("\"soft\":true"),
        "{status} {body}"
    );
    assert_eq!(0, a.peer(&at_a).await.flaps);
    let (status, _) = request(&a, "POST", &format!("{page}?hard")).await;
    assert_eq!(200, status);
    let again = |info: &bgp::PeerInfo| info.flaps == 1 && info.session.is_some();
    a.peer_until(&at_a, "a new session", again).await;
    let (status, _) = request(&a, "POST", "/peers/nobody/clear?hard").await;
    assert_eq!(404, status);
}
