//! Several segments in one packet, where a packet takes more than a frame holds. The queue knows only segments; these leave
//! together.

use super::Tcb;
use super::output::Outgoing;
use crate::base::pool::{PACKET_FRAMES, TX_PAYLOAD_MAX};
use crate::base::{Chunk, Instant};
use crate::tcp::WindowOwner;
use crate::wire::Mss;

impl Tcb {
    /// Payload bytes of a segment where packets take `mss`. Where that is more than a frame holds, several segments make a packet,
    /// in as many frames ([`Tcb::packs`]).
    pub(super) fn payload_of(&self, mss: Mss, reserved_options: usize) -> usize {
        let options = self.agreed.options_len() + reserved_options;
        let packet = mss.get().saturating_sub(options).max(1);
        if packet <= TX_PAYLOAD_MAX {
            return packet;
        }
        // Even, so that checksums of pieces add up; no longer than fits.
        (packet / frames_of(packet)).min(TX_PAYLOAD_MAX) & !1
    }

    /// Segments that one packet takes at most.
    #[inline]
    pub fn packet_segments(&self, reserved_options: usize) -> usize {
        if self.mss.get() <= TX_PAYLOAD_MAX {
            return 1;
        }
        let options = self.agreed.options_len() + reserved_options;
        frames_of(self.mss.get().saturating_sub(options))
    }

    /// How many segments the next packet can have, of `most`: where a packet takes more than a frame holds, new segments of full
    /// size that follow each other leave in one. One for all that is not that usual.
    pub fn packs(&self, now: Instant, reserved: usize, most: usize) -> usize {
        let most = most.min(self.packet_segments(reserved));
        if most <= 1 || self.owes_sack() || self.path_mtu.probe().is_some() || self.probe.is_due() {
            return 1;
        }
        if !self.is_new_next(now) {
            return 1;
        }
        self.pack_of(self.payload_of(self.mss, reserved), most)
    }

    /// How many new segments of `len` bytes can leave together.
    pub(super) fn pack_of(&self, len: usize, most: usize) -> usize {
        let room = self.window().saturating_sub(u64::from(self.pipe()));
        let room = match self.config.window_owner {
            WindowOwner::Connection => room,
            WindowOwner::Subflow => room.min(self.usable_window().into()),
        };
        let most = most.min((room / len as u64) as usize);
        // The end of what was written says so in its header.
        self.send.new_alike(len, most, !self.more_behind).max(1)
    }

    /// The next so many segments, which [`Tcb::packs`] said could leave in one packet: the payload is that of the first, and those
    /// of the others follow ([`Tcb::sent_last`]).
    pub fn poll_pack(&mut self, now: Instant, segments: usize, reserved: usize) -> Option<Outgoing<'_>> {
        self.now = now;
        let index = self.send.next_new()?;
        self.counters.segments_sent += segments as u64;
        self.emit_segment(now, index, segments, usize::MAX, reserved)
    }

    /// The payloads of the next new segments.
    pub fn sent_next(&self) -> impl Iterator<Item = &Chunk> {
        let next = self.send.segments_in_flight();
        (next..).map_while(|index| self.send.payload(index))
    }

    /// The payloads of the `count` segments that left last for the first time.
    pub fn sent_last(&self, count: usize) -> impl Iterator<Item = &Chunk> {
        let sent = self.send.segments_in_flight();
        (sent.saturating_sub(count)..sent).filter_map(|index| self.send.payload(index))
    }

    /// The others of a pack leave behind the one at `index`.
    #[inline]
    pub(super) fn depart_behind(&mut self, now: Instant, index: usize, segments: usize) {
        if segments <= 1 {
            return;
        }
        for place in index + 1..index + segments {
            let snapshot = self.delivery.snapshot(now, false);
            let departure = self.send.depart(now, place, usize::MAX, snapshot);
            self.on_segment_sent(now, &departure, false, None);
        }
        self.send.note_packed(index, segments);
    }
}

/// Frames that a packet with a payload of so many bytes takes.
fn frames_of(payload: usize) -> usize {
    payload.div_ceil(TX_PAYLOAD_MAX).clamp(1, PACKET_FRAMES)
}
