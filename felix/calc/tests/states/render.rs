//! Outputs as text, one line per fact.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use felix_calc::{Bgp, EndpointInterface, Endpoints, Output, PeerSpec, Problem, Route, Target};
use ipnet::IpNet;

/// What the outputs so far add up to.
#[derive(Default)]
pub(crate) struct Seen {
    generation: u64,
    endpoints: Arc<Endpoints>,
    routes: BTreeMap<IpNet, Route>,
    bgp: Option<Arc<Bgp>>,
    problems: Arc<Vec<Problem>>,
    hold: bool,
}

impl Seen {
    pub(crate) fn take(&mut self, output: Option<Output>) {
        let Some(output) = output else { return };
        assert_eq!(output.generation, self.generation + 1);
        assert_eq!(output.complete, self.generation == 0);
        self.generation = output.generation;
        self.endpoints = output.endpoints.unwrap_or_else(|| self.endpoints.clone());
        for (destination, route) in output.routes {
            match route {
                Some(route) => {
                    assert_eq!(route.destination, destination);
                    self.routes.insert(destination, route);
                }
                None => assert!(self.routes.remove(&destination).is_some(), "{destination}"),
            }
        }
        self.bgp = output.bgp.or(self.bgp.take());
        self.problems = output.problems.unwrap_or_else(|| self.problems.clone());
        self.hold = output.hold_learned;
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, interface) in &self.endpoints.interfaces {
            lines.push(endpoint(name, interface));
        }
        lines.extend(self.routes.values().map(route));
        if let Some(bgp) = &self.bgp {
            let local = &bgp.local;
            let mut line = format!("bgp as {} id {}", local.asn, local.router_id);
            for (name, address) in [
                ("ipv4", local.ipv4.map(|a| a.to_string())),
                ("ipv6", local.ipv6.map(|a| a.to_string())),
                ("cluster", local.cluster_id.map(|a| a.to_string())),
            ] {
                if let Some(address) = address {
                    write!(line, " {name} {address}").unwrap();
                }
            }
            lines.push(format!("{line} port {}", local.listen_port));
            lines.extend(bgp.peers.iter().map(|(name, spec)| peer(name, spec)));
            lines.extend(
                bgp.originate
                    .iter()
                    .map(|(p, why)| format!("announce {p} {why:?}")),
            );
        }
        lines.extend(self.problems.iter().map(|p| format!("problem {p}")));
        if self.hold {
            lines.push("hold learned routes".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

fn endpoint(name: &str, interface: &EndpointInterface) -> String {
    let mut line = format!("endpoint {name} {}", interface.id);
    for address in &interface.addresses {
        write!(line, " {address}").unwrap();
    }
    line
}

fn route(route: &Route) -> String {
    let mut line = format!("route {} {:?}", route.destination, route.class);
    match &route.target {
        Target::Local { interface } => write!(line, " dev {interface}").unwrap(),
        Target::Blackhole => {}
        Target::Via(nexthops) => {
            for nexthop in nexthops.iter() {
                write!(line, " via {} dev {}", nexthop.gateway, nexthop.interface).unwrap();
                if nexthop.onlink {
                    line.push_str(" onlink");
                }
            }
        }
    }
    line
}

fn peer(name: &str, spec: &PeerSpec) -> String {
    let mut line = format!(
        "peer {name} {} {} port {}",
        spec.kind, spec.address, spec.port
    );
    write!(line, " as {}", spec.remote_as).unwrap();
    let families = match (spec.ipv4, spec.ipv6) {
        (true, true) => "v4 v6",
        (true, false) => "v4",
        (false, true) => "v6",
        (false, false) => "no family",
    };
    write!(line, " {families}").unwrap();
    if let Some(source) = spec.source {
        write!(line, " from {source}").unwrap();
    }
    let secs = |d: std::time::Duration| d.as_secs().to_string();
    for (name, value) in [
        ("passive", spec.passive.then(String::new)),
        ("multihop", spec.multihop.then(String::new)),
        ("client", spec.reflector_client.then(String::new)),
        ("ttl", spec.ttl_security.map(|hops| format!(" {hops}"))),
        ("keepalive", spec.keepalive.map(|d| format!(" {}", secs(d)))),
        (
            "restart",
            spec.restart_time.map(|d| format!(" {}", secs(d))),
        ),
        (
            "allow-own-as",
            (spec.allow_own_as > 0).then(|| format!(" {}", spec.allow_own_as)),
        ),
    ] {
        if let Some(value) = value {
            write!(line, " {name}{value}").unwrap();
        }
    }
    line
}

/// Lines only expected (`-`) and only seen (`+`).
pub(crate) fn difference(expected: &str, seen: &str) -> String {
    let lines = |text: &str| -> Vec<String> {
        text.trim()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    };
    let (expected, seen) = (lines(expected), lines(seen));
    let mut text = String::new();
    for line in expected.iter().filter(|line| !seen.contains(line)) {
        writeln!(text, "- {line}").unwrap();
    }
    for line in &seen {
        writeln!(
            text,
            "{} {line}",
            if expected.contains(line) { " " } else { "+" }
        )
        .unwrap();
    }
    text
}
