//! The end: DATA_FIN (RFC 8684 §3.3.3), subflows that end, the connection's own timer, and fast close (§3.5).

use super::inspect::figures;
use super::{Connection, ConnectionEvent, HISTORY_MAX, Mode, ORPHAN_RESET_TIMEOUT, ORPHAN_TIMEOUT, SendSide};
use crate::base::time::Duration;
use crate::base::{Chunk, Instant, PoolCache};
use crate::mptcp::SubflowId;
use crate::mptcp::subflow::{Phase, Subflow};
use crate::tcp::{CloseReason, TcpEvent};
use crate::wire::mptcp::{MpTcpRst, ResetReason};
use crate::wire::{MptcpOption, Packet, TcpFlags};
use serde::{Deserialize, Serialize};

/// The shortest wait of the connection's own timer.
const DATA_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The longest.
const DATA_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// So often the DATA_FIN is repeated where no options come any more.
const SILENT_REPEATS: u32 = 3;
/// RFC 8684 §3.5: how often a fast close on an ACK is said again.
const FAST_CLOSE_REPEATS: u32 = 3;

/// How the peer of an aborted connection is told (RFC 8684 §3.5). Plain TCP has nothing but a RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortBy {
    /// Option A: MP_FASTCLOSE on an ACK of one subflow, again and again until the peer answers by a RST.
    Ack,
    /// Option R: on a RST of every subflow, and it may be lost: who says so will not be there to say it again.
    Reset,
}

/// RFC 8684 §3.5's FASTCLOSE_WAIT: the connection is over for its application, and the peer is to be told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct FastClose {
    /// On this subflow.
    subflow: SubflowId,
    repeat_at: Instant,
    repeats: u32,
    /// An ACK with MP_FASTCLOSE has to leave.
    due: bool,
}

impl Connection {
    /// The application writes no more.
    pub fn close_send(&mut self) {
        if self.send_side == SendSide::Open {
            self.send_side = SendSide::Closing;
        }
    }

    /// Ends the connection at once. Its application is told now; the peer, as `by` says.
    pub fn abort(&mut self, now: Instant, reason: CloseReason, by: AbortBy, cache: &mut PoolCache) {
        if self.closed {
            return;
        }
        if self.is_multipath() && self.send_side == SendSide::Finished && self.receive.is_finished() {
            // RFC 8684 §3.3.3: both DATA_FINs are acknowledged, and the subflows' FINs are on their way. A fast close would
            // tell the peer's application of an error behind the last byte, instead of the end.
            return self.finish(CloseReason::Finished, cache);
        }
        let on = match by {
            AbortBy::Ack if self.is_multipath() => self.best_subflow(),
            AbortBy::Ack | AbortBy::Reset => None,
        };
        // Resets name the peer's key, too; where there is a subflow that is told by ACK, they need not.
        let told = on.map(|index| self.subflows[index].id);
        for subflow in self.subflows.iter_mut().filter(|subflow| Some(subflow.id) != told) {
            subflow.tcb.abort(now);
        }
        let waits = on.map_or(now, |index| now + self.subflows[index].tcb.rto());
        self.fast_close = told.map(|subflow| FastClose { subflow, repeat_at: waits, repeats: 0, due: true });
        self.names_key_on_resets = true;
        self.finish(reason, cache);
    }

    /// The connection is over; subflows that still owe a segment stay until it is sent.
    pub(super) fn finish(&mut self, reason: CloseReason, cache: &mut PoolCache) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.send.clear(cache);
        (self.data_timer, self.orphan_at, self.failure) = (None, None, None);
        if reason != CloseReason::Finished {
            self.subflows.iter_mut().for_each(|subflow| subflow.inbound.clear(cache));
        }
        let told = self.fast_close.map(|fast_close| fast_close.subflow);
        for subflow in self.subflows.iter().filter(|subflow| Some(subflow.id) != told) {
            self.events.push_back(subflow_closed(subflow, reason, None));
        }
        self.events.push_back(ConnectionEvent::Closed(reason));
    }

    /// Whether something is still to be said to the peer after the end, or its answer to be waited for.
    pub fn has_last_words(&self, now: Instant) -> bool {
        self.fast_close.is_some() || self.subflows.iter().any(|subflow| subflow.tcb.has_to_send(now))
    }

    /// A packet of a connection that is over: the answer to a fast close, or of no interest.
    pub(super) fn handle_after_close(
        &mut self,
        now: Instant,
        id: SubflowId,
        packet: &Packet,
        chunk: Option<Chunk>,
        cache: &mut PoolCache,
    ) {
        let index = self.index(id).filter(|_| self.fast_close.is_some_and(|waiting| waiting.subflow == id));
        let Some(index) = index else {
            return chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
        };
        let subflow = &mut self.subflows[index];
        let verdict = subflow.tcb.handle_segment(now, &packet.tcp, &packet.options, packet.ecn, chunk, cache);
        while let Some((_, chunk)) = subflow.tcb.poll_received() {
            cache.free_chunk(chunk);
        }
        let reset =
            std::iter::from_fn(|| subflow.tcb.poll_event()).any(|event| matches!(event, TcpEvent::Closed(_)));
        if reset {
            return self.end_fast_close();
        }
        if verdict.accepted && self.names_our_key(packet) {
            // RFC 8684 §3.5: both have closed at once; answered with a RST.
            self.subflows[index].tcb.abort(now);
            self.end_fast_close();
        }
    }

    /// The peer knows, or will not be told any more.
    fn end_fast_close(&mut self) {
        let Some(FastClose { subflow: id, .. }) = self.fast_close.take() else { return };
        if let Some(index) = self.index(id) {
            self.events.push_back(subflow_closed(&self.subflows[index], CloseReason::Aborted, None));
        }
    }

    /// When a fast close is said again.
    pub(super) fn fast_close_at(&self) -> Option<Instant> {
        self.fast_close.map(|fast_close| fast_close.repeat_at)
    }

    /// The peer has not answered a fast close.
    pub(super) fn handle_fast_close_timer(&mut self, now: Instant) {
        let Some(fast_close) = &mut self.fast_close else { return };
        let Some(subflow) = self.subflows.iter_mut().find(|subflow| subflow.id == fast_close.subflow) else {
            self.fast_close = None;
            return;
        };
        if fast_close.repeat_at > now {
            return;
        }
        if fast_close.repeats < FAST_CLOSE_REPEATS {
            fast_close.repeats += 1;
            fast_close.repeat_at = now + subflow.tcb.rto() * 2u32.pow(fast_close.repeats);
            fast_close.due = true;
        } else {
            // RFC 8684 §3.5: a RST with MP_FASTCLOSE, for middleboxes.
            subflow.tcb.abort(now);
            self.end_fast_close();
        }
    }

    /// Whether an ACK with MP_FASTCLOSE has to leave on this subflow; asks TCP for it.
    pub(super) fn take_fast_close(&mut self, index: usize) -> bool {
        let id = self.subflows[index].id;
        let due = self.fast_close.as_mut().filter(|fast_close| fast_close.subflow == id && fast_close.due);
        let Some(fast_close) = due else { return false };
        fast_close.due = false;
        self.subflows[index].tcb.request_ack();
        true
    }

    /// MP_FASTCLOSE with the right key.
    pub(super) fn names_our_key(&self, packet: &Packet) -> bool {
        self.is_multipath()
            && packet.options.mptcp.iter().any(|option| match option {
                MptcpOption::FastClose(close) => close.receiver_key == self.local.key,
                _ => false,
            })
    }

    /// A RST with MP_FASTCLOSE and the right key. Pitfall 43: TCP would believe a RST only with the very next sequence
    /// number, and ask again otherwise; the peer, which knows nothing any more, would then answer with a RST that has no
    /// MP_FASTCLOSE. The key proves more than the sequence number, which has to lie in the window all the same (RFC 8684 §3).
    pub(super) fn is_fast_close_by_reset(&self, index: usize, packet: &Packet) -> bool {
        if !packet.tcp.flags.contains(TcpFlags::RST) || !self.names_our_key(packet) {
            return false;
        }
        let ahead = i64::from(packet.tcp.seq.distance(self.subflows[index].tcb.rcv_nxt()));
        (0..=self.receive.window_left().max(1) as i64).contains(&ahead)
    }

    /// RFC 8684 §3.5: the peer has closed the connection at once. All subflows are reset, but for one that was.
    pub(super) fn handle_fast_close(
        &mut self,
        now: Instant,
        reset: Option<SubflowId>,
        cache: &mut PoolCache,
    ) {
        for subflow in &mut self.subflows {
            match Some(subflow.id) == reset {
                true => subflow.release(cache),
                false => subflow.tcb.abort(now),
            }
        }
        // Resets leave in the order of the subflows.
        self.turn = 0;
        self.finish(CloseReason::Reset, cache);
    }

    /// Frees all frames; the connection is dropped next.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.subflows.iter_mut().for_each(|subflow| subflow.release(cache));
        self.send.clear(cache);
        self.receive.clear(cache);
    }

    /// A subflow is over. `words` are the peer's, where it has reset it and said why.
    pub(super) fn end_subflow(
        &mut self,
        now: Instant,
        id: SubflowId,
        reason: CloseReason,
        words: Option<MpTcpRst>,
        cache: &mut PoolCache,
    ) {
        let Some(index) = self.index(id) else { return };
        if self.closed {
            return;
        }
        self.deliver(now, id, cache);
        if !self.is_multipath() {
            // Plain TCP, or a first handshake that failed: the subflow was the connection.
            return self.finish(reason, cache);
        }
        let mut subflow = self.subflows.remove(index);
        while let Some(removal) = subflow.take_removals() {
            self.signal_on_survivor(now, &[], removal);
        }
        subflow.release(cache);
        // RFC 8684 §3.2: the peer counts a join as made with our third ACK. Only its own reset says that it does not.
        let may_count = matches!(subflow.phase, Phase::Confirming { .. }) && reason != CloseReason::Reset;
        self.ever_joined |= may_count;
        if self.history.len() < HISTORY_MAX && subflow.established {
            self.history.push(figures(&subflow, false));
        }
        self.events.push_back(subflow_closed(&subflow, reason, words));
        self.failure.take_if(|failure| failure.subflow == id);
        if self.subflows.iter().all(|other| other.remote_id != subflow.remote_id) {
            self.addresses.forget_seen(subflow.remote_id);
        }
        self.send.forget(subflow.slot, self.unusable());
        let given_up = reason == CloseReason::Aborted
            && subflow.reset_words.reason == ResetReason::MiddleboxInterference;
        if reason == CloseReason::Reset || given_up {
            // It may be all that the peer had left; also where it is we who can't use it.
            self.doubt_all_but(now, id);
        }
        if !self.subflows.is_empty() {
            return;
        }
        if self.send_side == SendSide::Finished && self.receive.is_finished() {
            // RFC 8684 §3.3.3, RFC 9293 §3.6: our DATA_ACK of the peer's DATA_FIN may have got lost with a subflow that the peer
            // has reset. It may ask again, by a join: there is a moment for that. Who refuses ours needs nothing more.
            if reason == CloseReason::Reset && !subflow.tcb.is_fin_acked() {
                self.orphan_at.get_or_insert(now + ORPHAN_RESET_TIMEOUT);
                return;
            }
            return self.finish(CloseReason::Finished, cache);
        }
        // Pitfall 49: break before make. A peer that resets or refuses is most likely gone, unless its reset says what only
        // one says that has the connection (RFC 8684 §3.6), or it has come back before: what it says may be stripped on the way,
        // with the options for want of which it resets. A join that fails gives the connection no more time than it had.
        let alive = words.is_some_and(|words| words.reason.is_of_a_subflow());
        let gone = matches!(reason, CloseReason::Reset | CloseReason::Refused) && !alive && !self.came_back;
        let patience = if gone { ORPHAN_RESET_TIMEOUT } else { ORPHAN_TIMEOUT };
        let end = now + patience;
        self.orphan_at = Some(self.orphan_at.map_or(end, |at| at.min(end)));
        self.orphan_latest_at.get_or_insert(now + ORPHAN_TIMEOUT);
    }

    /// A host that is gone answers a join by a RST (RFC 9293 §3.10.7.1). Where one is under way and nothing has answered, it is
    /// the path that is dead, and the peer may wait behind it: until when it is waited for, then.
    pub(super) fn orphan_longer(&self, now: Instant) -> Option<Instant> {
        let asks = self.subflows.iter().any(Subflow::is_unanswered_join);
        self.orphan_latest_at.filter(|at| asks && *at > now)
    }

    /// No subflow came in time. Where all data of both sides has arrived, and only the last acknowledgment of our DATA_FIN
    /// is missing, the peer has it and is gone: RFC 9293 §3.10.7.4 tells nobody of a reset in LAST-ACK, either.
    pub(super) fn orphan_reason(&self) -> CloseReason {
        let said_all =
            matches!(self.send_side, SendSide::FinSent | SendSide::Finished) && self.send.is_empty();
        match said_all && self.receive.is_finished() {
            true => CloseReason::Finished,
            false => CloseReason::TimedOut,
        }
    }

    /// Data has arrived, or was acknowledged: what of the end follows.
    pub(super) fn advance_close(&mut self, now: Instant, cache: &mut PoolCache) {
        match self.mode {
            Mode::Offering | Mode::Answering => {}
            Mode::Plain(_) => {
                if self.send_side == SendSide::FinSent && self.subflows.iter().all(|s| s.tcb.is_fin_acked()) {
                    self.send_side = SendSide::Finished;
                }
            }
            Mode::Multipath { .. } => {
                if self.receive.consume_fin() {
                    // The DATA_ACK of the DATA_FIN leaves at once, on the subflow's FIN if that is next.
                    if let Some(index) = self.best_subflow() {
                        self.subflows[index].tcb.acknowledge();
                    }
                }
                if self.send_side == SendSide::Finished && self.receive.is_finished() {
                    // RFC 8684 §3.3.3: once both DATA_FINs are acknowledged all subflows are closed. One that still has
                    // to get through what others have delivered long ago is reset; not all of them, as the peer may not have
                    // had our last DATA_ACK.
                    let is_stuck = |subflow: &Subflow| {
                        subflow.tcb.consecutive_timeouts() > 0 && subflow.tcb.in_flight() > 0
                    };
                    let all_stuck = self.subflows.iter().all(is_stuck);
                    for subflow in &mut self.subflows {
                        match is_stuck(subflow) && !all_stuck {
                            true => subflow.reset(now, ResetReason::TooMuchOutstanding.into()),
                            false => subflow.tcb.close(now),
                        }
                    }
                    // Joins that the peer has not answered are over: nothing will come that tells so.
                    self.drain_ended(now, cache);
                }
            }
        }
    }

    /// Starts the connection's timer unless it runs.
    pub(super) fn arm_data_timer(&mut self, now: Instant) {
        if self.data_timer.is_none() {
            self.data_timer = Some(now + self.data_timeout());
        }
    }

    /// Restarts it after progress, or stops it when there is nothing to wait for.
    pub(super) fn rearm_data_timer(&mut self, now: Instant) {
        let waiting = !self.send.is_empty() || self.send_side == SendSide::FinSent;
        self.data_timer = waiting.then(|| now + self.data_timeout());
    }

    /// The time-out of the slowest subflow, of those that live: one that does not backs off, and what it holds is looked
    /// after by its own timer. It doubles from the second time on: the first is a question where the peer may have fallen
    /// back ([`Connection::repeat_oldest`]).
    fn data_timeout(&mut self) -> Duration {
        let slowest = match &*self.subflows {
            [only] => only.tcb.rto(),
            _ => {
                let standings = self.subflows.standings();
                let alive = standings.clone().filter(|standing| standing.usable).map(|it| it.rto).max();
                alive.or_else(|| standings.map(|it| it.rto).max()).unwrap_or(DATA_TIMEOUT_MIN)
            }
        };
        // A DATA_FIN that is alone has no subflow that repeats it: nothing has to be waited for first.
        let least = if self.send.is_empty() { DATA_TIMEOUT_MIN / 2 } else { DATA_TIMEOUT_MIN };
        let doublings = self.data_backoff.saturating_sub(1).min(10);
        (slowest * 2u32.pow(doublings)).clamp(least, DATA_TIMEOUT_MAX)
    }

    pub(super) fn handle_data_timer(&mut self, now: Instant, cache: &mut PoolCache) {
        self.data_timer = None;
        if !self.is_multipath() || (self.send.is_empty() && self.send_side != SendSide::FinSent) {
            return;
        }
        if self.fall_back_without_data_acks(now, cache) {
            return;
        }
        self.data_backoff += 1;
        self.arm_data_timer(now);
        if self.send_side == SendSide::FinSent {
            self.reset_silenced(now);
            self.reset_deaf(now);
            // Pitfall 40: the DATA_FIN is repeated until it is acknowledged; on any subflow.
            let turn = self.data_backoff as usize;
            // Where it has room.
            let is_able = |index: &usize| {
                let subflow = &self.subflows[*index];
                subflow.can_signal() && !subflow.tcb.owes_sack()
            };
            let able: Vec<usize> = (0..self.subflows.len()).filter(is_able).collect();
            if let Some(index) = able.get(turn % able.len().max(1)) {
                match self.may_be_deaf(*index) {
                    true => self.subflows[*index].ask_about_fin(now),
                    false => self.subflows[*index].tcb.request_ack(),
                }
            }
        }
        if self.send.una().before(self.send.next()) {
            self.repeat_oldest(now);
        }
        let closed_window = self.send.has_unsent() && self.send_edge.at_or_before(self.send.next());
        if closed_window && let Some(index) = self.best_subflow() {
            // RFC 9293 §3.8.6.1, at the connection's level: one window, one probe.
            self.subflows[index].tcb.probe(now);
        }
    }

    /// The DATA_FIN was repeated in vain on subflows over which no options come: any more, or since they were joined, where
    /// nothing but the end was to be said. RFC 8684 §3.7 has them reset. The path manager opens new ones.
    fn reset_silenced(&mut self, now: Instant) {
        if self.data_backoff < SILENT_REPEATS {
            return;
        }
        for subflow in &mut self.subflows {
            if subflow.bare && subflow.is_idle() {
                subflow.reset(now, ResetReason::MiddleboxInterference.into());
            }
        }
    }

    /// The DATA_FIN was repeated in vain, and on a subflow the peer has answered questions that followed it, without
    /// acknowledging it, although it has all data: no option reaches it. RFC 8684 §3.7 has such a subflow reset.
    fn reset_deaf(&mut self, now: Instant) {
        for index in 0..self.subflows.len() {
            if self.may_be_deaf(index) && self.subflows[index].is_deaf() {
                self.subflows[index].reset(now, ResetReason::MiddleboxInterference.into());
            }
        }
    }

    /// Whether options may be lost on the way to the peer, of which nothing tells: to an ACK whose options it does not see
    /// it says nothing. Where the subflow can become TCP it does ([`Connection::fall_back_without_data_acks`]).
    fn may_be_deaf(&self, index: usize) -> bool {
        let in_vain = self.data_backoff >= SILENT_REPEATS && self.send.is_empty() && self.failure.is_none();
        let subflow = &self.subflows[index];
        in_vain && subflow.is_open() && subflow.is_idle() && !self.can_fall_back(index)
    }

    /// The oldest data has not been acknowledged as data for a time-out. Sends it again, if its subflows have had it
    /// acknowledged. RFC 8684 §3.3.2: the peer may drop data behind a subflow's ACK; only DATA_ACK proves that it has it.
    fn repeat_oldest(&mut self, now: Instant) {
        let carriers = self.send.oldest_carriers();
        let carrying = || self.subflows.iter().filter(|subflow| carriers.contains(subflow.slot));
        if !carrying().all(Subflow::is_idle) {
            return;
        }
        let last = (0..self.subflows.len()).find(|at| self.may_be_only(*at) && self.can_fall_back(*at));
        if let Some(index) = last {
            // The peer may have fallen back, and what told us so been lost. Data that is sent twice could not be told from
            // new data then, and we would have to reset (RFC 8684 §3.7): so it is asked first, until it has answered.
            let subflow = &mut self.subflows[index];
            if self.asked_at.is_none_or(|asked_at| !subflow.has_answered(asked_at)) {
                self.asked_at = Some(now);
                subflow.tcb.probe(now);
                return;
            }
            if subflow.bare && !self.is_only(index) {
                // Joins decide.
                return;
            }
        }
        // RFC 8684 §3.7: options do not pass any more, neither mappings there nor DATA_ACKs here. All that such a subflow
        // has carried goes out on others, and the peer that waits for mappings is told why. The only one is no exception where
        // TCP can't take over: no data gets through it, and the path manager, or the peer's, opens the next.
        let lost = |subflow: &Subflow| subflow.dss_seen && subflow.bare;
        for subflow in &mut self.subflows {
            if carriers.contains(subflow.slot) && lost(subflow) && last.is_none() {
                subflow.reset(now, ResetReason::MiddleboxInterference.into());
            }
        }
        self.send.reinject_oldest();
    }
}

/// That a subflow is over, for the worker.
fn subflow_closed(subflow: &Subflow, reason: CloseReason, reset: Option<MpTcpRst>) -> ConnectionEvent {
    let Subflow { id, tuple, established, .. } = *subflow;
    ConnectionEvent::SubflowClosed { id, tuple, reason, reset, established }
}
