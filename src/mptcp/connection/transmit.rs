//! Leaving packets: what TCP has to send on its own, then data that `schedule.rs` puts onto subflows.

use super::schedule::Scheduled;
use super::{Connection, Mode, SendSide};
use crate::base::time::Duration;
use crate::base::{Instant, PoolCache, PortId, TxFrame};
use crate::mptcp::emitter::Emitter;
use crate::mptcp::subflow::Emitted;
use crate::tcp::{OutgoingKind, State};

/// How long something is held back at most while no subflow's time-out is known (RFC 9293 §3.8.6.2.1: 0.1 to 1 s).
const HOLD_MAX: Duration = Duration::from_millis(200);

/// What [`Connection::poll_transmit`] gave.
#[derive(Debug)]
pub enum Transmit {
    /// A packet for a port.
    Packet(PortId, TxFrame),
    /// There is something to send, and no room at its port, or no frame.
    Blocked,
    /// There is nothing to send.
    Idle,
}

impl Connection {
    /// The next packet. `rooms` says how many each port takes; `emitter` writes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        rooms: &[usize],
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Transmit {
        if !self.closed && self.waits_for_data(now, cache) {
            return Transmit::Idle;
        }
        let room_at = |port: PortId| rooms.get(port.index()).copied().unwrap_or(0);
        if !self.closed
            && let Some(index) = self.go_on(now, room_at, cache)
        {
            return self.emit_scheduled(now, index, room_at, emitter, cache);
        }
        self.feed_loss_probe(now, cache);
        // RFC 9293 §3.8.6.3: ACKs leave with data. Of more than a segment they need not wait.
        let rides =
            !self.closed && self.send.has_unsent() && self.send.unsent_bytes() <= self.chunk_len() as u64;
        let own = self.poll_own(now, room_at, rides, emitter, cache);
        if self.closed || matches!(own, Transmit::Packet(..)) {
            return own;
        }
        let blocked = match self.schedule(now, room_at, cache) {
            Scheduled::On(index) => return self.emit_scheduled(now, index, room_at, emitter, cache),
            Scheduled::Blocked => true,
            Scheduled::Nothing => matches!(own, Transmit::Blocked),
        };
        // Where the data does not leave, its NIC being full or its window closed, ACKs do not wait for it.
        if rides && let own @ Transmit::Packet(..) = self.poll_own(now, room_at, false, emitter, cache) {
            return own;
        }
        if blocked {
            return Transmit::Blocked;
        }
        if self.advance_end(now) {
            // The end brought something to send.
            return self.poll_transmit(now, rooms, emitter, cache);
        }
        self.subflows.note_nothing_to_queue();
        Transmit::Idle
    }

    /// The next packet that a subflow has to send by itself. With `rides`, no ACK that could leave with data.
    fn poll_own(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        rides: bool,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Transmit {
        let mut blocked = false;
        let mut places = match self.fast_close {
            None => self.subflows.not_silent(now),
            Some(_) => self.subflows.places(),
        };
        let turn = self.turn;
        while let Some(index) = places.take_from(turn) {
            if !self.has_segment(now, index) || (rides && self.subflows.would_ride(now, index)) {
                continue;
            }
            let port = self.subflows[index].path.port;
            if room_at(port) == 0 {
                blocked = true;
                continue;
            }
            self.turn = index;
            match self.emit(now, index, room_at(port), emitter, cache) {
                Some(packet) => return Transmit::Packet(port, packet),
                None => blocked |= !emitter.prepare(cache),
            }
        }
        if blocked { Transmit::Blocked } else { Transmit::Idle }
    }

    /// Whether it has nothing to send but acknowledgments, and they need not leave at once: what the application answers may
    /// carry them.
    pub fn only_acknowledges(&self, now: Instant) -> bool {
        !self.closed
            && self.fast_close.is_none()
            && !self.send.has_unsent()
            && self.subflows.iter().all(|subflow| subflow.tcb.may_wait_for_payload(now))
    }

    /// A piece was put onto this subflow. Where packets take several, more follow it.
    fn emit_scheduled(
        &mut self,
        now: Instant,
        index: usize,
        room_at: impl Fn(PortId) -> usize,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Transmit {
        self.activity.sent = Some(now);
        let port = self.subflows[index].path.port;
        let mut frames = self.subflows[index].packet_segments(self.is_multipath());
        if frames > 1 {
            frames = frames.min(room_at(port));
            self.fill_packet(now, frames, &room_at, cache);
        }
        let packet = match self.emit_following(now, index, emitter, cache) {
            None => self.emit(now, index, frames, emitter, cache),
            packet => packet,
        };
        packet.map_or(Transmit::Blocked, |packet| Transmit::Packet(port, packet))
    }

    /// What else its packet has room for is put onto the subflow of the run.
    #[cold]
    fn fill_packet(
        &mut self,
        now: Instant,
        frames: usize,
        room_at: &dyn Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) {
        for _ in 1..frames {
            if self.go_on(now, room_at, cache).is_none() {
                return;
            }
        }
    }

    /// Whether a subflow has a segment to send by itself. After the end those are resets, and what tells of the end.
    fn has_segment(&mut self, now: Instant, index: usize) -> bool {
        let waits = self.fast_close.is_some() && self.subflows[index].tcb.state() != State::Closed;
        if waits { self.take_fast_close(index) } else { self.subflows.has_to_send(now, index) }
    }

    fn emit(
        &mut self,
        now: Instant,
        index: usize,
        frames: usize,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        let free = self.receive_free();
        let window = if self.is_multipath() { self.receive.window(free) } else { free };
        let signalling = self.signalling();
        let subflow = &mut self.subflows[index];
        subflow.tcb.set_receive_window(u32::try_from(window).unwrap_or(u32::MAX));
        let runs = self.run.is_some();
        let Emitted { kind, packet, segments, pattern } =
            subflow.emit(now, &signalling, (runs, frames), emitter, cache)?;
        self.keep_pattern(pattern.map(|pattern| (pattern, segments)));
        match kind {
            OutgoingKind::Syn => self.on_syn_sent(index),
            OutgoingKind::Ack | OutgoingKind::Fin | OutgoingKind::Probe => self.on_farewell_sent(),
            // The reset of a subflow that we end: nothing else will come that tells of its end.
            OutgoingKind::Reset if self.subflows[index].tcb.state() == State::Closed => {
                let id = self.subflows[index].id;
                self.drain_events(now, id, None, cache);
            }
            OutgoingKind::SynAck | OutgoingKind::Data | OutgoingKind::Reset => {}
        }
        Some(packet)
    }

    /// Whether the end of what was written does not fill a segment and has to wait for more, or for an acknowledgment.
    /// Not behind the last word (RFC 9293 §3.7.4 is about what may still grow).
    pub(super) fn holds_back(&mut self, now: Instant) -> bool {
        if !self.batching.holds(self.send.una(), self.send.next())
            || self.send_side != SendSide::Open
            || !self.send.has_unsent()
        {
            return false;
        }
        if self.send.unsent_bytes() >= self.chunk_len() as u64 {
            return false;
        }
        let wait = self.best_subflow().map_or(HOLD_MAX, |index| self.subflows[index].tcb.rto());
        self.batching.hold(now + wait);
        true
    }

    /// Everything is on its way: says the end, if the application has. True when there is something new to send.
    fn advance_end(&mut self, now: Instant) -> bool {
        if self.send_side != SendSide::Closing || self.send.has_unsent() {
            return false;
        }
        match self.mode {
            Mode::Offering | Mode::Answering => false,
            // RFC 9293 §3.10.4 would end a connection in SYN-SENT; but this one has sent data.
            Mode::Plain(_) if self.is_opening_with_data() => false,
            Mode::Plain(_) => {
                self.send_side = SendSide::FinSent;
                self.subflows.iter_mut().for_each(|subflow| subflow.tcb.close(now));
                true
            }
            Mode::Multipath { .. } => {
                let Some(index) = self.best_subflow() else { return false };
                // RFC 8684 §3.3.3: the DATA_FIN, which every pure ACK carries until it is acknowledged.
                self.send_side = SendSide::FinSent;
                self.subflows[index].tcb.request_ack();
                self.arm_data_timer(now);
                true
            }
        }
    }
}
