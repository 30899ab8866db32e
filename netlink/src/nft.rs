//! nftables: one table of ours in family `inet`, written in one transaction and read back.
//!
//! A [`Ruleset`] is a table as somebody wants it: interval sets of addresses and chains with
//! their rules. [`Nftables::commit`] makes changes all at once or not at all,
//! [`Nftables::show`] reads what is there, and [`Shown`] says where the two differ without
//! understanding expressions: the kernel repeats the attributes that it was given.
//! Tables of others are never read, never written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{Error, Family, Socket};

mod dump;
mod expression;
mod monitor;
mod range;
mod transaction;

pub use expression::{AddressSide, Expression, FibResult, MetaKey, NatPorts};
pub use monitor::Monitor;
pub use range::Range;

/// `NETLINK_NETFILTER`.
pub(crate) const NETFILTER: isize = libc::NETLINK_NETFILTER as isize;
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const INET: u8 = 1;
/// Attribute that names the table, in messages about every kind of object.
const OBJECT_TABLE: u16 = 1;
/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;
/// `NFTA_SET_ELEM_KEY` and `_FLAGS`; the flag marks the first address behind a range.
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_END: u32 = 1;
/// `NFTA_EXPR_NAME` and `_DATA`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// Messages about nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    DeleteRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

impl Kind {
    fn number(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// A table as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Its name.
    pub table: String,
    /// Its sets; chains refer to them.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A set of addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Family of its addresses.
    pub family: Family,
    /// What is in it; the kernel wants no overlaps, see [`Range::merge`].
    pub ranges: BTreeSet<Range>,
}

/// A chain that packets pass; those no rule decides about go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets meet it; nothing for one that rules of other chains send them to.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where packets meet a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What its rules may do.
    pub kind: ChainKind,
    /// On which way.
    pub hook: Hook,
    /// Chains of all tables at a hook run in this order, lowest first.
    pub priority: i32,
}

/// What the rules of a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Let packets pass or not.
    Filter,
    /// Translate the first packet of each flow, and so the flow.
    Nat,
}

/// The ways of a packet through the host (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// All that comes in.
    Prerouting = 0,
    /// What is for this host.
    Input = 1,
    /// What passes through.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// All that leaves.
    Postrouting = 4,
}

/// Expressions that a packet must pass one after the other, the last one decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In order.
    pub expressions: Vec<Expression>,
    /// For people.
    pub comment: Option<String>,
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The whole table, in place of what may be there under its name.
    Rebuild(&'a Ruleset),
    /// No table of this name any more; none being there is fine.
    Remove(&'a str),
    /// All rules of a chain.
    Rules {
        /// The table.
        table: &'a str,
        /// The chain with its new rules.
        chain: &'a Chain,
    },
    /// Ranges that go out of a set and others that come into it.
    Ranges {
        /// The table.
        table: &'a str,
        /// The set.
        set: &'a str,
        /// What is in it and shall not be.
        remove: Vec<Range>,
        /// What shall be in it and is not.
        add: Vec<Range>,
    },
}

/// A table as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Switched off, or owned by a process.
    flagged: bool,
    sets: BTreeMap<String, ShownSet>,
    chains: BTreeMap<String, ShownChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ShownSet {
    /// Nothing for a set that no set of ours looks like.
    family: Option<Family>,
    ranges: BTreeSet<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ShownChain {
    place: ShownPlace,
    rules: Vec<WireRule>,
}

/// Where packets meet a chain, as messages have it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ShownPlace {
    /// Type, hook and priority.
    Hook(String, u32, i32),
    /// Where rules send them to it.
    NoHook,
    /// Where no chain of ours is, or with a policy that none of ours has.
    Foreign,
}

/// A rule as attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct WireRule {
    expressions: Vec<u8>,
    comment: Vec<u8>,
}

impl Shown {
    /// What a table looks like once it has been written.
    pub fn after(ruleset: &Ruleset) -> Shown {
        let sets = ruleset.sets.iter().map(|set| {
            let shown = ShownSet {
                family: Some(set.family),
                ranges: set.ranges.clone(),
            };
            (set.name.clone(), shown)
        });
        let chains = ruleset.chains.iter().map(|chain| {
            let shown = ShownChain {
                place: chain.place(),
                rules: chain.rules.iter().map(Rule::on_the_wire).collect(),
            };
            (chain.name.clone(), shown)
        });
        Shown {
            flagged: false,
            sets: sets.collect(),
            chains: chains.collect(),
        }
    }

    /// Whether there are the same sets and chains, whatever is in them.
    pub fn has_shape_of(&self, ruleset: &Ruleset) -> bool {
        let set = |set: &Set| {
            let shown = self.sets.get(&set.name);
            shown.is_some_and(|shown| shown.family == Some(set.family))
        };
        let chain = |chain: &Chain| {
            let shown = self.chains.get(&chain.name);
            shown.is_some_and(|shown| shown.place == chain.place())
        };
        !self.flagged
            && self.sets.len() == ruleset.sets.len()
            && self.chains.len() == ruleset.chains.len()
            && ruleset.sets.iter().all(set)
            && ruleset.chains.iter().all(chain)
    }

    /// Whether there is a chain of this name.
    pub fn has_chain(&self, name: &str) -> bool {
        self.chains.contains_key(name)
    }

    /// Whether a chain has these rules and no others.
    pub fn has_rules_of(&self, chain: &Chain) -> bool {
        let Some(shown) = self.chains.get(&chain.name) else {
            return false;
        };
        shown.rules.len() == chain.rules.len()
            && (chain.rules.iter().zip(&shown.rules))
                .all(|(rule, shown)| rule.on_the_wire().is_repeated_by(shown))
    }

    /// What a set has too much and what it lacks.
    pub fn difference(&self, set: &Set) -> (Vec<Range>, Vec<Range>) {
        let nothing = BTreeSet::new();
        let shown = self.sets.get(&set.name).map_or(&nothing, |set| &set.ranges);
        let surplus = shown.difference(&set.ranges).copied().collect();
        let missing = set.ranges.difference(shown).copied().collect();
        (surplus, missing)
    }
}

impl Base {
    /// Type, hook and priority as messages have them.
    fn on_the_wire(self) -> (String, u32, i32) {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        (kind.to_owned(), self.hook as u32, self.priority)
    }
}

impl Chain {
    fn place(&self) -> ShownPlace {
        self.base.map_or(ShownPlace::NoHook, |base| {
            let (kind, hook, priority) = base.on_the_wire();
            ShownPlace::Hook(kind, hook, priority)
        })
    }
}

/// A connection to nftables in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens the connection; fails where the kernel has no netfilter at all.
    pub fn open() -> Result<Nftables, Error> {
        Ok(Nftables {
            socket: Socket::of_protocol(NETFILTER, &[])?,
        })
    }

    /// Makes all changes at once, or none of them.
    pub fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), Error> {
        transaction::commit(&mut self.socket, changes)
    }

    /// Reads a table; nothing when there is none of this name.
    pub fn show(&mut self, table: &str) -> Result<Option<Shown>, Error> {
        dump::show(&mut self.socket, table)
    }
}

/// The address as a number, IPv4 in the lower 32 bits.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}
