use bgp_wire::Notification;

use super::*;
use crate::session::Counters;

fn peer(name: &str, state: State, received: usize) -> OfPeer {
    let counts = Counts {
        family: "ipv4-unicast".to_owned(),
        received,
        accepted: 3,
        filtered: received - 3,
        best: 2,
        advertised: 1,
    };
    let line = Peer {
        name: name.to_owned(),
        address: "192.0.2.9".parse().unwrap(),
        port: 179,
        asn: 64512,
        local_asn: 64512,
        kind: PeerKind::Internal,
        dynamic: None,
        state: state.to_string(),
        since: 1_700_000_000,
        age_secs: 1,
        up_down_secs: 1,
        router_id: None,
        routes: vec![counts],
        flaps: 2,
        messages_in: 0,
        messages_out: 0,
        last_error: None,
        malformed: None,
        warning: None,
        stale_families: if state == State::Established {
            Vec::new()
        } else {
            vec!["ipv4-unicast".to_owned()]
        },
    };
    OfPeer {
        line,
        state,
        transitions: 6,
    }
}

fn numbers(labels: bool) -> Numbers {
    let counters = Counters::default();
    counters.notification(Direction::Out, &Notification::cease(4));
    counters.messages(Direction::In, &bgp_wire::header::KEEPALIVE);
    let mut convergence = Convergence::default();
    convergence.observe(0.03);
    convergence.observe(1000.0);
    Numbers {
        peers: vec![
            peer("a", State::Established, 5),
            peer("b", State::Active, 4),
        ],
        messages: counters.read(),
        convergence,
        prefixes: [9, 0],
        labels,
    }
}

fn holds(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_metric_has_its_name_and_labels() {
    let text = text(&numbers(true)).unwrap();
    let a = "asn=\"64512\",peer=\"a\",type=\"internal\"";
    let b = "asn=\"64512\",peer=\"b\",type=\"internal\"";
    holds(
        &text,
        &[
            &format!("tortie_bgp_session_up{{{a}}} 1\n"),
            &format!("tortie_bgp_session_up{{{b}}} 0\n"),
            &format!("tortie_bgp_session_state{{{a}}} 6\n"),
            &format!("tortie_bgp_session_state{{{b}}} 3\n"),
            &format!("tortie_bgp_session_transitions_total{{{a}}} 6\n"),
            &format!("tortie_bgp_session_flaps_total{{{b}}} 2\n"),
            &format!("tortie_bgp_session_established_timestamp_seconds{{{a}}} 1700000000\n"),
            "tortie_bgp_prefixes{afi=\"ipv4\",direction=\"in\",peer=\"a\",stage=\"filtered\"} 2\n",
            "tortie_bgp_prefixes{afi=\"ipv4\",direction=\"out\",peer=\"b\",stage=\"advertised\"} 1\n",
            "tortie_bgp_gr_stale_routes{afi=\"ipv4\"} 4\n",
            "tortie_bgp_messages_total{direction=\"in\",type=\"keepalive\"} 1\n",
            "tortie_bgp_notifications_total{code=\"6\",direction=\"out\",subcode=\"4\"} 1\n",
            "tortie_bgp_table_prefixes{afi=\"ipv4\"} 9\n",
            "tortie_bgp_convergence_seconds_bucket{le=\"0.05\"} 1\n",
            "tortie_bgp_convergence_seconds_bucket{le=\"+Inf\"} 2\n",
            "tortie_bgp_convergence_seconds_count 2\n",
        ],
    );
    let down = format!("tortie_bgp_session_established_timestamp_seconds{{{b}}}");
    assert!(!text.contains(&down), "{text}");
}

#[test]
fn with_many_peers_there_are_sums() {
    let text = text(&numbers(false)).unwrap();
    holds(
        &text,
        &[
            "tortie_bgp_session_up{asn=\"\",peer=\"\",type=\"internal\"} 1\n",
            "tortie_bgp_session_flaps_total{asn=\"\",peer=\"\",type=\"internal\"} 4\n",
            "tortie_bgp_prefixes{afi=\"ipv4\",direction=\"in\",peer=\"\",stage=\"received\"} 9\n",
            "tortie_bgp_peers{state=\"Active\",type=\"internal\"} 1\n",
        ],
    );
    assert!(
        !text.contains("64512") && !text.contains("bgp_session_state"),
        "{text}"
    );
}

/// <https://prometheus.io/docs/practices/naming>: what only grows ends in `_total`.
#[test]
fn counters_and_only_counters_are_totals() {
    let families = families(&numbers(true));
    for family in &families {
        let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        assert_eq!(
            family.name().ends_with("_total"),
            is_counter,
            "{}",
            family.name()
        );
    }
    assert!(families.len() > 10);
}

/// A speaker without peers has no session to tell of, and its text is still one.
#[test]
fn metrics_without_series_are_left_out() {
    let text = text(&Numbers::default()).unwrap();
    assert!(!text.contains("bgp_session_up"), "{text}");
    holds(
        &text,
        &[
            "tortie_bgp_messages_total",
            "tortie_bgp_convergence_seconds_count 0",
        ],
    );
}
