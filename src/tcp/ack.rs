//! When to acknowledge (RFC 9293 §3.8.6.3, RFC 5681 §4.2): arriving segments are only noted, and one ACK leaves for all
//! that came between two turns of transmission.

use serde::{Deserialize, Serialize};

/// So many ACKs are not delayed at the start of a connection, while the peer is in slow start, and after a gap was filled,
/// when its window is small again: half of a window of three waits for nothing otherwise.
const QUICK_ACKS: u8 = 16;

/// What is owed to the peer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AckSchedule {
    /// Payload that arrived since the last ACK.
    unacked_bytes: u32,
    /// The largest segment so far: what the peer sends as a full one.
    full_bytes: u32,
    immediate: bool,
    /// A segment without payload was asked for.
    requested: bool,
    /// Without SACK: each segment out of order is told by an ACK of its own, as the peer counts them.
    duplicates: u32,
    quick: u8,
}

impl AckSchedule {
    /// Nothing owed.
    pub(super) fn new() -> Self {
        Self {
            unacked_bytes: 0,
            full_bytes: 1,
            immediate: false,
            requested: false,
            duplicates: 0,
            quick: QUICK_ACKS,
        }
    }

    /// Payload arrived in order.
    pub(super) fn on_in_order(&mut self, bytes: usize) {
        let bytes = bytes as u32;
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.full_bytes = self.full_bytes.max(bytes);
    }

    /// Payload arrived out of order, or for the second time.
    pub(super) fn on_out_of_order(&mut self, sack: bool) {
        if sack {
            self.immediate = true;
        } else {
            self.duplicates = self.duplicates.saturating_add(1);
        }
    }

    /// Payload arrived that filled a gap (RFC 5681 §4.2: acknowledged at once).
    pub(super) fn on_filled_gap(&mut self) {
        self.immediate = true;
        self.quick = QUICK_ACKS;
    }

    /// An ACK without payload has to leave at the next turn, before anything else.
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// An ACK has to leave at the next turn; payload may carry it.
    pub(super) fn immediately(&mut self) {
        self.immediate = true;
    }

    /// What was asked for need not be without payload.
    pub(super) fn let_payload_carry(&mut self) {
        self.immediate |= std::mem::take(&mut self.requested);
    }

    /// Whether an ACK has to leave now.
    pub(super) fn is_due(&self) -> bool {
        // RFC 9293 §3.8.6.3: at least for every second full-sized segment.
        self.immediate
            || self.must_be_pure()
            || (self.unacked_bytes > 0 && (self.quick > 0 || self.unacked_bytes >= 2 * self.full_bytes))
    }

    /// Whether an ACK is owed but may wait.
    pub(super) fn is_delayed(&self) -> bool {
        self.unacked_bytes > 0 && !self.is_due()
    }

    /// Whether the ACK must be a segment of its own: it was asked for, or the peer counts those (RFC 5681 §2).
    pub(super) fn must_be_pure(&self) -> bool {
        self.requested || self.duplicates > 0
    }

    /// Whether the peer counts the ACKs that are owed.
    pub(super) fn has_duplicates(&self) -> bool {
        self.duplicates > 0
    }

    /// A segment with our acknowledgment left, and it was `pure`: without payload.
    pub(super) fn on_sent(&mut self, pure: bool) {
        if self.unacked_bytes > 0 {
            self.quick = self.quick.saturating_sub(1);
        }
        self.unacked_bytes = 0;
        self.immediate = false;
        if pure {
            self.requested = false;
            self.duplicates = self.duplicates.saturating_sub(1);
        }
    }

    /// The largest segment so far.
    pub(super) fn full_bytes(&self) -> u32 {
        self.full_bytes
    }

    /// Nothing is owed any more.
    pub(super) fn clear(&mut self) {
        *self = Self { full_bytes: self.full_bytes, quick: self.quick, ..Self::new() };
    }
}

/// RFC 5961 §7: challenge ACKs, and answers to segments that are not acceptable, are limited. For each connection on
/// its own: a limit that all share tells an attacker about others' connections.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ChallengeLimit {
    second: u64,
    sent: u32,
}

impl ChallengeLimit {
    /// Challenge ACKs in a second.
    pub(super) const PER_SECOND: u32 = 10;

    /// Whether one more may be sent.
    pub(super) fn take(&mut self, now: crate::base::Instant) -> bool {
        let second = now.as_millis() / 1000;
        if second != self.second {
            *self = Self { second, sent: 0 };
        }
        self.sent += 1;
        self.sent <= Self::PER_SECOND
    }
}
