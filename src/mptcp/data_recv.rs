//! The connection's receive queue (RFC 8684 §3.3.4): what subflows delivered, put into data sequence order; the one
//! receive window; the peer's DATA_FIN.

use crate::base::pool::TINY;
use crate::base::{Chunk, DataSeq, PoolCache};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Chunks that may wait for a gap to be filled. Beyond it a chunk is dropped and counted: the peer, which gets no
/// DATA_ACK for it, sends it again.
pub const OUT_OF_ORDER_MAX: usize = 16_384;

/// Tiny chunks behind gaps that may each hold a frame of their own; more are packed together.
const LOOSE_MAX: usize = 64;

/// Chunks without a gap between them, behind a gap.
#[derive(Debug)]
struct Run {
    start: DataSeq,
    end: DataSeq,
    chunks: VecDeque<Chunk>,
}

/// The receive queue of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReceiveQueue {
    /// The next byte expected: what DATA_ACK says.
    next: DataSeq,
    /// In order, for the application.
    #[serde(skip)]
    ready: VecDeque<Chunk>,
    ready_bytes: u64,
    /// Behind gaps, in order, apart from each other.
    #[serde(skip)]
    runs: Vec<Run>,
    out_of_order: usize,
    /// Tiny chunks among them that came since they were packed together last.
    loose: usize,
    /// The same of `ready`.
    loose_ready: usize,
    /// Emptied queues of runs, to use again without an allocation.
    #[serde(skip)]
    spare: Vec<VecDeque<Chunk>>,
    /// The data sequence number of the peer's DATA_FIN, once known.
    fin: Option<DataSeq>,
    fin_consumed: bool,
    /// The right edge of the window: the first byte that may not be sent to us. RFC 8684 §3.3.4: never moves back.
    edge: DataSeq,
    duplicate_bytes: u64,
    dropped: u64,
}

impl ReceiveQueue {
    /// An empty queue that expects `first`.
    pub fn new(first: DataSeq) -> Self {
        Self {
            next: first,
            ready: VecDeque::new(),
            ready_bytes: 0,
            runs: Vec::new(),
            out_of_order: 0,
            loose: 0,
            loose_ready: 0,
            spare: Vec::new(),
            fin: None,
            fin_consumed: false,
            edge: first,
            duplicate_bytes: 0,
            dropped: 0,
        }
    }

    /// The next byte expected.
    pub fn next(&self) -> DataSeq {
        self.next
    }

    /// Lets go of the room that was kept for data out of order.
    pub fn forget_spare(&mut self) {
        self.spare.clear();
    }

    /// Whether no data are held.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.runs.is_empty()
    }

    /// Bytes in order that the application has not taken.
    pub fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// Bytes that came twice.
    pub fn duplicate_bytes(&self) -> u64 {
        self.duplicate_bytes
    }

    /// Chunks dropped because too many waited, or because they lay beyond the window.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The window to tell the peer, when `free` bytes of the buffer are free; moves the edge.
    pub fn window(&mut self, free: u64) -> u64 {
        self.edge = self.edge.max(self.next + free);
        self.edge.distance(self.next).max(0) as u64
    }

    /// How far the window would open now beyond what the peer has been told.
    pub fn window_gain(&self, free: u64) -> u64 {
        (self.next + free).distance(self.edge).max(0) as u64
    }

    /// What the peer has been told is left.
    pub fn window_left(&self) -> u64 {
        self.edge.distance(self.next).max(0) as u64
    }

    /// Takes a chunk that begins at `data_seq`. What was there already is ignored: the first copy counts (§3.3.1).
    pub fn insert(&mut self, data_seq: DataSeq, mut chunk: Chunk, cache: &mut PoolCache) {
        let mut start = data_seq;
        // RFC 8684 §3.8: data beyond the window is dropped and not acknowledged as data.
        if (start + chunk.len() as u64).after(self.edge) && start.at_or_after(self.edge) {
            self.dropped += 1;
            return cache.free_chunk(chunk);
        }
        let behind = self.next.distance(start);
        if behind > 0 {
            self.trim(&mut chunk, &mut start, behind as u64);
        }
        loop {
            if chunk.is_empty() {
                return cache.free_chunk(chunk);
            }
            if start == self.next && self.runs.is_empty() {
                return self.append(chunk, cache);
            }
            let index = self.runs.partition_point(|run| run.start.at_or_before(start));
            if index > 0 {
                let overlap = self.runs[index - 1].end.distance(start);
                if overlap > 0 {
                    self.trim(&mut chunk, &mut start, overlap as u64);
                    continue;
                }
            }
            // The part in front of the next run; what lies behind goes round the loop again.
            let room = self.runs.get(index).map_or(u64::MAX, |run| run.start.distance(start) as u64);
            let rest = (chunk.len() as u64 > room).then(|| {
                let mut rest = cache.pool().share_chunk(&chunk);
                rest.trim_front(room as usize);
                chunk.truncate(room as usize);
                rest
            });
            let after = start + chunk.len() as u64;
            self.place(index, start, chunk, cache);
            match rest {
                None => return,
                Some(rest) => (chunk, start) = (rest, after),
            }
            let behind = self.next.distance(start);
            if behind > 0 {
                self.trim(&mut chunk, &mut start, behind as u64);
            }
        }
    }

    /// The peer's DATA_FIN has this number. False when it contradicts an earlier one, or lies before received data.
    pub fn set_fin(&mut self, fin: DataSeq) -> bool {
        match self.fin {
            Some(known) => known == fin,
            None if self.fin_consumed || fin.before(self.next) => false,
            None => {
                self.fin = Some(fin);
                true
            }
        }
    }

    /// Passes the DATA_FIN when all before it has arrived; true once. RFC 8684 §3.3.3: it takes one number.
    pub fn consume_fin(&mut self) -> bool {
        if self.fin_consumed || self.fin != Some(self.next) {
            return false;
        }
        self.fin_consumed = true;
        self.next += 1;
        true
    }

    /// Whether the peer's DATA_FIN is known, passed or not.
    pub fn has_fin(&self) -> bool {
        self.fin_consumed || self.fin.is_some()
    }

    /// Whether the peer's DATA_FIN has been passed.
    pub fn is_finished(&self) -> bool {
        self.fin_consumed
    }

    /// The end without a number (a FIN of plain TCP).
    pub fn finish(&mut self) {
        self.fin_consumed = true;
    }

    /// The next chunk for the application.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.ready.pop_front()?;
        self.ready_bytes -= chunk.len() as u64;
        Some(chunk)
    }

    /// Puts a chunk back that the application had no room for.
    pub fn push_back(&mut self, chunk: Chunk) {
        self.ready_bytes += chunk.len() as u64;
        self.ready.push_front(chunk);
    }

    /// Frees everything.
    pub fn clear(&mut self, cache: &mut PoolCache) {
        self.ready.drain(..).for_each(|chunk| cache.free_chunk(chunk));
        self.runs.drain(..).flat_map(|run| run.chunks).for_each(|chunk| cache.free_chunk(chunk));
        (self.ready_bytes, self.out_of_order) = (0, 0);
    }

    fn trim(&mut self, chunk: &mut Chunk, start: &mut DataSeq, bytes: u64) {
        let bytes = bytes.min(chunk.len() as u64);
        self.duplicate_bytes += bytes;
        chunk.trim_front(bytes as usize);
        *start += bytes;
    }

    fn append(&mut self, chunk: Chunk, cache: &mut PoolCache) {
        self.next += chunk.len() as u64;
        self.ready_bytes += chunk.len() as u64;
        let tiny = chunk.len() <= TINY;
        let merged = push_or_merge(&mut self.ready, chunk, cache);
        self.loose_ready += usize::from(tiny && !merged);
        if self.loose_ready > LOOSE_MAX {
            self.loose_ready = 0;
            // What was packed behind a gap can't be appended to. Those that came since lie at the end.
            if self.ready.len() > LOOSE_MAX {
                cache.pack(self.ready.iter_mut().rev().take(8 * LOOSE_MAX));
            }
        }
    }

    /// Puts a chunk that overlaps nothing in front of the run at `index`.
    fn place(&mut self, index: usize, start: DataSeq, chunk: Chunk, cache: &mut PoolCache) {
        if start == self.next {
            self.append(chunk, cache);
            return self.absorb();
        }
        if self.out_of_order >= OUT_OF_ORDER_MAX {
            self.dropped += 1;
            return cache.free_chunk(chunk);
        }
        self.out_of_order += 1;
        self.loose += usize::from(chunk.len() <= TINY);
        let end = start + chunk.len() as u64;
        let joins_before = index > 0 && self.runs[index - 1].end == start;
        let joins_after = self.runs.get(index).is_some_and(|run| run.start == end);
        match (joins_before, joins_after) {
            (true, false) => {
                let before = &mut self.runs[index - 1];
                before.end = end;
                self.out_of_order -= usize::from(push_or_merge(&mut before.chunks, chunk, cache));
            }
            (true, true) => {
                let mut after = self.runs.remove(index);
                let before = &mut self.runs[index - 1];
                before.chunks.push_back(chunk);
                before.chunks.append(&mut after.chunks);
                before.end = after.end;
                self.spare.push(after.chunks);
            }
            (false, true) => {
                let after = &mut self.runs[index];
                after.chunks.push_front(chunk);
                after.start = start;
            }
            (false, false) => {
                let mut chunks = self.spare.pop().unwrap_or_default();
                chunks.push_back(chunk);
                self.runs.insert(index, Run { start, end, chunks });
            }
        }
        if self.loose > LOOSE_MAX {
            self.loose = 0;
            cache.pack(self.runs.iter_mut().flat_map(|run| &mut run.chunks));
        }
    }

    /// The gap in front of the first run may have closed.
    fn absorb(&mut self) {
        if self.runs.first().is_none_or(|run| run.start != self.next) {
            return;
        }
        let mut run = self.runs.remove(0);
        self.out_of_order -= run.chunks.len();
        self.ready_bytes += run.end.distance(run.start) as u64;
        self.next = run.end;
        self.ready.append(&mut run.chunks);
        self.spare.push(run.chunks);
    }
}

/// Appends a chunk, or copies a tiny one behind the last and gives its frame back: a peer that sends tiny segments would
/// otherwise fill the pool with frames that hold next to nothing. True when it was copied.
fn push_or_merge(chunks: &mut VecDeque<Chunk>, mut chunk: Chunk, cache: &mut PoolCache) -> bool {
    if chunk.len() <= TINY
        && let Some(last) = chunks.back_mut()
    {
        chunk.trim_front(cache.pool().append_to(last, &chunk, TINY));
    }
    if chunk.is_empty() {
        cache.free_chunk(chunk);
        return true;
    }
    chunks.push_back(chunk);
    false
}

#[cfg(test)]
#[path = "data_recv/tests.rs"]
mod tests;
