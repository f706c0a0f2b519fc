//! The send queue: segments in flight, then segments that were never sent; and what is known of each. Sequence
//! numbers are given out when a segment is queued. The FIN is a segment without payload.
//!
//! Which segments are lost is decided by [`Rack`] where SACK is agreed, in the order in which they were sent. That
//! order is kept without a list of its own: segments that were sent once were sent in the order of their sequence
//! numbers, and retransmissions are noted in a queue as they leave.

mod segment;

pub(super) use segment::{News, Transmission, TransmitOrder};

use crate::base::{Chunk, DataSeq, Instant, PoolCache, SeqNum};
use crate::tcp::delivery::Snapshot;
use crate::tcp::rack::Rack;
use crate::tcp::scoreboard::Scoreboard;
use segment::Segment;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A segment that is about to leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    /// Its place in the queue.
    pub(super) index: usize,
    /// Its first sequence number.
    pub(super) seq: SeqNum,
    /// Its payload bytes; 0 for the FIN.
    pub(super) payload_len: usize,
    /// Whether it is the FIN.
    pub(super) fin: bool,
    /// Whether no payload is queued behind it.
    pub(super) last: bool,
}

/// What loss detection found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Segments that are taken to be lost now, and were not before.
    pub(super) segments: u32,
    /// Their bytes.
    pub(super) bytes: u32,
    /// Those of them whose retransmission was lost.
    pub(super) retransmissions: u32,
    /// The transmission of theirs that left last.
    pub(super) latest: Option<Transmission>,
    /// Something sent before a delivered segment is missing, and may yet come: it is looked at again later.
    pub(super) waits: bool,
}

/// A retransmission in the network.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Resent {
    start: SeqNum,
    end: SeqNum,
    sent_at: Instant,
    order: TransmitOrder,
}

/// The queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SendQueue {
    #[serde(skip)]
    segments: VecDeque<Segment>,
    /// How many of them were sent.
    sent: usize,
    una: SeqNum,
    nxt: SeqNum,
    /// Behind the last that is queued.
    end: SeqNum,
    /// Payload bytes acknowledged: the stream's offset of `una`.
    acked: u64,
    fin: Option<SeqNum>,
    scoreboard: Scoreboard,
    /// Transmissions so far.
    order: TransmitOrder,
    /// RFC 6675 §4: bytes in the network.
    pipe: u32,
    /// Segments and bytes that the peer holds beyond SND.UNA.
    held: u32,
    held_bytes: u32,
    /// Segments taken to be lost that the peer isn't known to hold.
    lost: usize,
    /// Those of them that wait for retransmission.
    due: usize,
    /// But for the first segment, none before this waits for retransmission.
    cursor: SeqNum,
    /// Of the segments before this, none that was sent once is in the network.
    judged: SeqNum,
    /// Retransmissions in the order in which they left. Those that no longer count are dropped when their turn comes.
    resent: VecDeque<Resent>,
}

impl SendQueue {
    /// Empty; `first` is the sequence number of the stream's first byte.
    pub(super) fn new(first: SeqNum) -> Self {
        Self {
            segments: VecDeque::new(),
            sent: 0,
            una: first,
            nxt: first,
            end: first,
            acked: 0,
            fin: None,
            scoreboard: Scoreboard::default(),
            order: TransmitOrder::default(),
            pipe: 0,
            held: 0,
            held_bytes: 0,
            lost: 0,
            due: 0,
            cursor: first,
            judged: first,
            resent: VecDeque::new(),
        }
    }

    /// SND.UNA.
    pub(super) fn una(&self) -> SeqNum {
        self.una
    }

    /// SND.NXT: the highest that was sent.
    pub(super) fn nxt(&self) -> SeqNum {
        self.nxt
    }

    /// Sequence space sent and not acknowledged.
    pub(super) fn flight(&self) -> u32 {
        self.nxt.distance(self.una) as u32
    }

    /// Sequence space queued and never sent.
    pub(super) fn unsent(&self) -> u32 {
        self.end.distance(self.nxt) as u32
    }

    /// Whether no segment is held, sent or not.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// RFC 6675 §4: bytes in the network.
    pub(super) fn pipe(&self) -> u32 {
        self.pipe
    }

    /// Payload bytes acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Payload bytes sent: the stream's offset of SND.NXT.
    pub(super) fn offset(&self, seq: SeqNum) -> u64 {
        let beyond_fin = self.fin.is_some_and(|fin| seq.after(fin));
        self.acked + u64::from(seq.distance(self.una) as u32) - u64::from(beyond_fin && !self.is_fin_acked())
    }

    /// Whether a FIN is queued or sent.
    pub(super) fn has_fin(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether the FIN is acknowledged.
    pub(super) fn is_fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.una.after(fin))
    }

    /// Segments sent and not acknowledged.
    pub(super) fn segments_in_flight(&self) -> usize {
        self.sent
    }

    /// Segments and bytes that the peer is known to hold beyond SND.UNA.
    pub(super) fn sacked(&self) -> (u32, u32) {
        (self.held, self.held_bytes)
    }

    /// Segments taken to be lost that are not acknowledged yet.
    pub(super) fn lost_segments(&self) -> usize {
        self.lost
    }

    /// Segments of which a retransmission is in the network.
    pub(super) fn resent_segments(&self) -> usize {
        self.lost - self.due
    }

    /// Whether a segment that was lost is not acknowledged yet.
    pub(super) fn is_repairing(&self) -> bool {
        self.lost > 0
    }

    /// Whether a segment waits for retransmission.
    pub(super) fn has_lost(&self) -> bool {
        self.due > 0
    }

    /// When the first segment was sent last, if it was sent more than once.
    pub(super) fn first_resent_at(&self) -> Option<Instant> {
        self.segments.front().filter(|front| front.transmissions > 1).map(|front| front.sent_at)
    }

    /// Appends payload.
    pub(super) fn push(&mut self, chunk: Chunk, data_seq: DataSeq) {
        self.append(Some(chunk), data_seq);
    }

    /// Appends the FIN.
    pub(super) fn push_fin(&mut self) {
        self.fin = Some(self.end);
        self.append(None, DataSeq::default());
    }

    fn append(&mut self, chunk: Option<Chunk>, data_seq: DataSeq) {
        let segment = Segment::new(self.end, chunk, data_seq);
        self.end = segment.end();
        self.segments.push_back(segment);
    }

    /// The peer acknowledges all before `ack`, which lies between SND.UNA and SND.NXT.
    pub(super) fn acknowledge(&mut self, ack: SeqNum, news: &mut News, cache: &mut PoolCache) {
        if ack == self.una {
            return;
        }
        news.advanced = true;
        let fin_acked = self.fin.is_some_and(|fin| ack.after(fin));
        self.acked += u64::from(ack.distance(self.una) as u32) - u64::from(fin_acked);
        self.una = ack;
        while let Some(front) = self.segments.front() {
            if front.end().after(ack) {
                break;
            }
            news.add_done(front);
            self.subtract(0);
            self.sent -= 1;
            if let Some(done) = self.segments.pop_front() {
                done.release(cache);
            }
        }
        if self.segments.front().is_some_and(|front| front.seq.before(ack)) {
            self.trim_first(ack, news);
        }
        self.scoreboard.forget_below(ack);
        self.cursor = self.cursor.max(ack);
        self.judged = self.judged.max(ack);
        while self.resent.front().is_some_and(|resent| resent.end.at_or_before(ack)) {
            self.resent.pop_front();
        }
    }

    /// The peer took only a part of the first segment: its boundaries need not be ours.
    fn trim_first(&mut self, ack: SeqNum, news: &mut News) {
        self.subtract(0);
        let Some(front) = self.segments.front_mut() else { return };
        let part = ack.distance(front.seq) as u32;
        if let Some(chunk) = &mut front.chunk {
            chunk.trim_front(part as usize);
        }
        front.seq = ack;
        front.data_seq += u64::from(part);
        front.in_place = false;
        news.bytes += if front.sacked { 0 } else { part };
        self.add(0);
    }

    /// The peer holds `start..end` (a SACK block beyond SND.UNA).
    pub(super) fn sack(&mut self, start: SeqNum, end: SeqNum, news: &mut News) {
        // One beyond SND.NXT is nonsense.
        if !end.after(self.una) || end.after(self.nxt) || !start.before(end) {
            return;
        }
        let mut from = start.max(self.una);
        if self.scoreboard.uncovered(from, end).is_none() {
            return;
        }
        // Only whole segments count, so that the scoreboard has no more ranges than there are segments.
        let first = self.index_of(from);
        let behind = self.segments.partition_point(|segment| segment.end().at_or_before(end)).min(self.sent);
        if first >= behind {
            return;
        }
        from = self.segments[first].seq;
        let (start, end) = (from, self.segments[behind - 1].end());
        // Each segment is touched when it becomes held and never again, however often blocks repeat it.
        while let Some((gap, gap_end)) = self.scoreboard.uncovered(from, end) {
            let mut index = self.index_of(gap);
            while index < behind && self.segments[index].seq.before(gap_end) {
                news.add(&self.segments[index]);
                news.sacked_bytes += self.segments[index].len();
                self.change(index, |segment| segment.sacked = true);
                index += 1;
            }
            from = gap_end;
        }
        self.scoreboard.add(start, end);
    }

    /// RFC 8985 §6.2 step 5: marks what `rack` says is lost at `now`. Walks in the order of transmission, and ends where
    /// something was sent too late to be missed: mostly at once.
    pub(super) fn detect_lost(&mut self, now: Instant, rack: &Rack) -> Losses {
        let mut losses = Losses::default();
        let mut index = if self.judged == self.una { 0 } else { self.index_of(self.judged) };
        while index < self.sent {
            let segment = &self.segments[index];
            if segment.sacked {
                index = self.index_behind_range(index);
                continue;
            }
            if segment.is_original_in_flight() {
                if !rack.is_sent_before(segment.order) {
                    break;
                }
                if rack.is_late_at(segment.sent_at) > now {
                    losses.waits = true;
                    break;
                }
                self.mark_lost(index, &mut losses);
            }
            index += 1;
        }
        self.judged = self.segments.get(index).map_or(self.nxt, |segment| segment.seq);
        while let Some(&resent) = self.resent.front() {
            if !rack.is_sent_before(resent.order) {
                break;
            }
            if rack.is_late_at(resent.sent_at) > now && self.is_in_network(&resent) {
                losses.waits = true;
                break;
            }
            self.resent.pop_front();
            self.mark_resent_lost(&resent, &mut losses);
        }
        losses
    }

    /// Whether [`SendQueue::detect_lost`] would find something.
    pub(super) fn has_late(&self, now: Instant, rack: &Rack) -> bool {
        let is_late = |sent_at, order| rack.is_sent_before(order) && rack.is_late_at(sent_at) <= now;
        self.segments
            .iter()
            .take(self.sent)
            .find(|segment| segment.is_original_in_flight())
            .is_some_and(|segment| is_late(segment.sent_at, segment.order))
            || self
                .resent
                .iter()
                .any(|resent| is_late(resent.sent_at, resent.order) && self.is_in_network(resent))
    }

    /// The places of the segments of a retransmission, as far as they are not acknowledged.
    fn places(&self, resent: &Resent) -> std::ops::Range<usize> {
        let first = self.index_of(resent.start.max(self.una));
        let behind = self.index_of(resent.end).min(self.sent).max(first);
        first..behind
    }

    /// Whether a retransmission is still thought to be in the network.
    fn is_in_network(&self, resent: &Resent) -> bool {
        self.places(resent).any(|index| self.is_transmission(index, resent))
    }

    fn is_transmission(&self, index: usize, resent: &Resent) -> bool {
        let segment = &self.segments[index];
        segment.is_resent_in_flight() && segment.order == resent.order
    }

    fn mark_resent_lost(&mut self, resent: &Resent, losses: &mut Losses) {
        for index in self.places(resent) {
            if self.is_transmission(index, resent) {
                self.mark_lost(index, losses);
            }
        }
    }

    /// Marks the first segment as lost.
    pub(super) fn mark_head_lost(&mut self) -> Losses {
        let mut losses = Losses::default();
        if self.segments.front().is_some_and(|front| !front.is_lost() && !front.sacked) && self.sent > 0 {
            self.mark_lost(0, &mut losses);
        }
        losses
    }

    /// The retransmission timer expired. RFC 8985 §6.3: the first segment is lost, and so are those that were sent
    /// before `lost_before`. Without RACK all are.
    pub(super) fn mark_lost_by_timeout(&mut self, lost_before: Option<Instant>) -> Losses {
        if self.segments.front().is_some_and(|front| front.sacked) {
            // RFC 2018 §8: the first segment was held, and yet is not acknowledged. The peer has reneged.
            self.scoreboard.clear();
            (0..self.sent).for_each(|index| self.change(index, |segment| segment.sacked = false));
        }
        let mut losses = Losses::default();
        for index in 0..self.sent {
            let segment = &self.segments[index];
            let is_old = index == 0 || lost_before.is_none_or(|limit| segment.sent_at <= limit);
            if segment.sacked || segment.is_due() || !is_old {
                continue;
            }
            self.mark_lost(index, &mut losses);
        }
        (self.cursor, self.judged) = (self.una, self.una);
        losses
    }

    /// Marks what is longer than `payload_max`, or left with others in a packet that was, as lost: the path no longer carries it
    /// (RFC 1191 §6.4).
    pub(super) fn mark_oversized_lost(&mut self, payload_max: usize) {
        for index in 0..self.sent {
            let segment = &self.segments[index];
            let is_packed = segment.packed && segment.transmissions == 1;
            let is_too_long = is_packed || segment.len() as usize > payload_max;
            if is_too_long && !segment.sacked && !segment.is_due() {
                self.mark_lost(index, &mut Losses::default());
            }
        }
    }

    /// What waits for retransmission was not lost, after all, but late: it counts as in the network again, and is judged
    /// anew.
    pub(super) fn forgive_lost(&mut self) {
        for index in 0..self.sent {
            let segment = &self.segments[index];
            if !segment.is_due() {
                continue;
            }
            if segment.transmissions == 1 {
                self.change(index, |segment| segment.lost = false);
            } else if self.resent.iter().any(|resent| resent.order == segment.order) {
                // A retransmission that was given up by the timer and not by RACK is still watched.
                self.change(index, |segment| (segment.lost, segment.resent) = (false, true));
            }
        }
        self.judged = self.una;
        self.settle_cursor();
    }

    /// The segment to retransmit next (RFC 6675 §4 NextSeg rule 1).
    pub(super) fn next_lost(&self) -> Option<usize> {
        if self.due == 0 {
            return None;
        }
        if self.segments.front().is_some_and(Segment::is_due) {
            return Some(0);
        }
        let mut index = self.index_of(self.cursor);
        while index < self.sent {
            let segment = &self.segments[index];
            if segment.is_due() {
                return Some(index);
            }
            index = if segment.sacked { self.index_behind_range(index) } else { index + 1 };
        }
        None
    }

    /// Moves the cursor to the segment that waits for retransmission, so that it is found at once however often it is
    /// asked for.
    pub(super) fn settle_cursor(&mut self) {
        self.cursor = match self.next_lost() {
            Some(0) => return,
            Some(index) => self.segments[index].seq,
            None => self.nxt,
        };
    }

    /// The segment to send for the first time next.
    pub(super) fn next_new(&self) -> Option<usize> {
        (self.sent < self.segments.len()).then_some(self.sent)
    }

    /// Payload bytes of the first segment; 0 for the FIN, and where there is none.
    pub(super) fn first_len(&self) -> usize {
        self.segments.front().and_then(|front| front.chunk.as_ref()).map_or(0, Chunk::len)
    }

    /// Whether the segment at `index` ends at `end`.
    pub(super) fn ends_at(&self, index: usize, end: SeqNum) -> bool {
        self.segments.get(index).is_some_and(|segment| segment.end() == end)
    }

    /// Whether a FIN that was sent follows a segment: then a retransmission of it can carry the FIN, too.
    pub(super) fn fin_follows(&self, index: usize) -> bool {
        index + 1 < self.sent && self.segments[index + 1].chunk.is_none()
    }

    /// The last segment that was sent; the last one with payload, if there is one, with which the FIN goes.
    pub(super) fn last_sent(&self) -> Option<usize> {
        let last = self.sent.checked_sub(1)?;
        let is_fin = self.segments[last].chunk.is_none();
        Some(if is_fin && last > 0 { last - 1 } else { last })
    }

    /// Length of a segment of the queue in sequence space, and whether it is the FIN.
    pub(super) fn shape(&self, index: usize) -> (u32, bool) {
        let segment = &self.segments[index];
        (segment.len(), segment.chunk.is_none())
    }

    /// A segment leaves, with at most `payload_max` bytes: what is longer is split first.
    pub(super) fn depart(
        &mut self,
        now: Instant,
        index: usize,
        payload_max: usize,
        snapshot: Snapshot,
    ) -> Departure {
        if self.segments[index].chunk.as_ref().is_some_and(|chunk| chunk.len() > payload_max) {
            self.split(index, payload_max);
        }
        self.order = self.order.next();
        let order = self.order;
        let again = index < self.sent;
        if again {
            self.change(index, |segment| segment.resent = true);
            let (start, end) = (self.segments[index].seq, self.segments[index].end());
            self.resent.push_back(Resent { start, end, sent_at: now, order });
        }
        let segment = &mut self.segments[index];
        (segment.sent_at, segment.order, segment.snapshot) = (now, order, snapshot);
        segment.transmissions = segment.transmissions.saturating_add(1);
        if again {
            self.settle_cursor();
        } else {
            self.nxt = segment.end();
            self.sent += 1;
            self.add(index);
        }
        let pipe = self.pipe();
        let segment = &mut self.segments[index];
        segment.snapshot.note_in_flight(pipe);
        let payload_len = segment.chunk.as_ref().map_or(0, Chunk::len);
        Departure {
            index,
            seq: segment.seq,
            payload_len,
            fin: segment.chunk.is_none(),
            last: self.segments.get(index + 1).is_none_or(|next| next.chunk.is_none()),
        }
    }

    /// How many segments, of the next ones that were never sent, are `len` bytes long each, and follow each other in the data
    /// stream as they do here; `most` at most. With `but_last` the last of the queue is not counted.
    pub(super) fn new_alike(&self, len: usize, most: usize, but_last: bool) -> usize {
        let behind = self.segments.len() - usize::from(but_last);
        let mut next_seq = None;
        let alike = |segment: &&Segment| {
            let follows = next_seq.is_none_or(|next| next == segment.data_seq);
            next_seq = Some(segment.data_seq + len as u64);
            follows && segment.chunk.as_ref().is_some_and(|chunk| chunk.len() == len)
        };
        let range = self.sent..behind.max(self.sent);
        self.segments.range(range).take(most).take_while(alike).count()
    }

    /// The segments from `index` on leave in one packet, each as by [`SendQueue::depart`].
    pub(super) fn note_packed(&mut self, index: usize, count: usize) {
        self.segments.range_mut(index..index + count).for_each(|segment| segment.packed = true);
    }

    /// The payload of a segment; none for the FIN.
    pub(super) fn payload(&self, index: usize) -> Option<&Chunk> {
        self.segments.get(index)?.chunk.as_ref()
    }

    /// A segment's payload, its tag, and whether the bytes in front of it are free; none for the FIN.
    pub(super) fn payload_mut(&mut self, index: usize) -> Option<(&mut Chunk, DataSeq, bool)> {
        let segment = self.segments.get_mut(index)?;
        segment.chunk.as_mut().map(|chunk| (chunk, segment.data_seq, segment.in_place))
    }

    /// What was sent and not acknowledged counts as never sent.
    pub(super) fn take_back(&mut self) {
        for index in 0..self.sent {
            self.subtract(index);
            let segment = &mut self.segments[index];
            (segment.transmissions, segment.sacked, segment.lost, segment.resent) = (0, false, false, false);
            segment.packed = false;
        }
        self.scoreboard.clear();
        self.resent.clear();
        self.sent = 0;
        (self.nxt, self.cursor, self.judged) = (self.una, self.una, self.una);
    }

    /// Gives all chunks back. Nothing is in flight or queued afterwards.
    pub(super) fn drop_all(&mut self, cache: &mut PoolCache) {
        self.segments.drain(..).for_each(|segment| segment.release(cache));
        self.scoreboard.clear();
        self.resent.clear();
        (self.sent, self.pipe, self.held, self.held_bytes, self.lost, self.due) = (0, 0, 0, 0, 0, 0);
        self.end = self.nxt;
    }

    /// The first segment that begins at or behind `seq`.
    fn index_of(&self, seq: SeqNum) -> usize {
        self.segments.partition_point(|segment| segment.seq.before(seq))
    }

    /// The first segment behind the held ones at `index`.
    fn index_behind_range(&self, index: usize) -> usize {
        let end = self.scoreboard.end_of_range_at(self.segments[index].seq);
        end.map_or(index + 1, |end| self.index_of(end).max(index + 1))
    }

    /// Takes a segment that was sent out of the sums.
    fn subtract(&mut self, index: usize) {
        let segment = &self.segments[index];
        self.pipe -= segment.pipe();
        self.held -= u32::from(segment.sacked);
        self.held_bytes -= u32::from(segment.sacked) * segment.len();
        self.lost -= usize::from(segment.is_lost());
        self.due -= usize::from(segment.is_due());
    }

    /// Puts it back.
    fn add(&mut self, index: usize) {
        let segment = &self.segments[index];
        self.pipe += segment.pipe();
        self.held += u32::from(segment.sacked);
        self.held_bytes += u32::from(segment.sacked) * segment.len();
        self.lost += usize::from(segment.is_lost());
        self.due += usize::from(segment.is_due());
    }

    /// Changes what is known of a segment that was sent, and the sums with it.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Segment)) {
        self.subtract(index);
        change(&mut self.segments[index]);
        self.add(index);
    }

    /// The latest transmission of a segment is lost.
    fn mark_lost(&mut self, index: usize, losses: &mut Losses) {
        let segment = &self.segments[index];
        losses.segments += 1;
        losses.bytes += segment.len();
        losses.retransmissions += u32::from(segment.transmissions > 1);
        let transmission = segment.transmission();
        if losses.latest.is_none_or(|latest| transmission.order.is_after(latest.order)) {
            losses.latest = Some(transmission);
        }
        let seq = segment.seq;
        self.change(index, |segment| (segment.lost, segment.resent) = (true, false));
        if index > 0 {
            self.cursor = self.cursor.min(seq);
        }
    }

    /// Makes two segments of one. Both lie in one frame, and the later one keeps the hold on it.
    fn split(&mut self, index: usize, len: usize) {
        let is_sent = index < self.sent;
        if is_sent {
            self.subtract(index);
        }
        let segment = &mut self.segments[index];
        let Some(front) = &mut segment.chunk else { return };
        let part = len as u32;
        let chunk = Chunk::new(front.frame.alias(), front.offset() + len, front.len() - len);
        front.truncate(len);
        let rest = Segment {
            seq: segment.seq + part,
            chunk: Some(chunk),
            data_seq: segment.data_seq + u64::from(part),
            // Its headers would overwrite the end of the first part.
            in_place: false,
            ..*segment
        };
        segment.lent = true;
        if rest.is_due() {
            self.cursor = self.cursor.min(rest.seq);
        }
        self.segments.insert(index + 1, rest);
        if is_sent {
            self.sent += 1;
            self.add(index);
            self.add(index + 1);
        }
    }

    /// Recounts what is kept as sums.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sent = || self.segments.iter().take(self.sent);
        assert_eq!(self.pipe, sent().map(Segment::pipe).sum::<u32>());
        assert_eq!(self.lost, sent().filter(|segment| segment.is_lost()).count());
        assert!(self.scoreboard.start().is_none_or(|start| start.at_or_after(self.una)));
        assert_eq!(self.due, sent().filter(|segment| segment.is_due()).count());
        assert_eq!(self.held as usize, sent().filter(|segment| segment.sacked).count());
        let held_bytes: u32 = sent().filter(|segment| segment.sacked).map(Segment::len).sum();
        assert_eq!(self.held_bytes, held_bytes);
        assert_eq!(sent().map(Segment::len).sum::<u32>(), self.flight());
        assert_eq!(self.segments.iter().skip(self.sent).map(Segment::len).sum::<u32>(), self.unsent());
        let mut seq = self.una;
        for segment in &self.segments {
            assert_eq!(segment.seq, seq, "no gap");
            seq = segment.end();
        }
        for segment in sent() {
            let held = self.scoreboard.end_of_range_at(segment.seq).is_some();
            assert_eq!(held, segment.sacked, "{segment:?}");
            if segment.seq.before(self.judged) {
                assert!(!segment.is_original_in_flight(), "judged, and yet in the network: {segment:?}");
            }
            if segment.is_resent_in_flight() {
                let noted = self.resent.iter().any(|resent| resent.order == segment.order);
                assert!(noted, "nobody watches the retransmission of {segment:?}");
            }
        }
        assert_eq!(self.next_lost().is_some(), self.due > 0, "the cursor has passed a segment that waits");
    }
}
