//! Changes, all at once or none.
//!
//! All messages of a transaction go into one system call, between a begin and an end. Only the
//! last asks for an acknowledgement; the kernel reports the errors of the others unasked, and an
//! error of the whole, such as lacking rights, as one of the begin.

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR};

use super::{
    Chain, Change, DATA_VALUE, ELEMENT_END, ELEMENT_FLAGS, ELEMENT_KEY, INET, Kind, LIST_ELEMENT,
    Range, Ruleset, SUBSYSTEM, Set,
};
use crate::netfilter::{Head, Writer, octets};
use crate::{Error, Family, Socket};

/// `NFNL_MSG_BATCH_BEGIN` and `_END`.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Ranges per message: an attribute is at most 64 KiB long.
const RANGES: usize = 500;
/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 4;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
const OPERATION: &str = "change nftables";

/// Makes the changes.
pub(super) fn commit(socket: &mut Socket, changes: &[Change<'_>]) -> Result<(), Error> {
    let mut batch = Batch::default();
    for change in changes {
        match change {
            Change::Rebuild(ruleset) => batch.rebuild(ruleset),
            Change::Remove(table) => batch.remove(table),
            Change::Rules { table, chain } => {
                batch.add(Kind::DeleteRule, 0, &chain.name, |message| {
                    message.string(1, table);
                    message.string(2, &chain.name);
                });
                batch.rules(table, chain);
            }
            Change::Ranges {
                table,
                set,
                remove,
                add,
            } => {
                batch.ranges(Kind::DeleteElement, table, set, remove);
                batch.ranges(Kind::NewElement, table, set, add);
            }
        }
    }
    batch.send(socket)
}

/// The messages between begin and end.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    sets: u32,
}

struct Message {
    kind: Kind,
    flags: u16,
    /// For errors.
    object: String,
    attributes: Vec<u8>,
}

impl Batch {
    fn add(&mut self, kind: Kind, flags: u16, object: &str, fill: impl FnOnce(&mut Writer)) {
        let mut attributes = Writer::default();
        fill(&mut attributes);
        self.messages.push(Message {
            kind,
            flags,
            object: object.to_owned(),
            attributes: attributes.into_bytes(),
        });
    }

    fn remove(&mut self, table: &str) {
        let name = |message: &mut Writer| message.string(1, table);
        // Deleting what is not there is an error, so it is made first.
        self.add(Kind::NewTable, NLM_F_CREATE, table, name);
        self.add(Kind::DeleteTable, 0, table, name);
    }

    fn rebuild(&mut self, ruleset: &Ruleset) {
        let table = &ruleset.table;
        self.remove(table);
        self.add(Kind::NewTable, NLM_F_CREATE, table, |message| {
            message.string(1, table);
        });
        for set in &ruleset.sets {
            self.set(table, set);
        }
        for chain in &ruleset.chains {
            self.chain(table, chain);
        }
        // Only now: rules name chains.
        for chain in &ruleset.chains {
            self.rules(table, chain);
        }
    }

    fn set(&mut self, table: &str, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        // How `nft` shows what is in it: ipv4_addr or ipv6_addr.
        let (key_type, key_bytes) = match set.family {
            Family::V4 => (7, 4),
            Family::V6 => (8, 16),
        };
        self.add(Kind::NewSet, NLM_F_CREATE, &set.name, |message| {
            message.string(1, table);
            message.string(2, &set.name);
            message.big_u32(3, INTERVAL);
            message.big_u32(4, key_type);
            message.big_u32(5, key_bytes);
            message.big_u32(10, id);
        });
        let ranges: Vec<Range> = set.ranges.iter().copied().collect();
        self.ranges(Kind::NewElement, table, &set.name, &ranges);
    }

    fn chain(&mut self, table: &str, chain: &Chain) {
        self.add(Kind::NewChain, NLM_F_CREATE, &chain.name, |message| {
            message.string(1, table);
            message.string(3, &chain.name);
            if let Some(base) = chain.base {
                let (kind, hook, priority) = base.on_the_wire();
                message.nested(4, |place| {
                    place.big_u32(1, hook);
                    place.attribute(2, &priority.to_be_bytes());
                });
                message.big_u32(5, ACCEPT);
                message.string(7, &kind);
            }
        });
    }

    fn rules(&mut self, table: &str, chain: &Chain) {
        for rule in &chain.rules {
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            self.add(Kind::NewRule, flags, &chain.name, |message| {
                let wire = rule.on_the_wire();
                message.string(1, table);
                message.string(2, &chain.name);
                message.nested(4, |list| list.written(&wire.expressions));
                if !wire.comment.is_empty() {
                    message.attribute(7, &wire.comment);
                }
            });
        }
    }

    /// A range is its first address, and the first one behind it with a mark.
    fn ranges(&mut self, kind: Kind, table: &str, set: &str, ranges: &[Range]) {
        let flags = match kind {
            Kind::NewElement => NLM_F_CREATE,
            _ => 0,
        };
        for some in ranges.chunks(RANGES) {
            self.add(kind, flags, set, |message| {
                message.string(1, table);
                message.string(2, set);
                message.nested(3, |list| {
                    for range in some {
                        element(list, &octets(range.first()), false);
                        if let Some(end) = range.end() {
                            element(list, &octets(end), true);
                        }
                    }
                });
            });
        }
    }

    fn send(self, socket: &mut Socket) -> Result<(), Error> {
        let Some(last) = self.messages.len().checked_sub(1) else {
            return Ok(());
        };
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let begin = socket.reserve_sequences(count.saturating_add(2));
        let mut bytes = Writer::default();
        bytes.message(around(BEGIN, begin), |_| {});
        let sequences = (0..).map(|position: u32| begin.wrapping_add(position).wrapping_add(1));
        for ((position, message), sequence) in self.messages.iter().enumerate().zip(sequences) {
            let wants_answer = if position == last { NLM_F_ACK } else { 0 };
            let head = Head {
                kind: message.kind.number(),
                flags: NLM_F_REQUEST | wants_answer | message.flags,
                sequence,
                family: INET,
                resource: 0,
            };
            bytes.message(head, |content| content.written(&message.attributes));
        }
        bytes.message(
            around(END, begin.wrapping_add(count).wrapping_add(1)),
            |_| {},
        );
        socket.make_room(bytes.len());
        socket.send(bytes.bytes(), OPERATION)?;
        self.receive(socket, begin)
    }

    /// Waits for the answer to the last message, or for the refusal of the whole.
    fn receive(&self, socket: &mut Socket, begin: u32) -> Result<(), Error> {
        let mut first_error = None;
        let mut finished = false;
        while !finished {
            socket.receive(OPERATION, &"", |answer| {
                let position = answer.sequence.wrapping_sub(begin) as usize;
                if answer.kind != NLMSG_ERROR || position > self.messages.len() {
                    return Ok(());
                }
                let message = position.checked_sub(1).and_then(|at| self.messages.get(at));
                let (operation, object) = match message {
                    Some(message) => (message.kind.operation(), message.object.as_str()),
                    None => (OPERATION, "as one transaction"),
                };
                let result = answer.error(operation, &object);
                finished |= position == self.messages.len() || (position == 0 && result.is_err());
                if let Err(error) = result {
                    first_error.get_or_insert(error);
                }
                Ok(())
            })?;
        }
        first_error.map_or(Ok(()), Err)
    }
}

impl Kind {
    fn operation(self) -> &'static str {
        match self {
            Kind::NewTable => "add nftables table",
            Kind::DeleteTable => "delete nftables table",
            Kind::NewChain => "add nftables chain",
            Kind::NewRule => "add a rule to nftables chain",
            Kind::DeleteRule => "delete the rules of nftables chain",
            Kind::NewSet => "add nftables set",
            Kind::NewElement => "add to nftables set",
            Kind::DeleteElement => "delete from nftables set",
            Kind::GetTable | Kind::GetChain | Kind::GetRule | Kind::GetSet | Kind::GetElement => {
                "list nftables"
            }
        }
    }
}

fn around(kind: u16, sequence: u32) -> Head {
    Head {
        kind,
        flags: NLM_F_REQUEST,
        sequence,
        family: 0,
        resource: SUBSYSTEM,
    }
}

fn element(list: &mut Writer, key: &[u8], is_end: bool) {
    list.nested(LIST_ELEMENT, |element| {
        element.nested(ELEMENT_KEY, |data| data.attribute(DATA_VALUE, key));
        if is_end {
            element.big_u32(ELEMENT_FLAGS, ELEMENT_END);
        }
    });
}
