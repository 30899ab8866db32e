//! Sessions with 2-octet AS numbers: AS_TRANS, AS4_PATH and their merge (RFC 6793 §4.2).

use super::{AsPathRef, Segment, SegmentKind};
use crate::open::AS_TRANS;

/// The path with 2-octet AS numbers; larger ones become AS_TRANS.
pub(crate) fn narrow(path: AsPathRef<'_>) -> Vec<u8> {
    let mut wire = Vec::with_capacity(path.wire.len() / 2 + 2);
    for segment in path.segments() {
        wire.extend_from_slice(&[segment.kind.octet(), segment.asns.len() as u8]);
        for asn in segment.asns() {
            wire.extend_from_slice(&u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        }
    }
    wire
}

/// The value of AS4_PATH that goes with [`narrow`]: without confederation segments; `None` when nothing is lost.
pub(crate) fn as4_path(path: AsPathRef<'_>) -> Option<Vec<u8>> {
    let segments = || path.segments().filter(|segment| !segment.kind.is_confed());
    if !segments()
        .flat_map(Segment::asns)
        .any(|asn| asn > u32::from(u16::MAX))
    {
        return None;
    }
    let mut wire = Vec::with_capacity(path.wire.len());
    segments().for_each(|segment| put(segment.kind, segment.asns, &mut wire));
    Some(wire)
}

/// Widens an AS_PATH of 2-octet AS numbers and puts back what AS4_PATH preserved (RFC 6793 §4.2.3).
///
/// Both have been checked. Confederation segments in AS4_PATH are ignored (RFC 6793 §6).
pub(crate) fn merge(as_path: &[u8], as4_path: Option<&[u8]>) -> Vec<u8> {
    let wide = widen(as_path);
    let Some(as4_path) = as4_path.map(AsPathRef::from_valid) else {
        return wide;
    };
    let path = AsPathRef::from_valid(&wide);
    let Some(mut keep) = path.hops().checked_sub(as4_path.hops()) else {
        return wide;
    };
    let mut merged = Vec::with_capacity(wide.len() + as4_path.wire.len());
    let mut last = None;
    for segment in path.segments() {
        let taken = match segment.kind {
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => segment.asns,
            _ if keep == 0 => break,
            SegmentKind::Set => {
                keep -= 1;
                segment.asns
            }
            SegmentKind::Sequence => {
                let count = segment.asns.len().min(keep as usize);
                keep -= count as u32;
                &segment.asns[..count]
            }
        };
        last = Some((merged.len(), segment.kind, taken.len()));
        put(segment.kind, taken, &mut merged);
    }
    for segment in as4_path
        .segments()
        .filter(|segment| !segment.kind.is_confed())
    {
        match last.take() {
            // The sender split one sequence in two by hiding its tail in AS4_PATH.
            Some((at, SegmentKind::Sequence, count))
                if segment.kind == SegmentKind::Sequence
                    && count + segment.asns.len() <= super::SEGMENT_MAX =>
            {
                merged[at + 1] += segment.asns.len() as u8;
                merged.extend_from_slice(segment.asns.as_flattened());
            }
            _ => put(segment.kind, segment.asns, &mut merged),
        }
    }
    merged
}

fn widen(as_path: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(as_path.len() * 2);
    let mut rest = as_path;
    while let Some((&[kind, len], tail)) = rest.split_first_chunk() {
        let Some((asns, tail)) = tail.split_at_checked(usize::from(len) * 2) else {
            break;
        };
        wire.extend_from_slice(&[kind, len]);
        for &[high, low] in asns.as_chunks().0 {
            wire.extend_from_slice(&[0, 0, high, low]);
        }
        rest = tail;
    }
    wire
}

fn put(kind: SegmentKind, asns: &[[u8; 4]], wire: &mut Vec<u8>) {
    wire.extend_from_slice(&[kind.octet(), asns.len() as u8]);
    wire.extend_from_slice(asns.as_flattened());
}
