//! Where loss recovery stands: RFC 6675 with SACK, RFC 6582 (NewReno) without, RFC 5681 after a time-out. It decides
//! when an episode begins and ends; the send queue knows which segments it is about, the congestion controller what
//! it means for the window.

use crate::base::SeqNum;

/// RFC 5681 §3.2, RFC 6675 §2 (DupThresh).
pub(super) const DUPLICATES_THRESHOLD: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No loss is known.
    Open,
    /// Fast recovery.
    Fast,
    /// After a retransmission time-out.
    Timeout,
}

/// The state of recovery.
#[derive(Debug)]
pub(super) struct Recovery {
    phase: Phase,
    /// What was outstanding when the episode began ends here (RFC 6675's RecoveryPoint, RFC 6582's recover).
    point: Option<SeqNum>,
    /// Duplicate acknowledgments in a row.
    duplicates: u32,
    /// Without SACK: segments beyond the first hole that duplicates tell of (RFC 6582's window inflation, as
    /// segments that have left the network).
    left: u32,
    /// The next retransmission does not ask the window: the first of an episode, and the one that answers a partial
    /// acknowledgment.
    forced: bool,
}

impl Recovery {
    /// No loss.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Open, point: None, duplicates: 0, left: 0, forced: false }
    }

    /// Whether the window grows on acknowledgments: not in fast recovery.
    pub(super) fn lets_grow(&self) -> bool {
        self.phase != Phase::Fast
    }

    /// Whether no episode is under way.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the next retransmission leaves whatever the window says.
    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    /// RFC 6582 §3.2 step 3: a partial acknowledgment found a hole, which is repaired at once.
    pub(super) fn force(&mut self) {
        self.forced = true;
    }

    /// A retransmission has left.
    pub(super) fn on_retransmission(&mut self) {
        self.forced = false;
    }

    /// Without SACK: segments that have left the network beyond the hole.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// A duplicate acknowledgment, without SACK. True when it is the one that tells of loss.
    pub(super) fn on_duplicate(&mut self, una: SeqNum, flight_segments_max: u32) -> bool {
        if self.phase == Phase::Timeout {
            // All that is outstanding is taken to be lost already.
            return false;
        }
        self.duplicates += 1;
        self.left = (self.left + 1).min(flight_segments_max);
        // RFC 6582 §3.2 step 2: not for what an earlier episode has retransmitted.
        let fresh = self.point.is_none_or(|point| una.after(point));
        self.phase == Phase::Open && self.duplicates == DUPLICATES_THRESHOLD && fresh
    }

    /// An episode of fast recovery begins. `nxt` is SND.NXT.
    pub(super) fn enter(&mut self, nxt: SeqNum) {
        self.phase = Phase::Fast;
        self.point = Some(nxt);
        self.forced = true;
    }

    /// The retransmission timer expired.
    pub(super) fn on_timeout(&mut self, nxt: SeqNum) {
        self.phase = Phase::Timeout;
        self.point = Some(nxt);
        self.duplicates = 0;
        self.left = 0;
        self.forced = true;
    }

    /// SND.UNA advanced to `una` over `segments` segments.
    pub(super) fn on_advance(&mut self, una: SeqNum, segments: u32) -> Progress {
        self.duplicates = 0;
        // RFC 6582 §3.2 step 3, partial acknowledgment: what it covers beyond the hole has been counted as left.
        self.left = self.left.saturating_sub(segments.saturating_sub(1));
        let done = self.point.is_none_or(|point| una.at_or_after(point));
        match self.phase {
            Phase::Open => {
                self.left = 0;
                Progress::None
            }
            Phase::Fast | Phase::Timeout if done => {
                self.phase = Phase::Open;
                self.left = 0;
                self.forced = false;
                Progress::Recovered
            }
            Phase::Fast => Progress::Partial,
            Phase::Timeout => Progress::None,
        }
    }

    /// Keeps the recovery point comparable on a long-lived connection: once it lies far behind it says nothing.
    pub(super) fn forget_far_point(&mut self, una: SeqNum) {
        if self.phase == Phase::Open && self.point.is_some_and(|point| una.after(point)) {
            self.point = None;
        }
    }
}

/// What an advance of SND.UNA means for recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing in particular.
    None,
    /// RFC 6582 §3.2: there is another hole, and it begins at SND.UNA.
    Partial,
    /// The episode is over.
    Recovered,
}
