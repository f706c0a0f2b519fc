//! What arrives: segments (RFC 9293 §3.10.7) and ICMP errors.

use super::{PendingReset, Tcb};
use crate::base::{Chunk, Instant, PoolCache, SeqNum};
use crate::tcp::handshake::Handshake;
use crate::tcp::recv::Arrival;
use crate::tcp::timer::Timer;
use crate::tcp::{CloseReason, State, TcpEvent};
use crate::wire::ip::CONGESTION_EXPERIENCED;
use crate::wire::{IcmpError, IcmpErrorKind, Mss, TcpFlags, TcpOptions, TcpRepr};

/// What came of an arriving segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// It passed the checks of sequence number, timestamp, RST, SYN and acknowledgment: its options may be used.
    pub accepted: bool,
    /// SND.UNA advanced.
    pub ack_advanced: bool,
    /// A new SYN ended TIME-WAIT (RFC 9293 §3.6.1, RFC 6191): the connection is closed, and the segment should go to
    /// the listener.
    pub reopen: bool,
}

impl Accepted {
    const NO: Accepted = Accepted { accepted: false, ack_advanced: false, reopen: false };
    const YES: Accepted = Accepted { accepted: true, ack_advanced: false, reopen: false };
}

/// A segment in the receiver's terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Of its first payload byte.
    seq: SeqNum,
    payload_len: u32,
    fin: bool,
    /// The ECN bits of its IP header, and the flags of its TCP header.
    ecn: u8,
    flags: TcpFlags,
}

impl Segment {
    fn new(tcp: &TcpRepr, ecn: u8, payload: Option<&Chunk>) -> Self {
        Self {
            seq: tcp.seq,
            payload_len: payload.map_or(0, |chunk| chunk.len() as u32),
            fin: tcp.flags.contains(TcpFlags::FIN),
            ecn,
            flags: tcp.flags,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.payload_len + u32::from(self.fin)
    }
}

impl Tcb {
    /// A segment arrived. `ecn` are the ECN bits of its IP header; `payload` is kept, or given back to `cache`.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        ecn: u8,
        payload: Option<Chunk>,
        cache: &mut PoolCache,
    ) -> Accepted {
        self.now = now;
        self.counters.segments_received += 1;
        self.counters.congestion_marks += u64::from(ecn == CONGESTION_EXPERIENCED);
        let mut payload = payload;
        let accepted = match self.state {
            State::Closed => Accepted::NO,
            State::SynSent => self.handle_in_syn_sent(now, tcp, options, ecn, &mut payload, cache),
            _ => self.handle_synchronized(now, tcp, options, ecn, &mut payload, cache),
        };
        if let Some(left) = payload {
            cache.free_chunk(left);
        }
        self.delay_ack();
        self.update_persist();
        accepted
    }

    /// An ACK that may wait waits only so long.
    fn delay_ack(&mut self) {
        if self.acks.is_delayed() && !self.timers.is_running(Timer::DelayedAck) {
            self.timers.set(Timer::DelayedAck, self.now + self.config.delayed_ack);
        }
    }

    /// A segment has arrived right behind one that said the same, flags, acknowledgment, window and timestamps, and that was
    /// accepted at this very time: for such a one all of [`Tcb::handle_segment`] comes to this. Its `len` bytes of payload are
    /// the caller's at once; their offset is returned. `None`, and nothing is done, where there is more to look at.
    pub fn follow(&mut self, now: Instant, tcp: &TcpRepr, len: usize) -> Option<u64> {
        let offset = self.receive.received();
        let is_next = self.state.receives_data() && tcp.seq == self.receive.nxt() && self.receive.is_plain();
        let fits = offset + len as u64 <= self.window.accepted_to(offset);
        // What is in flight may be acknowledged, lost or timed out.
        if self.now != now || !is_next || !fits || self.send.flight() > 0 {
            return None;
        }
        self.counters.segments_received += 1;
        if self.peer_window.update(tcp.seq, tcp.ack, self.scaled_window(tcp)) {
            self.update_persist();
        }
        self.receive.pass(len);
        self.acks.on_in_order(len);
        self.delay_ack();
        Some(offset)
    }

    /// RFC 9293 §3.10.7.3.
    fn handle_in_syn_sent(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        ecn: u8,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) -> Accepted {
        let has = |flag| tcp.flags.contains(flag);
        // First: the ACK bit. All we sent is the SYN, and what went with it.
        if has(TcpFlags::ACK) && !self.is_ack_of_syn(tcp.ack) {
            if !has(TcpFlags::RST) {
                self.reset = Some(PendingReset::Answer(tcp.ack));
            }
            return Accepted::NO;
        }
        // Second: the RST bit. Believed only with an acceptable ACK.
        if has(TcpFlags::RST) {
            if !has(TcpFlags::ACK) {
                return Accepted::NO;
            }
            if self.ecn.falls_back() {
                // RFC 3168 §6.1.1.1: a middlebox may have taken offence at the request for ECN.
                self.handshake.send_again();
                return Accepted::NO;
            }
            self.finish(CloseReason::Refused);
            return Accepted::YES;
        }
        // Fourth: the SYN bit.
        if !has(TcpFlags::SYN) {
            return Accepted::NO;
        }
        self.learn_peer(now, tcp, options);
        match has(TcpFlags::ACK) {
            true => self.ecn.on_syn_ack(tcp.flags),
            false => self.ecn.on_syn(tcp.flags),
        }
        if !has(TcpFlags::ACK) {
            // Simultaneous open: our SYN goes out again, as a SYN/ACK.
            self.state = State::SynReceived;
            if self.timeouts == 0 {
                self.handshake = Handshake::new();
            }
            self.handshake.send_again();
            return Accepted::YES;
        }
        self.establish(now);
        self.settle_syn_data(now, tcp, options, cache);
        match self.send.next_new() {
            // RFC 7413 §4.2.2: what the SYN/ACK did not take of the SYN's data goes with the third ACK.
            Some(_) if self.opening.sent_bytes > 0 => self.acks.immediately(),
            // It leaves without payload: MPTCP has options on it.
            _ => self.acks.request(),
        }
        // Text and FIN go on at the sixth step: a server that took the SYN's data may answer at once (RFC 7413 §4.2.2).
        let mut segment = Segment::new(tcp, ecn, payload.as_ref());
        segment.seq += 1;
        if segment.len() > 0 {
            self.handle_text(now, segment, payload, cache);
        }
        Accepted { ack_advanced: true, ..Accepted::YES }
    }

    /// RFC 9293 §3.10.7.4.
    fn handle_synchronized(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        ecn: u8,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) -> Accepted {
        let has = |flag| tcp.flags.contains(flag);
        let mut segment = Segment::new(tcp, ecn, payload.as_ref());
        if has(TcpFlags::SYN) && !has(TcpFlags::RST) {
            if !self.is_crossing_syn_ack(tcp) {
                return self.handle_unexpected_syn(now, tcp, options);
            }
            segment.seq += 1;
        }
        if !has(TcpFlags::RST) && self.is_outdated(now, segment, options) {
            self.counters.paws += 1;
            self.answer_unacceptable(now, segment);
            return Accepted::NO;
        }
        // First: the sequence number.
        if !self.is_acceptable(segment) {
            self.counters.not_acceptable += 1;
            if !has(TcpFlags::RST) {
                self.answer_unacceptable(now, segment);
            }
            return Accepted::NO;
        }
        // Second: the RST bit.
        if has(TcpFlags::RST) {
            return self.handle_reset(now, tcp);
        }
        self.on_heard(now);
        // Fifth: the ACK field.
        let mut syn_acked = false;
        if !has(TcpFlags::ACK) {
            return Accepted::NO;
        }
        if self.state == State::SynReceived {
            if !self.is_ack_of_syn(tcp.ack) {
                self.reset = Some(PendingReset::Answer(tcp.ack));
                return Accepted::NO;
            }
            self.establish(now);
            match self.is_active {
                true => self.settle_syn_data(now, tcp, options, cache),
                false => self.watch_early_data(now),
            }
            syn_acked = true;
        } else if !self.is_ack_acceptable(tcp.ack) {
            self.challenge(now);
            return Accepted::NO;
        }
        if let Some(timestamps) = options.timestamps.filter(|_| self.agreed.timestamps)
            && segment.seq.at_or_before(self.receive.acked())
        {
            self.clock.update(now, timestamps.value);
        }
        let ack_advanced = self.handle_ack(now, tcp, options, segment, cache) || syn_acked;
        if self.state == State::Closed {
            return Accepted { ack_advanced, ..Accepted::YES };
        }
        // Seventh and eighth: the payload, and the FIN bit.
        if segment.len() > 0 {
            self.handle_text(now, segment, payload, cache);
        }
        Accepted { ack_advanced, ..Accepted::YES }
    }

    /// The peer's SYN/ACK in a simultaneous open: its SYN is known, its acknowledgment is news.
    fn is_crossing_syn_ack(&self, tcp: &TcpRepr) -> bool {
        self.state == State::SynReceived
            && self.is_active
            && tcp.flags.contains(TcpFlags::ACK)
            && tcp.seq == self.receive.irs()
    }

    /// Fourth: the SYN bit, where none is expected.
    fn handle_unexpected_syn(&mut self, now: Instant, tcp: &TcpRepr, options: &TcpOptions) -> Accepted {
        if self.state == State::SynReceived && tcp.seq == self.receive.irs() {
            // The peer did not get our SYN/ACK.
            self.handshake.send_again();
            return Accepted::NO;
        }
        if self.state == State::TimeWait && !tcp.flags.contains(TcpFlags::ACK) {
            // RFC 6191 §2, RFC 9293 §3.6.1: later by timestamp or by sequence number, so it is a new connection.
            let later = match options.timestamps.filter(|_| self.agreed.timestamps) {
                Some(timestamps) => self.clock.is_newer(timestamps.value),
                None => false,
            };
            if later || tcp.seq.after(self.receive.nxt()) {
                self.finish(CloseReason::Finished);
                return Accepted { reopen: true, ..Accepted::NO };
            }
        }
        // RFC 5961 §4.2: whatever its sequence number.
        self.challenge(now);
        Accepted::NO
    }

    /// RFC 7323 §5.3 R1. A segment without the option passes (§3.2 would drop it): peers leave the option out where
    /// others need all 40 bytes, as MPTCP's ADD_ADDR over IPv6 may.
    ///
    /// A departure from R1, as Linux has it: an acknowledgment without text that others overtook within a
    /// retransmission time-out passes. There is no old data in it, RFC 5961 §5.2 bounds what it acknowledges, and MPTCP
    /// sends what comes only once (MP_PRIO) on such segments: a peer with two processors puts them in any order.
    fn is_outdated(&self, now: Instant, segment: Segment, options: &TcpOptions) -> bool {
        let Some(timestamps) = options.timestamps.filter(|_| self.agreed.timestamps) else { return false };
        if !self.clock.is_old(now, timestamps.value) {
            return false;
        }
        // Ticks are milliseconds at nearly all peers; of a finer clock less passes.
        let overtaken = u64::from(self.clock.age(timestamps.value)) <= self.rto().as_millis();
        segment.len() > 0 || !overtaken
    }

    /// RFC 9293 §3.4 (table 6), with two allowances. A segment without text may begin anywhere from our last
    /// acknowledgment to the very end of the window: acknowledgments overtake data, and follow data that filled the
    /// window. And whatever holds the next byte passes even if there is no room, for the sake of its ACK field.
    fn is_acceptable(&self, segment: Segment) -> bool {
        let window = self.window.accepted_to(self.receive.received()) - self.receive.received();
        let start = i64::from(segment.seq.distance(self.receive.nxt()));
        if segment.len() == 0 {
            return segment.seq.at_or_after(self.receive.acked()) && start <= window as i64;
        }
        let end = start + i64::from(segment.len());
        end > 0 && (start <= 0 || start < window as i64)
    }

    /// RFC 9293 §3.10.7.4 first: a segment that is not acceptable is answered with an ACK.
    fn answer_unacceptable(&mut self, now: Instant, segment: Segment) {
        if segment.len() == 0 {
            // Two ends that disagree would answer each other for ever.
            self.challenge(now);
            return;
        }
        if segment.fin && self.state == State::TimeWait {
            // RFC 9293 §3.10.7.4 eighth: the peer's FIN again; 2 MSL begin anew.
            self.timers.set(Timer::TimeWait, now + self.config.time_wait);
        }
        self.receive.note_duplicate(segment.seq, segment.payload_len);
        self.acks.on_out_of_order(self.agreed.sack);
    }

    /// RFC 5961 §3.2: only the exact sequence number resets; anything else in the window is challenged.
    fn handle_reset(&mut self, now: Instant, tcp: &TcpRepr) -> Accepted {
        if tcp.seq != self.receive.nxt() {
            self.challenge(now);
            return Accepted::NO;
        }
        let reason = match self.state {
            State::SynReceived if self.is_active => CloseReason::Refused,
            State::TimeWait => CloseReason::Finished,
            _ => CloseReason::Reset,
        };
        self.finish(reason);
        Accepted::YES
    }

    /// RFC 5961 §7: an ACK that tells an honest peer where we are, and an attacker nothing.
    fn challenge(&mut self, now: Instant) {
        self.counters.challenges += 1;
        if self.challenges.take(now) {
            self.acks.immediately();
        }
    }

    /// RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
    fn is_ack_acceptable(&self, ack: SeqNum) -> bool {
        let behind = self.send.una().distance(ack);
        behind <= self.peer_window.largest().min(1 << 30) as i32 && ack.at_or_before(self.send.nxt())
    }

    pub(super) fn start_time_wait(&mut self, now: Instant) {
        self.timers.stop(Timer::Retransmit);
        self.timers.set(Timer::TimeWait, now + self.config.time_wait);
    }

    /// The wait for old duplicates is cut short: there is no room for it.
    pub fn end_time_wait(&mut self) {
        if self.state == State::TimeWait {
            self.finish(CloseReason::Finished);
        }
    }

    /// RFC 9293 §3.10.7.4 seventh and eighth.
    fn handle_text(
        &mut self,
        now: Instant,
        segment: Segment,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) {
        if !self.state.receives_data() {
            // Text behind the peer's FIN: it should not be, and is ignored.
            return;
        }
        if payload.is_some() {
            let accepted_to = self.window.accepted_to(self.receive.received());
            let (acked, before) = (self.receive.acked(), self.receive.nxt());
            let arrival = self.receive.take(segment.seq, accepted_to, payload, cache);
            // RFC 3168 §6.1.5: what lies outside of the window, or came before, says nothing.
            let counts = matches!(arrival, Arrival::InOrder | Arrival::FilledGap | Arrival::OutOfOrder);
            let owed = (before != acked).then_some(before);
            if counts && self.ecn.on_data(segment.ecn, segment.flags, owed) {
                self.acks.immediately();
            }
            match arrival {
                Arrival::InOrder => self.acks.on_in_order(segment.payload_len as usize),
                Arrival::FilledGap => self.acks.on_filled_gap(),
                Arrival::OutOfOrder => {
                    self.counters.out_of_order += 1;
                    self.acks.on_out_of_order(self.agreed.sack);
                }
                Arrival::Duplicate => {
                    self.counters.duplicates += 1;
                    self.acks.on_out_of_order(self.agreed.sack);
                }
                Arrival::Dropped => {
                    self.counters.dropped += 1;
                    self.acks.immediately();
                }
            }
        }
        if segment.fin {
            self.receive.note_fin(segment.seq + segment.payload_len);
            self.acks.immediately();
        }
        if self.receive.consume_fin() {
            self.state = self.state.after_peer_fin();
            self.events.push(TcpEvent::PeerFinished);
            self.acks.immediately();
            if self.state == State::TimeWait {
                self.start_time_wait(now);
            }
        }
    }

    /// An ICMP error about a segment of this connection arrived.
    pub fn handle_icmp(&mut self, now: Instant, error: &IcmpError) {
        self.now = now;
        // RFC 5927 §4.1: it must quote something that is in flight.
        if self.state == State::Closed {
            return;
        }
        let quotes_flight = error.seq.at_or_after(self.snd_una()) && error.seq.before(self.snd_nxt());
        if !quotes_flight {
            return;
        }
        match error.kind {
            IcmpErrorKind::TooBig { mtu } => {
                let mss = mss_of(mtu, error.tuple.local.addr.is_ipv6());
                if !self.shorten_syn(mss) {
                    self.lower_mss(mss);
                }
            }
            // RFC 9293 §3.9.2.2: soft errors do not end a connection; RFC 5461 §4.1: one that is not yet, they may.
            IcmpErrorKind::Unreachable { code } => {
                if self.state == State::SynSent {
                    let port_unreachable = if error.tuple.local.addr.is_ipv6() { 4 } else { 3 };
                    let refused = code == port_unreachable;
                    self.finish(if refused { CloseReason::Refused } else { CloseReason::Unreachable });
                }
            }
        }
    }

    /// RFC 1191 §3, RFC 8201 §4: what is too long for the path is lost, by no fault of congestion.
    fn lower_mss(&mut self, mss: Mss) {
        if mss >= self.mss {
            return;
        }
        self.set_mss(mss);
        self.path_mtu.on_too_big(self.now);
        self.send.mark_oversized_lost(self.payload_of(mss, 0));
        self.rearm_probe(self.now);
    }
}

/// The MSS of a path with this MTU.
fn mss_of(mtu: u32, is_ipv6: bool) -> Mss {
    // RFC 8201 §4: never below 1280 over IPv6. Over IPv4 576 is taken for routers that do not tell, and for lies: an
    // attacker must not make us send tiny segments.
    let (headers, least) = if is_ipv6 { (60, 1280) } else { (40, 576) };
    Mss::new(u16::try_from(mtu.max(least) - headers).unwrap_or(u16::MAX))
}
