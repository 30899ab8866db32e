//! Peers in tables, in the shape of `show bgp summary`.

use bgp_api::{Counts, Peer, PeerKind, Summary};

use crate::output::Printed;
use crate::table::{Table, age};

pub(super) fn summary(summary: &Summary, wide: bool) -> Printed {
    let mut text = format!(
        "BGP router identifier {}, local AS number {}\n",
        summary.router_id, summary.asn
    );
    if summary.cluster_id != summary.router_id {
        text.push_str(&format!("Cluster {}\n", summary.cluster_id));
    }
    let listening: Vec<String> = summary.listening.iter().map(ToString::to_string).collect();
    let listening = match &listening[..] {
        [] => "not listening".to_owned(),
        some => format!("listening on {}", some.join(", ")),
    };
    text.push_str(&format!(
        "{} IPv4 and {} IPv6 prefixes, {} attribute sets, {listening}\n",
        summary.prefixes_ipv4, summary.prefixes_ipv6, summary.attribute_sets
    ));
    if !summary.converged {
        text.push_str(&waiting(summary));
    }
    text.push('\n');
    text.push_str(&list(&summary.peers, wide).text);
    if !summary.peers.is_empty() {
        let peers = summary.peers.iter();
        let up = peers.filter(|peer| is_up(peer)).count();
        text.push_str(&format!(
            "\nPeers {}, established {up}\n",
            summary.peers.len()
        ));
    }
    Printed { text, note: None }
}

/// What convergence waits for, and how long at most.
fn waiting(summary: &Summary) -> String {
    let mut parts = Vec::new();
    if !summary.waiting_for.is_empty() {
        parts.push(format!("all routes of {}", summary.waiting_for.join(", ")));
    }
    if !summary.missing.is_empty() {
        parts.push(format!("{} to come up", summary.missing.join(", ")));
    }
    let waits = match parts.is_empty() {
        true => String::new(),
        false => format!(", waits for {}", parts.join(" and for ")),
    };
    let left = match summary.converges_in_secs {
        Some(secs) => format!(", for {} more at most", age(secs)),
        None => String::new(),
    };
    format!("Not converged yet{waits}{left}\n")
}

pub(super) fn list(peers: &[Peer], wide: bool) -> Printed {
    let text = match (peers, wide) {
        ([], _) => "No peers are configured.\n".to_owned(),
        (peers, false) => short(peers),
        (peers, true) => by_family(peers),
    };
    Printed { text, note: None }
}

fn is_up(peer: &Peer) -> bool {
    peer.state == "Established"
}

/// One line per peer, the numbers of all families together.
fn short(peers: &[Peer]) -> String {
    let mut table = Table::new(&[
        "Neighbor",
        ">AS",
        ">MsgRcvd",
        ">MsgSent",
        ">Up/Down",
        ">State/PfxRcd",
        ">PfxAcc",
        ">PfxBest",
        ">PfxSnt",
        ">Flaps",
        "Name",
        "Last error",
    ]);
    for peer in peers {
        let sum = |of: fn(&Counts) -> usize| peer.routes.iter().map(of).sum::<usize>().to_string();
        let known = is_up(peer) || !peer.stale_families.is_empty();
        let number = |of| if known { sum(of) } else { "-".to_owned() };
        table.row(vec![
            peer.address.to_string(),
            peer.asn.to_string(),
            peer.messages_in.to_string(),
            peer.messages_out.to_string(),
            age(peer.up_down_secs),
            state(peer, sum(|counts| counts.received)),
            number(|counts| counts.accepted),
            number(|counts| counts.best),
            number(|counts| counts.advertised),
            peer.flaps.to_string(),
            peer.name.clone(),
            trouble(peer),
        ]);
    }
    table.text()
}

/// A number while the session is up, else the state.
fn state(peer: &Peer, received: String) -> String {
    match (is_up(peer), &peer.stale_families[..]) {
        (true, _) => received,
        (false, []) => peer.state.clone(),
        (false, _) => format!("{} ({received} stale)", peer.state),
    }
}

fn trouble(peer: &Peer) -> String {
    let error = peer.last_error.clone().filter(|_| !is_up(peer));
    let error = error.or_else(|| peer.warning.clone());
    error
        .or_else(|| peer.malformed.clone())
        .or_else(|| peer.last_error.clone())
        .unwrap_or_default()
}

/// One line per peer and family.
fn by_family(peers: &[Peer]) -> String {
    let mut table = Table::new(&[
        "Neighbor",
        ">AS",
        "Type",
        "Router id",
        "State",
        ">Up/Down",
        "Family",
        ">Rcvd",
        ">Acc",
        ">Filt",
        ">Best",
        ">Sent",
        ">Flaps",
        ">MsgRcvd",
        ">MsgSent",
        "Name",
        "Last error",
    ]);
    for peer in peers {
        for (index, counts) in peer.routes.iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            table.row(vec![
                first(peer.address.to_string()),
                first(peer.asn.to_string()),
                first(kind(peer.kind).to_owned()),
                first(
                    peer.router_id
                        .map_or_else(|| "-".to_owned(), |id| id.to_string()),
                ),
                first(peer.state.clone()),
                first(age(peer.up_down_secs)),
                family(counts, peer),
                counts.received.to_string(),
                counts.accepted.to_string(),
                counts.filtered.to_string(),
                counts.best.to_string(),
                counts.advertised.to_string(),
                first(peer.flaps.to_string()),
                first(peer.messages_in.to_string()),
                first(peer.messages_out.to_string()),
                first(peer.name.clone()),
                first(trouble(peer)),
            ]);
        }
    }
    table.text()
}

fn family(counts: &Counts, peer: &Peer) -> String {
    let name = counts.family.trim_end_matches("-unicast").to_owned();
    if peer.stale_families.contains(&counts.family) {
        name + " (stale)"
    } else {
        name
    }
}

/// What a peer is to us, in a word.
pub(super) fn kind(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::External => "external",
        PeerKind::Internal => "internal",
        PeerKind::Client => "client",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, state: &str) -> Peer {
        let counts = |family: &str, received| Counts {
            family: family.to_owned(),
            received,
            accepted: 3,
            filtered: received - 3,
            best: 2,
            advertised: 1,
        };
        Peer {
            name: name.to_owned(),
            address: "192.0.2.1".parse().unwrap(),
            port: 179,
            asn: 64500,
            local_asn: 64500,
            kind: PeerKind::Internal,
            dynamic: None,
            state: state.to_owned(),
            since: 0,
            age_secs: 7,
            up_down_secs: 70,
            router_id: None,
            routes: vec![counts("ipv4-unicast", 4), counts("ipv6-unicast", 5)],
            flaps: 7,
            messages_in: 10,
            messages_out: 11,
            last_error: Some("hold timer expired".to_owned()),
            malformed: None,
            warning: None,
            stale_families: Vec::new(),
        }
    }

    #[test]
    fn a_speaker_that_has_not_converged_says_what_it_waits_for_and_how_long() {
        let mut told: Summary = serde_json::from_value(serde_json::json!({
            "version": "1", "asn": 64500, "routerId": "192.0.2.1", "clusterId": "192.0.2.1",
            "listening": [], "converged": false, "waitingFor": ["tor"], "missing": ["a", "b"],
            "convergesBy": 1_000, "convergesInSecs": 70, "strangers": 0, "prefixesIpv4": 0,
            "prefixesIpv6": 0, "attributeSets": 0, "nextHops": 0, "peers": [],
        }))
        .unwrap();
        let line = |told: &Summary| summary(told, false).text.lines().nth(2).map(str::to_owned);
        let all = "waits for all routes of tor and for a, b to come up, for 1m10s more at most";
        assert_eq!(Some(format!("Not converged yet, {all}")), line(&told));
        told.waiting_for.clear();
        told.missing.clear();
        told.converges_in_secs = None;
        assert_eq!(Some("Not converged yet".to_owned()), line(&told));
        told.converged = true;
        assert_eq!(Some(String::new()), line(&told));
    }

    fn cells(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_peer_is_one_line_with_the_sums_of_its_families() {
        let text = list(&[peer("tor", "Established")], false).text;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Neighbor"), "{text}");
        assert_eq!(
            "192.0.2.1 64500 10 11 1m10s 9 6 4 2 7 tor hold timer expired",
            cells(lines[1])
        );
    }

    #[test]
    fn a_peer_that_is_down_shows_its_state_and_what_is_stale() {
        let mut down = peer("tor", "Active");
        let text = list(std::slice::from_ref(&down), false).text;
        assert!(cells(&text).contains("1m10s Active - - - 7"), "{text}");
        down.stale_families = vec!["ipv4-unicast".to_owned()];
        let text = list(std::slice::from_ref(&down), false).text;
        assert!(text.contains("Active (9 stale)"), "{text}");
        let wide = list(&[down], true).text;
        assert!(
            wide.contains("ipv4 (stale)") && wide.contains("internal"),
            "{wide}"
        );
    }
}
