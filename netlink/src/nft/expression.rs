//! Expressions: the steps of a rule, and how the kernel takes and shows them.
//!
//! What an expression looks at goes into register 1, what a comparison or a set decides comes from
//! there. Optional attributes are all written, as the kernel shows them.

use std::net::IpAddr;

use super::{DATA_VALUE, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ELEMENT, Rule, WireRule};
use crate::Family;
use crate::attribute::attributes;
use crate::netfilter::{Writer, octets, protocol_of};

/// `NFT_REG_1` to `NFT_REG_3`, 16 octets each, and the one that holds the verdict.
const REGISTER: u32 = 1;
const REGISTER_MIN_PORT: u32 = 2;
const REGISTER_MAX_PORT: u32 = 3;
const VERDICT: u32 = 0;
/// `NF_DROP`, `NFT_GOTO` and `NFT_RETURN`.
const DROP: u32 = 0;
const GO_TO: u32 = (-4_i32).cast_unsigned();
const RETURN: u32 = (-5_i32).cast_unsigned();
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Where the destination port is in headers of TCP and UDP.
const DESTINATION_PORT_OFFSET: u32 = 2;
/// `NF_NAT_RANGE_MAP_IPS`, `_PROTO_SPECIFIED` and `_PROTO_RANDOM_FULLY`.
const NAT_ADDRESS: u32 = 1;
const NAT_PORTS: u32 = 2;
const NAT_RANDOM_FULLY: u32 = 16;
/// `NFT_FIB_*` results and flags.
const FIB_INTERFACE: u32 = 1;
const FIB_TYPE: u32 = 3;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_IN: u32 = 8;
const FIB_OUT: u32 = 16;
const FIB_PRESENT: u32 = 32;
/// Longest name of an interface, with its NUL.
const INTERFACE_BYTES: usize = 16;
/// `NFTNL_UDATA_RULE_COMMENT`.
const USER_DATA_COMMENT: u8 = 0;

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Looks at the packet besides its headers.
    Meta(MetaKey),
    /// Looks at an address in the header.
    Address {
        /// Family of the header.
        family: Family,
        /// Which one.
        side: AddressSide,
    },
    /// Looks at the destination port of TCP or UDP.
    DestinationPort,
    /// Looks up the packet's route.
    Fib(FibResult),
    /// Goes on if what was looked at begins with these octets.
    Is(Vec<u8>),
    /// Goes on if what was looked at does not begin with these octets.
    IsNot(Vec<u8>),
    /// Goes on if what was looked at is in the set of this name.
    In(String),
    /// Goes on if what was looked at is not in the set of this name.
    NotIn(String),
    /// Counts.
    Counter,
    /// Keeps the packet out of connection tracking.
    NoTrack,
    /// Ends the packet.
    Drop,
    /// Goes on in the chain of this name, which has no hook, and does not come back.
    GoTo(String),
    /// Looks at no more rules of this table at this hook.
    Return,
    /// Gives the flow the source address of the interface it leaves by, and any free port.
    Masquerade(Option<NatPorts>),
    /// Gives the flow this source address, and any free port.
    SourceNat(IpAddr, Option<NatPorts>),
}

/// What to look at besides headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// Name of the interface it came in by, 16 octets (`NFT_META_IIFNAME`).
    InName = 6,
    /// Name of the interface it leaves by, 16 octets (`NFT_META_OIFNAME`).
    OutName = 7,
    /// Family, one octet (`NFT_META_NFPROTO`).
    Family = 15,
    /// Protocol above IP, one octet (`NFT_META_L4PROTO`).
    Protocol = 16,
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSide {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// What to find out from the routing tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    /// Four octets, all zero if the source is not reached by the interface the packet came in by.
    SourceBehindInput,
    /// Four octets, `RTN_*`: what the source is to this host.
    SourceType,
    /// Four octets, `RTN_*`: what the source is to the interface the packet leaves by.
    SourceTypeOnOutput,
    /// Four octets, `RTN_*`: what the destination is to this host.
    DestinationType,
}

/// First and last port to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPorts {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

impl Expression {
    /// A comparison with the whole name of an interface.
    pub fn is_interface(name: &str) -> Expression {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(INTERFACE_BYTES, 0);
        Expression::Is(bytes)
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Expression::Meta(key) => step(to, "meta", |data| {
                data.big_u32(1, REGISTER);
                data.big_u32(2, *key as u32);
            }),
            Expression::Address { family, side } => {
                let (offset, length) = place(*family, *side);
                payload(to, NETWORK_HEADER, offset, length);
            }
            Expression::DestinationPort => {
                payload(to, TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, 2);
            }
            Expression::Fib(result) => step(to, "fib", |data| {
                let (kind, flags) = result.numbers();
                data.big_u32(1, REGISTER);
                data.big_u32(2, kind);
                data.big_u32(3, flags);
            }),
            Expression::Is(value) => compare(to, 0, value),
            Expression::IsNot(value) => compare(to, 1, value),
            Expression::In(set) => lookup(to, 0, set),
            Expression::NotIn(set) => lookup(to, 1, set),
            Expression::Counter => step(to, "counter", |_| {}),
            Expression::NoTrack => step(to, "notrack", |_| {}),
            Expression::Drop => verdict(to, DROP, None),
            Expression::GoTo(chain) => verdict(to, GO_TO, Some(chain)),
            Expression::Return => verdict(to, RETURN, None),
            Expression::Masquerade(ports) => masquerade(to, *ports),
            Expression::SourceNat(address, ports) => source_nat(to, *address, *ports),
        }
    }
}

impl FibResult {
    fn numbers(self) -> (u32, u32) {
        match self {
            FibResult::SourceBehindInput => (FIB_INTERFACE, FIB_SOURCE | FIB_IN | FIB_PRESENT),
            FibResult::SourceType => (FIB_TYPE, FIB_SOURCE),
            FibResult::SourceTypeOnOutput => (FIB_TYPE, FIB_SOURCE | FIB_OUT),
            FibResult::DestinationType => (FIB_TYPE, FIB_DESTINATION),
        }
    }
}

/// Offset and length of an address in its header.
fn place(family: Family, side: AddressSide) -> (u32, u32) {
    match (family, side) {
        (Family::V4, AddressSide::Source) => (12, 4),
        (Family::V4, AddressSide::Destination) => (16, 4),
        (Family::V6, AddressSide::Source) => (8, 16),
        (Family::V6, AddressSide::Destination) => (24, 16),
    }
}

fn step(to: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    to.nested(LIST_ELEMENT, |step| {
        step.string(EXPRESSION_NAME, name);
        step.nested(EXPRESSION_DATA, data);
    });
}

fn payload(to: &mut Writer, base: u32, offset: u32, length: u32) {
    step(to, "payload", |data| {
        for (kind, value) in (1..).zip([REGISTER, base, offset, length]) {
            data.big_u32(kind, value);
        }
    });
}

fn compare(to: &mut Writer, operation: u32, value: &[u8]) {
    step(to, "cmp", |data| {
        data.big_u32(1, REGISTER);
        data.big_u32(2, operation);
        data.nested(3, |data| data.attribute(DATA_VALUE, value));
    });
}

fn lookup(to: &mut Writer, flags: u32, set: &str) {
    step(to, "lookup", |data| {
        data.string(1, set);
        data.big_u32(2, REGISTER);
        data.big_u32(5, flags);
    });
}

fn verdict(to: &mut Writer, code: u32, chain: Option<&str>) {
    step(to, "immediate", |data| {
        data.big_u32(1, VERDICT);
        // NFTA_DATA_VERDICT, in it NFTA_VERDICT_CODE and NFTA_VERDICT_CHAIN.
        data.nested(2, |data| {
            data.nested(2, |verdict| {
                verdict.big_u32(1, code);
                if let Some(chain) = chain {
                    verdict.string(2, chain);
                }
            });
        });
    });
}

fn load(to: &mut Writer, register: u32, value: &[u8]) {
    step(to, "immediate", |data| {
        data.big_u32(1, register);
        data.nested(2, |data| data.attribute(DATA_VALUE, value));
    });
}

fn load_ports(to: &mut Writer, ports: Option<NatPorts>) {
    if let Some(ports) = ports {
        load(to, REGISTER_MIN_PORT, &ports.first.to_be_bytes());
        load(to, REGISTER_MAX_PORT, &ports.last.to_be_bytes());
    }
}

fn masquerade(to: &mut Writer, ports: Option<NatPorts>) {
    load_ports(to, ports);
    step(to, "masq", |data| match ports {
        None => data.big_u32(1, NAT_RANDOM_FULLY),
        Some(_) => {
            data.big_u32(1, NAT_RANDOM_FULLY | NAT_PORTS);
            data.big_u32(2, REGISTER_MIN_PORT);
            data.big_u32(3, REGISTER_MAX_PORT);
        }
    });
}

fn source_nat(to: &mut Writer, address: IpAddr, ports: Option<NatPorts>) {
    load(to, REGISTER, &octets(address));
    load_ports(to, ports);
    step(to, "nat", |data| {
        let family = protocol_of(Family::of(address));
        let mut flags = NAT_RANDOM_FULLY | NAT_ADDRESS;
        // NFT_NAT_SNAT.
        data.big_u32(1, 0);
        data.big_u32(2, family.into());
        data.big_u32(3, REGISTER);
        data.big_u32(4, REGISTER);
        if ports.is_some() {
            flags |= NAT_PORTS;
            data.big_u32(5, REGISTER_MIN_PORT);
            data.big_u32(6, REGISTER_MAX_PORT);
        }
        data.big_u32(7, flags);
    });
}

impl Rule {
    pub(super) fn on_the_wire(&self) -> WireRule {
        let mut expressions = Writer::default();
        for expression in &self.expressions {
            expression.write(&mut expressions);
        }
        let mut comment = Vec::new();
        if let Some(text) = &self.comment {
            // One octet says how long it is.
            let end = text.floor_char_boundary(usize::from(u8::MAX) - 1);
            comment.extend([USER_DATA_COMMENT, end as u8 + 1]);
            comment.extend(&text.as_bytes()[..end]);
            comment.push(0);
        }
        WireRule {
            expressions: expressions.into_bytes(),
            comment,
        }
    }
}

impl WireRule {
    /// Whether the kernel shows this rule so; it adds counts and more, and leaves nothing out.
    pub(super) fn is_repeated_by(&self, shown: &WireRule) -> bool {
        let said = attributes(&self.expressions, 0);
        let mut seen = attributes(&shown.expressions, 0);
        self.comment == shown.comment
            && said.into_iter().all(|said| {
                seen.next()
                    .is_some_and(|seen| repeats(said.value, seen.value))
            })
            && seen.next().is_none()
    }
}

/// Whether each attribute that was said is among those shown, with the same value.
fn repeats(said: &[u8], shown: &[u8]) -> bool {
    attributes(said, 0).all(|said| {
        let mut same_kind = attributes(shown, 0).filter(|shown| shown.kind == said.kind);
        match same_kind.next() {
            Some(shown) if said.nested => repeats(said.value, shown.value),
            Some(shown) => said.value == shown.value,
            // An expression without options may be shown without any.
            None => said.nested && said.value.is_empty(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(expressions: Vec<Expression>) -> WireRule {
        let comment = Some("why".to_owned());
        Rule {
            expressions,
            comment,
        }
        .on_the_wire()
    }

    fn drops_port(port: u16) -> Vec<Expression> {
        vec![
            Expression::Meta(MetaKey::Protocol),
            Expression::Is(vec![17]),
            Expression::DestinationPort,
            Expression::Is(port.to_be_bytes().to_vec()),
            Expression::Counter,
            Expression::Drop,
        ]
    }

    #[test]
    fn a_rule_is_recognised_whatever_the_kernel_adds() {
        let said = wire(drops_port(4789));
        assert!(said.is_repeated_by(&said));
        let mut shown = Writer::default();
        for expression in attributes(&said.expressions, 0) {
            shown.nested(LIST_ELEMENT, |step| {
                step.written(expression.value);
                step.big_u32(77, 1);
            });
        }
        let mut shown = WireRule {
            expressions: shown.into_bytes(),
            comment: said.comment.clone(),
        };
        assert!(said.is_repeated_by(&shown));
        shown.comment.clear();
        assert!(!said.is_repeated_by(&shown));
    }

    #[test]
    fn another_value_another_step_and_more_or_fewer_steps_are_another_rule() {
        let said = wire(drops_port(4789));
        assert!(!said.is_repeated_by(&wire(drops_port(4790))));
        let mut other = drops_port(4789);
        other[1] = Expression::IsNot(vec![17]);
        assert!(!said.is_repeated_by(&wire(other)));
        let mut longer = drops_port(4789);
        longer.push(Expression::Counter);
        assert!(!said.is_repeated_by(&wire(longer)));
        let goes_to = |chain: &str| wire(vec![Expression::GoTo(chain.to_owned())]);
        assert!(goes_to("one").is_repeated_by(&goes_to("one")));
        assert!(!goes_to("one").is_repeated_by(&goes_to("other")));
        assert!(!goes_to("one").is_repeated_by(&wire(vec![Expression::Return])));
        assert!(!said.is_repeated_by(&wire(drops_port(4789)[..5].to_vec())));
    }

    #[test]
    fn a_long_comment_is_cut_between_characters() {
        let rule = Rule {
            expressions: Vec::new(),
            comment: Some("é".repeat(200)),
        };
        let wire = rule.on_the_wire();
        assert_eq!(usize::from(wire.comment[1]), wire.comment.len() - 2);
        let text = &wire.comment[2..wire.comment.len() - 1];
        assert_eq!(std::str::from_utf8(text).unwrap().chars().count(), 127);
    }
}
