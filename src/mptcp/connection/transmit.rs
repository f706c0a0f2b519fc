//! Leaving packets: what TCP has to send on its own, then data that the scheduler spreads over subflows.

use super::{Connection, Mode, SendSide};
use crate::base::{Instant, PoolCache, PortId, TxFrame};
use crate::mptcp::emitter::Emitter;
use crate::mptcp::sched::{Candidate, Scheduler};
use crate::mptcp::subflow::{Phase, Subflow};
use crate::tcp::{OutgoingKind, State};
use arrayvec::ArrayVec;

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

/// What the scheduler came to.
enum Scheduled {
    On(usize),
    Blocked,
    Nothing,
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
        let room_at = |port: PortId| rooms.get(port.index()).copied().unwrap_or(0);
        let mut blocked = false;
        let count = self.subflows.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if !self.has_segment(now, index) {
                continue;
            }
            let port = self.subflows[index].path.port;
            if room_at(port) == 0 {
                blocked = true;
                continue;
            }
            self.turn = index;
            match self.emit(now, index, emitter, cache) {
                Some(packet) => return Transmit::Packet(port, packet),
                None => blocked |= !emitter.prepare(cache),
            }
        }
        if self.closed {
            return if blocked { Transmit::Blocked } else { Transmit::Idle };
        }
        match self.schedule(now, room_at, cache) {
            Scheduled::On(index) => {
                self.activity.sent = Some(now);
                let port = self.subflows[index].path.port;
                match self.emit(now, index, emitter, cache) {
                    Some(packet) => Transmit::Packet(port, packet),
                    None => Transmit::Blocked,
                }
            }
            Scheduled::Blocked => Transmit::Blocked,
            Scheduled::Nothing if blocked => Transmit::Blocked,
            Scheduled::Nothing => {
                if self.advance_end(now) {
                    // The end brought something to send.
                    return self.poll_transmit(now, rooms, emitter, cache);
                }
                Transmit::Idle
            }
        }
    }

    /// Whether a subflow has a segment to send by itself. After the end those are resets, and what tells of the end.
    fn has_segment(&mut self, now: Instant, index: usize) -> bool {
        let waits = self.fast_close.is_some() && self.subflows[index].tcb.state() != State::Closed;
        if waits { self.take_fast_close(index) } else { self.subflows[index].tcb.has_to_send(now) }
    }

    fn emit(
        &mut self,
        now: Instant,
        index: usize,
        emitter: &mut Emitter,
        cache: &mut PoolCache,
    ) -> Option<TxFrame> {
        let free = self.receive_free();
        let window = if self.is_multipath() { self.receive.window(free) } else { free };
        let signalling = self.signalling();
        let subflow = &mut self.subflows[index];
        subflow.tcb.set_receive_window(u32::try_from(window).unwrap_or(u32::MAX));
        let (kind, packet) = subflow.emit(now, &signalling, emitter, cache)?;
        match kind {
            OutgoingKind::Syn => self.on_syn_sent(index),
            OutgoingKind::Ack | OutgoingKind::Fin | OutgoingKind::Probe => self.on_farewell_sent(),
            // The reset of a subflow that we end: nothing else will come that tells of its end.
            OutgoingKind::Reset if subflow.tcb.state() == State::Closed => {
                let id = subflow.id;
                self.drain_events(now, id, None, cache);
            }
            OutgoingKind::SynAck | OutgoingKind::Data | OutgoingKind::Reset => {}
        }
        Some(packet)
    }

    /// Puts the next piece of data onto a subflow.
    fn schedule(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Scheduled {
        match self.mode {
            Mode::Offering | Mode::Answering => Scheduled::Nothing,
            Mode::Plain(_) => self.schedule_plain(room_at, cache),
            Mode::Multipath { .. } => self.schedule_multipath(now, room_at, cache),
        }
    }

    fn schedule_plain(&mut self, room_at: impl Fn(PortId) -> usize, cache: &mut PoolCache) -> Scheduled {
        let Some(len) = self.send.unsent_len() else { return Scheduled::Nothing };
        let Some(subflow) = self.subflows.first_mut() else { return Scheduled::Nothing };
        if subflow.phase != Phase::Ready || !subflow.tcb.is_established() {
            return Scheduled::Nothing;
        }
        let Some(limit) = segment_limit(subflow, len, usize::MAX, false) else { return Scheduled::Nothing };
        if room_at(subflow.path.port) == 0 {
            return Scheduled::Blocked;
        }
        let Some(piece) = self.send.take_new(limit, subflow.id, cache.pool()) else {
            return Scheduled::Nothing;
        };
        subflow.tcb.enqueue(piece.chunk, piece.data_seq);
        Scheduled::On(0)
    }

    fn schedule_multipath(
        &mut self,
        now: Instant,
        room_at: impl Fn(PortId) -> usize,
        cache: &mut PoolCache,
    ) -> Scheduled {
        let carrier = self.send.reinjection_carrier();
        // RFC 8684 §3.3.5: up to the right edge of the one window, counted from the DATA_ACK.
        let window = self.send_edge.distance(self.send.next()).max(0) as usize;
        let wanted = self.send.unsent_len().filter(|_| window > 0);
        if carrier.is_none() && wanted.is_none() {
            if self.send.has_unsent() {
                self.arm_data_timer(now); // the window is closed: it will be probed
            }
            return Scheduled::Nothing;
        }
        let mut blocked = false;
        let mut primary_usable = false;
        let mut candidates = ArrayVec::<Candidate, { super::SUBFLOWS_MAX }>::new();
        for subflow in self.subflows.iter().filter(|subflow| subflow.is_usable()) {
            let backup = subflow.is_backup();
            primary_usable |= !backup;
            let len = wanted.unwrap_or(subflow.payload_max(true));
            if segment_limit(subflow, len, window.max(len * usize::from(carrier.is_some())), true).is_none() {
                continue;
            }
            if room_at(subflow.path.port) == 0 {
                blocked = true;
                continue;
            }
            candidates.push(Candidate { id: subflow.id, expected_rtt: subflow.tcb.expected_rtt(), backup });
        }
        let nothing = if blocked { Scheduled::Blocked } else { Scheduled::Nothing };
        if let Some(carrier) = carrier {
            // Pitfall 45: on another subflow. The one that had it keeps it, and may be the only one there is.
            let others: ArrayVec<Candidate, { super::SUBFLOWS_MAX }> = candidates
                .iter()
                .copied()
                .filter(|candidate| candidate.id != carrier || self.subflows.len() == 1)
                .collect();
            if let Some(id) = self.scheduler.pick(&others, primary_usable)
                && let Some(index) = self.index(id)
            {
                let limit = self.subflows[index].payload_max(true);
                if let Some(piece) = self.send.take_reinjection(limit, id, cache.pool()) {
                    self.subflows[index].tcb.enqueue(piece.chunk, piece.data_seq);
                    self.arm_data_timer(now);
                    return Scheduled::On(index);
                }
            }
        }
        let Some(len) = wanted else { return nothing };
        let Some(id) = self.scheduler.pick(&candidates, primary_usable) else { return nothing };
        let Some(index) = self.index(id) else { return nothing };
        let Some(limit) = segment_limit(&self.subflows[index], len, window, true) else { return nothing };
        let Some(piece) = self.send.take_new(limit, id, cache.pool()) else { return nothing };
        self.subflows[index].tcb.enqueue(piece.chunk, piece.data_seq);
        self.arm_data_timer(now);
        Scheduled::On(index)
    }

    /// Everything is on its way: says the end, if the application has. True when there is something new to send.
    fn advance_end(&mut self, now: Instant) -> bool {
        if self.send_side != SendSide::Closing || self.send.has_unsent() {
            return false;
        }
        match self.mode {
            Mode::Offering | Mode::Answering => false,
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

/// How many bytes of a piece of `len` the subflow can take now within `window`; `None` for not now.
fn segment_limit(subflow: &Subflow, len: usize, window: usize, multipath: bool) -> Option<usize> {
    let wanted = len.min(subflow.payload_max(multipath));
    let room = subflow.tcb.send_room().min(window);
    if room >= wanted {
        return Some(wanted);
    }
    // RFC 9293 §3.8.6.2.1: less than a segment only when nothing is on the way that could open the window.
    (room > 0 && subflow.tcb.in_flight() == 0 && subflow.tcb.unsent() == 0).then_some(room)
}
