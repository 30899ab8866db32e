//! The model as the kernel takes it, and as `nft` lists it.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use netlink::Family;
use netlink::nft::{
    self, AddressSide, ChainKind, Expression, FibResult, Hook, MetaKey, NatPorts, Ruleset,
};

use super::TABLE;
use super::model::{Chain, Condition, Interface, Protocol, Rule, Table, Verdict};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;
/// `RTN_UNICAST`: an address of others.
const UNICAST: u32 = 1;

impl Table {
    /// As the kernel takes it.
    pub(super) fn ruleset(&self) -> Ruleset {
        let chain = |chain: &Chain| nft::Chain {
            name: chain.name.to_owned(),
            base: chain.base,
            rules: chain.rules.iter().map(Rule::compile).collect(),
        };
        Ruleset {
            table: TABLE.to_owned(),
            sets: self.sets.clone(),
            chains: self.chains.iter().map(chain).collect(),
        }
    }
}

impl Rule {
    fn compile(&self) -> nft::Rule {
        let mut expressions = Vec::new();
        let mut family = None;
        for condition in &self.conditions {
            condition.compile(&mut family, &mut expressions);
        }
        match self.verdict {
            Verdict::Drop => expressions.extend([Expression::Counter, Expression::Drop]),
            Verdict::NoTrack => expressions.extend([Expression::NoTrack, Expression::Return]),
            Verdict::GoTo(chain) => expressions.push(Expression::GoTo(chain.to_owned())),
            Verdict::Masquerade(ports) => expressions.push(Expression::Masquerade(ports)),
            Verdict::SourceNat(address, ports) => {
                expressions.push(Expression::SourceNat(address, ports));
            }
        }
        nft::Rule {
            expressions,
            comment: self.comment.map(str::to_owned),
        }
    }
}

impl Condition {
    /// Adds its steps; `family` is the one that earlier steps have made sure of.
    fn compile(&self, family: &mut Option<Family>, to: &mut Vec<Expression>) {
        match self {
            Condition::In(interface) => interface.compile(MetaKey::InName, to),
            Condition::Out(interface) => interface.compile(MetaKey::OutName, to),
            Condition::Address {
                family: wanted,
                side,
                set,
                inside,
            } => {
                make_sure_of(*wanted, family, to);
                to.push(Expression::Address {
                    family: *wanted,
                    side: *side,
                });
                let set = (*set).to_owned();
                to.push(match inside {
                    true => Expression::In(set),
                    false => Expression::NotIn(set),
                });
            }
            Condition::To(address) => {
                let wanted = Family::of(*address);
                make_sure_of(wanted, family, to);
                to.push(Expression::Address {
                    family: wanted,
                    side: AddressSide::Destination,
                });
                to.push(Expression::Is(match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                }));
            }
            Condition::Protocol(protocol) => to.extend(protocol.compile()),
            Condition::UdpPort(port) => {
                to.extend(Protocol::Udp.compile());
                to.push(Expression::DestinationPort);
                to.push(Expression::Is(port.to_be_bytes().to_vec()));
            }
            Condition::NoWayBack => to.extend([
                Expression::Fib(FibResult::SourceBehindInput),
                Expression::Is(0_u32.to_ne_bytes().to_vec()),
            ]),
            Condition::FromHost => to.extend([
                Expression::Fib(FibResult::SourceType),
                Expression::Is(LOCAL.to_ne_bytes().to_vec()),
            ]),
            Condition::NotFromOut => to.extend([
                Expression::Fib(FibResult::SourceTypeOnOutput),
                Expression::IsNot(LOCAL.to_ne_bytes().to_vec()),
            ]),
            Condition::ToHost => to.extend([
                Expression::Fib(FibResult::DestinationType),
                Expression::Is(LOCAL.to_ne_bytes().to_vec()),
            ]),
            Condition::NotForwarded => to.extend([
                Expression::Fib(FibResult::DestinationType),
                Expression::IsNot(UNICAST.to_ne_bytes().to_vec()),
            ]),
        }
    }
}

/// Adds the steps that let only one family pass, if there are none yet.
fn make_sure_of(wanted: Family, family: &mut Option<Family>, to: &mut Vec<Expression>) {
    if family.replace(wanted) == Some(wanted) {
        return;
    }
    let number = match wanted {
        Family::V4 => FAMILY_V4,
        Family::V6 => FAMILY_V6,
    };
    to.extend([
        Expression::Meta(MetaKey::Family),
        Expression::Is(vec![number]),
    ]);
}

impl Interface {
    fn compile(&self, key: MetaKey, to: &mut Vec<Expression>) {
        to.push(Expression::Meta(key));
        to.push(match self {
            Interface::Named(name) => Expression::is_interface(name),
            Interface::Prefix(prefix) => Expression::Is(prefix.as_bytes().to_vec()),
        });
    }
}

impl Protocol {
    fn compile(self) -> [Expression; 2] {
        [
            Expression::Meta(MetaKey::Protocol),
            Expression::Is(vec![self as u8]),
        ]
    }
}

/// As `nft --stateless list table inet tortie` has it, one set per line.
impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for set in &self.sets {
            let kind = match set.family {
                Family::V4 => "ipv4_addr",
                Family::V6 => "ipv6_addr",
            };
            writeln!(f, "\tset {} {{", set.name)?;
            writeln!(f, "\t\ttype {kind}")?;
            writeln!(f, "\t\tflags interval")?;
            if !set.ranges.is_empty() {
                let ranges: Vec<String> = set.ranges.iter().map(ToString::to_string).collect();
                writeln!(f, "\t\telements = {{ {} }}", ranges.join(", "))?;
            }
            writeln!(f, "\t}}\n")?;
        }
        for (number, chain) in self.chains.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            let kind = match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            };
            let hook = match base.hook {
                Hook::Prerouting => "prerouting",
                Hook::Input => "input",
                Hook::Forward => "forward",
                Hook::Output => "output",
                Hook::Postrouting => "postrouting",
            };
            let priority = match base.priority {
                -300 => "raw".to_owned(),
                99 => "srcnat - 1".to_owned(),
                other => other.to_string(),
            };
            writeln!(
                f,
                "\t\ttype {kind} hook {hook} priority {priority}; policy accept;"
            )?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for condition in &self.conditions {
            write!(f, "{condition} ")?;
        }
        write!(f, "{}", self.verdict)?;
        match self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Condition::In(interface) => write!(f, "iifname \"{interface}\""),
            Condition::Out(interface) => write!(f, "oifname \"{interface}\""),
            Condition::Address {
                family,
                side,
                set,
                inside,
            } => {
                let family = match family {
                    Family::V4 => "ip",
                    Family::V6 => "ip6",
                };
                let side = match side {
                    AddressSide::Source => "saddr",
                    AddressSide::Destination => "daddr",
                };
                let not = if *inside { "" } else { "!= " };
                write!(f, "{family} {side} {not}@{set}")
            }
            Condition::To(address @ IpAddr::V4(_)) => write!(f, "ip daddr {address}"),
            Condition::To(address @ IpAddr::V6(_)) => write!(f, "ip6 daddr {address}"),
            Condition::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Condition::UdpPort(port) => write!(f, "udp dport {port}"),
            Condition::NoWayBack => f.write_str("fib saddr . iif oif missing"),
            Condition::FromHost => f.write_str("fib saddr type local"),
            Condition::NotFromOut => f.write_str("fib saddr . oif type != local"),
            Condition::ToHost => f.write_str("fib daddr type local"),
            Condition::NotForwarded => f.write_str("fib daddr type != unicast"),
        }
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Interface::Named(name) => f.write_str(name),
            Interface::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// As `/etc/protocols` has them, where `nft` takes the names from.
impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Ipip => "ipencap",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let range = |ports: NatPorts| format!(":{}-{}", ports.first, ports.last);
        match self {
            Verdict::Drop => f.write_str("counter drop"),
            Verdict::NoTrack => f.write_str("notrack return"),
            Verdict::GoTo(chain) => write!(f, "goto {chain}"),
            Verdict::Masquerade(None) => f.write_str("masquerade fully-random"),
            Verdict::Masquerade(Some(ports)) => {
                write!(f, "masquerade to {} fully-random", range(*ports))
            }
            Verdict::SourceNat(address, ports) => {
                let family = if address.is_ipv4() { "ip" } else { "ip6" };
                let ports = ports.map(range).unwrap_or_default();
                match address.is_ipv6() && !ports.is_empty() {
                    true => write!(f, "snat {family} to [{address}]{ports} fully-random"),
                    false => write!(f, "snat {family} to {address}{ports} fully-random"),
                }
            }
        }
    }
}
