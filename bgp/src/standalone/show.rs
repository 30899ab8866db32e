//! Asking a running speaker.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::view::{CountsView, PeerView, RouteView};
use crate::{Output, What};

/// A speaker that does not answer in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints what a running speaker answers.
///
/// # Errors
/// When nobody answers at the socket, or not in a way we understand.
pub(crate) fn show(what: What, output: Output, socket: &Path) -> Result<()> {
    let question = match what {
        What::Peers => "peers\n",
        What::Routes => "routes\n",
    };
    let answer = ask(question, socket)
        .with_context(|| format!("no answer at {}; is tortie-bgp running?", socket.display()))?;
    let text = match (output, what) {
        (Output::Json, _) => pretty(&answer)?,
        (Output::Table, What::Peers) => table(&peer_rows(serde_json::from_slice(&answer)?)),
        (Output::Table, What::Routes) => table(&route_rows(serde_json::from_slice(&answer)?)),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn ask(question: &str, socket: &Path) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn pretty(answer: &[u8]) -> Result<String> {
    let value: serde_json::Value = serde_json::from_slice(answer)?;
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn peer_rows(peers: Vec<PeerView>) -> Vec<Vec<String>> {
    let header = [
        "PEER",
        "AS",
        "STATE",
        "UP/DOWN",
        "RCVD",
        "ACC",
        "BEST",
        "ADV",
        "FLAPS",
        "LAST ERROR",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for peer in peers {
        let kept = if peer.stale_families.is_empty() {
            ""
        } else {
            " (stale)"
        };
        let sum =
            |count: fn(&CountsView) -> usize| -> usize { peer.routes.iter().map(count).sum() };
        rows.push(vec![
            peer.name.clone(),
            peer.asn.to_string(),
            peer.state.clone(),
            age(peer.since_secs),
            format!("{}{kept}", sum(|counts| counts.received)),
            sum(|counts| counts.accepted).to_string(),
            sum(|counts| counts.best).to_string(),
            sum(|counts| counts.advertised).to_string(),
            peer.flaps.to_string(),
            peer.last_error.unwrap_or_default(),
        ]);
    }
    rows
}

fn route_rows(routes: Vec<RouteView>) -> Vec<Vec<String>> {
    let header = ["", "PREFIX", "NEXT HOP", "PEER", "AS PATH", "REASON"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for route in routes {
        let mark = match (route.best, route.stale) {
            (true, false) => "*",
            (true, true) => "*s",
            (false, true) => "s",
            (false, false) => "",
        };
        rows.push(vec![
            mark.to_owned(),
            route.prefix,
            route
                .next_hop
                .map_or_else(|| "self".to_owned(), |n| n.to_string()),
            route.peer.unwrap_or_else(|| "local".to_owned()),
            route.as_path,
            route.reason,
        ]);
    }
    rows
}

/// `3d4h`, `5m10s`: the two largest units.
fn age(secs: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| secs >= *size);
    let Some(first) = first else {
        return "0s".to_owned();
    };
    let mut rest = secs;
    let mut text = String::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        if rest / size > 0 {
            text += &format!("{}{unit}", rest / size);
        }
        rest %= size;
    }
    text
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let ages = [0, 59, 60, 3_661, 90_000].map(age);
        assert_eq!(["0s", "59s", "1m", "1h1m", "1d1h"].map(str::to_owned), ages);
    }

    #[test]
    fn a_peer_is_one_line_with_the_sums_of_its_families() {
        let counts = |family: &str, received| CountsView {
            family: family.to_owned(),
            received,
            accepted: 3,
            best: 2,
            advertised: 1,
        };
        let peer = PeerView {
            name: "tor".to_owned(),
            address: std::net::IpAddr::from([192, 0, 2, 1]),
            port: 179,
            asn: 64500,
            state: "Established".to_owned(),
            since_secs: 70,
            router_id: None,
            local: None,
            families: Vec::new(),
            hold_time_secs: None,
            graceful_restart: true,
            stale_families: Vec::new(),
            routes: vec![counts("ipv4-unicast", 4), counts("ipv6-unicast", 5)],
            flaps: 7,
            messages_in: 0,
            messages_out: 0,
            last_error: Some("hold timer".to_owned()),
            malformed: None,
        };
        let rows = peer_rows(vec![peer]);
        assert_eq!(rows[0].len(), rows[1].len());
        assert_eq!(
            "tor 64500 Established 1m10s 9 6 4 2 7 hold timer",
            rows[1].join(" ")
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["A", "LONG"], ["wide", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!("A     LONG\nwide  x\n", table(&rows));
    }
}
