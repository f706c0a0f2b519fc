//! The connection's send queue: what the application gave and the peer has not data-acknowledged yet, in data sequence
//! order, and which subflow carried each piece last.

use crate::base::{Chunk, DataSeq, FramePool, PoolCache};
use crate::mptcp::SubflowId;
use std::collections::VecDeque;

/// A piece of the stream: one chunk, one segment.
#[derive(Debug)]
struct Entry {
    data_seq: DataSeq,
    chunk: Chunk,
    /// The subflow that carried it last; meaningful for entries that were sent.
    carrier: SubflowId,
    /// It waits in `reinject`.
    waiting: bool,
}

impl Entry {
    fn end(&self) -> DataSeq {
        self.data_seq + self.chunk.len as u64
    }
}

/// The send queue of a connection.
#[derive(Debug)]
pub struct SendQueue {
    /// The oldest byte that is not data-acknowledged.
    una: DataSeq,
    /// The first byte that was never sent.
    next: DataSeq,
    /// Behind the last byte from the application.
    end: DataSeq,
    entries: VecDeque<Entry>,
    /// How many entries, from the front, were sent.
    sent: usize,
    /// Data sequence numbers of entries to send again on another subflow, oldest first.
    reinject: VecDeque<DataSeq>,
    reinjected_bytes: u64,
    reinjections: u64,
}

/// A piece to put onto a subflow.
#[derive(Debug)]
pub struct Piece {
    /// Its first byte.
    pub data_seq: DataSeq,
    /// A hold on its bytes.
    pub chunk: Chunk,
}

impl SendQueue {
    /// An empty queue whose first byte will be `first`.
    pub fn new(first: DataSeq) -> Self {
        Self {
            una: first,
            next: first,
            end: first,
            entries: VecDeque::new(),
            sent: 0,
            reinject: VecDeque::new(),
            reinjected_bytes: 0,
            reinjections: 0,
        }
    }

    /// The oldest byte that is not data-acknowledged.
    pub fn una(&self) -> DataSeq {
        self.una
    }

    /// The first byte that was never sent.
    pub fn next(&self) -> DataSeq {
        self.next
    }

    /// Behind the last byte that the application gave.
    pub fn end(&self) -> DataSeq {
        self.end
    }

    /// Bytes that the queue holds.
    pub fn buffered(&self) -> u64 {
        self.end.distance(self.una) as u64
    }

    /// Bytes that were never sent.
    pub fn unsent_bytes(&self) -> u64 {
        self.end.distance(self.next) as u64
    }

    /// Whether some data was never sent.
    pub fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// Whether everything was data-acknowledged.
    pub fn is_empty(&self) -> bool {
        self.una == self.end
    }

    /// Bytes that were sent again on another subflow.
    pub fn reinjected_bytes(&self) -> u64 {
        self.reinjected_bytes
    }

    /// Pieces that were sent again on another subflow.
    pub fn reinjections(&self) -> u64 {
        self.reinjections
    }

    /// Appends what the application gave.
    pub fn push(&mut self, chunk: Chunk) {
        let len = chunk.len as u64;
        self.entries.push_back(Entry { data_seq: self.end, chunk, carrier: SubflowId(0), waiting: false });
        self.end += len;
    }

    /// Everything before `ack` has arrived. False, and nothing happens, for an ACK of what was not sent or that is
    /// not new.
    pub fn acknowledge(&mut self, ack: DataSeq, cache: &mut PoolCache) -> bool {
        if ack.at_or_before(self.una) || ack.after(self.next) {
            return false;
        }
        self.una = ack;
        while let Some(entry) = self.entries.front() {
            if entry.end().after(ack) || self.sent == 0 {
                break;
            }
            if let Some(entry) = self.entries.pop_front() {
                cache.free_chunk(entry.chunk);
                self.sent -= 1;
            }
        }
        true
    }

    /// The length of the next piece that was never sent.
    pub fn unsent_len(&self) -> Option<usize> {
        self.entries.get(self.sent).map(|entry| entry.chunk.len())
    }

    /// The next piece that was never sent, at most `len_max` bytes of it, for `carrier`.
    pub fn take_new(&mut self, len_max: usize, carrier: SubflowId, pool: &FramePool) -> Option<Piece> {
        self.split(self.sent, len_max, pool);
        let entry = self.entries.get_mut(self.sent)?;
        entry.carrier = carrier;
        self.sent += 1;
        self.next = entry.end();
        Some(Piece { data_seq: entry.data_seq, chunk: pool.share_chunk(&entry.chunk) })
    }

    /// The subflow that carried the next piece to send again.
    pub fn reinjection_carrier(&mut self) -> Option<SubflowId> {
        loop {
            let data_seq = *self.reinject.front()?;
            if let Some(index) = self.find(data_seq) {
                return Some(self.entries[index].carrier);
            }
            self.reinject.pop_front(); // acknowledged in the meantime
        }
    }

    /// The next piece to send again, for `carrier`.
    pub fn take_reinjection(
        &mut self,
        len_max: usize,
        carrier: SubflowId,
        pool: &FramePool,
    ) -> Option<Piece> {
        self.reinjection_carrier()?;
        let data_seq = self.reinject.pop_front()?;
        let index = self.find(data_seq)?;
        if self.split(index, len_max, pool) {
            self.sent += 1;
            self.reinject.push_front(self.entries[index + 1].data_seq);
        }
        let entry = &mut self.entries[index];
        entry.carrier = carrier;
        entry.waiting = false;
        self.reinjected_bytes += entry.chunk.len as u64;
        self.reinjections += 1;
        Some(Piece { data_seq: entry.data_seq, chunk: pool.share_chunk(&entry.chunk) })
    }

    /// Everything that `carrier` carried last and that is not acknowledged has to be sent again elsewhere.
    pub fn reinject_from(&mut self, carrier: SubflowId) {
        for entry in self.entries.range_mut(..self.sent) {
            if entry.carrier == carrier && !entry.waiting {
                entry.waiting = true;
                self.reinject.push_back(entry.data_seq);
            }
        }
        // Two subflows may have failed one after the other: oldest first again.
        let una = self.una;
        self.reinject.make_contiguous().sort_by_key(|data_seq| data_seq.distance(una));
    }

    /// The oldest piece has to be sent again: the peer has acknowledged it on its subflow but not as data.
    pub fn reinject_oldest(&mut self) {
        if self.sent > 0
            && let Some(entry) = self.entries.front_mut()
            && !entry.waiting
        {
            entry.waiting = true;
            self.reinject.push_front(entry.data_seq);
        }
    }

    /// Frees everything.
    pub fn clear(&mut self, cache: &mut PoolCache) {
        self.entries.drain(..).for_each(|entry| cache.free_chunk(entry.chunk));
        self.reinject.clear();
        self.sent = 0;
        (self.una, self.next) = (self.end, self.end);
    }

    /// Where the entry that begins at `data_seq` stands.
    fn find(&self, data_seq: DataSeq) -> Option<usize> {
        let index = self.entries.partition_point(|entry| entry.data_seq.before(data_seq));
        self.entries.get(index).filter(|entry| entry.data_seq == data_seq).map(|_| index)
    }

    /// Cuts the entry at `index` in two when it is longer than `len_max`; true if it was.
    fn split(&mut self, index: usize, len_max: usize, pool: &FramePool) -> bool {
        let Some(entry) = self.entries.get_mut(index) else { return false };
        if entry.chunk.len() <= len_max {
            return false;
        }
        let mut rest = pool.share_chunk(&entry.chunk);
        rest.trim_front(len_max);
        entry.chunk.truncate(len_max);
        let rest =
            Entry { data_seq: entry.end(), chunk: rest, carrier: entry.carrier, waiting: entry.waiting };
        self.entries.insert(index + 1, rest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: SubflowId = SubflowId(1);
    const SLOW: SubflowId = SubflowId(2);

    fn queue(pieces: usize) -> (SendQueue, PoolCache) {
        let mut cache = PoolCache::new(FramePool::new_heap(16));
        let mut queue = SendQueue::new(DataSeq::new(u64::MAX - 150));
        for _ in 0..pieces {
            let frame = cache.alloc().expect("a frame");
            queue.push(Chunk { frame, offset: 128, len: 100 });
        }
        (queue, cache)
    }

    fn take(queue: &mut SendQueue, cache: &mut PoolCache, carrier: SubflowId) -> (u64, u16) {
        let piece = queue.take_new(1000, carrier, &cache.pool_arc().clone()).expect("unsent");
        let result = (piece.data_seq.raw(), piece.chunk.len);
        cache.free_chunk(piece.chunk);
        result
    }

    #[test]
    fn sends_in_order_over_the_wrap_and_frees_what_is_acknowledged() {
        let (mut queue, mut cache) = queue(3);
        let first = u64::MAX - 150;
        assert_eq!(take(&mut queue, &mut cache, FAST), (first, 100));
        assert_eq!(take(&mut queue, &mut cache, SLOW), (first + 100, 100));
        assert!(!queue.acknowledge(DataSeq::new(first) + 201, &mut cache), "that was not sent");
        assert!(queue.acknowledge(DataSeq::new(first) + 150, &mut cache));
        assert_eq!((queue.buffered(), cache.pool().used()), (150, 2));
        assert!(queue.acknowledge(DataSeq::new(first) + 200, &mut cache));
        assert_eq!(cache.pool().used(), 1);
        queue.clear(&mut cache);
        assert_eq!(cache.pool().used(), 0);
    }

    #[test]
    fn what_a_dead_subflow_carried_is_sent_again_once_oldest_first() {
        let (mut queue, mut cache) = queue(3);
        let pool = cache.pool_arc().clone();
        for carrier in [SLOW, FAST, SLOW] {
            take(&mut queue, &mut cache, carrier);
        }
        queue.reinject_from(SLOW);
        queue.reinject_from(SLOW);
        let mut again = Vec::new();
        while let Some(piece) = queue.take_reinjection(60, FAST, &pool) {
            again.push((piece.data_seq.distance(DataSeq::new(u64::MAX - 150)), piece.chunk.len));
            cache.free_chunk(piece.chunk);
        }
        assert_eq!(again, [(0, 60), (60, 40), (200, 60), (260, 40)]);
        assert_eq!(queue.reinjected_bytes(), 200);
        queue.reinject_from(SLOW);
        assert!(queue.reinjection_carrier().is_none(), "FAST has them all now");
        queue.clear(&mut cache);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_piece_longer_than_a_segment_is_cut() {
        let (mut queue, mut cache) = queue(1);
        let pool = cache.pool_arc().clone();
        let lengths: Vec<u16> = std::iter::from_fn(|| {
            let piece = queue.take_new(40, FAST, &pool)?;
            let len = piece.chunk.len;
            cache.free_chunk(piece.chunk);
            Some(len)
        })
        .collect();
        assert_eq!(lengths, [40, 40, 20]);
        queue.clear(&mut cache);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_was_acknowledged_in_the_meantime_is_not_reinjected() {
        let (mut queue, mut cache) = queue(2);
        take(&mut queue, &mut cache, SLOW);
        take(&mut queue, &mut cache, SLOW);
        queue.reinject_from(SLOW);
        assert!(queue.acknowledge(queue.next(), &mut cache));
        assert!(queue.reinjection_carrier().is_none());
        assert_eq!(cache.pool().used(), 0);
    }
}
