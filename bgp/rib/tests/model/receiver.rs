//! A peer on the other side: applies our octets as its RFCs have it.

use std::collections::{BTreeMap, BTreeSet};

use bgp_wire::{
    Attributes, Family, Message, NextHop, Nlri, Params, RefreshSubtype, RouteRefresh, Update,
    decode, header,
};

use crate::reference::{Held, sort};

pub(crate) struct Receiver {
    params: Params,
    /// By prefix and path identifier.
    pub(crate) held: BTreeMap<Nlri, (NextHop, Attributes)>,
    /// Families whose End-of-RIB has come.
    pub(crate) ended: BTreeSet<Family>,
    /// What has not been repeated since the begin mark of a refresh (RFC 7313 §4).
    unrepeated: BTreeMap<Family, BTreeSet<Nlri>>,
}

impl Receiver {
    /// `params` are those of the sender.
    pub(crate) fn new(params: &Params) -> Self {
        let mut params = params.clone();
        for family in &mut params.families {
            std::mem::swap(&mut family.add_path_receive, &mut family.add_path_send);
        }
        Self {
            params,
            held: BTreeMap::new(),
            ended: BTreeSet::new(),
            unrepeated: BTreeMap::new(),
        }
    }

    pub(crate) fn families(&self) -> BTreeSet<Family> {
        self.params
            .families
            .iter()
            .map(|params| params.family)
            .collect()
    }

    /// What is held of each prefix, in the order of the model.
    pub(crate) fn by_prefix(&self) -> Held {
        let mut held = Held::new();
        for (route, told) in &self.held {
            held.entry(route.prefix).or_default().push(told.clone());
        }
        held.values_mut().for_each(|told| sort(told));
        held
    }

    /// Reads whole messages.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = header::frame(bytes, self.params.max_message_len())
                .unwrap()
                .expect("a buffer holds whole messages");
            let (message, rest) = bytes.split_at(length);
            match decode(message, &self.params).unwrap() {
                Message::Update(update) => self.update(&update),
                Message::RouteRefresh(refresh) => self.refresh(refresh),
                other => panic!("unexpected {other:?}"),
            }
            bytes = rest;
        }
    }

    fn update(&mut self, update: &Update) {
        assert!(update.verdicts.is_empty(), "{:?}", update.verdicts);
        if let Some(family) = update.as_end_of_rib() {
            assert!(
                self.ended.insert(family),
                "End-of-RIB of {family} came twice"
            );
            return;
        }
        for route in update.unreach.iter().flat_map(|unreach| &unreach.nlri) {
            self.held.remove(route);
        }
        for reach in &update.reach {
            let attributes = update.attributes.as_ref().expect("routes have attributes");
            for route in &reach.nlri {
                let told = (reach.next_hop, attributes.as_ref().clone());
                self.held.insert(*route, told);
                if let Some(unrepeated) = self.unrepeated.get_mut(&reach.family) {
                    unrepeated.remove(route);
                }
            }
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh) {
        assert!(self.params.enhanced_route_refresh, "marks not negotiated");
        let family = refresh.family;
        match refresh.subtype {
            RefreshSubtype::BeginningOfRib => {
                let of_family = |route: &&Nlri| route.prefix.family() == family;
                let held = self.held.keys().filter(of_family).copied().collect();
                self.unrepeated.insert(family, held);
            }
            RefreshSubtype::EndOfRib => {
                let unrepeated = self.unrepeated.remove(&family);
                for route in unrepeated.expect("a begin mark came before") {
                    self.held.remove(&route);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}
