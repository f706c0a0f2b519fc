//! What leaves: one decision ([`Tcb::next`]), then one segment.

use super::{PendingReset, Tcb};
use crate::base::{Chunk, DataSeq, Instant, SeqNum};
use crate::cc::Controller;
use crate::tcp::handshake;
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
    /// The payload, for [`OutgoingKind::Data`].
    pub payload: Option<OutgoingPayload<'a>>,
    /// What it is.
    pub kind: OutgoingKind,
    /// Whether it was sent before.
    pub retransmission: bool,
}

/// What to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Reset(PendingReset),
    Handshake,
    Ack,
    /// The segment at this place again.
    Retransmit(usize),
    /// The segment at this place for the first time, cut to so many bytes.
    New(usize, usize),
    Probe,
}

impl Tcb {
    /// Whether [`Tcb::poll_transmit`] would give a segment.
    pub fn has_to_send(&self, _now: Instant) -> bool {
        self.next().is_some()
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
        let next = self.next()?;
        self.counters.segments_sent += 1;
        match next {
            Next::Reset(reset) => self.emit_reset(now, reset),
            Next::Handshake => self.emit_handshake(now),
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
                self.emit_segment(now, index, usize::MAX, reserved)
            }
            Next::New(index, window) => {
                let reserved = self.reserved_for(index, reserved_options, reserved_options_data);
                self.emit_segment(now, index, window, reserved)
            }
        }
    }

    fn reserved_for(&self, index: usize, without_payload: usize, with_payload: usize) -> usize {
        let (_, fin) = self.send.shape(index);
        if fin { without_payload } else { with_payload }
    }

    /// The order: what ends or begins a connection; an ACK that payload can't stand in for (a full segment has no room
    /// to tell of gaps); what is lost; what is new; what only acknowledges.
    fn next(&self) -> Option<Next> {
        if let Some(reset) = self.reset {
            return Some(Next::Reset(reset));
        }
        match self.state {
            State::Closed => return None,
            State::SynSent => return self.handshake.is_due().then_some(Next::Handshake),
            State::SynReceived if self.handshake.is_due() => return Some(Next::Handshake),
            _ => {}
        }
        let ack_due = self.acks.is_due();
        if ack_due && (self.owes_sack() || self.acks.must_be_pure()) {
            return Some(Next::Ack);
        }
        if self.state.transmits()
            && let Some(next) = self.next_segment()
        {
            return Some(next);
        }
        if self.persist.probe_due {
            return Some(Next::Probe);
        }
        ack_due.then_some(Next::Ack)
    }

    fn next_segment(&self) -> Option<Next> {
        let room = self.congestion.window().saturating_sub(u64::from(self.pipe()));
        // What is longer than a segment is cut to one; the window always holds one.
        let fits = |len: u32| len.min(self.payload_max(0) as u32) as u64 <= room;
        if let Some(index) = self.send.next_lost() {
            let (len, _) = self.send.shape(index);
            return (self.recovery.is_forced() || fits(len)).then_some(Next::Retransmit(index));
        }
        let index = self.send.next_new()?;
        let window = self.window_for(index)?;
        let (len, fin) = self.send.shape(index);
        // The FIN is no payload, and needs no congestion window.
        (fin || fits(len.min(u32::try_from(window).unwrap_or(u32::MAX)))).then_some(Next::New(index, window))
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
        let mut options = TcpOptions::default();
        let (seq, ack, flags) = match reset {
            PendingReset::Answer(seq) => (seq, SeqNum::default(), TcpFlags::RST),
            PendingReset::Abort => {
                self.events.push(TcpEvent::Closed(CloseReason::Aborted));
                // RFC 7323 §3.2: timestamps SHOULD be sent in a RST, too.
                options.timestamps = self.agreed.timestamps.then(|| self.clock.option(now));
                (self.send.nxt(), self.receive.nxt(), TcpFlags::RST | TcpFlags::ACK)
            }
        };
        Some(Outgoing {
            tcp: TcpRepr { seq, ack, flags, window: 0, urgent: 0 },
            options,
            payload: None,
            kind: OutgoingKind::Reset,
            retransmission: false,
        })
    }

    fn emit_handshake(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let retransmission = self.handshake.on_sent(now);
        self.counters.retransmits += u64::from(retransmission);
        if !self.timers.is_running(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.update_user_timeout();
        let window = self.window.show_on_syn();
        let timestamps = self.clock.option(now);
        let (flags, ack, options, kind) = if self.state == State::SynSent {
            let options = handshake::syn_options(&self.config, timestamps);
            (TcpFlags::SYN, SeqNum::default(), options, OutgoingKind::Syn)
        } else {
            self.on_ack_sent(true);
            let options = handshake::syn_ack_options(&self.config, &self.agreed, timestamps);
            (TcpFlags::SYN | TcpFlags::ACK, self.receive.nxt(), options, OutgoingKind::SynAck)
        };
        let tcp = TcpRepr { seq: self.iss, ack, flags, window, urgent: 0 };
        Some(Outgoing { tcp, options, payload: None, kind, retransmission })
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
        let tcp = self.header(seq, TcpFlags::ACK);
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
        })
    }

    fn emit_segment(
        &mut self,
        now: Instant,
        index: usize,
        window: usize,
        reserved: usize,
    ) -> Option<Outgoing<'_>> {
        let retransmission = self.begin_segment(now, index);
        let timestamps = self.timestamps(now, reserved);
        let payload_max = self.payload_max(reserved).min(window);
        let departure = self.send.depart(now, index, payload_max);
        // What a segment has room for behind its payload, and what the options have.
        let room = OPTIONS_MAX.min(self.mss.get().saturating_sub(departure.payload_len));
        let sack = self.report_sack(room.saturating_sub(reserved + timestamps_len(timestamps)));
        let fin_rides = !departure.fin && !retransmission && self.fin_rides(now);
        let mut flags = TcpFlags::ACK;
        if departure.fin || fin_rides {
            flags = flags | TcpFlags::FIN;
        }
        // RFC 9293 §3.9.1.2: the end of what was given, and nothing before it.
        if !departure.fin && departure.last && !self.more_behind {
            flags = flags | TcpFlags::PSH;
        }
        let tcp = self.header(departure.seq, flags);
        self.on_ack_sent(departure.fin);
        self.on_segment_sent(now, departure.index, departure.payload_len, retransmission);
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
        })
    }

    /// A segment leaves for the first time, and the FIN behind it need not have one of its own. It stays one in the
    /// queue: if it is lost it is sent again alone.
    fn fin_rides(&mut self, now: Instant) -> bool {
        let Some(index) = self.send.next_new() else { return false };
        let rides = self.send.shape(index).1 && self.window_for(index).is_some();
        if rides {
            self.send.depart(now, index, 1);
        }
        rides
    }

    /// Before a segment leaves. Returns whether it was sent before.
    fn begin_segment(&mut self, now: Instant, index: usize) -> bool {
        let is_new = self.send.next_new() == Some(index);
        if is_new && self.send.flight() == 0 && now.since(self.sent_at) > self.rtt.rto() {
            self.congestion.on_idle(now);
        }
        self.persist.cut &= !is_new;
        !is_new
    }

    fn on_segment_sent(&mut self, now: Instant, index: usize, payload_len: usize, retransmission: bool) {
        self.sent_at = now;
        if retransmission {
            self.counters.retransmits += 1;
            self.recovery.on_retransmission();
        } else {
            self.usage.peak = self.usage.peak.max(u64::from(self.send.flight()));
        }
        // RFC 6298 §5.1. The first retransmission of a hole gets a whole time-out of its own.
        if !self.timers.is_running(Timer::Retransmit) || (retransmission && index == 0) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.update_user_timeout();
        self.congestion.on_sent(now, payload_len as u64, u64::from(self.send.pipe()));
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

    /// Whether our acknowledgments have blocks to carry.
    fn owes_sack(&self) -> bool {
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
