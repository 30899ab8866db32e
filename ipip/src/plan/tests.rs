use std::collections::BTreeMap;

use netlink::Tunnel as Settings;

use super::*;
use crate::{Remote, Vxlan};

const MAC: [u8; 6] = [0x66, 1, 2, 3, 4, 5];
const FAR: [u8; 6] = [0x66, 9, 9, 9, 9, 9];
const INDEX: u32 = 7;

pub(crate) fn ipip() -> Tunnel {
    Tunnel {
        name: "tunl0".into(),
        address: Some(addr("10.244.1.0")),
        local: addr("192.0.2.1"),
        mtu: 1480,
        encapsulation: Encapsulation::Ipip,
    }
}

pub(crate) fn vxlan() -> Tunnel {
    let remote = Remote {
        mac: FAR,
        node: addr("192.0.2.9"),
    };
    Tunnel {
        name: "vxlan.calico".into(),
        address: Some(addr("10.244.1.1")),
        local: addr("192.0.2.1"),
        mtu: 1450,
        encapsulation: Encapsulation::Vxlan(Vxlan {
            vni: 4096,
            port: 4789,
            mac: MAC,
            parent: "eth0".into(),
            remotes: BTreeMap::from([(addr("10.244.9.1"), remote)]),
        }),
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        mac: Some(MAC),
        mtu: 1450,
        admin_up: true,
        running: true,
        loopback: false,
        alias: Some(MARK.to_owned()),
        peer_index: None,
        controller: None,
        tunnel: None,
    }
}

fn settings() -> netlink::Vxlan {
    netlink::Vxlan {
        vni: 4096,
        port: 4789,
        local: Some(addr("192.0.2.1")),
        parent: Some(2),
        ..netlink::Vxlan::default()
    }
}

/// The VXLAN device as it should be.
fn right() -> Observed {
    let mut device = link(INDEX, "vxlan.calico", Some("vxlan"));
    device.tunnel = Some(Settings::Vxlan(settings()));
    Observed {
        link: Some(device),
        addresses: vec![net("10.244.1.1/32")],
        neighbours: vec![neighbour("10.244.9.1", FAR)],
        forwarding: vec![entry(FAR, "192.0.2.9")],
        parent: Some(link(2, "eth0", None)),
        bad_checksums: false,
    }
}

fn right_ipip() -> Observed {
    let mut device = link(INDEX, "tunl0", Some("ipip"));
    device.tunnel = Some(Settings::Ipip(netlink::Ipip::default()));
    device.mtu = 1480;
    Observed {
        link: Some(device),
        addresses: vec![net("10.244.1.0/32")],
        ..Observed::default()
    }
}

fn neighbour(address: &str, mac: [u8; 6]) -> Neighbour {
    Neighbour {
        index: INDEX,
        address: addr(address),
        mac: Some(mac),
        permanent: true,
    }
}

fn entry(mac: [u8; 6], node: &str) -> Forwarding {
    Forwarding {
        index: INDEX,
        mac,
        node: Some(addr(node)),
        permanent: true,
    }
}

fn prepared(tunnel: &Tunnel, observed: &Observed) -> Vec<Op> {
    let plan = prepare(tunnel, Carrier::Kernel, observed);
    assert_eq!(plan.problems, []);
    plan.ops
}

fn swept(tunnel: &Tunnel, observed: &Observed) -> Vec<Op> {
    sweep(tunnel, Carrier::Kernel, observed).ops
}

/// Changes the device of a right observation.
fn with_link(change: impl FnOnce(&mut Link)) -> Observed {
    let mut observed = right();
    change(observed.link.as_mut().unwrap());
    observed
}

fn with_settings(change: impl FnOnce(&mut netlink::Vxlan)) -> Observed {
    let mut settings = settings();
    change(&mut settings);
    with_link(|link| link.tunnel = Some(Settings::Vxlan(settings)))
}

#[test]
fn what_is_right_is_not_touched() {
    assert_eq!(prepared(&vxlan(), &right()), []);
    assert_eq!(swept(&vxlan(), &right()), []);
    assert_eq!(prepared(&ipip(), &right_ipip()), []);
    assert_eq!(swept(&ipip(), &right_ipip()), []);
}

#[test]
fn a_device_comes_before_what_is_on_it_and_where_comes_before_who() {
    let nothing = Observed {
        parent: right().parent,
        ..Observed::default()
    };
    let expected = [
        Op::Create,
        Op::SetUp(true),
        Op::Mark(true),
        Op::SetMtu(1450),
        Op::AddAddress(net("10.244.1.1/32")),
        Op::SetForwarding(FAR, addr("192.0.2.9")),
        Op::SetNeighbour(addr("10.244.9.1"), FAR),
    ];
    assert_eq!(prepared(&vxlan(), &nothing), expected);
    let expected = [
        Op::Create,
        Op::SetUp(true),
        Op::Mark(true),
        Op::SetMtu(1480),
        Op::AddAddress(net("10.244.1.0/32")),
    ];
    assert_eq!(prepared(&ipip(), &nothing), expected);
}

#[test]
fn what_only_a_new_device_can_have_makes_a_new_one() {
    let cases = [
        with_settings(|s| s.vni = 4097),
        with_settings(|s| s.port = 8472),
        with_settings(|s| s.external = true),
        with_settings(|s| s.group = Some(addr("239.1.1.1"))),
        with_settings(|s| s.local = Some(addr("2001:db8::1"))),
        with_settings(|s| s.local = None),
    ];
    for observed in cases {
        let ops = prepared(&vxlan(), &observed);
        assert_eq!(ops[..2], [Op::Delete, Op::Create], "{observed:?}");
        assert_eq!(ops.len(), 8, "everything on it again: {ops:?}");
    }
    let mut observed = right_ipip();
    observed.link.as_mut().unwrap().tunnel = Some(Settings::Ipip(netlink::Ipip {
        remote: Some("192.0.2.9".parse().unwrap()),
        ..netlink::Ipip::default()
    }));
    assert_eq!(prepared(&ipip(), &observed)[..2], [Op::Delete, Op::Create]);
}

#[test]
fn what_can_be_changed_is_changed() {
    let cases = [
        (
            with_settings(|s| s.local = Some(addr("192.0.2.2"))),
            Op::ChangeVxlan,
        ),
        (with_settings(|s| s.parent = Some(3)), Op::ChangeVxlan),
        (with_settings(|s| s.learning = true), Op::ChangeVxlan),
        (with_link(|link| link.mac = Some(FAR)), Op::SetMac(MAC)),
        (with_link(|link| link.mtu = 1500), Op::SetMtu(1450)),
        (with_link(|link| link.admin_up = false), Op::SetUp(true)),
        (with_link(|link| link.alias = None), Op::Mark(true)),
    ];
    for (observed, op) in cases {
        assert_eq!(prepared(&vxlan(), &observed), [op]);
        assert_eq!(swept(&vxlan(), &observed), []);
    }
    let mut observed = right();
    observed.bad_checksums = true;
    assert_eq!(prepared(&vxlan(), &observed), [Op::ChecksumsBySoftware]);
}

#[test]
fn a_new_address_comes_before_the_old_one_goes() {
    let mut tunnel = vxlan();
    tunnel.address = Some(addr("10.244.7.7"));
    let mut observed = right();
    assert_eq!(
        prepared(&tunnel, &observed),
        [Op::AddAddress(net("10.244.7.7/32"))]
    );
    assert_eq!(
        swept(&tunnel, &observed),
        [],
        "the new one is not there yet"
    );
    observed.addresses.push(net("10.244.7.7/32"));
    assert_eq!(
        swept(&tunnel, &observed),
        [Op::RemoveAddress(net("10.244.1.1/32"))]
    );
    // The same address with the prefix of a network is not ours.
    observed.addresses = vec![net("10.244.7.7/24"), net("10.244.7.7/32")];
    assert_eq!(
        swept(&tunnel, &observed),
        [Op::RemoveAddress(net("10.244.7.7/24"))]
    );
}

#[test]
fn without_an_address_the_one_that_is_there_stays() {
    let mut tunnel = ipip();
    tunnel.address = None;
    assert_eq!(prepared(&tunnel, &right_ipip()), []);
    assert_eq!(swept(&tunnel, &right_ipip()), []);
}

#[test]
fn entries_for_other_ends_are_put_right_before_routes_and_strangers_go_after_them() {
    const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let mut observed = right();
    observed.forwarding = vec![entry(FAR, "192.0.2.66"), entry(STRANGER, "192.0.2.66")];
    observed.neighbours = vec![
        neighbour("10.244.9.1", STRANGER),
        neighbour("10.244.8.1", STRANGER),
        Neighbour {
            permanent: false,
            ..neighbour("10.244.8.2", STRANGER)
        },
    ];
    assert_eq!(
        prepared(&vxlan(), &observed),
        [
            Op::SetForwarding(FAR, addr("192.0.2.9")),
            Op::SetNeighbour(addr("10.244.9.1"), FAR),
        ]
    );
    assert_eq!(
        swept(&vxlan(), &observed),
        [
            Op::RemoveNeighbour(addr("10.244.8.1")),
            Op::RemoveForwarding(entry(STRANGER, "192.0.2.66")),
        ]
    );
}

#[test]
fn entries_that_age_are_made_permanent() {
    let mut observed = right();
    observed.forwarding[0].permanent = false;
    observed.neighbours[0].permanent = false;
    assert_eq!(prepared(&vxlan(), &observed).len(), 2);
}

#[test]
fn a_device_of_another_kind_is_never_touched() {
    for kind in [None, Some("dummy"), Some("vxlan"), Some("tun")] {
        let mut observed = right_ipip();
        observed.link.as_mut().unwrap().kind = kind.map(str::to_owned);
        let plan = prepare(&ipip(), Carrier::Kernel, &observed);
        assert_eq!(plan.ops, []);
        assert!(matches!(&plan.problems[..], [Problem::OtherKind { .. }]));
        observed.addresses.push(net("10.9.9.9/32"));
        assert_eq!(swept(&ipip(), &observed), []);
    }
    let mut observed = right();
    observed.link.as_mut().unwrap().kind = Some("dummy".to_owned());
    assert_eq!(retire(&observed), []);
}

#[test]
fn without_its_interface_nothing_is_made_and_nothing_destroyed() {
    let mut missing = right();
    missing.parent = None;
    let mut wrong = with_settings(|s| s.vni = 1);
    wrong.parent = None;
    for observed in [Observed::default(), missing, wrong] {
        let plan = prepare(&vxlan(), Carrier::Kernel, &observed);
        assert_eq!(plan.ops, []);
        assert!(matches!(&plan.problems[..], [Problem::NoParent { .. }]));
    }
}

#[test]
fn of_two_nodes_with_one_hardware_address_the_first_is_reached() {
    let mut tunnel = vxlan();
    let Encapsulation::Vxlan(wanted) = &mut tunnel.encapsulation else {
        unreachable!();
    };
    let second = Remote {
        mac: FAR,
        node: addr("192.0.2.10"),
    };
    wanted.remotes.insert(addr("10.244.9.2"), second);
    let plan = prepare(&tunnel, Carrier::Kernel, &right());
    assert_eq!(
        plan.problems,
        [Problem::SharedMac {
            first: addr("192.0.2.9"),
            second: addr("192.0.2.10"),
        }]
    );
    assert_eq!(plan.ops, [Op::SetNeighbour(addr("10.244.9.2"), FAR)]);
}

#[test]
fn a_device_in_user_space_gets_address_mtu_and_state_only() {
    let mut observed = right_ipip();
    let link = observed.link.as_mut().unwrap();
    (link.kind, link.tunnel) = (Some("tun".to_owned()), None);
    assert_eq!(prepare(&ipip(), Carrier::User, &observed).ops, []);
    assert_eq!(retire(&observed), [Op::Delete]);
    let link = observed.link.as_mut().unwrap();
    (link.mtu, link.admin_up, link.alias) = (1500, false, None);
    assert_eq!(retire(&observed), [], "somebody else's");
    observed.addresses.clear();
    assert_eq!(
        prepare(&ipip(), Carrier::User, &observed).ops,
        [
            Op::SetUp(true),
            Op::Mark(true),
            Op::SetMtu(1480),
            Op::AddAddress(net("10.244.1.0/32")),
        ]
    );
    let plan = prepare(&ipip(), Carrier::User, &Observed::default());
    assert!(matches!(&plan.problems[..], [Problem::User(_)]));
    assert_eq!(plan.ops, []);
}

#[test]
fn tunl0_is_emptied_and_set_down_only_if_it_was_ours() {
    let mut observed = right_ipip();
    assert_eq!(
        retire(&observed),
        [
            Op::RemoveAddress(net("10.244.1.0/32")),
            Op::SetUp(false),
            Op::Mark(false),
        ]
    );
    observed.link.as_mut().unwrap().alias = None;
    assert_eq!(retire(&observed), []);
    assert_eq!(retire(&right()), [Op::Delete]);
    assert_eq!(retire(&Observed::default()), []);
}

#[test]
fn vxlan_in_user_space_gets_neighbours_and_no_forwarding() {
    let mut observed = right();
    (observed.neighbours, observed.forwarding) = (Vec::new(), Vec::new());
    let link = observed.link.as_mut().unwrap();
    (link.kind, link.tunnel) = (Some("tun".to_owned()), None);
    let neighbour = Op::SetNeighbour(addr("10.244.9.1"), FAR);
    assert_eq!(prepare(&vxlan(), Carrier::User, &observed).ops, [neighbour]);
    let mut alone = vxlan();
    let Encapsulation::Vxlan(wanted) = &mut alone.encapsulation else {
        panic!("vxlan() is VXLAN");
    };
    wanted.remotes.clear();
    observed.neighbours = right().neighbours;
    let gone = Op::RemoveNeighbour(addr("10.244.9.1"));
    assert_eq!(sweep(&alone, Carrier::User, &observed).ops, [gone]);
}
