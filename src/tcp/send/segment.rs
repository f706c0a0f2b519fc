//! One segment of the send queue, and what an acknowledgment tells of segments.

use crate::base::{Chunk, DataSeq, Instant, PoolCache, SeqNum};
use crate::tcp::delivery::Snapshot;
use serde::{Deserialize, Serialize};

/// The how manieth transmission of the connection something was; it wraps. RFC 8985 compares times of transmission and
/// breaks ties by sequence number; the order itself has no ties, though a whole batch leaves at one point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::tcp) struct TransmitOrder(u32);

impl TransmitOrder {
    /// The one behind it.
    pub(in crate::tcp) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Whether it left later than `other`.
    pub(in crate::tcp) fn is_after(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }
}

/// A transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct Transmission {
    /// When it left.
    pub(in crate::tcp) sent_at: Instant,
    /// Before and behind which others.
    pub(in crate::tcp) order: TransmitOrder,
    /// What had been delivered by then.
    pub(in crate::tcp) snapshot: Snapshot,
}

/// One segment of the queue.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) seq: SeqNum,
    /// The payload; none for the FIN.
    pub(super) chunk: Option<Chunk>,
    /// The caller's tag of the first byte.
    pub(super) data_seq: DataSeq,
    /// When it was sent last.
    pub(super) sent_at: Instant,
    /// What had been delivered when it was sent last.
    pub(super) snapshot: Snapshot,
    pub(super) order: TransmitOrder,
    /// How often it was sent.
    pub(super) transmissions: u8,
    /// The peer holds it (SACK).
    pub(super) sacked: bool,
    /// Its first transmission is taken to be lost: that no longer counts as in the network.
    pub(super) lost: bool,
    /// A retransmission of it is in the network.
    pub(super) resent: bool,
    /// It left in one packet with others, for the first time.
    pub(super) packed: bool,
    /// Nobody else needs the bytes in front of the payload.
    pub(super) in_place: bool,
    /// The hold on the frame belongs to a later segment of the queue, which was split off this one. So long as the
    /// queue is emptied from the front, the frame is there.
    pub(super) lent: bool,
}

impl Segment {
    /// When it was sent last.
    pub(super) fn transmission(&self) -> Transmission {
        let Segment { sent_at, order, snapshot, .. } = *self;
        Transmission { sent_at, order, snapshot }
    }

    /// Never sent.
    pub(super) fn new(seq: SeqNum, chunk: Option<Chunk>, data_seq: DataSeq) -> Self {
        Self {
            seq,
            chunk,
            data_seq,
            sent_at: Instant::ZERO,
            snapshot: Snapshot::default(),
            order: TransmitOrder::default(),
            transmissions: 0,
            sacked: false,
            lost: false,
            resent: false,
            packed: false,
            in_place: true,
            lent: false,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.chunk.as_ref().map_or(1, |chunk| chunk.len() as u32)
    }

    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.len()
    }

    /// RFC 6675 §4 SetPipe: what it adds to the estimate of bytes in the network.
    pub(super) fn pipe(&self) -> u32 {
        if self.sacked { 0 } else { self.len() * (u32::from(!self.lost) + u32::from(self.resent)) }
    }

    /// Whether it has to be repaired.
    pub(super) fn is_lost(&self) -> bool {
        self.lost && !self.sacked
    }

    /// Whether it waits for its retransmission.
    pub(super) fn is_due(&self) -> bool {
        self.is_lost() && !self.resent
    }

    /// Whether its only transmission is still thought to be in the network.
    pub(super) fn is_original_in_flight(&self) -> bool {
        !self.sacked && !self.lost && self.transmissions == 1
    }

    /// Whether a retransmission of it is thought to be in the network.
    pub(super) fn is_resent_in_flight(&self) -> bool {
        !self.sacked && self.resent
    }

    pub(super) fn release(self, cache: &mut PoolCache) {
        match self.chunk {
            Some(chunk) if self.lent => {
                chunk.frame.give_up_alias();
            }
            Some(chunk) => cache.free_chunk(chunk),
            None => {}
        }
    }
}

/// What an acknowledgment tells of segments: each is counted when its delivery is news, and never again.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct News {
    /// Whether SND.UNA advanced.
    pub(in crate::tcp) advanced: bool,
    /// Bytes of sequence space whose delivery is news, cumulatively or selectively acknowledged.
    pub(in crate::tcp) bytes: u32,
    /// Those of them that were selectively acknowledged.
    pub(in crate::tcp) sacked_bytes: u32,
    /// Segments that are done: acknowledged cumulatively, whether it was news or not.
    pub(in crate::tcp) segments: u32,
    /// When the latest segment was sent that is acknowledged cumulatively now, unless one of those was sent twice (Karn,
    /// RFC 6298 §3): then the others may have waited at the peer until that hole was filled.
    pub(in crate::tcp) measured_from: Option<Instant>,
    /// RFC 8985 §6.2 step 2: the most recently sent segment among those whose delivery is news and beyond doubt.
    pub(in crate::tcp) latest: Option<Transmission>,
    /// The lowest end of a segment that was sent once and whose delivery is news.
    pub(in crate::tcp) lowest_original: Option<SeqNum>,
    /// The highest end of a segment whose delivery is news.
    pub(in crate::tcp) highest: Option<SeqNum>,
    /// Whether segments are among them that left in a packet with others, and only once; and how many left so, and then alone.
    pub(in crate::tcp) packs: (bool, u32),
    /// RFC 8985 §6.2 step 2: a retransmission that left later than this can't have been acknowledged yet.
    credible: Instant,
    /// The echoed timestamp says that it was not the retransmission of the first segment that arrived.
    first_is_doubtful: bool,
    sent_twice: bool,
}

impl News {
    /// Nothing yet. `credible`: a round trip before now. `first_is_doubtful`: the timestamp that the acknowledgment
    /// echoes is older than the retransmission of the segment at SND.UNA.
    pub(in crate::tcp) fn new(credible: Instant, first_is_doubtful: bool) -> Self {
        Self {
            advanced: false,
            bytes: 0,
            sacked_bytes: 0,
            segments: 0,
            measured_from: None,
            latest: None,
            lowest_original: None,
            highest: None,
            packs: (false, 0),
            credible,
            first_is_doubtful,
            sent_twice: false,
        }
    }

    /// The delivery of `segment` is news.
    pub(super) fn add(&mut self, segment: &Segment) {
        let end = segment.end();
        self.bytes += segment.len();
        self.highest = Some(self.highest.map_or(end, |highest| highest.max(end)));
        if segment.packed {
            let (arrived, alone) = &mut self.packs;
            *arrived |= segment.transmissions == 1;
            *alone += u32::from(segment.transmissions > 1);
        }
        let is_first = std::mem::take(&mut self.first_is_doubtful);
        if segment.transmissions == 1 {
            self.lowest_original = Some(self.lowest_original.map_or(end, |lowest| lowest.min(end)));
        } else if is_first || segment.sent_at > self.credible {
            // RFC 8985 §6.2 step 2: it may be the earlier transmission that arrived. Its first check, by the echoed
            // timestamp, serves only for the segment that advances SND.UNA: the peer echoes what it received there, and
            // not what it received beyond (RFC 7323 §4.3).
            return;
        }
        if self.latest.is_none_or(|latest| segment.order.is_after(latest.order)) {
            self.latest = Some(segment.transmission());
        }
    }

    /// `segment` is acknowledged cumulatively, and done.
    pub(super) fn add_done(&mut self, segment: &Segment) {
        self.segments += 1;
        if !segment.sacked {
            self.measured_from = Some(segment.sent_at);
            self.add(segment);
        }
        self.first_is_doubtful = false;
        self.sent_twice |= segment.transmissions > 1;
        if self.sent_twice {
            self.measured_from = None;
        }
    }
}
