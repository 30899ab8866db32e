//! The real kernel, judged with `ip -j`. Each test makes its own network namespaces.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;

use ipnet::IpNet;
use netlink::netns::NetNs;
use netlink::{
    AddressGeneration, AddressOptions, Error, LinkChange, Nexthop, Route, RouteFilter, RouteKind,
    Scope, Socket, Veth,
};
use serde_json::Value;

const HOST_MAC: [u8; 6] = [0xee; 6];

/// Runs `test` in a new namespace, with loopback up.
fn in_netns(test: impl FnOnce() + Send) {
    let Some(netns) = new_netns() else { return };
    netns
        .run(|| {
            ip("link set lo up");
            test();
        })
        .unwrap();
}

fn new_netns() -> Option<NetNs> {
    match NetNs::create() {
        Ok(netns) => Some(netns),
        Err(_) if std::env::var_os("SKIP_PRIVILEGED").is_some() => None,
        Err(error) => {
            panic!("{error}: these tests need root, or SKIP_PRIVILEGED=1 to leave them out")
        }
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn ip_json(arguments: &str) -> Vec<Value> {
    let text = ip(&format!("-j {arguments}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network card with carrier: one end of a veth pair.
fn card(socket: &mut Socket, name: &str, address: &str) -> u32 {
    ip(&format!("link add {name} type veth peer name {name}-wire"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}-wire up"));
    let index = socket.link(name).unwrap().unwrap().index;
    let options = AddressOptions {
        no_dad: true,
        ..AddressOptions::default()
    };
    socket.add_address(index, net(address), options).unwrap();
    index
}

fn via(gateway: &str, device: u32) -> Nexthop {
    Nexthop {
        via: Some(addr(gateway)),
        device: Some(device),
        onlink: false,
        weight: 1,
    }
}

#[test]
fn veth_is_created_with_its_peer_in_the_other_namespace() {
    let Some(pod) = new_netns() else { return };
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let veth = Veth {
            name: "cali0123456789a".into(),
            mac: HOST_MAC,
            mtu: 1450,
            alias: Some("tortie:c1/eth0".into()),
            up: true,
            peer_name: "eth0".into(),
            peer_mac: Some([2, 0, 0, 0, 0, 7]),
            peer_netns: Some(pod.as_fd()),
        };
        socket.create_veth(&veth).unwrap();

        let host = &ip_json("-d link show cali0123456789a")[0];
        assert_eq!(host["address"], "ee:ee:ee:ee:ee:ee");
        assert_eq!(host["mtu"], 1450);
        assert_eq!(host["ifalias"], "tortie:c1/eth0");
        assert_eq!(host["linkinfo"]["info_kind"], "veth");
        assert!(host["flags"].as_array().unwrap().contains(&"UP".into()));
        let peer = pod.run(|| ip_json("link show eth0")).unwrap().remove(0);
        assert_eq!(peer["address"], "02:00:00:00:00:07");
        assert_eq!(peer["mtu"], 1450);

        let link = socket.link("cali0123456789a").unwrap().unwrap();
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert_eq!(link.mac, Some(HOST_MAC));
        assert_eq!(link.alias.as_deref(), Some("tortie:c1/eth0"));
        assert_eq!(Some(u64::from(link.index)), host["ifindex"].as_u64());
        assert_eq!(
            link.peer_index.map(u64::from),
            peer["ifindex"].as_u64(),
            "the peer is known by its index"
        );
        assert!(link.admin_up && !link.running);

        assert!(matches!(socket.create_veth(&veth), Err(Error::Exists(_))));
        socket.delete_link(link.index).unwrap();
        assert_eq!(socket.link("cali0123456789a").unwrap(), None);
        assert!(pod.run(|| ip_json("link show")).unwrap().len() == 1);
    });
}

#[test]
fn nothing_is_left_when_the_peer_name_is_taken() {
    let Some(pod) = new_netns() else { return };
    pod.run(|| ip("link add eth0 type bridge")).unwrap();
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let veth = Veth {
            name: "cali1".into(),
            mac: HOST_MAC,
            mtu: 1500,
            alias: None,
            up: true,
            peer_name: "eth0".into(),
            peer_mac: None,
            peer_netns: Some(pod.as_fd()),
        };
        let error = socket.create_veth(&veth).unwrap_err();
        assert!(matches!(error, Error::Exists(_)), "{error}");
        assert_eq!(socket.link("cali1").unwrap(), None);
    });
}

#[test]
fn an_interface_is_changed_renamed_and_deleted() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        ip("link add one type bridge");
        let index = socket.link("one").unwrap().unwrap().index;
        let change = LinkChange {
            up: Some(true),
            mtu: Some(1400),
            mac: Some([2, 0, 0, 0, 0, 9]),
            name: Some("two".into()),
            alias: Some("text".into()),
            address_generation: Some(AddressGeneration::None),
        };
        socket.set_link(index, &change).unwrap();
        let seen = &ip_json("-d link show two")[0];
        assert_eq!(seen["mtu"], 1400);
        assert_eq!(seen["address"], "02:00:00:00:00:09");
        assert_eq!(seen["ifalias"], "text");
        assert_eq!(seen["inet6_addr_gen_mode"], "none");
        assert!(seen["flags"].as_array().unwrap().contains(&"UP".into()));

        socket.delete_link(index).unwrap();
        let error = socket.delete_link(index).unwrap_err();
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
        assert!(error.to_string().contains("delete interface"), "{error}");
    });
}

#[test]
fn addresses_of_both_families_are_usable_at_once() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let index = card(&mut socket, "eth0", "2001:db8::7/128");
        let options = AddressOptions::default();
        socket
            .add_address(index, net("10.0.1.5/32"), options)
            .unwrap();

        let seen = &ip_json("address show eth0")[0]["addr_info"];
        let locals: Vec<_> = seen.as_array().unwrap().iter().collect();
        assert!(
            locals
                .iter()
                .any(|a| a["local"] == "10.0.1.5" && a["prefixlen"] == 32)
        );
        let v6 = locals.iter().find(|a| a["local"] == "2001:db8::7").unwrap();
        assert_eq!(v6["nodad"], true);
        assert!(v6.get("tentative").is_none());

        let listed = socket.addresses(&Default::default()).unwrap();
        assert!(
            listed
                .iter()
                .any(|a| a.net == net("10.0.1.5/32") && a.index == index)
        );
        assert!(
            listed
                .iter()
                .any(|a| a.net == net("2001:db8::7/128") && !a.tentative)
        );

        let again = socket.add_address(index, net("10.0.1.5/32"), options);
        assert!(matches!(again, Err(Error::Exists(_))));
        let replace = AddressOptions {
            replace: true,
            ..options
        };
        socket
            .add_address(index, net("10.0.1.5/32"), replace)
            .unwrap();
        socket.delete_address(index, net("10.0.1.5/32")).unwrap();
        let gone = socket.delete_address(index, net("10.0.1.5/32"));
        assert!(matches!(gone, Err(Error::NotFound(_))));
    });
}

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
fn neighbours_are_set_listed_and_deleted() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        socket
            .create_veth(&Veth {
                name: "left".into(),
                mac: HOST_MAC,
                mtu: 1500,
                alias: None,
                up: true,
                peer_name: "right".into(),
                peer_mac: None,
                peer_netns: None,
            })
            .unwrap();
        let index = socket.link("left").unwrap().unwrap().index;
        for address in ["169.254.1.1", "2001:db8::9"] {
            socket
                .set_neighbour(index, addr(address), [2, 0, 0, 0, 0, 1])
                .unwrap();
            let seen = ip_json(&format!("neighbour show to {address} dev left"));
            assert_eq!(seen[0]["lladdr"], "02:00:00:00:00:01");
            assert_eq!(seen[0]["state"][0], "PERMANENT");
            let listed = socket.neighbours(&Default::default()).unwrap();
            assert!(
                listed
                    .iter()
                    .any(|n| n.address == addr(address) && n.permanent)
            );
            socket.delete_neighbour(index, addr(address)).unwrap();
        }
        let filter = netlink::NeighbourFilter {
            family: None,
            index: Some(index),
        };
        let left = socket.neighbours(&filter).unwrap();
        assert!(left.iter().all(|n| !n.permanent), "{left:?}");
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
