//! What a BGP speaker answers over HTTP: plain serde types, no behaviour.
//!
//! `bgp` fills them, the stand-alone speaker and the agent serve them, `tortie` shows them.
//! Every page is JSON; a question that cannot be answered gets [`Failure`] and a status of 4xx or
//! 5xx.
//!
//! | Page | Answer |
//! |---|---|
//! | `/summary` | [`Summary`] |
//! | `/peers` | list of [`Peer`] |
//! | `/peers/{peer}` | [`PeerDetail`] |
//! | `/peers/{peer}/received?limit=&offset=&family=` | [`Page`] of [`Path`]: what it sent, as received |
//! | `/peers/{peer}/advertised?limit=&offset=&family=` | [`Page`] of [`Advertised`]: what it is told, as sent |
//! | `/routes?limit=&offset=&family=` | [`Page`] of [`Route`] |
//! | `/routes/{prefix}` | [`RouteAnswer`]; an address asks for the prefixes that cover it |
//! | `/why/{prefix}?peer=` | [`Why`]; an address asks for the longest prefix that covers it |
//! | `/metrics` | Prometheus text |
//! | `POST /peers/{peer}/clear?soft` or `?hard` | [`Cleared`] |
//!
//! `{peer}` is the name of a peer or its address, `family` is `ipv4-unicast` or `ipv6-unicast`.
//!
//! # Stability
//! Fields are added, never renamed and never given another meaning; who reads must ignore those
//! it does not know. What is absent is `null`, a list without elements is `[]`. Times are seconds,
//! points in time are seconds since 1970.

mod peer;
mod route;
mod why;

pub use peer::{
    Bfd, BfdSettings, Capabilities, Counts, FamilyUse, MaxPrefixes, MessageCounts, Messages,
    NotificationCount, Peer, PeerDetail, PeerKind, PeerSettings, PolicySettings, Restart, Session,
    Summary,
};
pub use route::{Advertised, Attributes, Outcome, Page, Path, Route, RouteAnswer};
pub use why::{Told, Why};

use serde::{Deserialize, Serialize};

/// A question that could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What was wrong and what to do.
    pub error: String,
}

/// What came of clearing a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleared {
    /// Name of the peer.
    pub peer: String,
    /// Its session stays; routes are asked for and told again.
    pub soft: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs read these names; a change of one breaks them.
    #[test]
    fn names_in_json_are_those_of_the_documentation() {
        let path = Path {
            prefix: "10.0.0.0/26".parse().unwrap(),
            peer: Some("tor".to_owned()),
            path_id: 0,
            next_hop: Some("192.0.2.1".parse().unwrap()),
            link_local: None,
            attributes: Attributes::default(),
            outcome: Outcome::Best,
            step: None,
            reason: "only path".to_owned(),
            rule: None,
            stale: false,
        };
        let page = Page {
            items: vec![path],
            next: Some(4096),
        };
        let json = serde_json::to_value(&page).unwrap();
        let item = &json["items"][0];
        assert_eq!("10.0.0.0/26", item["prefix"]);
        assert_eq!("best", item["outcome"]);
        assert_eq!("192.0.2.1", item["nextHop"]);
        assert!(item["linkLocal"].is_null() && item["attributes"]["asPath"] == "");
        assert_eq!(4096, json["next"]);
        assert_eq!(page, serde_json::from_value(json).unwrap());
    }

    #[test]
    fn messages_are_counted_in_and_out() {
        let mut messages = Messages::default();
        messages.received.route_refresh = 2;
        messages.sent.keepalive = 3;
        let json = serde_json::to_value(messages).unwrap();
        assert_eq!(2, json["in"]["routeRefresh"]);
        assert_eq!(3, json["out"]["keepalive"]);
    }
}
