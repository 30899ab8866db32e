//! The sections about tunnels, and what of other nodes decides about routes through them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Calc;
use crate::facts::{Felix, Tunnel};
use crate::overlay::{Basis, in_place, on_devices};
use crate::{HostFacts, NextHop, Output, TunnelFacts, encap, firewall, remote};

impl Calc {
    /// What is known of this node's tunnels; nothing before the first output.
    pub fn tunnel_facts(&self) -> Option<&TunnelFacts> {
        self.said.tunnel_facts.as_ref()
    }

    /// Settings of the cluster, and above them those of this node.
    fn felix(&self) -> Felix {
        let inputs = &self.inputs;
        match inputs.felix_overrides.get(&self.settings.node) {
            Some(own) => own.over(&inputs.felix),
            None => Felix::default().over(&inputs.felix),
        }
    }

    /// Overlay and firewall; their problems too.
    pub(super) fn flush_tunnels(&mut self, output: &mut Output) {
        if !std::mem::take(&mut self.dirty.tunnels) {
            return;
        }
        let felix = self.felix();
        let empty = HostFacts::default();
        let pools = self.inputs.all_pools();
        let unread_pool = self.inputs.has_unread_pool();
        let basis = Basis {
            name: &self.settings.node,
            nodes: &self.inputs.nodes,
            pools: &pools,
            unread_pool,
            felix: &felix,
            host: self.inputs.host.as_ref().unwrap_or(&empty),
            addresses: self.inputs.tunnels,
        };
        let overlay = basis.overlay();
        let firewall = firewall::firewall(&basis, &overlay);
        let mut problems = Vec::new();
        basis.check(&overlay, &mut problems);
        let switched_off = [
            (Tunnel::Ipip, felix.ipip_enabled),
            (Tunnel::Vxlan, felix.vxlan_enabled),
        ];
        let off = switched_off.into_iter();
        let off = off.filter(|(_, enabled)| *enabled == Some(false));
        let off: Vec<Tunnel> = off.map(|(tunnel, _)| tunnel).collect();
        if self.tables.switched_off != off {
            self.tables.switched_off = off;
            self.dirty.all_routes = true;
        }
        let facts = TunnelFacts {
            wanted: basis.wanted(),
            in_place: in_place(basis.host, self.inputs.tunnels),
            on_devices: on_devices(basis.host),
            keep: unread_pool,
        };
        let own: Vec<IpAddr> = facts.in_place.all().collect();
        self.said.tunnel_facts = Some(facts);
        if self.tables.own_tunnels != own {
            self.tables.own_tunnels = own;
            self.dirty.bgp = true;
        }
        if self.section_problems.tunnels != problems {
            self.section_problems.tunnels = problems;
            self.dirty.problems = true;
        }
        if self.said.overlay.as_deref() != Some(&overlay) {
            let said = Arc::new(overlay);
            output.overlay = Some(said.clone());
            self.said.overlay = Some(said);
        }
        if self.said.firewall.as_deref() != Some(&firewall) {
            let said = Arc::new(firewall);
            output.firewall = Some(said.clone());
            self.said.firewall = Some(said);
        }
    }

    /// Marks the routes to nodes whose tunnels are other than before.
    pub(super) fn follow_ends(&mut self) {
        if !std::mem::take(&mut self.dirty.ends) {
            return;
        }
        let ends = encap::ends(&self.settings.node, &self.inputs.nodes);
        let before = std::mem::replace(&mut self.tables.ends, ends);
        let ends = &self.tables.ends;
        let all = before.keys().chain(ends.keys());
        let changed = all.filter(|address| before.get(address) != ends.get(address));
        let changed: HashSet<NextHop> = changed.map(|address| NextHop::from(*address)).collect();
        let addresses = before.values().chain(ends.values());
        let addresses = addresses.filter_map(|end| end.vxlan);
        self.dirty.routes.extend(addresses.map(IpNet::from));
        self.touch_next_hops(&changed);
        self.dirty.problems |= !changed.is_empty();
    }

    /// Marks the destinations that go through any of these next hops.
    pub(super) fn touch_next_hops(&mut self, moved: &HashSet<NextHop>) {
        if moved.is_empty() {
            return;
        }
        let goes =
            |next_hops: &[NextHop]| next_hops.iter().any(|next_hop| moved.contains(next_hop));
        let learned = self.book.all_learned();
        let learned = learned.filter(|(_, next_hops)| goes(next_hops));
        self.dirty.routes.extend(learned.map(|(prefix, _)| prefix));
        let remote = self.tables.remote.iter();
        let remote = remote.filter(|(_, address)| moved.contains(&NextHop::from(**address)));
        self.dirty.routes.extend(remote.map(|(prefix, _)| *prefix));
    }

    /// Whose addresses are where, as address management says it.
    pub(super) fn follow_remote(&mut self) {
        if !std::mem::take(&mut self.dirty.remote) {
            return;
        }
        let inputs = &self.inputs;
        let node = &self.settings.node;
        let pools = inputs.all_pools();
        let ranges = pools.values().map(|pool| pool.cidr).collect();
        let known = remote::Known {
            this: node,
            nodes: &inputs.nodes,
            claims: &inputs.claims,
            borrowed: &inputs.borrowed,
            // What lies in a pool of which not even the range can be read is no less borrowed.
            pools: Some(ranges).filter(|_| !inputs.has_hidden_pool()),
        };
        let places = known.places();
        let remote = known.next_hops(&places);
        let before = std::mem::replace(&mut self.tables.remote, remote);
        let all = before.keys().chain(self.tables.remote.keys());
        let changed = all.filter(|prefix| before.get(prefix) != self.tables.remote.get(prefix));
        let changed: Vec<IpNet> = changed.copied().collect();
        self.dirty.routes.extend(changed);
        let far = places.into_iter().map(|(range, _)| range).collect();
        let before = std::mem::replace(&mut self.tables.far, far);
        let changed: Vec<IpNet> = before
            .symmetric_difference(&self.tables.far)
            .copied()
            .collect();
        // Whether a pool has drop routes may depend on it.
        let pools = self.tables.pools.iter().filter(|pool| pool.disabled);
        self.dirty.routes.extend(pools.map(|pool| pool.cidr));
        self.dirty.routes.extend(changed);
    }
}
