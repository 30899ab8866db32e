//! What sessions report goes into the RIB, what the RIB says goes to the sessions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bgp_fsm::State;
use bgp_rib::{Link, LocalPath, LongLived, PeerId, PeerKind, PeerSession, Rib, RibConfig};
use bgp_wire::attribute::LargeCommunity;
use bgp_wire::{AttributeError, Community, Disposition, Family, Prefix};
use bytes::Bytes;
use tokio::time::Instant;

use crate::config::{Local, Options, Originate, PeerConfig};
use crate::session::{Chunk, Learned, Report, Reporter, Up};
use crate::speaker::deferral::Expected;
use crate::speaker::peers::PeerTask;
use crate::speaker::{Owner, limits, random, refresh};

/// Routes the RIB is told to expect, as long as no UPDATE has more.
const AHEAD: usize = 64;

/// Messages given to a session at once.
const CHUNK_OCTETS: usize = 64 << 10;

impl Owner {
    /// Applies one report of a session.
    pub(super) fn report(&mut self, reporter: Reporter, report: Report) {
        let now = Instant::now();
        let id = reporter.peer;
        let current = |task: &&mut PeerTask| task.number == reporter.task && !task.leaving;
        let Some(task) = self.task(id).filter(current) else {
            return;
        };
        match report {
            Report::State { state, error } => {
                if task.state != state {
                    tracing::debug!(peer = %task.key, %state, "state");
                    task.since = SystemTime::now();
                    task.transitions += 1;
                }
                task.state = state;
                let error = error.map(|error| task.why_closed().unwrap_or(error));
                if let Some(error) = error {
                    // The same error over and over is no news.
                    if task.last_error.as_ref() == Some(&error) {
                        tracing::debug!(peer = %task.key, %error, "connection ended");
                    } else {
                        tracing::info!(peer = %task.key, %error, "connection ended");
                    }
                    task.last_error = Some(error);
                }
                self.note_lonely(id);
                self.news.peer(id);
            }
            Report::Up(up) => self.session_up(now, id, up),
            Report::Down { keep, reason } => {
                tracing::warn!(peer = %task.key, %reason, kept = ?keep, "session down");
                task.flaps += 1;
                task.last_error = Some(task.why_closed().unwrap_or(reason));
                self.session_down(id, &keep);
            }
            Report::LongLived(families) => {
                tracing::warn!(peer = %task.key, ?families, "restart time is over");
                task.long_lived.extend(&families);
                self.rib.long_lived(id, &families);
                self.news.peer(id);
            }
            Report::Forget(families) => {
                for family in families {
                    self.rib.sweep_stale(id, family);
                    self.no_longer_stale(id, family);
                }
            }
            Report::Learned { learned, turn } => {
                self.deferral.heard(now, id);
                let mut learned = learned.into_iter();
                while !learned.as_slice().is_empty() {
                    let expected = self.expect(learned.as_slice());
                    for learned in learned.by_ref().take(expected) {
                        self.learn(id, learned);
                    }
                }
                self.check_limits(id);
                drop(turn);
            }
            Report::Hungry => {
                self.feed(id);
                return;
            }
            Report::Liveness => {
                self.news.peer(id);
                return;
            }
        }
        self.news.routes();
        self.changed();
    }

    fn session_up(&mut self, now: Instant, id: PeerId, mut up: Box<Up>) {
        let Some(task) = self.tasks.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        up.link = link_of(&mut self.links, &task.config, &up);
        let session = peer_session(&self.desired.local, &task.config, &up);
        tracing::info!(
            peer = %task.key,
            families = ?session.params.families.iter().map(|f| f.family.to_string()).collect::<Vec<_>>(),
            "session established"
        );
        self.deferral.up(now, id, expected(&up));
        task.held.clear();
        task.last_error = None;
        task.fault = None;
        task.transitions += u64::from(task.state != State::Established);
        task.state = State::Established;
        task.since = SystemTime::now();
        task.up_down = task.since;
        let families = up.negotiated.families.iter().copied();
        task.owes = Some((now, families.collect()));
        task.up = Some(up);
        self.established += 1;
        task.lonely = None;
        self.rib.peer_up(id, session);
        // An unnumbered peer is found, and BFD may have waited for the session.
        self.detect(id);
        self.news.peer(id);
    }

    /// The established session of a peer is over, if there was one.
    pub(super) fn session_down(&mut self, id: PeerId, keep: &[Family]) {
        if self.task(id).is_some_and(|task| task.up.is_some()) {
            self.established -= 1;
        }
        self.rib.peer_down(id, keep);
        if let Some(task) = self.task(id) {
            if task.up.take().is_some() {
                task.up_down = SystemTime::now();
            }
            task.held.clear();
            task.stale = keep.to_vec();
            task.long_lived.retain(|family| keep.contains(family));
            // What it said while it was back does not get another restart time.
            let long_lived = task.long_lived.clone();
            self.rib.long_lived(id, &long_lived);
        }
        self.refreshes.forget(id);
        self.deferral.down(id);
        self.news.peer(id);
        self.news.routes();
    }

    fn no_longer_stale(&mut self, id: PeerId, family: Family) {
        if let Some(task) = self.task(id) {
            task.stale.retain(|stale| *stale != family);
            task.long_lived.retain(|stale| *stale != family);
        }
        self.news.peer(id);
    }

    /// Tells the RIB what comes next; returns how much of it.
    fn expect(&self, learned: &[Learned]) -> usize {
        let mut routes = 0;
        let expected = learned.iter().take_while(|learned| {
            if routes >= AHEAD {
                return false;
            }
            if let Learned::Update(update) = learned {
                routes += self.rib.expect(update);
            }
            true
        });
        expected.count()
    }

    fn learn(&mut self, id: PeerId, learned: Learned) {
        match learned {
            Learned::Update(update) => {
                for verdict in &update.verdicts {
                    self.malformed(id, verdict);
                }
                self.rib.update(id, &update);
            }
            Learned::EndOfRib(family) => {
                self.refreshes.ended(id, family);
                self.rib.end_of_rib(id, family);
                self.deferral.end_of_rib(id, family);
                self.pays(id, family);
                self.no_longer_stale(id, family);
            }
            Learned::Refresh(refresh) => self.refreshed(id, refresh),
        }
    }

    /// Takes note of an end-of-RIB; the last one ends the convergence of a session.
    fn pays(&mut self, id: PeerId, family: Family) {
        let Some(task) = self.task(id) else { return };
        if let Some((_, families)) = &mut task.owes {
            families.remove(&family);
        }
        let paid = task.owes.take_if(|(_, families)| families.is_empty());
        if let Some((since, _)) = paid {
            self.convergence.observe(since.elapsed().as_secs_f64());
        }
    }

    /// Tells of a fault that was dealt with; a peer must not fill the log with them.
    fn malformed(&mut self, id: PeerId, verdict: &AttributeError) {
        let Some(task) = self.task(id) else { return };
        task.malformed += 1;
        let done = match verdict.disposition {
            Disposition::Discard => "the attribute is discarded",
            Disposition::Withdraw | Disposition::Reset => "its routes are withdrawn",
        };
        let fault = format!("{verdict}; {done} (RFC 7606)");
        if task.malformed.is_power_of_two() {
            tracing::warn!(peer = %task.key, fault, count = task.malformed, "malformed");
        }
        if task.fault.as_ref() != Some(&fault) {
            task.fault = Some(fault);
            self.news.peer(id);
        }
    }

    /// Gives every session what it has room for; the rest stays in the RIB.
    pub(super) fn tell_peers(&mut self) {
        for index in 0..self.tasks.len() {
            self.tell(PeerId(index as u32), Rib::next_messages);
        }
    }

    /// Gives a session that has room again what is ready; decisions are made for all together.
    fn feed(&mut self, id: PeerId) {
        self.tell(id, Rib::ready_messages);
        self.changed();
    }

    fn tell(&mut self, id: PeerId, next: fn(&mut Rib, PeerId, usize) -> Vec<Bytes>) {
        let holds = self.holds_marks();
        let Some(task) = self.tasks.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(conn) = task.up.as_ref().map(|up| up.conn) else {
            return;
        };
        loop {
            let mut room = task.routes.try_reserve();
            if room.is_err() {
                // Asked again after the wish is known, or the session might miss it.
                task.shared.starving.store(true, Ordering::SeqCst);
                room = task.routes.try_reserve();
            }
            let Ok(room) = room else { return };
            let mut messages = next(&mut self.rib, id, CHUNK_OCTETS);
            if messages.is_empty() && task.asks.is_empty() && (holds || task.held.is_empty()) {
                return;
            }
            if holds {
                messages = task.held.hold(messages);
            } else {
                messages.extend(task.held.release());
            }
            messages.extend(task.asks.drain(..).map(refresh::request));
            if !messages.is_empty() {
                room.send(Chunk { conn, messages });
            }
        }
    }

    /// The deferral is over: nobody is told any more that we restart, marks go out.
    pub(super) fn converged(&mut self) {
        tracing::info!("converged");
        for task in self.tasks.iter().flatten() {
            task.restarted();
        }
        for (id, family) in self.refreshes.put_off() {
            self.rib.refresh(id, family);
        }
        self.news.converged();
    }

    /// Announces prefixes of ours.
    pub(super) fn originate(&mut self, prefixes: &BTreeMap<Prefix, Originate>) {
        for (prefix, originate) in prefixes {
            self.originate_one(*prefix, Some(originate));
        }
    }

    /// Announces and withdraws what differs.
    pub(super) fn change_originated(
        &mut self,
        old: &BTreeMap<Prefix, Originate>,
        new: &BTreeMap<Prefix, Originate>,
    ) {
        for prefix in old.keys().filter(|prefix| !new.contains_key(*prefix)) {
            self.originate_one(*prefix, None);
        }
        for (prefix, originate) in new {
            if old.get(prefix) != Some(originate) {
                self.originate_one(*prefix, Some(originate));
            }
        }
    }

    fn originate_one(&mut self, prefix: Prefix, originate: Option<&Originate>) {
        let path = originate.map(local_path);
        if let Err(error) = self.rib.originate(prefix, path.as_ref()) {
            tracing::error!(%prefix, %error, "cannot announce a prefix");
        }
        self.news.routes();
    }
}

fn local_path(originate: &Originate) -> LocalPath {
    let large = |[global, local1, local2]: [u32; 3]| LargeCommunity {
        global,
        local1,
        local2,
    };
    LocalPath {
        next_hop: originate.next_hop,
        local_pref: originate.local_pref,
        communities: originate
            .communities
            .iter()
            .copied()
            .map(Community)
            .collect(),
        large_communities: originate
            .large_communities
            .iter()
            .copied()
            .map(large)
            .collect(),
        ..LocalPath::default()
    }
}

/// Settings of the RIB for a speaker.
pub(super) fn rib_config(local: &Local, options: &Options) -> RibConfig {
    RibConfig {
        cluster_id: local.cluster_id,
        multipath: local.multipath,
        always_compare_med: local.always_compare_med,
        missing_med_is_worst: local.missing_med_is_worst,
        forwards: options.best_paths,
        ..RibConfig::new(local.asn, local.router_id, random())
    }
}

/// The decisions of the RIB rest on what differs.
pub(super) fn needs_new_rib(old: &Local, new: &Local) -> bool {
    let rests_on = |l: &Local| {
        let med = (l.always_compare_med, l.missing_med_is_worst);
        (l.asn, l.router_id, l.multipath, med)
    };
    rests_on(old) != rests_on(new)
}

/// What tells that the peer has told everything. A peer that restarts itself waits for our own
/// end-of-RIB (RFC 4724 §4.1).
fn expected(up: &Up) -> Expected {
    match &up.negotiated.restart {
        Some(restart) if !restart.restarting => {
            Expected::EndOfRib(up.negotiated.families.iter().copied().collect())
        }
        Some(_) | None => Expected::Silence,
    }
}

/// Our subnets, both families, when the peer is in one of them: it is on the same link then.
fn shared_subnets(local: &Local, peer: IpAddr) -> Arc<[Prefix]> {
    if local.subnets.iter().any(|s| s.contains(peer)) {
        local.subnets.clone().into()
    } else {
        Arc::from([])
    }
}

/// Number of an interface in the RIB.
fn number_of(links: &mut Vec<Arc<str>>, interface: &Arc<str>) -> u32 {
    let known = links.iter().position(|known| known == interface);
    known.unwrap_or_else(|| {
        links.push(interface.clone());
        links.len() - 1
    }) as u32
}

/// The link of a session between link-local addresses.
fn link_of(links: &mut Vec<Arc<str>>, config: &PeerConfig, up: &Up) -> Option<Link> {
    let (interface, local) = config.interface.as_ref().zip(up.local)?;
    match local.ip() {
        IpAddr::V6(own) if own.is_unicast_link_local() => Some(Link {
            number: number_of(links, interface),
            own,
        }),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

pub(super) fn peer_session(local: &Local, config: &PeerConfig, up: &Up) -> PeerSession {
    let own = up.local.map(|address| address.ip().to_canonical());
    // Nobody can be told to send packets to a loopback address.
    let own = own.filter(|address| !address.is_loopback());
    let own_v4: Option<Ipv4Addr> = match own {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    };
    let own_v6: Option<Ipv6Addr> = match own {
        Some(IpAddr::V6(address)) => Some(address).filter(|_| up.link.is_none()),
        Some(IpAddr::V4(_)) | None => None,
    };
    let kind = match (
        config.remote_as == config.own_as(local),
        config.reflector_client,
    ) {
        (false, _) => PeerKind::Ebgp,
        (true, false) => PeerKind::Ibgp,
        (true, true) => PeerKind::IbgpClient,
    };
    PeerSession {
        kind,
        remote_as: up.negotiated.remote_as,
        remote_router_id: up.negotiated.remote_id,
        remote_addr: up
            .remote
            .map_or(config.address, |remote| remote.ip().to_canonical()),
        link: up.link,
        local_v4: own_v4.or(local.next_hop_v4),
        local_v6: own_v6.or(local.next_hop_v6),
        params: up.negotiated.params.clone(),
        next_hop: config.next_hop,
        shared_subnets: shared_subnets(local, config.address),
        max_prefixes: limits::used(config),
        long_lived_offered: config.restart_time_secs.is_some() && config.long_lived_secs.is_some(),
        long_lived: match (
            up.negotiated.long_lived.is_empty(),
            config.long_lived_to_all,
        ) {
            (false, _) => LongLived::Told,
            (true, true) => LongLived::LeastPreferred,
            (true, false) => LongLived::Withheld,
        },
        add_path_limit: config.add_path_limit,
        local_as: config.local_as.filter(|asn| *asn != local.asn),
        enforce_first_as: config.enforce_first_as,
        role: config.role,
        graceful_shutdown: config.graceful_shutdown,
        require_policy: local.require_policy,
        allow_own_as: config.allow_own_as,
        prepend: 0,
        import: config.import.clone(),
        export: config.export.clone(),
    }
}
