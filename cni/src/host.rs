//! The host end of the veth: create, recognise, compare, remove.
//!
//! Sysctls beyond IPv6 and all host routes belong to the agent, which also restores them.

use std::os::fd::AsFd;

use felix_api::cni::{GATEWAY_V6, code, parse_alias};
use ipnet::IpNet;
use netlink::netns::NetNs;
use netlink::{AddressFilter, AddressOptions, Link, LinkChange, Socket, Veth, ignore_not_found};

use crate::error::Error;
use crate::plan::{Plan, mac_text};
use crate::pod;
use crate::sysctl;

/// A netlink socket in the host's namespace.
pub(crate) fn socket() -> Result<Socket, Error> {
    Socket::open().map_err(|error| Error::kernel("opening a netlink socket", error))
}

/// The host end if the attachment is complete on both sides; otherwise nothing is left of it,
/// nor of an older attachment that has its host interface name.
pub(crate) fn keep_or_clear(
    socket: &mut Socket,
    netns: &NetNs,
    plan: &Plan,
) -> Result<Option<Link>, Error> {
    let mut complete = None;
    for link in links(socket)? {
        let named = link.name == plan.host_interface;
        let marked = link.alias.as_deref() == Some(&plan.alias);
        if named && marked && is_complete(socket, netns, plan, &link)? {
            complete = Some(link);
        } else if let Some(ifname) = other_interface(&link, &plan.alias).filter(|_| named) {
            return Err(Error::new(
                code::UNSUPPORTED_FIELD,
                format!(
                    "the container has interface {ifname} of host interface {} already",
                    link.name
                ),
            )
            .with_details("a pod has one interface of this plugin"));
        } else if named && link.kind.as_deref() != Some("veth") {
            return Err(Error::new(
                code::KERNEL,
                format!("host interface {} exists and is not a veth", link.name),
            )
            .with_details("it was not made by this plugin: rename or remove it"));
        } else if named || marked {
            delete(socket, &link)?;
        }
    }
    Ok(complete)
}

fn is_complete(
    socket: &mut Socket,
    netns: &NetNs,
    plan: &Plan,
    link: &Link,
) -> Result<bool, Error> {
    Ok(deviations(socket, plan, link)?.is_empty()
        && pod::deviations(netns, plan, link.index)?.is_empty())
}

/// Creates the pair with the pod end in `netns`, and makes the host end ready.
///
/// # Errors
/// When the pair is there already it stays; after any other error it is gone again.
pub(crate) fn create(socket: &mut Socket, netns: &NetNs, plan: &Plan) -> Result<Link, Error> {
    let veth = Veth {
        name: plan.host_interface.clone(),
        mac: plan.host_mac,
        mtu: plan.mtu,
        alias: Some(plan.alias.clone()),
        up: false,
        peer_name: plan.ifname.clone(),
        peer_mac: plan.pod_mac,
        peer_netns: Some(netns.as_fd()),
    };
    let created = match socket.create_veth(&veth) {
        Err(error @ netlink::Error::Exists(_)) => {
            return Err(
                Error::kernel("creating the veth", error).with_details(format!(
                    "either {} on the host or {} in the pod exists already",
                    plan.host_interface, plan.ifname
                )),
            );
        }
        other => other.map_err(|error| Error::kernel("creating the veth", error)),
    };
    let ready = created.and_then(|()| make_ready(socket, plan));
    if ready.is_err()
        && let Ok(Some(link)) = socket.link(&plan.host_interface)
    {
        delete(socket, &link)?;
    }
    ready
}

fn make_ready(socket: &mut Socket, plan: &Plan) -> Result<Link, Error> {
    let name = &plan.host_interface;
    let kernel = |error| Error::kernel(format!("setting up host interface {name}"), error);
    let link = socket.link(name).map_err(kernel)?.ok_or_else(|| {
        Error::kernel(
            format!("setting up host interface {name}"),
            "it is gone again",
        )
    })?;
    if plan.ipv6() {
        // Duplicate address detection would keep the pod's gateway silent for a second.
        sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
        sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    socket.set_link(link.index, &up).map_err(kernel)?;
    if plan.ipv6() {
        // The kernel makes this address itself, unless addr_gen_mode says otherwise.
        let options = AddressOptions {
            no_dad: true,
            replace: true,
            ..AddressOptions::default()
        };
        socket
            .add_address(link.index, gateway_v6(), options)
            .map_err(kernel)?;
    }
    Ok(link)
}

/// How the host end differs from the plan, a sentence each.
pub(crate) fn deviations(
    socket: &mut Socket,
    plan: &Plan,
    link: &Link,
) -> Result<Vec<String>, Error> {
    let name = &link.name;
    let mut found = Vec::new();
    if link.kind.as_deref() != Some("veth") {
        found.push(format!("host interface {name} is not a veth"));
    }
    if link.alias.as_deref() != Some(&plan.alias) {
        let alias = link.alias.as_deref().unwrap_or_default();
        found.push(format!(
            "host interface {name} has alias {alias:?} instead of {:?}",
            plan.alias
        ));
    }
    if !link.admin_up {
        found.push(format!("host interface {name} is down"));
    }
    if link.mac != Some(plan.host_mac) {
        let mac = link.mac.map_or("none".to_owned(), mac_text);
        let expected = mac_text(plan.host_mac);
        found.push(format!(
            "host interface {name} has MAC {mac} instead of {expected}"
        ));
    }
    if link.mtu != plan.mtu {
        found.push(format!(
            "host interface {name} has MTU {} instead of {}",
            link.mtu, plan.mtu
        ));
    }
    if plan.ipv6() {
        let filter = AddressFilter {
            index: Some(link.index),
            ..AddressFilter::default()
        };
        let addresses = socket
            .addresses(&filter)
            .map_err(|error| Error::kernel(format!("listing addresses of {name}"), error))?;
        if !addresses.iter().any(|address| address.net == gateway_v6()) {
            found.push(format!(
                "host interface {name} lacks the pod's gateway {GATEWAY_V6}"
            ));
        }
    }
    Ok(found)
}

/// Removes every host interface with this alias.
pub(crate) fn remove_marked(socket: &mut Socket, alias: &str) -> Result<(), Error> {
    for link in links(socket)?
        .iter()
        .filter(|link| link.alias.as_deref() == Some(alias))
    {
        delete(socket, link)?;
    }
    Ok(())
}

/// All interfaces of the host.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    socket
        .links()
        .map_err(|error| Error::kernel("listing interfaces", error))
}

/// Removes `link` and with it the pod end; one that is gone is fine.
pub(crate) fn delete(socket: &mut Socket, link: &Link) -> Result<(), Error> {
    ignore_not_found(socket.delete_link(link.index))
        .map_err(|error| Error::kernel(format!("removing host interface {}", link.name), error))
}

/// Whether this is an interface of an attachment other than that of `alias`.
pub(crate) fn belongs_to_another(link: &Link, alias: &str) -> bool {
    link.alias
        .as_deref()
        .is_some_and(|found| found != alias && parse_alias(found).is_some())
}

/// The pod's interface name if `link` is of the container of `alias`, but of another interface.
fn other_interface(link: &Link, alias: &str) -> Option<String> {
    let (found, ours) = (parse_alias(link.alias.as_deref()?)?, parse_alias(alias)?);
    (found.container_id == ours.container_id && found.ifname != ours.ifname).then_some(found.ifname)
}

fn gateway_v6() -> IpNet {
    IpNet::new_assert(GATEWAY_V6.into(), 64)
}
