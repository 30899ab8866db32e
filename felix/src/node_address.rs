//! Which addresses of this host are those of the node.
//!
//! Calico's annotations on the Node say it, with the length of the subnet.
//! Where there is none, the InternalIP of the Node does, the length comes from the interface
//! that has the address, and the annotation is written, because every other node reads it there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crds::Kind;
use crds::core::Node;
use crds::names::annotation;
use datastore::{Datastore, Event, Key, Typed, Watch};
use felix_calc::Problem;
use ipnet::IpNet;
use netlink::{AddressFilter, Socket};

use crate::board::{Board, NodeView};

/// How soon to look again while something is wrong, and when nothing is.
const RETRY: Duration = Duration::from_secs(5);
const REFRESH: Duration = Duration::from_secs(600);

const FAMILIES: [&str; 2] = [annotation::NODE_IPV4_ADDRESS, annotation::NODE_IPV6_ADDRESS];

/// An address of the host and where it is.
struct HostAddress {
    net: IpNet,
    mtu: u32,
}

/// Keeps the annotations of the Node and the board up to date.
///
/// # Errors
/// None: what is wrong stands on the board, and is tried again.
pub async fn run(store: Arc<dyn Datastore>, node: String, board: Arc<Board>) -> Result<()> {
    let key = Key::cluster(Kind::Node, &node);
    let mut watch = None;
    loop {
        if watch.is_none() {
            watch = store.watch(Kind::Node).await.ok();
        }
        let pause = if board.node.borrow().known {
            REFRESH
        } else {
            RETRY
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed(&mut watch, &key) => {}
        }
        update(&*store, &node, &board).await;
    }
}

/// Returns when this Node is new, changed or gone; without a watch never.
async fn changed(watch: &mut Option<Watch>, node: &Key) {
    while let Some(events) = watch {
        match events.next().await {
            Some(Event::Upsert(object)) if object.key == *node => return,
            Some(Event::Delete(key)) if key == *node => return,
            Some(_) => {}
            None => *watch = None,
        }
    }
    std::future::pending().await
}

/// Looks once; done before the watches start, so that the first thing they see of this node is
/// complete.
pub async fn update(store: &dyn Datastore, node: &str, board: &Board) {
    let view = match look(store, node).await {
        Ok(mtu) => NodeView {
            known: true,
            problem: None,
            mtu,
        },
        Err(problem) => {
            let mtu = board.node.borrow().mtu;
            NodeView {
                known: false,
                problem: Some(problem),
                mtu,
            }
        }
    };
    board.node.send_if_modified(|before| {
        let changed = *before != view;
        if let Some(problem) = view.problem.as_ref().filter(|_| changed) {
            tracing::warn!(%problem, "node address");
        }
        *before = view;
        changed
    });
}

/// Returns the MTU of the interface with the node's address.
async fn look(store: &dyn Datastore, name: &str) -> Result<u32, Problem> {
    let problem = |field: &str, problem: String, remedy: &str| Problem {
        object: format!("Node/{name}"),
        field: field.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let key = Key::cluster(Kind::Node, name);
    let object = store.get(&key).await.map_err(|error| {
        let remedy = "create the Node object, or name the right one with --node-name";
        problem(
            "",
            format!("the object of this node cannot be read: {error}"),
            remedy,
        )
    })?;
    let node: Typed<Node> = Typed::from_object(object)
        .map_err(|error| problem("", error.to_string(), "mend the Node object"))?;
    let host = host_addresses()
        .map_err(|error| problem("", error.to_string(), "check the rights of the agent"))?;
    let mut missing = BTreeMap::new();
    let mut found = Vec::new();
    for family in FAMILIES {
        match choose(&node.resource, family) {
            Chosen::Annotated(address) => found.push(address),
            Chosen::Internal(address) => {
                found.push(address);
                if let Some(on_host) = host.iter().find(|h| h.net.addr() == address) {
                    missing.insert(family.to_owned(), Some(on_host.net.to_string()));
                }
            }
            Chosen::Nothing => {}
        }
    }
    if !missing.is_empty() {
        tracing::info!(?missing, "address of this node found");
        store
            .patch_annotations(&key, missing)
            .await
            .map_err(|error| {
                let what = format!("the address of this node cannot be written: {error}");
                problem(
                    "metadata.annotations",
                    what,
                    "let the agent change its Node",
                )
            })?;
    }
    let Some(first) = found.first() else {
        let what = "this node has no address: no annotation, and no InternalIP in its status";
        let remedy = "annotate it with projectcalico.org/IPv4Address: <address>/<length>";
        return Err(problem("metadata.annotations", what.to_owned(), remedy));
    };
    for address in &found {
        if !host.iter().any(|h| h.net.addr() == *address) {
            let what = format!("no interface of this host has the address {address} of the node");
            let remedy = "correct the annotation, or name the right Node with --node-name";
            return Err(problem("metadata.annotations", what, remedy));
        }
    }
    Ok(host
        .iter()
        .find(|h| h.net.addr() == *first)
        .map_or(0, |h| h.mtu))
}

enum Chosen {
    Annotated(IpAddr),
    Internal(IpAddr),
    Nothing,
}

/// An annotation that cannot be read counts as none here; the calculation reports it.
fn choose(node: &Node, family: &str) -> Chosen {
    let annotations = node.metadata.annotations.as_ref();
    let annotated = annotations
        .and_then(|a| a.get(family))
        .filter(|text| !text.is_empty());
    if let Some(text) = annotated {
        let address = text
            .split('/')
            .next()
            .and_then(|address| address.parse().ok());
        return address.map_or(Chosen::Nothing, Chosen::Annotated);
    }
    let v4 = family == annotation::NODE_IPV4_ADDRESS;
    let addresses = node
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_ref());
    addresses
        .into_iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse::<IpAddr>().ok())
        .find(|address| address.is_ipv4() == v4)
        .map_or(Chosen::Nothing, Chosen::Internal)
}

fn host_addresses() -> Result<Vec<HostAddress>, netlink::Error> {
    let mut socket = Socket::open()?;
    let links = socket.links()?;
    let mtu: BTreeMap<u32, u32> = links.iter().map(|link| (link.index, link.mtu)).collect();
    let addresses = socket.addresses(&AddressFilter::default())?;
    let known = addresses.into_iter().filter_map(|address| {
        Some(HostAddress {
            net: address.net,
            mtu: *mtu.get(&address.index)?,
        })
    });
    Ok(known.collect())
}
