//! One step after the other: events in, operations out, and a report.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::{HostFacts, Output, Programmed, RouteNumbers};
use ipnet::IpNet;
use netlink::bulk::{Done, Pipe};
use netlink::monitor::{Event, Group, Monitor};
use netlink::{AddressFilter, Link, RouteFilter, Socket, TABLE_MAIN};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::conntrack::Flows;
use crate::host::Host;
use crate::nft::PacketRules;
use crate::overlay::{self, Overlay};
use crate::ownership::Ownership;
use crate::report::{Applied, Counters, Failure, TunnelReport};
use crate::routes::{Change, Table};
use crate::sysctl::Tree;
use crate::workloads::Workloads;
use crate::{Config, Error, proxy_arp};

/// Between two listings that an overrun or an odd event asked for.
const LISTING_PAUSE: Duration = Duration::from_secs(1);
/// From a change of the host's network to another try of what was refused, and between tries.
const RETRY_DELAY: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a change of the host's network must have lasted, so that a bounce is not seen
/// (Calico behaviour).
const FACTS_PAUSE: Duration = Duration::from_millis(100);
/// How long a step may go on with routes before it looks up again.
const SLICE: Duration = Duration::from_millis(20);
/// Between two looks at whether the kernel has taken what is under way; it answers within seconds.
const PIPE_WAIT: Duration = Duration::from_secs(1);
/// Reads of the event queue per step, so that a flood does not keep a step from its work.
const EVENT_READS: usize = 16;

/// The owner of routes and settings in one network namespace.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
    socket: Socket,
    /// Takes routes into the kernel.
    pipe: Pipe,
    /// What is in the pipe, oldest batch first.
    under_way: VecDeque<Vec<Change>>,
    monitor: Monitor,
    host: Host,
    table: Table,
    workloads: Workloads,
    rules: PacketRules,
    flows: Flows,
    overlay: Overlay,
    /// Generation of the newest desired state; nothing before the first complete one.
    generation: Option<u64>,
    /// The newest one after which nothing was left to do.
    settled: u64,
    /// What is believed about the kernel comes from a listing and the events since.
    listed: bool,
    listed_at: Option<Instant>,
    retried_at: Option<Instant>,
    due: Due,
    /// The way to the gateway address of pods must be thought over.
    gateway_stale: bool,
    reported: Reported,
    listings: u64,
}

/// When something is to be done even if nothing happens.
#[derive(Debug, Default)]
struct Due {
    listing: Option<Instant>,
    retry: Option<Instant>,
    facts: Option<Instant>,
    plan: Option<Instant>,
}

/// What was said last.
#[derive(Debug, Default)]
struct Reported {
    programmed: Option<BTreeSet<IpNet>>,
    ready: Arc<BTreeSet<Arc<str>>>,
    tunnels: Arc<BTreeMap<Arc<str>, TunnelReport>>,
    failures: Arc<Vec<Failure>>,
    facts: Option<HostFacts>,
}

impl Dataplane {
    /// Connects to the kernel of the calling thread's network namespace; changes nothing.
    pub fn open(config: Config) -> Result<Dataplane, Error> {
        let (socket, pipe, monitor) = connect()?;
        let ownership = Ownership {
            protocol: config.route_protocol,
            remove_external_routes: config.remove_external_routes,
            grace: config.external_route_grace,
            hold_learned: true,
            workloads: Default::default(),
        };
        Ok(Dataplane {
            host: Host::new(config.workload_prefixes.clone()),
            table: Table::new(ownership),
            rules: PacketRules::new(config.workload_prefixes.clone()),
            flows: Flows::start()?,
            overlay: Overlay::new(config.tunnel_linger, config.user_tunnels),
            workloads: Workloads::new(Tree::new(&config.sysctl_root), config.ip_forwarding),
            generation: None,
            settled: 0,
            listed: false,
            listed_at: None,
            retried_at: None,
            due: Due::default(),
            gateway_stale: true,
            reported: Reported::default(),
            listings: 0,
            config,
            socket,
            pipe,
            under_way: VecDeque::new(),
            monitor,
        })
    }

    /// Notes what is desired; the next [`Dataplane::step`] acts on it.
    ///
    /// Nothing is done before an output that is complete.
    pub fn update(&mut self, output: &Output) {
        if output.complete {
            self.table.want_nothing(&self.host);
        } else if self.generation.is_none() {
            return;
        }
        for (destination, route) in &output.routes {
            self.table.want(*destination, route.clone(), &self.host);
        }
        if let Some(firewall) = &output.firewall {
            self.overlay.set_hosts(&firewall.hosts);
            self.rules.want(firewall.clone());
        }
        if let Some(overlay) = &output.overlay {
            self.overlay.want(overlay);
        }
        if let Some(endpoints) = &output.endpoints {
            self.flows.hold(endpoints);
            self.workloads.want(endpoints.clone());
            self.gateway_stale = true;
        }
        self.table.hold_learned(output.hold_learned);
        self.generation = Some(output.generation);
    }

    /// Waits until there is something to do: a kernel event, `wake` becoming readable, a deadline,
    /// or the end of `limit`.
    pub fn wait(&self, wake: BorrowedFd<'_>, limit: Duration) -> Result<(), Error> {
        let until_due = [self.due.next(), self.rules.due(), self.overlay.next()]
            .into_iter()
            .chain([self.table.next_hold()])
            .flatten()
            .min()
            .map(|when| when.saturating_duration_since(Instant::now()));
        let limit = until_due.map_or(limit, |due| limit.min(due));
        // Rounded up, so that a deadline has passed when the wait is over.
        let millis = limit.as_micros().div_ceil(1000);
        let timeout = PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX));
        let own = [
            Some(self.monitor.as_fd()),
            Some(self.pipe.as_fd()),
            self.rules.events(),
            self.flows.events(),
            self.overlay.events(),
        ];
        let mut fds: Vec<PollFd<'_>> = own
            .into_iter()
            .flatten()
            .chain([wake])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes in what happened, brings the kernel closer to what is desired, and reports.
    ///
    /// After an error nothing is believed any more: the next step connects and lists again.
    pub fn step(&mut self, now: Instant) -> Result<Applied, Error> {
        let result = self.try_step(now);
        if result.is_err() {
            self.listed = false;
            self.due.listing = Some(now + LISTING_PAUSE);
            for change in std::mem::take(&mut self.under_way).iter().flatten() {
                self.table.lost(change);
            }
            self.overlay.disconnect();
            (self.socket, self.pipe, self.monitor) = connect()?;
        }
        result
    }

    fn try_step(&mut self, now: Instant) -> Result<Applied, Error> {
        self.read_events(now)?;
        self.overlay.read_events()?;
        if self.listed_at.is_none() || is_due(&mut self.due.listing, now) {
            self.list(now)?;
        }
        if is_due(&mut self.due.retry, now) {
            self.retried_at = Some(now);
            self.table.retry();
            self.workloads.retry();
            self.rules.retry();
            self.overlay.retry();
        }
        if self.listed && self.generation.is_some() {
            self.program(now)?;
        }
        if self.table.is_suspect() {
            self.list_soon(now);
        }
        Ok(self.report(now))
    }

    /// What a step does to the kernel, in this order.
    fn program(&mut self, now: Instant) -> Result<(), Error> {
        let endpoints = self.workloads.endpoints().values();
        let ipv4_pods = endpoints.clone().any(|endpoint| endpoint.has_ipv4());
        let ipv6 = self.table.has_ipv6() || endpoints.clone().any(|e| e.has_ipv6());
        self.workloads.apply(&self.host, ipv6);
        self.overlay.search(&mut self.socket)?;
        self.rules.note_leaving(&self.host, self.overlay.leaving());
        self.rules.apply(&self.host, now);
        if std::mem::take(&mut self.gateway_stale) {
            let protocol = self.config.route_protocol;
            let gateway = ipv4_pods.then(|| {
                let others = self.table.others_to(proxy_arp::destination());
                proxy_arp::gateway_route(protocol, &self.host, &others)
            });
            self.table.want_extra(gateway.flatten());
        }

        let changed = self.overlay.prepare(&mut self.socket, &self.host, now)?;
        if !changed.is_empty() {
            // A device is told of as down while it is made. That must be behind us before routes
            // lead through it, or they would count as gone with it.
            self.read_events(now)?;
        }
        self.look_up(&changed, now)?;
        self.table.settle_holds(now, self.config.tunnel_linger);
        self.write_routes(now)?;
        self.due.plan = self.table.next();
        let under_way = || self.under_way.iter().flatten();
        self.flows
            .end(|address| under_way().any(|change| change.is_to(address)));
        let is_busy = self.table.has_work(now) || !self.under_way.is_empty();
        let settled = !is_busy && !self.table.holds();
        let changed = self.overlay.sweep(&mut self.socket, settled, now)?;
        self.look_up(&changed, now)?;
        let failed = self.table.has_refused()
            || self.overlay.has_failures()
            || self.workloads.failures().next().is_some()
            || self.rules.failures().is_some();
        if failed && self.due.retry.is_none() {
            self.due.retry = Some(now + self.config.retry_interval);
        }
        Ok(())
    }

    /// Brings what is to be done with routes on its way, and takes note of what became of it, for
    /// as long as a step may take; with few changes they are all made then.
    fn write_routes(&mut self, now: Instant) -> Result<(), Error> {
        let until = Instant::now() + SLICE;
        let mut held_back = Vec::new();
        loop {
            self.fill_pipe(now, &mut held_back);
            let is_busy = self.wait_for_pipe()?;
            if Instant::now() >= until {
                // Something to do for the kernel while we look elsewhere.
                self.fill_pipe(now, &mut held_back);
                break;
            }
            if !is_busy && !self.table.has_work(now) {
                break;
            }
        }
        for change in held_back {
            self.table.lost(&change);
        }
        Ok(())
    }

    /// Looks up tunnel devices that may not be as they were seen last: events about them may be
    /// older than what we did to them.
    fn look_up(&mut self, names: &[Arc<str>], now: Instant) -> Result<(), Error> {
        for name in names {
            let link = self.socket.link(name)?;
            let index = link.as_ref().map(|link| link.index);
            let known = self.host.by_name(name).map(|link| link.index);
            if let Some(gone) = known.filter(|known| Some(*known) != index) {
                self.link_gone(gone, now);
            }
            if let Some(link) = link {
                let filter = AddressFilter {
                    index: Some(link.index),
                    ..AddressFilter::default()
                };
                let addresses = self.socket.addresses(&filter)?;
                self.host.replace_addresses_of(link.index, &addresses);
                self.link_seen(link, now);
            }
            self.host_changed(now);
        }
        for name in overlay::NAMES {
            if self.host.bar(name, !self.overlay.is_passable(name)) {
                self.table.reroute(name, &self.host);
            }
        }
        Ok(())
    }

    /// What must wait until connections of before have ended is put aside, for the next step.
    fn fill_pipe(&mut self, now: Instant, held_back: &mut Vec<Change>) {
        while self.pipe.has_room() && self.table.has_work(now) {
            let mut changes = self.table.plan(now, self.pipe.batch_limit());
            held_back.extend(changes.extract_if(.., |change| self.flows.holds_back(change)));
            if !changes.is_empty() {
                self.pipe.send(self.table.batch(&changes));
                self.under_way.push_back(changes);
            }
        }
    }

    /// Waits for the oldest batch and takes note of what became of it and of those that are done
    /// too; false if none is under way.
    fn wait_for_pipe(&mut self) -> Result<bool, Error> {
        let mut limit = PIPE_WAIT;
        while let Some(done) = self.pipe.next(limit)? {
            self.note(&done);
            limit = Duration::ZERO;
        }
        Ok(self.pipe.under_way() > 0)
    }

    fn note(&mut self, done: &Done) {
        let mut refused = done.refused.iter().peekable();
        let changes = self.under_way.pop_front().unwrap_or_default();
        for (position, change) in changes.iter().enumerate() {
            let refusal = refused.next_if(|(refused, _)| *refused == position);
            let result = refusal.map_or(Ok(()), |(_, error)| Err(error));
            if self.table.removes_pod(change) {
                self.flows.route_is_gone(change);
            }
            self.table.applied(change, result);
        }
    }

    /// Lists everything and compares.
    fn list(&mut self, now: Instant) -> Result<(), Error> {
        while self.wait_for_pipe()? {}
        let links = self.socket.links()?;
        let present: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        let known: Vec<u32> = self.host.links().map(|link| link.index).collect();
        for index in known.into_iter().filter(|index| !present.contains(index)) {
            self.link_gone(index, now);
        }
        for link in links {
            self.link_seen(link, now);
        }
        let addresses = self.socket.addresses(&AddressFilter::default())?;
        self.host.replace_addresses(&addresses);
        let main = RouteFilter {
            table: Some(TABLE_MAIN),
            ..RouteFilter::default()
        };
        let listed = |route| self.table.listed(route);
        let routes = self.socket.routes_as(&main, listed)?;
        self.table.relist(routes);
        self.workloads.audit();
        self.rules.audit();
        self.overlay.audit();
        self.listings += 1;
        self.listed = true;
        self.listed_at = Some(now);
        self.due.listing = Some(now + self.config.audit_interval);
        self.host_changed(now);
        Ok(())
    }

    fn list_soon(&mut self, now: Instant) {
        let earliest = self
            .listed_at
            .map_or(now, |last| now.max(last + LISTING_PAUSE));
        self.due.listing = Some(self.due.listing.map_or(earliest, |due| due.min(earliest)));
    }

    fn read_events(&mut self, now: Instant) -> Result<(), Error> {
        self.rules.read_events();
        self.flows.read_events();
        for _ in 0..EVENT_READS {
            let events = self.monitor.next(Duration::ZERO)?;
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                self.observe(event, now);
            }
        }
        // What is left in the queue ends the next wait at once.
        Ok(())
    }

    fn observe(&mut self, event: Event, now: Instant) {
        self.overlay.observe(&event);
        match event {
            Event::Link(link) => self.link_seen(link, now),
            Event::LinkGone(link) => self.link_gone(link.index, now),
            Event::Address(address) => self.host.add_address(&address),
            Event::AddressGone(address) => {
                self.host.remove_address(&address);
                let link = self.host.by_index(address.index);
                let uplink = link.is_some_and(|link| !self.host.is_workload(&link.name));
                if uplink && address.net.addr().is_ipv4() {
                    // IPv4 routes that depended on it went without a word.
                    self.list_soon(now);
                    self.last_address_gone(address.index, now);
                }
            }
            Event::Route { route, replaced } => self.table.appeared(route, replaced),
            Event::RouteGone(route) => self.table.vanished(&route),
            Event::Settings { index } => {
                match index.map(|index| self.host.by_index(index)) {
                    None => self.workloads.settings_changed(),
                    Some(Some(link)) => self.workloads.link_changed(&link.name),
                    // Not seen yet; it will be looked at when it is.
                    Some(None) => {}
                }
                return;
            }
            Event::Overrun => self.list_soon(now),
            Event::Neighbour(_)
            | Event::NeighbourGone(_)
            | Event::Forwarding(_)
            | Event::ForwardingGone(_) => return,
        }
        self.host_changed(now);
    }

    /// With its last IPv4 address an interface loses all its IPv4 routes, as if it had been down.
    /// Routes through a tunnel do not wait for the listing that finds out.
    fn last_address_gone(&mut self, index: u32, now: Instant) {
        let has_more = self.host.addresses(index).any(|net| net.addr().is_ipv4());
        let link = self
            .host
            .by_index(index)
            .filter(|link| link.admin_up && overlay::is_tunnel(&link.name) && !has_more);
        if let Some(link) = link.cloned() {
            let down = Link {
                admin_up: false,
                ..link.clone()
            };
            self.link_seen(down, now);
            self.link_seen(link, now);
        }
    }

    fn link_seen(&mut self, link: Link, now: Instant) {
        let old = self.host.set_link(link.clone());
        if old.as_ref() == Some(&link) {
            return;
        }
        if let Some(old) = old.as_ref().filter(|old| old.name != link.name) {
            self.workloads.link_gone(&old.name);
        }
        self.workloads.link_changed(&link.name);
        self.table
            .link_changed(old.as_ref(), Some(&link), &self.host, now);
    }

    fn link_gone(&mut self, index: u32, now: Instant) {
        if let Some(old) = self.host.remove_link(index) {
            self.workloads.link_gone(&old.name);
            self.table.link_changed(Some(&old), None, &self.host, now);
        }
    }

    fn host_changed(&mut self, now: Instant) {
        let pause = if self.reported.facts.is_some() {
            FACTS_PAUSE
        } else {
            Duration::ZERO
        };
        self.due.facts.get_or_insert(now + pause);
        self.gateway_stale = true;
        if self.table.has_refused() {
            let soon = self
                .retried_at
                .map_or(now, |last| now.max(last + RETRY_PAUSE));
            let soon = soon + RETRY_DELAY;
            self.due.retry = Some(self.due.retry.map_or(soon, |due| due.min(soon)));
        }
    }

    fn report(&mut self, now: Instant) -> Applied {
        if self.listed && self.under_way.is_empty() && !self.table.has_work(now) {
            self.settled = self.generation.unwrap_or(0);
        }
        let (routes_written, routes_repaired) = self.table.counts();
        let (sysctls_written, sysctls_repaired) = self.workloads.counts();
        let (rules_written, rules_repaired) = self.rules.counts();
        let (tunnels_written, tunnels_repaired) = self.overlay.counts();
        let mut applied = Applied {
            generation: self.generation.unwrap_or(0),
            settled: self.settled,
            counters: Counters {
                routes_written,
                sysctls_written,
                rules_written,
                tunnels_written,
                drift_repairs: routes_repaired
                    + sysctls_repaired
                    + rules_repaired
                    + tunnels_repaired,
                listings: self.listings,
                waiting: self.table.waiting(),
                refused: self.table.refused(),
                in_place: RouteNumbers::default(),
            },
            ..Applied::default()
        };
        if is_due(&mut self.due.facts, now) {
            let facts = Some(self.host.facts(self.table.host_routes()));
            if facts != self.reported.facts {
                applied.host.clone_from(&facts);
                self.reported.facts = facts;
            }
        }
        if self.generation.is_none() {
            return applied;
        }
        applied.programmed = self.newly_programmed();
        if let Some(local) = &self.reported.programmed {
            applied.counters.in_place = self.table.in_place(local);
        }
        let tunnels = self.overlay.report();
        if tunnels != *self.reported.tunnels {
            self.reported.tunnels = Arc::new(tunnels);
            applied.tunnels = Some(self.reported.tunnels.clone());
        }
        let ready = self.ready();
        if ready != *self.reported.ready {
            self.reported.ready = Arc::new(ready);
            applied.ready = Some(self.reported.ready.clone());
        }
        let mut failures: Vec<Failure> = self.workloads.failures().cloned().collect();
        failures.extend(self.rules.failures().cloned());
        failures.extend(self.overlay.failures());
        failures.extend(self.table.failures());
        if failures != *self.reported.failures {
            self.reported.failures = Arc::new(failures);
            applied.failures = Some(self.reported.failures.clone());
        }
        applied
    }

    /// What changed among the pod and block routes in the kernel; all of them the first time.
    fn newly_programmed(&mut self) -> Option<Programmed> {
        let programmed = self.table.programmed();
        let Some(before) = self.reported.programmed.replace(programmed.clone()) else {
            return Some(Programmed {
                routes: programmed.into_iter().map(|net| (net, true)).collect(),
                complete: true,
            });
        };
        let lost = before.difference(&programmed).map(|net| (*net, false));
        let gained = programmed.difference(&before).map(|net| (*net, true));
        let routes: Vec<(IpNet, bool)> = lost.chain(gained).collect();
        (!routes.is_empty()).then_some(Programmed {
            routes,
            complete: false,
        })
    }

    /// Interfaces on which a pod can talk.
    fn ready(&self) -> BTreeSet<Arc<str>> {
        self.workloads
            .endpoints()
            .iter()
            .filter(|(name, endpoint)| {
                self.workloads.is_settled(name)
                    && self.host.by_name(name).is_some_and(|link| link.admin_up)
                    && endpoint.addresses.iter().all(|address| {
                        self.table.is_programmed(IpNet::from(*address))
                            && !self.flows.is_pending(*address)
                    })
            })
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Due {
    fn next(&self) -> Option<Instant> {
        [self.listing, self.retry, self.facts, self.plan]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Whether the moment has come; then it is over.
fn is_due(due: &mut Option<Instant>, now: Instant) -> bool {
    due.take_if(|when| *when <= now).is_some()
}

/// Our own changes of routes are left out of the events: we know them.
fn connect() -> Result<(Socket, Pipe, Monitor), Error> {
    let socket = Socket::open()?;
    let writer = Socket::open()?;
    let monitor = Monitor::open(&[
        Group::Links,
        Group::Addresses,
        Group::Routes,
        Group::Settings,
    ])?;
    monitor.ignore_changes_of(&writer)?;
    Ok((socket, Pipe::new(writer)?, monitor))
}
