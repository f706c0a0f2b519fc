//! The send queue: segments in flight, then segments that were never sent; and what is known of each. Sequence
//! numbers are given out when a segment is queued. The FIN is a segment without payload.

use crate::base::{Chunk, DataSeq, Instant, PoolCache, SeqNum};
use crate::tcp::scoreboard::Scoreboard;
use std::collections::VecDeque;

/// One segment of the queue.
#[derive(Debug)]
pub(super) struct Segment {
    seq: SeqNum,
    /// The payload; none for the FIN.
    chunk: Option<Chunk>,
    /// The caller's tag of the first byte.
    data_seq: DataSeq,
    /// When it was sent last.
    sent_at: Instant,
    /// How often it was sent.
    transmissions: u8,
    /// The peer holds it (SACK).
    sacked: bool,
    /// Taken to be lost: the original no longer counts as in the network.
    lost: bool,
    /// A retransmission of it is in the network.
    resent: bool,
    /// Nobody else needs the bytes in front of the payload.
    in_place: bool,
    /// The hold on the frame belongs to a later segment of the queue, which was split off this one. So long as the
    /// queue is emptied from the front, the frame is there.
    lent: bool,
}

impl Segment {
    fn len(&self) -> u32 {
        self.chunk.as_ref().map_or(1, |chunk| chunk.len() as u32)
    }

    fn end(&self) -> SeqNum {
        self.seq + self.len()
    }

    /// RFC 6675 §4 SetPipe: what it adds to the estimate of bytes in the network.
    fn pipe(&self) -> u32 {
        if self.sacked { 0 } else { self.len() * (u32::from(!self.lost) + u32::from(self.resent)) }
    }

    /// Whether it has to be repaired.
    fn is_lost(&self) -> bool {
        self.lost && !self.sacked
    }

    /// Whether it waits for its retransmission.
    fn is_due(&self) -> bool {
        self.is_lost() && !self.resent
    }

    fn release(self, cache: &mut PoolCache) {
        match self.chunk {
            Some(chunk) if self.lent => {
                chunk.frame.give_up_alias();
            }
            Some(chunk) => cache.free_chunk(chunk),
            None => {}
        }
    }
}

/// What a cumulative acknowledgment did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Acked {
    /// Whether SND.UNA advanced.
    pub(super) advanced: bool,
    /// Bytes of sequence space whose delivery is news (SACK had not told).
    pub(super) delivered: u32,
    /// Segments that are done.
    pub(super) segments: u32,
    /// When the latest segment was sent that is acknowledged now, unless one of those was sent twice (Karn, RFC 6298
    /// §3): then the others may have waited at the peer until that hole was filled.
    pub(super) sent_at: Option<Instant>,
}

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

/// The queue.
#[derive(Debug)]
pub(super) struct SendQueue {
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
    /// RFC 6675 §4: bytes in the network.
    pipe: u32,
    /// Segments taken to be lost that the peer isn't known to hold.
    lost: usize,
    /// Those of them that wait for retransmission.
    due: usize,
    /// But for the first segment, none before this waits for retransmission.
    cursor: SeqNum,
    /// What the scoreboard says about loss was applied up to here.
    lost_edge: SeqNum,
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
            pipe: 0,
            lost: 0,
            due: 0,
            cursor: first,
            lost_edge: first,
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

    /// Whether the peer is known to hold something beyond SND.UNA.
    pub(super) fn has_sacked(&self) -> bool {
        !self.scoreboard.is_empty()
    }

    /// Whether a segment that was lost is not acknowledged yet.
    pub(super) fn is_repairing(&self) -> bool {
        self.lost > 0
    }

    /// Whether a segment waits for retransmission.
    pub(super) fn has_lost(&self) -> bool {
        self.due > 0
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
        let segment = Segment {
            seq: self.end,
            chunk,
            data_seq,
            sent_at: Instant::ZERO,
            transmissions: 0,
            sacked: false,
            lost: false,
            resent: false,
            in_place: true,
            lent: false,
        };
        self.end = segment.end();
        self.segments.push_back(segment);
    }

    /// The peer acknowledges all before `ack`, which lies between SND.UNA and SND.NXT.
    pub(super) fn acknowledge(&mut self, ack: SeqNum, cache: &mut PoolCache) -> Acked {
        let mut acked = Acked::default();
        let mut sent_twice = false;
        if ack == self.una {
            return acked;
        }
        acked.advanced = true;
        let fin_acked = self.fin.is_some_and(|fin| ack.after(fin));
        self.acked += u64::from(ack.distance(self.una) as u32) - u64::from(fin_acked);
        self.una = ack;
        while let Some(front) = self.segments.front() {
            if front.end().after(ack) {
                break;
            }
            self.pipe -= front.pipe();
            self.lost -= usize::from(front.is_lost());
            self.due -= usize::from(front.is_due());
            acked.segments += 1;
            if !front.sacked {
                acked.delivered += front.len();
                acked.sent_at = Some(front.sent_at);
            }
            sent_twice |= front.transmissions > 1;
            self.sent -= 1;
            if let Some(done) = self.segments.pop_front() {
                done.release(cache);
            }
        }
        if let Some(front) = self.segments.front_mut()
            && front.seq.before(ack)
        {
            // The peer took only a part: its boundaries need not be ours.
            let part = ack.distance(front.seq) as u32;
            self.pipe -= front.pipe();
            if let Some(chunk) = &mut front.chunk {
                chunk.trim_front(part as usize);
            }
            front.seq = ack;
            front.data_seq += u64::from(part);
            front.in_place = false;
            self.pipe += front.pipe();
            acked.delivered += part;
        }
        if sent_twice {
            acked.sent_at = None;
        }
        self.scoreboard.forget_below(ack);
        self.cursor = self.cursor.max(ack);
        self.lost_edge = self.lost_edge.max(ack);
        acked
    }

    /// The peer holds `start..end` (a SACK block). Returns the bytes of which that is news.
    pub(super) fn sack(&mut self, start: SeqNum, end: SeqNum) -> u32 {
        // RFC 2883: a block below SND.UNA reports a duplicate. One beyond SND.NXT is nonsense.
        if !end.after(self.una) || end.after(self.nxt) || !start.before(end) {
            return 0;
        }
        let mut from = start.max(self.una);
        if self.scoreboard.uncovered(from, end).is_none() {
            return 0;
        }
        // Only whole segments count, so that the scoreboard has no more ranges than there are segments.
        let first = self.index_of(from);
        let behind = self.segments.partition_point(|segment| segment.end().at_or_before(end)).min(self.sent);
        if first >= behind {
            return 0;
        }
        from = self.segments[first].seq;
        let (start, end) = (from, self.segments[behind - 1].end());
        let (mut count, mut bytes) = (0, 0);
        // Each segment is touched when it becomes held and never again, however often blocks repeat it.
        while let Some((gap, gap_end)) = self.scoreboard.uncovered(from, end) {
            let mut index = self.index_of(gap);
            while index < behind && self.segments[index].seq.before(gap_end) {
                bytes += self.segments[index].len();
                self.change(index, |segment| segment.sacked = true);
                count += 1;
                index += 1;
            }
            from = gap_end;
        }
        self.scoreboard.add(start, end, count);
        bytes
    }

    /// RFC 6675 §4 IsLost: marks what the scoreboard says is lost. Returns how many segments that is news of.
    pub(super) fn mark_lost_by_sack(&mut self, threshold: u32) -> u32 {
        let Some(edge) = self.scoreboard.lost_below(threshold) else { return 0 };
        let mut marked = 0;
        let mut index = self.index_of(self.lost_edge);
        while index < self.sent && self.segments[index].seq.before(edge) {
            marked += u32::from(self.mark_lost(index));
            index += 1;
        }
        self.lost_edge = self.lost_edge.max(edge);
        marked
    }

    /// Marks the first segment as lost. True when that is news.
    pub(super) fn mark_head_lost(&mut self) -> bool {
        self.sent > 0 && self.mark_lost(0)
    }

    /// The retransmission timer expired: all that the peer isn't known to hold is taken to be lost.
    pub(super) fn mark_all_lost(&mut self) {
        if self.segments.front().is_some_and(|front| front.sacked) {
            // RFC 2018 §8: the first segment was held, and yet is not acknowledged. The peer has reneged.
            self.scoreboard.clear();
            (0..self.sent).for_each(|index| self.change(index, |segment| segment.sacked = false));
        }
        for index in 0..self.sent {
            self.change(index, |segment| {
                segment.lost = true;
                segment.resent = false;
            });
        }
        self.cursor = self.una;
    }

    /// Marks what is longer than `payload_max` as lost: the path no longer carries it (RFC 1191 §6.4).
    pub(super) fn mark_oversized_lost(&mut self, payload_max: usize) {
        for index in 0..self.sent {
            if self.segments[index].len() as usize > payload_max && !self.segments[index].sacked {
                self.change(index, |segment| {
                    segment.lost = true;
                    segment.resent = false;
                });
                self.cursor = self.cursor.min(self.segments[index].seq);
            }
        }
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
            index = match self.scoreboard.end_of_range_at(segment.seq) {
                Some(end) if segment.sacked => self.index_of(end),
                _ => index + 1,
            };
        }
        None
    }

    /// The segment to send for the first time next.
    pub(super) fn next_new(&self) -> Option<usize> {
        (self.sent < self.segments.len()).then_some(self.sent)
    }

    /// Length of a segment of the queue in sequence space, and whether it is the FIN.
    pub(super) fn shape(&self, index: usize) -> (u32, bool) {
        let segment = &self.segments[index];
        (segment.len(), segment.chunk.is_none())
    }

    /// A segment leaves, with at most `payload_max` bytes: what is longer is split first.
    pub(super) fn depart(&mut self, now: Instant, index: usize, payload_max: usize) -> Departure {
        if self.segments[index].chunk.as_ref().is_some_and(|chunk| chunk.len() > payload_max) {
            self.split(index, payload_max);
        }
        let again = index < self.sent;
        if again {
            self.change(index, |segment| segment.resent = true);
            if index > 0 {
                self.cursor = self.segments[index].end();
            }
        }
        let segment = &mut self.segments[index];
        segment.sent_at = now;
        segment.transmissions = segment.transmissions.saturating_add(1);
        if !again {
            self.pipe += segment.pipe();
            self.nxt = segment.end();
            self.sent += 1;
        }
        let payload_len = segment.chunk.as_ref().map_or(0, Chunk::len);
        Departure {
            index,
            seq: segment.seq,
            payload_len,
            fin: segment.chunk.is_none(),
            last: self.segments.get(index + 1).is_none_or(|next| next.chunk.is_none()),
        }
    }

    /// A segment's payload, its tag, and whether the bytes in front of it are free; none for the FIN.
    pub(super) fn payload_mut(&mut self, index: usize) -> Option<(&mut Chunk, DataSeq, bool)> {
        let segment = self.segments.get_mut(index)?;
        segment.chunk.as_mut().map(|chunk| (chunk, segment.data_seq, segment.in_place))
    }

    /// Gives all chunks back. Nothing is in flight or queued afterwards.
    pub(super) fn drop_all(&mut self, cache: &mut PoolCache) {
        self.segments.drain(..).for_each(|segment| segment.release(cache));
        self.scoreboard.clear();
        (self.sent, self.pipe, self.lost, self.due) = (0, 0, 0, 0);
        self.end = self.nxt;
    }

    /// The first segment that begins at or behind `seq`.
    fn index_of(&self, seq: SeqNum) -> usize {
        self.segments.partition_point(|segment| segment.seq.before(seq))
    }

    /// Changes what is known of a segment that was sent, and the sums with it.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Segment)) {
        let segment = &mut self.segments[index];
        self.pipe -= segment.pipe();
        self.lost -= usize::from(segment.is_lost());
        self.due -= usize::from(segment.is_due());
        change(segment);
        self.pipe += segment.pipe();
        self.lost += usize::from(segment.is_lost());
        self.due += usize::from(segment.is_due());
    }

    fn mark_lost(&mut self, index: usize) -> bool {
        let segment = &self.segments[index];
        if segment.sacked || segment.lost {
            return false;
        }
        let seq = segment.seq;
        self.change(index, |segment| segment.lost = true);
        if index > 0 {
            self.cursor = self.cursor.min(seq);
        }
        true
    }

    /// Makes two segments of one. Both lie in one frame, and the later one keeps the hold on it.
    fn split(&mut self, index: usize, len: usize) {
        let segment = &mut self.segments[index];
        let Some(front) = &mut segment.chunk else { return };
        let part = len as u32;
        let chunk = Chunk {
            frame: front.frame.alias(),
            offset: front.offset + len as u16,
            len: front.len - len as u16,
        };
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
        if index < self.sent {
            self.sent += 1;
            self.lost += usize::from(rest.is_lost());
            self.due += usize::from(rest.is_due());
        }
        self.segments.insert(index + 1, rest);
    }

    /// Recounts what is kept as sums.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sent = || self.segments.iter().take(self.sent);
        assert_eq!(self.pipe, sent().map(Segment::pipe).sum::<u32>());
        assert_eq!(self.lost, sent().filter(|segment| segment.is_lost()).count());
        assert!(self.scoreboard.start().is_none_or(|start| start.at_or_after(self.una)));
        assert_eq!(self.due, sent().filter(|segment| segment.is_due()).count());
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
        }
        assert_eq!(self.next_lost().is_some(), self.due > 0, "the cursor has passed a segment that waits");
    }
}
