//! A run: one decision of the scheduler that holds for several segments of new data, sent in a row. To ask for each what the
//! subflows have to send by themselves, and which of them is to carry it, costs as much as to write it.
//!
//! Nothing depends on a run going on. What another subflow has to send meanwhile waits for a few packets; and whatever is
//! not as usual ends it, so that the next segment is decided upon as a first one is.

use super::{Connection, Mode, SendSide};
use crate::base::{Instant, PoolCache, PortId, TxFrame};
use crate::mptcp::emitter::{Emitter, PatternId};
use crate::mptcp::sched::Scheduler;
use crate::mptcp::signalling::DATA_OPTIONS;
use crate::mptcp::subflow_set::{SubflowSet, SubflowSlot};

/// Segments of one run at most: what Linux's scheduler gives at once, 64 KiB, is some more.
const RUN_MAX: u64 = 32;
/// A run takes this part of the congestion window at most, so that the flight, by which subflows are compared, grows in
/// small steps; and of what waits to be sent, so that the end of it is spread as finely as it was.
const RUN_PART: u64 = 16;

/// What is left of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    index: usize,
    slot: SubflowSlot,
    /// It does not outlast the point in time that it began at.
    at: Instant,
    /// Segments that may still follow.
    left: u32,
    /// The headers of the last packet, while nothing has arrived since, and how many segments it had.
    pattern: Option<(PatternId, usize)>,
    /// Its payload, in bytes.
    segment: usize,
}

impl Connection {
    /// A segment of new data was given to the subflow at `index`, and to no other: more may follow it there.
    pub(super) fn begin_run(&mut self, now: Instant, index: usize) {
        let subflow = &self.subflows[index];
        let multipath = self.is_multipath();
        let segment = subflow.payload_max(multipath) as u64;
        let waiting = self.send.unsent_bytes() / RUN_PART;
        // With a single subflow there is nothing to compare.
        let part = match self.subflows.len() {
            1 => self.send.unsent_bytes(),
            _ => waiting.min(subflow.tcb.congestion_window() / RUN_PART),
        };
        let more = (part / segment).min(RUN_MAX) as usize;
        // Its last packet is a full one, too: one of several frames costs the kernel hardly more than one of a single frame.
        let left = (1 + more).next_multiple_of(subflow.packet_segments(multipath)) as u32 - 1;
        let runs = left > 0 && (!multipath || self.scheduler.runs()) && self.send_side == SendSide::Open;
        self.run =
            runs.then_some(Run { index, slot: subflow.slot, at: now, left, pattern: None, segment: 0 });
    }

    /// Puts the next segment of the run onto its subflow; that one's index. `None` where there is no run, or it has to end.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Option<usize> {
        let run = self.run.take().filter(|run| run.left > 0)?;
        let Run { index, slot, at, .. } = run;
        let multipath = match self.mode {
            Mode::Multipath { .. } => true,
            Mode::Plain(_) => false,
            Mode::Offering | Mode::Answering => return None,
        };
        let subflow =
            self.subflows.get(index).filter(|subflow| subflow.slot == slot && subflow.is_usable())?;
        let segment = subflow.payload_max(multipath);
        // A segment's worth in one piece: nothing that might be held back.
        let is_usual = at == now
            && self.send_side == SendSide::Open
            && self.fast_close.is_none()
            && self.send.unsent_len()? >= segment
            && self.send.unsent_bytes() > segment as u64
            && !self.send.has_reinjections();
        if !is_usual || room_at(subflow.path.port) == 0 || subflow.tcb.send_room() < segment {
            return None;
        }
        if multipath {
            // The one window, and what this subflow has shown of it.
            if self.window_left().min(subflow.window_left()) < segment {
                return None;
            }
            self.arm_data_timer(now);
        }
        let piece = self.send.take_new(segment, SubflowSet::of(slot), cache.pool())?;
        self.subflows[index].tcb.enqueue(piece.chunk, piece.data_seq);
        self.on_new_enqueued(index, true);
        self.run = Some(Run { left: run.left - 1, segment, ..run });
        Some(index)
    }

    /// Something has arrived, or was read: what the headers say may have changed.
    pub(super) fn forget_pattern(&mut self) {
        self.keep_pattern(None);
    }

    /// Writes the segment that [`Connection::go_on`] has put onto the subflow at `index`, as one that follows another.
    pub(super) fn emit_following(
        &mut self,
        now: Instant,
        index: usize,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        let Run { pattern: Some((pattern, segments)), segment, .. } = self.run? else { return None };
        let reserved = if self.is_multipath() { DATA_OPTIONS } else { 0 };
        let subflow = &mut self.subflows[index];
        let packet = subflow.emit_following(now, pattern, (segment, segments, reserved), emitter, cache)?;
        #[cfg(debug_assertions)]
        {
            let signalling = self.signalling();
            let subflow = &mut self.subflows[index];
            subflow.check_following(now, &signalling, (&packet, segment, segments), emitter, cache.pool());
        }
        Some(packet)
    }

    /// The headers of the run's packet that was just written, of so many segments, are kept, or not.
    pub(super) fn keep_pattern(&mut self, pattern: Option<(PatternId, usize)>) {
        if let Some(run) = &mut self.run {
            run.pattern = pattern;
        }
    }
}
