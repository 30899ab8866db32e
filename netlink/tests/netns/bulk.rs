//! Many routes at once.

use std::sync::Arc;

use netlink::bulk::{RouteBatch, RouteChange};
use netlink::{Error, Route, RouteFilter, Socket};

use crate::lab::{card, in_netns, ip_json, many_routes, net, via};

#[test]
fn a_batch_reports_each_refusal_and_makes_the_other_changes() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let mut changes: Vec<RouteChange> = many_routes(1000, eth0)
            .into_iter()
            .map(RouteChange::Add)
            .collect();
        let mut unreachable = Route::new(net("172.16.0.0/26"), 80);
        unreachable.nexthops = vec![via("203.0.113.9", eth0)];
        let unreachable = Arc::new(unreachable);
        for position in [0, 300, 1002] {
            changes.insert(position, RouteChange::Add(unreachable.clone()));
        }
        let refused = RouteBatch::from_iter(changes).apply(&mut socket).unwrap();
        let positions: Vec<usize> = refused.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [0, 300, 1002]);
        assert!(
            refused
                .iter()
                .all(|(_, error)| matches!(error, Error::Unreachable(_)))
        );
        assert_eq!(ip_json("route show proto 80").len(), 1000);
    });
}

#[test]
fn a_hundred_thousand_routes_are_programmed_listed_and_removed() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let routes = many_routes(100_000, eth0);
        let adds: RouteBatch = routes.iter().cloned().map(RouteChange::Add).collect();
        let deletes: RouteBatch = routes.into_iter().map(RouteChange::Delete).collect();
        assert_eq!(adds.apply(&mut socket).unwrap().len(), 0);
        let filter = RouteFilter {
            protocol: Some(80),
            ..RouteFilter::default()
        };
        assert_eq!(socket.routes(&filter).unwrap().len(), 100_000);
        assert_eq!(deletes.apply(&mut socket).unwrap().len(), 0);
        assert_eq!(socket.routes(&filter).unwrap(), []);
    });
}

#[test]
fn errors_of_a_whole_batch_do_not_overflow_the_receive_buffer() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let batch: RouteBatch = many_routes(5000, eth0 + 1000)
            .into_iter()
            .map(RouteChange::Add)
            .collect();
        assert_eq!(batch.apply(&mut socket).unwrap().len(), 5000);
    });
}
