//! The peer's stream: what arrived in order and waits for the caller, what waits for a gap to fill, and the FIN.

use crate::base::{Chunk, PoolCache, SeqNum};
use crate::tcp::assembler::{Assembler, Insert};
use crate::wire::SackBlocks;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What became of a segment's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next bytes, and nothing had been waiting for them.
    InOrder,
    /// The next bytes, and a gap was there (RFC 5681 §4.2: acknowledge at once).
    FilledGap,
    /// Beyond a gap.
    OutOfOrder,
    /// Nothing new.
    Duplicate,
    /// No room: out of chunks, or beyond the window.
    Dropped,
}

/// The receiving half.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Receiver {
    /// The peer's initial sequence number.
    irs: SeqNum,
    /// RCV.NXT.
    nxt: SeqNum,
    /// Payload bytes in order: the stream's offset of RCV.NXT.
    received: u64,
    /// RCV.NXT when we acknowledged last (RFC 7323's Last.ACK.sent).
    acked: SeqNum,
    /// Payload bytes that the caller has taken.
    delivered: u64,
    #[serde(skip)]
    ready: VecDeque<(u64, Chunk)>,
    assembler: Assembler,
    /// The offset at which the peer's FIN stands.
    fin: Option<u64>,
    fin_consumed: bool,
    /// RFC 2883: a range that arrived twice, to report once.
    duplicate: Option<(SeqNum, SeqNum)>,
}

impl Receiver {
    /// Behind the peer's SYN.
    pub(super) fn new(irs: SeqNum) -> Self {
        Self {
            irs,
            nxt: irs + 1,
            received: 0,
            acked: irs + 1,
            delivered: 0,
            ready: VecDeque::new(),
            assembler: Assembler::default(),
            fin: None,
            fin_consumed: false,
            duplicate: None,
        }
    }

    /// The peer's initial sequence number.
    pub(super) fn irs(&self) -> SeqNum {
        self.irs
    }

    /// RCV.NXT.
    pub(super) fn nxt(&self) -> SeqNum {
        self.nxt
    }

    /// Payload bytes in order.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Payload bytes that the caller has taken.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// RCV.NXT when we acknowledged last.
    pub(super) fn acked(&self) -> SeqNum {
        self.acked
    }

    /// We acknowledge all that is in order.
    pub(super) fn on_ack_sent(&mut self) {
        self.acked = self.nxt;
    }

    /// We acknowledge what was in order when RCV.NXT was `ack`. Returns how many payload bytes that were.
    pub(super) fn on_earlier_ack_sent(&mut self, ack: SeqNum) -> u64 {
        self.acked = ack;
        self.received - u64::from(self.nxt.distance(ack).max(0) as u32)
    }

    /// Whether the peer should hear of ranges beyond RCV.NXT, or of duplicates.
    pub(super) fn has_sack(&self) -> bool {
        self.duplicate.is_some() || !self.assembler.is_empty() || self.has_early_fin()
    }

    /// Whether the FIN came before some of what precedes it.
    fn has_early_fin(&self) -> bool {
        self.fin.is_some_and(|fin| fin > self.received)
    }

    /// Whether no payload is held.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.assembler.is_empty()
    }

    /// Chunks that wait for a gap to be filled.
    pub(super) fn waiting_chunks(&self) -> usize {
        self.assembler.chunks()
    }

    /// Takes a segment's payload. `accepted_to` is the offset behind the window; `seq` is near RCV.NXT.
    pub(super) fn take(
        &mut self,
        seq: SeqNum,
        accepted_to: u64,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) -> Arrival {
        let Some(mut chunk) = payload.take() else { return Arrival::Duplicate };
        let passed = self.nxt.distance(seq);
        if passed > 0 {
            // Its front, or all of it, is not new.
            let old = (passed as usize).min(chunk.len());
            self.add_duplicate(seq, seq + old as u32);
            chunk.trim_front(old);
            if chunk.is_empty() {
                *payload = Some(chunk);
                return Arrival::Duplicate;
            }
        }
        let offset = self.received + (-passed).max(0) as u64;
        let limit = self.fin.map_or(accepted_to, |fin| accepted_to.min(fin));
        chunk.truncate(limit.saturating_sub(offset) as usize);
        if chunk.is_empty() {
            *payload = Some(chunk);
            return Arrival::Dropped;
        }
        if offset == self.received {
            return self.take_next(chunk, cache);
        }
        let range = (seq, seq + chunk.len() as u32);
        match self.assembler.insert(offset, chunk, cache) {
            Insert::Held => Arrival::OutOfOrder,
            Insert::Duplicate => {
                self.add_duplicate(range.0, range.1);
                Arrival::Duplicate
            }
            Insert::Full => Arrival::Dropped,
        }
    }

    fn take_next(&mut self, chunk: Chunk, cache: &mut PoolCache) -> Arrival {
        self.make_ready(chunk);
        if self.assembler.is_empty() {
            return Arrival::InOrder;
        }
        while let Some(chunk) = self.assembler.pop(self.received, cache) {
            self.make_ready(chunk);
        }
        Arrival::FilledGap
    }

    fn make_ready(&mut self, chunk: Chunk) {
        let len = chunk.len() as u32;
        self.ready.push_back((self.received, chunk));
        self.received += u64::from(len);
        self.nxt += len;
    }

    /// Whether the next bytes are all that is waited for: nothing is held, and no FIN has come.
    pub(super) fn is_plain(&self) -> bool {
        self.is_empty() && self.fin.is_none()
    }

    /// The next `len` bytes have come, and go to the caller past the queue.
    ///
    /// # Panics
    /// Where something else is held that comes first: our own bug.
    pub(super) fn pass(&mut self, len: usize) {
        assert!(self.is_plain(), "what waits comes first");
        self.received += len as u64;
        self.delivered = self.received;
        self.nxt += len as u32;
    }

    /// A segment came again whose payload is at `seq`.
    pub(super) fn note_duplicate(&mut self, seq: SeqNum, payload_len: u32) {
        if payload_len > 0 && seq.before(self.nxt) {
            self.add_duplicate(seq, seq + payload_len);
        }
    }

    /// RFC 2883 §4 has one packet in mind for each acknowledgment; ours are for all that arrived in a turn. What
    /// touches is told as one.
    fn add_duplicate(&mut self, start: SeqNum, end: SeqNum) {
        self.duplicate = Some(match self.duplicate {
            Some((first, last)) if start.at_or_before(last) && first.at_or_before(end) => {
                (first.min(start), last.max(end))
            }
            _ => (start, end),
        });
    }

    /// The peer's FIN stands at `seq`. Ignored where it contradicts what is known.
    pub(super) fn note_fin(&mut self, seq: SeqNum) {
        let ahead = seq.distance(self.nxt);
        if self.fin.is_none() && ahead >= 0 {
            self.fin = Some(self.received + ahead as u64);
        }
    }

    /// Consumes the FIN if all before it has arrived. True once.
    pub(super) fn consume_fin(&mut self) -> bool {
        if self.fin_consumed || self.fin != Some(self.received) {
            return false;
        }
        self.fin_consumed = true;
        self.nxt += 1;
        true
    }

    /// The next payload in order, with its offset.
    pub(super) fn poll(&mut self) -> Option<(u64, Chunk)> {
        let (offset, chunk) = self.ready.pop_front()?;
        self.delivered = offset + chunk.len() as u64;
        Some((offset, chunk))
    }

    /// Whether ranges have changed that no ACK has told of.
    pub(super) fn has_sack_news(&self) -> bool {
        self.assembler.has_news()
    }

    /// At most `room` blocks for an ACK that leaves, the latest first (RFC 2018 §4); a duplicate before all
    /// (RFC 2883 §4).
    pub(super) fn report_sack(&mut self, room: usize) -> SackBlocks {
        let mut blocks = SackBlocks::new();
        let room = room.min(blocks.capacity());
        blocks.extend(self.duplicate.take().into_iter().take(room));
        let mut tells_fin = !self.has_early_fin();
        for (start, end) in self.assembler.report(room - blocks.len()) {
            // RFC 2018 §3 is about sequence space, of which the FIN takes one: its sender may have nothing else to learn
            // from that what precedes it is lost.
            let ends_stream = self.fin == Some(end);
            tells_fin |= ends_stream;
            blocks.push((self.seq_of(start), self.seq_of(end) + u32::from(ends_stream)));
        }
        if let Some(fin) = self.fin.filter(|_| !tells_fin && blocks.len() < room) {
            blocks.push((self.seq_of(fin), self.seq_of(fin) + 1));
        }
        blocks
    }

    fn seq_of(&self, offset: u64) -> SeqNum {
        self.irs + 1 + offset as u32
    }

    /// Gives all chunks back.
    pub(super) fn drop_all(&mut self, cache: &mut PoolCache) {
        self.ready.drain(..).for_each(|(_, chunk)| cache.free_chunk(chunk));
        self.assembler.drop_all(cache);
    }
}
