//! The messages of an update group that not every member has taken yet.
//!
//! A chunk holds the messages of one burst back to back, encoded once. A member takes slices of
//! it, not copies. Routes learned from a member are contiguous in a chunk, so leaving them out for
//! that member costs two slices instead of one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::path::PeerId;

/// Messages of one family for all members of a group.
#[derive(Debug)]
pub(crate) struct Chunk<U> {
    pub(crate) bytes: Bytes,
    /// Parts that one member must not get, ordered by member, at most one for each.
    pub(crate) own: Vec<Own>,
    /// The prefixes or paths the messages are about, for a member that will not read them.
    pub(crate) units: U,
}

/// The part of a chunk with routes learned from one member.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) peer: PeerId,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What this member gets in its place: withdrawals of what it had been told before.
    pub(crate) instead: Bytes,
}

impl<U> Chunk<U> {
    /// Appends what a member is to be sent; returns the number of octets.
    fn read(&self, peer: PeerId, out: &mut Vec<Bytes>) -> usize {
        let before = out.len();
        match self.own.binary_search_by_key(&peer, |own| own.peer) {
            Ok(index) => {
                let own = &self.own[index];
                out.push(self.bytes.slice(..own.start));
                out.push(own.instead.clone());
                out.push(self.bytes.slice(own.end..));
            }
            Err(_) => out.push(self.bytes.clone()),
        }
        let mut octets = 0;
        let mut kept = before;
        for index in before..out.len() {
            if !out[index].is_empty() {
                octets += out[index].len();
                out.swap(kept, index);
                kept += 1;
            }
        }
        out.truncate(kept);
        octets
    }
}

/// Chunks in order, numbered since the group exists. A reader is a position in it.
#[derive(Debug)]
pub(crate) struct Log<U> {
    /// Each with the number of readers that have yet to take it.
    chunks: VecDeque<(Chunk<U>, u32)>,
    /// Number of the first chunk still here.
    first: u64,
    octets: usize,
}

impl<U> Log<U> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 0,
            octets: 0,
        }
    }

    /// The position after the last chunk.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Octets of messages held.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// Adds a chunk that `readers` readers, all those at most at the end, will take or skip.
    pub(crate) fn push(&mut self, chunk: Chunk<U>, readers: u32) {
        self.octets += chunk.bytes.len();
        self.chunks.push_back((chunk, readers));
    }

    /// Takes the chunk at a position for one reader; returns the number of octets appended.
    pub(crate) fn read(&mut self, position: u64, peer: PeerId, out: &mut Vec<Bytes>) -> usize {
        self.pass(position, |chunk| chunk.read(peer, out))
            .unwrap_or(0)
    }

    /// Lets one reader go from a position to the end without reading.
    pub(crate) fn skip(&mut self, position: u64, mut each: impl FnMut(&U)) {
        for position in position..self.end() {
            self.pass(position, |chunk| each(&chunk.units));
        }
    }

    fn pass<T>(&mut self, position: u64, with: impl FnOnce(&Chunk<U>) -> T) -> Option<T> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        let (chunk, readers) = self.chunks.get_mut(index)?;
        let result = with(chunk);
        *readers = readers.saturating_sub(1);
        while let Some((chunk, 0)) = self.chunks.front() {
            self.octets -= chunk.bytes.len();
            self.first += 1;
            self.chunks.pop_front();
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests;
