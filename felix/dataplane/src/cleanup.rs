//! What agents leave in the kernel, found and removed when the node leaves for good.
//!
//! Only what is provably ours: routes of the main table by protocol (`ownership.rs`), tunnel
//! devices by name, kind and mark, the packet filter's table by name, interfaces of pods by the
//! alias that the plugin gives. Forwarding and other settings of the whole host are left: nobody
//! wrote down what they were. Not to be used while an agent runs, which would put things back.

use std::cmp::Reverse;
use std::fmt;

use ipip::Device;
use netlink::{Route, RouteFilter, RouteKind, Socket, TABLE_MAIN, ignore_not_found};

use crate::host::Host;
use crate::overlay::NAMES;
use crate::ownership::{Owner, Ownership};
use crate::{Config, Error, Failure, nft, proxy_arp};

/// Something of ours in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    what: What,
    /// As `ip` and `nft` call it.
    name: String,
    of_pods: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Route(Box<Route>),
    Tunnel,
    Interface(u32),
    Table,
}

impl Leftover {
    /// What it is, in a word or two.
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Route(_) => "route",
            What::Tunnel => "tunnel device",
            What::Interface(_) => "pod interface",
            What::Table => "nftables table",
        }
    }

    /// Whether a pod is behind it.
    pub fn is_pod_interface(&self) -> bool {
        matches!(self.what, What::Interface(_))
    }

    /// Pods that still run need it to talk to their node and to each other there.
    pub fn is_of_pods(&self) -> bool {
        self.of_pods
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Looks for what agents left in the network namespace of the calling thread, and removes it.
#[derive(Debug)]
pub struct Cleanup {
    config: Config,
    socket: Socket,
}

impl Cleanup {
    /// Connects to the kernel. Of the settings, the protocol of routes and the prefixes of
    /// interfaces matter.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn open(config: Config) -> Result<Cleanup, Error> {
        let socket = Socket::open()?;
        Ok(Cleanup { config, socket })
    }

    /// All that is ours, in the order in which it is to be removed: routes from fine to coarse, so
    /// that what drops packets goes last, then devices, then the packet filter. `is_pod` says
    /// whether an alias is that of a pod's interface.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&mut self, is_pod: impl Fn(&str) -> bool) -> Result<Vec<Leftover>, Error> {
        let mut host = Host::new(self.config.workload_prefixes.clone());
        for link in self.socket.links()? {
            host.set_link(link);
        }
        let mut all = self.routes(&host)?;
        for name in NAMES {
            if Device::is_left_of_ours(&mut self.socket, name)? {
                all.push(Leftover {
                    what: What::Tunnel,
                    name: name.to_owned(),
                    of_pods: false,
                });
            }
        }
        let is_pod = |link: &&netlink::Link| {
            host.is_workload(&link.name) && link.alias.as_deref().is_some_and(&is_pod)
        };
        all.extend(host.links().filter(is_pod).map(|link| Leftover {
            what: What::Interface(link.index),
            name: link.name.clone(),
            of_pods: true,
        }));
        if nft::is_left()? {
            all.push(Leftover {
                what: What::Table,
                name: format!("inet {}", nft::TABLE),
                of_pods: false,
            });
        }
        Ok(all)
    }

    fn routes(&mut self, host: &Host) -> Result<Vec<Leftover>, Error> {
        let ownership = Ownership::by_protocol(self.config.route_protocol);
        let filter = RouteFilter {
            table: Some(TABLE_MAIN),
            protocol: Some(self.config.route_protocol),
            ..RouteFilter::default()
        };
        let mut routes = self.socket.routes(&filter)?;
        routes.retain(|route| ownership.owner(route) == Owner::Ours);
        routes.sort_by_key(|route| {
            let drops = route.kind != RouteKind::Unicast;
            (Reverse(route.destination.prefix_len()), drops)
        });
        let leftover = |route: Route| Leftover {
            name: described(&route, host),
            of_pods: is_of_pods(&route, host),
            what: What::Route(Box::new(route)),
        };
        Ok(routes.into_iter().map(leftover).collect())
    }

    /// Removes one; that it is gone already is fine.
    ///
    /// # Errors
    /// What the kernel said, with the object.
    pub fn remove(&mut self, leftover: &Leftover) -> Result<(), Failure> {
        let failed = |problem: String| Failure {
            object: format!("{} {leftover}", leftover.kind()),
            problem,
        };
        let done = match &leftover.what {
            What::Route(route) => ignore_not_found(self.socket.delete_route(route)),
            What::Interface(index) => ignore_not_found(self.socket.delete_link(*index)),
            What::Table => nft::remove(),
            What::Tunnel => match Device::retire(&mut self.socket, &leftover.name) {
                Ok(outcome) => match outcome.problems.first() {
                    Some(problem) => return Err(failed(problem.to_string())),
                    None => Ok(()),
                },
                Err(error) => Err(error),
            },
        };
        done.map_err(|error| failed(error.to_string()))
    }
}

/// Routes to pods, and the one by which the host answers for their gateway.
fn is_of_pods(route: &Route, host: &Host) -> bool {
    let to_pod = |device: Option<u32>| {
        device
            .and_then(|index| host.by_index(index))
            .is_some_and(|link| host.is_workload(&link.name))
    };
    match route.nexthops.as_slice() {
        [only] => to_pod(only.device) || route.destination == proxy_arp::destination(),
        _ => false,
    }
}

/// As [`Route`] says it, with names of interfaces.
fn described(route: &Route, host: &Host) -> String {
    let mut text = match route.kind {
        RouteKind::Unicast => route.destination.to_string(),
        kind => format!("{kind} {}", route.destination),
    };
    for nexthop in &route.nexthops {
        if let Some(via) = nexthop.via {
            text += &format!(" via {via}");
        }
        if let Some(link) = nexthop.device.and_then(|index| host.by_index(index)) {
            text += &format!(" dev {}", link.name);
        }
    }
    text
}
