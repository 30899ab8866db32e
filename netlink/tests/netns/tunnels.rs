//! Tunnel devices, forwarding entries, offloads.

use netlink::monitor::{Event, Group, Monitor};
use netlink::{Error, Forwarding, Offload, Socket, Tunnel, TunnelKind, Vxlan};

use crate::lab::{addr, card, in_netns, ip, ip_json, run};
use crate::monitor::wait_for;

const MAC: [u8; 6] = [0x66, 0, 0, 0, 0, 1];
const FAR: [u8; 6] = [0x66, 0, 0, 0, 0, 9];

fn vxlan(parent: u32) -> Vxlan {
    Vxlan {
        vni: 4096,
        port: 4789,
        local: Some(addr("192.0.2.1")),
        parent: Some(parent),
        ..Vxlan::default()
    }
}

#[test]
fn a_vxlan_device_is_made_read_and_changed() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        let wanted = vxlan(eth0);
        socket.create_vxlan("vx", MAC, &wanted).unwrap();
        let link = socket.link("vx").unwrap().unwrap();
        assert_eq!(link.tunnel, Some(Tunnel::Vxlan(wanted)));
        assert!(link.admin_up);
        let seen = &ip_json("-d link show vx")[0];
        assert_eq!(seen["linkinfo"]["info_data"]["id"], 4096);
        assert_eq!(seen["address"], "66:00:00:00:00:01");

        let again = socket.create_vxlan("vx", MAC, &wanted);
        assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
        let twin = socket.create_vxlan("vx2", MAC, &wanted);
        assert!(matches!(twin, Err(Error::Exists(_))), "{twin:?}");

        let local = Some(addr("192.0.2.7"));
        let moved = Vxlan { local, ..wanted };
        socket.change_vxlan(link.index, &moved).unwrap();
        let seen = &ip_json("-d link show vx")[0];
        assert_eq!(seen["linkinfo"]["info_data"]["local"], "192.0.2.7");
        let other = socket.change_vxlan(link.index, &Vxlan { vni: 7, ..moved });
        assert!(matches!(other, Err(Error::Unsupported(_))), "{other:?}");
    });
}

#[test]
fn devices_of_other_programs_are_read() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        ip("link add six type vxlan id 5 dstport 8472 local 2001:db8::1 remote 2001:db8::2");
        ip("link add meta type vxlan external dstport 4790");
        let settings =
            |socket: &mut Socket, name: &str| match socket.link(name).unwrap().unwrap().tunnel {
                Some(Tunnel::Vxlan(settings)) => settings,
                other => panic!("{other:?}"),
            };
        let six = settings(&mut socket, "six");
        assert_eq!((six.vni, six.port, six.learning), (5, 8472, true));
        assert_eq!(six.local, Some(addr("2001:db8::1")));
        assert_eq!(six.group, Some(addr("2001:db8::2")));
        assert!(settings(&mut socket, "meta").external);
    });
}

#[test]
fn forwarding_entries_are_set_listed_watched_and_removed() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let eth0 = card(&mut socket, "eth0", "192.0.2.1/24");
        socket.create_vxlan("vx", MAC, &vxlan(eth0)).unwrap();
        let index = socket.link("vx").unwrap().unwrap().index;
        let mut monitor = Monitor::open(&[Group::Neighbours]).unwrap();
        let entry = |node: &str| Forwarding {
            index,
            mac: FAR,
            node: Some(addr(node)),
            permanent: true,
        };
        socket.set_forwarding(&entry("192.0.2.9")).unwrap();
        assert_eq!(socket.forwarding(index).unwrap(), [entry("192.0.2.9")]);
        socket.set_forwarding(&entry("192.0.2.8")).unwrap();
        let text = run("bridge", "fdb show dev vx");
        assert!(
            text.contains("66:00:00:00:00:09 dst 192.0.2.8 self permanent"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");

        run("bridge", "fdb del 66:00:00:00:00:09 dev vx dst 192.0.2.8");
        run("bridge", "fdb add 66:00:00:00:00:0a dev vx dst 192.0.2.7");
        let added = |event: &Event| matches!(event, Event::Forwarding(e) if e.mac[5] == 0x0a && e.node == Some(addr("192.0.2.7")));
        let seen = wait_for(&mut monitor, added);
        assert!(
            seen.contains(&Event::ForwardingGone(entry("192.0.2.8"))),
            "{seen:?}"
        );
        let missing = socket.delete_forwarding(&entry("192.0.2.9"));
        assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    });
}

#[test]
fn a_kind_that_the_kernel_lacks_is_an_error_of_its_own() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        assert!(socket.can_make(TunnelKind::Vxlan).unwrap());
        match socket.can_make(TunnelKind::Ipip).unwrap() {
            true => assert!(socket.link("tunl0").is_ok()),
            false => {
                let made = socket.create_ipip("tunl0");
                assert!(matches!(made, Err(Error::Unsupported(_))), "{made:?}");
            }
        }
    });
}

#[test]
fn offloads_are_read_and_switched() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        card(&mut socket, "eth0", "192.0.2.1/24");
        for offload in [
            Offload::TransmitChecksum,
            Offload::ReceiveJoin,
            Offload::SendSplit,
        ] {
            for on in [true, false, true] {
                offload.set("eth0", on).unwrap();
                assert_eq!(offload.is_on("eth0").unwrap(), on, "{offload:?}");
            }
        }
        assert!(Offload::TransmitChecksum.is_on("eth7").is_err());
        assert!(
            Offload::TransmitChecksum
                .is_on("a-name-that-is-too-long")
                .is_err()
        );
    });
}
