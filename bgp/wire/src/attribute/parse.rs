//! Reading the path attributes of an UPDATE, each fault with what RFC 7606 wants done about it.

use std::borrow::Cow;

use super::as_path::two_octet;
use super::kind::EXTENDED_LENGTH;
use super::{
    Aggregator, AttributeType, Attributes, OPTIONAL, Origin, PARTIAL, Parts, TRANSITIVE, Tlv,
};
use crate::notification::subcode::update as subcode;
use crate::reader::Reader;
use crate::update::Verdicts;
use crate::{AS_TRANS, AttributeError, Disposition, EncodeError, Params, PeerType};

mod value;

/// One attribute as received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) flags: u8,
    pub(crate) attribute: AttributeType,
    pub(crate) value: &'a [u8],
    /// Flags, type, length and value.
    pub(crate) whole: &'a [u8],
}

/// What is wrong with an attribute, before it is said which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) disposition: Disposition,
    pub(crate) subcode: u8,
    pub(crate) problem: &'static str,
}

impl Fault {
    pub(crate) const fn new(disposition: Disposition, subcode: u8, problem: &'static str) -> Fault {
        Fault {
            disposition,
            subcode,
            problem,
        }
    }
}

impl<'a> Raw<'a> {
    /// `None` when the attribute does not end within the bytes (RFC 7606 §4).
    fn read(reader: &mut Reader<'a>) -> Option<Raw<'a>> {
        let start = reader.rest();
        let [flags, attribute] = reader.array()?;
        let len = if flags & EXTENDED_LENGTH == 0 {
            reader.u8()?.into()
        } else {
            reader.u16()?
        };
        let value = reader.take(len.into())?;
        Some(Raw {
            flags,
            attribute: AttributeType(attribute),
            value,
            whole: &start[..start.len() - reader.rest().len()],
        })
    }

    /// The fault as the RFCs have it reported: mostly with the whole attribute as data (RFC 4271 §6.3).
    pub(crate) fn error(&self, fault: Fault) -> AttributeError {
        let data = match fault.subcode {
            subcode::MALFORMED_LIST | subcode::MALFORMED_AS_PATH => Vec::new(),
            _ => self.whole.to_vec(),
        };
        AttributeError {
            attribute: self.attribute,
            disposition: fault.disposition,
            subcode: fault.subcode,
            data,
            problem: fault.problem,
        }
    }
}

/// The attributes of one UPDATE that could be read.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    parts: Parts<'a>,
    origin: Option<Origin>,
    as_path: Option<&'a [u8]>,
    as4_path: Option<&'a [u8]>,
    as4_aggregator: Option<Aggregator>,
    pub(crate) next_hop: Option<Raw<'a>>,
    pub(crate) mp_reach: Option<Raw<'a>>,
    pub(crate) mp_unreach: Option<Raw<'a>>,
    /// Something other than MP_UNREACH_NLRI is there, readable or not.
    pub(crate) has_others: bool,
}

/// A set of attribute types.
#[derive(Default)]
struct Types([u64; 4]);

impl Types {
    /// False when it was in the set already.
    fn insert(&mut self, attribute: AttributeType) -> bool {
        let word = &mut self.0[usize::from(attribute.0 >> 6)];
        let bit = 1 << (attribute.0 & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

impl<'a> Found<'a> {
    /// Reads the path attributes field of an UPDATE.
    ///
    /// # Errors
    /// A fault that needs a session reset. All others go into `verdicts`.
    pub(crate) fn read(
        bytes: &'a [u8],
        params: &Params,
        verdicts: &mut Verdicts,
    ) -> Result<Found<'a>, AttributeError> {
        let mut found = Found::default();
        let (mut seen, mut repeated) = (Types::default(), Types::default());
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let start = reader.rest();
            let Some(raw) = Raw::read(&mut reader) else {
                found.has_others = true;
                verdicts.add(cut_off(start))?;
                break;
            };
            found.has_others |= raw.attribute != AttributeType::MP_UNREACH_NLRI;
            if seen.insert(raw.attribute) {
                if let Err(fault) = found.take(raw, params) {
                    verdicts.add(raw.error(fault))?;
                }
            } else if repeated.insert(raw.attribute) {
                verdicts.add(raw.error(repetition(raw.attribute)))?;
            }
        }
        Ok(found)
    }

    /// Checks one attribute and keeps it.
    fn take(&mut self, raw: Raw<'a>, params: &Params) -> Result<(), Fault> {
        let attribute = raw.attribute;
        let value = raw.value;
        if params.peer_type == PeerType::External && is_internal(attribute) {
            let problem = "not for external peers";
            return Err(Fault::new(
                Disposition::Discard,
                subcode::OPTIONAL_ATTRIBUTE,
                problem,
            ));
        }
        // Where the routes are is needed even, and above all, when they have to be withdrawn.
        match attribute {
            AttributeType::MP_REACH_NLRI => self.mp_reach = Some(raw),
            AttributeType::MP_UNREACH_NLRI => self.mp_unreach = Some(raw),
            _ => {}
        }
        check_flags(&raw)?;
        match attribute {
            AttributeType::ORIGIN => self.origin = Some(value::origin(value)?),
            AttributeType::AS_PATH => self.as_path = Some(value::checked_path(value, params)?),
            AttributeType::NEXT_HOP => self.next_hop = Some(raw),
            AttributeType::MULTI_EXIT_DISC => self.parts.med = Some(value::number(value)?),
            AttributeType::LOCAL_PREF => self.parts.local_pref = Some(value::number(value)?),
            AttributeType::ATOMIC_AGGREGATE => self.parts.atomic_aggregate = value::empty(value)?,
            AttributeType::AGGREGATOR => {
                self.parts.aggregator = Some(value::aggregator(value, params.four_octet_as)?)
            }
            AttributeType::COMMUNITIES => self.parts.communities = value::list::<4>(value)?,
            AttributeType::ORIGINATOR_ID => {
                self.parts.originator_id = Some(value::number(value)?.into())
            }
            AttributeType::CLUSTER_LIST => self.parts.cluster_list = value::list::<4>(value)?,
            AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI => {}
            AttributeType::EXT_COMMUNITIES => self.parts.ext_communities = value::list::<8>(value)?,
            AttributeType::AS4_PATH => {
                self.as4_path = Some(value::checked_as4_path(value, params)?)
            }
            AttributeType::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(value::checked_as4_aggregator(value, params)?)
            }
            AttributeType::LARGE_COMMUNITY => {
                self.parts.large_communities = value::list::<12>(value)?
            }
            AttributeType::ONLY_TO_CUSTOMER => {
                self.parts.only_to_customer = Some(value::number(value)?)
            }
            AttributeType::IPV6_EXT_COMMUNITIES => {
                value::list::<20>(value)?;
                self.keep_unknown(raw, raw.flags);
            }
            // Passed on marked as not understood (RFC 4271 §5); the non-transitive ones end here.
            _ if raw.flags & TRANSITIVE != 0 => self.keep_unknown(raw, PARTIAL),
            _ => {}
        }
        if attribute.can_be_partial() && raw.flags & PARTIAL != 0 {
            // All these types are below 64.
            self.parts.partial |= 1 << attribute.0;
        }
        Ok(())
    }

    fn keep_unknown(&mut self, raw: Raw<'a>, flags: u8) {
        self.parts.unknown.push(Tlv {
            flags,
            attribute: raw.attribute,
            value: raw.value,
        });
    }

    /// The attributes as a set. To be called when there are routes that need it.
    ///
    /// # Errors
    /// A mandatory attribute is missing (RFC 7606 §3 (d)), or the set is too long to be passed on.
    pub(crate) fn into_attributes(self, params: &Params) -> Result<Attributes, AttributeError> {
        let Found { mut parts, .. } = self;
        parts.origin = self.origin.ok_or_else(|| missing(AttributeType::ORIGIN))?;
        let as_path = self
            .as_path
            .ok_or_else(|| missing(AttributeType::AS_PATH))?;
        parts.as_path = if params.four_octet_as {
            Cow::Borrowed(as_path)
        } else {
            let mut as4_path = self.as4_path;
            // RFC 6793 §4.2.3: an aggregator without AS_TRANS was written by a speaker that knows no AS4 attributes.
            if let Some((two, four)) = parts.aggregator.as_mut().zip(self.as4_aggregator) {
                if two.asn == u32::from(AS_TRANS) {
                    *two = four;
                } else {
                    as4_path = None;
                }
            }
            Cow::Owned(two_octet::merge(as_path, as4_path))
        };
        parts.freeze().map_err(|error| {
            debug_assert!(matches!(error, EncodeError::AttributesTooLong { .. }));
            AttributeError {
                attribute: AttributeType::AS_PATH,
                disposition: Disposition::Withdraw,
                subcode: subcode::MALFORMED_AS_PATH,
                data: Vec::new(),
                problem: "with 4-octet AS numbers the attributes do not fit into a message",
            }
        })
    }
}

/// A mandatory attribute is not there.
pub(crate) fn missing(attribute: AttributeType) -> AttributeError {
    AttributeError {
        attribute,
        disposition: Disposition::Withdraw,
        subcode: subcode::MISSING_WELL_KNOWN,
        data: vec![attribute.0],
        problem: "missing",
    }
}

/// An attribute that does not end within the field; `start` is where it starts.
fn cut_off(start: &[u8]) -> AttributeError {
    AttributeError {
        attribute: AttributeType(start.get(1).copied().unwrap_or_default()),
        disposition: Disposition::Withdraw,
        subcode: subcode::MALFORMED_LIST,
        data: Vec::new(),
        problem: "does not end within the path attributes",
    }
}

/// RFC 7606 §3 (g).
fn repetition(attribute: AttributeType) -> Fault {
    let is_mp = matches!(
        attribute,
        AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI
    );
    let disposition = if is_mp {
        Disposition::Reset
    } else {
        Disposition::Discard
    };
    Fault::new(
        disposition,
        subcode::MALFORMED_LIST,
        "appears more than once",
    )
}

/// Types that have no business on a session with another AS (RFC 7606 §7.5, §7.9, §7.10).
fn is_internal(attribute: AttributeType) -> bool {
    matches!(
        attribute,
        AttributeType::LOCAL_PREF | AttributeType::ORIGINATOR_ID | AttributeType::CLUSTER_LIST
    )
}

/// RFC 7606 §3 (c), and (f) for attributes that are never worth a route.
fn check_flags(raw: &Raw<'_>) -> Result<(), Fault> {
    const MASK: u8 = OPTIONAL | TRANSITIVE;
    let Some(expected) = raw.attribute.flags() else {
        if raw.flags & OPTIONAL != 0 {
            return Ok(());
        }
        let problem = "well-known by its flags, but unknown";
        return Err(value::withdraw(subcode::UNRECOGNIZED_WELL_KNOWN, problem));
    };
    if raw.flags & MASK == expected {
        return Ok(());
    }
    let disposition = match raw.attribute {
        AttributeType::ATOMIC_AGGREGATE
        | AttributeType::AGGREGATOR
        | AttributeType::AS4_PATH
        | AttributeType::AS4_AGGREGATOR => Disposition::Discard,
        _ => Disposition::Withdraw,
    };
    let problem = "optional and transitive flags do not fit the type";
    Err(Fault::new(disposition, subcode::FLAGS, problem))
}
