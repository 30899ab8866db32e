//! Answers in the words of `bgp-api`, each bounded: long ones come in pages.

use std::net::IpAddr;

use bgp_api::{Advertised, Outcome, Page, Path, PeerDetail, Route, RouteAnswer, Told, Why};
use bgp_rib::{
    Best, ExplainedExport, ExplainedPath, Explanation, Outcome as Became, PeerId, Position,
    ToldPath,
};
use bgp_wire::{NextHop, Prefix};

use crate::answer;
use crate::metrics::{Numbers, OfPeer};
use crate::session::Direction;
use crate::speaker::Owner;
use crate::speaker::peers::PeerTask;

impl Owner {
    pub(crate) fn summary(&mut self) -> bgp_api::Summary {
        let peers = self.peers.values().copied().collect::<Vec<_>>();
        let peers = peers.into_iter().filter_map(|id| self.line(id)).collect();
        let info = self.info();
        let counts = self.rib.counts();
        let local = &self.desired.local;
        bgp_api::Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            asn: local.asn,
            router_id: local.router_id,
            cluster_id: local.cluster_id.unwrap_or(local.router_id),
            listening: info.listening,
            converged: info.converged,
            waiting_for: info.waiting_for.iter().map(ToString::to_string).collect(),
            missing: info.missing.iter().map(ToString::to_string).collect(),
            converges_by: info.converges_by.map(answer::seconds),
            converges_in_secs: info.converges_by.map(answer::seconds_until),
            strangers: info.strangers,
            prefixes_ipv4: counts.prefixes_v4,
            prefixes_ipv6: counts.prefixes_v6,
            attribute_sets: counts.attribute_sets,
            next_hops: counts.next_hops,
            peers,
        }
    }

    pub(crate) fn lines(&mut self) -> Vec<bgp_api::Peer> {
        let peers = self.peers.values().copied().collect::<Vec<_>>();
        peers.into_iter().filter_map(|id| self.line(id)).collect()
    }

    pub(crate) fn numbers(&mut self) -> Numbers {
        let peers = self.peers.values().copied().collect::<Vec<_>>();
        let mut messages = self.retired.clone();
        for task in self.tasks.iter().flatten() {
            messages += &task.shared.counters.read();
        }
        let counts = self.rib.counts();
        Numbers {
            labels: peers.len() < self.options.metrics_peers,
            peers: peers
                .into_iter()
                .filter_map(|id| self.numbers_of(id))
                .collect(),
            messages,
            convergence: self.convergence.clone(),
            prefixes: [counts.prefixes_v4, counts.prefixes_v6],
        }
    }

    fn numbers_of(&mut self, id: PeerId) -> Option<OfPeer> {
        let line = self.line(id)?;
        let task = self.known(id)?;
        Some(OfPeer {
            line,
            state: task.state,
            transitions: task.transitions,
        })
    }

    fn line(&mut self, id: PeerId) -> Option<bgp_api::Peer> {
        let info = self.peer_info(id)?;
        let task = self.tasks.get(id.0 as usize)?.as_ref()?;
        Some(answer::line(&self.desired.local, &task.config, info))
    }

    /// The peer with this name or address.
    pub(crate) fn find(&self, name: &str) -> Option<PeerId> {
        if let Some(id) = self.peers.get(&name.into()) {
            return Some(*id);
        }
        let address: IpAddr = name.parse().ok()?;
        let mut peers = self.peers.values().copied();
        peers.find(|id| self.known(*id).is_some_and(|task| task.remote() == address))
    }

    fn known(&self, id: PeerId) -> Option<&PeerTask> {
        self.tasks.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn detail(&mut self, name: &str) -> Option<PeerDetail> {
        let id = self.find(name)?;
        let peer = self.line(id)?;
        let task = self.known(id)?;
        let counted = task.shared.counters.read();
        let restart = task
            .up
            .as_ref()
            .and_then(|up| up.negotiated.restart.as_ref());
        let stale = peer.stale_families.clone();
        let stale_routes = peer
            .routes
            .iter()
            .filter(|counts| stale.contains(&counts.family));
        Some(PeerDetail {
            settings: answer::settings(&task.config),
            session: task.up.as_deref().and_then(answer::session),
            messages: bgp_api::Messages {
                received: counted.by_type(Direction::In),
                sent: counted.by_type(Direction::Out),
            },
            notifications: answer::notifications(&counted.notifications),
            restart: bgp_api::Restart {
                restarting: self.options.restarting && !self.deferral.is_over(),
                peer_restarting: restart.is_some_and(|restart| restart.restarting),
                peer_time_secs: restart.map(|restart| restart.time_secs),
                stale_routes: stale_routes.map(|counts| counts.received).sum(),
                stale_families: stale,
                long_lived_families: task.long_lived.iter().map(ToString::to_string).collect(),
            },
            bfd: task.bfd.borrow().map(|status| (&status.info()).into()),
            peer,
        })
    }

    pub(crate) fn routes_page(&mut self, offset: Position, max: usize) -> Page<Route> {
        let (explained, next) = self.rib.explain_from(offset, max);
        let items = explained.iter().map(|route| self.route(route)).collect();
        Page { items, next }
    }

    pub(crate) fn received_page(
        &mut self,
        name: &str,
        offset: Position,
        max: usize,
    ) -> Option<Page<Path>> {
        let id = self.find(name)?;
        let (received, next) = self.rib.received_from(id, offset, max);
        let mut items = Vec::new();
        for route in &received {
            let own = route.paths.iter().filter(|path| path.peer == Some(id));
            items.extend(own.map(|path| Path {
                attributes: answer::attributes(&path.received),
                ..self.path(route.prefix, path, &route.paths)
            }));
        }
        Some(Page { items, next })
    }

    pub(crate) fn advertised_page(
        &mut self,
        name: &str,
        offset: Position,
        max: usize,
    ) -> Option<Page<Advertised>> {
        let id = self.find(name)?;
        let (told, next) = self.rib.told_from(id, offset, max);
        let items = told.iter().map(|told| self.advertised(told)).collect();
        Some(Page { items, next })
    }

    pub(crate) fn route_answer(&mut self, asked: &str, prefix: Prefix, exact: bool) -> RouteAnswer {
        let covering = self.rib.covering(prefix);
        let mut answer = RouteAnswer {
            asked: asked.to_owned(),
            exact: None,
            covering: Vec::new(),
        };
        for found in covering {
            let Some(explained) = self.rib.explain(found) else {
                continue;
            };
            let route = self.route(&explained);
            if exact && found == prefix {
                answer.exact = Some(route);
            } else {
                answer.covering.push(route);
            }
        }
        answer
    }

    /// The story of a prefix, or of the longest one that covers an address; of one peer or all.
    ///
    /// # Errors
    /// The name, when it is nobody's.
    pub(crate) fn why(
        &mut self,
        asked: &str,
        prefix: Prefix,
        exact: bool,
        peer: Option<&str>,
    ) -> Result<Why, String> {
        let only = match peer {
            Some(name) => Some(self.find(name).ok_or_else(|| name.to_owned())?),
            None => None,
        };
        let mut covering = self.rib.covering(prefix).into_iter();
        let found = covering.find(|found| !exact || *found == prefix);
        let mut why = Why {
            asked: asked.to_owned(),
            prefix: found.map(answer::net),
            paths: Vec::new(),
            next_hops: Vec::new(),
            peers: Vec::new(),
            text: Vec::new(),
        };
        if let Some(found) = found {
            if let Some(explained) = self.rib.explain(found) {
                why.paths = self.route(&explained).paths;
            }
            let best = self.rib.best(found);
            let told = self.peers.values().copied().collect::<Vec<_>>().into_iter();
            let told = told.filter(|id| only.is_none_or(|only| only == *id));
            why.peers = told
                .flat_map(|id| self.told(id, found, best.as_ref()))
                .collect();
            let next_hops = best.into_iter().flat_map(|best| best.next_hops);
            why.next_hops = next_hops.map(|hop| hop.address).collect();
        }
        why.text = answer::text(&why);
        Ok(why)
    }

    fn told(&mut self, id: PeerId, prefix: Prefix, best: Option<&Best>) -> Vec<Told> {
        let Some(task) = self.known(id) else {
            return Vec::new();
        };
        let peer = task.key.to_string();
        let not = |reason: String| Told {
            peer: peer.clone(),
            told: false,
            reason,
            rule: None,
            next_hop: None,
            attributes: None,
        };
        if task.up.is_none() {
            return vec![not(format!("its session is {}", task.state))];
        }
        if best.is_none() {
            return vec![not("there is no usable path".to_owned())];
        }
        let explained = self.rib.explain_exports(id, prefix);
        let is_one = explained.len() < 2;
        let told = explained.into_iter().map(|export| {
            // With ADD-PATH there is an answer for each path (RFC 7911).
            let which = match (is_one, self.name(export.from)) {
                (true, _) => String::new(),
                (false, Some(from)) => format!("path from {from}: "),
                (false, None) => "path originated here: ".to_owned(),
            };
            self.told_path(export, &which, &not)
        });
        told.collect()
    }

    fn told_path(
        &self,
        export: ExplainedExport,
        which: &str,
        not: &dyn Fn(String) -> Told,
    ) -> Told {
        let rule = export.rule.map(|rule| rule.to_string());
        let told = match export.told {
            Ok(told) => told,
            Err(withheld) => {
                let by = by_rule(rule.as_deref());
                return Told {
                    rule,
                    ..not(format!("{which}{withheld}{by}"))
                };
            }
        };
        let sent = self.advertised(&told);
        let path = match sent.attributes.as_path.as_str() {
            "" => String::new(),
            path => format!(" and AS path {path}"),
        };
        Told {
            told: true,
            reason: format!("{which}with next hop {}{path}", sent.next_hop),
            next_hop: Some(sent.next_hop),
            attributes: Some(sent.attributes),
            rule,
            ..not(String::new())
        }
    }

    fn route(&self, explained: &Explanation) -> Route {
        let paths = explained.paths.iter();
        let paths = paths.map(|path| self.path(explained.prefix, path, &explained.paths));
        Route {
            prefix: answer::net(explained.prefix),
            paths: paths.collect(),
        }
    }

    fn name(&self, id: Option<PeerId>) -> Option<String> {
        Some(self.known(id?)?.key.to_string())
    }

    fn path(&self, prefix: Prefix, path: &ExplainedPath, all: &[ExplainedPath]) -> Path {
        let (outcome, step, reason) = match path.outcome {
            Became::Best(step) => (Outcome::Best, Some(step), answer::best_words(step)),
            Became::Shares(step) => {
                let words = answer::lost_words(step, path, all);
                (
                    Outcome::Shares,
                    Some(step),
                    format!("shares the traffic: {words}"),
                )
            }
            Became::Lost(step) => {
                let words = answer::lost_words(step, path, all);
                (Outcome::Lost, Some(step), format!("not best: {words}"))
            }
            Became::Ineligible(why) => {
                let rule = by_rule(path.rule.as_deref());
                (Outcome::Unusable, None, format!("not usable: {why}{rule}"))
            }
        };
        Path {
            prefix: answer::net(prefix),
            peer: self.name(path.peer),
            path_id: path.path_id,
            next_hop: path.next_hop.map(NextHop::addr),
            link_local: match path.next_hop {
                Some(NextHop::V6 { link_local, .. }) => link_local,
                Some(NextHop::V4(_)) | None => None,
            },
            attributes: answer::attributes(&path.attributes),
            outcome,
            step: step.map(|step| step.to_string()),
            reason,
            rule: path.rule.as_ref().map(ToString::to_string),
            stale: path.is_stale,
        }
    }

    fn advertised(&self, told: &ToldPath) -> Advertised {
        Advertised {
            prefix: answer::net(told.prefix),
            path_id: told.path_id,
            from: self.name(told.from),
            next_hop: told.next_hop.addr(),
            attributes: answer::attributes(&told.attributes),
        }
    }
}

/// The rule that said no, as a part of a sentence.
fn by_rule(rule: Option<&str>) -> String {
    rule.map_or_else(String::new, |rule| format!(", rule {rule}"))
}
