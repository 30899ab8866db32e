//! AS_PATH: the ASes a route came through, nearest first (RFC 4271 §5.1.2, 5065, 6793).
//!
//! Paths are kept with 4-octet AS numbers; [`two_octet`] turns them into what older peers speak and back.

use std::fmt;

pub(crate) mod two_octet;

/// An AS path that owns its octets.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath {
    wire: Vec<u8>,
}

/// An AS path inside an attribute set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AsPathRef<'a> {
    wire: &'a [u8],
}

/// One segment of an AS path.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment<'a> {
    /// How to read the AS numbers.
    pub kind: SegmentKind,
    asns: &'a [[u8; 4]],
}

/// How to read the AS numbers of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Unordered: what an aggregate was made of.
    Set,
    /// Ordered, nearest first.
    Sequence,
    /// Ordered, members of a confederation (RFC 5065).
    ConfedSequence,
    /// Unordered, members of a confederation (RFC 5065).
    ConfedSet,
}

/// Most AS numbers of one segment.
const SEGMENT_MAX: usize = 255;

impl SegmentKind {
    pub(crate) fn from_octet(octet: u8) -> Option<SegmentKind> {
        match octet {
            1 => Some(SegmentKind::Set),
            2 => Some(SegmentKind::Sequence),
            3 => Some(SegmentKind::ConfedSequence),
            4 => Some(SegmentKind::ConfedSet),
            _ => None,
        }
    }

    fn octet(self) -> u8 {
        match self {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => 2,
            SegmentKind::ConfedSequence => 3,
            SegmentKind::ConfedSet => 4,
        }
    }

    /// True for the kinds that only confederations use.
    pub fn is_confed(self) -> bool {
        matches!(self, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
    }
}

impl AsPath {
    /// The empty path of a route from our own AS.
    pub fn new() -> AsPath {
        AsPath::default()
    }

    /// A path of one AS_SEQUENCE, or several when there are more than 255 AS numbers.
    pub fn sequence(asns: &[u32]) -> AsPath {
        let mut path = AsPath::new();
        path.push(SegmentKind::Sequence, asns);
        path
    }

    /// Appends a segment, split into several when there are more than 255 AS numbers.
    ///
    /// AS 0 is not allowed in a path (RFC 7607); receivers take the route as withdrawn.
    pub fn push(&mut self, kind: SegmentKind, asns: &[u32]) {
        for chunk in asns.chunks(SEGMENT_MAX) {
            self.wire
                .extend_from_slice(&[kind.octet(), chunk.len() as u8]);
            for asn in chunk {
                self.wire.extend_from_slice(&asn.to_be_bytes());
            }
        }
    }

    /// Puts `asn` in front `count` times, as a speaker does when it sends a route to another AS (RFC 4271 §5.1.2).
    pub fn prepend(&mut self, asn: u32, count: usize) {
        for _ in 0..count {
            match self.wire.first_chunk() {
                Some(&[kind, len])
                    if kind == SegmentKind::Sequence.octet() && usize::from(len) < SEGMENT_MAX =>
                {
                    self.wire[1] = len + 1;
                    self.wire.splice(2..2, asn.to_be_bytes());
                }
                _ => {
                    let [a, b, c, d] = asn.to_be_bytes();
                    self.wire
                        .splice(..0, [SegmentKind::Sequence.octet(), 1, a, b, c, d]);
                }
            }
        }
    }

    /// The path for reading.
    pub fn view(&self) -> AsPathRef<'_> {
        AsPathRef { wire: &self.wire }
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }
}

impl<'a> AsPathRef<'a> {
    /// `wire` has passed [`check`].
    pub(crate) fn from_valid(wire: &'a [u8]) -> AsPathRef<'a> {
        AsPathRef { wire }
    }

    /// True for the path of a route from our own AS.
    pub fn is_empty(self) -> bool {
        self.wire.is_empty()
    }

    /// The segments, nearest first.
    pub fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        let mut wire = self.wire;
        std::iter::from_fn(move || {
            let (&[kind, len], rest) = wire.split_first_chunk()?;
            let (asns, rest) = rest.split_at_checked(usize::from(len) * 4)?;
            wire = rest;
            let kind = SegmentKind::from_octet(kind)?;
            let (asns, _) = asns.as_chunks();
            Some(Segment { kind, asns })
        })
    }

    /// Every AS number, sets and confederation segments included.
    pub fn asns(self) -> impl Iterator<Item = u32> + 'a {
        self.segments().flat_map(Segment::asns)
    }

    /// True when `asn` is anywhere in the path: the loop check of RFC 4271 §9.1.2.
    pub fn contains(self, asn: u32) -> bool {
        let octets = asn.to_be_bytes();
        self.segments()
            .any(|segment| segment.asns.contains(&octets))
    }

    /// Length for route selection: an AS_SET counts one, confederation segments nothing (RFC 4271 §9.1.2.2, 5065).
    pub fn hops(self) -> u32 {
        let hops = |segment: Segment<'_>| match segment.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => segment.asns.len() as u32,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        self.segments().map(hops).sum()
    }

    /// The AS the route was received from: first of a leading AS_SEQUENCE, confederation segments skipped.
    pub fn neighbor_as(self) -> Option<u32> {
        let first = self.segments().find(|segment| !segment.kind.is_confed())?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns().next())?
    }

    /// The AS that originated the route: last of a trailing AS_SEQUENCE.
    pub fn origin_as(self) -> Option<u32> {
        let last = self.segments().last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.asns().last())?
    }

    /// A path of its own with the same octets.
    pub fn to_path(self) -> AsPath {
        AsPath {
            wire: self.wire.to_vec(),
        }
    }
}

impl<'a> Segment<'a> {
    /// The AS numbers in the order sent; at least one.
    pub fn asns(self) -> impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + 'a {
        self.asns.iter().map(|octets| u32::from_be_bytes(*octets))
    }
}

/// What is malformed about an AS path with AS numbers of `WIDTH` octets (RFC 7606 §7.2, RFC 5065 §5, RFC 7607).
pub(crate) fn check<const WIDTH: usize>(
    mut wire: &[u8],
    confederation: bool,
) -> Result<(), &'static str> {
    while !wire.is_empty() {
        let (&[kind, len], rest) = wire
            .split_first_chunk()
            .ok_or("a segment header is cut off")?;
        let kind = SegmentKind::from_octet(kind).ok_or("a segment type is unknown")?;
        if kind.is_confed() && !confederation {
            return Err("confederation segment from outside the confederation");
        }
        if len == 0 {
            return Err("a segment is empty");
        }
        let octets = usize::from(len) * WIDTH;
        let (asns, rest) = rest
            .split_at_checked(octets)
            .ok_or("a segment is cut off")?;
        if asns.as_chunks::<WIDTH>().0.contains(&[0; WIDTH]) {
            return Err("AS 0 is in the path");
        }
        wire = rest;
    }
    Ok(())
}

impl fmt::Display for AsPathRef<'_> {
    /// The usual notation: `64496 64497 {64498,64499}`, confederation segments in `()` and `[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let (open, between, close) = match segment.kind {
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(open)?;
            for (index, asn) in segment.asns().enumerate() {
                if index > 0 {
                    f.write_str(between)?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPathRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
