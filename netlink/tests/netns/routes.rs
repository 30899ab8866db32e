//! Single routes.

use netlink::{AddressOptions, Error, Nexthop, Route, RouteFilter, RouteKind, Scope, Socket};

use crate::lab::{addr, card, in_netns, ip, ip_json, net, via};

#[test]
fn routes_arrive_as_asked_for_and_are_listed_as_written() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let eth1 = card(&mut socket, "eth1", "198.51.100.1/24");
        let options = AddressOptions {
            no_dad: true,
            ..AddressOptions::default()
        };
        socket
            .add_address(eth0, net("2001:db8::1/64"), options)
            .unwrap();

        let mut pod = Route::new(net("10.0.1.5/32"), 80);
        pod.scope = Scope::Link;
        pod.nexthops = vec![Nexthop {
            device: Some(eth0),
            ..Nexthop::default()
        }];
        let mut pod6 = Route::new(net("2001:db8:1::5/128"), 80);
        pod6.nexthops = pod.nexthops.clone();
        let mut block = Route::new(net("10.0.1.0/26"), 80);
        block.kind = RouteKind::Blackhole;
        let mut block6 = Route::new(net("2001:db8:1::/122"), 80);
        block6.kind = RouteKind::Blackhole;
        let mut remote = Route::new(net("10.0.2.0/26"), 80);
        remote.nexthops = vec![via("192.0.2.9", eth0)];
        remote.metric = 1024;
        remote.preferred_source = Some(addr("192.0.2.1"));
        remote.mtu = Some(1400);
        let mut remote6 = Route::new(net("2001:db8:2::/122"), 80);
        remote6.nexthops = vec![via("2001:db8::9", eth0)];
        let mut onlink = Route::new(net("10.0.3.0/26"), 80);
        onlink.nexthops = vec![Nexthop {
            onlink: true,
            ..via("203.0.113.9", eth1)
        }];
        let mut ecmp = Route::new(net("10.0.4.0/26"), 80);
        ecmp.nexthops = vec![
            via("192.0.2.9", eth0),
            Nexthop {
                weight: 3,
                ..via("198.51.100.9", eth1)
            },
        ];
        let mut ecmp6 = Route::new(net("2001:db8:4::/122"), 80);
        ecmp6.nexthops = vec![via("2001:db8::9", eth0), via("2001:db8::8", eth0)];
        let all = [
            pod, pod6, block, block6, remote, remote6, onlink, ecmp, ecmp6,
        ];
        for route in &all {
            socket.add_route(route).unwrap();
        }

        let show = |text: &str| ip_json(&format!("-d route show {text}")).remove(0);
        let seen = show("10.0.1.5");
        assert_eq!(
            (&seen["scope"], &seen["dev"]),
            (&"link".into(), &"eth0".into())
        );
        assert_eq!(show("10.0.1.0/26")["type"], "blackhole");
        let seen = show("10.0.2.0/26");
        assert_eq!(seen["gateway"], "192.0.2.9");
        assert_eq!(seen["metric"], 1024);
        assert_eq!(seen["prefsrc"], "192.0.2.1");
        assert_eq!(seen["metrics"][0]["mtu"], 1400);
        assert_eq!(seen["protocol"], "80");
        assert_eq!(show("10.0.3.0/26")["flags"][0], "onlink");
        let seen = show("10.0.4.0/26");
        assert_eq!(seen["nexthops"][1]["weight"], 3);
        assert_eq!(ip_json("-6 route show 2001:db8:4::/122").len(), 1);

        let filter = RouteFilter {
            protocol: Some(80),
            ..RouteFilter::default()
        };
        let mut listed = socket.routes(&filter).unwrap();
        let mut expected: Vec<Route> = all.into_iter().map(Route::canonical).collect();
        listed.sort_by_key(|route| route.destination);
        expected.sort_by_key(|route| route.destination);
        assert_eq!(listed, expected);
        for route in &listed {
            socket.delete_route(route).unwrap();
        }
        assert_eq!(socket.routes(&filter).unwrap(), []);
    });
}

#[test]
fn a_route_is_replaced_in_place_and_added_only_once() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let mut route = Route::new(net("10.0.2.0/26"), 80);
        route.nexthops = vec![via("192.0.2.9", eth0)];
        socket.add_route(&route).unwrap();
        let error = socket.add_route(&route).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");

        route.nexthops = vec![via("192.0.2.8", eth0)];
        socket.replace_route(&route).unwrap();
        let seen = ip_json("route show 10.0.2.0/26");
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0]["gateway"], "192.0.2.8");
    });
}

#[test]
fn deletion_spares_the_same_destination_of_another_protocol() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let _ = card(&mut socket, "eth0", "192.0.2.1/24");
        ip("route add 10.0.2.0/26 via 192.0.2.9 proto static");
        ip("-6 route add blackhole 2001:db8:2::/122 proto static");
        for destination in ["10.0.2.0/26", "2001:db8:2::/122"] {
            let mut route = Route::new(net(destination), 80);
            route.kind = RouteKind::Other(0);
            let error = socket.delete_route(&route).unwrap_err();
            assert!(matches!(error, Error::NotFound(_)), "{error}");
        }
        assert_eq!(ip_json("route show 10.0.2.0/26").len(), 1);
        assert_eq!(ip_json("-6 route show 2001:db8:2::/122").len(), 1);
    });
}

#[test]
fn errors_name_the_object_and_quote_the_kernel() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let mut route = Route::new(net("10.0.2.0/26"), 80);
        route.nexthops = vec![via("203.0.113.9", eth0)];
        let error = socket.add_route(&route).unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("10.0.2.0/26 via 203.0.113.9"), "{text}");
        assert!(text.contains("invalid gateway"), "{text}");

        route.nexthops = vec![Nexthop {
            device: Some(999),
            ..Nexthop::default()
        }];
        let error = socket.add_route(&route).unwrap_err();
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
        ip("link set eth0 down");
        route.nexthops = vec![Nexthop {
            device: Some(eth0),
            ..Nexthop::default()
        }];
        let error = socket.add_route(&route).unwrap_err();
        assert!(matches!(error, Error::Down(_)), "{error}");
    });
}

#[test]
fn a_filtered_listing_returns_only_what_was_asked_for() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let eth1 = card(&mut socket, "eth1", "198.51.100.1/24");
        ip("route add 10.0.1.0/26 via 192.0.2.9 proto 80");
        ip("route add 10.0.2.0/26 via 198.51.100.9 proto 80");
        ip("route add 10.0.3.0/26 via 192.0.2.9 proto 80 table 1000");
        let mut count = |filter| socket.routes(&filter).unwrap().len();
        let all = RouteFilter {
            protocol: Some(80),
            ..RouteFilter::default()
        };
        assert_eq!(count(all), 3);
        assert_eq!(
            count(RouteFilter {
                table: Some(1000),
                ..all
            }),
            1
        );
        assert_eq!(
            count(RouteFilter {
                table: Some(1001),
                ..all
            }),
            0
        );
        assert_eq!(
            count(RouteFilter {
                table: Some(254),
                device: Some(eth0),
                ..all
            }),
            1
        );
        assert_eq!(
            count(RouteFilter {
                device: Some(eth1),
                ..all
            }),
            1
        );
    });
}
