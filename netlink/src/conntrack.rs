//! Tracked connections, and how to end those of an address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};

use crate::attribute::{Attribute, attributes};
use crate::netfilter::{HEADER_BYTES, Head, LISTING, Writer, octets, protocol_of};
use crate::wire::Answer;
use crate::{Error, Family, Socket};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_*`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `CTA_TUPLE_IP`.
const TUPLE_ADDRESSES: u16 = 1;
/// `CTA_FILTER_F_CTA_IP_SRC`.
const FILTER_SOURCE: u32 = 1;
/// Up to so many addresses each is looked for by the kernel, which compares faster than it tells.
const FEW: usize = 4;
/// Deletions per system call; the answers to all of them must fit the receive buffer.
const BATCH: usize = 64;

/// A connection to connection tracking in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

/// A flow, with what a deletion names it by.
struct Flow {
    family: Family,
    /// `CTA_TUPLE_ORIG`, `CTA_ZONE` and `CTA_ID` as the kernel told them.
    names: Vec<(u16, bool, Vec<u8>)>,
    sources: [Option<IpAddr>; 2],
}

impl Conntrack {
    /// Opens the connection; fails where the kernel has no netfilter at all.
    pub fn open() -> Result<Conntrack, Error> {
        Ok(Conntrack {
            socket: Socket::of_protocol(crate::nft::NETFILTER, &[])?,
        })
    }

    /// Forgets the flows that come from these addresses or are answered by them, whatever address
    /// the other side sees (Calico behaviour: by the source of either direction).
    /// Returns how many there were.
    pub fn delete_flows_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
        let mut deleted = 0;
        for family in [Family::V4, Family::V6] {
            let of_family = addresses.iter().filter(|a| Family::of(**a) == family);
            let some: BTreeSet<IpAddr> = of_family.copied().collect();
            if some.is_empty() {
                continue;
            }
            let mut flows = Vec::new();
            if some.len() <= FEW {
                for address in &some {
                    for side in [ORIGINAL, REPLY] {
                        flows.extend(self.list(family, Some((side, *address)), &some)?);
                    }
                }
            } else {
                flows = self.list(family, None, &some)?;
            }
            for flows in flows.chunks(BATCH) {
                deleted += self.delete(flows)?;
            }
        }
        Ok(deleted)
    }

    /// Flows that one of the addresses is a source of; kernels before 5.8 tell about all of them.
    fn list(
        &mut self,
        family: Family,
        only: Option<(u16, IpAddr)>,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Vec<Flow>, Error> {
        let encode = |sequence| {
            let mut bytes = Writer::default();
            let head = head(GET, LISTING, sequence, family);
            bytes.message(head, |message| {
                if let Some((side, address)) = only {
                    filter(message, side, address);
                }
            });
            bytes.into_bytes()
        };
        self.socket
            .dump_encoded(encode, "list tracked connections", |answer| {
                let flow = read(answer, family);
                let ours = |source: &IpAddr| addresses.contains(source);
                flow.sources.iter().flatten().any(ours).then_some(flow)
            })
    }

    /// Deletes each; one that has ended meanwhile does not count.
    fn delete(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        const OPERATION: &str = "delete tracked connections";
        let count = u32::try_from(flows.len()).unwrap_or(u32::MAX);
        let first = self.socket.reserve_sequences(count);
        let mut bytes = Writer::default();
        for (flow, position) in flows.iter().zip(0..) {
            let sequence = first.wrapping_add(position);
            let head = head(DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence, flow.family);
            bytes.message(head, |message| {
                for (kind, nested, value) in &flow.names {
                    if *nested {
                        message.nested(*kind, |inner| inner.written(value));
                    } else {
                        message.attribute(*kind, value);
                    }
                }
            });
        }
        self.socket.send(bytes.bytes(), OPERATION)?;
        let mut waiting = flows.len();
        let mut deleted = 0;
        let mut failed = None;
        while waiting > 0 {
            self.socket.receive(OPERATION, &"", |answer| {
                let ours = answer.sequence.wrapping_sub(first) < count;
                if answer.kind != NLMSG_ERROR || !ours {
                    return Ok(());
                }
                waiting = waiting.saturating_sub(1);
                match answer.error(OPERATION, &"") {
                    Ok(()) => deleted += 1,
                    Err(Error::NotFound(_)) => {}
                    Err(error) => failed = Some(error),
                }
                Ok(())
            })?;
        }
        failed.map_or(Ok(deleted), Err)
    }
}

fn head(kind: u16, flags: u16, sequence: u32, family: Family) -> Head {
    Head {
        kind,
        flags,
        sequence,
        family: protocol_of(family),
        resource: 0,
    }
}

/// Asks for flows with this source in one direction.
fn filter(message: &mut Writer, side: u16, address: IpAddr) {
    let source = match address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 3,
    };
    message.nested(side, |tuple| {
        tuple.nested(TUPLE_ADDRESSES, |addresses| {
            addresses.attribute(source, &octets(address));
        });
    });
    // CTA_FILTER_ORIG_FLAGS and _REPLY_FLAGS, in host order.
    let flags = |of| if side == of { FILTER_SOURCE } else { 0 };
    message.nested(FILTER, |filter| {
        filter.attribute(1, &flags(ORIGINAL).to_ne_bytes());
        filter.attribute(2, &flags(REPLY).to_ne_bytes());
    });
}

fn read(answer: &Answer<'_>, family: Family) -> Flow {
    let mut flow = Flow {
        family,
        names: Vec::new(),
        sources: [None, None],
    };
    for attribute in attributes(answer.payload, HEADER_BYTES) {
        let nested = attribute.kind == ORIGINAL;
        if nested || [ZONE, ID].contains(&attribute.kind) {
            let value = attribute.value.to_vec();
            flow.names.push((attribute.kind, nested, value));
        }
        match attribute.kind {
            ORIGINAL => flow.sources[0] = source_of(&attribute),
            REPLY => flow.sources[1] = source_of(&attribute),
            _ => {}
        }
    }
    flow
}

/// The source address in a tuple (`CTA_IP_V4_SRC` or `CTA_IP_V6_SRC`).
fn source_of(tuple: &Attribute<'_>) -> Option<IpAddr> {
    let mut parts = attributes(tuple.value, 0);
    let addresses = parts.find(|part| part.kind == TUPLE_ADDRESSES)?;
    attributes(addresses.value, 0)
        .find(|address| [1, 3].contains(&address.kind))?
        .address()
}
