//! [`Rib`]: the whole of it behind one type.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp_wire::attribute::LargeCommunity;
use bgp_wire::{
    Attributes, AttributesBuilder, Community, EncodeError, Family, NextHop, Nlri, Origin, Prefix,
    Unreach, Update,
};

use crate::adj_rib_out::AdjRibOut;
use crate::attrs::Attrs;
use crate::counts::PeerCounts;
use crate::decision::Reason;
use crate::import::Importer;
use crate::key::{FamilyIndex, Tables};
use crate::loc_rib::{Change, LocRib};
use crate::nexthop::{Hop, Reachability, Via, link_local};
use crate::path::{AttrId, Path, PeerId};
use crate::peer::{Peer, PeerSession, RibConfig, Shared};
use crate::policy::Policy;
use crate::table::{NEAR, PrefixId};

mod answers;
mod limit;
mod output;

pub use answers::{Part, Position, ToldPath, V6};

/// The best paths of a prefix, for a forwarding table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Best {
    /// Where the best path came from; `None` when the prefix is originated here.
    pub peer: Option<PeerId>,
    /// The next hops that share the traffic, that of the best path first; each is listed once.
    /// Empty when the prefix is originated here without a next hop.
    pub next_hops: Vec<Hop>,
    /// Why the first one is the best.
    pub reason: Reason,
}

/// A prefix originated here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalPath {
    /// Where packets go; without it peers are told our own address on their session.
    pub next_hop: Option<IpAddr>,
    /// ORIGIN.
    pub origin: Origin,
    /// MULTI_EXIT_DISC, told to external peers too.
    pub med: Option<u32>,
    /// LOCAL_PREF for internal peers, 100 if not given.
    pub local_pref: Option<u32>,
    /// COMMUNITIES. They are for the peers: NO_EXPORT does not stop us from telling them.
    pub communities: Vec<Community>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
}

/// How much there is of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Prefixes with a path, usable or not.
    pub prefixes_v4: usize,
    /// The same for IPv6.
    pub prefixes_v6: usize,
    /// Distinct attribute sets.
    pub attribute_sets: usize,
    /// Distinct next hops.
    pub next_hops: usize,
}

/// What peers said, which of it is best, and what each peer is told.
///
/// See the [package documentation](crate) for how it is used.
#[derive(Debug)]
pub struct Rib {
    pub(crate) shared: Shared,
    pub(crate) tables: Tables,
    pub(crate) out: AdjRibOut,
    /// Scratch space of [`Rib::settle`].
    changed: Vec<PrefixId>,
}

impl Rib {
    /// An empty table.
    #[must_use]
    pub fn new(config: RibConfig) -> Self {
        let tables = Tables {
            v4: LocRib::new(config.seed),
            v6: LocRib::new(config.seed),
        };
        Self {
            shared: Shared::new(config),
            tables,
            out: AdjRibOut::default(),
            changed: Vec::new(),
        }
    }

    /// Adds a peer whose session is established. It will be told everything, then End-of-RIB.
    ///
    /// Paths kept from its last session stay until they are announced again or swept.
    pub fn peer_up(&mut self, peer: PeerId, session: PeerSession) {
        if self.is_up(peer) {
            self.peer_down(peer, &[]);
        }
        let known = self.shared.peer(peer);
        let change = known.map_or(Change::None, |known| {
            known.session.effect_on_kept_paths(&session)
        });
        let new = Peer {
            session,
            is_up: true,
        };
        self.shared.peers.set(peer, new);
        self.judge_again(peer, change);
        self.refill(peer);
        // The memory of a new update group is read from the Loc-RIB.
        self.settle();
        self.out.join(&self.shared, &self.tables, peer);
    }

    /// Applies an UPDATE.
    ///
    /// One from a peer that is not up is ignored: it was on its way when the session ended.
    /// End-of-RIB is not recognised here, see [`Rib::end_of_rib`].
    pub fn update(&mut self, peer: PeerId, update: &Update) {
        if !self.is_up(peer) {
            return;
        }
        for Unreach { nlri, .. } in &update.unreach {
            for part in nlri.chunks(NEAR) {
                self.withdraw(peer, part);
            }
        }
        let Some(attributes) = &update.attributes else {
            return;
        };
        for reach in &update.reach {
            self.announce(peer, attributes, reach.next_hop, &reach.nlri);
        }
    }

    /// Looks up what an UPDATE is about, and changes nothing; returns how many routes these are.
    ///
    /// A large table is slow because each lookup waits for memory. Told of the next few UPDATEs
    /// together, the machine waits for all of them at once. What is about many routes has no need
    /// of it: [`Rib::update`] does the same part by part.
    pub fn expect(&self, update: &Update) -> usize {
        let announced = update.reach.iter().map(|reach| &reach.nlri);
        let withdrawn = update.unreach.iter().map(|unreach| &unreach.nlri);
        let lists = announced.chain(withdrawn);
        lists.fold(0, |count, nlri| {
            if nlri.len() <= NEAR {
                self.touch(nlri);
            }
            count + nlri.len()
        })
    }

    fn touch(&self, nlri: &[Nlri]) {
        for nlri in nlri {
            self.tables.touch(nlri.prefix);
        }
    }

    fn announce(&mut self, peer: PeerId, attributes: &Attributes, via: NextHop, nlri: &[Nlri]) {
        let Some(known) = self.shared.peers.get(peer) else {
            return;
        };
        let link = known.session.link.map(|link| link.number);
        let link = link.filter(|_| link_local(via).is_some());
        let next_hop = Some(via);
        let via = Via { next_hop, link };
        let received = self.shared.attrs.acquire(attributes, via);
        for part in nlri.chunks(NEAR) {
            if nlri.len() > NEAR {
                self.touch(part);
            }
            self.announce_part(peer, received, part);
        }
        self.shared.attrs.release(received);
    }

    fn announce_part(&mut self, peer: PeerId, received: AttrId, nlri: &[Nlri]) {
        let Self { shared, tables, .. } = self;
        let Shared {
            config,
            peers,
            attrs,
        } = shared;
        let Some(known) = peers.get(peer) else {
            return;
        };
        let mut importer = Importer::new(config, &known.session);
        let limit = known.session.prefix_limit();
        for &Nlri { prefix, path_id } in nlri {
            let (id, refused) = importer.judge(attrs, prefix, received);
            let path = Path::new(peer, id, path_id, refused);
            match prefix {
                Prefix::V4(key) => tables.v4.announce((peers, attrs), key, path, limit),
                Prefix::V6(key) => tables.v6.announce((peers, attrs), key, path, limit),
            }
        }
    }

    /// Removes paths to up to [`NEAR`] prefixes, which are looked up together.
    fn withdraw(&mut self, peer: PeerId, nlri: &[Nlri]) {
        let Self { shared, tables, .. } = self;
        let mut found = [None; NEAR];
        for (id, nlri) in found.iter_mut().zip(nlri) {
            *id = tables.touch(nlri.prefix);
        }
        for (id, &Nlri { prefix, path_id }) in found.into_iter().zip(nlri) {
            let Some(id) = id else { continue };
            match prefix {
                Prefix::V4(_) => tables.v4.withdraw(shared, id, peer, path_id),
                Prefix::V6(_) => tables.v6.withdraw(shared, id, peer, path_id),
            }
        }
    }

    /// Originates a prefix, changes how, or ends it with `None`.
    ///
    /// # Errors
    /// [`EncodeError::AttributesTooLong`] for more communities than any message can hold; the
    /// prefix is as before then.
    pub fn originate(
        &mut self,
        prefix: Prefix,
        path: Option<&LocalPath>,
    ) -> Result<(), EncodeError> {
        let Some(path) = path else {
            self.withdraw(PeerId::LOCAL, &[prefix.into()]);
            return Ok(());
        };
        let attributes = path.attributes()?;
        let Self { shared, tables, .. } = self;
        let next_hop = path.next_hop.map(NextHop::from);
        let attrs = shared.attrs.acquire(&attributes, next_hop);
        let path = Path::new(PeerId::LOCAL, attrs, 0, None);
        let known = (&shared.peers, &mut shared.attrs);
        match prefix {
            Prefix::V4(key) => tables.v4.announce(known, key, path, u32::MAX),
            Prefix::V6(key) => tables.v6.announce(known, key, path, u32::MAX),
        }
        Ok(())
    }

    /// Changes the policies of a peer. Paths it sent are judged again without asking it, and it is
    /// told what it may know now.
    pub fn set_policies(&mut self, peer: PeerId, import: Arc<Policy>, export: Arc<Policy>) {
        if let Some(known) = self.shared.peer(peer) {
            let session = PeerSession {
                import,
                export,
                ..known.session.clone()
            };
            self.set_session(peer, session);
        }
    }

    /// Changes what a session that goes on is treated by, all but what was negotiated. Paths from
    /// the peer are judged again without asking it, and it is told again what it may know now, if
    /// anything that matters for it is different.
    pub fn set_session(&mut self, peer: PeerId, session: PeerSession) {
        let Some(known) = self.shared.peers.get_mut(peer) else {
            return;
        };
        let effect = known.session.effect_on_kept_paths(&session);
        let is_judged_alike = known.session.judges_like(&session);
        known.session = session;
        if effect != Change::None || !is_judged_alike {
            self.judge_again(peer, effect);
        }
        self.refill(peer);
        self.settle();
        self.out.regroup(&self.shared, &self.tables, peer);
    }

    /// Changes the cluster this speaker reflects for. All paths are judged again, and who hears of
    /// them is told again.
    pub fn set_cluster_id(&mut self, cluster_id: Option<Ipv4Addr>) {
        if self.shared.config.cluster_id == cluster_id {
            return;
        }
        self.shared.config.cluster_id = cluster_id;
        for peer in self.shared.peers.ids() {
            self.judge_again(peer, Change::Wording);
            self.refill(peer);
        }
        self.settle();
    }

    /// Has all paths of a peer judged again, after a change of its session with this effect on all
    /// of them.
    fn judge_again(&mut self, peer: PeerId, effect: Change) {
        let Self { shared, tables, .. } = self;
        let Shared {
            config,
            peers,
            attrs,
        } = shared;
        let Some(known) = peers.get(peer) else {
            return;
        };
        let mut importer = Importer::new(config, &known.session);
        let mut judge = |attrs: &mut Attrs, prefix: Prefix, path: &mut Path| {
            let old = *path;
            if old.is_surplus() {
                // Judged when there is room for it.
                return Change::None;
            }
            let received = attrs.received(old.attrs);
            (path.attrs, path.refused) = importer.judge(attrs, prefix, received);
            attrs.release(old.attrs);
            if path.attrs != old.attrs {
                effect.max(Change::Wording)
            } else if path.refused != old.refused {
                effect.max(Change::Ranking)
            } else {
                effect
            }
        };
        tables.v4.change_paths(attrs, peer, |attrs, key, path| {
            judge(attrs, Prefix::V4(key), path)
        });
        tables.v6.change_paths(attrs, peer, |attrs, key, path| {
            judge(attrs, Prefix::V6(key), path)
        });
    }

    /// Changes or removes the paths of a peer in some families.
    pub(crate) fn change_paths(
        &mut self,
        peer: PeerId,
        families: &[FamilyIndex],
        change: impl Fn(&mut Path) -> Change,
    ) {
        let attrs = &mut self.shared.attrs;
        for &family in families {
            match family {
                FamilyIndex::V4 => {
                    let v4 = &mut self.tables.v4;
                    v4.change_paths(attrs, peer, |_, _, path| change(path));
                }
                FamilyIndex::V6 => {
                    let v6 = &mut self.tables.v6;
                    v6.change_paths(attrs, peer, |_, _, path| change(path));
                }
            }
        }
    }

    /// Records what is known about the way to a next hop; about most, nothing needs to be.
    pub fn set_next_hop(&mut self, hop: impl Into<Hop>, reachability: Reachability) {
        let next_hops = &mut self.shared.attrs.next_hops;
        if next_hops.report(hop.into(), reachability) {
            self.tables.v4.mark_all_dirty();
            self.tables.v6.mark_all_dirty();
        }
    }

    /// Takes the next hops that paths, used or not, began or ceased to have since the last time,
    /// for somebody who resolves them; `true` where there is such a path now. Nothing without
    /// [`RibConfig::forwards`](crate::RibConfig::forwards).
    pub fn next_hop_changes(&mut self) -> Vec<(Hop, bool)> {
        self.shared.attrs.next_hops.take_changed()
    }

    /// How much there is of what.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            prefixes_v4: self.tables.v4.table.len(),
            prefixes_v6: self.tables.v6.table.len(),
            attribute_sets: self.shared.attrs.len(),
            next_hops: self.shared.attrs.next_hops.len(),
        }
    }

    /// How many routes of a family are held from a peer and told to it. No table is walked.
    pub fn peer_counts(&mut self, peer: PeerId, family: Family) -> PeerCounts {
        self.settle();
        let Some(family) = FamilyIndex::of(family) else {
            return PeerCounts::default();
        };
        let held = match family {
            FamilyIndex::V4 => &self.tables.v4.held,
            FamilyIndex::V6 => &self.tables.v6.held,
        };
        PeerCounts {
            advertised: self.out.told_to(peer, family),
            ..held.of(peer)
        }
    }

    fn is_up(&self, peer: PeerId) -> bool {
        self.shared.peer(peer).is_some_and(|known| known.is_up)
    }
}

impl LocalPath {
    fn attributes(&self) -> Result<Attributes, EncodeError> {
        AttributesBuilder {
            origin: self.origin,
            med: self.med,
            local_pref: self.local_pref,
            communities: self.communities.clone(),
            large_communities: self.large_communities.clone(),
            ..AttributesBuilder::default()
        }
        .build()
    }
}
