//! `tortie-bgp` as a process: its file, its signals, its answers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail by panicking"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bgp::api::{Peer, PeerDetail};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running speaker, killed at the end of its test.
struct Speaker {
    child: Child,
    socket: PathBuf,
    file: PathBuf,
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Speaker {
    fn start(folder: &Path, name: &str, text: &str) -> Speaker {
        Speaker::start_with(folder, name, text, &[])
    }

    fn start_with(folder: &Path, name: &str, text: &str, arguments: &[&str]) -> Speaker {
        let file = folder.join(format!("{name}.yaml"));
        let socket = folder.join(format!("{name}.sock"));
        fs::write(&file, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tortie-bgp"))
            .arg("run")
            .arg("--config")
            .arg(&file)
            .arg("--socket")
            .arg(&socket)
            .args(arguments)
            .stderr(fs::File::create(folder.join(format!("{name}.log"))).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Speaker {
            child,
            socket,
            file,
        }
    }

    fn get(&self, page: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        let request = format!("GET /bgp{page} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Waits until the peers are as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&[Peer]) -> bool) -> Vec<Peer> {
        let end = Instant::now() + PATIENCE;
        loop {
            let peers = self.get("/peers").unwrap_or_default();
            let peers: Vec<Peer> = serde_json::from_str(&peers).unwrap_or_default();
            if wanted(&peers) {
                return peers;
            }
            assert!(Instant::now() < end, "{what} does not happen: {peers:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn hold_time(&self, peer: &str) -> Option<u16> {
        let detail: PeerDetail =
            serde_json::from_str(&self.get(&format!("/peers/{peer}"))?).ok()?;
        Some(detail.settings.hold_time_secs)
    }
}

fn local(number: u8) -> String {
    format!(
        "local: {{asn: 645{number}, router_id: 127.0.2.{number}, listen: ['127.0.2.{number}:21790']}}\n"
    )
}

fn peer(number: u8, from: u8, more: &str) -> String {
    format!(
        "  - {{name: p{number}, address: 127.0.2.{number}, port: 21790, asn: 645{number}, source: 127.0.2.{from}{more}}}\n"
    )
}

fn hub(first: &str) -> String {
    let others = peer(12, 11, "") + &peer(13, 11, "");
    local(11)
        + "peers:\n"
        + &others.replacen(
            "source: 127.0.2.11",
            &format!("source: 127.0.2.11{first}"),
            1,
        )
}

fn up(peers: &[Peer]) -> bool {
    peers.len() == 2 && peers.iter().all(|peer| peer.state == "Established")
}

/// Judged by what the sessions say of themselves: since when they are up, and how often they were
/// lost.
#[test]
fn a_changed_file_is_taken_up_and_touches_only_the_peer_that_changed() {
    let folder = tempfile::tempdir().unwrap();
    let speaker = Speaker::start(folder.path(), "hub", &hub(""));
    let spoke = |number| {
        let text = local(number) + "peers:\n" + &peer(11, number, "");
        Speaker::start(folder.path(), &format!("p{number}"), &text)
    };
    let _spokes = [spoke(12), spoke(13)];
    let before = speaker.until("two sessions", up);

    fs::write(&speaker.file, hub(", hold_time: 33")).unwrap();
    let after = speaker.until("a new session with p12", |peers| {
        up(peers) && peers[0].flaps == 1
    });
    assert_eq!(Some(33), speaker.hold_time("p12"));
    assert_eq!(
        (0, before[1].since),
        (after[1].flaps, after[1].since),
        "p13 was touched"
    );

    // What cannot be read changes nothing, and says so.
    fs::write(&speaker.file, hub(", hold_time: 1")).unwrap();
    let log = folder.path().join("hub.log");
    let end = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log)
        .unwrap()
        .contains("hold_time: 1 and 2 seconds are not allowed")
    {
        assert!(Instant::now() < end, "the wrong file is not noticed");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(Some(33), speaker.hold_time("p12"));

    // Policies need no new session at all.
    let filter = "filters: {none: [{then: reject}]}\n";
    let text = hub(", hold_time: 33, import: [none]") + filter;
    fs::write(&speaker.file, text).unwrap();
    let end = Instant::now() + PATIENCE;
    while !speaker
        .get("/peers/p12")
        .unwrap_or_default()
        .contains("none[0]")
    {
        assert!(Instant::now() < end, "the filter is not taken up");
        thread::sleep(Duration::from_millis(20));
    }
    let last = speaker.until("both sessions", up);
    assert_eq!([1, 0], [last[0].flaps, last[1].flaps]);
    assert_eq!(
        [after[0].since, before[1].since],
        [last[0].since, last[1].since]
    );
}

#[test]
fn check_says_what_a_file_asks_for_or_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bgp.yaml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie-bgp"));
        command.arg("check").arg(&file).output().unwrap()
    };
    let good = check(&hub(""));
    assert!(good.status.success(), "{good:?}");
    assert!(
        String::from_utf8_lossy(&good.stdout).contains("AS 64511, 2 peers"),
        "{good:?}"
    );
    let bad = check(&hub(", holdtime: 9"));
    assert!(!bad.status.success());
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(said.contains("peers[0].holdtime: unknown field"), "{said}");
}

/// Who may scrape from elsewhere must not be able to end a session.
#[test]
fn the_address_of_metrics_answers_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let address = "127.0.2.14:21791";
    let arguments = ["--metrics", address];
    let _speaker = Speaker::start_with(folder.path(), "metrics", &local(14), &arguments);
    let ask = |request: &str| -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "{request} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let end = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let metrics = ask("GET /metrics");
    assert!(
        metrics.contains("tortie_bgp_table_prefixes{afi=\"ipv4\"} 0"),
        "{metrics}"
    );
    for request in ["GET /summary", "POST /peers/a/clear?hard", "GET /bgp/peers"] {
        let answer = ask(request);
        assert!(answer.starts_with("HTTP/1.0 404"), "{request}: {answer}");
    }
}
