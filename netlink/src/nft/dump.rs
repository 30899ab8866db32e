//! Reading a table back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};

use super::{
    DATA_VALUE, ELEMENT_END, ELEMENT_FLAGS, ELEMENT_KEY, INET, Kind, LIST_ELEMENT, OBJECT_TABLE,
    Range, Shown, ShownChain, ShownPlace, ShownSet, WireRule,
};
use crate::attribute::{Attribute, attributes};
use crate::netfilter::{HEADER_BYTES, Head, LISTING, Writer};
use crate::wire::Answer;
use crate::{Error, Family, Socket};

/// `NFT_SET_*` flags of a set of addresses as ours.
const INTERVAL: u32 = 4;
const OPERATION: &str = "list nftables";

/// Reads a table; nothing when there is none of this name.
pub(super) fn show(socket: &mut Socket, table: &str) -> Result<Option<Shown>, Error> {
    let flags = match table_flags(socket, table) {
        Ok(flags) => flags,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut shown = Shown {
        flagged: flags != 0,
        ..Shown::default()
    };
    for (name, chain) in list(socket, Kind::GetChain, table, &[], read_chain)? {
        shown.chains.insert(name, chain);
    }
    for (chain, rule) in list(socket, Kind::GetRule, table, &[], read_rule)? {
        if let Some(chain) = shown.chains.get_mut(&chain) {
            chain.rules.push(rule);
        }
    }
    for (name, family) in list(socket, Kind::GetSet, table, &[], read_set)? {
        let ranges = match family {
            Some(_) => ranges(socket, table, &name)?,
            None => BTreeSet::new(),
        };
        shown.sets.insert(name, ShownSet { family, ranges });
    }
    Ok(Some(shown))
}

fn table_flags(socket: &mut Socket, table: &str) -> Result<u32, Error> {
    let sequence = socket.reserve_sequences(1);
    let mut bytes = Writer::default();
    let head = head(Kind::GetTable, NLM_F_REQUEST | NLM_F_ACK, sequence);
    bytes.message(head, |message| message.string(OBJECT_TABLE, table));
    let flags = socket.get_encoded(bytes.bytes(), sequence, OPERATION, &table, |answer| {
        value(answer, 2).map(|flags| flags.u32_be())
    })?;
    Ok(flags.flatten().unwrap_or_default())
}

/// Lists what belongs to the table; older kernels answer about other tables too.
fn list<T>(
    socket: &mut Socket,
    kind: Kind,
    table: &str,
    more: &[(u16, &str)],
    read: impl Fn(&Answer<'_>) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let encode = |sequence| {
        let mut bytes = Writer::default();
        bytes.message(head(kind, LISTING, sequence), |message| {
            message.string(OBJECT_TABLE, table);
            for (kind, name) in more {
                message.string(*kind, name);
            }
        });
        bytes.into_bytes()
    };
    socket.dump_encoded(encode, OPERATION, |answer| {
        (name_of(answer, OBJECT_TABLE)? == table).then(|| read(answer))?
    })
}

fn head(kind: Kind, flags: u16, sequence: u32) -> Head {
    Head {
        kind: kind.number(),
        flags,
        sequence,
        family: INET,
        resource: 0,
    }
}

fn value<'a>(answer: &Answer<'a>, kind: u16) -> Option<Attribute<'a>> {
    attributes(answer.payload, HEADER_BYTES).find(|attribute| attribute.kind == kind)
}

fn name_of(answer: &Answer<'_>, kind: u16) -> Option<String> {
    value(answer, kind).map(|attribute| attribute.string())
}

fn read_chain(answer: &Answer<'_>) -> Option<(String, ShownChain)> {
    let hook = value(answer, 4);
    let place = |hook: &Attribute<'_>| {
        let number = |kind| {
            attributes(hook.value, 0)
                .find(|attribute| attribute.kind == kind)?
                .u32_be()
        };
        // A policy other than accept makes it another chain.
        value(answer, 5)?.u32_be().filter(|policy| *policy == 1)?;
        let kind = name_of(answer, 7)?;
        Some(ShownPlace::Hook(kind, number(1)?, number(2)?.cast_signed()))
    };
    let chain = ShownChain {
        place: match hook {
            Some(hook) => place(&hook).unwrap_or(ShownPlace::Foreign),
            None => ShownPlace::NoHook,
        },
        rules: Vec::new(),
    };
    Some((name_of(answer, 3)?, chain))
}

fn read_rule(answer: &Answer<'_>) -> Option<(String, WireRule)> {
    let bytes = |kind| {
        value(answer, kind)
            .map(|attribute| attribute.value.to_vec())
            .unwrap_or_default()
    };
    let rule = WireRule {
        expressions: bytes(4),
        comment: bytes(7),
    };
    Some((name_of(answer, 2)?, rule))
}

fn read_set(answer: &Answer<'_>) -> Option<(String, Option<Family>)> {
    let number = |kind| value(answer, kind).and_then(|attribute| attribute.u32_be());
    let family = match (number(3), number(4)) {
        (Some(INTERVAL), Some(7)) => Some(Family::V4),
        (Some(INTERVAL), Some(8)) => Some(Family::V6),
        _ => None,
    };
    Some((name_of(answer, 2)?, family))
}

/// What is in a set of addresses.
fn ranges(socket: &mut Socket, table: &str, set: &str) -> Result<BTreeSet<Range>, Error> {
    let lists = list(socket, Kind::GetElement, table, &[(2, set)], |answer| {
        let list = value(answer, 3)?;
        let elements = attributes(list.value, 0).filter(|element| element.kind == LIST_ELEMENT);
        Some(elements.filter_map(|e| bound(e.value)).collect::<Vec<_>>())
    })?;
    // An end and the start of the next range may be the same address.
    let mut bounds: BTreeMap<IpAddr, (bool, bool)> = BTreeMap::new();
    for (address, is_end) in lists.into_iter().flatten() {
        let at = bounds.entry(address).or_default();
        at.0 |= is_end;
        at.1 |= !is_end;
    }
    let mut found = BTreeSet::new();
    let mut open = None;
    for (address, (ends, starts)) in bounds {
        if ends && let Some(first) = open.take() {
            found.extend(Range::until(first, Some(address)));
        }
        if starts {
            open.get_or_insert(address);
        }
    }
    found.extend(open.and_then(|first| Range::until(first, None)));
    Ok(found)
}

/// An address in a set and whether it is the first behind a range.
fn bound(element: &[u8]) -> Option<(IpAddr, bool)> {
    let find = |kind| attributes(element, 0).find(|attribute| attribute.kind == kind);
    let key = find(ELEMENT_KEY)?;
    let address = attributes(key.value, 0)
        .find(|attribute| attribute.kind == DATA_VALUE)?
        .address()?;
    let flags = find(ELEMENT_FLAGS).and_then(|flags| flags.u32_be());
    Some((address, flags.unwrap_or_default() & ELEMENT_END != 0))
}
