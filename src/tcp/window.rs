//! The two windows of RFC 9293 §3.8.6: the one that we show the peer, and the one that it shows us.

use crate::base::SeqNum;
use crate::tcp::WindowOwner;
use serde::{Deserialize, Serialize};

/// The most that is accepted beyond the next expected byte: sequence numbers compare within 2^31.
const ACCEPT_MAX: u64 = 1 << 30;
/// What is shown until the caller has said what there is room for: the most that a SYN can show.
const UNTOLD: u32 = u16::MAX as u32;

/// What we let the peer send. Offsets are those of the peer's stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReceiveWindow {
    owner: WindowOwner,
    shift: u8,
    /// A full segment.
    segment_bytes: u32,
    /// Owner Subflow: the offset behind the last byte that there is room for.
    edge: u64,
    /// The furthest edge that a header has shown.
    shown_edge: u64,
    /// Owner Connection: the window that headers show.
    exact: u32,
    /// The largest window that a header has shown.
    largest: u32,
}

impl ReceiveWindow {
    /// Not scaled, and room for what a SYN can promise.
    pub(super) fn new(owner: WindowOwner, segment_bytes: u32) -> Self {
        let edge = u64::from(UNTOLD);
        Self { owner, shift: 0, segment_bytes, edge, shown_edge: 0, exact: UNTOLD, largest: 0 }
    }

    /// The agreed shift of our window.
    pub(super) fn set_shift(&mut self, shift: u8) {
        self.shift = shift;
    }

    /// Who owns the window from now on; `received` bytes have arrived.
    pub(super) fn set_owner(&mut self, owner: WindowOwner, received: u64) {
        match owner {
            WindowOwner::Connection => self.exact = self.shown(received),
            WindowOwner::Subflow => self.edge = self.shown_edge.max(received),
        }
        self.owner = owner;
    }

    /// There is room for `bytes` behind the first `delivered` bytes of the stream, of which `received` have arrived.
    /// True when the peer should hear of it at once.
    pub(super) fn set(&mut self, bytes: u32, delivered: u64, received: u64) -> bool {
        self.exact = bytes;
        if self.owner == WindowOwner::Connection {
            return false;
        }
        // RFC 9293 §3.8.6: a receiver must not move the right edge to the left. §3.8.6.2.2: nor by small steps to the
        // right.
        let edge = delivered + u64::from(bytes);
        let step = u64::from(self.segment_bytes.min(self.largest / 2));
        self.edge = if edge >= self.shown_edge + step { edge } else { self.shown_edge };
        let before = self.shown_edge.saturating_sub(received);
        let after = u64::from(self.shown(received));
        // ACKs tell the rest. A window that has doubled is worth a segment of its own.
        self.shown_edge > 0 && after > before && after >= 2 * before
    }

    /// The window in bytes as the next header would show it.
    pub(super) fn shown(&self, received: u64) -> u32 {
        u32::from(self.field(received)) << self.shift
    }

    fn field(&self, received: u64) -> u16 {
        let bytes = match self.owner {
            WindowOwner::Connection => u64::from(self.exact),
            WindowOwner::Subflow => {
                let room = self.edge.saturating_sub(received) >> self.shift << self.shift;
                // Rounding down must not take back what was shown.
                room.max(self.shown_edge.saturating_sub(received).next_multiple_of(1 << self.shift))
            }
        };
        (bytes >> self.shift).min(u64::from(u16::MAX)) as u16
    }

    /// The header field of a segment that leaves now.
    pub(super) fn show(&mut self, received: u64) -> u16 {
        let field = self.field(received);
        let bytes = u32::from(field) << self.shift;
        self.largest = self.largest.max(bytes);
        self.shown_edge = self.shown_edge.max(received + u64::from(bytes));
        field
    }

    /// The header field of a SYN, which is never scaled (RFC 7323 §2.2).
    pub(super) fn show_on_syn(&mut self) -> u16 {
        let bytes = match self.owner {
            WindowOwner::Connection => u64::from(self.exact),
            WindowOwner::Subflow => self.edge,
        };
        let field = bytes.min(u64::from(u16::MAX)) as u16;
        self.largest = self.largest.max(u32::from(field));
        self.shown_edge = self.shown_edge.max(u64::from(field));
        field
    }

    /// The offset behind the last byte that is accepted.
    pub(super) fn accepted_to(&self, received: u64) -> u64 {
        match self.owner {
            WindowOwner::Subflow => self.edge.max(self.shown_edge).min(received + ACCEPT_MAX),
            // RFC 8684 §3.3.1: the window is relative to the DATA_ACK, which may lag behind this subflow's bytes;
            // the connection checks its own edge. Here it is only a bound on what a blind attacker can hit.
            WindowOwner::Connection => received + (2 * u64::from(self.largest)).min(ACCEPT_MAX),
        }
    }
}

/// What the peer lets us send (RFC 9293 §3.3.1: SND.WND, SND.WL1, SND.WL2).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SendWindow {
    shift: u8,
    window: u32,
    largest: u32,
    /// Sequence and acknowledgment number of the segment that set the window.
    updated_by: (SeqNum, SeqNum),
}

impl SendWindow {
    /// From the peer's SYN. Its window is not scaled (RFC 7323 §2.2).
    pub(super) fn new(shift: u8, window: u16, seq: SeqNum, ack: SeqNum) -> Self {
        let window = u32::from(window);
        // RFC 7323 §2.3: a shift above 14 is read as 14.
        Self { shift: shift.min(14), window, largest: window, updated_by: (seq, ack) }
    }

    /// A header's window in bytes.
    pub(super) fn scale(&self, field: u16) -> u32 {
        u32::from(field) << self.shift
    }

    /// RFC 9293 §3.10.7.4 fifth: takes the window of a segment that is not older than the one that set it. True when
    /// the window, in bytes, is another one.
    pub(super) fn update(&mut self, seq: SeqNum, ack: SeqNum, window: u32) -> bool {
        let (wl1, wl2) = self.updated_by;
        if !(wl1.before(seq) || (wl1 == seq && wl2.at_or_before(ack))) {
            return false;
        }
        let changed = window != self.window;
        self.window = window;
        self.largest = self.largest.max(window);
        self.updated_by = (seq, ack);
        changed
    }

    /// The window in bytes from SND.UNA.
    pub(super) fn bytes(&self) -> u32 {
        self.window
    }

    /// The largest that the peer has shown (RFC 5961's MAX.SND.WND).
    pub(super) fn largest(&self) -> u32 {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_edge_never_moves_back() {
        let mut window = ReceiveWindow::new(WindowOwner::Subflow, 1460);
        window.set(1 << 20, 0, 0);
        assert_eq!(window.show_on_syn(), u16::MAX);
        window.set_shift(8);
        assert_eq!(window.show(0), (1 << 20 >> 8) as u16);
        // 1000 bytes arrived and nobody read them: the same edge, and the field is rounded up to keep it.
        window.set((1 << 20) - 5000, 1000, 1000);
        let shown = u64::from(window.show(1000)) << 8;
        assert!(1000 + shown >= 1 << 20, "{shown}");
        assert!(window.accepted_to(1000) >= 1000 + shown);
        window.set(0, 1 << 20, 1 << 20);
        assert!(window.shown(1 << 20) <= 256);
    }

    #[test]
    fn a_window_that_opens_is_told_at_once_and_small_steps_are_not() {
        let mut window = ReceiveWindow::new(WindowOwner::Subflow, 200);
        window.set(1000, 0, 0);
        window.show(0);
        assert!(!window.set(1000, 100, 1000), "a hundred bytes were read");
        assert_eq!(window.show(1000), 0);
        assert!(window.set(1000, 200, 1000), "two hundred are a segment");
        assert_eq!(window.show(1000), 200);
        assert!(!window.set(1000, 399, 1100));
        assert!(window.set(1000, 400, 1100), "from 100 to 300");
        window.show(1100);
        assert!(!window.set(1000, 600, 1100), "from 300 to 500");
    }

    #[test]
    fn a_window_of_the_connection_is_shown_as_it_is() {
        let mut window = ReceiveWindow::new(WindowOwner::Connection, 1460);
        window.set_shift(4);
        window.set(1 << 18, 0, 0);
        assert_eq!(window.show(0), 1 << 14);
        window.set(1 << 10, 0, 1 << 18);
        assert_eq!(window.show(1 << 18), 1 << 6);
        assert_eq!(window.accepted_to(1 << 18), (1 << 18) + (1 << 19));
    }

    #[test]
    fn the_peers_window_follows_the_newest_segment() {
        let at = SeqNum::new;
        let mut window = SendWindow::new(20, 500, at(9), at(100));
        assert_eq!((window.bytes(), window.scale(1)), (500, 1 << 14));
        assert!(window.update(at(10), at(100), 9000));
        assert!(!window.update(at(9), at(200), 1), "older");
        assert!(!window.update(at(10), at(101), 9000), "the same");
        assert!(window.update(at(10), at(101), 0));
        assert_eq!((window.bytes(), window.largest()), (0, 9000));
    }
}
