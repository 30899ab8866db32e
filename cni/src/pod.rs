//! The pod end of the veth: addresses, routes and sysctls in the pod's namespace.
//!
//! IPv4: the address has no neighbours on its link; everything goes through 169.254.1.1, which
//! no interface has. Calico relies on the host's proxy ARP to answer for it, and the kernel does
//! so only while the host has another route that covers it, usually its default route.
//! A permanent neighbour entry takes that condition away.
//! IPv6: the gateway is the host end's link-local address.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use felix_api::cni::{GATEWAY_V4, GATEWAY_V6, HOST_MAC, code};
use ipnet::IpNet;
use netlink::netns::NetNs;
use netlink::{
    AddressFilter, AddressOptions, Family, Link, LinkChange, Nexthop, Route, RouteFilter, Scope,
    Socket, TABLE_MAIN,
};

use crate::conf::is_v4;
use crate::error::Error;
use crate::plan::{Mac, Plan, mac_text};
use crate::sysctl;

/// Routes made while an interface is set up (`RTPROT_BOOT`), as Calico has them.
const PROTOCOL_BOOT: u8 = 3;

/// The namespace at `path`.
///
/// # Errors
/// Code 3 when there is nothing, 4 when it is something else or the host's own namespace.
pub(crate) fn open(path: &Path) -> Result<NetNs, Error> {
    let invalid = |problem: &str| {
        Error::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_NETNS {}: {problem}", path.display()),
        )
    };
    let netns = NetNs::open(path).map_err(|error| match &error {
        netlink::Error::System { source, .. } if source.kind() == ErrorKind::NotFound => {
            Error::new(code::UNKNOWN_CONTAINER, format!("CNI_NETNS: {error}"))
                .with_details("the container's network namespace is gone")
        }
        _ => invalid(&error.to_string()),
    })?;
    if is_own(path) {
        return Err(invalid("this is the network namespace of the host")
            .with_details("pods with hostNetwork need no CNI plugin"));
    }
    netns
        .run(|| ())
        .map_err(|_| invalid("this is not a network namespace"))?;
    Ok(netns)
}

/// Whether `path` is the namespace this process is in.
fn is_own(path: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|data| (data.dev(), data.ino())).ok();
    identity(path) == identity(Path::new("/proc/self/ns/net"))
}

/// Runs `work` in the pod's namespace, with a netlink socket there.
fn inside<T: Send>(
    netns: &NetNs,
    work: impl FnOnce(&mut Socket) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let open = |error| Error::kernel("working in the pod's network namespace", error);
    netns
        .run(|| work(&mut Socket::open().map_err(open)?))
        .map_err(open)?
}

/// Makes the pod end ready and returns its MAC address; the address is what comes last.
pub(crate) fn configure(netns: &NetNs, plan: &Plan) -> Result<Mac, Error> {
    inside(netns, |socket| {
        set_sysctls(plan)?;
        let kernel =
            |error| Error::kernel(format!("setting up pod interface {}", plan.ifname), error);
        let link = find(socket, &plan.ifname)?.ok_or_else(|| {
            Error::kernel(
                format!("setting up pod interface {}", plan.ifname),
                "it is gone again",
            )
        })?;
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        socket.set_link(link.index, &up).map_err(kernel)?;
        if plan.ipv4() {
            socket
                .set_neighbour(link.index, GATEWAY_V4.into(), HOST_MAC)
                .map_err(kernel)?;
        }
        for route in routes(plan, link.index) {
            socket.add_route(&route).map_err(kernel)?;
        }
        for net in &plan.addresses {
            let options = AddressOptions {
                no_dad: true,
                ..AddressOptions::default()
            };
            socket
                .add_address(link.index, *net, options)
                .map_err(kernel)?;
        }
        link.mac.ok_or_else(|| {
            Error::kernel(
                format!("setting up pod interface {}", plan.ifname),
                "it has no MAC",
            )
        })
    })
}

/// The MAC address of a pod end that is complete.
pub(crate) fn mac(netns: &NetNs, plan: &Plan) -> Result<Mac, Error> {
    inside(netns, |socket| {
        find(socket, &plan.ifname)?
            .and_then(|link| link.mac)
            .ok_or_else(|| {
                Error::kernel(
                    format!("looking up pod interface {}", plan.ifname),
                    "it is gone again",
                )
            })
    })
}

fn set_sysctls(plan: &Plan) -> Result<(), Error> {
    let forwarding = if plan.forwarding { "1" } else { "0" };
    if plan.ipv4() {
        sysctl::set("ipv4/ip_forward", forwarding)?;
    }
    if plan.ipv6() {
        // Runtimes and nodes turn IPv6 off by default in new namespaces.
        for scope in ["all", "default", "lo", &plan.ifname] {
            sysctl::set(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        }
        // Duplicate address detection would keep the pod silent for a second.
        sysctl::set_if_present(&format!("ipv6/conf/{}/accept_dad", plan.ifname), "0")?;
        sysctl::set("ipv6/conf/all/forwarding", forwarding)?;
    }
    Ok(())
}

/// The routes of the pod in the order they are made: gateway first.
fn routes(plan: &Plan, device: u32) -> Vec<Route> {
    let out = |via| Nexthop {
        via,
        device: Some(device),
        ..Nexthop::default()
    };
    let mut routes = Vec::new();
    if plan.ipv4() {
        let mut gateway = Route::new(IpNet::from(IpAddr::V4(GATEWAY_V4)), PROTOCOL_BOOT);
        gateway.scope = Scope::Link;
        gateway.nexthops = vec![out(None)];
        routes.push(gateway);
    }
    routes.extend(plan.destinations.iter().map(|destination| {
        let mut route = Route::new(*destination, PROTOCOL_BOOT);
        route.nexthops = vec![out(Some(gateway(destination)))];
        route
    }));
    routes
}

/// The gateway of the pod for the family of `net`.
pub(crate) fn gateway(net: &IpNet) -> IpAddr {
    if is_v4(net) {
        GATEWAY_V4.into()
    } else {
        GATEWAY_V6.into()
    }
}

/// How the pod end differs from the plan, a sentence each; `host_index` is its peer.
pub(crate) fn deviations(
    netns: &NetNs,
    plan: &Plan,
    host_index: u32,
) -> Result<Vec<String>, Error> {
    inside(netns, |socket| {
        let name = &plan.ifname;
        let Some(link) = find(socket, name)? else {
            return Ok(vec![format!("pod interface {name} does not exist")]);
        };
        let mut found = link_deviations(&link, plan, host_index);
        found.extend(missing_addresses(socket, plan, link.index)?);
        found.extend(missing_routes(socket, plan, link.index)?);
        Ok(found)
    })
}

fn link_deviations(link: &Link, plan: &Plan, host_index: u32) -> Vec<String> {
    let name = &link.name;
    let mut found = Vec::new();
    if link.kind.as_deref() != Some("veth") || link.peer_index != Some(host_index) {
        let host = &plan.host_interface;
        found.push(format!(
            "pod interface {name} is not the other end of {host}"
        ));
    }
    if !link.admin_up {
        found.push(format!("pod interface {name} is down"));
    }
    if link.mtu != plan.mtu {
        found.push(format!(
            "pod interface {name} has MTU {} instead of {}",
            link.mtu, plan.mtu
        ));
    }
    if let Some(expected) = plan.pod_mac.filter(|mac| link.mac != Some(*mac)) {
        let mac = link.mac.map_or("none".to_owned(), mac_text);
        let expected = mac_text(expected);
        found.push(format!(
            "pod interface {name} has MAC {mac} instead of {expected}"
        ));
    }
    found
}

fn missing_addresses(socket: &mut Socket, plan: &Plan, index: u32) -> Result<Vec<String>, Error> {
    let filter = AddressFilter {
        index: Some(index),
        ..AddressFilter::default()
    };
    let addresses = socket
        .addresses(&filter)
        .map_err(|error| Error::kernel(format!("listing addresses of {}", plan.ifname), error))?;
    let has = |net: &IpNet| addresses.iter().any(|address| address.net == *net);
    let missing = plan.addresses.iter().filter(|net| !has(net));
    Ok(missing
        .map(|net| format!("pod interface {} lacks address {net}", plan.ifname))
        .collect())
}

fn missing_routes(socket: &mut Socket, plan: &Plan, index: u32) -> Result<Vec<String>, Error> {
    let mut present = Vec::new();
    for (family, wanted) in [(Family::V4, plan.ipv4()), (Family::V6, plan.ipv6())] {
        if wanted {
            let filter = RouteFilter {
                family: Some(family),
                table: Some(TABLE_MAIN),
                device: Some(index),
                ..RouteFilter::default()
            };
            present.extend(
                socket
                    .routes(&filter)
                    .map_err(|error| Error::kernel("listing the pod's routes", error))?,
            );
        }
    }
    let has = |wanted: &Route| {
        let ways = |route: &Route| -> Vec<(Option<IpAddr>, Option<u32>)> {
            route
                .nexthops
                .iter()
                .map(|nexthop| (nexthop.via, nexthop.device))
                .collect()
        };
        present
            .iter()
            .any(|route| route.destination == wanted.destination && ways(route) == ways(wanted))
    };
    let missing = routes(plan, index).into_iter().filter(|route| !has(route));
    Ok(missing
        .map(|route| describe(&route, &plan.ifname))
        .collect())
}

fn describe(route: &Route, ifname: &str) -> String {
    match route.nexthops.first().and_then(|nexthop| nexthop.via) {
        Some(via) => format!(
            "the pod lacks route {} via {via} dev {ifname}",
            route.destination
        ),
        None => format!("the pod lacks route {} dev {ifname}", route.destination),
    }
}

/// Removes interface `ifname` from the pod, if it is a veth whose host end is not `foreign`.
///
/// What is there but is not a veth was made by another plugin.
pub(crate) fn remove(
    netns: &NetNs,
    ifname: &str,
    foreign: impl Fn(u32) -> bool + Send,
) -> Result<(), Error> {
    inside(netns, |socket| {
        let Some(link) = find(socket, ifname)? else {
            return Ok(());
        };
        if link.kind.as_deref() != Some("veth") || link.peer_index.is_some_and(foreign) {
            return Ok(());
        }
        netlink::ignore_not_found(socket.delete_link(link.index))
            .map_err(|error| Error::kernel(format!("removing pod interface {ifname}"), error))
    })
}

fn find(socket: &mut Socket, ifname: &str) -> Result<Option<Link>, Error> {
    socket
        .link(ifname)
        .map_err(|error| Error::kernel(format!("looking up pod interface {ifname}"), error))
}
