//! Many routes at once.

use std::time::Duration;

use netlink::bulk::{Operation, Pattern, Pipe, RouteBatch};
use netlink::{Error, Route, RouteFilter, Socket};

use crate::lab::{card, in_netns, ip_json, many_routes, net, via};

fn batch(operation: Operation, routes: &[Route]) -> RouteBatch {
    let mut batch = RouteBatch::new();
    for route in routes {
        batch.push_route(operation, route);
    }
    batch
}

#[test]
fn a_batch_reports_each_refusal_and_makes_the_other_changes() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let mut routes = many_routes(1000, eth0);
        let mut unreachable = Route::new(net("172.16.0.0/26"), 80);
        unreachable.nexthops = vec![via("203.0.113.9", eth0)];
        for position in [0, 300, 1002] {
            routes.insert(position, unreachable.clone());
        }
        let refused = batch(Operation::Add, &routes).apply(&mut socket).unwrap();
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
        let adds = batch(Operation::Add, &routes);
        let deletes = batch(Operation::Delete, &routes);
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
        let batch = batch(Operation::Add, &many_routes(5000, eth0 + 1000));
        assert_eq!(batch.apply(&mut socket).unwrap().len(), 5000);
    });
}

#[test]
fn a_pipe_makes_changes_in_order_and_tells_what_became_of_each_batch() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let routes = many_routes(1000, eth0);
        let pattern = Pattern::new(&routes[0], &routes[0]);
        let mut pipe = Pipe::new(socket).unwrap();
        let chunks = routes.chunks(100);
        let operations = [Operation::Add, Operation::Add, Operation::Delete];
        let mut refused = Vec::new();
        for operation in operations {
            for chunk in chunks.clone() {
                let mut batch = RouteBatch::new();
                for route in chunk {
                    batch.push(operation, &pattern, route.destination);
                }
                while !pipe.has_room() {
                    refused.extend(pipe.next(Duration::from_secs(10)).unwrap());
                }
                pipe.send(batch);
            }
        }
        while pipe.under_way() > 0 {
            refused.extend(pipe.next(Duration::from_secs(10)).unwrap());
        }
        let counts: Vec<usize> = refused.iter().map(|done| done.refused.len()).collect();
        assert_eq!(counts[..10], [0; 10]);
        assert_eq!(counts[10..20], [100; 10], "they are there already");
        assert_eq!(counts[20..], [0; 10]);
        let (position, error) = &refused[10].refused[7];
        assert_eq!(*position, 7);
        assert!(matches!(error, Error::Exists(_)));
        let route = &routes[7].destination;
        assert!(
            error
                .to_string()
                .starts_with(&format!("add route {route} dev "))
        );
        assert!(ip_json("route show proto 80").is_empty());
    });
}
