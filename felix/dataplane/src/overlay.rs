//! The overlay driver: brings `ipip`'s devices to what the calculation wants, around the routes.
//!
//! New devices, addresses and neighbours are there before routes lead to them
//! ([`Overlay::prepare`]); what no route needs any more goes after them ([`Overlay::sweep`]). A
//! device that is not wanted any more lingers and takes packets for a while, so that other nodes
//! can change their minds later than this one. Events mark devices to be looked at; nothing is
//! asked of the kernel otherwise.
//!
//! No route leads through a tunnel's name while its device is not in place: a packet that should
//! be wrapped must not leave unwrapped by something else of that name.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::{IPIP_DEVICE, VXLAN_DEVICE, VXLAN_V6_DEVICE};
use ipip::user::StandIn;
use ipip::{Carrier, Device, Outcome, Problem, Tunnel};
use ipnet::IpNet;
use netlink::monitor::{Event, Group, Monitor};
use netlink::{Error, Link, Socket};

use crate::host::Host;
use crate::report::{TunnelInPlace, TunnelReport};
use crate::{Failure, UserTunnels};

mod wanted;

/// The names of all devices that this driver may own.
pub(crate) const NAMES: [&str; 3] = [IPIP_DEVICE, VXLAN_DEVICE, VXLAN_V6_DEVICE];
/// Between two looks at a device, so that somebody who keeps changing it does not keep us busy.
const PAUSE: Duration = Duration::from_millis(100);
/// Reads of the event queue per step.
const EVENT_READS: usize = 16;
/// How often tunnels in user space are asked whether they work.
const PULSE: Duration = Duration::from_secs(1);

/// Whether a device of this name is one of ours, if it is a tunnel.
pub(crate) fn is_tunnel(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The tunnels of this node.
#[derive(Debug)]
pub(crate) struct Overlay {
    linger: Duration,
    user_tunnels: UserTunnels,
    /// Who may send tunnel packets; the packet filter checks it for the kernel's devices.
    hosts: BTreeSet<IpNet>,
    /// Whether it was ever said which tunnels there shall be.
    told: bool,
    /// Whether leftovers of an earlier run were looked for.
    searched: bool,
    tunnels: BTreeMap<Arc<str>, State>,
    leaving: BTreeMap<Arc<str>, Leaving>,
    /// Events of neighbours, while there is a device that has some.
    monitor: Option<Monitor>,
    /// When tunnels in user space are asked next.
    pulse: Option<Instant>,
    written: u64,
    repaired: u64,
}

/// A tunnel that is wanted.
#[derive(Debug)]
struct State {
    device: Device,
    user: Option<StandIn>,
    /// Must be looked at, for the first time or because of what the calculation said.
    is_new: bool,
    /// Must be looked at, because something happened.
    is_dirty: bool,
    /// Something may be left over on it.
    is_unswept: bool,
    /// It was looked at only because of others, and nothing was wrong before the sweep.
    is_audit: bool,
    looked_at: Option<Instant>,
    index: Option<u32>,
    in_place: Option<TunnelInPlace>,
    problems: Vec<Problem>,
}

/// A device that is not wanted any more.
#[derive(Debug)]
struct Leaving {
    /// Absent until the clock has been seen.
    until: Option<Instant>,
    /// Goes on as long.
    user: Option<StandIn>,
}

impl Overlay {
    pub(crate) fn new(linger: Duration, user_tunnels: UserTunnels) -> Overlay {
        Overlay {
            linger,
            user_tunnels,
            hosts: BTreeSet::new(),
            told: false,
            searched: false,
            tunnels: BTreeMap::new(),
            leaving: BTreeMap::new(),
            monitor: None,
            pulse: None,
            written: 0,
            repaired: 0,
        }
    }

    /// Says who may send tunnel packets to this node.
    pub(crate) fn set_hosts(&mut self, hosts: &BTreeSet<IpNet>) {
        self.hosts.clone_from(hosts);
        let users = self
            .tunnels
            .values_mut()
            .filter_map(|state| state.user.as_mut());
        let leaving = self
            .leaving
            .values_mut()
            .filter_map(|state| state.user.as_mut());
        for user in users.chain(leaving) {
            user.set_hosts(hosts);
        }
    }

    /// Says which tunnels there shall be.
    pub(crate) fn want(&mut self, overlay: &felix_calc::Overlay) {
        self.told = true;
        let mut wanted = wanted::tunnels(overlay);
        let gone: Vec<Arc<str>> = self
            .tunnels
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(state) = self.tunnels.remove(&name) {
                let user = state.user;
                self.leaving.insert(name, Leaving { until: None, user });
            }
        }
        for (name, state) in &mut self.tunnels {
            if let Some(tunnel) = wanted.remove(name)
                && tunnel != state.device.tunnel
            {
                state.device.tunnel = tunnel;
                state.is_new = true;
            }
        }
        for (name, tunnel) in wanted {
            let left = self.leaving.remove(&name);
            let user = left.and_then(|left| left.user);
            self.tunnels.insert(name, State::new(tunnel, user));
        }
    }

    /// Whether routes may lead through an interface of this name, as far as tunnels go.
    pub(crate) fn is_passable(&self, name: &str) -> bool {
        if !self.told || !is_tunnel(name) {
            return true;
        }
        match self.tunnels.get(name) {
            Some(state) => state.in_place.is_some(),
            None => self.leaving.contains_key(name),
        }
    }

    /// Looks at everything again.
    pub(crate) fn audit(&mut self) {
        for state in self.tunnels.values_mut() {
            (state.is_dirty, state.is_unswept) = (true, true);
        }
    }

    /// Looks again at what did not work.
    pub(crate) fn retry(&mut self) {
        for state in self.tunnels.values_mut() {
            let failed = !state.problems.is_empty();
            state.is_dirty |= failed;
            state.is_unswept |= failed;
        }
    }

    /// Takes in what happened to interfaces and addresses.
    pub(crate) fn observe(&mut self, event: &Event) {
        for state in self.tunnels.values_mut() {
            let tunnel = &state.device.tunnel;
            let concerned = match event {
                Event::Link(link) | Event::LinkGone(link) => {
                    *link.name == *tunnel.name
                        || Some(link.index) == state.index
                        || wanted::parent(tunnel) == Some(link.name.as_str())
                }
                Event::Address(address) | Event::AddressGone(address) => {
                    Some(address.index) == state.index
                }
                Event::Neighbour(neighbour) | Event::NeighbourGone(neighbour) => {
                    // Those that the kernel learns and forgets are its own affair.
                    let ours = || wanted::knows(tunnel, neighbour.address);
                    Some(neighbour.index) == state.index && (neighbour.permanent || ours())
                }
                Event::Forwarding(entry) | Event::ForwardingGone(entry) => {
                    Some(entry.index) == state.index
                }
                Event::Overrun => true,
                Event::Route { .. } | Event::RouteGone(_) | Event::Settings { .. } => false,
            };
            if concerned {
                (state.is_dirty, state.is_unswept) = (true, true);
            }
        }
    }

    /// Reads what happened to neighbours.
    pub(crate) fn read_events(&mut self) -> Result<(), Error> {
        for _ in 0..EVENT_READS {
            let Some(monitor) = &mut self.monitor else {
                return Ok(());
            };
            let events = monitor.next(Duration::ZERO)?;
            if events.is_empty() {
                return Ok(());
            }
            for event in &events {
                self.observe(event);
            }
        }
        Ok(())
    }

    /// Forgets the connection to the kernel: after an error it may have lost events.
    pub(crate) fn disconnect(&mut self) {
        self.monitor = None;
        self.audit();
    }

    /// Makes the devices as they should be, before routes lead through them. Returns the names of
    /// those that are not, or may not be, as `host` has them.
    pub(crate) fn prepare(
        &mut self,
        socket: &mut Socket,
        host: &Host,
        now: Instant,
    ) -> Result<Vec<Arc<str>>, Error> {
        let mut changed = Vec::new();
        self.watch(socket)?;
        self.pulse = Some(now + PULSE);
        for (name, state) in &mut self.tunnels {
            state.note_failure();
            if !state.is_due(now) {
                continue;
            }
            let is_repair = state.in_place.is_some() && !state.is_new;
            let outcome = state.prepare(socket, self.user_tunnels, &self.hosts)?;
            self.written += outcome.written;
            self.repaired += u64::from(is_repair && outcome.written > 0);
            state.is_audit = is_repair && outcome.written == 0;
            state.looked_at = Some(now);
            (state.is_new, state.is_dirty) = (false, false);
            state.is_unswept |= outcome.written > 0;
            if outcome.written > 0 || host.by_name(name) != outcome.observed.link.as_ref() {
                changed.push(name.clone());
            }
        }
        Ok(changed)
    }

    /// Removes what no route needs any more, and devices that have lingered long enough.
    ///
    /// `settled` says that routes are as they should be, so that nothing of the past is needed.
    pub(crate) fn sweep(
        &mut self,
        socket: &mut Socket,
        settled: bool,
        now: Instant,
    ) -> Result<Vec<Arc<str>>, Error> {
        let mut changed = Vec::new();
        for (name, state) in &mut self.tunnels {
            let looked_at = !state.is_dirty && state.in_place.is_some();
            if settled && looked_at && state.is_unswept {
                state.is_unswept = false;
                let outcome = state.device.sweep(socket)?;
                self.written += outcome.written;
                state.problems.extend(outcome.problems);
                self.repaired += u64::from(state.is_audit && outcome.written > 0);
                if outcome.written > 0 {
                    changed.push(name.clone());
                }
            }
        }
        let linger = self.linger;
        for leaving in self.leaving.values_mut() {
            leaving.until.get_or_insert(now + linger);
        }
        let over = |_: &Arc<str>, leaving: &mut Leaving| leaving.until.is_some_and(|at| at <= now);
        let over: Vec<_> = self.leaving.extract_if(.., over).collect();
        for (name, leaving) in over {
            drop(leaving.user);
            let outcome = Device::retire(socket, &name)?;
            self.written += outcome.written;
            for problem in outcome.problems {
                tracing::warn!(device = %name, %problem, "a device that is not needed stays");
            }
            changed.push(name);
        }
        Ok(changed)
    }

    /// The devices that are not wanted any more and still take packets.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &str> {
        self.leaving.keys().map(|name| &**name)
    }

    /// Notes devices of an earlier run that are not wanted now.
    pub(crate) fn search(&mut self, socket: &mut Socket) -> Result<(), Error> {
        if !self.told || std::mem::replace(&mut self.searched, true) {
            return Ok(());
        }
        for name in NAMES {
            let known = self.tunnels.contains_key(name) || self.leaving.contains_key(name);
            if !known && Device::is_left(socket, name)? {
                let leaving = Leaving {
                    until: None,
                    user: None,
                };
                self.leaving.insert(name.into(), leaving);
            }
        }
        Ok(())
    }

    /// Follows neighbours and forwarding entries only where there are tunnels that have some.
    fn watch(&mut self, socket: &Socket) -> Result<(), Error> {
        let tunnels = || self.tunnels.values().map(|state| &state.device.tunnel);
        if !tunnels().any(wanted::has_remotes) {
            self.monitor = None;
        } else if self.monitor.is_none() {
            let monitor = Monitor::open(&[Group::Neighbours])?;
            monitor.ignore_changes_of(socket)?;
            self.monitor = Some(monitor);
            for state in self.tunnels.values_mut() {
                state.is_dirty = true;
            }
        }
        Ok(())
    }

    /// What to wait for besides.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(Monitor::as_fd)
    }

    /// When there is something to do even if nothing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        let due = self.tunnels.values().filter_map(State::due);
        let ends = self.leaving.values().filter_map(|leaving| leaving.until);
        let in_user_space = self.tunnels.values().any(|state| state.user.is_some());
        let pulse = self.pulse.filter(|_| in_user_space);
        due.chain(ends).chain(pulse).min()
    }

    /// What does not work.
    pub(crate) fn failures(&self) -> impl Iterator<Item = Failure> {
        self.tunnels.iter().flat_map(|(name, state)| {
            state.problems.iter().map(move |problem| Failure {
                object: format!("tunnel {name}"),
                problem: problem.to_string(),
            })
        })
    }

    /// Whether something does not work.
    pub(crate) fn has_failures(&self) -> bool {
        self.tunnels
            .values()
            .any(|state| !state.problems.is_empty())
    }

    /// How the wanted tunnels are.
    pub(crate) fn report(&self) -> BTreeMap<Arc<str>, TunnelReport> {
        let report = |state: &State| TunnelReport {
            in_place: state.in_place,
            problems: state.problems.clone(),
            meter: state.user.as_ref().and_then(StandIn::meter),
        };
        self.tunnels
            .iter()
            .map(|(name, state)| (name.clone(), report(state)))
            .collect()
    }

    /// Operations carried out so far, and how often a device was put right that others had changed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.written, self.repaired)
    }
}

impl State {
    fn new(tunnel: Tunnel, user: Option<StandIn>) -> State {
        let carrier = match user {
            Some(_) => Carrier::User,
            None => Carrier::Kernel,
        };
        State {
            device: Device { tunnel, carrier },
            user,
            is_new: true,
            is_dirty: true,
            is_unswept: true,
            is_audit: false,
            looked_at: None,
            index: None,
            in_place: None,
            problems: Vec::new(),
        }
    }

    /// When it is to be looked at again.
    fn due(&self) -> Option<Instant> {
        let looked_at = self.looked_at.filter(|_| self.is_dirty);
        looked_at.map(|at| at + PAUSE)
    }

    /// What the calculation wants does not wait; what others do may be the work of a quarreller.
    fn is_due(&self, now: Instant) -> bool {
        let paused = self.looked_at.is_some_and(|at| now < at + PAUSE);
        self.is_new || self.is_dirty && !paused
    }

    /// A tunnel in user space that stopped carrying packets is looked at.
    fn note_failure(&mut self) {
        let failure = self.user.as_ref().and_then(StandIn::failure);
        self.is_dirty |= failure.is_some() && self.problems.is_empty();
    }

    fn prepare(
        &mut self,
        socket: &mut Socket,
        user_tunnels: UserTunnels,
        hosts: &BTreeSet<IpNet>,
    ) -> Result<Outcome, Error> {
        self.choose_carrier(socket, user_tunnels)?;
        let mut outcome = match self.device.carrier {
            Carrier::Kernel => self.device.prepare(socket)?,
            Carrier::User => Outcome::default(),
        };
        let lacks = |problem: &Problem| matches!(problem, Problem::Unsupported { .. });
        if outcome.problems.iter().any(lacks) && user_tunnels != UserTunnels::Never {
            self.device.carrier = Carrier::User;
        }
        if self.device.carrier == Carrier::User {
            let followed = self.follow_in_user_space(hosts);
            outcome = match self.user {
                Some(_) => self.device.prepare(socket)?,
                None => Outcome::default(),
            };
            outcome.problems.extend(followed.err());
        }
        let link = outcome.observed.link.as_ref();
        self.index = link.map(|link| link.index);
        self.in_place = link
            .filter(|link| self.device.carries(link))
            .map(|link| self.describe(link, &outcome));
        self.problems.clone_from(&outcome.problems);
        Ok(outcome)
    }

    /// Decides before the first device is made, or when the one of the wrong carrier is there.
    fn choose_carrier(&mut self, socket: &mut Socket, rule: UserTunnels) -> Result<(), Error> {
        if self.user.is_some() || self.device.carrier == Carrier::User {
            return Ok(());
        }
        let has_stand_in = self.device.has_stand_in(socket)?;
        let user = match rule {
            UserTunnels::Always => true,
            UserTunnels::Never => false,
            // An earlier run has left its device, and the kernel still has none.
            UserTunnels::Fallback => has_stand_in && !self.device.is_supported(socket)?,
        };
        if user {
            self.device.carrier = Carrier::User;
        }
        if user != has_stand_in {
            Device::retire(socket, &self.device.tunnel.name)?;
        }
        Ok(())
    }

    /// Starts the stand-in or tells it what is wanted now.
    fn follow_in_user_space(&mut self, hosts: &BTreeSet<IpNet>) -> Result<(), Problem> {
        if let Some(user) = self.user.as_mut().filter(|user| user.is_running()) {
            return user.update(&self.device.tunnel);
        }
        // Two cannot have the same port.
        self.user = None;
        let user = self.user.insert(StandIn::start(&self.device.tunnel)?);
        user.set_hosts(hosts);
        tracing::warn!(
            device = %self.device.tunnel.name,
            "this process carries the packets of the tunnel, which costs more than the kernel's"
        );
        Ok(())
    }

    fn describe(&self, link: &Link, outcome: &Outcome) -> TunnelInPlace {
        let wanted = self.device.tunnel.address;
        let addresses: BTreeSet<_> = outcome
            .observed
            .addresses
            .iter()
            .map(|n| n.addr())
            .collect();
        TunnelInPlace {
            carrier: self.device.carrier,
            address: wanted.filter(|address| addresses.contains(address)),
            mtu: link.mtu,
            mac: link.mac,
        }
    }
}
