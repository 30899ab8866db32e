//! Addresses of the node's own tunnel devices: from address management to the devices, and from
//! there into the annotations of the Node.
//!
//! An annotation says more than the address: the device is in place and others may send to it. So
//! it is written once the device has the address, and removed when no pool asks for the tunnel any
//! more. An address is given back after the device has lost it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use crds::core::Node;
use crds::ip_pool::{AllowedUse, EncapMode};
use crds::ipam_block::attribute;
use crds::names::{self, annotation};
use crds::selector::Selector;
use crds::{IpPool, Kind};
use datastore::{Datastore, Event, Key, Watch, get_typed, list_typed};
use felix_calc::{Problem, TunnelAddresses, TunnelFacts, Update};
use ipam::{AutoAssign, IntendedUse, Ipam, Release};
use tokio::sync::{mpsc, watch};

use crate::board::Board;

#[cfg(test)]
mod tests;

/// How soon to look again while something is wrong, and when nothing is.
const RETRY: Duration = Duration::from_secs(5);
const REFRESH: Duration = Duration::from_secs(60);
/// Changes that come within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);

/// A tunnel device of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Ipip,
    Vxlan,
    VxlanV6,
}

const DEVICES: [Device; 3] = [Device::Ipip, Device::Vxlan, Device::VxlanV6];

impl Device {
    fn handle(self, node: &str) -> String {
        match self {
            Device::Ipip => names::ipip_tunnel_handle(node),
            Device::Vxlan => names::vxlan_tunnel_handle(node),
            Device::VxlanV6 => names::vxlan_v6_tunnel_handle(node),
        }
    }

    fn annotation(self) -> &'static str {
        match self {
            Device::Ipip => annotation::NODE_IPIP_TUNNEL_ADDRESS,
            Device::Vxlan => annotation::NODE_VXLAN_TUNNEL_ADDRESS,
            Device::VxlanV6 => annotation::NODE_VXLAN_V6_TUNNEL_ADDRESS,
        }
    }

    fn type_attribute(self) -> &'static str {
        match self {
            Device::Ipip => attribute::TYPE_IPIP,
            Device::Vxlan => attribute::TYPE_VXLAN,
            Device::VxlanV6 => attribute::TYPE_VXLAN_V6,
        }
    }

    fn is_wanted(self, facts: &TunnelFacts) -> bool {
        match self {
            Device::Ipip => facts.wanted.ipip,
            Device::Vxlan => facts.wanted.vxlan,
            Device::VxlanV6 => facts.wanted.vxlan_v6,
        }
    }

    fn of(self, addresses: &TunnelAddresses) -> Option<IpAddr> {
        match self {
            Device::Ipip => addresses.ipip.map(IpAddr::from),
            Device::Vxlan => addresses.vxlan.map(IpAddr::from),
            Device::VxlanV6 => addresses.vxlan_v6.map(IpAddr::from),
        }
    }

    fn set(self, addresses: &mut TunnelAddresses, address: Option<IpAddr>) {
        match (self, address) {
            (Device::Ipip, Some(IpAddr::V4(address))) => addresses.ipip = Some(address),
            (Device::Vxlan, Some(IpAddr::V4(address))) => addresses.vxlan = Some(address),
            (Device::VxlanV6, Some(IpAddr::V6(address))) => addresses.vxlan_v6 = Some(address),
            (Device::Ipip, _) => addresses.ipip = None,
            (Device::Vxlan, _) => addresses.vxlan = None,
            (Device::VxlanV6, _) => addresses.vxlan_v6 = None,
        }
    }

    fn is_ipv6(self) -> bool {
        self == Device::VxlanV6
    }

    /// Whether a pool sends packets through this device.
    fn serves(self, pool: &IpPool) -> bool {
        let mode = match self {
            Device::Ipip => pool.spec.ipip_mode(),
            Device::Vxlan | Device::VxlanV6 => pool.spec.vxlan_mode(),
        };
        mode != EncapMode::Never
    }
}

/// Keeps the addresses of one node's tunnels.
pub struct Keeper {
    store: Arc<dyn Datastore>,
    ipam: Ipam,
    node: String,
    updates: mpsc::Sender<Update>,
    board: Arc<Board>,
    /// What the calculation was told.
    told: Option<TunnelAddresses>,
}

impl Keeper {
    /// A keeper that has told nothing yet.
    pub fn new(
        store: Arc<dyn Datastore>,
        ipam: Ipam,
        node: String,
        updates: mpsc::Sender<Update>,
        board: Arc<Board>,
    ) -> Keeper {
        Keeper {
            store,
            ipam,
            node,
            updates,
            board,
            told: None,
        }
    }

    /// Tells the addresses of an earlier run; `false` = the datastore is away, nothing is told.
    ///
    /// # Errors
    /// When the calculation is gone.
    pub async fn recall(&mut self) -> Result<bool> {
        let node = match get_typed::<Node>(&*self.store, &self.node).await {
            Ok(node) => node.resource,
            Err(datastore::Error::Unavailable { .. }) => return Ok(false),
            Err(_) => Node::default(),
        };
        let mut addresses = TunnelAddresses::default();
        for device in DEVICES {
            let handle = device.handle(&self.node);
            let held = match self.ipam.addresses_of_handle(&handle).await {
                Ok(held) => held,
                Err(ipam::Error::Datastore(datastore::Error::Unavailable { .. })) => {
                    return Ok(false);
                }
                Err(_) => Vec::new(),
            };
            let annotated = annotated(&node, device);
            let kept = held.iter().find(|address| Some(**address) == annotated);
            device.set(&mut addresses, kept.or(held.first()).copied());
        }
        self.tell(addresses).await?;
        Ok(true)
    }

    async fn tell(&mut self, addresses: TunnelAddresses) -> Result<()> {
        if self.told == Some(addresses) {
            return Ok(());
        }
        if self.updates.send(Update::Tunnels(addresses)).await.is_err() {
            bail!("the calculation has ended");
        }
        self.told = Some(addresses);
        Ok(())
    }

    /// Recalls the addresses of an earlier run and says so, then follows pools, settings and devices until the
    /// calculation is gone.
    ///
    /// # Errors
    /// None otherwise: what is wrong stands on the board, and is tried again.
    pub async fn run(mut self, recalled: watch::Sender<bool>) -> Result<()> {
        while !self.recall().await? {
            tokio::time::sleep(RETRY).await;
        }
        recalled.send_replace(true);
        let mut calc = self.board.calc.subscribe();
        let (mut pools, mut nodes) = (None, None);
        let own = Key::cluster(Kind::Node, &self.node);
        loop {
            let facts = calc.borrow_and_update().tunnels.clone();
            let mut problems = Vec::new();
            if let Some(facts) = &facts {
                self.settle(facts, &mut problems).await?;
            }
            let pause = if problems.is_empty() { REFRESH } else { RETRY };
            self.publish(problems);
            if pools.is_none() {
                pools = self.store.watch(Kind::IpPool).await.ok();
            }
            if nodes.is_none() {
                nodes = self.store.watch(Kind::Node).await.ok();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = calc.wait_for(|view| view.tunnels != facts) => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = change(&mut pools, |_| true) => {}
                () = change(&mut nodes, |key| *key == own) => {}
            }
        }
    }

    fn publish(&self, problems: Vec<Problem>) {
        self.board.tunnels.send_if_modified(|before| {
            let changed = *before != problems;
            for problem in problems.iter().filter(|p| changed && !before.contains(p)) {
                tracing::warn!(%problem, "tunnel address");
            }
            *before = problems;
            changed
        });
    }

    /// Looks once: allocates, tells, annotates, releases.
    async fn settle(&mut self, facts: &TunnelFacts, problems: &mut Vec<Problem>) -> Result<()> {
        let read = self.read().await;
        let (node, pools) = match read {
            Ok(read) => read,
            Err(error) => {
                let what =
                    format!("tunnel addresses are as they were, the datastore fails: {error}");
                problems.push(self.problem("", what, "see why the datastore fails"));
                return Ok(());
            }
        };
        let mut addresses = self.told.unwrap_or_default();
        let mut spare = Vec::new();
        for device in DEVICES {
            match self.choose(device, facts, &node, &pools).await {
                Ok(choice) => {
                    device.set(&mut addresses, choice.address);
                    let handle = device.handle(&self.node);
                    spare.extend(choice.others.into_iter().map(|addr| (addr, handle.clone())));
                }
                Err(error) => {
                    let what = format!("no address for the tunnel device: {error}");
                    let remedy = "let a pool with this encapsulation have a free address and allow the use Tunnel";
                    problems.push(self.problem(device.annotation(), what, remedy));
                }
            }
        }
        self.tell(addresses).await?;
        if let Err(error) = self.annotate(facts, &addresses, &node).await {
            let what = format!("the addresses of its tunnels cannot be written: {error}");
            problems.push(self.problem("", what, "let the agent change its Node"));
        }
        if let Err(error) = self.release(spare, facts).await {
            let what = format!("tunnel addresses that are not used are not given back: {error}");
            problems.push(self.problem("", what, "see why the datastore fails"));
        }
        Ok(())
    }

    fn problem(&self, annotation: &str, problem: String, remedy: &str) -> Problem {
        Problem {
            object: format!("Node/{}", self.node),
            field: match annotation {
                "" => "metadata.annotations".to_owned(),
                name => format!("metadata.annotations[{name}]"),
            },
            problem,
            remedy: remedy.to_owned(),
        }
    }

    async fn read(&self) -> Result<(Node, Vec<IpPool>), datastore::Error> {
        let node = get_typed::<Node>(&*self.store, &self.node).await?;
        let pools = list_typed::<IpPool>(&*self.store).await?;
        let pools = pools.into_iter().map(|pool| pool.resource);
        Ok((node.resource, pools.collect()))
    }

    /// The address for a device, allocated if need be, and what else its handle holds.
    async fn choose(
        &self,
        device: Device,
        facts: &TunnelFacts,
        node: &Node,
        pools: &[IpPool],
    ) -> Result<Choice> {
        let handle = device.handle(&self.node);
        let held = self.ipam.addresses_of_handle(&handle).await?;
        if !device.is_wanted(facts) {
            return Ok(Choice::of(None, &held));
        }
        let used = device.of(&self.told.unwrap_or_default());
        if let Some(address) = used.filter(|used| facts.keep && held.contains(used)) {
            return Ok(Choice::of(Some(address), &[]));
        }
        let suitable = suitable(device, node, pools);
        let fits = |address: &&IpAddr| suitable.iter().any(|p| p.spec.cidr.contains(*address));
        let fitting: BTreeSet<IpAddr> = held.iter().filter(fits).copied().collect();
        let kept = used.filter(|used| fitting.contains(used));
        if let Some(address) = kept.or(fitting.first().copied()) {
            return Ok(Choice::of(Some(address), &held));
        }
        if suitable.is_empty() {
            bail!("no enabled IPPool of this node allows the use Tunnel");
        }
        let address = self.allocate(device, handle, &held, &suitable).await?;
        tracing::info!(?device, %address, "tunnel address allocated");
        Ok(Choice::of(Some(address), &held))
    }

    /// One more address for a handle than it holds.
    async fn allocate(
        &self,
        device: Device,
        handle: String,
        held: &[IpAddr],
        pools: &[&IpPool],
    ) -> Result<IpAddr> {
        let pools = pools.iter().filter_map(|pool| pool.metadata.name.clone());
        let type_ = device.type_attribute().to_owned();
        let mut request = AutoAssign {
            node: self.node.clone(),
            handle,
            attributes: BTreeMap::from([(attribute::TYPE.to_owned(), type_)]),
            intended_use: IntendedUse::Tunnel,
            ..AutoAssign::default()
        };
        // What the handle holds counts.
        let count = u32::try_from(held.len())?.saturating_add(1);
        if device.is_ipv6() {
            (request.v6, request.pools_v6) = (count, pools.collect());
        } else {
            (request.v4, request.pools_v4) = (count, pools.collect());
        }
        let assigned = self.ipam.auto_assign(&request).await?;
        let mut got = assigned.v4.iter().chain(&assigned.v6);
        match (got.find(|a| !held.contains(a)), assigned.shortfall) {
            (Some(address), _) => Ok(*address),
            (None, Some(shortfall)) => bail!("{shortfall}"),
            (None, None) => bail!("the pools are exhausted"),
        }
    }

    /// Makes the annotations say which devices are in place with which address. One that is about
    /// to change stays until the device has the new address.
    async fn annotate(
        &self,
        facts: &TunnelFacts,
        addresses: &TunnelAddresses,
        node: &Node,
    ) -> Result<(), datastore::Error> {
        let mut changes = BTreeMap::new();
        for device in DEVICES {
            let name = device.annotation();
            let there = node.metadata.annotations.as_ref();
            let there = there.and_then(|all| all.get(name)).map(String::as_str);
            if !device.is_wanted(facts) {
                if there.is_some() {
                    changes.insert(name.to_owned(), None);
                }
                continue;
            }
            let address = device.of(addresses);
            let in_place = device.of(&facts.in_place).filter(|a| Some(*a) == address);
            let text = in_place.map(|address| address.to_string());
            if text.is_some() && text.as_deref() != there {
                changes.insert(name.to_owned(), text);
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        tracing::info!(?changes, "tunnel addresses of the Node");
        let key = Key::cluster(Kind::Node, &self.node);
        self.store.patch_annotations(&key, changes).await.map(drop)
    }

    /// Gives back what no device has any more.
    async fn release(
        &self,
        spare: Vec<(IpAddr, String)>,
        facts: &TunnelFacts,
    ) -> Result<(), ipam::Error> {
        let unused = spare
            .into_iter()
            .filter(|(addr, _)| !facts.on_devices.contains(addr));
        let releases: Vec<Release> = unused
            .map(|(addr, handle)| Release {
                addr,
                handle: Some(handle),
                sequence: None,
            })
            .collect();
        if releases.is_empty() {
            return Ok(());
        }
        let released = Box::pin(self.ipam.release(&releases)).await?;
        tracing::info!(addresses = ?released.released, "tunnel addresses given back");
        Ok(())
    }
}

/// What a device gets, and what its handle holds besides.
struct Choice {
    address: Option<IpAddr>,
    others: Vec<IpAddr>,
}

impl Choice {
    fn of(address: Option<IpAddr>, held: &[IpAddr]) -> Choice {
        let others = held.iter().filter(|held| Some(**held) != address);
        Choice {
            address,
            others: others.copied().collect(),
        }
    }
}

/// The pools a device's address may come from: those that use the device, or, where none of them
/// gives addresses to tunnels, any that does.
fn suitable<'a>(device: Device, node: &Node, pools: &'a [IpPool]) -> Vec<&'a IpPool> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selects = |pool: &IpPool| {
        let text = pool.spec.node_selector.as_deref().unwrap_or_default();
        Selector::parse(text).is_ok_and(|selector| selector.matches(&labels))
    };
    let usable = pools.iter().filter(|pool| {
        !pool.spec.disabled()
            && pool.metadata.deletion_timestamp.is_none()
            && pool.spec.cidr.is_ipv6() == device.is_ipv6()
            && pool.spec.allows(AllowedUse::Tunnel)
            && selects(pool)
    });
    let usable: Vec<&IpPool> = usable.collect();
    let own: Vec<&IpPool> = usable
        .iter()
        .filter(|pool| device.serves(pool))
        .copied()
        .collect();
    if own.is_empty() { usable } else { own }
}

fn annotated(node: &Node, device: Device) -> Option<IpAddr> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations.get(device.annotation())?.parse().ok()
}

/// Returns when an object that counts is new, changed or gone, with all that come soon after;
/// without a watch never.
async fn change(watch: &mut Option<Watch>, counts: impl Fn(&Key) -> bool) {
    let counts = |event: &Event| match event {
        Event::Upsert(object) => counts(&object.key),
        Event::Delete(key) => counts(key),
        _ => false,
    };
    loop {
        let Some(events) = watch else {
            return std::future::pending().await;
        };
        match events.next().await {
            Some(event) if counts(&event) => break,
            Some(_) => {}
            None => *watch = None,
        }
    }
    while let Some(events) = watch {
        match tokio::time::timeout(TOGETHER, events.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => *watch = None,
            Err(_) => return,
        }
    }
}
