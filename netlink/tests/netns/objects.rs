//! Interfaces, addresses, neighbours.

use std::os::fd::AsFd;

use netlink::{
    AddressGeneration, AddressOptions, Error, LinkChange, NeighbourFilter, Socket, Veth,
};

use crate::lab::{HOST_MAC, addr, card, in_netns, ip, ip_json, net, new_netns};

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
        let filter = NeighbourFilter {
            family: None,
            index: Some(index),
        };
        let left = socket.neighbours(&filter).unwrap();
        assert!(left.iter().all(|n| !n.permanent), "{left:?}");
    });
}
