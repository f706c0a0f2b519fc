//! Where loss recovery stands: after a loss (RFC 9937, and RFC 6582 without SACK), after a congestion mark (RFC 3168), or
//! after a time-out (RFC 5681). It decides when an episode begins and ends; the send queue knows which segments it is
//! about, the congestion controller what it means for the window.

use crate::base::SeqNum;
use serde::{Deserialize, Serialize};

/// RFC 5681 §3.2, RFC 8985 §4 (DupThresh).
pub(super) const DUPLICATES_THRESHOLD: u32 = 3;

/// Where it stands. (Linux's ca_state, without Disorder.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Phase {
    /// No loss is known.
    #[default]
    Open,
    /// The window comes down for a congestion mark.
    Reducing,
    /// Fast recovery.
    Fast,
    /// After a retransmission time-out.
    Timeout,
}

/// The state of recovery.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Recovery {
    phase: Phase,
    /// What was outstanding when the episode began ends here (RFC 9937's RecoveryPoint, RFC 6582's recover).
    point: Option<SeqNum>,
    /// Duplicate acknowledgments in a row.
    duplicates: u32,
    /// Without SACK: segments beyond the first hole that duplicates tell of (RFC 6582's window inflation, as
    /// segments that have left the network).
    left: u32,
    /// Without SACK: bytes that duplicates have told to be delivered, and no advance has confirmed (RFC 9937 §5).
    presumed: u32,
    /// The next retransmission does not ask the window: the first of an episode, and the one that answers a partial
    /// acknowledgment.
    forced: bool,
}

impl Recovery {
    /// No loss.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Open, point: None, duplicates: 0, left: 0, presumed: 0, forced: false }
    }

    /// Where it stands.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the window comes down, and does not grow on acknowledgments.
    pub(super) fn is_reducing(&self) -> bool {
        matches!(self.phase, Phase::Fast | Phase::Reducing)
    }

    /// Whether losses are being repaired.
    pub(super) fn is_repairing(&self) -> bool {
        matches!(self.phase, Phase::Fast | Phase::Timeout)
    }

    /// Whether no episode is under way.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether what was outstanding when the last episode began is acknowledged: RFC 5682 §2.1 step 1.
    pub(super) fn is_past(&self, una: SeqNum) -> bool {
        self.point.is_none_or(|point| una.at_or_after(point))
    }

    /// RFC 3168 §6.1.2: whether a congestion mark is to be answered: once a window, and not before the peer can have heard
    /// of the last answer, which is told behind the point where that began.
    pub(super) fn answers_mark(&self, una: SeqNum) -> bool {
        self.phase == Phase::Open && self.point.is_none_or(|point| una.after(point))
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
        let fresh = self.phase == Phase::Reducing || self.point.is_none_or(|point| una.after(point));
        self.phase != Phase::Fast && self.duplicates == DUPLICATES_THRESHOLD && fresh
    }

    /// RFC 9937 §5 (DeliveredData), without SACK: a duplicate stands for a segment, and an advance is counted without
    /// those that stood for it. `bytes` were acknowledged.
    pub(super) fn presume_delivered(&mut self, bytes: u32, duplicate: bool, segment_bytes: u32) -> u32 {
        if self.phase == Phase::Timeout {
            // All is sent again, and duplicates tell of what had arrived before: of nothing new.
            return bytes;
        }
        if duplicate {
            self.presumed += segment_bytes;
            return segment_bytes;
        }
        let known = self.presumed.min(bytes);
        self.presumed -= known;
        bytes - known
    }

    /// An episode of fast recovery begins. `nxt` is SND.NXT.
    pub(super) fn enter(&mut self, nxt: SeqNum) {
        self.begin(Phase::Fast, nxt);
        self.forced = true;
    }

    /// A congestion mark is answered.
    pub(super) fn enter_reducing(&mut self, nxt: SeqNum) {
        self.begin(Phase::Reducing, nxt);
    }

    /// The retransmission timer expired.
    pub(super) fn on_timeout(&mut self, nxt: SeqNum) {
        self.begin(Phase::Timeout, nxt);
        self.duplicates = 0;
        self.left = 0;
        self.forced = true;
    }

    fn begin(&mut self, phase: Phase, nxt: SeqNum) {
        (self.phase, self.point, self.presumed) = (phase, Some(nxt), 0);
    }

    /// The episode was for nothing. `una` is SND.UNA: loss may be detected from there on (RFC 5682 §2.1 step 3b).
    pub(super) fn on_undone(&mut self, una: SeqNum) {
        (self.phase, self.point) = (Phase::Open, Some(una));
        (self.duplicates, self.left, self.forced, self.presumed) = (0, 0, false, 0);
    }

    /// SND.UNA advanced to `una` over `segments` segments.
    pub(super) fn on_advance(&mut self, una: SeqNum, segments: u32) -> Progress {
        self.duplicates = 0;
        // RFC 6582 §3.2 step 3, partial acknowledgment: what it covers beyond the hole has been counted as left.
        self.left = self.left.saturating_sub(segments.saturating_sub(1));
        let done = self.is_past(una);
        match self.phase {
            Phase::Open => {
                self.left = 0;
                Progress::None
            }
            Phase::Reducing | Phase::Fast | Phase::Timeout if done => {
                self.phase = Phase::Open;
                self.left = 0;
                self.forced = false;
                // What duplicates told of is acknowledged by now.
                self.presumed = 0;
                Progress::Recovered
            }
            Phase::Reducing => {
                self.left = 0;
                Progress::None
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
