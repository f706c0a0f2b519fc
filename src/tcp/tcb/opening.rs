//! Data in the handshake: TCP Fast Open (RFC 7413 §4.2).

use super::Tcb;
use crate::base::pool::TX_PAYLOAD_MAX;
use crate::base::{Chunk, Instant, PoolCache, SeqNum};
use crate::tcp::State;
use crate::tcp::fast_open::FastOpenReport;
use crate::tcp::handshake::{self, Handshake};
use crate::tcp::recv::Arrival;
use crate::tcp::send::News;
use crate::tcp::timer::Timer;
use crate::wire::tcp::OPTIONS_MAX;
use crate::wire::{FastOpen, Mss, TcpOptions, TcpRepr};

impl Tcb {
    /// The first SYN (or SYN/ACK) shall say this, beside `beside` bytes of the caller's options. False, and nothing happens,
    /// where it has no room for it (RFC 7413 §4.2.2: then there is no Fast Open), or has left.
    pub fn offer_fast_open(&mut self, option: FastOpen, beside: usize) -> bool {
        let own = self.handshake_options(self.now).wire_len();
        let fits = own + option.wire_len() + beside <= OPTIONS_MAX;
        let possible = fits && self.handshake.transmissions() == 0;
        if possible {
            self.opening.says = Some(option);
        }
        possible
    }

    /// Payload bytes that the SYN takes, to a server that gave `server_mss` the last time (RFC 7413 §4.1.3). 0 without a
    /// cookie. One chunk, queued before the SYN leaves, goes with it.
    ///
    /// All 40 bytes of options are left free, as Linux does: middleboxes put options of their own onto SYNs, and one that
    /// has no room to drops the SYN, which costs a time-out.
    pub fn syn_payload_max(&self, server_mss: Mss) -> usize {
        let Some(FastOpen::Cookie(_)) = self.opening.says else { return 0 };
        if self.state != State::SynSent || self.handshake.transmissions() > 0 {
            return 0;
        }
        self.config.mss.min(server_mss).get().saturating_sub(OPTIONS_MAX).min(TX_PAYLOAD_MAX)
    }

    /// What came of it, on a connection that we opened; `None` where our SYN said nothing.
    pub fn fast_open(&self) -> Option<FastOpenReport> {
        let opening = &self.opening;
        let asked = opening.says.filter(|_| self.is_active && opening.said)?;
        Some(FastOpenReport {
            asked,
            answer: opening.answer,
            sent_bytes: opening.sent_bytes,
            acked_bytes: opening.acked_bytes,
            peer_mss: self.agreed.peer_mss,
        })
    }

    /// The SYN that made this connection brought a valid cookie: its payload, as far as there is room for `room` bytes, is
    /// taken now and acknowledged by the SYN/ACK, and data may be sent before the handshake is over (RFC 7413 §4.2.2).
    pub fn take_syn_payload(&mut self, room: u64, payload: Option<Chunk>, cache: &mut PoolCache) -> bool {
        debug_assert!(self.state == State::SynReceived && !self.is_active, "in answer to a SYN");
        let mut payload = payload;
        self.opening.taken = payload.is_none()
            || self.receive.take(self.receive.nxt(), room, &mut payload, cache) == Arrival::InOrder;
        payload.into_iter().for_each(|left| cache.free_chunk(left));
        self.opening.taken
    }

    /// The options of our SYN or SYN/ACK, but for Fast Open.
    pub(super) fn handshake_options(&self, now: Instant) -> TcpOptions {
        let timestamps = self.clock.option(now);
        match self.state {
            State::SynSent => handshake::syn_options(&self.config, timestamps),
            _ => handshake::syn_ack_options(&self.config, &self.agreed, timestamps),
        }
    }

    /// Whether the handshake is not over, and data flows nevertheless.
    fn is_fast_opened(&self) -> bool {
        self.state == State::SynReceived && self.opening.taken
    }

    /// Whether data may be given to send.
    pub(super) fn takes_data(&self) -> bool {
        self.state.takes_data() || self.is_fast_opened()
    }

    /// Whether segments of the send queue may leave.
    pub(super) fn transmits(&self) -> bool {
        self.state.transmits() || self.is_fast_opened()
    }

    /// Whether this acknowledges our SYN: ISS < SEG.ACK =< SND.NXT (RFC 9293 §3.10.7.3). Data of ours may have gone with it,
    /// or behind the SYN/ACK.
    pub(super) fn is_ack_of_syn(&self, ack: SeqNum) -> bool {
        ack.after(self.iss) && ack.at_or_before(self.send.nxt())
    }

    /// The option on our SYN or SYN/ACK that leaves now. RFC 7413 §4.2.1, §4.2.2: what is sent again has neither the option
    /// nor data, for the sake of networks that drop them.
    pub(super) fn fast_open_option(&mut self) -> Option<FastOpen> {
        let option = self.opening.says.filter(|_| !self.opening.said);
        self.opening.said |= option.is_some();
        option
    }

    /// The queued chunk leaves with our first SYN. Its place in the queue.
    pub(super) fn depart_with_syn(&mut self, now: Instant, option: Option<FastOpen>) -> Option<usize> {
        let Some(FastOpen::Cookie(_)) = option else { return None };
        let index = self.send.next_new()?;
        let snapshot = self.delivery.snapshot(now, true);
        let departure = self.send.depart(now, index, TX_PAYLOAD_MAX, snapshot);
        self.opening.sent_bytes = departure.payload_len as u32;
        Some(departure.index)
    }

    /// The peer's SYN/ACK is here. RFC 7413 §4.2.2: what it did not acknowledge of the SYN's data is sent again at once. It
    /// was not lost by congestion, so it counts as never sent.
    pub(super) fn settle_syn_data(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        cache: &mut PoolCache,
    ) {
        if let Some(FastOpen::Cookie(cookie)) = options.fast_open {
            self.opening.answer = Some(cookie);
        }
        if self.opening.sent_bytes > 0 {
            self.send.acknowledge(tcp.ack, &mut News::new(now, false), cache);
            self.opening.acked_bytes = self.send.acked() as u32;
            self.send.take_back();
        }
    }

    /// The handshake of a connection is over on which data was sent before: its timers take over from that of the SYN/ACK.
    pub(super) fn watch_early_data(&mut self, now: Instant) {
        if self.send.flight() > 0 {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
            self.rearm_probe(now);
        }
    }

    /// An ICMP error says that our SYN with its data is too long for a path that takes `mss`: the next one has none (RFC 7413
    /// §4.1.3.1). What follows the handshake is shorter, and so is, as the path back will be the same one, what we ask for.
    /// True if there was any.
    pub(super) fn shorten_syn(&mut self, mss: Mss) -> bool {
        let shortens = self.state == State::SynSent && self.opening.sent_bytes > 0;
        if shortens && self.handshake.transmissions() == 1 && !self.opening.shortened {
            self.opening.shortened = true;
            self.config.mss = self.config.mss.min(mss);
            // By no fault of congestion: RFC 5681 §3.1 is about a SYN that was lost.
            self.handshake = Handshake::new();
        }
        shortens
    }
}
