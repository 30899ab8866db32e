//! Outputs as text, one line per fact.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use felix_calc::policy::{Change, Community, Match, PeerScope, Rule, Source};
use felix_calc::{
    Bgp, EndpointInterface, Endpoints, Firewall, NextHopMode, NextHops, Output, Overlay, PeerSpec,
    Problem, Route, SessionOptions, Target, VxlanDevice,
};
use ipnet::IpNet;

/// What the outputs so far add up to.
#[derive(Default)]
pub(crate) struct Seen {
    generation: u64,
    endpoints: Arc<Endpoints>,
    overlay: Arc<Overlay>,
    firewall: Arc<Firewall>,
    routes: BTreeMap<IpNet, Route>,
    bgp: Option<Arc<Bgp>>,
    next_hops: Arc<NextHops>,
    problems: Arc<Vec<Problem>>,
    hold: bool,
    /// Show what peers may send and are told.
    pub(crate) policies: bool,
    /// Show tunnel devices and packet rules.
    pub(crate) tunnels: bool,
}

impl Seen {
    pub(crate) fn take(&mut self, output: Option<Output>) {
        let Some(output) = output else { return };
        assert_eq!(output.generation, self.generation + 1);
        assert_eq!(output.complete, self.generation == 0);
        self.generation = output.generation;
        self.endpoints = output.endpoints.unwrap_or_else(|| self.endpoints.clone());
        self.overlay = output.overlay.unwrap_or_else(|| self.overlay.clone());
        self.firewall = output.firewall.unwrap_or_else(|| self.firewall.clone());
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
        self.next_hops = output.next_hops.unwrap_or_else(|| self.next_hops.clone());
        self.problems = output.problems.unwrap_or_else(|| self.problems.clone());
        self.hold = output.hold_learned;
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, interface) in &self.endpoints.interfaces {
            lines.push(endpoint(name, interface));
        }
        if self.tunnels {
            lines.extend(overlay(&self.overlay));
            lines.extend(firewall(&self.firewall));
        }
        lines.extend(self.routes.values().map(route));
        lines.extend(self.next_hops.metrics.iter().map(|(next_hop, metric)| {
            let cost = metric.map(|metric| format!("metric {metric}"));
            format!(
                "next hop {next_hop} {}",
                cost.as_deref().unwrap_or("unreachable")
            )
        }));
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
            write!(line, " port {}", local.listen_port).unwrap();
            if let Some(bind) = local.bind {
                write!(line, " bind {bind:?}").unwrap();
            }
            lines.push(line);
            for (name, spec) in &bgp.peers {
                lines.push(peer(name, spec));
                if self.policies {
                    lines.extend(policies(spec));
                }
            }
            lines.extend(bgp.refused.iter().map(|(name, refused)| {
                let asn = refused
                    .remote_as
                    .map_or_else(String::new, |asn| format!(" as {asn}"));
                let at = format!("{} port {}{asn}", refused.address, refused.port);
                format!("refused {name} {} {at}: {}", refused.kind, refused.reason)
            }));
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

fn overlay(overlay: &Overlay) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(device) = &overlay.ipip {
        let (local, mtu) = (device.local, device.mtu);
        let address = told(" address", device.address);
        lines.push(format!("tunnel tunl0 local {local} mtu {mtu}{address}"));
    }
    lines.extend(vxlan("vxlan.calico", overlay.vxlan.as_ref()));
    lines.extend(vxlan("vxlan-v6.calico", overlay.vxlan_v6.as_ref()));
    lines.extend(overlay.pod_mtu.map(|mtu| format!("pods mtu {mtu}")));
    lines
}

fn vxlan(name: &str, device: Option<&VxlanDevice>) -> Vec<String> {
    let Some(device) = device else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "tunnel {name} local {} dev {} vni {} port {} mtu {} mac {}{}",
        device.local,
        device.parent,
        device.vni,
        device.port,
        device.mtu,
        mac(device.mac),
        told(" address", device.address),
    )];
    lines.extend(
        device.remotes.iter().map(|(address, vtep)| {
            format!("remote {address} at {} mac {}", vtep.node, mac(vtep.mac))
        }),
    );
    lines
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn told(name: &str, value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(String::new, |value| format!("{name} {value}"))
}

fn firewall(firewall: &Firewall) -> Vec<String> {
    let nets = |set: &std::collections::BTreeSet<IpNet>| {
        let nets: Vec<String> = set.iter().map(ToString::to_string).collect();
        nets.join(" ")
    };
    let nat = &firewall.nat;
    let mut lines = vec![
        format!("pools {}", nets(&firewall.all_pools)),
        format!("nat from {}", nets(&firewall.masq_pools)),
        format!("hosts {}", nets(&firewall.hosts)),
    ];
    let ends: Vec<String> = firewall
        .vxlan_ends
        .iter()
        .map(ToString::to_string)
        .collect();
    let ends = ends.join(" ");
    let ports = nat.ports.map(|(first, last)| format!("{first}-{last}"));
    for (line, present) in [
        (
            format!("nat{}", told(" to", nat.address)),
            nat.address.is_some(),
        ),
        (format!("nat{}", told(" ports", ports)), nat.ports.is_some()),
        (
            format!("nat{}", told(" out of", nat.out_interface.as_ref())),
            nat.out_interface.is_some(),
        ),
        ("nat not to hosts".to_owned(), nat.exclude_hosts),
        ("ipip from hosts only".to_owned(), firewall.ipip),
        (
            format!(
                "vxlan from hosts only{} to {ends}",
                told(" port", firewall.vxlan)
            ),
            firewall.vxlan.is_some(),
        ),
        ("pods may send ipip".to_owned(), firewall.workload_ipip),
        ("pods may send vxlan".to_owned(), firewall.workload_vxlan),
    ] {
        lines.extend(present.then_some(line));
    }
    let own = firewall.tunnels.iter();
    lines.extend(own.map(|(device, address)| format!("own source {address} dev {device}")));
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn route(route: &Route) -> String {
    let mut line = format!("route {} {:?}", route.destination, route.class);
    match &route.target {
        Target::Local { interface } => write!(line, " dev {interface}").unwrap(),
        Target::Blackhole => {}
        Target::Via(nexthops) | Target::Hold(nexthops) => {
            if let Target::Hold(_) = route.target {
                line.push_str(" hold");
            }
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
        ("local-as", spec.local_as.map(|asn| format!(" {asn}"))),
        (
            "next-hop",
            (spec.next_hop != NextHopMode::Auto).then(|| format!(" {:?}", spec.next_hop)),
        ),
        (
            "password",
            spec.password.as_ref().map(|p| format!(" {}", p.reveal())),
        ),
    ] {
        if let Some(value) = value {
            write!(line, " {name}{value}").unwrap();
        }
    }
    line + &options(&spec.options)
}

fn options(options: &SessionOptions) -> String {
    let mut text = String::new();
    if let Some(time) = options.long_lived {
        write!(text, " long-lived {}", time.as_secs()).unwrap();
    }
    if let Some(bfd) = &options.bfd {
        let (send, receive) = (bfd.send.as_millis(), bfd.receive.as_millis());
        write!(text, " bfd {send} {receive} x{}", bfd.multiplier).unwrap();
    }
    if let Some(max) = &options.max_prefixes {
        write!(text, " at most {} {:?}", max.limit, max.action()).unwrap();
    }
    if let Some(role) = options.role {
        write!(text, " role {role:?}").unwrap();
    }
    if options.role_strict {
        text.push_str(" strict");
    }
    if options.add_path {
        text.push_str(" add-path");
    }
    text
}

fn policies(spec: &PeerSpec) -> Vec<String> {
    let told = |word: &str, policy: &felix_calc::policy::Policy| -> Vec<String> {
        let rules = policy
            .rules
            .iter()
            .map(|rule| format!("  {word} {}", filter_rule(rule)));
        rules
            .chain([format!("  {word} else {:?}", policy.otherwise)])
            .collect()
    };
    [told("import", &spec.import), told("export", &spec.export)].concat()
}

fn filter_rule(rule: &Rule) -> String {
    let mut line = format!("{:?}", rule.verdict);
    line.push_str(&ranges("in", &rule.prefixes));
    match rule.source {
        Source::Any => {}
        Source::Local => line.push_str(" local"),
        Source::Learned => line.push_str(" learned"),
    }
    match rule.peers {
        PeerScope::Any => {}
        PeerScope::Internal => line.push_str(" internal"),
        PeerScope::External => line.push_str(" external"),
    }
    for community in &rule.communities {
        write!(line, " with {}", community_text(community)).unwrap();
    }
    if !rule.as_path_prefix.is_empty() {
        write!(line, " path {:?}", rule.as_path_prefix).unwrap();
    }
    line.push_str(&ranges("via", &rule.next_hops));
    if let Some(preference) = rule.local_pref {
        write!(line, " preference {preference}").unwrap();
    }
    for change in &rule.changes {
        match change {
            Change::AddCommunity(community) => {
                write!(line, " add {}", community_text(community)).unwrap();
            }
            Change::PrependAsPath(path) => write!(line, " prepend {path:?}").unwrap(),
            Change::SetLocalPref(preference) => write!(line, " prefer {preference}").unwrap(),
        }
    }
    format!("{line} ({})", rule.name)
}

fn ranges(word: &str, of: &Match) -> String {
    let Match::In(ranges) = of else {
        return String::new();
    };
    let mut text = format!(" {word}");
    for range in ranges.iter() {
        let (min, max) = (range.prefix.prefix_len(), range.prefix.max_prefix_len());
        write!(text, " {}", range.prefix).unwrap();
        if (range.min, range.max) == (min, min) && min != max {
            text.push_str(" only");
        } else if (range.min, range.max) != (min, max) {
            write!(text, "{{{},{}}}", range.min, range.max).unwrap();
        }
    }
    text
}

fn community_text(community: &Community) -> String {
    match community {
        Community::Standard(value) => format!("{}:{}", value >> 16, value & 0xffff),
        Community::Large([global, one, two]) => format!("{global}:{one}:{two}"),
    }
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
