//! What leaves: one decision ([`Tcb::next`]), then one segment.

use super::{PendingReset, Tcb};
use crate::base::{Chunk, DataSeq, Instant, SeqNum};
use crate::cc::Controller;
use crate::tcp::chrono::Limit;
use crate::tcp::handshake;
use crate::tcp::send::Departure;
use crate::tcp::timer::Timer;
use crate::tcp::{CloseReason, State, TcpEvent, WindowOwner};
use crate::wire::tcp::OPTIONS_MAX;
use crate::wire::{SackBlocks, TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// Kind, length and padding of a SACK option, and each of its blocks (RFC 2018 §3).
const SACK_HEADER: usize = 4;
const SACK_BLOCK: usize = 8;

/// What a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingKind {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// Payload.
    Data,
    /// Nothing but an acknowledgment.
    Ack,
    /// FIN, without payload.
    Fin,
    /// A window probe: an ACK with an old sequence number.
    Probe,
    /// RST.
    Reset,
}

/// The payload of a segment that leaves.
#[derive(Debug)]
pub struct OutgoingPayload<'a> {
    /// The bytes.
    pub chunk: &'a mut Chunk,
    /// The caller's tag of the first byte.
    pub data_seq: DataSeq,
    /// The first byte's offset in our stream; 0 is the first behind the SYN.
    pub offset: u64,
    /// Headers may be written in front of the payload. False when other bytes of a segment are there (it was split,
    /// or its front was acknowledged): then it has to be sent from a copy.
    pub in_place: bool,
}

/// A segment that leaves, but for the caller's options.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The header.
    pub tcp: TcpRepr,
    /// Our options. The caller may add as many bytes as it reserved.
    pub options: TcpOptions,
    /// The payload, for [`OutgoingKind::Data`]; and that of a SYN (RFC 7413).
    pub payload: Option<OutgoingPayload<'a>>,
    /// What it is.
    pub kind: OutgoingKind,
    /// Whether it was sent before.
    pub retransmission: bool,
    /// The ECN bits for its IP header (RFC 3168 §5).
    pub ecn: u8,
}

/// A data segment that follows another in a row: but for these numbers its header is that one's.
#[derive(Debug)]
pub struct Following<'a> {
    /// Its sequence number.
    pub seq: SeqNum,
    /// Its payload.
    pub chunk: &'a mut Chunk,
    /// The caller's tag of the first byte.
    pub data_seq: DataSeq,
    /// The first byte's offset in our stream; 0 is the first behind the SYN.
    pub offset: u64,
}

/// What to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Reset(PendingReset),
    Handshake,
    /// An acknowledgment of less than all, because of what was marked (RFC 8257 §3.2).
    EarlierAck,
    Ack,
    /// The segment at this place again.
    Retransmit(usize),
    /// The segment at this place for the first time, cut to so many bytes.
    New(usize, usize),
    Probe,
}

impl Tcb {
    /// Whether [`Tcb::poll_transmit`] would give a segment.
    pub fn has_to_send(&self, now: Instant) -> bool {
        self.next(now).is_some()
    }

    /// Pacing lets no data leave now, and will later.
    pub fn is_paced_now(&self, now: Instant) -> bool {
        !self.pacing.allows(now)
    }

    /// The next segment to send; it counts as sent. The caller writes the headers and adds its own options: at most
    /// `reserved_options` bytes on a pure ACK (or FIN, or probe), `reserved_options_data` with payload. A SYN, SYN/ACK
    /// and RST leave 20 bytes at least.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        reserved_options: usize,
        reserved_options_data: usize,
    ) -> Option<Outgoing<'_>> {
        self.now = now;
        let next = self.next(now)?;
        self.counters.segments_sent += 1;
        match next {
            Next::Reset(reset) => self.emit_reset(now, reset),
            Next::Handshake => self.emit_handshake(now),
            Next::EarlierAck => self.emit_earlier_ack(now, reserved_options),
            Next::Ack => {
                let seq = self.send.nxt();
                self.emit_ack(now, seq, OutgoingKind::Ack, reserved_options)
            }
            Next::Probe => {
                self.persist.probe_due = false;
                self.counters.probes += 1;
                let seq = self.send.una() - 1;
                self.emit_ack(now, seq, OutgoingKind::Probe, reserved_options)
            }
            Next::Retransmit(index) => {
                let reserved = self.reserved_for(index, reserved_options, reserved_options_data);
                self.emit_segment(now, index, 1, usize::MAX, reserved)
            }
            Next::New(index, window) => {
                let reserved = self.reserved_for(index, reserved_options, reserved_options_data);
                self.emit_segment(now, index, 1, window, reserved)
            }
        }
    }

    /// The next segment, if it is one of `len` new bytes that leaves as the last one did, a data segment that left just now,
    /// and nothing has arrived since; or so many `segments` in one packet, as those that left just now. `None` for whatever is
    /// not that usual: then [`Tcb::poll_transmit`] decides.
    pub fn poll_following(
        &mut self,
        now: Instant,
        len: usize,
        segments: usize,
        reserved: usize,
    ) -> Option<Following<'_>> {
        let is_usual = self.state == State::Established
            && self.reset.is_none()
            && !self.ecn.is_agreed()
            && !self.acks.is_due()
            && !self.owes_sack()
            && !self.probe.is_due()
            && !self.persist.probe_due
            && self.more_behind
            && self.send.flight() > 0
            && len <= self.payload_of(self.mss, reserved);
        if !is_usual || self.send.next_lost().is_some() {
            return None;
        }
        let index = self.send.next_new().filter(|index| self.send.shape(*index) == (len as u32, false))?;
        let room = self.window().saturating_sub(u64::from(self.pipe()));
        if len as u64 > room || self.window_for(index)? < len || !self.pacing.allows(now) {
            return None;
        }
        if segments > 1 && self.pack_of(len, segments) < segments {
            return None;
        }
        self.now = now;
        self.counters.segments_sent += segments as u64;
        let snapshot = self.delivery.snapshot(now, false);
        let departure = self.send.depart(now, index, len, snapshot);
        self.on_segment_sent(now, &departure, false, None);
        self.depart_behind(now, index, segments);
        let (seq, offset) = (departure.seq, self.send.offset(departure.seq));
        let (chunk, data_seq, _) = self.send.payload_mut(index)?;
        Some(Following { seq, chunk, data_seq, offset })
    }

    /// Header, timestamps, tag and offset of the `segments` of `len` bytes each that left last, in one packet, as
    /// [`Tcb::poll_transmit`] would have given them: to compare with.
    #[cfg(debug_assertions)]
    pub fn describe_last(
        &mut self,
        now: Instant,
        (len, segments): (usize, usize),
        reserved: usize,
    ) -> (TcpRepr, Option<Timestamps>, DataSeq, u64) {
        let seq = self.send.nxt() - (len * segments) as u32;
        let index = self.send.last_sent().expect("it has left") + 1 - segments;
        let (_, data_seq, _) = self.send.payload_mut(index).expect("it has payload");
        let tcp = self.header(seq, TcpFlags::ACK);
        (tcp, self.timestamps(now, reserved), data_seq, self.send.offset(seq))
    }

    fn reserved_for(&self, index: usize, without_payload: usize, with_payload: usize) -> usize {
        let (_, fin) = self.send.shape(index);
        if fin { without_payload } else { with_payload }
    }

    /// The order: what ends or begins a connection; an ACK that payload can't stand in for (a full segment has no room
    /// to tell of gaps); what is lost; what is new; what only acknowledges.
    fn next(&self, now: Instant) -> Option<Next> {
        if let Some(reset) = self.reset {
            return Some(Next::Reset(reset));
        }
        match self.state {
            State::Closed => return None,
            State::SynSent => return self.handshake.is_due().then_some(Next::Handshake),
            State::SynReceived if self.handshake.is_due() => return Some(Next::Handshake),
            _ => {}
        }
        if self.ecn.has_change() {
            return Some(Next::EarlierAck);
        }
        let ack_due = self.acks.is_due();
        if ack_due && (self.owes_sack() || self.acks.must_be_pure()) {
            return Some(Next::Ack);
        }
        if self.transmits()
            && let Some(next) = self.next_segment(now)
        {
            return Some(next);
        }
        if self.persist.probe_due {
            return Some(Next::Probe);
        }
        ack_due.then_some(Next::Ack)
    }

    /// Whether the peer counts our ACKs, or they tell of gaps: none stands for another, and none may wait.
    fn must_repeat_acks(&self) -> bool {
        self.owes_sack() || self.acks.has_duplicates()
    }

    /// Whether it has nothing to send but an ACK that may wait for payload, or none.
    pub fn may_wait_for_payload(&self, now: Instant) -> bool {
        match self.next(now) {
            None => true,
            Some(Next::Ack) => !self.must_repeat_acks() && self.send.next_new().is_none(),
            Some(_) => false,
        }
    }

    /// Whether an ACK is all that it has to send, and payload would carry it as well.
    pub fn would_ride(&self, now: Instant) -> bool {
        !self.acks.must_be_pure() && self.may_wait_for_payload(now)
    }

    /// Whether what leaves next is new data.
    pub(super) fn is_new_next(&self, now: Instant) -> bool {
        matches!(self.next(now), Some(Next::New(..)))
    }

    fn next_segment(&self, now: Instant) -> Option<Next> {
        if self.probe.is_due() {
            return self.next_loss_probe();
        }
        let room = self.window().saturating_sub(u64::from(self.pipe()));
        // What is longer than a segment is cut to one; the window always holds one.
        let fits = |len: u32| len.min(self.payload_max(0) as u32) as u64 <= room;
        if let Some(index) = self.send.next_lost().filter(|_| !self.holds_back_lost()) {
            let (len, _) = self.send.shape(index);
            let may_leave = self.recovery.is_forced() || (fits(len) && self.pacing.allows(now));
            return may_leave.then_some(Next::Retransmit(index));
        }
        let index = self.send.next_new()?;
        let window = self.window_for(index)?;
        let (len, fin) = self.send.shape(index);
        if fin && self.state == State::SynReceived {
            // RFC 9293 §3.10.4: a CLOSE in SYN-RECEIVED waits for the end of the handshake.
            return None;
        }
        let fits = fits(len.min(u32::try_from(window).unwrap_or(u32::MAX))) && self.pacing.allows(now);
        // The FIN is no payload, and needs no congestion window.
        (fin || fits).then_some(Next::New(index, window))
    }

    /// RFC 8985 §7.3: new data if there is any that the peer's window takes, or the last segment again. Neither the
    /// congestion window nor pacing is asked.
    fn next_loss_probe(&self) -> Option<Next> {
        if let Some(index) = self.send.next_new()
            && let Some(window) = self.window_for(index)
        {
            return Some(Next::New(index, window));
        }
        self.send.last_sent().map(Next::Retransmit)
    }

    /// How many bytes of a new segment the peer's window takes; none when it has to wait.
    pub(super) fn window_for(&self, index: usize) -> Option<usize> {
        if self.config.window_owner == WindowOwner::Connection {
            return Some(usize::MAX);
        }
        let usable = self.usable_window();
        let (len, _) = self.send.shape(index);
        if len <= usable {
            return Some(len as usize);
        }
        // RFC 9293 §3.8.6.2.1: a part is worth a segment when it is half of the largest window, or late.
        let worth = usable >= self.peer_window.largest() / 2 || self.persist.cut;
        (usable > 0 && worth).then_some(usable as usize)
    }

    // The emit functions never give nothing. They have the type of their caller because `Outgoing` is large: it is
    // written once, where the caller wants it.

    fn emit_reset(&mut self, now: Instant, reset: PendingReset) -> Option<Outgoing<'_>> {
        self.reset = None;
        // RFC 7323 §3.2: a RST SHOULD have them, too.
        let timestamps = self.agreed.timestamps.then(|| self.clock.option(now));
        let (seq, ack, flags) = match reset {
            PendingReset::Answer(seq) => (seq, SeqNum::default(), TcpFlags::RST),
            PendingReset::Abort(expected) => {
                self.events.push(TcpEvent::Closed(CloseReason::Aborted));
                match expected {
                    Some(seq) => (seq, SeqNum::default(), TcpFlags::RST),
                    None => (self.send.nxt(), self.receive.nxt(), TcpFlags::RST | TcpFlags::ACK),
                }
            }
        };
        Some(Outgoing {
            tcp: TcpRepr { seq, ack, flags, window: 0, urgent: 0 },
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            payload: None,
            kind: OutgoingKind::Reset,
            retransmission: false,
            ecn: 0,
        })
    }

    pub(super) fn emit_handshake(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let before = self.handshake.transmissions();
        let retransmission = self.handshake.on_sent(now);
        self.counters.retransmits += u64::from(retransmission);
        if !self.timers.is_running(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.update_user_timeout();
        let window = self.window.show_on_syn();
        let mut options = self.handshake_options(now);
        options.fast_open = self.fast_open_option();
        let mut with_data = None;
        let (flags, ack, kind) = if self.state == State::SynSent {
            with_data = self.depart_with_syn(now, options.fast_open);
            (TcpFlags::SYN | self.ecn.on_syn_sent(before), SeqNum::default(), OutgoingKind::Syn)
        } else {
            self.on_ack_sent(true);
            let flags = TcpFlags::SYN | TcpFlags::ACK | self.ecn.syn_ack_flags();
            (flags, self.receive.nxt(), OutgoingKind::SynAck)
        };
        let tcp = TcpRepr { seq: self.iss, ack, flags, window, urgent: 0 };
        let payload = with_data.and_then(|index| self.send.payload_mut(index));
        let payload = payload.map(|(chunk, data_seq, in_place)| OutgoingPayload {
            chunk,
            data_seq,
            offset: 0,
            in_place,
        });
        Some(Outgoing { tcp, options, payload, kind, retransmission, ecn: 0 })
    }

    fn emit_ack(
        &mut self,
        now: Instant,
        seq: SeqNum,
        kind: OutgoingKind,
        reserved: usize,
    ) -> Option<Outgoing<'_>> {
        let timestamps = self.timestamps(now, reserved);
        let sack = self.report_sack(OPTIONS_MAX.saturating_sub(reserved + timestamps_len(timestamps)));
        let flags = TcpFlags::ACK | self.ecn.flags(false);
        let tcp = self.header(seq, flags);
        self.on_ack_sent(true);
        if !sack.is_empty() && self.receive.has_sack_news() {
            // More than one ACK has room for: another follows.
            self.acks.immediately();
        }
        Some(Outgoing {
            tcp,
            options: TcpOptions { timestamps, sack, ..TcpOptions::default() },
            payload: None,
            kind,
            retransmission: false,
            ecn: 0,
        })
    }

    /// RFC 8257 §3.2: what was not acknowledged yet when the mark changed. What is owed beyond it remains so.
    fn emit_earlier_ack(&mut self, now: Instant, reserved: usize) -> Option<Outgoing<'_>> {
        let (ack, flags) = self.ecn.take_change()?;
        let timestamps = self.timestamps(now, reserved);
        let received = self.receive.on_earlier_ack_sent(ack);
        let window = self.window.show(received);
        let flags = TcpFlags::ACK | flags;
        Some(Outgoing {
            tcp: TcpRepr { seq: self.send.nxt(), ack, flags, window, urgent: 0 },
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            payload: None,
            kind: OutgoingKind::Ack,
            retransmission: false,
            ecn: 0,
        })
    }

    pub(super) fn emit_segment(
        &mut self,
        now: Instant,
        index: usize,
        segments: usize,
        window: usize,
        reserved: usize,
    ) -> Option<Outgoing<'_>> {
        let retransmission = self.begin_segment(now, index);
        let timestamps = self.timestamps(now, reserved);
        let is_probe_again = |end| retransmission && self.send.ends_at(index, end);
        if self.path_mtu.probe_end().is_some_and(is_probe_again) {
            self.path_mtu.on_probe_lost(now, self.mss);
        }
        let usual = self.payload_of(self.mss, reserved);
        let payload_max = if retransmission { usual } else { self.payload_max(reserved) };
        let payload_max = payload_max.min(window);
        let snapshot = self.delivery.snapshot(now, self.send.flight() == 0);
        let departure = self.send.depart(now, index, payload_max, snapshot);
        let with_fin = !departure.fin && self.fin_rides(now, departure.index, retransmission);
        // What a segment has room for behind its payload, and what the options have.
        let mut room = OPTIONS_MAX.min(self.mss.get().saturating_sub(departure.payload_len));
        if departure.payload_len > usual {
            self.path_mtu.on_probe_sent(departure.seq + departure.payload_len as u32);
            room = reserved + timestamps_len(timestamps);
        }
        let sack = self.report_sack(room.saturating_sub(reserved + timestamps_len(timestamps)));
        let is_new_data = !retransmission && !departure.fin;
        let ecn = self.ecn.codepoint(is_new_data);
        let mut flags = TcpFlags::ACK | self.ecn.flags(is_new_data);
        if departure.fin || with_fin {
            flags = flags | TcpFlags::FIN;
        }
        // RFC 9293 §3.9.1.2: the end of what was given, and nothing before it.
        if !departure.fin && departure.last && !self.more_behind {
            flags = flags | TcpFlags::PSH;
        }
        let tcp = self.header(departure.seq, flags);
        self.on_ack_sent(departure.fin);
        let stamp = timestamps.map(|stamps| stamps.value);
        self.on_segment_sent(now, &departure, retransmission, stamp);
        self.depart_behind(now, departure.index, segments);
        let offset = self.send.offset(departure.seq);
        let payload = self.send.payload_mut(departure.index);
        Some(Outgoing {
            tcp,
            options: TcpOptions { timestamps, sack, ..TcpOptions::default() },
            kind: if departure.fin { OutgoingKind::Fin } else { OutgoingKind::Data },
            payload: payload.map(|(chunk, data_seq, in_place)| OutgoingPayload {
                chunk,
                data_seq,
                offset,
                in_place,
            }),
            retransmission,
            ecn,
        })
    }

    /// The segment at `index` leaves, and the FIN behind it with it, if there is one; in the queue it stays a segment of
    /// its own. What leaves for the first time saves the FIN's packet. What is sent again for want of an acknowledgment
    /// of the end should get one of all of it: a FIN on its own may tell a peer nothing that it can report.
    fn fin_rides(&mut self, now: Instant, index: usize, retransmission: bool) -> bool {
        let rides = if retransmission {
            self.send.fin_follows(index)
        } else {
            let next = self.send.next_new().filter(|next| self.send.shape(*next).1);
            self.state != State::SynReceived && next.is_some_and(|next| self.window_for(next).is_some())
        };
        if rides {
            let snapshot = self.delivery.snapshot(now, false);
            self.send.depart(now, index + 1, 1, snapshot);
        }
        rides
    }

    /// Before a segment leaves. Returns whether it was sent before.
    fn begin_segment(&mut self, now: Instant, index: usize) -> bool {
        let is_new = self.send.next_new() == Some(index);
        if is_new && self.send.flight() == 0 {
            self.check_validation(now);
            // RFC 5681 §4.1: by when data was sent last, not by when something arrived.
            if self.config.restart_after_idle && now.since(self.data_sent_at) > self.rtt.rto() {
                self.congestion.on_restart(now);
            }
        }
        self.persist.cut &= !is_new;
        !is_new
    }

    pub(super) fn on_segment_sent(
        &mut self,
        now: Instant,
        departure: &Departure,
        retransmission: bool,
        stamp: Option<u32>,
    ) {
        let is_first = departure.index == 0;
        let bytes = departure.payload_len as u64;
        if retransmission {
            self.counters.retransmits += 1;
            self.counters.bytes_retransmitted += bytes;
            self.recovery.on_retransmission();
            self.undo.on_retransmitted(departure.payload_len as u32, stamp.filter(|_| is_first));
            self.validation.on_retransmitted(bytes);
        } else {
            self.validation.on_sent(u64::from(self.send.flight()), self.send.nxt());
        }
        self.data_sent_at = now;
        self.prr.on_sent(bytes.max(1));
        // RFC 6298 §5.1. The first retransmission of a hole gets a whole time-out of its own.
        if !self.timers.is_running(Timer::Retransmit) || (retransmission && is_first) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.update_user_timeout();
        if self.probe.is_due() {
            self.counters.loss_probes += 1;
            self.probe.on_sent(self.send.nxt(), retransmission);
            // RFC 8985 §7.3: the time-out remains the last resort.
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        } else if !retransmission && self.state != State::SynReceived {
            self.rearm_probe(now);
        }
        let pipe = u64::from(self.send.pipe());
        self.congestion.on_sent(now, bytes, pipe);
        if self.pacing.on_sent(now, bytes) {
            let rate = self.pacing_rate();
            if let Some(until) = self.pacing.end_burst(now, rate, self.mss.get() as u64) {
                self.timers.set(Timer::Pacing, until);
            }
        }
        self.chrono.set(now, Limit::Network);
    }

    fn header(&mut self, seq: SeqNum, flags: TcpFlags) -> TcpRepr {
        let window = self.window.show(self.receive.received());
        TcpRepr { seq, ack: self.receive.nxt(), flags, window, urgent: 0 }
    }

    /// Timestamps give way to a caller that needs their room: an ADD_ADDR over IPv6 with a port takes 32 of the 40
    /// bytes.
    fn timestamps(&self, now: Instant, reserved: usize) -> Option<Timestamps> {
        let fits = self.agreed.options_len() + reserved <= OPTIONS_MAX;
        (self.agreed.timestamps && fits).then(|| self.clock.option(now))
    }

    /// Whether ACKs have something to say of data behind a gap, where there is room for it.
    pub fn owes_sack(&self) -> bool {
        self.agreed.sack && self.receive.has_sack()
    }

    fn report_sack(&mut self, room: usize) -> SackBlocks {
        if !self.owes_sack() {
            return SackBlocks::new();
        }
        self.receive.report_sack(room.saturating_sub(SACK_HEADER) / SACK_BLOCK)
    }

    fn on_ack_sent(&mut self, pure: bool) {
        self.acks.on_sent(pure);
        self.receive.on_ack_sent();
        self.timers.stop(Timer::DelayedAck);
    }
}

/// Bytes of the timestamp option with its padding, where it is there.
fn timestamps_len(timestamps: Option<Timestamps>) -> usize {
    if timestamps.is_some() { handshake::TIMESTAMPS_LEN } else { 0 }
}
