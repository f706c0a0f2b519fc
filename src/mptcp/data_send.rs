//! The connection's send queue: what the application gave and the peer has not data-acknowledged yet, in data sequence
//! order, and which subflows carry each piece.

use crate::base::{Chunk, DataSeq, FramePool, PoolCache};
use crate::mptcp::subflow_set::{SubflowSet, SubflowSlot};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Why a piece waits to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Again {
    /// It does not.
    No,
    /// All subflows that carry it seem dead: not if one of them turns out to live.
    Stranded,
    /// The peer has acknowledged it on its subflow but not as data.
    Dropped,
}

/// A piece of the stream: one chunk, one segment.
#[derive(Debug)]
struct Entry {
    data_seq: DataSeq,
    chunk: Chunk,
    /// The subflows that were given it.
    carriers: SubflowSet,
    /// Unless `No`, it waits in `reinject`.
    again: Again,
}

impl Entry {
    fn end(&self) -> DataSeq {
        self.data_seq + self.chunk.len() as u64
    }
}

/// The send queue of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendQueue {
    /// The oldest byte that is not data-acknowledged.
    una: DataSeq,
    /// The first byte that was never sent.
    next: DataSeq,
    /// Behind the last byte from the application.
    end: DataSeq,
    #[serde(skip)]
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

    /// Appends what the application gave. A last piece that was not sent yet is filled up to `full` bytes first, as far
    /// as its frame has room: always where pieces are to be gathered, and otherwise if it is less than half of that. To
    /// copy some hundred bytes costs less than a packet; a piece that is nearly full is left as it is, so that those who
    /// write whole segments of their own size are not copied.
    pub fn push(&mut self, chunk: Chunk, full: usize, gather: bool, cache: &mut PoolCache) {
        let mut chunk = chunk;
        if self.sent < self.entries.len()
            && let Some(last) = self.entries.back_mut()
        {
            let copied = top_up(&mut last.chunk, &chunk, full, gather, cache.pool());
            self.end += copied as u64;
            chunk.trim_front(copied);
        }
        if chunk.is_empty() {
            return cache.free_chunk(chunk);
        }
        let len = chunk.len() as u64;
        let (carriers, again) = (SubflowSet::NONE, Again::No);
        self.entries.push_back(Entry { data_seq: self.end, chunk, carriers, again });
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

    /// The next piece that was never sent, at most `len_max` bytes of it, for `carriers`.
    pub fn take_new(&mut self, len_max: usize, carriers: SubflowSet, pool: &FramePool) -> Option<Piece> {
        self.split(self.sent, len_max, pool);
        let entry = self.entries.get_mut(self.sent)?;
        entry.carriers = carriers;
        self.sent += 1;
        self.next = entry.end();
        let piece = Piece { data_seq: entry.data_seq, chunk: pool.share_chunk(&entry.chunk) };
        // The application has written it on another processor, and the kernel, or the NIC, will read it.
        self.entries.get(self.sent).into_iter().for_each(|next| pool.prefetch_chunk(&next.chunk));
        Some(piece)
    }

    /// Whether something waits to be sent again.
    pub fn has_reinjections(&self) -> bool {
        !self.reinject.is_empty()
    }

    /// The next piece to send again: the subflows that carry it, and its length. What was acknowledged in the meantime, or
    /// has a carrier among the `usable` ones again, is left out.
    pub fn next_reinjection(&mut self, usable: SubflowSet) -> Option<(SubflowSet, usize)> {
        loop {
            let data_seq = *self.reinject.front()?;
            if let Some(index) = self.find(data_seq) {
                let entry = &mut self.entries[index];
                if entry.again == Again::Dropped || !entry.carriers.intersects(usable) {
                    return Some((entry.carriers, entry.chunk.len()));
                }
                entry.again = Again::No;
            }
            self.reinject.pop_front();
        }
    }

    /// Takes the piece that [`SendQueue::next_reinjection`] has told of, at most `len_max` bytes of it, for `carriers`.
    pub fn take_reinjection(
        &mut self,
        len_max: usize,
        carriers: SubflowSet,
        pool: &FramePool,
    ) -> Option<Piece> {
        let data_seq = self.reinject.pop_front()?;
        let index = self.find(data_seq)?;
        if self.split(index, len_max, pool) {
            self.reinject.push_front(self.entries[index + 1].data_seq);
        }
        Some(self.give_again(index, carriers, pool))
    }

    /// The oldest piece that was not given to `slot`, and does not wait to be sent again: where it begins, and the subflows
    /// that carry it. `cursor` is the caller's for this slot: all before it were looked at already.
    pub fn oldest_elsewhere(&self, slot: SubflowSlot, cursor: &mut DataSeq) -> Option<(DataSeq, SubflowSet)> {
        *cursor = cursor.max(self.una);
        // The oldest piece may be acknowledged in part.
        let start = self.entries.partition_point(|entry| entry.end().at_or_before(*cursor));
        let mut sent = self.entries.range(start.min(self.sent)..self.sent);
        let found = sent.find(|entry| !entry.carriers.contains(slot) && entry.again == Again::No);
        *cursor = found.map_or(self.next, |entry| entry.data_seq);
        found.map(|entry| (entry.data_seq, entry.carriers))
    }

    /// Takes the piece that begins at `data_seq`, which was sent, at most `len_max` bytes of it, for one more subflow.
    pub fn take_again(
        &mut self,
        data_seq: DataSeq,
        len_max: usize,
        carrier: SubflowSlot,
        pool: &FramePool,
    ) -> Option<Piece> {
        let index = self.find(data_seq).filter(|index| *index < self.sent)?;
        self.split(index, len_max, pool);
        Some(self.give_again(index, SubflowSet::of(carrier), pool))
    }

    /// The subflows that carry the oldest piece that is not data-acknowledged.
    pub fn oldest_carriers(&self) -> SubflowSet {
        let oldest = self.entries.front().filter(|_| self.sent > 0);
        oldest.map_or(SubflowSet::NONE, |entry| entry.carriers)
    }

    fn give_again(&mut self, index: usize, carriers: SubflowSet, pool: &FramePool) -> Piece {
        let entry = &mut self.entries[index];
        entry.carriers = entry.carriers.union(carriers);
        entry.again = Again::No;
        self.reinjected_bytes += entry.chunk.len() as u64;
        self.reinjections += 1;
        Piece { data_seq: entry.data_seq, chunk: pool.share_chunk(&entry.chunk) }
    }

    /// Everything that was sent and that none but the `dead` subflows carry has to be sent again elsewhere.
    pub fn strand(&mut self, dead: SubflowSet) {
        for entry in self.entries.range_mut(..self.sent) {
            let lives = entry.carriers.iter().any(|slot| !dead.contains(slot));
            if !lives && entry.again == Again::No {
                entry.again = Again::Stranded;
                self.reinject.push_back(entry.data_seq);
            }
        }
        // Two subflows may have failed one after the other: oldest first again.
        let una = self.una;
        self.reinject.make_contiguous().sort_by_key(|data_seq| data_seq.distance(una));
    }

    /// A subflow is gone: what only it and `dead` ones carry has to be sent again. Its slot is free afterwards.
    pub fn forget(&mut self, slot: SubflowSlot, dead: SubflowSet) {
        self.entries.range_mut(..self.sent).for_each(|entry| entry.carriers.remove(slot));
        self.strand(dead);
    }

    /// The oldest piece has to be sent again: the peer has acknowledged it on its subflow but not as data.
    pub fn reinject_oldest(&mut self) {
        if self.sent > 0
            && let Some(entry) = self.entries.front_mut()
        {
            if entry.again == Again::No {
                self.reinject.push_front(entry.data_seq);
            }
            entry.again = Again::Dropped;
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
        let (data_seq, carriers, again) = (entry.end(), entry.carriers, entry.again);
        self.entries.insert(index + 1, Entry { data_seq, chunk: rest, carriers, again });
        self.sent += usize::from(index < self.sent);
        true
    }
}

/// Copies the front of `more` behind the end of `piece`. Returns how many bytes.
fn top_up(piece: &mut Chunk, more: &Chunk, full: usize, gather: bool, pool: &FramePool) -> usize {
    let len = piece.len();
    if len >= full || !(gather || 2 * len <= full) {
        return 0;
    }
    pool.append_to(piece, more, full - len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pool::TX_HEADROOM;

    const FAST: SubflowSlot = SubflowSlot::new(1);
    const SLOW: SubflowSlot = SubflowSlot::new(2);
    const NONE: SubflowSet = SubflowSet::NONE;

    fn of(slots: &[SubflowSlot]) -> SubflowSet {
        slots.iter().copied().collect()
    }

    fn queue(pieces: usize) -> (SendQueue, PoolCache) {
        let mut cache = PoolCache::new(FramePool::new_heap(16));
        let mut queue = SendQueue::new(DataSeq::new(u64::MAX - 150));
        for _ in 0..pieces {
            let frame = cache.alloc().expect("a frame");
            queue.push(Chunk::new(frame, TX_HEADROOM, 100), 100, false, &mut cache);
        }
        (queue, cache)
    }

    fn take(queue: &mut SendQueue, cache: &mut PoolCache, carrier: SubflowSlot) -> (u64, usize) {
        let piece = queue.take_new(1000, of(&[carrier]), &cache.pool_arc().clone()).expect("unsent");
        let result = (piece.data_seq.raw(), piece.chunk.len());
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

    /// Takes all that waits to be sent again, in segments of at most 60 bytes: where each begins, and its length.
    fn again(
        queue: &mut SendQueue,
        cache: &mut PoolCache,
        usable: SubflowSet,
        carrier: SubflowSlot,
    ) -> Vec<(i64, usize)> {
        let (pool, mut again) = (cache.pool_arc().clone(), Vec::new());
        while queue.next_reinjection(usable).is_some() {
            let piece = queue.take_reinjection(60, of(&[carrier]), &pool).expect("it was told of");
            again.push((piece.data_seq.distance(DataSeq::new(u64::MAX - 150)), piece.chunk.len()));
            cache.free_chunk(piece.chunk);
        }
        again
    }

    #[test]
    fn what_a_dead_subflow_carried_is_sent_again_once_oldest_first() {
        let (mut queue, mut cache) = queue(3);
        for carrier in [SLOW, FAST, SLOW] {
            take(&mut queue, &mut cache, carrier);
        }
        queue.strand(of(&[SLOW]));
        queue.strand(of(&[SLOW]));
        let usable = of(&[FAST]);
        assert_eq!(again(&mut queue, &mut cache, usable, FAST), [(0, 60), (60, 40), (200, 60), (260, 40)]);
        assert_eq!(queue.reinjected_bytes(), 200);
        queue.strand(of(&[SLOW]));
        assert!(queue.next_reinjection(usable).is_none(), "FAST has them all now");
        queue.strand(of(&[SLOW, FAST]));
        assert_eq!(queue.next_reinjection(NONE).map(|(carriers, _)| carriers), Some(of(&[SLOW, FAST])));
        queue.clear(&mut cache);
        assert_eq!(cache.pool().used(), 0);
    }

    #[test]
    fn what_a_subflow_that_lives_again_carries_is_not_sent_again() {
        let (mut queue, mut cache) = queue(3);
        for carrier in [SLOW, FAST, SLOW] {
            take(&mut queue, &mut cache, carrier);
        }
        queue.strand(of(&[SLOW, FAST]));
        assert_eq!(again(&mut queue, &mut cache, of(&[SLOW]), SLOW), [(100, 60), (160, 40)]);
        queue.clear(&mut cache);
    }

    #[test]
    fn what_a_subflow_carried_that_is_gone_waits_unless_another_has_it_too() {
        let (mut queue, mut cache) = queue(3);
        take(&mut queue, &mut cache, SLOW);
        let piece = queue.take_new(1000, of(&[FAST, SLOW]), &cache.pool_arc().clone()).expect("unsent");
        cache.free_chunk(piece.chunk);
        queue.forget(SLOW, NONE);
        assert_eq!(again(&mut queue, &mut cache, of(&[FAST]), FAST), [(0, 60), (60, 40)]);
        queue.forget(FAST, NONE);
        assert_eq!(queue.next_reinjection(NONE), Some((NONE, 60)));
        queue.clear(&mut cache);
    }

    #[test]
    fn what_the_peer_has_dropped_is_sent_again_even_where_it_was() {
        let (mut queue, mut cache) = queue(2);
        take(&mut queue, &mut cache, FAST);
        take(&mut queue, &mut cache, FAST);
        queue.reinject_oldest();
        queue.reinject_oldest();
        assert_eq!(again(&mut queue, &mut cache, of(&[FAST]), FAST), [(0, 60), (60, 40)]);
        queue.clear(&mut cache);
    }

    #[test]
    fn the_oldest_piece_elsewhere_is_found_and_given_once() {
        let (mut queue, mut cache) = queue(5);
        let pool = cache.pool_arc().clone();
        for carrier in [FAST, SLOW, FAST, SLOW] {
            take(&mut queue, &mut cache, carrier);
        }
        assert_eq!(queue.oldest_carriers(), of(&[FAST]));
        let mut given = Vec::new();
        let mut cursor = queue.una();
        while let Some((data_seq, carriers)) = queue.oldest_elsewhere(FAST, &mut cursor) {
            assert_eq!(carriers, of(&[SLOW]));
            let piece = queue.take_again(data_seq, 70, FAST, &pool).expect("found");
            given.push((piece.data_seq.distance(DataSeq::new(u64::MAX - 150)), piece.chunk.len()));
            cache.free_chunk(piece.chunk);
        }
        assert_eq!(given, [(100, 70), (170, 30), (300, 70), (370, 30)], "not what was never sent");
        assert_eq!(
            queue.oldest_elsewhere(SLOW, &mut queue.una()).map(|(_, carriers)| carriers),
            Some(of(&[FAST]))
        );
        assert!(queue.acknowledge(queue.una() + 150, &mut cache));
        queue.clear(&mut cache);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_piece_longer_than_a_segment_is_cut() {
        let (mut queue, mut cache) = queue(1);
        let pool = cache.pool_arc().clone();
        let lengths: Vec<usize> = std::iter::from_fn(|| {
            let piece = queue.take_new(40, of(&[FAST]), &pool)?;
            let len = piece.chunk.len();
            cache.free_chunk(piece.chunk);
            Some(len)
        })
        .collect();
        assert_eq!(lengths, [40, 40, 20]);
        queue.clear(&mut cache);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_small_piece_that_waits_is_filled_up() {
        let mut cache = PoolCache::new(FramePool::new_heap(16));
        let pool = cache.pool_arc().clone();
        let mut queue = SendQueue::new(DataSeq::new(7));
        let mut written = 0_u8;
        let mut push = |queue: &mut SendQueue, cache: &mut PoolCache, len: u16, gather: bool| {
            let mut frame = cache.alloc().expect("a frame");
            for byte in &mut pool.bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + len as usize] {
                *byte = written;
                written = written.wrapping_add(1);
            }
            queue.push(Chunk::new(frame, TX_HEADROOM, len as usize), 100, gather, cache);
        };
        // Less than half: filled. More than half: left alone, unless pieces are gathered.
        for (len, gather) in [(50, false), (30, false), (40, false), (40, true), (90, true)] {
            push(&mut queue, &mut cache, len, gather);
        }
        let (mut lengths, mut sent) = (Vec::new(), Vec::new());
        while let Some(piece) = queue.take_new(100, of(&[FAST]), &pool) {
            lengths.push(piece.chunk.len());
            sent.extend_from_slice(pool.chunk(&piece.chunk));
            cache.free_chunk(piece.chunk);
        }
        assert_eq!((lengths, sent), (vec![80, 100, 70], (0..250).collect()));
        // What was sent is not touched.
        push(&mut queue, &mut cache, 10, true);
        assert_eq!((queue.unsent_len(), queue.unsent_bytes()), (Some(10), 10));
        queue.clear(&mut cache);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_was_acknowledged_in_the_meantime_is_not_reinjected() {
        let (mut queue, mut cache) = queue(2);
        take(&mut queue, &mut cache, SLOW);
        take(&mut queue, &mut cache, SLOW);
        queue.strand(of(&[SLOW]));
        assert!(queue.acknowledge(queue.next(), &mut cache));
        assert!(queue.next_reinjection(of(&[FAST])).is_none());
        assert_eq!(cache.pool().used(), 0);
    }
}
