//! A node in a namespace: a card, pods, and a dataplane that is driven step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter, pipe};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::{
    EndpointId, EndpointInterface, Endpoints, HostFacts, Nexthop, Output, Overlay, Route,
    RouteClass, Target,
};
use felix_dataplane::{Applied, Config, Dataplane, TunnelReport};
use ipnet::IpNet;
use netlink::netns::NetNs;
use serde_json::Value;

/// Longer than any wait that ends well, on a busy machine too.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `test` in a new namespace that has a card `eth0` with 192.0.2.1/24 and 2001:db8::1/64.
pub(crate) fn on_node(test: impl FnOnce() + Send) {
    let Some(netns) = new_netns() else { return };
    netns
        .run(|| {
            ip("link set lo up");
            card("eth0", "192.0.2.1/24");
            ip("address add 2001:db8::1/64 dev eth0 nodad");
            test();
        })
        .unwrap();
}

pub(crate) fn new_netns() -> Option<NetNs> {
    match NetNs::create() {
        Ok(netns) => Some(netns),
        Err(_) if std::env::var("SKIP_PRIVILEGED").is_ok_and(|value| value == "1") => None,
        Err(error) => {
            panic!("{error}: these tests need root, or SKIP_PRIVILEGED=1 to leave them out")
        }
    }
}

/// Adds a network card with carrier: one end of a veth pair.
pub(crate) fn card(name: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name {name}-wire"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}-wire up"));
    ip(&format!("address add {address} dev {name}"));
}

/// Adds the host side of a pod, with its other end in this namespace too.
pub(crate) fn workload(name: &str) {
    ip(&format!(
        "link add {name} address ee:ee:ee:ee:ee:ee type veth peer name {name}-pod"
    ));
    ip(&format!("link set {name}-pod up"));
    ip(&format!("link set {name} up"));
}

pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Routes of the main table that `ip route show` prints for `selector`, both families.
pub(crate) fn routes(selector: &str) -> Vec<Value> {
    let show = |family: &str| {
        let text = ip(&format!("-j -d {family} route show {selector}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        serde_json::from_str::<Vec<Value>>(&text).unwrap()
    };
    if selector.contains(':') {
        return show("-6");
    }
    let mut all = show("-4");
    if !selector.contains('.') {
        all.extend(show("-6"));
    }
    all
}

/// Destinations, kinds and ways out of our own routes, sorted, one line each.
pub(crate) fn own_routes() -> Vec<String> {
    let mut lines: Vec<String> = routes("proto 80").iter().map(line).collect();
    lines.sort();
    lines
}

fn line(route: &Value) -> String {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let mut line = text(route, "dst");
    if route["type"] == "blackhole" {
        return format!("blackhole {line}");
    }
    let several = route["nexthops"].as_array().cloned();
    for hop in several.unwrap_or_else(|| vec![route.clone()]) {
        if hop["gateway"].is_string() {
            line = format!("{line} via {}", text(&hop, "gateway"));
        }
        // A gateway of the other family.
        if hop["via"].is_object() {
            line = format!("{line} via {}", text(&hop["via"], "host"));
        }
        line = format!("{line} dev {}", text(&hop, "dev"));
    }
    line
}

pub(crate) fn sysctl(path: &str) -> String {
    let value = std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap();
    value.trim().to_owned()
}

pub(crate) fn set_sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{path}"), value).unwrap();
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn onlink(gateway: &str) -> Nexthop {
    let (gateway, interface) = gateway.split_once('%').unwrap();
    Nexthop {
        gateway: gateway.parse().unwrap(),
        interface: interface.into(),
        onlink: true,
    }
}

/// A dataplane, what it is told, and what it said.
pub(crate) struct Node {
    pub(crate) dataplane: Dataplane,
    pub(crate) output: Output,
    pub(crate) last: Applied,
    pub(crate) programmed: BTreeSet<IpNet>,
    pub(crate) ready: BTreeSet<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) tunnels: BTreeMap<Arc<str>, TunnelReport>,
    pub(crate) facts: Option<HostFacts>,
    interfaces: BTreeMap<Arc<str>, EndpointInterface>,
    wake: PipeReader,
    _waker: PipeWriter,
}

/// Waits short enough that tests of waiting are quick.
pub(crate) fn quick() -> Config {
    Config {
        external_route_grace: Duration::from_millis(300),
        ..Config::default()
    }
}

impl Node {
    /// A dataplane that has not been told anything yet.
    pub(crate) fn new(config: Config) -> Node {
        let (wake, waker) = pipe().unwrap();
        Node {
            dataplane: Dataplane::open(config).unwrap(),
            output: Output {
                complete: true,
                generation: 1,
                ..Output::default()
            },
            last: Applied::default(),
            programmed: BTreeSet::new(),
            ready: BTreeSet::new(),
            failures: Vec::new(),
            tunnels: BTreeMap::new(),
            facts: None,
            interfaces: BTreeMap::new(),
            wake,
            _waker: waker,
        }
    }

    pub(crate) fn pod(&mut self, interface: &str, addresses: &[&str]) -> &mut Node {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        for address in &addresses {
            let target = Target::Local {
                interface: interface.into(),
            };
            self.route(IpNet::from(*address), RouteClass::LocalWorkload, target);
        }
        let endpoint = EndpointInterface {
            id: EndpointId {
                workload: format!("default/{interface}"),
                endpoint: "eth0".into(),
            },
            container_id: interface.into(),
            addresses,
            pod_mac: None,
        };
        self.interfaces.insert(interface.into(), endpoint);
        self.output.endpoints = Some(Arc::new(Endpoints {
            interfaces: self.interfaces.clone(),
        }));
        self
    }

    /// The pod behind an interface is gone; its routes are for the test to take away.
    pub(crate) fn no_pod(&mut self, interface: &str) -> &mut Node {
        self.interfaces.remove(interface);
        self.output.endpoints = Some(Arc::new(Endpoints {
            interfaces: self.interfaces.clone(),
        }));
        self
    }

    pub(crate) fn block(&mut self, destination: &str) -> &mut Node {
        self.route(
            net(destination),
            RouteClass::IpamBlockDrop,
            Target::Blackhole,
        )
    }

    /// A learned route; gateways are `address%interface`.
    pub(crate) fn learned(&mut self, destination: &str, gateways: &[&str]) -> &mut Node {
        let nexthops = gateways.iter().map(|gateway| {
            let (gateway, interface) = gateway.split_once('%').unwrap();
            Nexthop {
                gateway: gateway.parse().unwrap(),
                interface: interface.into(),
                onlink: false,
            }
        });
        let target = Target::Via(nexthops.collect());
        self.route(net(destination), RouteClass::NoEncap, target)
    }

    /// A route through a tunnel; the gateway is `address%interface`.
    pub(crate) fn tunnelled(&mut self, destination: &str, gateway: &str) -> &mut Node {
        let target = Target::Via([onlink(gateway)].into());
        self.route(net(destination), RouteClass::Tunnel, target)
    }

    /// A route whose other end is not ready.
    pub(crate) fn hold(&mut self, destination: &str, gateways: &[&str]) -> &mut Node {
        let nexthops = gateways.iter().map(|gateway| onlink(gateway));
        let target = Target::Hold(nexthops.collect());
        self.route(net(destination), RouteClass::Tunnel, target)
    }

    pub(crate) fn overlay(&mut self, overlay: Overlay) -> &mut Node {
        self.output.overlay = Some(Arc::new(overlay));
        self
    }

    pub(crate) fn nothing(&mut self, destination: &str) -> &mut Node {
        self.output.routes.push((net(destination), None));
        self
    }

    fn route(&mut self, destination: IpNet, class: RouteClass, target: Target) -> &mut Node {
        let route = Route {
            destination,
            class,
            target,
        };
        self.output.routes.push((destination, Some(route)));
        self
    }

    /// Hands over what was collected.
    pub(crate) fn update(&mut self) -> &mut Node {
        self.dataplane.update(&self.output);
        self.output = Output {
            generation: self.output.generation + 1,
            hold_learned: self.output.hold_learned,
            ..Output::default()
        };
        self
    }

    /// Hands over what was collected and takes one step.
    pub(crate) fn apply(&mut self) -> &mut Node {
        self.update().step();
        self
    }

    pub(crate) fn step(&mut self) {
        let applied = self.dataplane.step(Instant::now()).unwrap();
        if let Some(programmed) = &applied.programmed {
            if programmed.complete {
                self.programmed.clear();
            }
            for (destination, present) in &programmed.routes {
                if *present {
                    self.programmed.insert(*destination);
                } else {
                    self.programmed.remove(destination);
                }
            }
        }
        if let Some(ready) = &applied.ready {
            self.ready = ready.iter().map(ToString::to_string).collect();
        }
        if let Some(failures) = &applied.failures {
            self.failures = failures.iter().map(ToString::to_string).collect();
        }
        if let Some(tunnels) = &applied.tunnels {
            self.tunnels = BTreeMap::clone(tunnels);
        }
        if applied.host.is_some() {
            self.facts.clone_from(&applied.host);
        }
        self.last = applied;
    }

    /// Steps and waits until `done`; returns how long that took.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Node) -> bool) -> Duration {
        let start = Instant::now();
        loop {
            self.step();
            if done(self) {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "not {what}; routes: {:#?}, failures: {:#?}",
                own_routes(),
                self.failures
            );
            self.dataplane
                .wait(self.wake.as_fd(), Duration::from_millis(50))
                .unwrap();
        }
    }

    /// Steps until a marker that somebody else sets has come back as an event: then everything
    /// that happened before has been seen.
    pub(crate) fn catch_up(&mut self) {
        ip("route add 203.0.113.250 dev lo proto static");
        let marker = |node: &Node| {
            node.facts.as_ref().is_some_and(|facts| {
                facts
                    .routes
                    .iter()
                    .any(|r| r.destination == net("203.0.113.250/32"))
            })
        };
        self.until("caught up", marker);
        ip("route del 203.0.113.250 dev lo proto static");
        self.until("caught up", |node| !marker(node));
    }

    pub(crate) fn written(&self) -> u64 {
        self.last.counters.routes_written
    }
}
