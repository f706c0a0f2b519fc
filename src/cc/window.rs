//! The congestion window and the slow start threshold, with the limits that every algorithm keeps.

use serde::{Deserialize, Serialize};

/// Sequence numbers compare within 2^31, so what is in flight has to stay well below that.
const WINDOW_MAX: u64 = 1 << 30;

/// A congestion window in bytes, with its slow start threshold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    cwnd: u64,
    ssthresh: u64,
    segment_bytes: u64,
    /// Window and threshold before the last reduction, to go back to if it turns out to have been for nothing.
    saved: Option<(u64, u64)>,
}

impl Window {
    /// A window of `cwnd` bytes, in slow start.
    pub fn new(segment_bytes: u64, cwnd: u64) -> Self {
        // RFC 5681 §3.1: ssthresh SHOULD start arbitrarily high.
        Self { cwnd: cwnd.max(segment_bytes), ssthresh: u64::MAX, segment_bytes, saved: None }
    }

    /// RFC 6928 §2: min(10 * MSS, max(2 * MSS, 14600)).
    pub fn initial(segment_bytes: u64) -> u64 {
        (10 * segment_bytes).min((2 * segment_bytes).max(14_600))
    }

    /// The window in bytes.
    pub fn cwnd(&self) -> u64 {
        self.cwnd
    }

    /// The threshold in bytes.
    pub fn ssthresh(&self) -> u64 {
        self.ssthresh
    }

    /// Payload bytes of a full segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Changes the size of a full segment; the window keeps its bytes, but holds at least one.
    pub fn set_segment_bytes(&mut self, segment_bytes: u64) {
        self.segment_bytes = segment_bytes;
        self.cwnd = self.cwnd.max(segment_bytes);
    }

    /// Whether slow start applies (RFC 5681 §3.1: cwnd < ssthresh).
    pub fn is_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Whether a window of which at most `flight_bytes` were used is full enough to grow (RFC 7661 §4.4: a sender that
    /// is not limited by its window must not enlarge it). In slow start the next round trip may double what is in
    /// flight, so half is enough.
    pub fn is_used(&self, flight_bytes: u64) -> bool {
        match self.is_slow_start() {
            true => self.cwnd < 2 * flight_bytes,
            false => flight_bytes + self.segment_bytes >= self.cwnd,
        }
    }

    /// Grows the window.
    pub fn grow(&mut self, bytes: u64) {
        self.cwnd = (self.cwnd + bytes).min(WINDOW_MAX);
    }

    /// Sets the window; it never holds less than a segment.
    pub fn set_cwnd(&mut self, bytes: u64) {
        self.cwnd = bytes.clamp(self.segment_bytes, WINDOW_MAX);
    }

    /// Halves the window; and the threshold, outside of slow start.
    pub fn penalise(&mut self) {
        if !self.is_slow_start() {
            self.set_ssthresh(self.ssthresh / 2);
        }
        self.set_cwnd(self.cwnd / 2);
    }

    /// Sets the threshold. RFC 5681 §3.1 equation 4: at least two segments.
    pub fn set_ssthresh(&mut self, bytes: u64) {
        self.ssthresh = bytes.max(2 * self.segment_bytes);
    }

    /// Ends slow start here.
    pub fn leave_slow_start(&mut self) {
        self.ssthresh = self.cwnd;
    }

    /// Remembers window and threshold before a reduction.
    pub fn save(&mut self) {
        self.saved = Some((self.cwnd, self.ssthresh));
    }

    /// Goes back to what was saved, where that is more. False when nothing was, or it was gone back to already.
    pub fn restore(&mut self) -> bool {
        let Some((cwnd, ssthresh)) = self.saved.take() else { return false };
        self.cwnd = self.cwnd.max(cwnd);
        self.ssthresh = self.ssthresh.max(ssthresh);
        true
    }

    /// RFC 7661 §4.4.3: the window has not been used for so long that it says little about the path any more.
    pub fn decay(&mut self) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        self.cwnd = (self.cwnd / 2).max(Self::initial(self.segment_bytes)).min(self.cwnd);
    }

    /// RFC 5681 §4.1: the restart window is min(IW, cwnd).
    pub fn restart(&mut self) {
        self.cwnd = self.cwnd.min(Self::initial(self.segment_bytes));
    }
}
