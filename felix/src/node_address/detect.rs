//! Which address of the host is the node's in one family: decided from what is known, without
//! looking anywhere.
//!
//! Settings and methods are Calico's (`IP`, `IP_AUTODETECTION_METHOD`). Unlike there, an address in
//! use that still fits stays, so that a new interface or a link that bounces moves no node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use felix_calc::Interface;
use ipnet::IpNet;
use regex::Regex;

#[cfg(test)]
mod tests;

/// So long an address that vanished from the host stays the node's: it may be on its way back.
pub const VANISHED: Duration = Duration::from_secs(10);
/// So long an InternalIP is waited for before the interfaces are asked: a cloud's controller sets it
/// after the kubelet has made the Node.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Names that start so belong to containers and tunnels (Calico's list).
const NOT_OF_THE_HOST: [&str; 18] = [
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "lo",
    "br-",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "nodelocaldns",
];

/// What the settings ask for in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: what is annotated counts, and where nothing is, what the Node says.
    Unasked(Unasked),
    /// No address of this family.
    None,
    /// This address; without a length that of its interface.
    Fixed(IpAddr, Option<u8>),
    /// What this method finds, whatever is annotated.
    Detected(Method),
}

/// How far the agent goes where nobody asked for anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unasked {
    /// An annotated address that the host does not have gives way to the Node's InternalIP.
    pub heal: bool,
    /// Where the Node has no InternalIP of any family, the first address found counts.
    pub first_found: bool,
}

/// How to find an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// As [`Method::InternalIp`], or where the Node has none of any family as
    /// [`Method::FirstFound`].
    Default,
    /// `kubernetes-internal-ip`: the InternalIP of the Node.
    InternalIp,
    /// `first-found`: the first address of the first interface of the host.
    FirstFound,
    /// `can-reach=DESTINATION`: what the kernel would send from.
    CanReach(String),
    /// `interface=REGEX,...`: the first address of the first interface with such a name.
    Interface(Names),
    /// `skip-interface=REGEX,...`: as first-found, without these.
    SkipInterface(Names),
    /// `cidr=CIDR,...`: the first address in one of these.
    Cidr(Vec<IpNet>),
}

/// Patterns of interface names; one may match anywhere in the name (Calico behaviour).
#[derive(Clone, Debug)]
pub struct Names(Vec<Regex>);

impl PartialEq for Names {
    fn eq(&self, other: &Names) -> bool {
        let texts = |names: &Names| -> Vec<String> {
            names.0.iter().map(|one| one.as_str().to_owned()).collect()
        };
        texts(self) == texts(other)
    }
}

impl Eq for Names {}

impl Names {
    fn parse(text: &str) -> Result<Names> {
        let patterns = parts(text).map(|part| {
            Regex::new(part).with_context(|| format!("{part:?} is no regular expression"))
        });
        let patterns: Vec<Regex> = patterns.collect::<Result<_>>()?;
        if patterns.is_empty() {
            bail!("no name of an interface is given");
        }
        Ok(Names(patterns))
    }

    fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

impl Wish {
    /// From an address setting (`autodetect`, `none`, an address) and a method, each perhaps
    /// absent.
    ///
    /// # Errors
    /// When one of them has no such form, or is of the other family.
    pub fn parse(
        address: Option<&str>,
        method: Option<&str>,
        is_ipv6: bool,
        unasked: Unasked,
    ) -> Result<Wish> {
        let method = method
            .map(|text| Method::parse(text, is_ipv6))
            .transpose()?;
        match (address, method) {
            (None, None) => Ok(Wish::Unasked(unasked)),
            (None | Some("autodetect"), Some(method)) => Ok(Wish::Detected(method)),
            (Some("autodetect"), None) => Ok(Wish::Detected(Method::Default)),
            (Some("none"), _) => Ok(Wish::None),
            (Some(text), _) => {
                let (address, length) = match text.split_once('/') {
                    Some(_) => {
                        let net: IpNet = text.parse().ok().with_context(|| not_an_address(text))?;
                        (net.addr(), Some(net.prefix_len()))
                    }
                    None => (
                        text.parse().ok().with_context(|| not_an_address(text))?,
                        None,
                    ),
                };
                if address.is_ipv6() != is_ipv6 {
                    bail!("{text} is of the other family");
                }
                Ok(Wish::Fixed(address, length))
            }
        }
    }
}

fn not_an_address(text: &str) -> String {
    format!("{text:?} is not autodetect, none or an address")
}

impl Method {
    fn parse(text: &str, is_ipv6: bool) -> Result<Method> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(match name.trim() {
            "first-found" => Method::FirstFound,
            "kubernetes-internal-ip" => Method::InternalIp,
            "can-reach" if !value.trim().is_empty() => Method::CanReach(value.trim().to_owned()),
            "interface" => Method::Interface(Names::parse(value)?),
            "skip-interface" => Method::SkipInterface(Names::parse(value)?),
            "cidr" => {
                let ranges = parts(value)
                    .map(|part| part.parse().with_context(|| format!("{part:?} is no CIDR")));
                let ranges: Vec<IpNet> = ranges.collect::<Result<_>>()?;
                let of_family = |range: &IpNet| range.addr().is_ipv6() == is_ipv6;
                if ranges.is_empty() || !ranges.iter().all(of_family) {
                    bail!("{text:?} needs ranges of its own family");
                }
                Method::Cidr(ranges)
            }
            _ => bail!(
                "{text:?} is none of first-found, kubernetes-internal-ip, can-reach=DESTINATION, \
                 interface=REGEX, skip-interface=REGEX and cidr=CIDR"
            ),
        })
    }

    /// The destination of `can-reach=`.
    pub fn destination(&self) -> Option<&str> {
        match self {
            Method::CanReach(destination) => Some(destination),
            Method::Default
            | Method::InternalIp
            | Method::FirstFound
            | Method::Interface(_)
            | Method::SkipInterface(_)
            | Method::Cidr(_) => None,
        }
    }
}

/// What is known when a decision is made, of one family.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The family.
    pub is_ipv6: bool,
    /// Interfaces of the host, by index.
    pub interfaces: &'a [Interface],
    /// What is annotated, unless that is empty.
    pub annotated: Option<&'a str>,
    /// InternalIP of the Node.
    pub internal: Option<IpAddr>,
    /// The Node has an InternalIP of this or the other family.
    pub any_internal: bool,
    /// What the kernel would send from to the destination of `can-reach=`.
    pub reached: Option<IpAddr>,
    /// Other nodes by address.
    pub holders: &'a BTreeMap<IpAddr, String>,
    /// How long no interface has had the annotated address.
    pub missing_for: Duration,
    /// How long the agent has been looking.
    pub running_for: Duration,
}

/// What to do about one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The annotation, or that there is none, stays; this is the address.
    Keep(Option<IpAddr>),
    /// The annotation shall say this.
    Write(IpNet),
    /// The annotation goes.
    Remove,
    /// The annotation stays, for lack of a better one.
    Trouble(Trouble),
}

/// Why an address is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In a word.
    pub reason: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// What counts meanwhile.
    pub stays: Option<IpAddr>,
}

const CORRECT: &str = "correct the annotation, or name the right Node with --node-name";
const CHOOSE: &str = "choose another method with --ip-autodetection-method";

/// Decides.
pub fn decide(wish: &Wish, facts: &Facts<'_>) -> Decision {
    match wish {
        Wish::None if facts.annotated.is_some() => Decision::Remove,
        Wish::None => Decision::Keep(None),
        Wish::Fixed(address, length) => match facts.on_host(*address) {
            Some(net) => {
                let net = length
                    .and_then(|length| IpNet::new(*address, length).ok())
                    .unwrap_or(net);
                facts.write(net)
            }
            None => Decision::Trouble(Trouble {
                reason: "NotOnHost",
                problem: format!(
                    "no interface of this host has the address {address} of the settings"
                ),
                remedy: "correct --ip or --ip6, or give the address to an interface",
                stays: facts.held(),
            }),
        },
        Wish::Detected(method) => match facts.find(method) {
            Ok(Some(net)) => facts.settle(net),
            Ok(None) => Decision::Keep(facts.held()),
            Err(trouble) => Decision::Trouble(trouble),
        },
        Wish::Unasked(unasked) => facts.unasked(*unasked),
    }
}

impl Facts<'_> {
    fn unasked(&self, unasked: Unasked) -> Decision {
        let method = match unasked.first_found {
            true => Method::Default,
            false => Method::InternalIp,
        };
        let Some(text) = self.annotated else {
            if self.internal.is_none() && (self.any_internal || !unasked.first_found) {
                return Decision::Keep(None);
            }
            return match self.find(&method) {
                Ok(Some(net)) => self.settle(net),
                Ok(None) => Decision::Keep(None),
                Err(trouble) => Decision::Trouble(trouble),
            };
        };
        // The calculation reports what cannot be read.
        let Some(held) = address_of(text) else {
            return Decision::Keep(None);
        };
        if self.on_host(held).is_some() {
            return Decision::Keep(Some(held));
        }
        if unasked.heal
            && let Ok(Some(net)) = self.find(&method)
        {
            return self.settle(net);
        }
        Decision::Trouble(self.not_on_host(held))
    }

    fn held(&self) -> Option<IpAddr> {
        self.annotated.and_then(address_of)
    }

    /// The address with the length of its subnet, if an interface has it.
    fn on_host(&self, address: IpAddr) -> Option<IpNet> {
        let nets = self.interfaces.iter().flat_map(|one| &one.addresses);
        nets.copied().find(|net| net.addr() == address)
    }

    fn not_on_host(&self, address: IpAddr) -> Trouble {
        Trouble {
            reason: "NotOnHost",
            problem: format!("no interface of this host has the address {address} of the node"),
            remedy: CORRECT,
            stays: Some(address),
        }
    }

    /// Moves to an address, unless the one in use may be on its way back.
    fn settle(&self, net: IpNet) -> Decision {
        match self.held() {
            Some(held)
                if held != net.addr()
                    && self.on_host(held).is_none()
                    && self.missing_for < VANISHED =>
            {
                Decision::Trouble(self.not_on_host(held))
            }
            Some(_) | None => self.write(net),
        }
    }

    /// Writes an address, unless it is written already or another node has it.
    fn write(&self, net: IpNet) -> Decision {
        if self.annotated == Some(net.to_string().as_str()) {
            return Decision::Keep(Some(net.addr()));
        }
        let Some(holder) = self.holders.get(&net.addr()) else {
            return Decision::Write(net);
        };
        if self.held() == Some(net.addr()) {
            // Both say so already; the calculation reports it, and another length changes nothing.
            return Decision::Keep(Some(net.addr()));
        }
        Decision::Trouble(Trouble {
            reason: "Conflict",
            problem: format!("the address {net} of this host is that of Node/{holder} already"),
            remedy: "give every node an address of its own, or delete the Node that is gone",
            stays: self.held(),
        })
    }

    fn find(&self, method: &Method) -> Result<Option<IpNet>, Trouble> {
        match method {
            Method::InternalIp => self.internal_ip().map(Some),
            Method::Default => {
                if self.internal.is_some() {
                    return self.internal_ip().map(Some);
                }
                if self.any_internal {
                    return Ok(None);
                }
                if self.running_for < PATIENCE {
                    return self.internal_ip().map(Some);
                }
                self.first(|name| !is_foreign(name), |_| true, method)
                    .map(Some)
            }
            Method::FirstFound => self
                .first(|name| !is_foreign(name), |_| true, method)
                .map(Some),
            Method::CanReach(destination) => {
                let found = self.reached.and_then(|address| self.on_host(address));
                found.map(Some).ok_or_else(|| {
                    self.trouble(
                        format!("there is no way to {destination} from an address of this host"),
                        CHOOSE,
                    )
                })
            }
            Method::Interface(names) => self
                .first(|name| names.matches(name), |_| true, method)
                .map(Some),
            Method::SkipInterface(names) => {
                let fits = |name: &str| !is_foreign(name) && !names.matches(name);
                self.first(fits, |_| true, method).map(Some)
            }
            Method::Cidr(ranges) => {
                let fits = |address: IpAddr| ranges.iter().any(|range| range.contains(&address));
                self.first(|name| !is_foreign(name), fits, method).map(Some)
            }
        }
    }

    fn internal_ip(&self) -> Result<IpNet, Trouble> {
        let Some(address) = self.internal else {
            let family = if self.is_ipv6 { "IPv6" } else { "IPv4" };
            let what = format!("the status of this Node has no InternalIP of {family}");
            let remedy = "let the kubelet or the cloud's controller say it, or choose another method with --ip-autodetection-method";
            return Err(self.trouble(what, remedy));
        };
        let found = self.on_host(address);
        found.ok_or_else(|| Trouble {
            stays: self.held().or(Some(address)),
            ..self.not_on_host(address)
        })
    }

    /// The address in use if it fits, else the first on an interface that can carry packets.
    fn first(
        &self,
        name_fits: impl Fn(&str) -> bool,
        address_fits: impl Fn(IpAddr) -> bool,
        method: &Method,
    ) -> Result<IpNet, Trouble> {
        let fitting = || {
            let interfaces = self.interfaces.iter().filter(|one| name_fits(&one.name));
            interfaces.flat_map(|one| one.addresses.iter().map(|net| (one.up, *net)))
        };
        let usable = |net: IpNet| {
            net.addr().is_ipv6() == self.is_ipv6
                && is_global(net.addr())
                && address_fits(net.addr())
        };
        let held = self.held();
        let in_use = fitting().find(|(_, net)| usable(*net) && Some(net.addr()) == held);
        let found = in_use.or_else(|| fitting().find(|(up, net)| *up && usable(*net)));
        found.map(|(_, net)| net).ok_or_else(|| {
            let what = match method {
                Method::Interface(names) => format!("on interfaces named {}", names.text()),
                Method::SkipInterface(names) => format!("on interfaces not named {}", names.text()),
                Method::Cidr(ranges) => {
                    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                    format!("in {}", ranges.join(","))
                }
                Method::Default | Method::InternalIp | Method::FirstFound | Method::CanReach(_) => {
                    "on interfaces that are not those of containers".to_owned()
                }
            };
            self.trouble(format!("this host has no address {what}"), CHOOSE)
        })
    }

    fn trouble(&self, problem: String, remedy: &'static str) -> Trouble {
        Trouble {
            reason: "NotFound",
            problem,
            remedy,
            stays: self.held(),
        }
    }
}

impl Names {
    fn text(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(Regex::as_str).collect();
        texts.join(",")
    }
}

/// The address of an annotation, with or without a length.
pub fn address_of(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

fn is_foreign(name: &str) -> bool {
    NOT_OF_THE_HOST.iter().any(|start| name.starts_with(start)) || name == "wg-v6.cali"
}

/// One that others can reach: what Go calls global unicast, which private ranges are part of.
fn is_global(address: IpAddr) -> bool {
    let broadcast_or_link_local = match address {
        IpAddr::V4(address) => address.is_broadcast() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || broadcast_or_link_local)
}
