//! Which addresses of this host are those of the node.
//!
//! Calico's annotations on the Node say it to every other node, with the length of the subnet.
//! `detect` decides what they shall say; here the Node, the other nodes and the interfaces are
//! followed, and the annotations are written. Who has this Node at hand also says what else it
//! tells the agent: that the node shall leave, and what stands in NetworkUnavailable.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crds::Kind;
use crds::core::{Node, ObjectMeta, internal_addresses};
use crds::names::annotation;
use datastore::{Datastore, Event, Key, Object, Typed, Watch};
use felix_calc::{Interface, Problem};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::board::{Board, HostView, NodeView};
use crate::drain;
use crate::network_unavailable::Stands;
use detect::{Decision, Facts, Trouble, Wish, address_of, decide};

pub mod detect;
#[cfg(test)]
mod tests;

/// How soon to look again while something is wrong, and when nothing is.
const RETRY: Duration = Duration::from_secs(5);
const REFRESH: Duration = Duration::from_secs(600);
/// How soon to look again where the routes of others decide.
const ROUTES_REFRESH: Duration = Duration::from_secs(60);
/// How long the first look waits for the interfaces, and a name for its address.
const LISTING: Duration = Duration::from_secs(10);
const LOOKUP: Duration = Duration::from_secs(2);
/// Any port: nothing is sent.
const DISCARD: u16 = 9;

/// What the agent is told of its addresses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the Node object of this host.
    pub node: String,
    /// What is asked for in each family.
    pub ipv4: Wish,
    /// As `ipv4`.
    pub ipv6: Wish,
}

/// Keeps the address annotations of one Node, and the board, up to date.
pub struct Keeper {
    store: Arc<dyn Datastore>,
    settings: Settings,
    board: Arc<Board>,
    host: watch::Receiver<HostView>,
    nodes: Option<Watch>,
    /// Addresses of the other nodes.
    others: BTreeMap<String, Vec<IpAddr>>,
    /// This Node as it was last read.
    node: Option<Node>,
    /// It has changed since, or may have.
    stale: bool,
    /// Since when no interface has the annotated address, by family.
    missing_since: [Option<Instant>; 2],
    began: Instant,
}

/// A family and what belongs to it.
struct Family {
    position: usize,
    is_ipv6: bool,
    annotation: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        position: 0,
        is_ipv6: false,
        annotation: annotation::NODE_IPV4_ADDRESS,
    },
    Family {
        position: 1,
        is_ipv6: true,
        annotation: annotation::NODE_IPV6_ADDRESS,
    },
];

/// What became of a look.
#[derive(Default)]
struct Look {
    addresses: Vec<IpAddr>,
    troubles: Vec<Trouble>,
    changes: BTreeMap<String, Option<String>>,
}

impl Keeper {
    /// A keeper that has looked at nothing yet.
    pub fn new(store: Arc<dyn Datastore>, settings: Settings, board: Arc<Board>) -> Keeper {
        Keeper {
            store,
            settings,
            host: board.host.subscribe(),
            board,
            nodes: None,
            others: BTreeMap::new(),
            node: None,
            stale: true,
            missing_since: [None; 2],
            began: Instant::now(),
        }
    }

    /// Keeps them for ever, and says when it has looked once: what others see of this node first
    /// shall be complete.
    ///
    /// # Errors
    /// None: what is wrong stands on the board, and is tried again.
    pub async fn run(mut self, looked: watch::Sender<bool>) -> Result<()> {
        let listed = self.host.wait_for(|host| host.listed);
        if timeout(LISTING, listed).await.is_err() {
            tracing::warn!("the interfaces of this host are not listed yet");
        }
        loop {
            self.follow().await;
            self.look().await;
            looked.send_replace(true);
            let pause = self.pause();
            tokio::select! {
                () = tokio::time::sleep(pause) => self.stale = true,
                () = news(&mut self.nodes, &self.settings.node, &mut self.others, &mut self.stale) => {}
                Ok(()) = self.host.changed() => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        let reaches = |wish: &Wish| matches!(wish, Wish::Detected(m) if m.destination().is_some());
        if self.nodes.is_none() || !self.board.node.borrow().known {
            RETRY
        } else if reaches(&self.settings.ipv4) || reaches(&self.settings.ipv6) {
            ROUTES_REFRESH
        } else {
            REFRESH
        }
    }

    /// Follows the Nodes, from what there is at the moment on.
    async fn follow(&mut self) {
        if self.nodes.is_some() {
            return;
        }
        let Ok(mut nodes) = self.store.watch(Kind::Node).await else {
            return;
        };
        self.others.clear();
        loop {
            match nodes.next().await {
                Some(Event::InSync) => break,
                Some(event) => {
                    note(
                        event,
                        &self.settings.node,
                        &mut self.others,
                        &mut self.stale,
                    );
                }
                None => return,
            }
        }
        self.stale = true;
        self.nodes = Some(nodes);
    }

    /// Reads what is not known, decides, writes and tells.
    async fn look(&mut self) {
        let view = match self.try_look().await {
            Ok(view) => view,
            Err(problem) => NodeView {
                problem: Some(problem),
                reason: "Unknown",
                mtu: self.board.node.borrow().mtu,
                ..NodeView::default()
            },
        };
        let view = NodeView {
            is_read: self.node.is_some(),
            drain: self.node.as_ref().and_then(drain::cause),
            network_unavailable: self.node.as_ref().and_then(Stands::on),
            borrowed: self.annotation(annotation::NODE_BORROWED),
            ..view
        };
        self.board.node.send_if_modified(|before| {
            let changed = *before != view;
            if let Some(problem) = view.problem.as_ref().filter(|_| changed) {
                tracing::warn!(%problem, "node address");
            }
            *before = view;
            changed
        });
    }

    /// What an annotation of this Node says, nothing included.
    fn annotation(&self, name: &str) -> Option<String> {
        let annotations = self.node.as_ref()?.metadata.annotations.as_ref()?;
        annotations.get(name).cloned()
    }

    async fn try_look(&mut self) -> Result<NodeView, Problem> {
        self.read().await?;
        let host = self.host.borrow_and_update().clone();
        if !host.listed {
            let what = "the interfaces of this host are not listed yet".to_owned();
            return Err(self.problem("", what, "check the rights of the agent"));
        }
        let look = self.decide(&host.interfaces).await;
        self.write(look.changes).await?;
        let mtu = look
            .addresses
            .first()
            .map_or(0, |first| mtu_of(*first, &host.interfaces));
        if let Some(trouble) = look.troubles.into_iter().next() {
            return Ok(NodeView {
                known: false,
                reason: trouble.reason,
                problem: Some(self.problem(
                    "metadata.annotations",
                    trouble.problem,
                    trouble.remedy,
                )),
                mtu,
                ..NodeView::default()
            });
        }
        if look.addresses.is_empty() {
            let what = "this node has no address: no annotation, and no InternalIP in its status";
            let remedy = "annotate it with projectcalico.org/IPv4Address: <address>/<length>";
            return Err(self.problem("metadata.annotations", what.to_owned(), remedy));
        }
        let shared = look
            .addresses
            .iter()
            .any(|address| self.holder(*address).is_some());
        Ok(NodeView {
            known: true,
            // The calculation reports it, as on every other node.
            reason: if shared { "Conflict" } else { "Known" },
            problem: None,
            mtu,
            ..NodeView::default()
        })
    }

    /// Reads this Node, if it may have changed. While the datastore is away, what was read counts.
    async fn read(&mut self) -> Result<(), Problem> {
        if !self.stale && self.node.is_some() {
            return Ok(());
        }
        let key = self.key();
        match self.store.get(&key).await {
            Ok(object) => self.take(object),
            Err(error) if self.node.is_some() && !error.is_not_found() => Ok(()),
            Err(error) => {
                self.node = None;
                let what = format!("the object of this node cannot be read: {error}");
                let remedy = "create the Node object, or name the right one with --node-name";
                Err(self.problem("", what, remedy))
            }
        }
    }

    fn take(&mut self, object: Object) -> Result<(), Problem> {
        let node: Typed<Node> = Typed::from_object(object)
            .map_err(|error| self.problem("", error.to_string(), "mend the Node object"))?;
        self.node = Some(node.resource);
        self.stale = false;
        Ok(())
    }

    async fn decide(&mut self, interfaces: &[Interface]) -> Look {
        let mut look = Look::default();
        let holders = self.holders();
        let node = self.node.clone().unwrap_or_default();
        let internal: Vec<IpAddr> = internal_addresses(&node).collect();
        for family in FAMILIES {
            let annotated = annotated(&node.metadata, family.annotation);
            let wish = match family.is_ipv6 {
                true => self.settings.ipv6.clone(),
                false => self.settings.ipv4.clone(),
            };
            let facts = Facts {
                is_ipv6: family.is_ipv6,
                interfaces,
                annotated,
                internal: internal
                    .iter()
                    .copied()
                    .find(|a| a.is_ipv6() == family.is_ipv6),
                any_internal: !internal.is_empty(),
                reached: reached(&wish, family.is_ipv6).await,
                holders: &holders,
                missing_for: self.missing_for(family.position, annotated, interfaces),
                running_for: self.began.elapsed(),
            };
            match decide(&wish, &facts) {
                Decision::Keep(address) => look.addresses.extend(address),
                Decision::Write(net) => {
                    look.addresses.push(net.addr());
                    let name = family.annotation.to_owned();
                    look.changes.insert(name, Some(net.to_string()));
                }
                Decision::Remove => {
                    look.changes.insert(family.annotation.to_owned(), None);
                }
                Decision::Trouble(trouble) => {
                    look.addresses.extend(trouble.stays);
                    look.troubles.push(trouble);
                }
            }
        }
        look
    }

    /// How long no interface has had the annotated address.
    fn missing_for(
        &mut self,
        family: usize,
        annotated: Option<&str>,
        interfaces: &[Interface],
    ) -> Duration {
        let address = annotated.and_then(address_of);
        let mut nets = interfaces.iter().flat_map(|one| &one.addresses);
        let since = &mut self.missing_since[family];
        match address {
            Some(address) if nets.all(|net| net.addr() != address) => since
                .get_or_insert_with(|| {
                    // What came from that address is dead, and nobody would tell for minutes.
                    self.store.reconnect();
                    Instant::now()
                })
                .elapsed(),
            Some(_) | None => {
                *since = None;
                Duration::ZERO
            }
        }
    }

    async fn write(&mut self, changes: BTreeMap<String, Option<String>>) -> Result<(), Problem> {
        if changes.is_empty() {
            return Ok(());
        }
        tracing::info!(?changes, "address of this node found");
        match self.store.patch_annotations(&self.key(), changes).await {
            Ok(object) => self.take(object),
            Err(error) => {
                let what = format!("the address of this node cannot be written: {error}");
                Err(self.problem(
                    "metadata.annotations",
                    what,
                    "let the agent change its Node",
                ))
            }
        }
    }

    fn key(&self) -> Key {
        Key::cluster(Kind::Node, &self.settings.node)
    }

    /// Other nodes by address.
    fn holders(&self) -> BTreeMap<IpAddr, String> {
        let others = self.others.iter();
        others
            .flat_map(|(name, all)| all.iter().map(|address| (*address, name.clone())))
            .collect()
    }

    fn holder(&self, address: IpAddr) -> Option<&str> {
        let mut others = self.others.iter();
        let holder = others.find(|(_, all)| all.contains(&address));
        holder.map(|(name, _)| name.as_str())
    }

    fn problem(&self, field: &str, problem: String, remedy: &str) -> Problem {
        Problem {
            object: format!("Node/{}", self.settings.node),
            field: field.to_owned(),
            problem,
            remedy: remedy.to_owned(),
        }
    }
}

/// Returns when something about a Node has changed that matters here; without a watch never.
async fn news(
    nodes: &mut Option<Watch>,
    own: &str,
    others: &mut BTreeMap<String, Vec<IpAddr>>,
    stale: &mut bool,
) {
    while let Some(watch) = nodes {
        match watch.next().await {
            Some(event) => {
                if note(event, own, others, stale) {
                    return;
                }
            }
            None => *nodes = None,
        }
    }
    std::future::pending().await
}

/// Takes note of an event; whether it matters.
fn note(
    event: Event,
    own: &str,
    others: &mut BTreeMap<String, Vec<IpAddr>>,
    stale: &mut bool,
) -> bool {
    match event {
        Event::Upsert(object) if object.key.name == own => {
            *stale = true;
            true
        }
        Event::Delete(key) if key.name == own => {
            *stale = true;
            true
        }
        Event::Upsert(object) => {
            let name = object.key.name.clone();
            let read = Typed::<Node>::from_object(object);
            let metadata = read.map(|node| node.resource.metadata).unwrap_or_default();
            let addresses = FAMILIES
                .iter()
                .filter_map(|family| annotated(&metadata, family.annotation).and_then(address_of));
            let addresses: Vec<IpAddr> = addresses.collect();
            let before = match addresses.is_empty() {
                true => others.remove(&name).unwrap_or_default(),
                false => others.insert(name, addresses.clone()).unwrap_or_default(),
            };
            before != addresses
        }
        Event::Delete(key) => others.remove(&key.name).is_some(),
        Event::InSync | Event::Broken(_) | Event::Mended { .. } => false,
    }
}

fn annotated<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    let text = metadata.annotations.as_ref()?.get(name)?;
    Some(text.as_str()).filter(|text| !text.is_empty())
}

fn mtu_of(address: IpAddr, interfaces: &[Interface]) -> u32 {
    let mut having = interfaces.iter();
    having
        .find(|one| one.addresses.iter().any(|net| net.addr() == address))
        .map_or(0, |one| one.mtu)
}

/// What the kernel would send from to the destination of `can-reach=`; no packet is sent.
async fn reached(wish: &Wish, is_ipv6: bool) -> Option<IpAddr> {
    let Wish::Detected(method) = wish else {
        return None;
    };
    let destination = method.destination()?;
    let found = timeout(LOOKUP, tokio::net::lookup_host((destination, DISCARD))).await;
    let to = found.ok()?.ok()?.find(|to| to.is_ipv6() == is_ipv6)?;
    let any: IpAddr = match is_ipv6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
