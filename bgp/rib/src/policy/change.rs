//! What rules change in a path.

use bgp_wire::attribute::{ExtCommunity, LargeCommunity, SegmentKind};
use bgp_wire::{AttributesBuilder, Community};

use super::{CommunityMatch, Subject};

/// One change of a path's attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// Adds a community (RFC 1997) where it is not there yet.
    AddCommunity(u32),
    /// Adds a large community (RFC 8092) where it is not there yet.
    AddLargeCommunity([u32; 3]),
    /// Adds an extended community (RFC 4360), as its eight octets, where it is not there yet.
    AddExtendedCommunity([u8; 8]),
    /// Takes a community away.
    RemoveCommunity(CommunityMatch),
    /// Puts these in front of the AS_PATH, the first of them nearest. On export to external peers
    /// our own AS goes in front of them. AS 0 is left out (RFC 7607).
    PrependAsPath(Vec<u32>),
    /// Sets LOCAL_PREF. External peers are not told it.
    SetLocalPref(u32),
    /// Sets MULTI_EXIT_DISC or takes it away. External peers are told what is set on export.
    SetMed(Option<u32>),
}

impl Change {
    /// Makes the change.
    pub fn apply(&self, fields: &mut AttributesBuilder) {
        match self {
            Self::AddCommunity(value) => add(&mut fields.communities, Community(*value)),
            Self::AddLargeCommunity(value) => add(&mut fields.large_communities, large(*value)),
            Self::AddExtendedCommunity(value) => {
                add(&mut fields.ext_communities, ExtCommunity(*value));
            }
            Self::RemoveCommunity(CommunityMatch::Standard(value)) => {
                fields.communities.retain(|other| other.0 != *value);
            }
            Self::RemoveCommunity(CommunityMatch::Large(value)) => {
                fields
                    .large_communities
                    .retain(|other| *other != large(*value));
            }
            Self::RemoveCommunity(CommunityMatch::Extended(value)) => {
                fields.ext_communities.retain(|other| other.0 != *value);
            }
            Self::PrependAsPath(asns) => {
                for asn in asns.iter().rev().filter(|asn| **asn != 0) {
                    fields.as_path.prepend(*asn, 1);
                }
            }
            Self::SetLocalPref(value) => fields.local_pref = Some(*value),
            Self::SetMed(value) => fields.med = *value,
        }
    }

    /// Whether the path carries a community after this change; none if it does not touch it.
    fn carries(&self, wanted: CommunityMatch) -> Option<bool> {
        let (touched, is_there) = match self {
            Self::AddCommunity(value) => (CommunityMatch::Standard(*value), true),
            Self::AddLargeCommunity(value) => (CommunityMatch::Large(*value), true),
            Self::AddExtendedCommunity(value) => (CommunityMatch::Extended(*value), true),
            Self::RemoveCommunity(community) => (*community, false),
            Self::PrependAsPath(_) | Self::SetLocalPref(_) | Self::SetMed(_) => return None,
        };
        (touched == wanted).then_some(is_there)
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn large([global, local1, local2]: [u32; 3]) -> LargeCommunity {
    LargeCommunity {
        global,
        local1,
        local2,
    }
}

/// A path as the rules so far have changed it, without making the changes: most paths are
/// rejected or not changed at all.
pub(super) struct Changed<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) changes: &'a [&'a Change],
}

impl Changed<'_> {
    pub(super) fn local_pref(&self) -> u32 {
        let set = |change: &&Change| match change {
            Change::SetLocalPref(value) => Some(*value),
            _ => None,
        };
        let last = self.changes.iter().rev().find_map(set);
        last.unwrap_or(self.subject.local_pref)
    }

    pub(super) fn carries(&self, wanted: CommunityMatch) -> bool {
        let mut latest = self.changes.iter().rev();
        latest
            .find_map(|change| change.carries(wanted))
            .unwrap_or_else(|| self.carried_before(wanted))
    }

    fn carried_before(&self, wanted: CommunityMatch) -> bool {
        let attributes = self.subject.attributes;
        match wanted {
            CommunityMatch::Standard(value) => {
                attributes.communities().any(|other| other.0 == value)
            }
            CommunityMatch::Large(value) => {
                let value = large(value);
                attributes.large_communities().any(|other| other == value)
            }
            CommunityMatch::Extended(value) => {
                attributes.ext_communities().any(|other| other.0 == value)
            }
        }
    }

    pub(super) fn as_path_begins_with(&self, wanted: &[u32]) -> bool {
        let mut wanted = wanted.iter().copied().peekable();
        for change in self.changes.iter().rev() {
            if let Change::PrependAsPath(asns) = change {
                for asn in asns.iter().filter(|asn| **asn != 0) {
                    if wanted.next_if_eq(asn).is_none() {
                        return wanted.peek().is_none();
                    }
                }
            }
        }
        for segment in self.subject.attributes.as_path().segments() {
            if wanted.peek().is_none() {
                return true;
            }
            match segment.kind {
                SegmentKind::Sequence | SegmentKind::ConfedSequence => {
                    for asn in segment.asns() {
                        if wanted.next_if_eq(&asn).is_none() {
                            return wanted.peek().is_none();
                        }
                    }
                }
                SegmentKind::Set | SegmentKind::ConfedSet => {
                    let is_member = |asn: &u32| segment.asns().any(|member| member == *asn);
                    if wanted.next_if(is_member).is_none() {
                        return false;
                    }
                }
            }
        }
        wanted.peek().is_none()
    }
}
