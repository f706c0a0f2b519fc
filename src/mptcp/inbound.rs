//! What one subflow has received, as MPTCP sees it (RFC 8684 §3.3.1): bytes in the order of the subflow, mappings that say
//! where they belong in the data stream, and checksums that say whether they are what the peer sent. TCP puts the bytes
//! in order before; the connection puts them in the order of the data stream afterwards.

use crate::base::{Chunk, DataSeq, FramePool, Instant, PoolCache};
use crate::mptcp::mapping::{Mapping, MappingError, MappingTable};
use crate::wire::checksum;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bytes that wait for their mapping, or for the rest of it.
#[derive(Debug)]
struct Held {
    offset: u64,
    chunk: Chunk,
}

/// What [`Inbound::poll`] gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Bytes of the data stream.
    Data(DataSeq, Chunk),
    /// The mapping that begins here is complete, and its checksum is wrong. Said once; nothing of it, nor of what follows, is
    /// given.
    Damaged(DataSeq),
    /// Nothing now.
    Nothing,
}

/// The receiving side of one subflow.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Inbound {
    mappings: MappingTable,
    #[serde(skip)]
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Offset behind the last byte that was given.
    delivered: u64,
    /// Since when the next byte has had no mapping.
    unmapped_since: Option<Instant>,
    /// A checksum was wrong: nothing more is given.
    damaged: bool,
}

impl Inbound {
    /// Offset behind the last byte that was given.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes that are held although the next one has no mapping, and since when that is so.
    pub fn unmapped(&self) -> Option<(usize, Instant)> {
        self.unmapped_since.map(|since| (self.held_bytes, since))
    }

    /// The peer maps bytes. Those that were given already need no mapping.
    pub fn declare(&mut self, mapping: Mapping) -> Result<(), MappingError> {
        if mapping.end() <= self.delivered {
            return Ok(());
        }
        self.mappings.insert(mapping)
    }

    /// TCP gives the next bytes of the subflow.
    pub fn push(&mut self, offset: u64, chunk: Chunk) {
        debug_assert_eq!(offset, self.delivered + self.held_bytes as u64, "TCP gives bytes in order");
        self.held_bytes += chunk.len();
        self.held.push_back(Held { offset, chunk });
    }

    /// Whether the next bytes are all that is waited for: nothing is held, and nothing was said of them before.
    pub fn is_plain(&self) -> bool {
        self.held.is_empty() && !self.damaged && self.mappings.ends_by(self.delivered)
    }

    /// The next `len` bytes have come with a mapping of their own, without a checksum, and go to the connection at once.
    ///
    /// # Panics
    /// Where others come first: our own bug.
    pub fn pass(&mut self, len: usize) {
        assert!(self.is_plain(), "what waits comes first");
        self.delivered += len as u64;
    }

    /// The next bytes whose place in the data stream is known.
    pub fn poll(&mut self, now: Instant, pool: &FramePool) -> Delivery {
        if self.damaged {
            return Delivery::Nothing;
        }
        let Some(mut held) = self.held.pop_front() else {
            self.unmapped_since = None;
            return Delivery::Nothing;
        };
        let Some(mapping) = self.mappings.at(held.offset).copied() else {
            self.held.push_front(held);
            self.unmapped_since.get_or_insert(now);
            return Delivery::Nothing;
        };
        self.unmapped_since = None;
        if mapping.checksum.is_some() {
            self.held.push_front(held);
            if self.delivered + (self.held_bytes as u64) < mapping.end() {
                return Delivery::Nothing; // the rest of it is still to come
            }
            // Where a mapping begins before what was given, its sum is no longer to be had: it cannot be believed.
            let is_whole = mapping.offset == self.delivered;
            if !is_whole || !mapping.is_intact(self.sum(mapping.len as usize, pool)) {
                self.damaged = true;
                return Delivery::Damaged(mapping.data_seq);
            }
            if let Some(mapping) = self.mappings.at(self.delivered) {
                mapping.checksum = None;
            }
            return self.poll(now, pool);
        }
        // Pitfall 34: bytes of two mappings are never taken together.
        let len = (mapping.end() - held.offset).min(held.chunk.len() as u64) as usize;
        if len < held.chunk.len() {
            let mut rest = pool.share_chunk(&held.chunk);
            rest.trim_front(len);
            held.chunk.truncate(len);
            self.held.push_front(Held { offset: held.offset + len as u64, chunk: rest });
        }
        self.held_bytes -= len;
        self.delivered += len as u64;
        Delivery::Data(mapping.data_seq + (held.offset - mapping.offset), held.chunk)
    }

    /// The sum of the first `len` bytes that are held.
    fn sum(&self, len: usize, pool: &FramePool) -> u16 {
        let (mut total, mut done) = (0, 0);
        for held in &self.held {
            let part = held.chunk.len().min(len - done);
            let sum = match held.chunk.sum() {
                Some(sum) if part == held.chunk.len() => sum,
                _ => checksum::sum(0, &pool.chunk(&held.chunk)[..part]),
            };
            total = checksum::append(total, done, sum);
            done += part;
            if done == len {
                break;
            }
        }
        total
    }

    /// The next bytes with their offset, whatever mappings say: on a connection that has fallen back.
    pub fn poll_unmapped(&mut self) -> Option<(u64, Chunk)> {
        self.unmapped_since = None;
        let Held { offset, chunk } = self.held.pop_front()?;
        self.held_bytes -= chunk.len();
        self.delivered += chunk.len() as u64;
        Some((offset, chunk))
    }

    /// Gives all that is held back.
    pub fn clear(&mut self, cache: &mut PoolCache) {
        self.held.drain(..).for_each(|held| cache.free_chunk(held.chunk));
        self.held_bytes = 0;
        self.unmapped_since = None;
    }
}

#[cfg(test)]
#[path = "inbound/tests.rs"]
mod tests;
